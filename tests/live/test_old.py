"""A WebUI that never calls the hook: AUTOMATIC1111 before 1.10."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.only("a1111-1.9")
ON = {"enabled": True, "inject": 0.05}
WHY = 'this WebUI never calls the hook "process_before_every_sampling"'


@pytest.mark.parametrize("settings", [ON, {**ON, "inject": 0}, {**ON, "passes": "hires"}])
def test_nothing_is_done_and_nothing_claimed(server, kind, settings):
    answer = server.txt2img(kind, settings)
    assert answer.digest == server.baselines[kind]
    assert answer.info["extra_generation_params"]["Noise Order error"].startswith(WHY)
    assert len(re.findall("Noise Order", answer.infotext)) == 1
    assert answer.record["own_rows"] == 0


def test_the_panel_says_so(server):
    components = [part for part in server.get("/config")["components"] if WHY in str(part["props"].get("value"))]
    assert len(components) == 2, "in txt2img and img2img"

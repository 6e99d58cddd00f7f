"""What is drawn, before it is drawn: the numbers are those the method uses."""

from __future__ import annotations

import json
import re

import pytest

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core.schedule import key_levels
from lib_noiseorder.webui.accordion import values_of
from lib_noiseorder.webui.curve import curve


def parts(**settings):
    config = NoiseOrderConfig(True, **settings)
    made = curve(*values_of(config))
    found = {key: json.loads(value) for key, value in re.findall(r'data-(\w+)="([^"]*)"', made)}
    return found, re.search(r'aria-label="([^"]*)"', made).group(1)


@pytest.mark.parametrize("levels", [2, 3, 4, 8])
def test_levels_and_weights_are_the_methods_own(levels):
    found, words = parts(levels=levels, first_level=1.0, last_level=0.35, layout=2.0, structure=0.5, detail=1.25)
    keys = key_levels(levels, 1.0, 0.35, (2.0, 0.5, 1.25))
    assert found["levels"] == [[key.fraction, key.weight] for key in keys]
    assert words.startswith(
        f"{levels} key levels at {', '.join(f'{key.fraction:.2f}' for key in keys)}"
        f" with weights {', '.join(f'{key.weight:.2f}' for key in keys)};"
    )
    # The line ends where the levels do, and every level lies on it.
    assert found["curve"][0] == found["levels"][0]
    assert found["curve"][-1] == found["levels"][-1]
    for position, weight in found["levels"]:
        assert any(
            abs((b[0] - a[0]) * (weight - a[1]) - (b[1] - a[1]) * (position - a[0])) < 1e-9
            and min(a[0], b[0]) - 1e-9 <= position <= max(a[0], b[0]) + 1e-9
            for a, b in zip(found["curve"], found["curve"][1:], strict=False)
        )


def test_one_level_has_no_weight():
    found, words = parts(detail=0.5)
    assert found == {"levels": [[0.9, 1.0]], "curve": []}
    assert words.startswith("1 key level at 0.90;")


def test_look_ahead_walks_without_weights():
    found, words = parts(direction="look-ahead", levels=3, detail=0.5)
    assert [weight for _, weight in found["levels"]] == [1, 1, 1]
    assert found["curve"] == []
    assert "no weights" in words


def test_nothing_is_drawn_where_nothing_is_asked():
    made = curve(*values_of(NoiseOrderConfig(True, inject=0.0)))
    assert "not used" in made
    assert "data-" not in made


def test_nothing_is_drawn_of_settings_that_cannot_work():
    assert curve(0.5) == ""

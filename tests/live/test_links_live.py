"""The chain in the real WebUI: from infotext and API, in batches, hires fix and img2img, and as what a sheet varies."""

from __future__ import annotations

import pytest
from auditions import audition
from test_passes import hires, img2img
from webui import at_once

CHAIN = "1.2 v7; 64 v2 @ 0.5 0.1 0.95 0.6"
SETTINGS = {"erase": 2.0, "variant": 3, "chain": CHAIN}


def test_infotext_and_api_make_the_same_image(server, kind):
    answer = server.txt2img(kind, SETTINGS)
    assert f"Noise Order chain: {CHAIN}" in answer.infotexts[0]
    assert server.paste(kind, answer.infotexts[0]).digest == answer.digest
    links = [{"n": 1.2, "variant": 7}, {"n": 64, "variant": 2, "box": [0.5, 0.1, 0.95, 0.6]}]
    assert server.txt2img(kind, {**SETTINGS, "chain": links}).digest == answer.digest
    for other in ("", "1.2 v7", "1.2 v8; 64 v2 @ 0.5 0.1 0.95 0.6"):
        assert server.txt2img(kind, {**SETTINGS, "chain": other}).digest != answer.digest, other


def test_no_chain_is_the_image_of_erase_and_variant(server, kind):
    plain = {name: value for name, value in SETTINGS.items() if name != "chain"}
    assert server.txt2img(kind, {**SETTINGS, "chain": ""}).digest == server.txt2img(kind, plain).digest


def test_images_of_a_batch_are_those_made_alone(server, kind):
    count = at_once(kind, 2)
    together = server.txt2img(kind, SETTINGS, batch_size=count, n_iter=2)
    first = together.info["index_of_first_image"]
    for k, seed in enumerate(together.info["all_seeds"][: 2 * count]):
        alone = server.txt2img(kind, SETTINGS, seed=seed)
        # What the WebUI itself makes of a batch differs in the last bits.
        assert abs(alone.pixels[0].astype(int) - together.pixels[first + k]).max() <= (0 if count == 1 else 1)


@pytest.mark.parametrize("passes", ["first", "both"])
def test_hires(server, kind, passes):
    settings = {**SETTINGS, "passes": passes}
    answer = hires(server, kind, settings)
    assert "Noise Order error" not in answer.infotexts[0]
    assert f"Noise Order chain: {CHAIN}" in answer.infotexts[0]
    assert hires(server, kind, settings).digest == answer.digest
    assert hires(server, kind, {**settings, "chain": ""}).digest != answer.digest


def test_img2img(server, kind):
    answer = img2img(server, kind, SETTINGS)
    assert f"Noise Order chain: {CHAIN}" in answer.infotexts[0]
    assert img2img(server, kind, SETTINGS).digest == answer.digest
    assert img2img(server, kind, {**SETTINGS, "chain": ""}).digest != answer.digest


def test_a_sheet_varies_the_last_link_and_its_previews_carry_what_makes_them(server, kind):
    sheet = audition(server, kind, {"erase": 1.0, "chain": "2 v3; 1.2 v1"}).json()
    assert [each["settings"] for each in sheet["previews"]] == [{"chain": f"2 v3; 1.2 v{k}"} for k in (1, 2, 3)]
    second = sheet["previews"][1]
    answer = server.paste(kind, second["infotext"])
    assert "Noise Order chain: 2 v3; 1.2 v2" in answer.infotexts[0]
    assert server.txt2img(kind, {"erase": 1.0, **second["settings"]}).digest == answer.digest


def test_wrong_links_are_told_by_their_place(server, kind):
    answer = server.txt2img(kind, {"chain": "2 v3; 0.5 v1"})
    assert "Noise Order error" in answer.infotexts[0]
    assert "link 2, '0.5 v1', must be n above 1 and up to 64" in answer.infotexts[0]

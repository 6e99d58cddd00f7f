"""Sketches in the real WebUI: which samplers have them, what they cost, and that nothing of them stays."""

from __future__ import annotations

import numpy as np
import pytest
from auditions import AUTOMATIC, SETTINGS, assert_winner_is_the_variant_alone, audition, decode, get_variant
from test_passes import img2img, make_image
from webui import FLOW

DETERMINISTIC = ["Euler", "DPM++ 2M", "Heun", "LMS", "DPM2", "DDIM", "PLMS", "UniPC", "DEIS", "IPNDM", "Res Multistep"]
DRAWING = ["Euler a", "DPM++ 2M SDE", "DPM++ SDE", "DPM2 a", "LCM"]
STEPS = 20


@pytest.fixture(scope="module")
def samplers(server):
    return {entry["name"] for entry in server.get("/sdapi/v1/samplers")}


def changes_for(server, samplers, kind, sampler, scheduler="Automatic"):
    if sampler not in samplers:
        pytest.skip(f"this WebUI has no {sampler}")
    if kind in FLOW and scheduler == "Automatic":
        scheduler = "Simple"  # Forge's own choice for Flux is no schedule: all steps but the last at pure noise
    return {"sampler_name": sampler, "scheduler": scheduler, "steps": STEPS}


@pytest.mark.parametrize("scheduler", ["Automatic", "Karras"])
@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_a_deterministic_sampler_is_sketched_and_the_winner_is_that_variant_alone(
    server, kind, samplers, sampler, scheduler
):
    changes = changes_for(server, samplers, kind, sampler, scheduler)
    sheet = audition(server, kind, **changes).json()
    rows = server.get("/noiseorder-probe")["rows"]
    answer = assert_winner_is_the_variant_alone(server, lambda settings: server.txt2img(kind, settings, **changes))
    whole = server.txt2img(kind, SETTINGS, **changes).record["rows"]
    assert sheet["cost"] == pytest.approx(rows / whole), "told and counted"
    # With steps that fall as steeply as Karras's on a flow model, the image's own first two are cheaper.
    assert sheet["sketch"] or sheet["steps"] <= 4, sheet["told"]
    assert (sheet["of"] < STEPS) == sheet["sketch"]
    assert f"Steps: {STEPS}" in answer.infotexts[0]
    chosen = sheet["previews"][get_variant(answer.infotexts[0])]
    assert f"Steps: {STEPS}," in chosen["infotext"]
    assert server.paste(kind, chosen["infotext"]).digest == answer.digest


@pytest.mark.parametrize("sampler", DRAWING)
def test_a_sampler_that_draws_noise_shows_the_image_s_own_steps(server, kind, samplers, sampler):
    changes = changes_for(server, samplers, kind, sampler)
    sheet = audition(server, kind, **changes).json()
    rows = server.get("/noiseorder-probe")["rows"]
    whole = server.txt2img(kind, SETTINGS, **changes).record["rows"]
    assert sheet["cost"] == pytest.approx(rows / whole), "told and counted"
    assert not sheet["sketch"]
    assert sheet["of"] == STEPS
    assert_winner_is_the_variant_alone(server, lambda settings: server.txt2img(kind, settings, **changes))


def test_a_sketch_is_nearly_the_finished_image(server, kind):
    """With random weights; with trained ones: docs/evidence.md."""
    sheet = audition(server, kind, steps=20, candidates=4).json()
    assert sheet["sketch"]
    found = []
    for each in sheet["previews"]:
        whole = server.txt2img(kind, {**SETTINGS, "variant": each["variant"]}, steps=20)
        found.append(np.corrcoef(decode(each).ravel(), whole.pixels[0].ravel())[0, 1])
    assert np.median(found) > 0.9, found


def test_off_by_the_setting(server, kind, options):
    options(noiseorder_sketches=False)
    assert audition(server, kind, steps=STEPS).json()["of"] == STEPS


def test_a_changing_prompt_shows_the_image_s_own_steps(server, kind):
    sheet = audition(server, kind, steps=STEPS, prompt="a [cat:dog:0.3] on a mat").json()
    assert not sheet["sketch"]


def test_the_next_image_is_as_if_nothing_had_been_sketched(server, kind):
    plain = server.txt2img(kind, steps=STEPS)
    server.txt2img(kind, AUTOMATIC, steps=STEPS)
    assert server.txt2img(kind, steps=STEPS).digest == plain.digest


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS"])
def test_around_an_image_by_a_sampler_with_timesteps(server, kind, samplers, options, sampler):
    """Of 20 steps at a strength of 0.75 the hosts begin with the noise of timestep 751 and run 701, 651, 601, 551 and
    so on; the fourth is the first below 0.75 of that. ersatzForge begins with the noise of 701."""
    if kind in FLOW:
        pytest.skip("these samplers are not for flow models")
    options(noiseorder_sketches=False)
    changes = changes_for(server, samplers, kind, sampler)
    around = {"init_images": [make_image("grey")], "denoising_strength": 0.75}
    sheet = audition(server, kind, **changes, **around).json()
    rows = server.get("/noiseorder-probe")["rows"]
    whole = img2img(server, kind, SETTINGS, **changes, denoising_strength=0.75).record["rows"]
    assert sheet["cost"] == pytest.approx(rows / whole), "told and counted"
    assert sheet["steps"] == (5 if server.host == "ersatz" else 4)

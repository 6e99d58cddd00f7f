"""Everything else a user may have switched on beside us, in the real WebUI."""

from __future__ import annotations

import numpy as np
import pytest
import requests
from auditions import audition
from test_passes import hires, img2img, make_image
from webui import FLOW, Answer

ON = {"enabled": True, "inject": 0.05}
ERASE = {**ON, "inject": 0}
EXACT = {**ON, "erase": 1, "inject": 1e-9, "first_level": 1.0}
"""Asks the model at the very beginning and turns the noise by less than a float can tell."""


def read_row(answer):
    """The first line of the first image's noise, as the sampler was given it."""
    return np.array(answer.record["hooks"][0]["row"])


@pytest.mark.parametrize("direction", ["guidance", "denoised"])
def test_the_prediction_is_the_hosts_own(server, kind, direction):
    """At the first level the model gives us what it gives the sampler in its first step, for the same x."""
    # With this option samplers begin with z √(1 + σ²) as well; on A1111, without sense, those of flow models too.
    options = {"sgm_noise_multiplier": kind not in FLOW}
    # As many tokens as the prompt: Forge repeats the tokens of the shorter one where it asks both together.
    request = {"override_settings": options, "negative_prompt": "a red dog"}
    record = server.txt2img(kind, {**EXACT, "direction": direction}, **request).record
    assert len(record["agreement"]) == record["own_rows"] == (2 if direction == "guidance" else 1)
    for x, output in record["agreement"]:
        assert x <= 1e-4 * max(record["first_sigma"], 1)
        assert output <= 1e-4


def test_around_an_image_the_prediction_is_the_hosts_own(server, kind):
    """There too: the image and the noise are mixed as the host mixes them."""
    steps, strength = server.facts.on_the_table
    changes = {"steps": steps, "denoising_strength": strength, "negative_prompt": "a red dog"}
    record = img2img(server, kind, {**EXACT, "direction": "denoised"}, **changes).record
    ((x, output),) = record["agreement"]
    assert x <= 1e-4 * max(record["first_sigma"], 1)
    assert output <= 1e-4


@pytest.mark.parametrize(
    "changes", [{"subseed": 9, "subseed_strength": 0.4}, {"seed_resize_from_w": 128, "seed_resize_from_h": 96}]
)
def test_variation_seed_and_seed_resize_keep_their_meaning(server, kind, changes):
    """`z' = z/√n + …`: with n = 4, half of what they change of z is what changes of z'."""
    if "seed_resize_from_w" in changes and server.has_time(kind):
        # Neo resizes noise of four dimensions only: it fails with and without us.
        body = server.request(kind, **changes)
        assert requests.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=300).status_code == 500
        return
    change = read_row(server.txt2img(kind, **changes)) - read_row(server.txt2img(kind))
    assert np.abs(change).max() > 0.01
    erased_change = read_row(server.txt2img(kind, ERASE, **changes)) - read_row(server.txt2img(kind, ERASE))
    assert erased_change == pytest.approx(change / 2, abs=1e-5)


def test_eta_noise_seed_delta_is_the_samplers_own(server, kind):
    euler = {"sampler_name": "Euler a"}
    plain, moved = (
        server.txt2img(kind, ERASE, **euler, override_settings={"eta_noise_seed_delta": delta}) for delta in (0, 31337)
    )
    assert (read_row(plain) == read_row(moved)).all()
    assert plain.digest != moved.digest


@pytest.mark.parametrize("changes", [{"tiling": True}, {"override_settings": {"token_merging_ratio": 0.5}}])
def test_tiling_and_token_merging(server, kind, changes):
    if server.host == "ersatz" and "tiling" in changes:
        # A word there; its API still takes a bool, and fails on it.
        changes = {"override_settings": {"tiling": "X and Y"}}
    plain = server.txt2img(kind, **changes)
    answer = server.txt2img(kind, ON, **changes)
    assert "error" not in answer.infotext
    assert answer.record["own_rows"] == 2
    assert answer.digest == server.txt2img(kind, ON, **changes).digest != plain.digest
    assert server.txt2img(kind, **changes).digest == plain.digest
    assert server.txt2img(kind).digest == server.baselines[kind]


@pytest.mark.batches
def test_prompts_and_seeds_of_each_image(server, kind):
    """As a wildcard extension sets them: image k is the image made alone with its prompt and seed."""
    prompts, seeds = ["a red cat", "a blue dog"], [5, 11]
    largest = {}
    for settings in ((), (ON,)):
        server.probe(prompts=prompts, seeds=seeds)
        both = server.txt2img(kind, *settings, batch_size=2, do_not_save_grid=True)
        server.probe()
        assert "error" not in both.infotext
        alone = [
            server.txt2img(kind, *settings, prompt=prompt, seed=seed).pixels[0]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        pairs = zip(both.pixels[-2:], alone, strict=True)
        largest[bool(settings)] = max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)
    assert largest[True] <= max(largest[False], 1)


def test_every_sampler_of_the_host(server, sd15):
    """Also those that few hosts have; too many to try them all with every checkpoint."""
    names = [entry["name"] for entry in server.get("/sdapi/v1/samplers")]
    assert len(names) > 10
    black = []
    for name in names:
        plain = server.txt2img(sd15, sampler_name=name, steps=6)
        answer = server.txt2img(sd15, ON, sampler_name=name, steps=6)
        assert "error" not in answer.infotext, name
        assert answer.record["own_rows"] == 2, name
        if plain.pixels[0].std() == 0:
            black.append(name)
            continue
        assert answer.digest != plain.digest, name
        assert server.txt2img(sd15, sampler_name=name, steps=6).digest == plain.digest, name
    assert black == [name for name in names if name.startswith(server.facts.black)]


def test_refiner(server, sd15, sd15v):
    refiner = {"refiner_checkpoint": f"tiny-{sd15v}.safetensors", "refiner_switch_at": 0.5}
    plain = server.txt2img(sd15, **refiner)
    assert "Refiner" in plain.infotext
    assert plain.digest != server.baselines[sd15]
    answer = server.txt2img(sd15, ON, **refiner)
    assert "error" not in answer.infotext
    assert "Refiner" in answer.infotext
    assert answer.record["own_rows"] == 2
    assert answer.record["hooks_without_noise"] == (1 if server.host == "ersatz" else 0)
    # The noise is asked of the model that begins, so it is the same with and without the refiner.
    assert (read_row(answer) == read_row(server.txt2img(sd15, ON))).all()
    # Neo loads the refiner anew for every image, and its own refined images repeat to 1 of 255 only.
    largest = 1 if server.host == "neo" else 0
    assert difference(server.txt2img(sd15, ON, **refiner), answer) <= largest < difference(answer, plain)
    assert difference(server.txt2img(sd15, **refiner), plain) <= largest
    assert server.txt2img(sd15).digest == server.baselines[sd15]


def test_a_refiner_that_takes_over_before_the_preview(server, sd15, sd15v):
    """The critic could ask neither model: refused with a sentence, and the image is made."""
    refiner = {"refiner_checkpoint": f"tiny-{sd15v}.safetensors", "refiner_switch_at": 0.2, "steps": 10}
    answer = server.txt2img(sd15, {**ERASE, "audition": 3}, **refiner)
    assert "Refiner" in answer.infotext
    assert "auditioned" not in answer.infotext
    assert "error" not in answer.infotext
    response = audition(server, sd15, ERASE, **refiner)
    assert (response.status_code, "the refiner takes over before the preview" in response.text) == (422, True)
    assert server.txt2img(sd15).digest == server.baselines[sd15]


def difference(one, other):
    """The largest between two images, of 255."""
    return int(np.abs(one.pixels[0].astype(int) - other.pixels[0]).max())


def test_another_checkpoint_in_the_hires_pass(server, sd15, sd15v):
    other = {"hr_checkpoint_name": f"tiny-{sd15v}.safetensors"}
    plain = hires(server, sd15, **other)
    assert plain.digest != hires(server, sd15).digest
    first, both = (hires(server, sd15, {**ON, "passes": passes}, **other) for passes in ("first", "both"))
    assert "error" not in first.infotext + both.infotext
    assert both.record["hires_rows"] == 2
    assert len({plain.digest, first.digest, both.digest}) == 3
    # The hires pass asks the checkpoint of the hires pass.
    same = hires(server, sd15, {**ON, "passes": "hires"})
    assert same.record["hooks"][0]["noise"] == plain.record["hooks"][0]["noise"]
    assert (
        same.record["hooks"][-1]["noise"]
        != hires(server, sd15, {**ON, "passes": "hires"}, **other).record["hooks"][-1]["noise"]
    )
    assert hires(server, sd15, **other).digest == plain.digest
    assert server.txt2img(sd15).digest == server.baselines[sd15]


def test_zero_terminal_snr(server, sd15v):
    schedule = {"override_settings": {"sd_noise_schedule": "Zero Terminal SNR"}}
    plain = server.txt2img(sd15v, **schedule)
    assert plain.digest != server.baselines[sd15v]
    record = server.txt2img(sd15v, {**EXACT, "inject": 0.05}, **schedule).record
    assert "error" not in str(record["hooks"][0]["infotext"])
    assert record["own_sigmas"][0] == pytest.approx(record["first_sigma"], rel=1e-3)
    assert server.txt2img(sd15v, **schedule).digest == plain.digest
    assert server.txt2img(sd15v).digest == server.baselines[sd15v]


@pytest.mark.only("reforge")
def test_advanced_model_sampling_is_refused(server, sd15, sd15v):
    """Its flow modes stay in the model after it has been switched off, until another is loaded."""

    def ask(*advanced):
        scripts = {"noise order": {"args": [ON]}, "advanced model sampling for reforge": {"args": list(advanced)}}
        return server.txt2img(sd15, alwayson_scripts=scripts)

    for message, answer in {"switch it off": ask(True, "SD3"), "load the checkpoint again": ask(False)}.items():
        assert message in answer.infotext
        assert answer.record["own_rows"] == 0
    server.load(sd15v)
    assert "error" not in ask(False).infotext
    assert server.txt2img(sd15).digest == server.baselines[sd15]


def test_distilled_guidance_is_asked_too(server, flux):
    outputs = [server.txt2img(flux, EXACT, distilled_cfg_scale=scale).record["outputs"] for scale in (1, 3.5, 3.5)]
    assert outputs[0] != outputs[1] == outputs[2]


def test_tiles_of_an_upscaler_are_images_of_their_own(server, kind):
    """The noise of a tile is that of an image made alone with the tile's seed."""
    tiles = {"script_name": "SD upscale", "script_args": list(server.facts.upscale)}
    body = server.request(kind, init_images=[make_image((90, 120, 60), side=128)], denoising_strength=0.7, **tiles)
    body["alwayson_scripts"] = {"noise order": {"args": [ERASE]}}
    server.load(kind)
    answer = Answer(server.post("/sdapi/v1/img2img", body), server.get("/noiseorder-probe"))
    assert answer.images[0].size == (128, 128)
    assert "Noise Order: 1" in answer.infotext
    (tile,) = answer.record["hooks"]
    (alone,) = img2img(server, kind, ERASE, seed=tile["seeds"][0]).record["hooks"]
    assert tile["noise"] == alone["noise"]


def test_the_inner_pass_of_adetailer_is_left_alone(server, kind):
    server.probe(inner=True)
    answer = server.txt2img(kind, ON)
    server.probe()
    assert answer.digest == server.baselines[kind]
    assert "Noise Order" not in answer.infotext
    assert answer.record["own_rows"] == 0


def test_the_inner_pass_of_adetailer_if_asked_for(server, kind, options):
    options(noiseorder_adetailer=True)
    server.probe(inner=True)
    inner = server.txt2img(kind, ON)
    server.probe()
    outer = server.txt2img(kind, ON)
    assert inner.digest == outer.digest != server.baselines[kind]
    for answer in (inner, outer):
        assert "Noise Order in ADetailer: True" in answer.infotext

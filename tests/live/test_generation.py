"""The promises of the extension, kept in the real WebUI."""

from __future__ import annotations

import base64
import io
import threading
import time
from dataclasses import asdict

import numpy as np
import pytest
import requests
from PIL import Image
from webui import at_once

ON = {"enabled": True, "inject": 0.05}
SAMPLERS = ["Euler a", "DPM++ 2M", "DPM++ SDE", "Heun", "LMS", "DDIM", "PLMS", "UniPC"]


def make_image():
    """A plain PNG as the API takes it."""
    png = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 120, 60)).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


def keys(answer):
    """Our part of the first image's infotext."""
    last = answer.infotext.splitlines()[-1]
    return [part.strip() for part in last.split(", ") if part.strip().startswith("Noise Order")]


def assert_untouched(server, kind, answer):
    assert answer.digest == server.baselines[kind], "an image other than without the extension"


def test_off_is_absent(server, kind):
    for settings in ((), (False, 9.0), ({**ON, "erase": 1, "inject": 0},)):
        answer = server.txt2img(kind, *settings)
        assert_untouched(server, kind, answer)
        assert keys(answer) == []
        assert answer.record["own_rows"] == 0


def test_the_hook_is_what_the_fakes_say(server, kind):
    hook = server.txt2img(kind).record["hooks"][0]
    assert hook["keys"] == ["c", "noise", "uc", "x"]
    assert hook["x_is_noise"]
    assert hook["inference"] is server.facts.inference
    assert hook["has_modified_noise"] is server.facts.modified_noise
    assert hook["hires_calls"] == server.facts.hires_calls
    assert hook["uc_is_none"] is False
    without = server.txt2img(kind, cfg_scale=1).record["hooks"][0]["uc_is_none"]
    assert without is not server.facts.encodes_uncond_at_cfg_1


def test_on_changes_the_image_and_the_infotext_says_how(server, kind):
    answer = server.txt2img(kind, True, 4.0, 0.05)
    assert answer.digest != server.baselines[kind]
    assert keys(answer) == [
        "Noise Order: 1",
        "Noise Order erase: 4",
        "Noise Order inject: 0.05",
        "Noise Order direction: guidance",
        "Noise Order levels: 1",
        "Noise Order first level: 0.9",
        "Noise Order normalisation: orthonormal",
        "Noise Order variant: 0",
    ]
    assert answer.record["hooks"][0]["std"] == pytest.approx([1.0], abs=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {"inject": 0},
        {"erase": 1},
        {"direction": "look-ahead", "levels": 3},
        {"direction": "self-correction", "levels": 2},
        {"direction": "noise", "normalisation": "as printed"},
    ],
)
def test_every_part_changes_the_image(server, kind, settings):
    digests = {
        server.txt2img(kind, {**ON, **settings}).digest,
        server.txt2img(kind, True, 4.0, 0.05).digest,
        server.baselines[kind],
    }
    assert len(digests) == 3


def test_same_request_twice_is_the_same_image(server, kind):
    assert server.txt2img(kind, True, 4.0, 0.05).digest == server.txt2img(kind, True, 4.0, 0.05).digest


def test_nothing_is_left_behind(server, kind):
    server.txt2img(kind, {**ON, "direction": "look-ahead", "levels": 3})
    assert_untouched(server, kind, server.txt2img(kind))


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"direction": "guidance", "levels": 1}, 2),
        ({"direction": "guidance", "levels": 3}, 6),
        ({"direction": "look-ahead", "levels": 3}, 6),
        ({"direction": "self-correction", "levels": 3}, 4),
        ({"direction": "denoised", "levels": 3}, 3),
        ({"direction": "noise", "levels": 4}, 4),
        ({"inject": 0}, 0),
    ],
)
def test_evaluations_are_counted(server, kind, settings, rows):
    assert server.txt2img(kind, {**ON, **settings}).record["own_rows"] == rows
    count = at_once(kind, 2)
    assert server.txt2img(kind, {**ON, **settings}, batch_size=count).record["own_rows"] == count * rows


@pytest.mark.only("a1111")
@pytest.mark.parametrize("prompt", ["a red cat", "a red cat AND a dog :0.5"])
def test_prompt_and_negative_prompt_are_one_call_where_the_sampler_makes_one(server, kind, options, prompt):
    """By the host's setting; the answers are those of two calls."""
    settings, outputs = {**ON, "direction": "guidance", "levels": 2}, {}
    for together in (True, False):
        options(batch_cond_uncond=together)
        server.probe(whole=True)
        record = server.txt2img(kind, settings, prompt=prompt).record
        assert record["own_calls"] == (2 if together else 4)
        outputs[together] = [
            np.concatenate([np.array(call["out"]) for call in record["asked"] if call["level"] == level])
            for level in sorted({call["level"] for call in record["asked"]})
        ]
    for one, two in zip(outputs[True], outputs[False], strict=True):
        assert np.abs(one - two).max() < 1e-4 * np.abs(two).max()


@pytest.mark.only("a1111")
def test_prompts_of_other_lengths_are_two_calls(server, sd15):
    """SDXL's small encoders cut a long prompt into parts of unlike numbers, which fails in the host."""
    assert server.txt2img(sd15, ON, prompt="a red cat and a dog " * 16).record["own_calls"] == 2


@pytest.mark.batches
def test_an_image_does_not_know_its_batch(server, kind):
    """As exactly as in the host itself, whose own batches differ from single images by rounding."""
    images = {}
    for settings in ((), (True,)):
        batch = server.txt2img(kind, *settings, batch_size=4, do_not_save_grid=True).pixels[-4:]
        alone = [server.txt2img(kind, *settings, seed=1 + k).pixels[0] for k in range(4)]
        images[settings] = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(batch, alone, strict=True))
    assert images[(True,)] <= max(images[()], 1)


def test_batch_count_is_the_same_as_alone(server, kind):
    several = server.txt2img(kind, True, 4.0, 0.05, n_iter=2, do_not_save_grid=True).pixels[-2:]
    for k in range(2):
        assert np.array_equal(several[k], server.txt2img(kind, True, 4.0, 0.05, seed=1 + k).pixels[0])


def test_pasting_the_infotext_makes_the_image_again(server, kind):
    answer = server.txt2img(
        kind, {**ON, "erase": 2.5, "inject": -0.07, "levels": 3, "layout": 0.5, "last_level": 0.45, "variant": 3}
    )
    assert server.paste(kind, answer.infotext).digest == answer.digest


@pytest.mark.parametrize("call", [1, 2])
def test_an_exception_in_the_model_leaves_the_image_and_an_honest_infotext(server, kind, call):
    server.probe(fail_at=call)
    answer = server.txt2img(kind, {**ON, "direction": "denoised", "levels": 3})
    server.probe()
    assert_untouched(server, kind, answer)
    assert answer.record["own_calls"] == call
    (error,) = keys(answer)
    assert "RuntimeError: the probe made the model fail" in error
    # It is raised in the code of another extension, the probe.
    assert 'the extension \\"zz-noiseorder-probe\\" fails' in error
    assert server.txt2img(kind, True, 4.0, 0.05).digest != server.baselines[kind]


def test_interruption_during_prediction_leaves_the_server_alive(server, kind):
    server.probe(interrupt_at=1)
    answer = server.txt2img(kind, {**ON, "direction": "denoised", "levels": 8})
    server.probe()
    assert answer.record["own_calls"] == 1
    assert "interrupted" in answer.infotext
    assert server.alive()
    assert_untouched(server, kind, server.txt2img(kind))


def test_interrupting_through_the_api(server, kind):
    """As the Interrupt button does it, at whatever moment it falls."""
    answers = []
    body = {**server.request(kind, steps=30), "alwayson_scripts": {"noise order": {"args": [{**ON, "levels": 8}]}}}
    for wait in (0.05, 0.15):
        worker = threading.Thread(target=lambda: answers.append(server.post("/sdapi/v1/txt2img", body)))
        worker.start()
        time.sleep(wait)
        server.post("/sdapi/v1/interrupt", {})
        worker.join()
    assert len(answers) == 2
    assert server.alive()
    assert_untouched(server, kind, server.txt2img(kind))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"erase": 0.5}, "erase"),
        ({"erase": "4"}, "erase"),
        ({"erase": None}, "erase"),
        ({"inject": 1e6}, "inject"),
        ({"levels": 0}, "levels"),
        ({"layout": 0, "structure": 0, "detail": 0}, "layout"),
        ({"direction": "up"}, "direction"),
        ({"enabled": "true"}, "enabled"),
        ({"strength": 3}, "strength"),
    ],
)
def test_a_bad_setting_is_named_and_the_image_is_made_without(server, kind, settings, name):
    answer = server.txt2img(kind, {**ON, **settings})
    assert_untouched(server, kind, answer)
    assert len(keys(answer)) >= 1
    assert "Noise Order error" in answer.infotext
    assert name in answer.infotext
    assert name in answer.info.get("extra_generation_params", {}).get("Noise Order error", "")
    assert answer.record["own_rows"] == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_whatever_sampler_is_chosen(server, kind, sampler):
    plain = server.txt2img(kind, sampler_name=sampler)
    answer = server.txt2img(kind, True, 4.0, 0.05, sampler_name=sampler)
    assert answer.record["own_rows"] == 2
    assert answer.digest != plain.digest
    assert answer.pixels[0].std() > 1
    assert server.txt2img(kind, True, 4.0, 0.05, sampler_name=sampler).digest == answer.digest
    assert server.txt2img(kind, sampler_name=sampler).digest == plain.digest


def test_and_asks_for_every_prompt(server, kind):
    assert server.txt2img(kind, {**ON, "direction": "denoised"}, prompt="a cat AND a dog :0.5").record["own_rows"] == 2
    assert server.txt2img(kind, ON, prompt="a cat AND a dog :0.5").record["own_rows"] == 3


def test_prompt_editing_asks_for_the_prompt_of_the_beginning(server, kind):
    settings = {**ON, "erase": 1, "direction": "denoised"}

    def ask(prompt):
        record = server.txt2img(kind, settings, prompt=prompt).record
        return record["outputs"], np.array(record["values"])

    red_blue, red_green, blue_red = (
        ask("[red:blue:0.5] cat"),
        ask("[red:green:0.5] cat"),
        ask("[blue:red:0.5] cat"),
    )
    assert red_blue[0] == red_green[0] != blue_red[0]
    # To rounding: the host encodes both prompts of the editing in one batch.
    difference = {prompt: np.abs(red_blue[1] - ask(prompt)[1]).max() for prompt in ("red cat", "blue cat")}
    assert difference["red cat"] < 1e-4 < 1e-2 < difference["blue cat"]


def test_the_negative_prompt_is_asked(server, kind):
    settings = {**ON, "erase": 1}
    noises = {
        server.txt2img(kind, settings, negative_prompt=text).record["hooks"][0]["noise"] for text in ("bad", "green")
    }
    assert len(noises) == 2


def test_cfg_1(server, kind):
    answer = server.txt2img(kind, True, 4.0, 0.05, cfg_scale=1)
    assert answer.record["own_rows"] == (2 if server.facts.encodes_uncond_at_cfg_1 else 1)
    assert "error" not in answer.infotext


@pytest.mark.parametrize("source", ["GPU", "CPU", "NV"])
def test_every_noise_source(server, kind, source):
    settings = {"override_settings": {"randn_source": source}}
    plain = {server.txt2img(kind, **settings).digest for _ in range(2)}
    answers = [server.txt2img(kind, True, 4.0, 0.05, **settings) for _ in range(2)]
    # AUTOMATIC1111 leaves the global generator, which its inpainting models draw from, unseeded with NV.
    assert len({answer.digest for answer in answers}) <= len(plain)
    assert all("error" not in answer.infotext for answer in answers)


def test_a_video_is_refused(server, wan):
    """Wan takes the batch size as a number of frames: five are two of its latents."""

    def generate(scripts):
        body = server.request(wan, batch_size=5, alwayson_scripts=scripts)
        # Where there is no ffmpeg, Neo answers 500 after all has been sampled.
        requests.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=300)
        return server.get("/noiseorder-probe")

    server.load(wan)
    plain, modulated = generate({}), generate({"noise order": {"args": [ON]}})
    (before,), (after,) = plain["hooks"], modulated["hooks"]
    assert after["shape"][2] == 2
    assert "videos are not supported" in after["infotext"]["Noise Order error"]
    assert modulated["own_rows"] == 0
    assert after["noise"] == before["noise"]
    assert server.txt2img(wan).digest == server.baselines[wan]


@pytest.mark.only("ersatz")
@pytest.mark.parametrize("source", ["Perlin", "Perlin (GPU)"])
def test_perlin_noise(server, kind, source):
    """A noise source of its own; our draws are of its kind and size."""
    settings = {"override_settings": {"randn_source": source}}
    plain, other = server.txt2img(kind, **settings), server.txt2img(kind)
    answer = server.txt2img(kind, {**ON, "inject": 0}, **settings)
    assert "error" not in answer.infotext
    assert answer.record["hooks"][0]["std"] == pytest.approx(plain.record["hooks"][0]["std"], rel=0.1)
    assert len({each.record["hooks"][0]["noise"] for each in (answer, plain, other)}) == 3
    assert server.txt2img(kind, {**ON, "inject": 0}, **settings).digest == answer.digest


@pytest.mark.parametrize("settings", [(), (True,)])
def test_the_sampler_begins_with_the_noise_we_wrote(server, kind, settings):
    plain, answer = server.txt2img(kind), server.txt2img(kind, *settings)
    assert (answer.record["hooks"][0]["noise"] == plain.record["hooks"][0]["noise"]) is not bool(settings)
    (first,) = answer.record["first"]
    assert first["size"] > 1
    assert first["difference"] <= 1e-6 * first["size"]


def test_a_lora_is_asked_too(server, sd15):
    settings = {**ON, "erase": 1, "direction": "denoised"}

    def outputs(prompt):
        return server.txt2img(sd15, settings, prompt=prompt).record["outputs"]

    before, within, after = outputs("a red cat"), outputs("a red cat <lora:tiny:1>"), outputs("a red cat")
    assert len(before) == len(within) == 1
    assert before == after != within
    assert outputs("a red cat <lora:tiny:1>") == within
    assert outputs("a red cat <lora:tiny:0.5>") not in (before, within)
    # And the host's own image with it is the same whether the model was asked before or not.
    own = server.txt2img(sd15, prompt="a red cat <lora:tiny:1>")
    outputs("a red cat <lora:tiny:1>")
    assert server.txt2img(sd15, prompt="a red cat <lora:tiny:1>").digest == own.digest != server.baselines[sd15]


@pytest.mark.only("forge", "neo", "ersatz", "reforge")
def test_forges_controlnet_is_asked_too(server, sd15):
    (model,) = [name for name in server.get("/controlnet/model_list")["model_list"] if name.startswith("tiny")]
    settings = {**ON, "erase": 1, "direction": "denoised"}

    def units(**unit):
        return {
            "controlnet": {"args": [{"enabled": True, "module": "None", "model": model, "image": make_image(), **unit}]}
        }

    def outputs(**unit):
        scripts = {"noise order": {"args": [settings]}, **units(**unit)}
        answer = server.txt2img(sd15, alwayson_scripts=scripts)
        assert answer.record["own_rows"] == 1
        assert "error" not in answer.infotext
        return answer.record["outputs"]

    own = server.txt2img(sd15, alwayson_scripts=units())
    without = server.txt2img(sd15, settings).record["outputs"]
    assert outputs(enabled=False) == without
    assert outputs() == outputs() != without
    assert outputs(weight=0.5) not in (without, outputs())
    assert outputs(enabled=False) == without
    # And the host's own image with it is the same whether the model was asked before or not.
    assert server.txt2img(sd15, alwayson_scripts=units()).digest == own.digest != server.baselines[sd15]


def test_says_what_it_does_while_the_model_works(server, kind):
    record = server.txt2img(kind, {**ON, "levels": 3}).record
    progress = zip(record["textinfo"], record["progress"], strict=True)
    assert sorted({(text, *numbers) for text, numbers in progress}) == [
        (f"Noise Order: evaluating the model {k}/3", 0, 4) for k in (1, 2, 3)
    ]
    assert record["state_after"] == [record["state_before"]]


@pytest.mark.parametrize("bad", [{"erase": 99}, {}])
def test_a_failure_ends_the_generation_if_wanted(server, sd15, bad):
    """A bad setting is refused before the first batch, a failing model in the hook; both end with one image."""
    for choice, count in (("stop", 1), ("continue", 2)):
        server.probe(fail_at=0 if bad else 1)
        override = {"noiseorder_on_failure": choice}
        answer = server.txt2img(sd15, {**ON, **bad}, n_iter=2, do_not_save_grid=True, override_settings=override)
        assert "Noise Order error" in answer.infotext
        assert len(answer.infotexts) - answer.info["index_of_first_image"] == count
        if choice == "stop":
            assert answer.record["rows"] == answer.record["own_rows"], "the sampler asked the model"


def test_script_info_lists_every_setting(server):
    from lib_noiseorder.config import FIELDS

    info = [entry for entry in server.get("/sdapi/v1/script-info") if entry["name"] == "noise order"]
    assert len(info) == 2
    for entry in info:
        # The last is hidden: what the Audition button presses Generate with.
        assert [argument["label"] for argument in entry["args"]] == [*(f.label for f in FIELDS), "Audition ticket"]
        assert [argument["value"] for argument in entry["args"][:-1]] == [field.default for field in FIELDS]


def test_api_routes(server):
    from lib_noiseorder.presets import PRESETS
    from lib_noiseorder.webui import api

    assert server.get("/noiseorder/v1/schema") == api.schema()
    assert server.get("/noiseorder/v1/presets") == {name: asdict(preset) for name, preset in PRESETS.items()}
    assert server.get("/noiseorder/v1/version") == {"algorithm": "1"}


def test_a_preset_of_the_api_can_be_sent_as_it_is(server):
    kind = server.kinds[0]
    for name, preset in server.get("/noiseorder/v1/presets").items():
        answer = server.txt2img(kind, preset)
        assert "error" not in answer.infotext, name
        assert answer.digest != server.baselines[kind], name


def test_the_webui_log_shows_no_error_of_ours(server):
    log = server.log.read_text(errors="replace")
    assert "[Noise Order] std" in log
    assert "Error running process" not in log
    assert "Error loading script: noiseorder.py" not in log

"""img2img, inpainting and the hires pass in the real WebUI."""

from __future__ import annotations

import base64
import io

import pytest
import requests
from PIL import Image, ImageDraw
from webui import Answer, at_once

ON = {"enabled": True, "inject": 0.05}
OURS = "Noise Order"


def make_image(colour, box=None, side=64):
    """A PNG for the API, plain or with a white box (a mask)."""
    image = Image.new("RGB", (side, side), colour)
    if box:
        ImageDraw.Draw(image).rectangle(box, fill="white")
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def img2img(server, kind, *settings, **changes):
    """The same job before each: the hosts' VAE draws from the global generator, which the job before leaves behind."""
    server.txt2img(kind)
    image = [make_image((90, 120, 60))]
    body = server.request(kind, **{"init_images": image, "denoising_strength": 0.7, **changes})
    if settings:
        body["alwayson_scripts"] = {"noise order": {"args": list(settings)}}
    answer = server.post("/sdapi/v1/img2img", body)
    return Answer(answer, server.get("/noiseorder-probe"))


def make_upscale(server, kind, **changes):
    """What hires fix adds to a request."""
    # AUTOMATIC1111's own hires pass of inpainting models fails with "Latent".
    upscaler = "Lanczos" if kind == "sd15inpaint" else server.facts.upscaler
    upscale = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": upscaler, "denoising_strength": 0.7, **changes}
    if server.facts.is_forge:
        # Omitted, Forge answers 500; its own CFG scale for this pass is 1 otherwise.
        upscale |= {"hr_additional_modules": ["Use same choices"], "hr_cfg": 5}
    return upscale


def hires(server, kind, *settings, **changes):
    return server.txt2img(kind, *settings, **make_upscale(server, kind, **changes))


def read_noises(answer):
    return [hook["noise"] for hook in answer.record["hooks"]]


def test_img2img_off_is_absent(server, kind):
    plain = img2img(server, kind)
    for settings in ((False,), ({**ON, "erase": 1, "inject": 0},)):
        answer = img2img(server, kind, *settings)
        assert answer.digest == plain.digest
        assert OURS not in answer.infotext


def test_the_hook_around_an_image_is_what_the_fakes_say(server, kind):
    changes = {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": 1, "batch_size": at_once(kind, 2)}
    hook = img2img(server, kind, **changes).record["hooks"][0]
    assert not hook["x_is_noise"]
    assert len(hook["shape"]) == (5 if server.has_time(kind) else 4)
    assert hook["shape"][0] == at_once(kind, 2)
    # Qwen-Image's engine encodes the first image only, for the whole batch.
    assert hook["x_shape"] == [1 if kind == "qwen" else at_once(kind, 2), *hook["shape"][1:]]
    assert len(hook["mask_shape"]) == len(hook["shape"]) - (0 if server.facts.masks_are_batches else 1)


@pytest.mark.parametrize("changes", [{}, {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": 1}])
def test_img2img_and_inpainting(server, kind, changes):
    plain = img2img(server, kind, **changes)
    answer = img2img(server, kind, True, 4.0, 0.05, **changes)
    assert answer.digest != plain.digest
    assert answer.digest == img2img(server, kind, True, 4.0, 0.05, **changes).digest
    assert f"{OURS}: 1" in answer.infotext
    assert "error" not in answer.infotext
    assert answer.record["own_rows"] == 2
    (before,), (after,) = plain.record["hooks"], answer.record["hooks"]
    assert before["x"] == after["x"] is not None
    assert before["conds"] == after["conds"] != []
    assert img2img(server, kind, **changes).digest == plain.digest, "something was left behind"


@pytest.mark.parametrize("fill", [2, 3])
def test_inpainting_fills(server, kind, fill):
    """Latent noise and latent nothing."""
    changes = {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": fill}
    if fill == 2 and server.has_time(kind):
        # Neo's own latent noise has one dimension too few for these: it fails with and without us.
        body = server.request(kind, init_images=[make_image((90, 120, 60))], **changes)
        assert requests.post(f"{server.url}/sdapi/v1/img2img", json=body, timeout=300).status_code == 500
        return
    answer = img2img(server, kind, True, 4.0, 0.05, **changes)
    assert "error" not in answer.infotext
    assert answer.digest != img2img(server, kind, **changes).digest


def test_img2img_evaluates_inside_the_part_that_will_run(server, kind):
    """The level asked is never noisier than where the sampler begins."""
    record = img2img(
        server, kind, {**ON, "direction": "denoised", "levels": 3, "first_level": 1.0, "last_level": 0.2}
    ).record
    sigmas, begin = record["own_sigmas"], record["first_sigma"]
    assert len(sigmas) == 3
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[0] <= begin * 1.01 + 1e-6
    full = server.txt2img(kind, {**ON, "direction": "denoised", "first_level": 1.0}).record
    assert full["own_sigmas"][0] > sigmas[0]


def test_region(server, kind):
    changes = {
        "mask": make_image("black", (0, 0, 31, 63)),
        "inpainting_fill": 1,
        "inpaint_full_res": False,
        "mask_blur": 0,
    }
    noise = {
        region: img2img(server, kind, {**ON, "inject": 0, "region": region}, **changes).record["hooks"][0]
        for region in ("everywhere", "inside", "outside")
    }
    plain = img2img(server, kind, **changes).record["hooks"][0]
    half = len(plain["row"]) // 2
    assert noise["inside"]["row"][half:] == plain["row"][half:]
    assert noise["inside"]["row"][:half] == noise["everywhere"]["row"][:half] != plain["row"][:half]
    assert noise["outside"]["row"][:half] == plain["row"][:half]
    assert noise["outside"]["row"][half:] == noise["everywhere"]["row"][half:] != plain["row"][half:]


def test_region_without_a_mask_is_refused(server, kind):
    answer = img2img(server, kind, {**ON, "region": "inside"})
    assert answer.digest == img2img(server, kind).digest
    assert "no mask" in answer.infotext


def test_img2img_noise_multiplier(server, kind):
    std = {}
    for multiplier in (1.0, 0.5):
        answer = img2img(server, kind, {**ON, "inject": 0}, initial_noise_multiplier=multiplier)
        std[multiplier] = answer.record["hooks"][0]["std"][0]
    assert std[0.5] == pytest.approx(0.5 * std[1.0], rel=1e-4)


def test_img2img_samplers(server, kind):
    for sampler in ("DDIM", "DPM++ 2M", "UniPC"):
        answer = img2img(server, kind, True, 4.0, 0.05, sampler_name=sampler, steps=8)
        assert "error" not in answer.infotext, sampler
        assert answer.record["own_rows"] == 2


@pytest.mark.not_inpainting
@pytest.mark.parametrize("passes", ["first", "hires", "both"])
def test_hires_passes(server, kind, passes):
    plain, answer = hires(server, kind), hires(server, kind, {**ON, "passes": passes})
    first, *second = zip(read_noises(plain), read_noises(answer), strict=True)
    assert (first[0] != first[1]) is (passes in ("first", "both"))
    # Forge calls the hook twice there, the first time without a right model: only the last call may change anything.
    assert all(a == b for a, b in second[:-1])
    assert (second[-1][0] != second[-1][1]) is (passes in ("hires", "both"))
    assert [hook["conds"] for hook in plain.record["hooks"]] == [hook["conds"] for hook in answer.record["hooks"]]
    assert answer.digest != plain.digest
    assert ("Noise Order pass" in answer.infotext) is (passes != "first")
    assert answer.digest == hires(server, kind, {**ON, "passes": passes}).digest
    assert hires(server, kind).digest == plain.digest, "something was left behind"


@pytest.mark.not_inpainting
def test_hires_evaluations_are_counted_in_the_pass(server, kind):
    assert hires(server, kind, {**ON, "passes": "hires", "levels": 3}).record["hires_rows"] == 6
    assert hires(server, kind, {**ON, "passes": "both"}).record["hires_rows"] == 2


def test_hires_of_an_inpainting_model_is_refused(server, sd15inpaint):
    plain, first, answer = (
        hires(server, sd15inpaint, *settings) for settings in ((), (True,), ({**ON, "passes": "hires"},))
    )
    assert answer.digest == plain.digest != first.digest
    assert "the hires pass of inpainting models is not supported" in answer.infotext
    assert "error" not in first.infotext


@pytest.mark.not_inpainting
def test_hires_with_another_sampler(server, kind):
    answer = hires(server, kind, {**ON, "passes": "both"}, hr_sampler_name="DDIM")
    assert "error" not in answer.infotext


def test_hires_pass_without_hires_fix_is_refused(server, kind):
    answer = server.txt2img(kind, {**ON, "passes": "hires"})
    assert answer.digest == server.baselines[kind]
    assert "hires fix is off" in answer.infotext

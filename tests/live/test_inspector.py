"""The noise inspector in the real WebUI: what it tells, and that the image does not know of it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import requests
from PIL import Image
from test_passes import hires, img2img
from webui import at_once

ON = {"enabled": True, "inject": 0.05}


@pytest.fixture
def inspecting(options):
    options(noiseorder_inspector=True)


def read_stds(answer):
    """Of the noise of each image as the last hook of that generation left it, from the probe."""
    hook = answer.record["hooks"][-1]
    count = np.prod(hook["shape"][1:])
    return [std * np.sqrt((count - 1) / count) for std in hook["std"]]


def inspect(server):
    return server.get("/noiseorder/v1/inspect")


def read_refusal(server):
    response = requests.get(f"{server.url}/noiseorder/v1/inspect", timeout=60)
    assert response.status_code == 404
    return response.json()["detail"]


def decode(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_off_and_nothing_are_told(server, kind, options):
    server.txt2img(kind, True, 4.0, 0.05)
    assert "switch on" in read_refusal(server)
    options(noiseorder_inspector=True)
    server.txt2img(kind, True, 4.0, 0.05)
    inspect(server)
    server.txt2img(kind)
    assert "was not changed by Noise Order" in read_refusal(server)


@pytest.mark.parametrize("settings", [{}, {"inject": 0}, {"erase": 1, "direction": "look-ahead", "levels": 2}])
def test_the_image_is_the_same_with_the_inspector(server, kind, options, settings):
    count = at_once(kind, 2)
    plain = server.txt2img(kind, {**ON, **settings}, batch_size=count)
    options(noiseorder_inspector=True)
    answer = server.txt2img(kind, {**ON, **settings}, batch_size=count)
    assert answer.digest == plain.digest
    assert answer.infotexts == plain.infotexts
    levels = settings.get("levels", 1)
    assert answer.record["own_rows"] == plain.record["own_rows"] + 2 * count * levels
    assert server.txt2img(kind).digest == server.baselines[kind]


def test_samplers_and_passes_do_not_know_either(server, kind, options):
    def jobs():
        return [
            server.txt2img(kind, True, 4.0, 0.05, sampler_name="Euler a").digest,
            server.txt2img(kind, True, 4.0, 0.05, n_iter=2).digest,
            hires(server, kind, {**ON, "passes": "both"}).digest,
            img2img(server, kind, True, 4.0, 0.05).digest,
        ]

    plain = jobs()
    options(noiseorder_inspector=True)
    assert jobs() == plain


def test_tells_what_the_sampler_was_given(server, kind, inspecting):
    answer = server.txt2img(kind, {**ON, "erase": 2.0, "levels": 2}, batch_size=at_once(kind, 2))
    report = inspect(server)
    side = answer.record["hooks"][0]["shape"][-1]
    assert report["settings"]["erase"] == 2
    assert report["evaluations"] == 4
    assert [image["seed"] for image in report["images"]] == [1, 2][: at_once(kind, 2)]
    for image, std in zip(report["images"], read_stds(answer), strict=True):
        assert np.hypot(std, image["after"]["mean"]) == pytest.approx(image["after"]["rms"], rel=1e-5)
        assert image["before"]["cosine"] == pytest.approx(1)
        assert image["erased"]["cosine"] == pytest.approx(2**-0.5, abs=0.15)
        assert 0 < image["cosine"] < 0.95
        for state in ("before", "erased", "after"):
            assert len(image[state]["spectrum"]) == side // 2 + 1
            assert np.mean(image[state]["spectrum"]) == pytest.approx(1, abs=0.4)
            assert decode(image[state]["picture"]).size == (side, side)
        assert [preview["level"] for preview in image["previews"]] == [0.9, 0.7]
        for preview in image["previews"]:
            before, after = (np.asarray(decode(preview[name])) for name in ("before", "after"))
            assert before.shape == after.shape == (8, 8, 3)
            assert before.std() > 0
            assert (before != after).any()


def test_before_is_the_seed_s_own_noise(server, kind, inspecting):
    """Told by a number that no two noises share."""
    (std,) = read_stds(server.txt2img(kind))
    server.txt2img(kind, True, 4.0, 0.05)
    before = inspect(server)["images"][0]["before"]
    assert np.hypot(std, before["mean"]) == pytest.approx(before["rms"], rel=1e-5)


@pytest.mark.not_inpainting
def test_both_passes_and_no_more_images_than_needed(server, kind, inspecting):
    hires(server, kind, {**ON, "passes": "both"})
    assert [image["stage"] for image in inspect(server)["images"]] == ["first", "hires"]
    server.txt2img(kind, {**ON, "inject": 0}, n_iter=6)
    assert [image["seed"] for image in inspect(server)["images"]] == [1, 2, 3, 4]


def test_variants_are_not_looked_at(server, kind, inspecting):
    server.txt2img(kind, {**ON, "compare_original": True, "compare_erased": True})
    report = inspect(server)
    assert len(report["images"]) == 1
    assert report["settings"]["inject"] == 0.05


def test_a_failing_look_leaves_the_image(server, kind, options):
    plain = server.txt2img(kind, {**ON, "inject": 0})
    options(noiseorder_inspector=True)
    server.probe(fail_at=1)
    answer = server.txt2img(kind, {**ON, "inject": 0})
    assert answer.digest == plain.digest
    assert answer.infotexts == plain.infotexts
    assert inspect(server)["images"][0]["previews"] == []
    server.probe()
    assert server.txt2img(kind).digest == server.baselines[kind]

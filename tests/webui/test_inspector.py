"""What the inspector tells, as JSON, as pictures and in its panel."""

from __future__ import annotations

import base64
import io

import gradio as gr
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import Level, Preview
from lib_noiseorder.webui import api, inspector


def noise(batch=2, channels=4, seed=1):
    return torch.randn(batch, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def nothing_known():
    inspector.forget()
    yield
    inspector.forget()


def remember(batch=2, stage="", previews=1):
    noises = {"before": noise(batch), "erased": noise(batch, seed=2), "after": noise(batch, seed=3)}
    seen = [Preview(Level(0.9, 11.5), noise(batch, seed=4), noise(batch, seed=5))] * previews
    images = inspector.observe(list(range(batch)), stage, noises, seen, inspector.noise_picture)
    inspector.keep(NoiseOrderConfig(True), 2 * previews, images)
    return noises


def client(inspects):
    app = FastAPI()
    api.register(app, dict, lambda: inspects)
    return TestClient(app)


@pytest.mark.parametrize(("inspects", "told"), [(False, "switch on"), (True, "last generation was not changed")])
def test_nothing_to_tell_is_told(inspects, told):
    answer = client(inspects).get("/noiseorder/v1/inspect")
    assert answer.status_code == 404
    assert told in answer.json()["detail"]


def test_the_route_tells_all_of_the_last_generation():
    noises = remember()
    told = client(True).get("/noiseorder/v1/inspect").json()
    assert told["settings"]["erase"] == 4
    assert told["evaluations"] == 2
    assert [image["seed"] for image in told["images"]] == [0, 1]
    image = told["images"][1]
    for name, tensor in noises.items():
        x = tensor[1].double().numpy()
        assert image[name]["rms"] == pytest.approx(np.sqrt((x**2).mean()))
        assert image[name]["mean"] == pytest.approx(x.mean())
        assert image[name]["kurtosis"] == pytest.approx(((x - x.mean()) ** 4).mean() / x.var() ** 2 - 3)
        assert len(image[name]["spectrum"]) == 5
        before = noises["before"][1].double().numpy()
        expected = (x * before).sum() / np.sqrt((x**2).sum() * (before**2).sum())
        assert image[name]["cosine"] == pytest.approx(expected, abs=1e-6)
    assert image["cosine"] == image["after"]["cosine"]
    preview = image["previews"][0]
    assert (preview["level"], preview["sigma"]) == (0.9, 11.5)
    pictures = [preview["before"], preview["after"], image["spectrum_plot"], image["after"]["picture"]]
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in pictures]
    assert sizes == [(8, 8), (8, 8), (360, 200), (8, 8)]
    assert preview["before"] != preview["after"]


def test_a_few_images_of_each_pass_are_kept():
    remember(batch=3)
    remember(batch=3)
    remember(batch=6, stage="hires")
    assert [image.stage for image in inspector.last.images] == [""] * 4 + ["hires"] * 4
    assert inspector.room("") == 0
    inspector.forget()
    assert inspector.last is None
    assert inspector.room("") == 4


def test_what_is_kept_is_a_copy():
    noises = {name: noise() for name in inspector.STATES}
    kept = inspector.observe([1, 2], "", noises)
    noises["before"].zero_()
    assert kept[0].noises["before"].abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (16, 8, 8), (16, 2, 8, 8), (128, 4, 4)])
def test_noise_of_every_shape_has_its_picture(shape):
    x = torch.zeros(shape)
    x[0] = 3
    picture = np.asarray(inspector.noise_picture(x))
    assert picture.shape == (*shape[-2:], 3)
    assert (picture[..., 0] == 255).all()
    assert (picture[..., 1] == (255 if shape[0] == 1 else 128)).all()


def test_the_plot_has_the_curves_and_the_white_noise_line():
    flat = np.asarray(inspector.plot({"before": [1.5] * 9, "after": [0.5] * 9}))
    for name in ("before", "after"):
        assert (flat == inspector.COLOURS[name]).all(-1).any()
    rows = [np.flatnonzero((flat == inspector.COLOURS[name]).all(-1)[:160].any(1)) for name in ("before", "after")]
    black = np.flatnonzero((flat == 0).all(-1).sum(1) > 300)
    assert rows[0].max() < black.min() <= black.max() < rows[1].min()


def test_the_page_shows_every_image():
    remember()
    shown = inspector.page(inspector.last.images)
    assert shown.count("<h4>") == 2
    assert shown.count("<img") == 2 * (3 + 1 + 2)
    assert "first pass" in shown


def test_the_panel_is_folded_and_empty():
    with gr.Blocks() as page:
        inspector.panel(lambda name: f"id_{name}", lambda: False)
    folded = [block for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    assert [block.open for block in folded] == [False]
    assert {"id_inspector", "id_inspect", "id_inspected"} <= {block.elem_id for block in page.blocks.values()}

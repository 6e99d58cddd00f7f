"""What the inspector tells, as JSON, as images and in its panel."""

from __future__ import annotations

import base64
import html
import io
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from lib_noiseorder.config import NoiseOrderConfig, SettingError
from lib_noiseorder.core import Level, LevelPreview
from lib_noiseorder.webui import api, inspector
from lib_noiseorder.webui.cost import Rates

NOBODY = SimpleNamespace(username=None)
"""A request to a page without a login."""


def noise(batch=2, channels=4, seed=1):
    return torch.randn(batch, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def inspections():
    return inspector.Inspections()


def remember(inspections, batch=2, stage="", count=1):
    noises = {"before": noise(batch), "erased": noise(batch, seed=2), "after": noise(batch, seed=3)}
    previews = [LevelPreview(Level(0.9, 11.5), noise(batch, seed=4), noise(batch, seed=5))] * count
    images = inspector.observe(list(range(batch)), stage, noises, previews, inspector.noise_image)
    inspections.keep(None, NoiseOrderConfig(True, inject=0.05), 2 * count, images)
    return noises


def client(inspects, inspections):
    app = FastAPI()
    api.register(app, dict, Rates(inspects=lambda user: inspects), inspections=inspections)
    return TestClient(app)


@pytest.mark.parametrize(("inspects", "message"), [(False, "switch on"), (True, "last generation was not changed")])
def test_nothing_to_tell_is_told(inspections, inspects, message):
    response = client(inspects, inspections).get("/noiseorder/v1/inspect")
    assert response.status_code == 404
    assert message in response.json()["detail"]


def test_the_route_tells_all_of_the_last_generation(inspections):
    noises = remember(inspections)
    report = client(True, inspections).get("/noiseorder/v1/inspect").json()
    assert report["settings"]["erase"] == 4
    assert report["evaluations"] == 2
    assert [image["seed"] for image in report["images"]] == [0, 1]
    image = report["images"][1]
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
    images = [preview["before"], preview["after"], image["spectrum_plot"], image["after"]["picture"]]
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in images]
    assert sizes == [(8, 8), (8, 8), (720, 300), (8, 8)]
    assert preview["before"] != preview["after"]


def test_a_few_images_of_each_pass_are_kept(inspections):
    remember(inspections, batch=3)
    remember(inspections, batch=3)
    remember(inspections, batch=6, stage="hires")
    assert [image.stage for image in inspections.last[None].images] == [""] * 4 + ["hires"] * 4
    assert inspections.room(None, "") == 0
    inspections.forget(None)
    assert inspections.last == {}
    assert inspections.room(None, "") == 4


def test_what_is_kept_is_a_copy():
    noises = {name: noise() for name in inspector.STATES}
    images = inspector.observe([1, 2], "", noises)
    noises["before"].zero_()
    assert images[0].noises["before"].abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (16, 8, 8), (16, 2, 8, 8), (128, 4, 4)])
def test_noise_of_every_shape_has_its_image(shape):
    x = torch.zeros(shape)
    x[0] = 3
    image = np.asarray(inspector.noise_image(x))
    assert image.shape == (*shape[-2:], 3)
    assert (image[..., 0] == 255).all()
    assert (image[..., 1] == (255 if shape[0] == 1 else 128)).all()


def test_the_plot_has_the_curves_and_the_white_noise_line_and_no_ground():
    flat = np.asarray(inspector.plot({"before": [1.5] * 9, "after": [0.5] * 9}))
    rows = [
        np.flatnonzero((flat == (*colour, 255)).all(-1)[5:-5].sum(1) > 600) + 5
        for colour in (inspector.COLOURS["before"], inspector.GREY, inspector.COLOURS["after"])
    ]
    middles = [row.mean() / len(flat) for row in rows]
    assert middles == pytest.approx([0.25, 0.5, 0.75], abs=0.01)
    assert (flat[..., 3] == 0).mean() > 0.9


def test_the_plot_needs_no_font(monkeypatch):
    """Those of Pillow 9 and 10 are of other widths."""
    monkeypatch.delattr("PIL.ImageFont.load_default")
    monkeypatch.delattr("PIL.ImageDraw.ImageDraw.text")
    assert inspector.plot({"before": [1.0, 3.0], "after": [1.0, 0.0]}).size == (720, 300)


def contrast(one, other):
    """Of two colours, as WCAG 2 defines it."""
    shares = [[c / 255 / 12.92 if c < 11 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb] for rgb in (one, other)]
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05 for r, g, b in shares)
    return light[1] / light[0]


@pytest.mark.parametrize("page", [(255, 255, 255), (11, 15, 25), (31, 41, 55)])
def test_the_colours_are_seen_on_light_and_dark_pages(page):
    assert min(contrast(colour, page) for colour in (*inspector.COLOURS.values(), inspector.GREY)) >= 3


@pytest.mark.parametrize("shape", [(3, 16, 16), (4, 8, 8), (4, 64, 96), (16, 32, 32), (16, 3, 24, 24), (128, 4, 4)])
def test_white_noise_is_called_white(shape):
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        assert inspector.verdict(inspector.numbers(torch.randn(shape, generator=generator)), shape) == inspector.WHITE


def test_what_stands_out_is_told_and_nothing_else():
    x = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(1))
    waves = torch.cos(2 * torch.pi * torch.arange(32) / 32)
    verdicts = {
        name: inspector.verdict(inspector.numbers(sample), sample.shape)
        for name, sample in {
            "strong": 1.2 * x,
            "weak": 0.9 * x,
            "shifted": x + 0.1,
            "peaked": x.pow(3) / 15**0.5,
            "flat": (x.sign() + 0.01 * x),
            "coarse": (x + 0.3 * waves) / (1 + 0.3**2 / 2) ** 0.5,
            "fine": (x + 0.6 * torch.tensor([1.0, -1.0]).repeat(16)) / 1.36**0.5,
            "empty": 0 * x,
        }.items()
    }
    assert "; " not in verdicts["strong"]
    assert verdicts["strong"].startswith("stronger than a sampler expects (rms 1.2")
    assert verdicts["weak"].startswith("weaker than a sampler expects (rms 0.9")
    assert "mean +0.1" in verdicts["shifted"]
    assert verdicts["shifted"].endswith("at 0.00 cycles per pixel (coarse)")
    assert "more extreme values than white noise" in verdicts["peaked"]
    assert verdicts["flat"].startswith("fewer extreme values")
    assert verdicts["coarse"].endswith("at 0.03 cycles per pixel (coarse)")
    assert verdicts["fine"].endswith("at 0.50 cycles per pixel (fine)")
    assert verdicts["empty"].startswith("weaker than a sampler expects (rms 0.000)")


def test_the_default_settings_stay_white_and_the_printed_formula_does_not(inspections):
    remember(inspections)
    verdicts = [image["after"]["verdict"] for image in inspector.describe(inspections.last[None])["images"]]
    assert verdicts == [inspector.WHITE] * 2
    strong = inspector.observe([1], "", {name: 1.5 * noise() for name in inspector.STATES})
    page = inspector.page(strong)
    assert page.count("stronger than a sampler expects") == 3


def test_the_page_shows_every_image(inspections):
    remember(inspections)
    page = inspector.page(inspections.last[None].images)
    assert page.count("<h4>") == 2
    assert page.count("<img") == 2 * (3 + 1 + 2)
    assert "first pass" in page


def handlers(page):
    """What the load event, the button and the box call."""
    functions = page.fns.values() if isinstance(page.fns, dict) else page.fns
    return [function.fn for function in functions]


def test_the_panel_says_that_it_is_off_and_is_switched_on_there(inspections):
    state = {"on": False}
    with gr.Blocks() as page:
        inspector.panel(lambda name: f"id_{name}", inspections, lambda: state["on"], lambda on: state.update(on=on))
    load, _, change = handlers(page)
    assert load(NOBODY) == (False, f"<p>{html.escape(inspector.OFF)}</p>")
    on, message = change(True, NOBODY)
    assert on
    assert state["on"]
    assert message == f"<p>{inspector.NOTHING}</p>"
    remember(inspections)
    assert load(NOBODY)[1].startswith("<style")
    assert change(False, NOBODY)[1].startswith(f"<p>{html.escape(inspector.OFF)}</p><style"), (
        "what was kept is still shown"
    )


def test_with_a_login_the_switch_is_the_user_s_own(inspections):
    """The settings page is everybody's, and says what is so for who has not touched the switch."""
    state = {"on": False}
    with gr.Blocks() as page:
        inspector.panel(lambda name: name, inspections, lambda: state["on"], lambda on: state.update(on=on))
    load, press, change = handlers(page)
    ann, bob = (SimpleNamespace(username=name) for name in ("ann", "bob"))
    assert change(True, ann)[0]
    assert state == {"on": False}
    assert [event(user)[0] for event in (load, press) for user in (ann, bob, NOBODY)] == [True, False, False] * 2
    # What javascript/inspector.js goes by.
    assert ["noiseorder-own" in load(user)[1] for user in (ann, bob, NOBODY)] == [True, True, False]
    state["on"] = True
    assert not change(False, ann)[0]
    assert [load(user)[0] for user in (ann, bob, NOBODY)] == [False, True, True]
    assert inspections.switched == {"ann": False}


def test_a_switch_that_cannot_be_set_goes_back_and_says_why(inspections):
    def switch(on):
        raise SettingError("frozen <here>")

    with gr.Blocks() as page:
        inspector.panel(lambda name: name, inspections, lambda: False, switch)
    assert handlers(page)[2](True, NOBODY) == (False, "<p>⚠ frozen &lt;here&gt;</p>")


def test_the_panel_is_folded_and_empty(inspections):
    with gr.Blocks() as page:
        inspector.panel(lambda name: f"id_{name}", inspections, lambda: False, lambda on: None)
    accordions = [block for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    assert [block.open for block in accordions] == [False]
    assert {"id_inspector", "id_inspector_on", "id_inspect", "id_inspected"} <= {
        block.elem_id for block in page.blocks.values()
    }

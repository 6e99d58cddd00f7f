"""Pasting as the hosts do it, in a page of Gradio's own: what was not understood is shown there, as text."""

from __future__ import annotations

import re

import gradio as gr
import pytest
from serving import blocks, serve

from lib_noiseorder.config import FIELDS
from lib_noiseorder.webui import accordion, infotext
from lib_noiseorder.webui.userpresets import Presets

MILLISECONDS = 180_000
PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    readers = [infotext.reader(field) for field in FIELDS]

    def paste(text):
        params = dict(PARAM.findall(text))
        infotext.complete_params(text, params)
        values = [read(params) for read in readers]
        return [gr.update() if value is None else gr.update(value=value) for value in values]

    with blocks() as page:
        text, button = gr.Textbox(elem_id="text"), gr.Button("Paste", elem_id="paste")
        enabled = gr.Checkbox(elem_id="enabled")
        presets = Presets(tmp_path_factory.mktemp("data") / "presets.json")
        controls = accordion.controls(lambda name: name, presets, lambda: None)
        button.click(paste, [text], [enabled, *controls], show_progress=False)
    with serve(page) as address:
        yield address


@pytest.fixture
def page(browser, url):
    page = browser.new_page()
    page.set_default_timeout(MILLISECONDS)
    page.goto(url, wait_until="domcontentloaded")
    page.locator("#cost").get_by_text("Costs nothing.").wait_for()
    yield page
    page.close()


def paste(page, text):
    page.locator("#text textarea, #text input").fill(f"Steps: 20, {text}")
    page.locator("#paste").click()


def test_what_is_not_understood_is_shown_and_the_default_set(page):
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    paste(page, "Noise Order: 1, Noise Order erase: 9, Noise Order inject: 0,08, Noise Order direction: noise")
    page.locator("#cost").get_by_text("Cost: +1 model evaluation per image").wait_for()
    assert page.locator("#enabled input").is_checked()
    assert page.locator("#inject input[type=number]").input_value() == "0.08"
    assert page.locator(".toast-body").count() == 0
    paste(
        page,
        "Noise Order: 1, Noise Order erase: many, Noise Order inject: 0.08, "
        "Noise Order direction: <img src=http://127.0.0.1:9/x.png>",
    )
    page.locator(".toast-body").get_by_text("Noise Order erase: 'many' was not understood").wait_for()
    page.locator(".toast-body").get_by_text("img src=http://127.0.0.1:9/x.png>' was not understood").wait_for()
    page.locator("#cost").get_by_text("Cost: +2 model evaluations per image").wait_for()
    assert page.locator("#erase input[type=number]").input_value() == "4"
    assert not [address for address in urls if "127.0.0.1:9/" in address]


def test_a_pasted_value_beyond_the_slider_is_shown_and_kept(page):
    paste(page, "Noise Order: 1, Noise Order erase: 40, Noise Order inject: -0.8, Noise Order direction: noise")
    page.locator("#cost").get_by_text("Cost: +1 model evaluation per image").wait_for()
    for name, value in (("erase", "40"), ("inject", "-0.8")):
        box = page.locator(f"#{name} input[type=number]")
        box.focus()
        box.press("Tab")
        assert box.input_value() == value


def test_an_image_of_a_later_algorithm_does_not_switch_on(page):
    paste(page, "Noise Order: 2, Noise Order erase: 9")
    page.locator(".toast-body").get_by_text("made by version '2' of the algorithm").wait_for()
    assert not page.locator("#enabled input").is_checked()
    assert page.locator("#erase input[type=number]").input_value() == "4"

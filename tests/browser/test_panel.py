"""The whole panel as a WebUI has it, in a page of Gradio's own, in the room that a phone leaves it."""

from __future__ import annotations

import time
from pathlib import Path

import gradio as gr
import pytest
from serving import blocks, serve

from lib_noiseorder.config import FIELDS
from lib_noiseorder.webui import accordion, inspector
from lib_noiseorder.webui.userpresets import Presets

ROOT = Path(__file__).parents[2]
MILLISECONDS = 180_000
OURS = "script_txt2img_noise_order_"
ROOM = 266
"""Pixels that Forge's page leaves a panel's controls on a phone of 400."""
SPACING = (
    ".block.padded:not(.gradio-accordion) {padding: 0 !important}"
    ".gap, [data-testid=accordion-content] > .column {gap: 1px !important}"
    ".html-container {padding: 0 !important}"
)
"""As narrow as the hosts' own; of Gradio 6, which no host has yet, as narrow as the others are by themselves."""
NAME_HELP = "Save keeps the settings above under it; Rename and Delete act on the preset chosen above"


def elem_id(name):
    return OURS + name


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    presets = Presets(tmp_path_factory.mktemp("data") / "presets.json")
    css = SPACING + (ROOT / "style.css").read_text(encoding="utf-8")
    with (
        blocks(css) as page,
        gr.Accordion(accordion.TITLE, open=True, elem_id=elem_id("enabled")),
    ):
        accordion.controls(
            elem_id,
            presets,
            lambda: None,
            audition=True,
        )
        inspector.panel(elem_id, inspector.Inspections(), lambda: False, lambda on: None)
    with serve(page) as address:
        yield address


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 400, "height": 1600})
    page.set_default_timeout(MILLISECONDS)
    page.goto(url, wait_until="domcontentloaded")
    page.locator(f"#{OURS}cost").get_by_text("Costs nothing.").wait_for()
    page.add_script_tag(path=ROOT / "javascript" / "noiseorder.js")
    page.add_style_tag(content=f"#{OURS}enabled {{ width: {ROOM + 34}px; }}")
    page.locator(f"#{OURS}sheet .noiseorder-price").evaluate(
        "e => e.textContent = '9 candidates at 7 of 20 steps: 3.4'"
    )
    yield page
    page.close()


def test_a_phone_shows_the_closed_panel_at_once(page):
    height = page.locator(f"#{OURS}enabled").bounding_box()["height"]
    assert height < 600
    wide = page.evaluate(
        f"""[...document.querySelectorAll('#{OURS}enabled *')].filter(e => e.checkVisibility()
        && e.getBoundingClientRect().right > 400).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert not wide


VARYING = ("cost", "sheet", "outcome", "curve")
"""What is made of numbers or tells what was done; the words between the numbers are pieces of their own."""


def test_every_text_is_one_piece_that_a_localization_can_match(page):
    """The hosts replace whole text nodes, without the spaces around them."""
    fields = [text for field in FIELDS for text in (field.label, field.help, field.more)]
    table = {*fields, accordion.LABEL, accordion.PRESET, accordion.BESIDE, *accordion.ABOUT.split("**")}
    table |= {accordion.TITLE, "Advanced", "Also make", "What each control does", "Audition", "(changed)"}
    table |= {"Candidates", "How many variants the button Audition previews"}
    table |= {"Preview at", "Where on the schedule: lower shows more and costs more"}
    table |= {"Presets", "Preset name", "Save preset", "Rename preset", "Delete preset", NAME_HELP}
    table |= {inspector.TITLE, inspector.ABOUT, inspector.SWITCH, inspector.OFF, "Refresh"}
    page.locator(f"#{OURS}advanced > .label-wrap").click()
    for name in ("presets", "inspector"):
        page.locator(f"#{OURS}{name} > .label-wrap").click()
    page.locator(f"#{OURS}help summary").click()
    page.locator(f"#{OURS}inspected").get_by_text("The inspector is off").wait_for()
    exempt = ", ".join(f"#{OURS}{name}" for name in VARYING)
    script = f"""known => {{
        const nodes = [], walker = document.createTreeWalker(document.querySelector('#{OURS}enabled'), 4);
        while (walker.nextNode()) nodes.push(walker.currentNode);
        const texts = nodes
            .filter(({{parentElement: e}}) => e.checkVisibility() && !e.closest('style, script, {exempt}'))
            .map(node => node.textContent.trim()).filter(text => /[a-z]/i.test(text));
        return [texts.length, texts.filter(text => !known.includes(text))];
    }}"""
    texts = [text.strip() for text in table]
    # While an answer is under way, Gradio shows how long it has been.
    end = time.monotonic() + 20
    while (result := page.evaluate(script, texts))[1] and time.monotonic() < end:
        page.wait_for_timeout(200)
    count, unknown = result
    assert count > 50
    assert unknown == []

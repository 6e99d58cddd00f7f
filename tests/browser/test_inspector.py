"""The inspector's panel in a page of Gradio's own, with what the hosts' pages have around it."""

from __future__ import annotations

import time

import gradio as gr
import pytest
import torch
from handling import open_tab
from serving import GRADIO_6, blocks, serve

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import Level, LevelPreview
from lib_noiseorder.webui import inspector

OURS = "#script_txt2img_noise_order_"
STATE = {"on": False}
INSPECTIONS = inspector.Inspections()
AROUND = """() => {
    window.onAfterUiUpdate = (call) =>
        new MutationObserver(call).observe(document.body, {childList: true, subtree: true});
    for (const tab of ["txt2img", "img2img"]) {
        const skip = document.body.appendChild(document.createElement("button"));
        skip.id = tab + "_skip";
        skip.style.display = "none";
    }
}"""


def record(seed, size=16):
    """What the hook leaves behind."""
    INSPECTIONS.forget(None)
    generator = torch.Generator().manual_seed(seed)
    noises = {name: torch.randn(1, 4, size, size, generator=generator) for name in inspector.STATES}
    previews = [LevelPreview(Level(0.9, 11.5), noises["before"], noises["after"])]
    INSPECTIONS.keep(None, NoiseOrderConfig(True, inject=0.05), 2, inspector.observe([seed], "", noises, previews))


@pytest.fixture(scope="module")
def url():
    with blocks() as page:
        for tab in ("txt2img", "img2img"):
            inspector.panel(
                lambda name, tab=tab: f"script_{tab}_noise_order_{name}",
                INSPECTIONS,
                lambda: STATE["on"],
                lambda on: STATE.update(on=on),
            )
        gr.Checkbox(False, elem_id="setting_noiseorder_inspector")
    with serve(page) as address:
        yield address


@pytest.fixture(autouse=True)
def clear_inspector():
    time.sleep(0.3)  # the box of the other tab, ticked as the last test ended, may still be on its way to the server
    INSPECTIONS.forget(None)
    STATE["on"] = False


def visit(page, url, pytestconfig):
    page.goto(f"{url}?__theme=light", wait_until="domcontentloaded")
    page.locator(f"{OURS}inspector .label-wrap").wait_for()
    page.evaluate(AROUND)
    page.add_script_tag(path=pytestconfig.rootpath / "javascript" / "inspector.js")
    page.evaluate("document.body.appendChild(document.createElement('i'))")
    page.locator(f"{OURS}inspector .label-wrap").click()
    page.locator(f"{OURS}inspect").wait_for()


@pytest.fixture
def page(tab, url, pytestconfig):
    visit(tab, url, pytestconfig)
    # Unfolded, the panel asks by itself; an answer under way would put back a box that is ticked meanwhile.
    tab.locator(f"{OURS}inspected .noiseorder-answer").wait_for(state="attached")
    return tab


def generate(page, seed):
    """As the hosts do: the button is shown until the generation has ended."""
    page.evaluate("document.getElementById('txt2img_skip').style.display = 'block'")
    record(seed)
    page.evaluate("document.getElementById('txt2img_skip').style.display = 'none'")


def test_says_at_once_that_it_is_off_and_is_switched_on_there(page):
    inside = page.locator(f"{OURS}inspected")
    inside.get_by_text("The inspector is off").wait_for()
    page.locator(f"{OURS}inspector_on input").check()
    inside.get_by_text("Nothing to inspect").wait_for()
    assert STATE["on"]
    assert page.locator("#setting_noiseorder_inspector input").is_checked()
    other = "#script_img2img_noise_order_inspector"
    if GRADIO_6:  # what is folded is not in its document
        page.locator(f"{other} .label-wrap").click()
    page.locator(f"{other}_on input:checked").wait_for(state="attached")
    page.locator(f"{OURS}inspector_on input").uncheck()
    inside.get_by_text("The inspector is off").wait_for()
    assert not STATE["on"]
    assert not page.locator("#setting_noiseorder_inspector input").is_checked()


def test_with_a_login_the_settings_page_is_left_alone(page):
    """The switch is the user's then, and applying the settings would be everybody's."""
    page.locator(f"{OURS}inspected").get_by_text("The inspector is off").wait_for()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<i class=\"noiseorder-own\" hidden></i>')")
    other = "#script_img2img_noise_order_inspector"
    if GRADIO_6:  # what is folded is not in its document
        page.locator(f"{other} .label-wrap").click()
    page.locator(f"{OURS}inspector_on input").check()
    page.locator(f"{other}_on input:checked").wait_for(state="attached")
    assert not page.locator("#setting_noiseorder_inspector input").is_checked()


def test_the_end_of_a_generation_is_told_to_the_panel(page):
    """Once for each, by the name of its tab; nothing before there was one."""
    page.evaluate("document.addEventListener('noiseorder-generated', e => (window.tabs ||= []).push(e.detail))")
    page.evaluate("document.getElementById('img2img_skip').style.color = 'red'")
    generate(page, 5)
    page.locator(f"{OURS}inspected h4").get_by_text("Seed 5").wait_for()
    assert page.evaluate("window.tabs") == ["txt2img"]


def test_is_refreshed_after_a_generation_and_when_it_is_opened(page):
    generate(page, 5)
    heading = page.locator(f"{OURS}inspected h4")
    heading.get_by_text("Seed 5, first pass").wait_for()
    generate(page, 6)
    heading.get_by_text("Seed 6, first pass").wait_for()
    head = page.locator(f"{OURS}inspector .label-wrap")
    head.click()
    page.locator(f"{OURS}inspect").wait_for(state="hidden")
    # Set on the settings page, and a generation by the API.
    STATE["on"] = True
    record(7)
    head.click()
    heading.get_by_text("Seed 7, first pass").wait_for()
    page.wait_for_function("box => document.querySelector(box).checked", arg=f"{OURS}inspector_on input")


def test_a_generation_that_ends_while_the_panel_is_being_refreshed_is_shown(page, monkeypatch):
    render = inspector.page

    def slow(images):
        markup = render(images)
        time.sleep(3)
        return markup

    page.locator(f"{OURS}inspected").get_by_text("The inspector is off").wait_for()
    monkeypatch.setattr(inspector, "page", slow)
    generate(page, 5)
    page.wait_for_timeout(500)
    generate(page, 6)
    page.locator(f"{OURS}inspected h4").get_by_text("Seed 6, first pass").wait_for()


def test_so_it_is_where_the_answer_under_way_says_what_is_said_already(page, monkeypatch):
    texts = []

    def slow(text):
        texts.append(text)
        time.sleep(2)
        return text

    page.locator(f"{OURS}inspector_on input").check()
    page.locator(f"{OURS}inspected").get_by_text("Nothing to inspect").wait_for()
    page.locator(f"{OURS}inspect").click()
    page.locator(f"{OURS}inspected .noiseorder-answer").wait_for(state="attached")
    monkeypatch.setattr(inspector.html, "escape", slow)
    page.locator(f"{OURS}inspect").click()
    while not texts:
        page.wait_for_timeout(20)
    monkeypatch.undo()
    generate(page, 5)
    page.locator(f"{OURS}inspected h4").get_by_text("Seed 5, first pass").wait_for()


@pytest.mark.parametrize("width", [1400, 400, 320])
def test_nothing_is_wider_than_the_page(browser, url, pytestconfig, width):
    page = open_tab(browser, width)
    visit(page, url, pytestconfig)
    generate(page, 5)
    page.locator(f"{OURS}inspected h4").wait_for()
    page.locator(f"{OURS}inspected").get_by_text("white: as a sampler expects").first.wait_for()
    right = page.locator(f"{OURS}inspector").bounding_box()
    edges = page.locator(f"{OURS}inspected *").evaluate_all("all => all.map(e => e.getBoundingClientRect().right)")
    assert max(edges) <= right["x"] + right["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # At once: the panel may be refreshed between two looks.
    size = """place => { const plot = document.querySelector(place), box = plot?.getBoundingClientRect();
        return plot?.complete && box.width > 200 && [box.width, box.height]; }"""
    width, height = page.wait_for_function(size, arg=f"{OURS}inspected figure img").json_value()
    assert width / height == pytest.approx(720 / 300, abs=0.02)
    page.close()

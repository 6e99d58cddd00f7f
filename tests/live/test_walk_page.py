"""The walk on the real WebUI's page: audition, choose, vary, vary, change a part, go back, generate."""

from __future__ import annotations

import re

import pytest
from test_page import OURS, page, prepare_audition  # noqa: F401

SHEET = f"{OURS}sheet"


def press(page, action):  # noqa: F811
    page.locator(f"{SHEET} [data-action={action}]").click()


def choose(page, index):  # noqa: F811
    page.locator(f"{SHEET} .noiseorder-cell").nth(index).click()
    page.locator(f"{SHEET} .noiseorder-chosen").wait_for()


def wait_for_sheet(page, count):  # noqa: F811
    page.wait_for_function(f"() => document.querySelectorAll('{SHEET} .noiseorder-cell').length === {count}")
    page.wait_for_function(f"() => !document.querySelector('{OURS}audition_button[aria-disabled=true]')")
    # The tab goes on for a moment: it shows the previews in its gallery.
    page.wait_for_function("() => getComputedStyle(document.querySelector('#txt2img_interrupt')).display === 'none'")


def crumbs(page):  # noqa: F811
    return page.locator(f"{SHEET} .noiseorder-crumbs button").all_inner_texts()


def value(page, name):  # noqa: F811
    return page.locator(f"{OURS}{name} input, {OURS}{name} textarea").first.input_value()


def test_a_walk_and_the_image_at_its_end(page, server):  # noqa: F811
    prepare_audition(page, 3)
    page.locator(f"{OURS}audition_button").click()
    wait_for_sheet(page, 3)
    choose(page, 1)
    press(page, "subtle")
    wait_for_sheet(page, 4)  # and the one they come from
    choose(page, 2)
    press(page, "strong")
    wait_for_sheet(page, 4)
    choose(page, 3)
    press(page, "part")
    picture = page.locator(f"{SHEET} .noiseorder-picture img")
    box = picture.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    page.mouse.up()
    press(page, "audition")
    wait_for_sheet(page, 4)
    choose(page, 1)
    assert crumbs(page) == ["seed 1", "variant 1", "varied 1", "varied 2", "part 0"]
    assert value(page, "chain") == "1.2 v1; 2 v2; 64 v0 @ 0.5 0.1 0.95 0.6"
    press(page, "back")
    assert value(page, "chain") == "1.2 v1; 2 v2"
    page.locator(f"{SHEET} .noiseorder-crumbs button").last.click()
    press(page, "generate")
    # The infotext of the preview is that of the image: what was done is told of images alone.
    page.locator(f"{OURS}outcome").first.get_by_text(re.compile("^Noise: ")).wait_for()
    infotext = page.locator("#html_info_txt2img").first.inner_text()
    assert "Noise Order chain: 1.2 v1; 2 v2; 64 v0 @ 0.5 0.1 0.95 0.6" in infotext
    assert "Noise Order variant: 1" in infotext
    # From the infotext and from the page the same image.
    body = {"erase": 4.0, "variant": 1, "chain": value(page, "chain")}
    kind = server.kinds[0]
    by_api = server.txt2img(kind, body, prompt="a red cat", negative_prompt="", seed=1, steps=4)
    assert server.paste(kind, by_api.infotexts[0]).digest == by_api.digest


@pytest.mark.parametrize(("width", "least"), [(1280, 140), (400, 140)])
def test_previews_can_be_judged(page, width, least):  # noqa: F811
    page.set_viewport_size({"width": width, "height": 1000})
    prepare_audition(page, 9)
    page.locator(f"{OURS}audition_button").click()
    wait_for_sheet(page, 9)
    choose(page, 4)
    sizes = page.eval_on_selector_all(
        f"{SHEET} .noiseorder-cell img", "images => images.map(each => each.getBoundingClientRect().width)"
    )
    assert min(sizes) >= least
    cells = page.locator(f"{SHEET} .noiseorder-cells")
    assert cells.evaluate("each => each.scrollWidth <= each.clientWidth + 1"), "nothing to scroll sideways"
    wide = page.evaluate(
        f"width => [...document.querySelectorAll('{SHEET} *')].filter(each => each.checkVisibility()"
        " && each.getBoundingClientRect().right > width).map(each => each.outerHTML.slice(0, 100))",
        width,
    )
    assert not wide


def test_by_the_keyboard_alone(page):  # noqa: F811
    prepare_audition(page, 3)
    page.locator(f"{OURS}audition_button").press("Enter")
    wait_for_sheet(page, 3)
    cell = page.locator(f"{SHEET} .noiseorder-cell")
    cell.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(f"{SHEET} .noiseorder-chosen").wait_for()
    assert re.search("variant 1", " ".join(crumbs(page)))
    page.locator(f"{SHEET} [data-action=part]").press("Enter")
    for side, percent in (("left", 50), ("top", 0), ("right", 100), ("bottom", 40)):
        field = page.locator(f"{SHEET} [data-side={side}]")
        field.fill(str(percent))
        field.press("Tab")
    page.locator(f"{SHEET} [data-action=audition]").press("Enter")
    wait_for_sheet(page, 4)
    cell.nth(1).press("Enter")
    assert value(page, "chain") == "64 v0 @ 0.5 0 1 0.4"

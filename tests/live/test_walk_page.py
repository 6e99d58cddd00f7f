"""The walk on the real WebUI's page: audition, choose, vary, vary, change a part, go back, generate."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from test_page import MILLISECONDS, OURS, open_page, page, prepare_audition  # noqa: F401

SHEET = f"{OURS}sheet"


def press(page, action):  # noqa: F811
    page.locator(f"{SHEET} [data-action={action}]").click()


def choose(page, index):  # noqa: F811
    page.locator(f"{SHEET} .noiseorder-cell").nth(index).click()
    page.locator(f"{SHEET} .noiseorder-chosen").wait_for()


def wait_for_sheet(page, count):  # noqa: F811
    page.wait_for_function(f"() => document.querySelectorAll('{SHEET} .noiseorder-cell').length === {count}")
    page.wait_for_function(f"() => !document.querySelector('{OURS}audition_button[aria-disabled=true]')")
    # The tab goes on for a moment, to show the previews in its gallery: what is pressed below the sheet waits for that,
    # and would leave the old sheet there meanwhile.
    page.wait_for_function("() => getComputedStyle(document.querySelector('#txt2img_interrupt')).display === 'none'")


def crumbs(page):  # noqa: F811
    return page.locator(f"{SHEET} .noiseorder-crumbs button").all_inner_texts()


def value(page, name):  # noqa: F811
    return page.locator(f"{OURS}{name} input, {OURS}{name} textarea").first.input_value()


def finished(page):  # noqa: F811
    """Infotext and pixels of the image in the gallery, as its file has them. Previews are in no such folder."""
    source = page.wait_for_function(
        "() => [...document.querySelectorAll('#txt2img_gallery img')].map(({src}) => src)"
        ".find((src) => src.includes('txt2img-images'))"
    ).json_value()
    image = Image.open(io.BytesIO(page.request.get(source).body()))
    return image.info["parameters"], np.asarray(image.convert("RGB"))


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
    page.locator(f"{OURS}outcome").first.get_by_text("of this seed's noise kept").wait_for()
    infotext, pixels = finished(page)
    assert "Noise Order chain: 1.2 v1; 2 v2; 64 v0 @ 0.5 0.1 0.95 0.6" in infotext
    assert "Noise Order variant: 1" in infotext
    pasted = server.paste(server.kinds[0], infotext)
    assert (pasted.pixels[0] == pixels).all(), "from the page and from the infotext the same image"


@pytest.mark.parametrize(("width", "least"), [(1280, 140), (400, 120)])
def test_previews_can_be_judged(page, width, least):  # noqa: F811
    page.set_viewport_size({"width": width, "height": 1000})
    prepare_audition(page, 9)
    page.locator(f"{OURS}audition_button").click()
    wait_for_sheet(page, 9)
    choose(page, 4)
    places = page.eval_on_selector_all(
        f"{SHEET} .noiseorder-cell img",
        "images => images.map(each => each.getBoundingClientRect()).map(({width, x}) => [width, x])",
    )
    assert min(size for size, _ in places) >= least
    assert len({round(x) for _, x in places}) >= 2, "two in a row"
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


@pytest.fixture
def touched(browser, server):
    """The page on a phone."""
    server.load(server.kinds[0])
    page = browser.new_page(viewport={"width": 400, "height": 900}, has_touch=True)  # noqa: F811
    page.set_default_timeout(MILLISECONDS)
    open_page(page, server)
    yield page
    page.close()


def test_a_part_is_drawn_by_touch(touched):
    prepare_audition(touched, 2)
    touched.locator(f"{OURS}audition_button").tap()
    wait_for_sheet(touched, 2)
    touched.locator(f"{SHEET} .noiseorder-cell").nth(1).tap()
    touched.locator(f"{SHEET} [data-action=part]").tap()
    picture = touched.locator(f"{SHEET} .noiseorder-picture")
    picture.scroll_into_view_if_needed()
    box, scrolled = picture.bounding_box(), touched.evaluate("scrollY")
    device = touched.context.new_cdp_session(touched)
    for kind, points in (("Start", [(0.9, 0.2)]), ("Move", [(0.7, 0.4)]), ("Move", [(0.4, 0.7)]), ("End", [])):
        at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points]
        device.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": at})
    sides = [int(side.input_value()) for side in touched.locator(f"{SHEET} .noiseorder-part input").all()]
    assert np.abs(np.subtract(sides, (40, 20, 90, 70))).max() <= 1, sides
    assert touched.evaluate("scrollY") == scrolled
    touched.wait_for_timeout(800)  # a tap within a blink after a drag only ends the drag's fling
    touched.locator(f"{SHEET} [data-action=audition]").tap()
    wait_for_sheet(touched, 3)
    touched.locator(f"{SHEET} .noiseorder-cell").nth(1).tap()
    touched.wait_for_function(f"() => document.querySelector('{OURS}chain input, {OURS}chain textarea').value")
    assert [float(side) for side in value(touched, "chain").split("@ ")[1].split()] == [side / 100 for side in sides]

"""The playground's page as a user uses it: open, set, generate, look."""

from __future__ import annotations

import base64
import io
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from handling import choose, fill, open_tab, unfold
from PIL import Image

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.playground.audition import audition
from lib_noiseorder.playground.comparison import CANDIDATES, CFG_SCALE, COUNT, MODEL, STEPS, compare, load
from lib_noiseorder.playground.page import EXAMPLES
from lib_noiseorder.presets import TWO_STEP

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def url(tmp_path_factory, data):
    log = tmp_path_factory.mktemp("page") / "log.txt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-u", "-m", "lib_noiseorder.playground", "--no-browser", "--port", str(port)]
    command += ["--data", str(data)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/"
    try:
        # As long as it takes: an import takes minutes on a busy machine.
        while True:
            assert process.poll() is None, log.read_text()
            try:
                requests.get(address, timeout=5).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def visit(tab, url, theme="light"):
    """The page as it opens, with the result of its first example."""
    tab.goto(f"{url}?__theme={theme}", wait_until="domcontentloaded")
    tab.locator("#noiseorder_sheet .noiseorder-cell").nth(15).wait_for()


@pytest.fixture
def page(tab, url):
    visit(tab, url)
    tab.locator("#model label").get_by_text("UNet, ε-prediction").click()
    fill(tab, "cfg_scale", 1.5)
    return tab


def read_images(page, half):
    """The images shown in one half, as pixels."""
    elements = page.locator(f"#{half} figure img").all()
    encoded = [image.get_attribute("src").partition(",")[2] for image in elements]
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in encoded]


def generate(page):
    page.evaluate("() => { window.seen = document.querySelector('#summary')?.innerText }")
    page.locator("#generate").click()
    page.wait_for_function(
        "() => { const text = document.querySelector('#summary')?.innerText;"
        " return text?.includes('evaluations per image') && text !== window.seen }"
    )


@pytest.fixture(scope="module")
def first():
    """The sheet of the first example, made here."""
    config = NoiseOrderConfig(True, audition=CANDIDATES)
    return audition(load(MODEL), EXAMPLES[0], "", range(1, 1 + COUNT), STEPS, CFG_SCALE, config)


def test_opens_with_the_result_of_its_first_example_beside_the_controls(tab, url, first):
    visit(tab, url)
    sheet = tab.locator("#noiseorder_sheet").first
    assert first.tally() in sheet.inner_text()
    sources = [image.get_attribute("src").partition(",")[2] for image in sheet.locator(".noiseorder-cell img").all()]
    for encoded, image in zip(sources, first.images, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
        assert abs(pixels.astype(int) - image).max() <= 1
    controls, result = tab.locator("#generate").bounding_box(), sheet.bounding_box()
    assert result["x"] > controls["x"] + controls["width"]
    assert result["y"] < 400


def test_the_first_example_shows_what_choosing_is_good_for(first):
    """Its page and docs/playground.md say so; what it brings on average is in docs/evidence.md."""
    assert "3 of 4 as they come, 4 of 4 as the model chooses, 4 of 4 with the best chosen by eye" in first.tally()


def test_an_example_comes_with_its_model_and_its_result(page):
    page.get_by_text("a yellow tee on speckles").first.click()
    page.locator("#noiseorder_sheet").get_by_text("yellow tee; on ").first.wait_for()
    assert page.locator("#model input:checked").get_attribute("value") == "UNet of the cluttered world, ε-prediction"


def test_everything_is_asked_of_the_page_s_own_server(browser, url):
    page = open_tab(browser)
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    page.on("websocket", lambda socket: urls.append(socket.url.replace("ws:", "http:")))
    page.goto(url, wait_until="domcontentloaded")
    page.locator("#noiseorder_sheet .noiseorder-cell").first.wait_for()
    generate(page)
    page.wait_for_load_state("networkidle")
    assert len(urls) > 5
    assert [address for address in urls if not address.startswith((url, "data:", "blob:"))] == []
    # Connecting beforehand is no request, but tells the other server of this visit.
    links = page.locator("link[href], script[src]").evaluate_all("all => all.map(e => e.href || e.src)")
    assert [address for address in links if not address.startswith(url)] == []
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways(browser, url, theme):
    page = open_tab(browser, 400)
    visit(page, url, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    button, result = page.locator("#generate").bounding_box(), page.locator("#noiseorder_sheet").first.bounding_box()
    assert 0 < result["y"] - button["y"] - button["height"] < 100, "the result is beneath prompt and button"
    assert page.locator("#model").bounding_box()["y"] > result["y"] + result["height"]
    page.locator("#inspect input[type=checkbox]").check()
    generate(page)
    page.locator("#inspected h4").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.close()


def test_two_images_without_and_with(page):
    fill(page, "count", 1)
    fill(page, "steps", 4)
    generate(page)
    for half in ("without", "with"):
        page.locator(f"#{half} figure img").first.wait_for()
        assert page.locator(f"#{half} figure img").count() == 1
    without, modulated = read_images(page, "without"), read_images(page, "with")
    assert without[0].size == modulated[0].size == (128, 128)
    assert without[0].tobytes() != modulated[0].tobytes()
    assert re.match(r"seed 1 [✓✗]\n", page.locator("#without figcaption").first.inner_text())
    assert "with the seed's own (1 is the same, 0 another seed)" in page.locator("#summary").first.inner_text()


def test_off_by_hand_gives_the_same_image(page):
    fill(page, "count", 1)
    fill(page, "steps", 4)
    fill(page, "noiseorder_erase", 1)
    fill(page, "noiseorder_inject", 0)
    page.get_by_text("Nothing is changed: Erase is 1 and Inject is 0.").wait_for()
    generate(page)
    assert read_images(page, "without")[0].tobytes() == read_images(page, "with")[0].tobytes()


def test_own_presets_are_in_the_folder_of_the_data(page, url, data):
    (data / "presets.json").write_text('{"version": 1, "presets": {"Mine": {"erase": 9}}}')
    visit(page, url)
    choose(page, "noiseorder_preset", "Mine")
    page.wait_for_function("() => document.querySelector('#noiseorder_erase input[type=number]').value === '9'")
    (data / "presets.json").unlink()


def test_variants_beside_without_and_with(page):
    fill(page, "count", 1)
    fill(page, "steps", 2)
    assert not page.locator("#erased").first.is_visible()
    choose(page, "noiseorder_preset", TWO_STEP)
    for name in ("original", "erased", "injected"):
        page.locator(f"#noiseorder_compare_{name} input[type=checkbox]").check()
    generate(page)
    for column in ("without", "erased", "injected", "with"):
        page.locator(f"#{column} figure img").first.wait_for()
        assert page.locator(f"#{column} figure img").count() == 1
    images = {column: read_images(page, column) for column in ("without", "erased", "injected", "with")}
    assert len({image[0].tobytes() for image in images.values()}) == 4
    assert "Injected:" in page.locator("#summary").first.inner_text()
    for name in ("erased", "injected"):
        page.locator(f"#noiseorder_compare_{name} input[type=checkbox]").uncheck()
    fill(page, "noiseorder_inject", 0)
    generate(page)
    page.locator("#erased").first.wait_for(state="hidden")
    assert read_images(page, "with")[0].tobytes() == images["erased"][0].tobytes()


def test_inspector(page):
    fill(page, "count", 1)
    fill(page, "steps", 4)
    fill(page, "noiseorder_inject", 0.05)
    generate(page)
    without = read_images(page, "with")[0].tobytes()
    assert page.locator("#inspected table").count() == 0
    unfold(page)
    fill(page, "noiseorder_levels", 2)
    fill(page, "noiseorder_levels", 1)
    page.locator("#inspect input[type=checkbox]").check()
    generate(page)
    page.locator("#inspected h4").get_by_text("Seed 1").wait_for()
    for word in ("rms", "kurtosis", "cosine", "seen before", "seen after"):
        page.locator("#inspected th").get_by_text(word, exact=True).first.wait_for()
    assert page.locator("#inspected img").count() == 3 + 1 + 2
    assert read_images(page, "with")[0].tobytes() == without
    cells = page.locator("#inspected tr").filter(has_text="before").first.locator("td").all_inner_texts()
    assert cells[3] == "1.000", "the seed's own noise, to itself"


def test_the_other_model(page):
    page.locator("#model label").get_by_text("DiT, rectified flow").click()
    fill(page, "count", 2)
    fill(page, "steps", 4)
    generate(page)
    page.locator("#with figure img").nth(1).wait_for()
    assert page.locator("#with figure img").count() == 2


def test_a_model_of_the_other_world_comes_with_a_prompt_of_it(page):
    prompt = page.locator("#prompt textarea")
    page.locator("#model label").get_by_text("DiT of the cluttered world").click()
    page.wait_for_function("() => document.querySelector('#prompt textarea').value.endsWith(' on stripes')")
    fill(page, "count", 1)
    fill(page, "steps", 4)
    generate(page)
    page.locator("#with figure img").first.wait_for()
    assert "with the right ground too" in page.locator("#summary").first.inner_text()
    prompt.fill("a red tee on grey")
    page.locator("#model label").get_by_text("UNet of the cluttered world").click()
    generate(page)
    assert prompt.input_value() == "a red tee on grey", "a prompt that fits stays"
    assert page.locator("#steps input[type=number]").input_value() == "4"


def test_a_distilled_model_comes_with_its_steps_and_cfg(page):
    page.locator("#model label").get_by_text("distilled to 4 steps").click()
    page.wait_for_function("() => document.querySelector('#cfg_scale input[type=number]').value === '1'")
    assert page.locator("#steps input[type=number]").input_value() == "4"
    choose(page, "noiseorder_preset", "Auto")
    page.locator("#noiseorder_cost").get_by_text("a few-step or guidance-distilled model").wait_for()
    page.locator("#noiseorder_cost").get_by_text("of 4 (4 steps, CFG 1)").wait_for()
    fill(page, "count", 1)
    generate(page)
    fill(page, "cfg_scale", 3)
    page.locator("#generate").click()
    page.get_by_text("use CFG scale 1").first.wait_for()


def test_a_prompt_of_another_world_is_explained(page):
    page.locator("#prompt textarea").fill("a purple elephant left of a blue ring")
    page.locator("#generate").click()
    page.get_by_text("'purple'").first.wait_for()


def test_eight_images_twice(page):
    fill(page, "count", 8)
    generate(page)
    page.locator("#seed input").fill("101")
    page.locator("#seed input").press("Tab")
    page.locator("#generate").click()
    page.locator("#with figcaption").get_by_text("seed 108").wait_for()
    assert page.locator("#with figure img").count() == 8


def test_audition(page):
    """The previews with the checker's verdicts, the choice by mouse and by keyboard, and the image of the variant."""
    fill(page, "count", 2)
    fill(page, "steps", 4)
    unfold(page)
    fill(page, "noiseorder_audition", 3)
    page.locator("#audition").click()
    cells = page.locator("#noiseorder_sheet .noiseorder-cell")
    page.locator("#noiseorder_sheet").get_by_text("3 candidates at 3 of 4 steps").wait_for()
    assert cells.count() == 6
    assert len(re.findall("[✓✗]", page.locator("#noiseorder_sheet").first.inner_text())) == 6
    cells.nth(0).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.locator("#noiseorder_sheet .noiseorder-told").get_by_text("Variant 2 is chosen").wait_for()
    choice = page.locator("#noiseorder_sheet .noiseorder-cell[aria-pressed=true]")
    assert choice.get_attribute("aria-label") == "Choose variant 2, seed 2"
    fill(page, "noiseorder_audition", 0)
    assert page.locator("#noiseorder_variant input[type=number]").input_value() == "2"
    generate(page)
    assert page.locator("#with figure img").count() == 2


def test_a_walk_from_the_closed_panel(page):
    """Choose, vary and change a part without opening anything, and generate what is shown."""
    fill(page, "count", 2)
    fill(page, "steps", 4)
    sheet = page.locator("#noiseorder_sheet")
    page.locator("#audition").click()
    sheet.get_by_text("4 candidates at 3 of 4 steps").wait_for()
    sheet.locator(".noiseorder-cell").nth(7).click()
    for press, label in (("subtle", "Choose varied 1, seed 2"), ("part", "Choose part 2, seed 2")):
        sheet.locator(f"[data-action={press}]").click()
        if press == "part":
            sheet.locator("[data-action=audition]").click()
        sheet.locator(f'.noiseorder-cell[aria-label="{label}"]').click()
    chain = "1.2 v1; 64 v2 @ 0.25 0.25 0.75 0.75"
    names = sheet.locator(".noiseorder-crumbs button").all_inner_texts()
    assert names == ["seed 1", "variant 3 · seed 2", "varied 1", "part 2"]
    assert sheet.locator(".noiseorder-cell").count() == 5, "of the chosen image alone"
    sheet.locator("[data-action=generate]").click()
    page.locator("#with figure img").nth(1).wait_for()
    config = NoiseOrderConfig(True, variant=3, chain=chain)
    result = compare(load("unet"), EXAMPLES[0], "", [1, 2], 4, 1.5, config)
    assert abs(np.asarray(read_images(page, "with")[1]).astype(int) - result.modulated.images[1]).max() <= 1
    # Of another prompt it is another.
    page.locator("#prompt textarea").fill("a yellow square above a green cross")
    sheet.get_by_text("Made with other settings").wait_for()


def test_what_cannot_be_auditioned_is_told_in_the_sheet(page):
    page.locator("#prompt textarea").fill("a purple elephant left of a blue ring")
    page.locator("#audition").click()
    page.locator("#noiseorder_sheet .noiseorder-told").get_by_text("'purple'").wait_for()
    assert page.locator("#audition[aria-disabled=true]").count() == 0

"""The playground's page as a person uses it: open, set, generate, look."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from PIL import Image

ROOT = Path(__file__).parents[2]
MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    log = tmp_path_factory.mktemp("page") / "log.txt"
    port = 17860 + hash(sys.version) % 1000
    command = [sys.executable, "-u", "-m", "lib_noiseorder.playground", "--no-browser", "--port", str(port)]
    with log.open("wb") as out:
        served = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            assert served.poll() is None, log.read_text()
            try:
                requests.get(address, timeout=5).raise_for_status()
                break
            except requests.ConnectionError:
                time.sleep(0.5)
        yield address
    finally:
        served.terminate()
        served.wait()


@pytest.fixture
def page(browser, url):
    opened = browser.new_page(viewport={"width": 1400, "height": 1600})
    opened.set_default_timeout(MILLISECONDS)
    opened.goto(url, wait_until="domcontentloaded")
    opened.locator("#generate").wait_for()
    yield opened
    opened.close()


def number(page, name, value):
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def choose(page, name, value):
    page.locator(f"#{name} input").click()
    # A tick stands before the chosen one's name.
    page.locator("ul.options li").filter(has_text=re.compile(rf"(^|\W){value}\s*$")).click()


def pictures(page, half):
    """The images shown in one half, as pixels."""
    shown = page.locator(f"#{half} figure img").all()
    encoded = [image.get_attribute("src").partition(",")[2] for image in shown]
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in encoded]


def generate(page):
    page.locator("#summary").first.evaluate("element => { element.dataset.seen = element.innerText }")
    page.locator("#generate").click()
    page.wait_for_function(
        "() => { const e = document.querySelector('#summary');"
        " return e.innerText.includes('evaluations per image') && e.innerText !== e.dataset.seen }"
    )


def test_two_images_without_and_with(page):
    number(page, "count", 1)
    number(page, "steps", 4)
    generate(page)
    for half in ("without", "with"):
        page.locator(f"#{half} figure img").first.wait_for()
        assert page.locator(f"#{half} figure img").count() == 1
    without, modulated = pictures(page, "without"), pictures(page, "with")
    assert without[0].size == modulated[0].size == (128, 128)
    assert without[0].tobytes() != modulated[0].tobytes()
    assert re.match(r"seed 1 [✓✗]\n", page.locator("#without figcaption").first.inner_text())
    assert "cosine to the seed's noise" in page.locator("#summary").first.inner_text()


def test_off_by_hand_gives_the_same_picture(page):
    number(page, "count", 1)
    number(page, "steps", 4)
    number(page, "noiseorder_erase", 1)
    number(page, "noiseorder_inject", 0)
    page.get_by_text("Nothing is changed: Erase is 1 and Inject is 0.").wait_for()
    generate(page)
    assert pictures(page, "without")[0].tobytes() == pictures(page, "with")[0].tobytes()


def test_cost_line_follows_the_controls(page):
    cost = page.locator("#noiseorder_cost")
    cost.get_by_text("Cost: 2 model evaluations per image.").wait_for()
    page.locator("#noiseorder_advanced .label-wrap").click()
    number(page, "noiseorder_levels", 3)
    cost.get_by_text("Cost: 6 model evaluations per image.").wait_for()
    choose(page, "noiseorder_direction", "denoised")
    cost.get_by_text("Cost: 3 model evaluations per image.").wait_for()


def test_preset_sets_the_controls(page):
    choose(page, "noiseorder_preset", "Paper, as printed")
    page.locator("#noiseorder_cost").get_by_text("Cost: 3 model evaluations per image.").wait_for()
    page.locator("#noiseorder_advanced .label-wrap").click()
    assert page.locator("#noiseorder_normalisation input").input_value() == "as printed"
    assert page.locator("#noiseorder_last_level input[type=number]").input_value() == "0.1"


def test_variants_beside_without_and_with(page):
    number(page, "count", 2)
    number(page, "steps", 4)
    assert not page.locator("#erased").is_visible()
    for name in ("original", "erased", "injected"):
        page.locator(f"#noiseorder_compare_{name} input[type=checkbox]").check()
    generate(page)
    for column in ("without", "erased", "injected", "with"):
        page.locator(f"#{column} figure img").nth(1).wait_for()
        assert page.locator(f"#{column} figure img").count() == 2
    seen = {column: pictures(page, column) for column in ("without", "erased", "injected", "with")}
    assert len({image[0].tobytes() for image in seen.values()}) == 4
    assert "Injected:" in page.locator("#summary").first.inner_text()
    for name in ("erased", "injected"):
        page.locator(f"#noiseorder_compare_{name} input[type=checkbox]").uncheck()
    number(page, "noiseorder_inject", 0)
    generate(page)
    page.locator("#erased").wait_for(state="hidden")
    assert pictures(page, "with")[0].tobytes() == seen["erased"][0].tobytes()


def test_inspector(page):
    number(page, "count", 1)
    number(page, "steps", 4)
    generate(page)
    without = pictures(page, "with")[0].tobytes()
    assert page.locator("#inspected table").count() == 0
    page.locator("#noiseorder_advanced .label-wrap").click()
    number(page, "noiseorder_levels", 2)
    number(page, "noiseorder_levels", 1)
    page.locator("#inspect input[type=checkbox]").check()
    generate(page)
    page.locator("#inspected h4").get_by_text("Seed 1").wait_for()
    for word in ("rms", "kurtosis", "cosine", "seen before", "seen after"):
        page.locator("#inspected th").get_by_text(word, exact=True).first.wait_for()
    assert page.locator("#inspected img").count() == 3 + 1 + 2
    assert pictures(page, "with")[0].tobytes() == without
    cells = page.locator("#inspected tr").filter(has_text="before").first.locator("td").all_inner_texts()
    assert cells[3] == "1.000", "the seed's own noise, to itself"


def test_the_other_model(page):
    page.locator("#model label").get_by_text("DiT, rectified flow").click()
    number(page, "count", 2)
    number(page, "steps", 4)
    generate(page)
    page.locator("#with figure img").nth(1).wait_for()
    assert page.locator("#with figure img").count() == 2


def test_a_prompt_of_another_world_is_explained(page):
    page.locator("#prompt textarea").fill("a purple elephant left of a blue ring")
    page.locator("#generate").click()
    page.get_by_text("'purple'").first.wait_for()


def test_eight_images_twice_take_seconds(page):
    generate(page)
    start = time.perf_counter()
    page.locator("#seed input").fill("101")
    page.locator("#seed input").press("Tab")
    page.locator("#generate").click()
    page.locator("#with figcaption").get_by_text("seed 108").wait_for()
    assert time.perf_counter() - start < 30

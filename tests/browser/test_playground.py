"""The playground's page as a user uses it: open, set, generate, look."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core.schedule import key_levels
from lib_noiseorder.playground.audition import audition
from lib_noiseorder.playground.comparison import CANDIDATES, CFG_SCALE, COUNT, MODEL, STEPS, compare, load
from lib_noiseorder.playground.page import EXAMPLES
from lib_noiseorder.presets import TWO_STEP

ROOT = Path(__file__).parents[2]
MILLISECONDS = 60_000
OPTIONS = "ul.options li, ul.option-list li"
"""The second is Gradio 6's."""


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


def visit(browser, url, width=1400, theme="light"):
    """The page as it opens, with the result of its first example."""
    page = browser.new_page(viewport={"width": width, "height": 1600})
    page.set_default_timeout(MILLISECONDS)
    page.goto(f"{url}?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#noiseorder_sheet .noiseorder-cell").nth(15).wait_for()
    return page


@pytest.fixture
def page(browser, url):
    page = visit(browser, url)
    page.locator("#model label").get_by_text("UNet, ε-prediction").click()
    fill(page, "cfg_scale", 1.5)
    yield page
    page.close()


def fill(page, name, value):
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def choose(page, name, value):
    page.locator(f"#{name} input").click()
    # A tick stands before the chosen one's name.
    page.locator(OPTIONS).filter(has_text=re.compile(rf"(^|\W){re.escape(value)}\s*$")).click()


def read_choices(page, name):
    """What a dropdown offers now."""
    page.locator(f"#{name} input").click()
    page.locator(OPTIONS).first.wait_for()
    names = [text.strip().removeprefix("✓").strip() for text in page.locator(OPTIONS).all_inner_texts()]
    page.locator(f"#{name} input").press("Escape")
    page.locator(f"#{name} input").blur()
    return names


def unfold(page, name="advanced"):
    page.locator(f"#noiseorder_{name} > .label-wrap").click()
    # Gradio 6 makes what is inside only now. An answer of the server that comes while it does puts first values back
    # over what was written in that quarter of a second, sooner than a user can.
    page.wait_for_timeout(1000)


def read_curve(page):
    """The words of the drawing, once it shows the settings that the words tell."""
    curve = page.locator("#noiseorder_curve [role=img]")
    curve.locator("svg").wait_for(state="attached")
    return curve.get_attribute("aria-label")


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


def test_opens_with_the_result_of_its_first_example_beside_the_controls(browser, url, first):
    page = visit(browser, url)
    sheet = page.locator("#noiseorder_sheet").first
    assert first.tally() in sheet.inner_text()
    sources = [image.get_attribute("src").partition(",")[2] for image in sheet.locator(".noiseorder-cell img").all()]
    for encoded, image in zip(sources, first.images, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
        assert abs(pixels.astype(int) - image).max() <= 1
    controls, result = page.locator("#generate").bounding_box(), sheet.bounding_box()
    assert result["x"] > controls["x"] + controls["width"]
    assert result["y"] < 400
    page.close()


def test_the_first_example_shows_what_choosing_is_good_for(first):
    """Its page and docs/playground.md say so; what it brings on average is in docs/evidence.md."""
    assert "3 of 4 as they come, 4 of 4 as the model chooses, 4 of 4 with the best chosen by eye" in first.tally()


def test_an_example_comes_with_its_model_and_its_result(page):
    page.get_by_text("a yellow tee on speckles").first.click()
    page.locator("#noiseorder_sheet").get_by_text("yellow tee; on ").first.wait_for()
    assert page.locator("#model input:checked").get_attribute("value") == "UNet of the cluttered world, ε-prediction"


def test_everything_is_asked_of_the_page_s_own_server(browser, url):
    page = browser.new_page()
    page.set_default_timeout(MILLISECONDS)
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
    page = visit(browser, url, 400, theme)
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


def test_a_slider_shows_the_useful_part_and_the_box_takes_everything(page):
    for name, low, high, beyond in (("erase", "1", "16", "64"), ("inject", "-0.2", "0.3", "-0.9")):
        page.locator(f'#noiseorder_{name} input[type=range][min="{low}"][max="{high}"]').wait_for()
        ends = page.locator(f"#noiseorder_{name} .min_value, #noiseorder_{name} .max_value")  # Gradio 6 writes them
        assert ends.all_inner_texts() in ([], [low, high])
        box = page.locator(f"#noiseorder_{name} input[type=number]")
        fill(page, f"noiseorder_{name}", beyond)
        # Through the box and out again, as who only looks does.
        box.focus()
        box.press("Tab")
        page.wait_for_timeout(300)
        assert box.input_value() == beyond
        fill(page, f"noiseorder_{name}", 100)
        assert box.input_value() == {"erase": "64", "inject": "1"}[name], "what is not allowed is held back"
    page.locator("#noiseorder_erase input[type=range]").fill("3")
    assert page.locator("#noiseorder_erase input[type=number]").input_value() == "3"


def test_cost_line_follows_the_controls(page):
    cost = page.locator("#noiseorder_cost")
    cost.get_by_text("Costs nothing.").wait_for()
    choose(page, "noiseorder_preset", TWO_STEP)
    cost.get_by_text("Cost: +2 model evaluations per image").wait_for()
    unfold(page)
    fill(page, "noiseorder_levels", 3)
    cost.get_by_text("Cost: +6 model evaluations per image").wait_for()
    choose(page, "noiseorder_direction", "denoised")
    cost.get_by_text("Cost: +3 model evaluations per image").wait_for()


def test_preset_sets_the_controls(page):
    choose(page, "noiseorder_preset", "Paper, as printed")
    page.locator("#noiseorder_cost").get_by_text("Cost: +3 model evaluations per image").wait_for()
    unfold(page)
    assert page.locator("#noiseorder_normalisation input").input_value() == "as printed"
    assert page.locator("#noiseorder_last_level input[type=number]").input_value() == "0.1"


@pytest.mark.parametrize(
    ("levels", "first", "last", "weights"),
    [(3, 0.9, 0.7, (1, 1, 1)), (2, 1, 0.5, (2, 0, 0.5)), (8, 0.95, 0.3, (0, 2, 1))],
)
def test_the_drawing_shows_the_levels_and_weights_of_the_method(page, levels, first, last, weights):
    choose(page, "noiseorder_preset", TWO_STEP)
    unfold(page)
    # The middle weight can be set while there is a middle.
    for name, value in zip(
        ("levels", "first_level", "last_level", "layout", "structure", "detail", "levels"),
        (3, first, last, *weights, levels),
        strict=True,
    ):
        fill(page, f"noiseorder_{name}", value)
    keys = key_levels(levels, first, last, weights)
    label = ", ".join(f"{key.fraction:.2f}" for key in keys)
    label += " with weights " + ", ".join(f"{key.weight:.2f}" for key in keys)
    page.locator(f'#noiseorder_curve [aria-label*="{levels} key levels at {label};"] svg').wait_for()
    places = page.locator("#noiseorder_curve circle").evaluate_all(
        "all => all.map(c => [Number(c.getAttribute('cx')), Number(c.getAttribute('cy'))])"
    )
    assert len(places) == levels
    # Left to right from noise to image, and higher for a greater weight, both in proportion.
    for (x, y), key in zip(places, keys, strict=True):
        assert (x - places[0][0]) == pytest.approx(336 * (first - key.fraction))
        assert (places[0][1] - y) == pytest.approx(28 * (key.weight - keys[0].weight))
    assert page.locator("#noiseorder_curve svg").bounding_box()["height"] > 40


def test_the_drawing_says_what_is_not_used(page):
    unfold(page)
    page.locator("#noiseorder_curve").get_by_text("not used, Inject is 0").wait_for()
    fill(page, "noiseorder_inject", 0.05)
    assert read_curve(page).startswith("1 key level at 0.90;")
    choose(page, "noiseorder_preset", "Look-ahead")
    page.locator('#noiseorder_curve [aria-label*="1.00, 0.90, 0.80; look-ahead uses no weights"] svg').wait_for()
    fill(page, "noiseorder_inject", 0)
    page.locator("#noiseorder_curve").get_by_text("not used, Inject is 0").wait_for()
    assert page.locator("#noiseorder_curve svg").count() == 0
    fill(page, "noiseorder_inject", 0.05)
    page.locator("#noiseorder_curve svg").wait_for()


def test_a_preset_that_brings_little_says_so_when_it_is_chosen(page):
    message = page.locator("#noiseorder_said").get_by_text("Look-ahead is for few-step models")
    choose(page, "noiseorder_preset", "Look-ahead")
    message.wait_for()
    choose(page, "noiseorder_preset", "Default")
    message.wait_for(state="detached")


def test_the_share_of_the_cost_follows_steps_and_cfg(page):
    cost = page.locator("#noiseorder_cost").first
    choose(page, "noiseorder_preset", TWO_STEP)
    cost.get_by_text("+2 model evaluations per image, +10 % of 20 (10 steps, CFG 1.5)").wait_for()
    fill(page, "steps", 50)
    cost.get_by_text("+2 model evaluations per image, +2 % of 100").wait_for()
    fill(page, "cfg_scale", 1)
    cost.get_by_text("+2 model evaluations per image, +4 % of 50 (50 steps, CFG 1)").wait_for()
    choose(page, "noiseorder_preset", "Few steps")
    cost.get_by_text("+1 model evaluation per image, +2 % of 50").wait_for()
    fill(page, "noiseorder_inject", 0)
    cost.get_by_text("Costs nothing.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_drawing_can_be_seen_in_both_themes(browser, url, scheme):
    page = browser.new_page(viewport={"width": 1400, "height": 1600})
    page.set_default_timeout(MILLISECONDS)
    page.goto(f"{url}?__theme={scheme}", wait_until="domcontentloaded")
    choose(page, "noiseorder_preset", TWO_STEP)
    unfold(page)
    svg = page.locator("#noiseorder_curve svg")
    svg.wait_for()
    ink, paper = (
        svg.evaluate(
            """(svg, what) => {
            if (what === "color") return getComputedStyle(svg).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
            for (let e = svg; e; e = e.parentElement) {
                const found = getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number);
                if (found.length < 4 || found[3] > 0) return found.slice(0, 3);
            }
            return [255, 255, 255];
        }""",
            what,
        )
        for what in ("color", "background")
    )
    page.close()
    assert abs(sum(ink) - sum(paper)) > 300
    assert (sum(paper) < 380) is (scheme == "dark")


def test_nothing_is_open_at_first(page):
    for name in ("erase", "preset", "cost"):
        assert page.locator(f"#noiseorder_{name}").first.is_visible()
    for name in ("variant", "curve", "preset_name"):
        assert not page.locator(f"#noiseorder_{name}").first.is_visible()


def test_advanced_opens_by_the_keyboard(page):
    head = page.locator("#noiseorder_advanced > .label-wrap")
    page.locator("#noiseorder_advanced > .label-wrap[aria-expanded=false]").wait_for()
    for key in ("Enter", "Space"):
        head.focus()
        page.keyboard.press(key)
        page.locator("#noiseorder_variant").wait_for()
        page.locator("#noiseorder_advanced > .label-wrap[aria-expanded=true]").wait_for()
        head.click()
        page.locator("#noiseorder_variant").wait_for(state="hidden")


def test_auto_is_a_standing_choice_and_says_what_it_follows(page):
    cost, preset = page.locator("#noiseorder_cost").first, page.locator("#noiseorder_preset input")
    choose(page, "noiseorder_preset", "Auto")
    cost.get_by_text("a model that predicts noise (ε) is loaded, so “Erase and inject”").wait_for()
    page.locator("#model label").get_by_text("DiT, rectified flow").click()
    cost.get_by_text("a flow model is loaded").wait_for()
    assert preset.input_value() == "Auto"
    page.locator("#model label").get_by_text("4 steps").click()
    cost.get_by_text("so “Few steps”").wait_for()
    cost.get_by_text("+1 model evaluation per image").wait_for()
    assert preset.input_value() == "Auto"
    choose(page, "noiseorder_preset", "Erase only")
    cost.get_by_text("Costs nothing.").wait_for()
    assert "Auto" not in cost.inner_text()


def test_the_preset_s_label_says_when_a_control_was_changed(page):
    mark = page.locator("#noiseorder_preset .noiseorder-changed")
    page.locator("#noiseorder_cost").get_by_text("Costs nothing.").wait_for()
    assert not mark.is_visible()
    fill(page, "noiseorder_erase", 5)
    mark.wait_for()
    fill(page, "noiseorder_erase", 4)
    mark.wait_for(state="hidden")
    fill(page, "noiseorder_inject", 0.1)
    mark.wait_for()
    choose(page, "noiseorder_preset", "Erase only")
    mark.wait_for(state="hidden")
    page.locator("#noiseorder_compare_original input").check()
    page.locator("#noiseorder_cost").get_by_text("+20 model evaluations").wait_for()
    assert not mark.is_visible(), "what is made beside it is no part of a preset"


def test_only_what_has_a_say_is_shown(page):
    unfold(page)
    choose(page, "noiseorder_preset", TWO_STEP)

    def check(*names, hidden=()):
        for name in names:
            page.locator(f"#noiseorder_{name}").first.wait_for()
        for name in hidden:
            page.locator(f"#noiseorder_{name}").first.wait_for(state="hidden")

    check(
        "levels", "first_level", "variant", hidden=("last_level", "layout", "structure", "detail", "passes", "region")
    )
    fill(page, "noiseorder_levels", 2)
    check("last_level", "layout", "detail", hidden=("structure",))
    fill(page, "noiseorder_levels", 3)
    check("structure")
    choose(page, "noiseorder_direction", "look-ahead")
    check("last_level", hidden=("layout", "structure", "detail"))
    choose(page, "noiseorder_direction", "guidance")
    for name in ("layout", "structure", "detail"):
        fill(page, f"noiseorder_{name}", 0)
    fill(page, "noiseorder_levels", 1)
    page.locator("#noiseorder_cost").get_by_text("at least one must be above 0").wait_for()
    check("layout", "structure", "detail")  # what is wrong is shown
    fill(page, "noiseorder_layout", 1)
    fill(page, "noiseorder_inject", 0)
    check("variant", hidden=("direction", "levels", "first_level", "normalisation", "layout"))
    fill(page, "noiseorder_erase", 1)
    check(hidden=("variant", "audition"))


def test_own_presets_are_saved_renamed_and_deleted(page, browser, url, data):
    fill(page, "noiseorder_erase", 9)
    unfold(page)
    unfold(page, "presets")
    name, message = (
        page.locator("#noiseorder_preset_name").get_by_role("textbox"),
        page.locator("#noiseorder_preset_message"),
    )
    name.fill("default")
    page.locator("#noiseorder_preset_save").click()
    message.get_by_text("a built-in preset has that name").wait_for()
    name.fill("Mine")
    page.locator("#noiseorder_preset_save").click()
    message.get_by_text("Saved “Mine”.").wait_for()
    assert page.locator("#noiseorder_preset input").input_value() == "Mine"
    assert json.loads((data / "presets.json").read_text())["presets"]["Mine"]["erase"] == 9

    choose(page, "noiseorder_preset", "Default")
    page.wait_for_function("() => document.querySelector('#noiseorder_erase input[type=number]').value === '4'")
    # A page opened since then knows it too.
    other = browser.new_page()
    other.set_default_timeout(MILLISECONDS)
    other.goto(url, wait_until="domcontentloaded")
    choose(other, "noiseorder_preset", "Mine")
    other.wait_for_function("() => document.querySelector('#noiseorder_erase input[type=number]').value === '9'")
    other.close()

    choose(page, "noiseorder_preset", "Mine")
    page.wait_for_function("() => document.querySelector('#noiseorder_erase input[type=number]').value === '9'")
    name.fill("Yours")
    page.locator("#noiseorder_preset_rename").click()
    message.get_by_text("Renamed “Mine” to “Yours”.").wait_for()
    assert [text for text in read_choices(page, "noiseorder_preset") if text in ("Mine", "Yours")] == ["Yours"]
    page.locator("#noiseorder_preset_delete").click()
    message.get_by_text("Deleted “Yours”.").wait_for()
    assert "Yours" not in read_choices(page, "noiseorder_preset")
    page.locator("#noiseorder_preset_delete").click()
    message.get_by_text("choose one of your own (there is none yet)").wait_for()
    assert json.loads((data / "presets.json").read_text()) == {"version": 1, "presets": {}}


def test_a_preset_that_cannot_be_used_is_explained(page, data):
    (data / "presets.json").write_text('{"version": 1, "presets": {"Odd": {"erase": 99}}}')
    page.reload(wait_until="domcontentloaded")
    choose(page, "noiseorder_preset", "Odd")
    page.locator("#noiseorder_said").get_by_text("Erase (erase) = 99: must be a number from 1 to 64").wait_for()
    assert page.locator("#noiseorder_erase input[type=number]").input_value() == "4"
    (data / "presets.json").unlink()


def test_a_list_that_is_open_shows_what_was_saved_elsewhere(page, data):
    name, built_in = "Saved elsewhere", read_choices(page, "noiseorder_preset")
    (data / "presets.json").write_text(json.dumps({"version": 1, "presets": {name: {"erase": 2}}}))
    try:
        page.locator("#noiseorder_preset input").click()
        page.locator(OPTIONS).get_by_text(name).wait_for()
        names = [text.strip("✓ \n") for text in page.locator(OPTIONS).all_inner_texts()]
        assert names == [*built_in, name]
        page.locator(OPTIONS).get_by_text(name).click()
        page.wait_for_function("() => document.querySelector('#noiseorder_erase input[type=number]').value === '2'")
        assert page.locator("#noiseorder_preset input").input_value() == name
    finally:
        (data / "presets.json").unlink()
    option = page.locator(OPTIONS).get_by_text(name)
    page.locator("#noiseorder_preset input").click()
    page.wait_for_timeout(3000)
    if option.count():
        # The list is asked for anew when it gets the focus; after a choice it may still have had it.
        page.keyboard.press("Tab")
        page.locator("#noiseorder_preset input").click()
    option.wait_for(state="detached")
    assert [text.strip("✓ \n") for text in page.locator(OPTIONS).all_inner_texts()] == built_in


NAMES = (
    "![p](http://127.0.0.1:9/a.png)",
    "<img src=http://127.0.0.1:9/b.png>",
    '"><b onclick=1>*bold* & _under_ `code` $$x$$',
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_and_fetches_nothing(page, data, url, name):
    traffic = []
    page.on("request", lambda request: traffic.append(request))
    (data / "presets.json").write_text(json.dumps({"version": 1, "presets": {f"{name}2": {"erase": 99, name: 1}}}))
    page.reload(wait_until="domcontentloaded")
    choose(page, "noiseorder_preset", f"{name}2")
    page.locator("#noiseorder_said").get_by_text(f'Preset "{name}2" cannot be used.').wait_for()
    unfold(page)
    unfold(page, "presets")
    message = page.locator("#noiseorder_preset_message")
    page.locator("#noiseorder_preset_name").get_by_role("textbox").fill(name)
    page.locator("#noiseorder_preset_save").click()
    message.get_by_text(f"Saved “{name}”.").wait_for()
    page.locator("#noiseorder_preset_name").get_by_role("textbox").fill(f"{name}3")
    page.locator("#noiseorder_preset_rename").click()
    message.get_by_text(f"Renamed “{name}” to “{name}3”.").wait_for()
    page.locator("#noiseorder_preset_delete").click()
    message.get_by_text(f"Deleted “{name}3”.").wait_for()
    page.locator("#noiseorder_preset_delete").click()
    message.get_by_text(f"choose one of your own ({name}2)").wait_for()
    (data / "presets.json").unlink()
    elsewhere = [request for request in traffic if not request.url.startswith((url, "data:", "blob:"))]
    assert [request.url for request in elsewhere] == []


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
    fill(page, "count", 1)
    generate(page)
    fill(page, "cfg_scale", 3)
    page.locator("#generate").click()
    page.get_by_text("use CFG scale 1").first.wait_for()


def test_the_cost_is_asked_for_once_more_when_the_person_has_paused(page):
    """Of several answers under way, one to older settings may come last. Once for each pause: not for ever."""
    settled = (
        "() => JSON.parse(document.querySelector('#noiseorder_job textarea, #noiseorder_job input').value).settled"
    )
    before = page.evaluate(settled)
    page.locator("#model").click()
    page.wait_for_function(f"before => ({settled})() > before", arg=before)
    page.wait_for_timeout(3000)
    assert page.evaluate(settled) <= before + 2, "the pause after the fixture's own, and this one"


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
    fill(page, "count", 1)
    fill(page, "steps", 4)
    sheet = page.locator("#noiseorder_sheet")
    page.locator("#audition").click()
    sheet.get_by_text("4 candidates at 3 of 4 steps").wait_for()
    sheet.locator(".noiseorder-cell").nth(3).click()
    for press, label in (("subtle", "Choose varied 1, seed 1"), ("part", "Choose part 2, seed 1")):
        sheet.locator(f"[data-action={press}]").click()
        if press == "part":
            sheet.locator("[data-action=audition]").click()
        sheet.locator(f'.noiseorder-cell[aria-label="{label}"]').click()
    chain = "1.2 v1; 64 v2 @ 0.25 0.25 0.75 0.75"
    names = sheet.locator(".noiseorder-crumbs button").all_inner_texts()
    assert names == ["seed 1", "variant 3", "varied 1", "part 2"]
    sheet.locator("[data-action=generate]").click()
    page.locator("#with figure img").first.wait_for()
    config = NoiseOrderConfig(True, variant=3, chain=chain)
    result = compare(load("unet"), EXAMPLES[0], "", [1], 4, 1.5, config)
    assert abs(np.asarray(read_images(page, "with")[0]).astype(int) - result.modulated.images[0]).max() <= 1
    # Of another prompt it is another.
    page.locator("#prompt textarea").fill("a yellow square above a green cross")
    sheet.get_by_text("Made with other settings").wait_for()


def test_what_cannot_be_auditioned_is_told_in_the_sheet(page):
    page.locator("#prompt textarea").fill("a purple elephant left of a blue ring")
    page.locator("#audition").click()
    page.locator("#noiseorder_sheet .noiseorder-told").get_by_text("'purple'").wait_for()
    assert page.locator("#audition[aria-disabled=true]").count() == 0

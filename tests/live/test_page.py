"""The accordion in the real WebUI's page, as a user uses it."""

from __future__ import annotations

import json
import re

import pytest
import requests
from webui import WebUI

MILLISECONDS = 120_000
OURS = "#script_txt2img_noise_order_"


SEED = "#txt2img_seed input, #txt2img_seed textarea"


@pytest.fixture
def page(browser, server):
    server.load(server.kinds[0])
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    page.set_default_timeout(MILLISECONDS)
    page.on(
        "request", lambda request: setattr(page, "sheet", request.url) if "/audition/sheet/" in request.url else None
    )
    open_page(page, server)
    yield page
    page.close()


def open_page(page, server, seed=1):
    page.goto(server.url, wait_until="domcontentloaded")
    wait_until_built(page)
    page.locator("#txt2img_prompt textarea").fill("a red cat")
    for name, value in (("steps", 4), ("width", 64), ("height", 64), ("cfg_scale", 7)):
        fill(page, f"#txt2img_{name}", value)
    page.locator(SEED).first.fill(str(seed))
    page.locator(SEED).first.press("Tab")


def wait_until_built(page):
    page.locator("#txt2img_generate").wait_for()
    page.wait_for_function("() => typeof inputAccordionChecked === 'function' && uiCurrentTab !== null")


def fill(page, selector, value):
    field = page.locator(f"{selector} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def generate(page):
    """Press Generate and return the infotext the page shows under the new image."""
    info = page.locator("#html_info_txt2img").first
    before = info.inner_text()
    page.locator("#txt2img_generate").click()
    page.wait_for_function(
        "before => { const e = document.querySelector('#html_info_txt2img');"
        " return e && e.innerText.includes('Steps: 4') && e.innerText !== before"
        " && document.querySelector('#txt2img_gallery img') }",
        arg=before,
    )
    return info.inner_text()


def test_closed_and_off_at_first(page):
    assert not page.locator(f"{OURS}erase").is_visible()
    assert "Noise Order" not in generate(page)


def test_open_set_generate(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}cost").get_by_text("Costs nothing.").wait_for()
    fill(page, f"{OURS}erase", 2)
    fill(page, f"{OURS}inject", 0.05)
    page.locator(f"{OURS}cost").get_by_text("Cost: +2 model evaluations per image").wait_for()
    infotext = generate(page)
    assert re.search(r"Noise Order: 1\b", infotext)
    assert re.search(r"Noise Order erase: 2\b", infotext)
    assert page.locator("#txt2img_gallery img").count() >= 1


def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 400, "height": 900})
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}cost").get_by_text("Costs nothing.").wait_for()
    page.locator(f"{OURS}sheet .noiseorder-price").get_by_text("9 candidates").wait_for()
    assert page.locator(f"{OURS}enabled").bounding_box()["height"] < 600
    page.locator(f"{OURS}advanced > .label-wrap").click()
    page.locator(f"{OURS}presets > .label-wrap").click()
    fill(page, f"{OURS}inject", 0.05)
    fill(page, f"{OURS}levels", 3)
    page.locator(f"{OURS}help summary").click()
    page.locator(f"{OURS}detail").wait_for()
    wide = page.evaluate(
        f"""[...document.querySelectorAll('{OURS}enabled *')].filter(e => !e.closest('{OURS}inspector')
        && e.checkVisibility() && e.getBoundingClientRect().right > 400).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert not wide


def test_what_was_done_is_told_in_the_panel(page, server):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    outcome = page.locator(f"{OURS}outcome").first
    fill(page, f"{OURS}inject", 0.05)
    generate(page)
    outcome.get_by_text(
        re.compile(r"(Half|\d+ %) of this seed's noise kept; turned by 2\.9° by Inject, 2 model")
    ).wait_for()
    server.probe(fail_at=1)
    generate(page)
    outcome.get_by_text(re.compile("^Noise left as it is: .*the probe made the model fail")).wait_for()
    server.probe()
    page.locator(f"{OURS}enabled > .label-wrap").click()
    generate(page)
    page.wait_for_function(f"() => !document.querySelector('{OURS}outcome').textContent.trim()")


def test_says_where_it_works(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}about").get_by_text("Changes the noise an image starts from.").wait_for()


def test_pasting_an_infotext_sets_the_controls(page):
    text = (
        "a blue dog\nNegative prompt: bad\nSteps: 4, Sampler: Euler, Seed: 7, Size: 64x64, "
        "Noise Order: 1, Noise Order erase: 30, Noise Order inject: 0.4, "
        "Noise Order direction: denoised, Noise Order levels: 2, Noise Order first level: 0.8, "
        "Noise Order normalisation: orthonormal, Noise Order last level: 0.6"
    )
    page.locator("#txt2img_prompt textarea").fill(text)
    page.locator("#paste").first.click()
    page.wait_for_function("() => document.querySelector('#txt2img_prompt textarea').value === 'a blue dog'")
    page.locator(f"{OURS}erase").wait_for(state="visible")
    page.wait_for_function("id => document.querySelector(id + 'erase input[type=number]').value === '30'", arg=OURS)
    # Beyond what the sliders show.
    for name, high, value in (("erase", "16", "30"), ("inject", "0.3", "0.4")):
        page.locator(f'{OURS}{name} input[type=range][max="{high}"]').wait_for()
        page.locator(f"{OURS}{name} input[type=number]").focus()
        page.keyboard.press("Tab")
        assert page.locator(f"{OURS}{name} input[type=number]").input_value() == value
    assert page.locator(f"{OURS}levels input[type=number]").input_value() == "2"
    assert page.locator(f"{OURS}direction input").first.input_value() == "denoised"
    infotext = generate(page)
    assert "Noise Order direction: denoised" in infotext
    assert "Noise Order erase: 30, Noise Order inject: 0.4" in infotext
    assert "Noise Order last level: 0.6" in infotext

    page.locator("#txt2img_prompt textarea").fill("a green tree\nSteps: 4, Sampler: Euler, Seed: 7, Size: 64x64")
    page.locator("#paste").first.click()
    page.locator(f"{OURS}erase").wait_for(state="hidden")
    assert "Noise Order" not in generate(page)


def test_what_a_pasted_text_has_that_is_not_understood_is_told_on_the_page(page):
    start = "Steps: 4, Sampler: Euler, Seed: 7, Size: 64x64, Noise Order"
    page.locator("#txt2img_prompt textarea").fill(
        f"a dog\n{start}: 1, Noise Order erase: 3, Noise Order inject: 0,08, Noise Order direction: <b>up"
    )
    page.locator("#paste").first.click()
    page.locator(".toast-body").get_by_text("b>up' was not understood").wait_for()
    page.locator(f"{OURS}erase").wait_for(state="visible")
    wait_for_value(page, "erase", 3)
    wait_for_value(page, "inject", 0.08)
    assert page.locator(f"{OURS}direction input").first.input_value() == "guidance"

    page.locator("#txt2img_prompt textarea").fill(f"a tree\n{start}: 2, Noise Order erase: 3")
    page.locator("#paste").first.click()
    page.locator(".toast-body").get_by_text("made by version '2' of the algorithm").wait_for()
    page.locator(f"{OURS}erase").wait_for(state="hidden")


def test_a_list_that_is_open_shows_what_was_saved_elsewhere(page, server):
    file = server.data / "noiseorder" / "presets.json"
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}preset input").first.wait_for()
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"version": 1, "presets": {"![p](http://127.0.0.1:9/x.png)": {"erase": 99}}}', "utf-8-sig")
    try:
        choose(page, "preset", "![p](http://127.0.0.1:9/x.png)")
        page.locator(f"{OURS}said").first.get_by_text('"![p](http://127.0.0.1:9/x.png)" cannot be used').wait_for()
    finally:
        file.unlink()


def test_a_setting_that_cannot_work_is_told_on_the_page(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}inject", 0.05)
    fill(page, f"{OURS}levels", 3)
    for name in ("layout", "structure", "detail"):
        fill(page, f"{OURS}{name}", 0)
    page.locator(f"{OURS}cost").get_by_text("at least one must be above 0").wait_for()
    assert "Noise Order error" in generate(page)
    page.get_by_text("Noise left as it is").first.wait_for()


def choose(page, name, value):
    page.locator(f"{OURS}{name} input").first.click()
    # A tick stands before the chosen one's name.
    page.locator("ul.options li").filter(has_text=re.compile(rf"^\W*{re.escape(value)}\s*$")).first.click()


def open_img2img(page):
    """The panel of the other tab, and how the names of its controls begin."""
    theirs = OURS.replace("txt2img", "img2img")
    page.locator("#tabs button:visible").filter(has_text=re.compile(r"^\s*img2img\s*$", re.I)).first.click()
    page.locator(f"{theirs}enabled > .label-wrap").click()
    return theirs


def wait_for_value(page, name, value):
    """Wait until a control has a value."""
    page.wait_for_function(
        "([id, value]) => document.querySelector(id + ' input[type=number]').value === value",
        arg=[OURS + name, str(value)],
    )


def test_the_drawing_and_the_share_of_the_cost(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    cost = page.locator(f"{OURS}cost").first
    fill(page, f"{OURS}inject", 0.05)
    cost.get_by_text("+2 model evaluations per image, +25 % of 8 (4 steps, CFG 7)").wait_for()
    fill(page, "#txt2img_steps", 20)
    cost.get_by_text("+2 model evaluations per image, +5 % of 40 (20 steps, CFG 7)").wait_for()
    fill(page, "#txt2img_cfg_scale", 1)
    cost.get_by_text("(20 steps, CFG 1)").wait_for()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    page.locator(f'{OURS}curve [aria-label*="1 key level at 0.90"] svg').wait_for()
    fill(page, f"{OURS}levels", 3)
    fill(page, f"{OURS}detail", 0.5)
    drawing = page.locator(f'{OURS}curve [aria-label*="0.90, 0.80, 0.70 with weights 1.00, 1.00, 0.50"] svg')
    drawing.wait_for()
    assert drawing.locator("circle").count() == 3
    assert drawing.bounding_box()["height"] > 40
    theirs = open_img2img(page)
    fill(page, f"{theirs}inject", 0.05)
    # Neo begins with another denoising strength.
    page.wait_for_function(
        "() => document.querySelector('#script_img2img_noise_order_cost').textContent.includes("
        "'denoising ' + document.querySelector('#img2img_denoising_strength input[type=number]').value)"
    )


def test_folding_is_told_to_a_screen_reader_and_done_by_the_keyboard(page):
    page.locator(f"{OURS}enabled > .label-wrap[aria-expanded=false]").focus()
    page.keyboard.press("Enter")
    page.locator(f"{OURS}enabled > .label-wrap[aria-expanded=true]").wait_for()
    page.locator(f"{OURS}erase").wait_for(state="visible")


def test_auto_tells_the_family_of_the_loaded_model(page, sd15):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    choose(page, "preset", "Erase only")
    page.locator(f"{OURS}cost").first.get_by_text("Costs nothing.").wait_for()
    choose(page, "preset", "Auto")
    cost = page.locator(f"{OURS}cost").first
    cost.get_by_text("a model that predicts noise (ε) is loaded, so “Erase and inject”").wait_for()
    cost.get_by_text("Cost: +2 model evaluations").wait_for()
    infotext = generate(page)
    assert "Noise Order direction: guidance" in infotext
    assert "Noise Order auto: Erase and inject" in infotext
    assert page.locator(f"{OURS}preset input").first.input_value() == "Auto"


def test_only_what_has_a_say_is_shown(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    choose(page, "preset", "Erase and inject")
    page.locator(f"{OURS}advanced > .label-wrap").click()
    page.locator(f"{OURS}levels").wait_for()
    for name in ("last_level", "detail", "passes", "region"):
        page.locator(f"{OURS}{name}").wait_for(state="hidden")
    page.locator("#txt2img_hr > .label-wrap").click()
    page.locator(f"{OURS}passes").wait_for()
    mark = page.locator(f"{OURS}preset .noiseorder-changed")
    assert not mark.is_visible()
    fill(page, f"{OURS}levels", 3)
    mark.wait_for()
    page.locator(f"{OURS}detail").wait_for()
    theirs = open_img2img(page)
    page.locator(f"{theirs}advanced > .label-wrap").click()
    page.locator(f"{theirs}variant").wait_for()
    for name in ("passes", "region"):
        page.locator(f"{theirs}{name}").wait_for(state="hidden")
    page.locator("#mode_img2img button").filter(has_text=re.compile(r"^\s*Inpaint\s*$")).first.click()
    page.locator(f"{theirs}region").wait_for()


def test_own_presets(page, server):
    file = server.data / "noiseorder" / "presets.json"
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    page.locator(f"{OURS}presets > .label-wrap").click()
    fill(page, f"{OURS}erase", 9)
    name, message = page.locator(f"{OURS}preset_name textarea, {OURS}preset_name input"), f"{OURS}preset_message"
    name.fill("Mine")
    page.locator(f"{OURS}preset_save").click()
    page.locator(message).first.get_by_text("Saved “Mine”.").wait_for()
    assert json.loads(file.read_text())["presets"]["Mine"]["erase"] == 9
    assert server.get("/noiseorder/v1/presets")["Mine"]["erase"] == 9
    choose(page, "preset", "Default")
    wait_for_value(page, "erase", 4)
    choose(page, "preset", "Mine")
    wait_for_value(page, "erase", 9)
    name.fill("Yours")
    page.locator(f"{OURS}preset_rename").click()
    page.locator(message).first.get_by_text("Renamed “Mine” to “Yours”.").wait_for()
    page.reload(wait_until="domcontentloaded")
    page.locator(f"{OURS}enabled > .label-wrap[aria-expanded=false]").click()
    choose(page, "preset", "Yours")
    wait_for_value(page, "erase", 9)
    page.locator(f"{OURS}advanced > .label-wrap").click()
    page.locator(f"{OURS}presets > .label-wrap").click()
    page.locator(f"{OURS}preset_delete").click()
    page.locator(message).first.get_by_text("Deleted “Yours”.").wait_for()
    assert json.loads(file.read_text())["presets"] == {}


def test_the_settings_page(page):
    # Not by GET /sdapi/v1/options: Forge lists there what it knew before extensions added theirs.
    for key in ("default_preset", "paste", "on_failure", "console", "inspector", "adetailer"):
        assert page.locator(f"#setting_noiseorder_{key}").count() == 1


def test_pasting_can_leave_us_alone(page, server):
    server.post("/sdapi/v1/options", {"noiseorder_paste": "leave alone"})
    try:
        page.locator(f"{OURS}enabled > .label-wrap").click()
        page.locator("#txt2img_prompt textarea").fill("a tree\nSteps: 4, Sampler: Euler, Seed: 7, Size: 64x64")
        page.locator("#paste").first.click()
        page.wait_for_function("() => document.querySelector('#txt2img_prompt textarea').value === 'a tree'")
        assert "Noise Order: 1" in generate(page)
    finally:
        server.post("/sdapi/v1/options", {"noiseorder_paste": "switch off"})


def test_after_a_restart(server, browser):
    """Own presets, the preset to begin with, and the user's language, in a second server on the same data folder."""
    file = server.data / "noiseorder" / "presets.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"version": 1, "presets": {"Kept": {"erase": 7}}}')
    server.post("/sdapi/v1/options", {"noiseorder_default_preset": "Kept", "localization": "noiseorder-test"})
    again = WebUI(server.folder, server.python, server.data)
    try:
        with again.running(extension=True):
            page = browser.new_page(viewport={"width": 1400, "height": 1800})
            page.set_default_timeout(MILLISECONDS)
            page.goto(again.url, wait_until="domcontentloaded")
            page.locator(f"{OURS}enabled > .label-wrap[aria-expanded=false]").click()
            # ui-config.json holds the 4 that the first server wrote down.
            wait_for_value(page, "erase", 7)
            assert page.locator(f"{OURS}preset input").first.input_value() == "Kept"
            page.locator(f"{OURS}erase").get_by_text("Ausradieren", exact=True).wait_for()
            page.locator(f"{OURS}advanced").get_by_text("Mehr davon", exact=True).wait_for()
            page.close()
    finally:
        server.post("/sdapi/v1/options", {"noiseorder_default_preset": "Default", "localization": "None"})
        file.unlink()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_screenshots(server, browser, screenshots, theme, width):
    """The panel as it opens."""
    page = browser.new_page(viewport={"width": width, "height": 2400})
    page.set_default_timeout(MILLISECONDS)
    page.goto(f"{server.url}?__theme={theme}", wait_until="domcontentloaded")
    page.locator(f"{OURS}enabled > .label-wrap[aria-expanded=false]").click()
    page.locator(f"{OURS}cost").get_by_text("Costs nothing.").wait_for()
    page.locator(f"{OURS}sheet .noiseorder-price").get_by_text("9 candidates").wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    screenshots.mkdir(exist_ok=True)
    suffix = ("" if width > 400 else "-400") + ("" if theme == "light" else "-dark")
    page.locator(f"{OURS}enabled").screenshot(path=screenshots / f"accordion-{server.host}{suffix}.png")
    page.close()


def test_make_the_original_too(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}compare_original input[type=checkbox]").check()
    assert "Noise Order compare original: True" in generate(page)
    # The labelled grid first, as the WebUI shows its own.
    page.wait_for_function(
        "() => new Set([...document.querySelectorAll('#txt2img_gallery img')].map(image => image.src)).size === 3"
    )


def test_inspector_panel(page, server, options):
    options(noiseorder_inspector=False)
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}inspector > .label-wrap").click()
    inside = page.locator(f"{OURS}inspected")
    inside.get_by_text("The inspector is off").wait_for()
    page.locator(f"{OURS}inspector_on input").check()
    inside.get_by_text("The inspector is off").wait_for(state="hidden")
    assert page.locator("#setting_noiseorder_inspector input").is_checked()
    assert json.loads((server.data / "config.json").read_text())["noiseorder_inspector"]
    generate(page)
    page.locator(f"{OURS}inspected h4").get_by_text("Seed 1").wait_for()
    assert page.locator(f"{OURS}inspected img").count() == 3 + 1 + 2
    fill(page, "#txt2img_seed", 2)
    generate(page)
    page.locator(f"{OURS}inspected h4").get_by_text("Seed 2").wait_for()


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")])
def test_inspector_fits_the_page(server, browser, kind, options, screenshots, width, theme):
    options(noiseorder_inspector=True)
    server.txt2img(kind, True, 4.0, 0.05)
    page = browser.new_page(viewport={"width": width, "height": 2400})
    page.set_default_timeout(MILLISECONDS)
    page.goto(f"{server.url}?__theme={theme}", wait_until="domcontentloaded")
    page.locator(f"{OURS}enabled > .label-wrap[aria-expanded=false]").click()
    page.locator(f"{OURS}inspector > .label-wrap").click()
    page.locator(f"{OURS}inspected h4").wait_for()
    edges = page.locator(f"{OURS}inspected *").evaluate_all("all => all.map(e => e.getBoundingClientRect().right)")
    panel = page.locator(f"{OURS}inspector").bounding_box()
    assert max(edges) <= panel["x"] + panel["width"] <= width
    screenshots.mkdir(exist_ok=True)
    page.locator(f"{OURS}inspector").screenshot(path=screenshots / f"inspector-{server.host}-{width}-{theme}.png")
    page.close()


def test_audition(page):
    """The line beforehand, the previews as they come, the choice by mouse and by keyboard, and the whole image."""
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}audition_candidates", 3)
    page.locator(f"{OURS}sheet .noiseorder-price").get_by_text(
        re.compile(r"^3 candidates at \d of 4 steps: ")
    ).wait_for()
    price = page.locator(f"{OURS}sheet .noiseorder-price").inner_text()
    assert price.endswith(" images, and decoding the previews")
    page.locator(f"{OURS}audition_button").click()
    cells = page.locator(f"{OURS}sheet .noiseorder-cell")
    cells.nth(2).wait_for()
    message = page.locator(f"{OURS}sheet .noiseorder-told")
    page.locator(f"{OURS}sheet .noiseorder-made").get_by_text(price).wait_for()
    assert [cell.get_attribute("aria-label") for cell in cells.all()] == [
        f"Choose variant {variant}, seed 1" for variant in range(3)
    ]
    page.wait_for_function("() => document.querySelectorAll('#txt2img_gallery img').length >= 3")
    cells.nth(0).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    message.get_by_text("Variant 2 is chosen").wait_for()
    assert page.locator(f"{OURS}sheet .noiseorder-cell[aria-pressed=true]").count() == 1
    wait_for_value(page, "variant", 2)
    cells.nth(1).click()
    wait_for_value(page, "variant", 1)
    assert re.search(r"Noise Order variant: 1\b", generate(page))


def test_an_audition_of_a_random_seed_is_of_the_image_that_follows(page):
    page.locator("#txt2img_seed input[type=number]").fill("-1")
    page.locator("#txt2img_seed input[type=number]").press("Tab")
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}audition_candidates", 2)
    page.locator(f"{OURS}audition_button").click()
    cell = page.locator(f"{OURS}sheet .noiseorder-cell").nth(1)
    cell.wait_for()
    seed = cell.get_attribute("aria-label").rpartition(" ")[2]
    assert seed != "-1"
    page.locator(f"{OURS}sheet .noiseorder-made").get_by_text(re.compile("^2 candidates")).wait_for()
    page.wait_for_function("() => getComputedStyle(document.querySelector('#txt2img_interrupt')).display === 'none'")
    cell.click()
    infotext = generate(page)
    assert f"Seed: {seed}" in infotext
    assert "Noise Order variant: 1" in infotext


def test_what_cannot_be_auditioned_is_told_in_the_panel(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    fill(page, f"{OURS}erase", 1)
    page.locator(f"{OURS}audition_button").click()
    page.locator(f"{OURS}sheet .noiseorder-told").get_by_text("set Erase above 1").wait_for()
    fill(page, f"{OURS}erase", 4)
    assert "Noise Order erase: 4" in generate(page)


BUTTON = f"document.querySelector('{OURS}audition_button')"


def prepare_audition(page, candidates):
    """Open the panel, and set images so large that a preview takes a while."""
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    for name, value in (("steps", 20), ("width", 256), ("height", 256)):
        fill(page, f"#txt2img_{name}", value)
    fill(page, f"{OURS}audition_candidates", candidates)
    page.locator(f"{OURS}sheet .noiseorder-price").get_by_text(f"{candidates} candidates").wait_for()


def wait_for_end(page):
    page.wait_for_function(f"() => !document.querySelector('{OURS}audition_button[aria-disabled=true]')")


def cells_of(page):
    return page.locator(f"{OURS}sheet .noiseorder-cell")


def told_of(page):
    return page.locator(f"{OURS}sheet .noiseorder-made").inner_text()


def previews_of(page):
    """What the server has made of the last sheet."""
    return page.evaluate(
        "address => fetch(address).then((answer) => answer.json()).then(({previews}) => previews.length)",
        page.sheet.partition("?")[0],
    )


def saved(server):
    """How many whole images the page has had saved; previews are none."""
    return len([*server.data.glob("output*/txt2img-images/**/*.png")])


def test_two_presses_make_one_sheet(page, server):
    prepare_audition(page, 3)
    before = saved(server)
    page.evaluate(f"() => {{ {BUTTON}.click(); setTimeout(() => {BUTTON}.click(), 120) }}")
    cells_of(page).nth(0).wait_for()
    page.evaluate(f"() => {BUTTON}.click()")
    wait_for_end(page)
    page.wait_for_timeout(3000)
    assert server.get("/sdapi/v1/progress")["state"]["job_count"] <= 0, "nothing goes on"
    assert cells_of(page).count() == 3
    assert told_of(page).startswith("3 candidates at ")
    assert saved(server) == before


def test_an_interrupted_sheet_shows_all_that_was_made(page, server):
    """A1111 and Forge end it after the candidate that runs ("Interrupting..."), Neo at once."""
    prepare_audition(page, 9)
    before = saved(server)
    page.locator(f"{OURS}audition_button").click()
    cells_of(page).nth(1).wait_for()
    page.locator("#txt2img_interrupt").click(force=True)
    wait_for_end(page)
    page.locator(f"{OURS}sheet .noiseorder-made").get_by_text("interrupted").wait_for()
    assert 2 <= cells_of(page).count() == previews_of(page) < 9
    cells_of(page).nth(1).click()
    wait_for_value(page, "variant", 1)
    assert saved(server) == before


def test_a_page_loaded_anew_during_an_audition_follows_it(page, server):
    prepare_audition(page, 5)
    page.locator(f"{OURS}audition_button").click()
    cells_of(page).nth(0).wait_for()
    page.reload(wait_until="domcontentloaded")
    wait_until_built(page)
    page.locator(f"{OURS}enabled > .label-wrap").click()
    cells_of(page).nth(4).wait_for()
    wait_for_end(page)
    assert told_of(page).startswith("5 candidates at ")
    assert cells_of(page).count() == previews_of(page) == 5
    cells_of(page).nth(3).click()
    wait_for_value(page, "variant", 3)
    assert page.locator(SEED).first.input_value() == "1"


def test_the_variant_of_an_automatic_audition_is_told_in_the_panel(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}audition", 3)
    variant = re.search(r"Noise Order variant: (\d+)", generate(page)).group(1)
    outcome = page.locator(f"{OURS}outcome").first
    outcome.get_by_text(re.compile(rf"noise kept.* Went on with variant {variant}, best of 3$")).wait_for()


def test_send_to_img2img_takes_our_settings_along(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}erase", 9)
    fill(page, f"{OURS}variant", 2)
    generate(page)
    page.locator("#txt2img_send_to_img2img").click()
    page.wait_for_function(
        """() => ['erase', 'variant'].map((name) => document.querySelector(
            `#script_img2img_noise_order_${name} input[type=number]`)?.value).join() === '9,2'"""
    )
    page.locator("#script_img2img_noise_order_erase").wait_for(state="visible")


BIG = 2**53 + 1
"""What the browser's numbers cannot hold."""


def test_with_logins_and_seeds_as_text(server, browser):
    """--gradio-auth, --api-auth and --use-textbox-seed, in a second server on the same data folder."""
    again = WebUI(server.folder, server.python, server.data)
    again.kinds, again.neighbours, again.precision = server.kinds, server.neighbours, server.precision
    again.flags = ("--gradio-auth", "ann:a,bob:b", "--api-auth", "me:secret", "--use-textbox-seed")
    server.post("/sdapi/v1/options", {"noiseorder_inspector": True})
    try:
        with again.running(extension=True):
            pages = {}
            for user, password in (("ann", "a"), ("bob", "b")):
                context = browser.new_context(viewport={"width": 1400, "height": 1800})
                context.request.post(f"{again.url}/login", form={"username": user, "password": password})
                pages[user] = page = context.new_page()
                page.set_default_timeout(MILLISECONDS)
                open_page(page, again, BIG)
                page.locator(f"{OURS}enabled > .label-wrap").click()
            page = pages["ann"]
            page.locator(f"{OURS}advanced > .label-wrap").click()
            fill(page, f"{OURS}audition_candidates", 2)
            price = page.locator(f"{OURS}sheet .noiseorder-price")
            price.get_by_text("2 candidates").wait_for()
            # Forge loads its model with the first generation.
            assert ("down to 0.75" in price.inner_text()) is server.facts.is_forge
            page.locator(f"{OURS}audition_button").click()
            cells_of(page).nth(1).wait_for()
            wait_for_end(page)
            price.get_by_text(re.compile("^2 candidates at .* images$")).wait_for()
            page.locator(SEED).first.fill("-1")
            cells_of(page).nth(1).click()
            assert page.locator(SEED).first.input_value() == str(BIG)
            infotext = generate(page)
            assert f"Seed: {BIG}" in infotext
            assert "Noise Order variant: 1" in infotext
            page.locator(f"{OURS}outcome").first.get_by_text("of this seed's noise kept").wait_for()
            # Nobody sees another's noise.
            for user, text in (("ann", f"Seed {BIG}"), ("bob", "Nothing to inspect")):
                pages[user].locator(f"{OURS}inspector > .label-wrap").click()
                pages[user].locator(f"{OURS}inspected").get_by_text(text).wait_for()
            assert not pages["bob"].locator(f"{OURS}outcome").first.inner_text().strip()
            # Nor does anybody switch it off for another.
            pages["bob"].locator(f"{OURS}inspector_on input").uncheck()
            pages["bob"].locator(f"{OURS}inspected").get_by_text("The inspector is off").wait_for()
            pages["ann"].locator(f"{OURS}inspect").click()
            pages["ann"].locator(f"{OURS}inspected .noiseorder-answer").wait_for(state="attached")
            assert pages["ann"].locator(f"{OURS}inspector_on input").is_checked()
            assert json.loads((server.data / "config.json").read_text())["noiseorder_inspector"]
            # Programs need the password of the host's API, and the page's routes a login.
            users = (None, ("me", "wrong"), ("me", "secret"))
            for route in ("/sdapi/v1/options", "/noiseorder/v1/presets", "/noiseorder/v1/inspect"):
                codes = [requests.get(again.url + route, auth=user, timeout=60).status_code for user in users]
                assert codes[:2] == [401] * 2, route
                assert codes[2] in (200, 404), "nothing was made by a program"
            for route in ("outcome?tab=txt2img", "audition/cost?sampler=Euler", "audition/sheet/x"):
                assert requests.get(f"{again.url}/noiseorder/v1/{route}", timeout=60).status_code == 401
            for page in pages.values():
                page.context.close()
    finally:
        server.post("/sdapi/v1/options", {"noiseorder_inspector": False})

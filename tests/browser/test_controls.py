"""The controls as a user uses them, in a page of Gradio's own with what a WebUI or the playground has around them."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from handling import OPTIONS, choose, fill, open_tab, read_choices, settle, unfold
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from serving import blocks, serve

from lib_noiseorder.core.schedule import key_levels
from lib_noiseorder.presets import DISTILLED, FAMILIES, TWO_STEP
from lib_noiseorder.webui import accordion
from lib_noiseorder.webui.userpresets import Presets

ROOT = Path(__file__).parents[2]
JOB = "JSON.parse(document.querySelector('#noiseorder_job textarea, #noiseorder_job input').value || '{}')"
"""What the script has told the server of the page."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def url(data):
    with blocks((ROOT / "style.css").read_text(encoding="utf-8")) as page:
        gr.Slider(1, 50, 10, step=1, interactive=True, elem_id="steps")
        gr.Slider(1, 10, 1.5, step=0.1, interactive=True, elem_id="cfg_scale")
        family = gr.Radio(list(FAMILIES), value="eps", elem_id="family")
        with gr.Accordion(accordion.TITLE, open=True):
            accordion.controls(
                lambda name: f"noiseorder_{name}", Presets(data / "presets.json"), lambda name: name, [family]
            )
    with serve(page) as address:
        yield address


def visit(tab, url, theme="light"):
    tab.goto(f"{url}?__theme={theme}", wait_until="domcontentloaded")
    tab.locator("#noiseorder_cost").get_by_text("Costs nothing.").wait_for()
    tab.add_script_tag(path=ROOT / "javascript" / "noiseorder.js")
    tab.wait_for_function(f"() => {JOB}.cfg === 1.5")
    settle(tab)


@pytest.fixture
def page(tab, url, data):
    visit(tab, url)
    yield tab
    (data / "presets.json").unlink(missing_ok=True)


def read_curve(page):
    """The words of the drawing, once it shows the settings that the words tell."""
    curve = page.locator("#noiseorder_curve [role=img]")
    curve.locator("svg").wait_for(state="attached")
    return curve.get_attribute("aria-label")


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
def test_the_drawing_can_be_seen_in_both_themes(tab, url, scheme):
    page = tab
    visit(page, url, scheme)
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
    page.locator("#family label").get_by_text("flow").click()
    cost.get_by_text("a flow model is loaded").wait_for()
    assert preset.input_value() == "Auto"
    page.locator("#family label").get_by_text(DISTILLED).click()
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
    other = open_tab(browser)
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


def test_a_preset_that_cannot_be_used_is_explained(page, url, data):
    (data / "presets.json").write_text('{"version": 1, "presets": {"Odd": {"erase": 99}}}')
    visit(page, url)
    choose(page, "noiseorder_preset", "Odd")
    page.locator("#noiseorder_said").get_by_text("Erase (erase) = 99: must be a number from 1 to 64").wait_for()
    assert page.locator("#noiseorder_erase input[type=number]").input_value() == "4"


def test_a_list_that_is_open_shows_what_was_saved_elsewhere(page, data):
    name, built_in = "Saved elsewhere", read_choices(page, "noiseorder_preset")
    (data / "presets.json").write_text(json.dumps({"version": 1, "presets": {name: {"erase": 2}}}))
    page.locator("#noiseorder_preset input").click()
    page.locator(OPTIONS).get_by_text(name).wait_for()
    assert [text.strip("✓ \n") for text in page.locator(OPTIONS).all_inner_texts()] == [*built_in, name]
    page.locator(OPTIONS).get_by_text(name).click()
    page.wait_for_function("() => document.querySelector('#noiseorder_erase input[type=number]').value === '2'")
    assert page.locator("#noiseorder_preset input").input_value() == name
    (data / "presets.json").unlink()
    option = page.locator(OPTIONS).get_by_text(name)
    page.locator("#noiseorder_preset input").click()
    try:
        option.wait_for(state="detached", timeout=3000)
    except PlaywrightTimeout:
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


def test_names_are_text_and_fetch_nothing(page, data, url):
    urls = []
    page.on("request", listen := lambda request: urls.append(request.url))
    presets = {f"{name}2": {"erase": 99, name: 1} for name in NAMES}
    (data / "presets.json").write_text(json.dumps({"version": 1, "presets": presets}))
    visit(page, url)
    unfold(page)
    unfold(page, "presets")
    field, message = page.locator("#noiseorder_preset_name").get_by_role("textbox"), "#noiseorder_preset_message"
    for name in NAMES:
        choose(page, "noiseorder_preset", f"{name}2")
        page.locator("#noiseorder_said").get_by_text(f'Preset "{name}2" cannot be used.').wait_for()
        field.fill(name)
        page.locator("#noiseorder_preset_save").click()
        page.locator(message).get_by_text(f"Saved “{name}”.").wait_for()
        field.fill(f"{name}3")
        page.locator("#noiseorder_preset_rename").click()
        page.locator(message).get_by_text(f"Renamed “{name}” to “{name}3”.").wait_for()
        page.locator("#noiseorder_preset_delete").click()
        page.locator(message).get_by_text(f"Deleted “{name}3”.").wait_for()
        page.locator("#noiseorder_preset_delete").click()
        told = page.locator(message).get_by_text("choose one of your own")
        told.wait_for()
        assert f"{name}2" in told.inner_text()
    page.remove_listener("request", listen)
    assert len(urls) > 5
    assert [address for address in urls if "127.0.0.1:9/" in address] == []


def test_the_cost_is_asked_for_once_more_when_the_person_has_paused(page):
    """Of several answers under way, one to older settings may come last. Once for each pause: not for ever."""
    settled = f"() => {JOB}.settled"
    before = page.evaluate(settled)
    page.locator("#steps").click()
    page.wait_for_function(f"before => {JOB}.settled > before", arg=before)
    page.wait_for_timeout(2500)
    assert page.evaluate(settled) == before + 1

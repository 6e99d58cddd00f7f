"""The accordion in the real WebUI's page, as a person uses it."""

from __future__ import annotations

import re

import pytest

MILLISECONDS = 120_000
OURS = "#script_txt2img_noise_order_"


@pytest.fixture
def page(browser, server):
    server.load(server.kinds[0])
    opened = browser.new_page(viewport={"width": 1400, "height": 1800})
    opened.set_default_timeout(MILLISECONDS)
    opened.goto(server.url, wait_until="domcontentloaded")
    opened.locator("#txt2img_generate").wait_for()
    opened.wait_for_function("() => typeof inputAccordionChecked === 'function' && uiCurrentTab !== null")
    opened.locator("#txt2img_prompt textarea").fill("a red cat")
    for name, value in (("steps", 4), ("width", 64), ("height", 64)):
        number(opened, f"#txt2img_{name}", value)
    opened.locator("#txt2img_seed input[type=number]").fill("1")
    opened.locator("#txt2img_seed input[type=number]").press("Tab")
    yield opened
    opened.close()


def number(page, selector, value):
    field = page.locator(f"{selector} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def generate(page):
    """Press Generate and return the infotext the page shows under the new picture."""
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
    number(page, f"{OURS}erase", 2)
    page.locator(f"{OURS}cost").get_by_text("Cost: 2 model evaluations per image.").wait_for()
    told = generate(page)
    assert re.search(r"Noise Order: 1\b", told)
    assert re.search(r"Noise Order erase: 2\b", told)
    assert page.locator("#txt2img_gallery img").count() >= 1


def test_says_where_it_works(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}about").get_by_text("in its hires pass where that is chosen").wait_for()


def test_pasting_an_infotext_sets_the_controls(page):
    text = (
        "a blue dog\nNegative prompt: bad\nSteps: 4, Sampler: Euler, Seed: 7, Size: 64x64, "
        "Noise Order: 1, Noise Order erase: 3, Noise Order inject: 0.1, "
        "Noise Order direction: denoised, Noise Order levels: 2, Noise Order first level: 0.8, "
        "Noise Order normalisation: orthonormal, Noise Order last level: 0.6"
    )
    page.locator("#txt2img_prompt textarea").fill(text)
    page.locator("#paste").first.click()
    page.wait_for_function("() => document.querySelector('#txt2img_prompt textarea').value === 'a blue dog'")
    page.locator(f"{OURS}erase").wait_for(state="visible")
    page.wait_for_function("id => document.querySelector(id + 'erase input[type=number]').value === '3'", arg=OURS)
    assert page.locator(f"{OURS}levels input[type=number]").input_value() == "2"
    assert page.locator(f"{OURS}direction input").first.input_value() == "denoised"
    told = generate(page)
    assert "Noise Order direction: denoised" in told
    assert "Noise Order last level: 0.6" in told

    page.locator("#txt2img_prompt textarea").fill("a green tree\nSteps: 4, Sampler: Euler, Seed: 7, Size: 64x64")
    page.locator("#paste").first.click()
    page.locator(f"{OURS}erase").wait_for(state="hidden")
    assert "Noise Order" not in generate(page)


def test_a_setting_that_cannot_work_is_told_on_the_page(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}advanced .label-wrap").click()
    for name in ("layout", "structure", "detail"):
        number(page, f"{OURS}{name}", 0)
    page.locator(f"{OURS}cost").get_by_text("at least one must be above 0").wait_for()
    assert "Noise Order error" in generate(page)
    page.get_by_text("Noise left as it is").first.wait_for()


def test_make_the_original_too(page):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}compare_original input[type=checkbox]").check()
    assert "Noise Order compare original: True" in generate(page)
    # The labelled grid first, as the WebUI shows its own.
    page.wait_for_function(
        "() => new Set([...document.querySelectorAll('#txt2img_gallery img')].map(image => image.src)).size === 3"
    )


def test_inspector_panel(page, options):
    page.locator(f"{OURS}enabled > .label-wrap").click()
    page.locator(f"{OURS}inspector > .label-wrap").click()
    page.locator(f"{OURS}inspect").click()
    page.locator(f"{OURS}inspected").get_by_text("The inspector is off").wait_for()
    options(noiseorder_inspector=True)
    generate(page)
    page.locator(f"{OURS}inspect").click()
    page.locator(f"{OURS}inspected h4").get_by_text("Seed 1").wait_for()
    assert page.locator(f"{OURS}inspected img").count() == 3 + 1 + 2

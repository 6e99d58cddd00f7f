"""What a user does with Gradio's components, in each of its versions."""

from __future__ import annotations

import re

from lib_noiseorder.webui.sheet import GRADIO_6

OPTIONS = "ul.options li, ul.option-list li"
"""The second is Gradio 6's."""
MILLISECONDS = 60_000
COUNT_REQUESTS = """
    window.underWay = window.answered = 0;
    const ask = window.fetch;
    window.fetch = async (...request) => {
        window.underWay += 1;
        try {
            return await ask(...request);
        } finally {
            window.underWay -= 1;
            window.answered = performance.now();
        }
    };
"""


def open_tab(browser, width=1400):
    """A tab that knows whether an answer is under way."""
    tab = browser.new_page(viewport={"width": width, "height": 1600})
    tab.set_default_timeout(MILLISECONDS)
    tab.add_init_script(COUNT_REQUESTS)
    return tab


def settle(page):
    """Wait until every answer of the server has come and is shown, and 200 ms without another request."""
    # What was just pressed has not asked yet: its request begins a moment later.
    begun = page.evaluate("() => performance.now()")
    page.wait_for_function(
        "(begun) => !window.underWay && performance.now() - Math.max(window.answered, begun) > 200", arg=begun
    )


def fill(page, name, value):
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def choose(page, name, value):
    page.locator(f"#{name} input").click()
    # A tick stands before the chosen one's name.
    page.locator(OPTIONS).filter(has_text=re.compile(rf"(^|\W){re.escape(value)}\s*$")).click()
    # What the server answers to a choice is written over what is written into the page before it comes.
    settle(page)


def read_choices(page, name):
    """What a dropdown offers now."""
    page.locator(f"#{name} input").click()
    page.locator(OPTIONS).first.wait_for()
    names = [text.strip().removeprefix("✓").strip() for text in page.locator(OPTIONS).all_inner_texts()]
    page.locator(f"#{name} input").press("Escape")
    page.locator(f"#{name} input").blur()
    return names


def unfold(page, name="advanced"):
    # Gradio 6 makes what is inside only now. An answer of the server that comes while it does puts first values back
    # over what was written since, sooner than a user can.
    if GRADIO_6:
        settle(page)
    page.locator(f"#noiseorder_{name} > .label-wrap").click()
    page.locator(f"#noiseorder_{name} input:visible, #noiseorder_{name} textarea:visible").first.wait_for()
    if GRADIO_6:
        settle(page)

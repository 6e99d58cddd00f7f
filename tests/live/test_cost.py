"""The line that tells the cost, against the rows that the real WebUI's model then evaluates."""

from __future__ import annotations

import re

import pytest
from test_page import OURS, fill, generate, page  # noqa: F401  (a fixture)


def read_cost(page):  # noqa: F811
    """What the line says of one image: without Noise Order, and what that adds; once the server has answered."""
    page.wait_for_timeout(1500)
    text = page.locator(f"{OURS}cost p").first.inner_text()
    added, plain = re.search(r"\+(\d+) model .* of (\d+) ", text).groups()
    return int(plain), int(added)


def beside(page):  # noqa: F811
    for name in ("original", "erased", "injected"):
        page.locator(f"{OURS}compare_{name} input[type=checkbox]").check()


def hires(page):  # noqa: F811
    page.locator("#txt2img_hr > .label-wrap").click()
    fill(page, "#txt2img_hr_scale", 1.5)
    fill(page, "#txt2img_hires_steps", 2)
    page.locator(f"{OURS}advanced > .label-wrap").click()
    page.locator(f"{OURS}passes input").first.click()
    page.locator("ul.options li").filter(has_text="both").first.click()


def several(page):  # noqa: F811
    page.locator("#txt2img_prompt textarea").fill("a red cat AND a blue dog :0.5")


def audition(page):  # noqa: F811
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}audition", 3)


def levels(page):  # noqa: F811
    page.locator(f"{OURS}advanced > .label-wrap").click()
    fill(page, f"{OURS}levels", 3)


def second_order(page):  # noqa: F811
    page.locator("#txt2img_sampling input").first.click()
    page.locator("ul.options li").filter(has_text=re.compile(r"^\W*Heun\s*$")).first.click()


def hires_by_another(page):  # noqa: F811
    hires(page)
    page.locator("#hr_sampler input").first.click()
    page.locator("ul.options li").filter(has_text=re.compile(r"^\W*Heun\s*$")).first.click()


def at_cfg_1(page):  # noqa: F811
    fill(page, "#txt2img_cfg_scale", 1)


@pytest.mark.parametrize(
    "set_up",
    [
        (),
        (beside,),
        (hires, beside),
        (several, beside),
        (audition,),
        (levels,),
        (second_order, audition),
        (at_cfg_1, beside),
        (several, beside, audition, hires),
        (hires_by_another,),
    ],
    ids=lambda steps: "+".join(step.__name__ for step in steps) or "default",
)
@pytest.mark.parametrize("inspects", [False, True], ids=["", "inspector"])
def test_the_line_is_what_is_counted(page, server, options, set_up, inspects):  # noqa: F811
    options(noiseorder_inspector=inspects)
    generate(page)  # the schedule is known of a model that is loaded
    page.locator(f"{OURS}enabled > .label-wrap").click()
    fill(page, f"{OURS}inject", 0.05)
    for step in set_up:
        if step is hires and audition in set_up:
            page.locator(f"{OURS}advanced > .label-wrap").click()
        step(page)
    plain, added = read_cost(page)
    server.probe()
    generate(page)
    assert server.get("/noiseorder-probe")["all_rows"] == plain + added

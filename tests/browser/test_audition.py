"""The button Audition in a page of Gradio's own, whose Generate button and routes are those of a small host."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image
from serving import blocks, serve

from lib_noiseorder.job import Plan
from lib_noiseorder.webui import api, sheet
from lib_noiseorder.webui.cost import Rates

SCRIPT = Path(__file__).parents[2] / "javascript" / "noiseorder.js"
MILLISECONDS = 30_000
OURS = "script_txt2img_noise_order_"
PANEL = f"#{OURS}"
SEED = "#txt2img_seed input, #txt2img_seed textarea"
BIG = 2**53 + 1
"""What the browser's numbers cannot hold."""
AROUND = """() => {
    // The hosts' own: it throws while the tab is not built.
    window.gradioApp = () => document;
    window.get_tab_index = (tab) => {
        const buttons = gradioApp().getElementById(tab).querySelector("div").querySelectorAll("button");
        return [...buttons].findIndex((button) => button.classList.contains("selected"));
    };
    window.show = (...names) => {
        for (const name of ["interrupt", "skip", "interrupting"]) {
            const button = document.getElementById("txt2img_" + name) || document.createElement("button");
            button.id = "txt2img_" + name;
            button.style.display = names.includes(name) ? "block" : "none";
            document.body.appendChild(button);
        }
    };
    show();
    document.getElementById("txt2img_generate").addEventListener("click", () => {
        if (!window.broken) show("interrupt", "skip");
    });
    // Two minutes of polling are a few seconds here.
    const later = window.setTimeout;
    window.setTimeout = (call, wait, ...others) => later(call, wait === 300 ? 15 : wait, ...others);
}"""


class Host:
    """Makes of a press of Generate what the test says: previews one by one, and the end."""

    def __init__(self) -> None:
        self.sheets = sheet.Sheets()
        self.orders: queue.Queue = queue.Queue()
        self.presses: list[tuple[str, object]] = []
        self.whole = 0
        self.running = threading.Semaphore(1)
        self.is_busy = False
        self.plan: Plan | None = None

    def generate(self, ticket, seed):
        self.presses.append((ticket, seed))
        with self.running:
            contact_sheet = self.sheets.claim(ticket)
            if contact_sheet is None:
                self.whole += 1
                return
            contact_sheet.images, contact_sheet.variants = 2, tuple(range(contact_sheet.candidates))
            contact_sheet.plan, contact_sheet.cost = Plan(6, 20), 2.7
            self.is_busy = True
            while (order := self.orders.get()) is not None:
                contact_sheet.previews.append(order)
            contact_sheet.done = True
            self.is_busy = False

    def make(self, variant, seed=7, image=0):
        self.orders.put(sheet.Preview(image, seed, variant, Image.new("RGB", (8, 8), "red")))

    def end(self):
        self.orders.put(None)


@pytest.fixture(scope="module")
def served(request):
    """A page with a number for its seed, or with text, as with --use-textbox-seed."""
    host = Host()
    textbox = getattr(request, "param", "number") == "textbox"
    with blocks() as page:
        seed = gr.Textbox("", elem_id="txt2img_seed") if textbox else gr.Number(-1, precision=0, elem_id="txt2img_seed")
        gr.Number(0, precision=0, elem_id=f"{OURS}variant")
        ticket = sheet.panel(lambda name: OURS + name)
        sheet.sliders(lambda name: OURS + name)
        button = gr.Button("Generate", elem_id="txt2img_generate")
        button.click(lambda *values: host.generate(*values), [ticket, seed], None)
    with serve(page) as address:
        rates = Rates(lambda job, depth: host.plan)
        api.register(page.app_of_test, dict, rates, host.sheets, busy=lambda: host.is_busy)
        yield host, address


@pytest.fixture
def host(served):
    host = served[0]
    host.presses.clear()
    host.whole = 0
    yield host
    host.end()
    with host.running:
        host.sheets.by_id.clear()
    while not host.orders.empty():
        host.orders.get()


@pytest.fixture
def page(browser, served, host):
    page = browser.new_page(viewport={"width": 1000, "height": 1000})
    page.set_default_timeout(MILLISECONDS)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "response", lambda answer: page.errors.append(answer.url) if "noiseorder" in answer.url and not answer.ok else 0
    )
    page.goto(served[1], wait_until="domcontentloaded")
    begin(page)
    yield page
    page.close()


def refused(request):
    return [request.url] if "noiseorder" in request.url and not request.response().ok else []


def begin(page):
    # Gradio 6 loads each kind of component by itself.
    for name in (f"{PANEL}audition_button", f"{PANEL}audition_ticket", "#txt2img_generate", SEED):
        page.locator(name).first.wait_for(state="attached")
    page.evaluate(AROUND)
    page.add_script_tag(path=SCRIPT)


def press(page):
    """Also while it says that it cannot be pressed."""
    page.locator(f"{PANEL}audition_button").click(force=True)


def told(page, text):
    page.locator(f"{PANEL}sheet .noiseorder-told").get_by_text(text).wait_for()


def cell(page, number):
    return page.locator(f"{PANEL}sheet .noiseorder-cell").nth(number)


def wait_for_end(page, host):
    with host.running:
        page.evaluate("show()")
    page.wait_for_function(f"() => !document.querySelector('{PANEL}audition_button[aria-disabled=true]')")


@pytest.mark.parametrize(
    ("served", "seed", "sent"), [("number", 7, 7), ("textbox", BIG, str(BIG))], indirect=["served"]
)
def test_a_click_on_a_preview_sets_variant_and_seed(page, host, seed, sent):
    press(page)
    for variant in range(2):
        host.make(variant, seed)
    cell(page, 1).click()
    told(page, "Variant 1 is chosen")
    host.end()
    wait_for_end(page, host)
    assert cell(page, 0).get_attribute("aria-label") == f"Choose variant 0, seed {seed}"
    assert page.locator(SEED).first.input_value() == str(seed)
    assert page.locator(f"{PANEL}variant input").input_value() == "1"
    page.locator("#txt2img_generate").click()
    page.wait_for_timeout(500)
    assert host.presses[1:] == [("", sent)]
    assert page.errors == []


def test_two_presses_make_one_sheet(page, host):
    """Gradio 4 queues a second press of Generate: its ticket is used up, so it would make whole images."""
    button = f"document.querySelector('{PANEL}audition_button')"
    page.evaluate(f"() => {{ {button}.click(); setTimeout(() => {button}.click(), 120); }}")
    host.make(0)
    cell(page, 0).wait_for()
    press(page)
    page.wait_for_timeout(1500)
    assert page.locator(f"{PANEL}sheet .noiseorder-cell").count() == 1
    host.make(1)
    cell(page, 1).wait_for()
    host.end()
    wait_for_end(page, host)
    page.wait_for_timeout(1500)
    assert (len(host.presses), host.whole) == (1, 0)
    assert page.locator(f"{PANEL}sheet .noiseorder-told").inner_text().startswith("9 candidates at 6 of 20 steps")
    # And again when it is done.
    press(page)
    host.make(0)
    told(page, "9 candidates at 6 of 20 steps")
    host.end()
    wait_for_end(page, host)
    assert (len(host.presses), host.whole) == (2, 0)


def test_a_press_while_the_tab_generates_waits_for_another(page, host):
    page.evaluate("show('interrupt', 'skip')")
    press(page)
    told(page, "This tab is generating: press Audition when it has ended")
    page.wait_for_timeout(600)
    assert host.presses == []
    assert page.locator(f"{PANEL}audition_ticket").locator("input, textarea").input_value() == ""


def test_a_generation_that_begins_meanwhile_is_not_followed_by_another(page, host):
    """The user's own press of Generate within the fifth of a second takes the ticket with it."""
    page.evaluate(
        f"() => {{ document.querySelector('{PANEL}audition_button').click(); setTimeout(() =>"
        " document.getElementById('txt2img_generate').click(), 100); }"
    )
    host.make(0)
    cell(page, 0).wait_for()
    host.end()
    wait_for_end(page, host)
    page.wait_for_timeout(500)
    assert (len(host.presses), host.whole) == (1, 0)


def test_while_it_is_interrupting_the_last_preview_still_comes(page, host):
    press(page)
    host.make(0)
    cell(page, 0).wait_for()
    page.evaluate("show('skip', 'interrupting')")
    page.wait_for_timeout(2500)
    host.make(1)
    cell(page, 1).wait_for()
    # A host that hides all buttons while its batch goes on.
    page.evaluate("show()")
    page.wait_for_timeout(2500)
    host.make(2)
    cell(page, 2).wait_for()


def test_a_generation_that_never_begins_is_told(page, host):
    page.evaluate(
        "() => { window.broken = true; const button = document.getElementById('txt2img_generate');"
        " button.replaceWith(button.cloneNode(true)); }"
    )
    press(page)
    told(page, "Waiting for the first preview")
    told(page, "The audition did not begin")
    assert host.presses == []
    assert page.locator(f"{PANEL}audition_button[aria-disabled=true]").count() == 0


def test_an_audition_that_breaks_off_is_told(page, host):
    press(page)
    host.make(0)
    cell(page, 0).wait_for()
    host.is_busy = False
    page.evaluate("show()")
    told(page, "The generation ended early")


def test_where_the_first_image_was_skipped_the_seed_is_the_second_one_s(page, host):
    press(page)
    host.make(0, 8, image=1)
    cell(page, 0).click()
    told(page, "Variant 0 is chosen")
    assert page.locator(SEED).first.input_value() == "8"


def test_what_the_page_asks_is_no_error(page, host):
    """Neither at load, while img2img is not built, nor before a sheet has begun."""
    with host.running:
        press(page)
        page.wait_for_timeout(1500)
    host.make(0)
    cell(page, 0).wait_for()
    assert page.errors == []


def test_a_page_that_is_loaded_again_finds_its_sheet(page, host):
    press(page)
    host.make(0)
    cell(page, 0).wait_for()
    page.reload(wait_until="domcontentloaded")
    begin(page)
    cell(page, 0).wait_for()
    press(page)  # it is under way
    page.wait_for_timeout(2500)
    host.make(1)
    cell(page, 1).click()
    told(page, "Variant 1 is chosen")
    host.end()
    wait_for_end(page, host)
    page.reload(wait_until="domcontentloaded")
    begin(page)
    cell(page, 1).wait_for()
    told(page, "9 candidates at 6 of 20 steps: 2.7 images for each image, 5.4 for all 2")
    assert len(host.presses) == 1
    # A server that was started anew knows nothing of it.
    host.sheets.by_id.clear()
    page.reload(wait_until="domcontentloaded")
    begin(page)
    page.wait_for_timeout(1000)
    assert cell(page, 0).count() == 0
    assert page.locator(f"{PANEL}sheet .noiseorder-told").inner_text() == ""
    assert page.locator(f"{PANEL}audition_button[aria-disabled=true]").count() == 0
    assert page.errors == []


def test_a_sheet_s_name_cannot_be_guessed(page, host):
    page.evaluate("() => { Math.random = () => 0.5; Date.now = () => 0; }")
    for _ in range(2):
        press(page)
        host.end()
        page.wait_for_timeout(600)
        wait_for_end(page, host)
    names = list(host.sheets.by_id)
    assert len({*names}) == 2
    assert all(len(name) >= 32 for name in names)


TAB = """values => {
    for (const [name, value] of Object.entries(values)) {
        const field = document.createElement("div");
        field.id = name;
        field.innerHTML = `<input type="number" value="${value}">`;
        document.body.appendChild(field);
    }
    const outcome = document.createElement("div");
    outcome.id = "script_txt2img_noise_order_outcome";
    outcome.innerHTML = '<p class="noiseorder-outcome"></p>';
    document.body.appendChild(outcome);
}"""
FIELDS = {"steps": 20, "width": 512, "height": 512, "cfg_scale": 7, "batch_count": 2, "batch_size": 2}


def test_the_price_is_asked_for_again_when_a_generation_has_loaded_a_model(page, host):
    page.evaluate(TAB, {f"txt2img_{name}": value for name, value in FIELDS.items()})
    price = page.locator(f"{PANEL}sheet .noiseorder-price")
    price.get_by_text("9 candidates down to 0.75 of the schedule").wait_for()
    host.plan = Plan(6, 20)
    page.evaluate("document.dispatchEvent(new CustomEvent('noiseorder-generated', {detail: 'txt2img'}))")
    price.get_by_text("9 candidates at 6 of 20 steps: 2.7 images for each image, 10.8 for all 4").wait_for()
    host.plan = None
    assert page.errors == []

"""The button Audition in a page of Gradio's own, whose Generate button and routes are those of a small host."""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image
from serving import blocks, serve

from lib_noiseorder.chain import read_chain, with_variant, write_chain
from lib_noiseorder.job import Plan
from lib_noiseorder.webui import api, sheet
from lib_noiseorder.webui.cost import Rates

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "javascript" / name for name in ("noiseorder.js", "sheet.js")]
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
        self.controls: list[tuple[object, str]] = []
        self.whole = 0
        self.running = threading.Semaphore(1)
        self.is_busy = False
        self.plan: Plan | None = None
        self.images = 1

    def generate(self, ticket, seed, variant, chain):
        self.controls.append((variant, chain))
        self.presses.append((ticket, seed))
        with self.running:
            contact_sheet = self.sheets.claim(ticket)
            if contact_sheet is None:
                self.whole += 1
                return
            contact_sheet.images, contact_sheet.variants = self.images, tuple(range(contact_sheet.candidates))
            contact_sheet.plan, contact_sheet.cost = Plan(6, 20), 2.7
            self.is_busy = True
            links = read_chain(contact_sheet.settings.get("chain", chain))
            while (order := self.orders.get()) is not None:
                if isinstance(order, str):
                    contact_sheet.notes.append(order)
                    continue
                image, seed, variant = order
                chosen = {"chain": write_chain(with_variant(links, variant))} if links else {"variant": variant}
                picture = Image.new("RGB", (8, 8), (255, 9 * variant, 0))
                contact_sheet.previews.append(sheet.Preview(image, seed, variant, picture, settings=chosen))
            contact_sheet.done = True
            self.is_busy = False

    def make(self, variant, seed=7, image=0):
        self.orders.put((image, seed, variant))

    def refuse(self, reason):
        self.orders.put(reason)
        self.end()

    def end(self):
        self.orders.put(None)

    @property
    def asked(self):
        """The settings of the last request."""
        return json.loads(self.presses[-1][0]).get("settings")


def build_tab(host, tab, textbox=False):
    ours = OURS.replace("txt2img", tab)
    gr.Textbox("a cat", lines=2, elem_id=f"{tab}_prompt", interactive=True)
    gr.Number(4, elem_id=f"{ours}erase", interactive=True)
    seed = gr.Textbox("", elem_id=f"{tab}_seed") if textbox else gr.Number(-1, precision=0, elem_id=f"{tab}_seed")
    variant = gr.Number(0, precision=0, elem_id=f"{ours}variant")
    chain = gr.Textbox("", max_lines=1, elem_id=f"{ours}chain")
    ticket = sheet.panel(lambda name: ours + name)
    sheet.sliders(lambda name: ours + name)
    button = gr.Button("Generate", elem_id=f"{tab}_generate")
    button.click(lambda *values: host.generate(*values), [ticket, seed, variant, chain], None)


@pytest.fixture(scope="module")
def served(request):
    """A page with a number for its seed, or with text, as with --use-textbox-seed; or with the other tab as well."""
    host = Host()
    kind = getattr(request, "param", "number")
    with blocks((ROOT / "style.css").read_text(encoding="utf-8")) as page:
        build_tab(host, "txt2img", textbox=kind == "textbox")
        if kind == "both tabs":
            build_tab(host, "img2img")
    with serve(page) as address:
        rates = Rates(lambda job, depth: host.plan)
        api.register(page.app_of_test, dict, rates, host.sheets, busy=lambda: host.is_busy)
        yield host, address


@pytest.fixture
def host(served):
    host = served[0]
    host.presses.clear()
    host.controls.clear()
    host.whole, host.images = 0, 1
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
    for script in SCRIPTS:
        page.add_script_tag(path=script)


def press(page):
    """Also while it says that it cannot be pressed."""
    page.locator(f"{PANEL}audition_button").click(force=True)


def told(page, text):
    page.locator(f"{PANEL}sheet .noiseorder-told").get_by_text(text).wait_for()


def made(page, text):
    page.locator(f"{PANEL}sheet .noiseorder-made").get_by_text(text).wait_for()


def cell(page, number):
    return page.locator(f"{PANEL}sheet .noiseorder-cell").nth(number)


def choose(page, number):
    """Click a preview, and wait until its controls are written."""
    cell(page, number).click()
    page.locator(f"{PANEL}sheet .noiseorder-cell[aria-pressed=true]").wait_for()


def act(page, text):
    page.locator(f"{PANEL}sheet .noiseorder-chosen button").get_by_text(text, exact=True).click()


def captions(page):
    return page.locator(f"{PANEL}sheet .noiseorder-cell span").all_inner_texts()


def crumbs(page):
    """What the line of crumbs says, the place where one is in brackets."""
    found = page.locator(f"{PANEL}sheet .noiseorder-crumbs button").evaluate_all(
        "all => all.map(e => e.ariaCurrent ? `[${e.textContent}]` : e.textContent)"
    )
    return " → ".join(found)


def controls(page):
    """Variant, chain and seed, as they stand in the controls."""
    names = (f"{PANEL}variant input", f"{PANEL}chain input, {PANEL}chain textarea", SEED)
    return tuple(page.locator(name).first.input_value() for name in names)


def sheet_of(page, host, *variants, seed=7):
    """A whole sheet, made."""
    for variant in variants:
        host.make(variant, seed)
    host.end()
    page.wait_for_function(
        f"() => document.querySelectorAll('{PANEL}sheet .noiseorder-cell').length >= {len(variants)}"
    )
    wait_for_end(page, host)


def wait_for_presses(page, host, count):
    for _ in range(MILLISECONDS // 20):
        if len(host.presses) >= count:
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"{len(host.presses)} presses, not {count}")


def vary(page, host, text, *variants, seed=7):
    """Press a button beneath the chosen preview, and make the sheet that is asked for."""
    count = len(host.presses)
    act(page, text)
    wait_for_presses(page, host, count + 1)
    sheet_of(page, host, *variants, seed=seed)


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
    assert captions(page) == ["Variant 0", "Variant 1"], "each preview once"
    assert page.locator(f"{PANEL}sheet .noiseorder-made").inner_text().startswith("9 candidates at 6 of 20 steps")
    # And again when it is done.
    press(page)
    host.make(0)
    made(page, "9 candidates at 6 of 20 steps")
    host.end()
    wait_for_end(page, host)
    assert (len(host.presses), host.whole) == (2, 0)


@pytest.mark.once
@pytest.mark.parametrize("shown", [["interrupt", "skip"], ["skip", "interrupting"], ["interrupting"]], ids=str)
def test_a_press_while_the_tab_generates_waits_for_another(page, host, shown):
    """Also while an interrupted batch goes on."""
    page.evaluate("names => show(...names)", shown)
    press(page)
    told(page, "This tab is generating: press Audition when it has ended")
    page.wait_for_timeout(600)
    assert host.presses == []
    assert page.locator(f"{PANEL}audition_ticket").locator("input, textarea").input_value() == ""


@pytest.mark.once
def test_a_generation_that_begins_meanwhile_is_not_followed_by_another(page, host):
    """The user's own press of Generate within the fifth of a second takes the ticket with it."""
    page.evaluate(
        "() => { window.pressed = 0; document.getElementById('txt2img_generate').addEventListener('click', () =>"
        " window.pressed += 1); }"
    )
    page.evaluate(
        f"() => {{ document.querySelector('{PANEL}audition_button').click(); setTimeout(() =>"
        " document.getElementById('txt2img_generate').click(), 100); }"
    )
    host.make(0)
    cell(page, 0).wait_for()
    host.end()
    wait_for_end(page, host)
    page.wait_for_timeout(500)
    # Whether a Gradio drops the second press, or queues it.
    assert page.evaluate("window.pressed") == 1
    assert (len(host.presses), host.whole) == (1, 0)


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
def test_what_the_page_asks_is_no_error(page, host):
    """Neither at load, while img2img is not built, nor before a sheet has begun."""
    with host.running:
        press(page)
        page.wait_for_timeout(1500)
    host.make(0)
    cell(page, 0).wait_for()
    assert page.errors == []


@pytest.mark.once
def test_a_page_that_is_loaded_again_finds_the_sheet_that_is_being_made(page, host):
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
    # Also one that was made meanwhile.
    page.evaluate("() => { window.fetch = () => new Promise(() => {}); }")
    page.wait_for_timeout(300)  # an answer under way
    host.end()
    with host.running:
        page.reload(wait_until="domcontentloaded")
    begin(page)
    cell(page, 1).wait_for()
    made(page, "9 candidates at 6 of 20 steps: 2.7 images, and decoding the previews")
    wait_for_end(page, host)
    assert len(host.presses) == 1
    # What this page has seen made is gone with it.
    page.reload(wait_until="domcontentloaded")
    begin(page)
    page.wait_for_timeout(1000)
    is_empty(page)
    assert page.errors == []


@pytest.mark.once
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_page_that_is_loaded_again_knows_the_way(page, host, forgotten):
    press(page)
    sheet_of(page, host, 0, 1)
    choose(page, 1)
    vary(page, host, "Vary (subtle)", 0)
    choose(page, 1)
    act(page, "Vary (strong)")
    host.make(0)
    cell(page, 1).wait_for()
    if forgotten:
        del host.sheets.by_id[next(iter(host.sheets.by_id))]
    page.reload(wait_until="domcontentloaded")
    begin(page)
    if forgotten:
        cell(page, 0).wait_for()
        assert captions(page) == ["Varied 0"]
    else:
        cell(page, 1).wait_for()
        assert captions(page) == ["As it was", "Varied 0"]
        assert crumbs(page) == "seed 7 → variant 1 → varied 0 → [varied]"
    sheet_of(page, host, 1)
    if not forgotten:
        act(page, "Back")
        assert controls(page) == ("1", "1.2 v0", "7")
        assert captions(page) == ["As it was", "Varied 0"]
        act(page, "Back")
        assert captions(page) == ["Variant 0", "Variant 1"]
        assert crumbs(page) == "seed 7 → [variant 1] → varied 0 → varied"
    assert len(host.presses) == 3
    assert page.errors == []


@pytest.mark.once
def test_a_page_that_is_loaded_again_after_the_server_was_is_empty(page, host):
    press(page)
    host.make(0)
    cell(page, 0).wait_for()
    page.reload(wait_until="domcontentloaded")
    host.end()
    with host.running:
        host.sheets.by_id.clear()
    begin(page)
    page.wait_for_timeout(1000)
    is_empty(page)
    assert page.errors == []


def is_empty(page):
    assert cell(page, 0).count() == 0
    assert page.locator(f"{PANEL}sheet .noiseorder-waiting").count() == 0
    assert page.locator(f"{PANEL}sheet .noiseorder-told").inner_text() == ""
    assert page.locator(f"{PANEL}audition_button[aria-disabled=true]").count() == 0


def test_a_walk(page, host):
    """Choose, vary, vary again, back and to and fro, and the image of where one is."""
    press(page)
    sheet_of(page, host, 0, 1, 2)
    assert captions(page) == ["Variant 0", "Variant 1", "Variant 2"]
    assert not page.locator(f"{PANEL}sheet .noiseorder-chosen").is_visible()
    choose(page, 1)
    large = page.locator(f"{PANEL}sheet .noiseorder-picture img")
    assert large.get_attribute("src") == cell(page, 1).locator("img").get_attribute("src")
    assert controls(page) == ("1", "", "7")
    assert crumbs(page) == "seed 7 → [variant 1]"

    act(page, "Vary (subtle)")
    page.locator(f"{PANEL}sheet .noiseorder-waiting").get_by_text("9 still to come").wait_for()
    assert captions(page) == ["As it was"], "the one it came from is not paid for"
    assert large.get_attribute("src") == cell(page, 0).locator("img").get_attribute("src")
    host.make(0)
    page.locator(f"{PANEL}sheet .noiseorder-waiting").get_by_text("8 still to come").wait_for()
    assert host.presses[1:] == [(host.presses[1][0], 7)]
    assert host.asked == {"variant": 1, "chain": "1.2 v0"}
    assert host.controls[1] == (1, ""), "what it came from"
    sheet_of(page, host, 1)
    assert captions(page) == ["As it was", "Varied 0", "Varied 1"]
    assert page.locator(f"{PANEL}sheet .noiseorder-waiting").count() == 0
    choose(page, 2)
    assert controls(page) == ("1", "1.2 v1", "7")
    assert crumbs(page) == "seed 7 → variant 1 → [varied 1]"

    vary(page, host, "Vary (strong)", 0, 1)
    assert host.asked == {"variant": 1, "chain": "1.2 v1; 2 v0"}
    choose(page, 1)
    assert controls(page) == ("1", "1.2 v1; 2 v0", "7")
    assert crumbs(page) == "seed 7 → variant 1 → varied 1 → [varied 0]"

    act(page, "Back")
    assert captions(page) == ["As it was", "Varied 0", "Varied 1"]
    assert cell(page, 2).get_attribute("aria-pressed") == "true"
    assert controls(page) == ("1", "1.2 v1", "7")
    line = page.locator(f"{PANEL}sheet .noiseorder-crumbs")
    line.get_by_text("seed 7").click()
    assert controls(page) == ("0", "", "7")
    assert captions(page) == ["Variant 0", "Variant 1", "Variant 2"]
    assert page.locator(f"{PANEL}sheet .noiseorder-cell[aria-pressed=true]").count() == 0
    assert not page.locator(f"{PANEL}sheet .noiseorder-chosen").is_visible()
    line.get_by_text("varied 0").click()
    assert controls(page) == ("1", "1.2 v1; 2 v0", "7")
    assert crumbs(page) == "seed 7 → variant 1 → varied 1 → [varied 0]"
    assert len(host.presses) == 3, "nothing is paid for twice"

    # Of another choice nothing else has come yet.
    line.get_by_text("variant 1").click()
    choose(page, 2)
    assert crumbs(page) == "seed 7 → [variant 2]"
    assert controls(page) == ("2", "", "7")
    line.get_by_text("variant 2").click()
    act(page, "Generate this")
    page.wait_for_timeout(500)
    assert host.presses[3:] == [("", 7)]
    assert host.controls[3:] == [(2, "")]
    act(page, "Back")
    assert not page.locator(f"{PANEL}sheet .noiseorder-chosen").is_visible()
    assert page.errors == []


def test_of_a_batch_the_chosen_image_is_refined_and_the_batch_stays(page, host):
    host.images = 2
    press(page)
    for image in range(2):
        host.make(0, 7 + image, image)
    sheet_of(page, host, 1)
    assert captions(page) == ["Variant 0 · seed 7", "Variant 1 · seed 7", "Variant 0 · seed 8"]
    choose(page, 2)
    host.images = 1
    for kind, chain in (("subtle", "1.2 v0"), ("strong", "1.2 v1; 2 v0")):
        vary(page, host, f"Vary ({kind})", 1, seed=8)
        assert json.loads(host.presses[-1][0])["image"] == 1
        assert host.asked["chain"] == chain
        assert page.locator(f"{PANEL}sheet .noiseorder-stale").inner_text() == ""
        choose(page, 1)
    assert crumbs(page) == "seed 7 → variant 0 · seed 8 → varied 1 → [varied 1]"
    assert controls(page) == ("0", "1.2 v1; 2 v1", "7")
    assert page.errors == []


def test_another_audition_starts_over_and_keeps_what_the_user_wrote(page, host):
    press(page)
    sheet_of(page, host, 0, 1)
    choose(page, 1)
    vary(page, host, "Vary (subtle)", 0, 1)
    choose(page, 2)
    assert controls(page) == ("1", "1.2 v1", "7")
    press(page)
    sheet_of(page, host, 0)
    assert (host.controls[-1], host.asked) == ((0, ""), None)
    choose(page, 0)
    page.locator(f"{PANEL}variant input").evaluate(
        "e => { e.value = 5; e.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    press(page)
    sheet_of(page, host, 5)
    assert host.controls[-1] == (5, "")


def test_a_preview_as_it_was_has_the_settings_that_made_it(page, host):
    press(page)
    sheet_of(page, host, 3)
    choose(page, 0)
    vary(page, host, "Vary (subtle)", 5)
    choose(page, 1)
    vary(page, host, "Vary (subtle)", 0)
    choose(page, 1)
    choose(page, 0)
    assert controls(page) == ("3", "1.2 v5", "7")
    vary(page, host, "Vary (strong)", 0)
    assert host.asked == {"variant": 3, "chain": "1.2 v5; 2 v0"}


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "touch"])
def test_a_part_is_drawn(page, host, touch):
    page.set_viewport_size({"width": 1000, "height": 700})  # a page that a finger could scroll
    press(page)
    sheet_of(page, host, 3)
    choose(page, 0)
    act(page, "Change a part")
    picture = page.locator(f"{PANEL}sheet .noiseorder-picture")
    picture.scroll_into_view_if_needed()
    frame = picture.bounding_box()
    corners = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in ((0.9, 0.2), (0.4, 0.7))]
    if touch:
        device = page.context.new_cdp_session(page)
        path = [tuple(a + (b - a) * k / 5 for a, b in zip(*corners, strict=True)) for k in range(6)]
        for kind, points in (("Start", path[:1]), *(("Move", [point]) for point in path[1:]), ("End", [])):
            points = [{"x": x, "y": y} for x, y in points]
            device.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    else:
        page.mouse.move(*corners[0])
        page.mouse.down()
        page.mouse.move(*corners[1], steps=3)
        page.mouse.up()
    sides = page.locator(f"{PANEL}sheet .noiseorder-part input")
    drawn = [int(side.input_value()) for side in sides.all()]
    assert all(abs(a - b) <= 1 for a, b in zip(drawn, (40, 20, 90, 70), strict=True)), drawn
    box = picture.locator(".noiseorder-box").bounding_box()
    assert box["x"] - frame["x"] == pytest.approx(drawn[0] / 100 * frame["width"], abs=2)
    assert box["height"] == pytest.approx((drawn[3] - drawn[1]) / 100 * frame["height"], abs=2)
    vary(page, host, "Audition this part", 2)
    assert host.asked == {"variant": 3, "chain": "64 v0 @ " + " ".join(f"{side / 100:.2f}" for side in drawn)}
    choose(page, 1)
    assert crumbs(page) == "seed 7 → variant 3 → [part 2]"
    assert not picture.locator(".noiseorder-box").is_visible()
    assert page.errors == []


def test_a_part_is_set_by_the_keyboard(page, host):
    press(page)
    sheet_of(page, host, 3)
    cell(page, 0).focus()
    page.keyboard.press("Enter")
    page.locator(f"{PANEL}sheet .noiseorder-chosen button").get_by_text("Change a part").focus()
    page.keyboard.press("Enter")

    def write(*sides):
        for side in sides:
            page.keyboard.press("Control+A")
            page.keyboard.type(str(side))
            page.keyboard.press("Tab")

    def read():
        return [side.input_value() for side in page.locator(f"{PANEL}sheet .noiseorder-part input").all()]

    write(50, 10, 95, 60)
    assert read() == ["50", "10", "95", "60"]
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => document.querySelector('{PANEL}audition_button[aria-disabled=true]')")
    sheet_of(page, host, 1)
    assert host.asked == {"variant": 3, "chain": "64 v0 @ 0.50 0.10 0.95 0.60"}
    # What cannot be is put right: too small, turned round, outside, empty.
    page.locator(f"{PANEL}sheet .noiseorder-chosen button").get_by_text("Change a part").focus()
    page.keyboard.press("Enter")
    write(98, "", 99, 120)
    assert read() == ["94", "25", "99", "100"]
    page.locator(f"{PANEL}sheet .noiseorder-part input").nth(0).focus()
    write(99)
    assert read() == ["95", "25", "100", "100"]


@pytest.mark.once
def test_what_is_refused_leads_back(page, host):
    press(page)
    sheet_of(page, host, 3)
    choose(page, 0)
    act(page, "Vary (subtle)")
    host.refuse("this cannot be")
    told(page, "this cannot be")
    wait_for_end(page, host)
    assert crumbs(page) == "seed 7 → [variant 3]"
    assert captions(page) == ["Variant 3"]
    assert controls(page) == ("3", "", "7")
    # Nor is anything asked while the tab generates.
    page.evaluate("show('interrupt', 'skip')")
    for text, answer in (("Generate this", "press Generate this when"), ("Vary (subtle)", "press Audition when")):
        act(page, text)
        told(page, answer)
    page.wait_for_timeout(500)
    assert len(host.presses) == 2


@pytest.mark.once
def test_a_press_waits_until_the_tab_has_shown_its_previews(page, host):
    """The server tells the end of a sheet before the host has filled its gallery."""
    whole = f"() => !document.querySelector('{PANEL}audition_button[aria-disabled=true]')"
    others = {
        "and one press is enough": f"{PANEL}sheet [data-action=strong]",
        "unless another is chosen": f"{PANEL}sheet .noiseorder-cell[aria-pressed=false]",
    }
    press(page)
    for other in others.values():
        host.make(0)
        host.make(1)
        host.end()
        page.wait_for_function(whole)
        choose(page, 1)
        page.evaluate(
            f"other => {{ document.querySelector('{PANEL}sheet [data-action=subtle]').click();"
            " document.querySelector(other).click(); setTimeout(show, 100); }",
            other,
        )
        page.wait_for_timeout(1000)
    assert len(host.presses) == 2
    assert host.asked == {"variant": 1, "chain": "1.2 v0"}
    told(page, "is chosen")
    page.evaluate("show('interrupt')")
    generate = f"document.querySelector('{PANEL}sheet [data-action=generate]').click()"
    page.evaluate(
        f"() => {{ {generate}; {generate}; setTimeout(show, 100); window.clicks = 0;"
        " document.getElementById('txt2img_generate').addEventListener('click', () => clicks++); }"
    )
    page.wait_for_timeout(1000)
    assert page.evaluate("clicks") == 1
    assert host.presses[2:] == [("", 7)]
    # A double click in a tab that is free.
    page.evaluate(f"() => {{ show(); {generate}; setTimeout(() => {generate}, 100); }}")
    page.wait_for_timeout(600)
    assert page.evaluate("clicks") == 2
    assert page.errors == []


@pytest.mark.parametrize("served", ["both tabs"], indirect=True)
def test_the_sheet_of_img2img(page, host):
    theirs = PANEL.replace("txt2img", "img2img")
    for name in (f"{theirs}audition_ticket", "#img2img_generate", SEED.replace("txt2img", "img2img")):
        page.locator(name).first.wait_for(state="attached")
    page.evaluate(AROUND.replace("txt2img", "img2img"))
    page.locator(f"{theirs}audition_button").click()
    for variant in range(2):
        host.make(variant, 9)
    host.end()
    page.locator(f"{theirs}sheet .noiseorder-cell").nth(1).click()
    page.locator(f"{theirs}sheet .noiseorder-told").get_by_text("Variant 1 is chosen").wait_for()
    with host.running:
        page.evaluate("show()")
    page.locator(f"{theirs}sheet [data-action=generate]").click()
    wait_for_presses(page, host, 2)
    assert host.presses[1:] == [("", 9)]
    assert host.controls[1:] == [(1, "")]
    assert controls(page) == ("0", "", "-1"), "the other tab's"
    assert cell(page, 0).count() == 0
    assert page.errors == []


@pytest.mark.once
def test_while_one_is_made_no_other_is_and_what_it_came_from_stays(page, host):
    press(page)
    sheet_of(page, host, 0, 1)
    choose(page, 0)
    act(page, "Vary (subtle)")
    host.make(0)
    cell(page, 1).wait_for()
    for name in ("strong", "subtle"):
        page.locator(f"{PANEL}sheet [data-action={name}][aria-disabled=true]").click(force=True)
    page.locator(f"{PANEL}sheet .noiseorder-crumbs").get_by_text("variant 0").click()
    cell(page, 1).click()
    told(page, "choose another when it has ended")
    page.locator(f"{PANEL}sheet .noiseorder-crumbs").get_by_text("varied").click()
    sheet_of(page, host, 1)
    assert captions(page) == ["As it was", "Varied 0", "Varied 1"]
    assert len(host.presses) == 2


def test_a_sheet_made_with_other_settings_is_greyed(page, host):
    stale = page.locator(f"{PANEL}sheet .noiseorder-stale")

    def opacity():
        page.wait_for_timeout(200)
        return page.locator(f"{PANEL}sheet .noiseorder-cells").evaluate("e => getComputedStyle(e).opacity")

    press(page)
    sheet_of(page, host, 0, 1)
    assert (opacity(), stale.inner_text()) == ("1", ""), "a random seed"
    choose(page, 1)
    assert opacity() == "1", "what choosing writes"
    prompt, erase, seed = (
        page.locator(name).first for name in ("#txt2img_prompt textarea", f"{PANEL}erase input", SEED)
    )
    for field, other, own in ((prompt, "a dog", "a cat"), (erase, "9", "4"), (seed, "8", "7"), (seed, "8", "-1")):
        field.fill(other)
        stale.get_by_text("Made with other settings: press Audition again").wait_for()
        assert float(opacity()) < 0.6
        field.fill(own)
        assert opacity() == "1"
    # A new one is made with the new settings; and what it came from is no longer what it would be.
    prompt.fill("a dog")
    vary(page, host, "Vary (subtle)", 0)
    assert captions(page) == ["Varied 0"]
    assert opacity() == "1"
    assert crumbs(page) == "seed 7 → variant 1 → [varied]"
    page.locator(f"{PANEL}sheet .noiseorder-crumbs").get_by_text("variant 1").click()
    assert float(opacity()) < 0.6


@pytest.mark.parametrize(("width", "column", "least", "columns"), [(1280, 600, 140, 3), (400, 400, 120, 2)])
def test_previews_are_as_large_as_the_panel_allows(page, host, width, column, least, columns):
    page.set_viewport_size({"width": width, "height": 900})
    page.add_style_tag(content=f"{PANEL}sheet {{ max-width: {column}px; }}")
    press(page)
    sheet_of(page, host, *range(9))
    boxes = [each.bounding_box() for each in page.locator(f"{PANEL}sheet .noiseorder-cell img").all()]
    assert min(box["width"] for box in boxes) >= least
    assert len({box["x"] for box in boxes}) == columns
    choose(page, 0)
    act(page, "Change a part")
    grid = page.locator(f"{PANEL}sheet .noiseorder-cells")
    assert grid.evaluate("e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight"), (
        "no scrolling for 9"
    )
    large = page.locator(f"{PANEL}sheet .noiseorder-picture img").bounding_box()["width"]
    assert large == 512 if column > 512 else large > 300
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.locator(f"{PANEL}sheet *").evaluate_all(
        "(all, width) => all.filter(e => e.checkVisibility() && e.getBoundingClientRect().right > width).length", width
    )
    assert wide == 0
    # By the keyboard, row by row.
    cell(page, 1).focus()
    for key, number in (("ArrowDown", 1 + columns), ("ArrowRight", 2 + columns), ("ArrowUp", 2), ("ArrowLeft", 1),
                        ("ArrowUp", 1), ("End", 8), ("ArrowDown", 8), ("ArrowRight", 8), ("Home", 0)):  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.variant") == str(number), key
    assert page.locator(f"{PANEL}sheet .noiseorder-cell[tabindex='0']").count() == 1


def test_a_long_sheet_scrolls_inside_image_by_image(page, host):
    host.images = 4
    press(page)
    for variant in range(16):
        for image in range(4):
            host.make(variant, 7 + image, image)
    cell(page, 63).wait_for()
    host.end()
    wait_for_end(page, host)
    assert captions(page)[:18:17] == ["Variant 0 · seed 7", "Variant 1 · seed 8"]
    grid = page.locator(f"{PANEL}sheet .noiseorder-cells")
    assert grid.evaluate("e => e.scrollHeight > e.clientHeight && e.clientHeight <= 0.8 * innerHeight")
    choose(page, 17)
    assert controls(page) == ("1", "", "7"), "the seed of the first image"


@pytest.mark.once
def test_the_price_is_asked_for_again_until_the_server_knows_it(page, host):
    """A checkpoint is being loaded, or another tab generates: nobody touches this page meanwhile."""
    page.evaluate(TAB, {f"txt2img_{name}": value for name, value in FIELDS.items()})
    price = page.locator(f"{PANEL}sheet .noiseorder-price")
    price.get_by_text("9 candidates down to 0.75 of the schedule").wait_for()
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/audition/cost" in request.url else None)
    host.plan = Plan(6, 20)
    price.get_by_text("9 candidates at 6 of 20 steps").wait_for()
    page.wait_for_timeout(2500)
    assert len(asked) <= 3, "and no longer once it does"
    host.plan = None


@pytest.mark.once
def test_a_price_that_is_refused_is_not_asked_for_again(page, host):
    asked = []
    page.route("**/audition/cost?*", lambda route: (asked.append(1), route.fulfill(status=422, body="{}")))
    page.evaluate(TAB, {f"txt2img_{name}": value for name, value in FIELDS.items()})
    price = page.locator(f"{PANEL}sheet .noiseorder-price")
    page.wait_for_timeout(2500)
    assert len(asked) == 1
    assert price.inner_text() == ""


@pytest.mark.once
def test_the_wait_for_a_price_begins_anew_with_other_settings(page, host):
    """At the third question it has grown to 4 seconds."""
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/audition/cost" in request.url else None)
    page.evaluate(TAB, {f"txt2img_{name}": value for name, value in FIELDS.items()})
    for _ in range(200):
        page.wait_for_timeout(50)
        if len(asked) == 3:
            break
    page.evaluate(
        "document.querySelector('#txt2img_steps input').value = 30; document.dispatchEvent(new Event('input'))"
    )
    page.wait_for_timeout(3000)
    assert sum("steps=20" in url for url in asked) == 3
    assert sum("steps=30" in url for url in asked) == 2, "at once, and after 1 second"


@pytest.mark.once
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


@pytest.mark.once
def test_the_price_is_asked_for_again_when_a_generation_has_loaded_a_model(page, host):
    page.evaluate(TAB, {f"txt2img_{name}": value for name, value in FIELDS.items()})
    price = page.locator(f"{PANEL}sheet .noiseorder-price")
    price.get_by_text("9 candidates down to 0.75 of the schedule").wait_for()
    host.plan = Plan(6, 20)
    page.evaluate("document.dispatchEvent(new CustomEvent('noiseorder-generated', {detail: 'txt2img'}))")
    told = "9 candidates at 6 of 20 steps: 2.7 images for each image, 10.8 for all 4, and decoding the previews"
    price.get_by_text(told).wait_for()
    host.plan = None
    assert page.errors == []


@pytest.mark.once
def test_a_batch_that_has_lost_the_chosen_image_is_told(page, host):
    stale = page.locator(f"{PANEL}sheet .noiseorder-stale")
    page.evaluate(TAB, {"txt2img_batch_size": 2, "txt2img_batch_count": 1})
    size = page.locator("#txt2img_batch_size input")

    def has_batch_of(count):
        size.fill(count)
        page.wait_for_timeout(300)
        return stale.inner_text() == ""

    host.images = 2
    press(page)
    for image in range(2):
        host.make(0, 7 + image, image)
    sheet_of(page, host, 1)
    assert [has_batch_of(count) for count in "123"] == [False, True, True]
    choose(page, 2)
    host.images = 1
    vary(page, host, "Vary (subtle)", 1, seed=8)
    assert json.loads(host.presses[-1][0])["image"] == 1
    assert [has_batch_of(count) for count in "12"] == [False, True], "the second image is in no batch of one"
    assert page.errors == []

"""Tickets, sheets and the routes of auditions, with a host's own route played by a small one."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import gradio as gr
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import BaseModel, Field

from lib_noiseorder.config import FIELDS, SettingError, parse
from lib_noiseorder.job import Job, Plan
from lib_noiseorder.webui import api, sheet
from lib_noiseorder.webui.cost import Rates, cost_in_images

DECODED = ", and decoding the previews"


class Txt2Img(BaseModel):
    prompt: str = ""
    steps: int = 20
    init_images: list = Field(default=[])
    infotext: str = ""
    alwayson_scripts: dict[str, Any] = Field(default={})


class Host:
    """Makes two previews of whatever it is asked, and remembers the request."""

    def __init__(self) -> None:
        self.sheets = sheet.Sheets()
        self.requests: list[Any] = []
        self.refusal = ""
        self.interrupted = False
        self.score = -0.5
        self.seed = 7
        self.password = True

    def guard(self) -> None:
        if not self.password:
            raise HTTPException(401, "no")

    def txt2imgapi(self, txt2imgreq: Txt2Img) -> dict[str, Any]:
        self.requests.append(txt2imgreq)
        args = txt2imgreq.alwayson_scripts["noise order"]["args"]
        audition = self.sheets.claim(args[len(FIELDS)])
        config = parse(args)
        audition.images, audition.variants, audition.plan, audition.cost = 1, (0, 1), Plan(6, 20), 0.6
        audition.size = (512, 256)
        if self.refusal:
            audition.notes.append(self.refusal)
        else:
            image = Image.new("RGB", (1024, 512), "red")
            audition.previews = [
                sheet.Preview(0, self.seed, config.variant + k, image, -0.5 * k if self.score == -0.5 else self.score)
                for k in range(2)
            ]
            audition.infotexts = ["one", "two"]
        if self.interrupted:
            audition.notes.append("interrupted")
        audition.done = True
        return {}


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def client(host):
    app = FastAPI()
    for name in ("txt2img", "img2img"):
        app.add_api_route(
            f"/sdapi/v1/{name}",
            host.txt2imgapi,
            methods=["POST"],
            dependencies=[Depends(host.guard)],
            response_model=None,
        )
    plans = {"Euler": Plan(6, 20), "Heun": Plan(6, 20, tuple(range(1, 41, 2)), 39)}

    def plan(job, depth):
        host.arguments = (job, depth)
        return plans.get(job.sampler)

    api.register(app, dict, Rates(plan), host.sheets)
    return TestClient(app)


def decode(preview):
    return Image.open(io.BytesIO(base64.b64decode(preview["picture"])))


def test_the_route_takes_what_txt2img_takes(client, host):
    result = client.post("/noiseorder/v1/audition", json={"prompt": "a cat", "steps": 9, "candidates": 2}).json()
    (request,) = host.requests
    assert (request.prompt, request.steps) == ("a cat", 9)
    assert parse(request.alwayson_scripts["noise order"]["args"]).enabled
    assert json.loads(request.alwayson_scripts["noise order"]["args"][-1])["scored"] is True
    assert (result["variants"], result["steps"], result["of"], result["depth"]) == ([0, 1], 6, 20, 0.75)
    assert result["told"] == f"2 candidates at 6 of 20 steps: 0.6 images{DECODED}"
    assert [(each["variant"], each["seed"], each["score"], each["infotext"]) for each in result["previews"]] == [
        (0, 7, 0.0, "one"),
        (1, 7, -0.5, "two"),
    ]
    assert decode(result["previews"][0]).size == (512, 256)


@pytest.mark.parametrize("name", ["noise order", "Noise Order"])
def test_settings_and_neighbours_are_handed_on(client, host, name):
    scripts = {name: {"args": [{"erase": 9, "variant": 3}]}, "other": {"args": [1]}}
    result = client.post("/noiseorder/v1/audition", json={"alwayson_scripts": scripts, "depth": 0.5}).json()
    (request,) = host.requests
    config = parse(request.alwayson_scripts["noise order"]["args"])
    assert (config.erase, config.variant) == (9, 3)
    assert request.alwayson_scripts["other"] == {"args": [1]}
    assert list(request.alwayson_scripts) == ["noise order", "other"]
    assert result["depth"] == 0.5


INFOTEXT = "a cat, Noise Order erase: 5\nNegative prompt: x\nSteps: 20, Noise Order: 1, Noise Order erase: 9, "
INFOTEXT += 'Noise Order inject: 0,08, Noise Order direction: noise, Noise Order variant: 3, Version: "a, b"'


@pytest.mark.parametrize("scripts", [{}, {"noise order": {}}, {"noise order": {"args": []}}, {"noise order": None}])
def test_settings_come_from_the_host_s_field_infotext(client, host, scripts):
    """As in txt2img, whose own reading of it our arguments would hide."""
    client.post("/noiseorder/v1/audition", json={"infotext": INFOTEXT, "alwayson_scripts": scripts})
    config = parse(host.requests[0].alwayson_scripts["noise order"]["args"])
    assert (config.erase, config.inject, config.direction, config.variant) == (9, 0.08, "noise", 3)
    assert host.requests[0].infotext == INFOTEXT, "the rest of it is the host's"


def test_arguments_count_more_than_the_infotext(client, host):
    scripts = {"noise order": {"args": [{"erase": 2}]}}
    client.post("/noiseorder/v1/audition", json={"infotext": INFOTEXT, "alwayson_scripts": scripts})
    config = parse(host.requests[0].alwayson_scripts["noise order"]["args"])
    assert (config.erase, config.variant) == (2, 0)


@pytest.mark.parametrize("text", ["", "a cat", "a cat\nSteps: 20, Noise Order error: no such model"])
def test_an_infotext_without_us_says_nothing(client, host, text):
    client.post("/noiseorder/v1/audition", json={"infotext": text})
    assert parse(host.requests[0].alwayson_scripts["noise order"]["args"]) == parse([{}])


def test_images_make_it_img2img(client, host):
    paths = []
    for route in client.app.routes:
        if getattr(route, "path", "").startswith("/sdapi"):
            original = route.endpoint
            route.endpoint = lambda txt2imgreq, path=route.path, original=original: (
                paths.append(path),
                original(txt2imgreq),
            )
            route.endpoint.__annotations__ = {"txt2imgreq": Txt2Img}
    client.post("/noiseorder/v1/audition", json={"init_images": ["x"]})
    client.post("/noiseorder/v1/audition", json={})
    assert paths == ["/sdapi/v1/img2img", "/sdapi/v1/txt2img"]


@pytest.mark.parametrize("depth", [0.05, 0.07, 1])
def test_how_deep_previews_can_be(client, depth):
    assert client.post("/noiseorder/v1/audition", json={"depth": depth}).json()["depth"] == depth


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"candidates": 1}, "from 2 to 16"),
        ({"candidates": 17}, "from 2 to 16"),
        ({"candidates": "4"}, "must be a whole number"),
        ({"depth": 0}, "must be a number from 0.05 to 1"),
        ({"depth": None}, "must be a number from 0.05 to 1"),
        ({"steps": "many"}, "steps"),
        ({"alwayson_scripts": {"noise order": {"args": [{"erase": 1}]}}}, "set Erase above 1"),
        ({"alwayson_scripts": {"noise order": {"args": [{"erase": 0}]}}}, "must be a number from 1 to 64"),
        ({"alwayson_scripts": {"noise order": {"args": [{"enabled": False}]}}}, "switch it on"),
        ({"alwayson_scripts": {"noise order": {"args": [{"colour": 1}]}}}, "Unknown setting 'colour'"),
        ({"alwayson_scripts": {"noise order": {"args": {"erase": 9}}}}, "args = {'erase': 9}: must be a list"),
        ({"alwayson_scripts": {"noise order": {"args": {}}}}, "args = {}: must be a list"),
        ({"alwayson_scripts": {"noise order": {"args": 9}}}, "args = 9: must be a list"),
        ({"alwayson_scripts": {"noise order": {"args": "9"}}}, "args = '9': must be a list"),
        ({"alwayson_scripts": {"noise order": [{"erase": 9}]}}, "must be a list, as in"),
        ({"alwayson_scripts": {"noise order": 9}}, "args = 9: must be a list"),
        ({"alwayson_scripts": [1]}, "alwayson_scripts = [1]: must be an object"),
        ({"script_name": "X/Y/Z plot"}, "leave script_name out"),
        ({"infotext": "x\nSteps: 4, Noise Order: 2, Noise Order erase: 9"}, "made by version '2'"),
        ({"infotext": "x\nSteps: 4, Noise Order: 1, Noise Order erase: 1"}, "set Erase above 1"),
    ],
)
def test_what_cannot_be_asked_is_told(client, host, body, message):
    response = client.post("/noiseorder/v1/audition", json=body)
    assert response.status_code == 422
    assert message in response.json()["detail"]
    assert host.requests == []


def test_a_refusal_of_the_generation_is_told(client, host):
    host.refusal = "the noise was left as it is: no such model"
    response = client.post("/noiseorder/v1/audition", json={})
    assert (response.status_code, response.json()["detail"]) == (422, host.refusal)


def test_an_interrupted_audition_gives_what_is_there(client, host):
    host.interrupted = True
    result = client.post("/noiseorder/v1/audition", json={}).json()
    assert result["notes"] == ["interrupted"]
    assert len(result["previews"]) == 2


def test_one_that_is_interrupted_in_the_first_of_our_evaluations_gives_nothing_and_is_no_error(client, host):
    host.interrupted, host.refusal = True, "the noise was left as it is: interrupted during a model evaluation"
    answer = client.post("/noiseorder/v1/audition", json={})
    assert (answer.status_code, answer.json()["notes"]) == (200, [host.refusal, "interrupted"])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_no_score(client, host, score):
    host.score = score
    assert [each["score"] for each in client.post("/noiseorder/v1/audition", json={}).json()["previews"]] == [None] * 2
    (sheet_id,) = host.sheets.by_id
    told = client.get(f"/noiseorder/v1/audition/sheet/{sheet_id}").json()["previews"]
    assert [each["score"] for each in told] == [None] * 2


def test_a_sheet_tells_the_cost_of_each_image_and_of_all():
    made = sheet.Sheet("a", 9)
    assert made.told == "9 candidates"
    made.plan, made.cost, made.images = Plan(6, 20), 2.66, 1
    assert made.told == f"9 candidates at 6 of 20 steps: 2.7 images{DECODED}"
    made.images = 4
    assert made.told == f"9 candidates at 6 of 20 steps: 2.7 images for each image, 10.6 for all 4{DECODED}"


def test_the_hosts_password_guards_it(client, host):
    host.password = False
    assert client.post("/noiseorder/v1/audition", json={}).status_code == 401
    assert host.requests == []


def test_without_the_hosts_api_it_says_so():
    app = FastAPI()
    api.register(app, dict)
    response = TestClient(app).post("/noiseorder/v1/audition", json={})
    assert response.status_code == 404
    assert "--api" in response.json()["detail"]


def test_the_price_beforehand(client):
    url = "/noiseorder/v1/audition/cost?candidates=9&evaluations=2&sampler="
    assert client.get(f"{url}Euler").json() == {
        "told": f"9 candidates at 6 of 20 steps: 3.0 images{DECODED}",
        "known": True,
    }
    assert client.get(f"{url}Euler&evaluations=0").json()["told"].endswith(f"2.7 images{DECODED}")
    assert client.get(f"{url}Euler&cfg=1").json()["told"].endswith(f"3.3 images{DECODED}"), "one evaluation a step"
    assert (
        client.get(f"{url}Euler&images=4")
        .json()["told"]
        .endswith(f": 3.0 images for each image, 12.0 for all 4{DECODED}")
    )
    assert client.get(f"{url}unknown").json() == {"told": "9 candidates down to 0.75 of the schedule", "known": False}


def test_what_is_not_said_of_the_price_is_the_hosts_default(client, host):
    url = "/noiseorder/v1/audition/cost?sampler=Euler"
    # Four candidates, two evaluations a step, none for the noise.
    assert client.get(url).json() == {"told": f"4 candidates at 6 of 20 steps: 1.2 images{DECODED}", "known": True}
    assert host.arguments == (Job(), 0.75)
    client.get(f"{url}&scheduler=Karras&steps=9&width=64&height=32&strength=0.5&depth=0.6&parts=2&cfg=3")
    assert host.arguments == (Job(9, 3, 0.5, 2, "Euler", "Karras", 64, 32, True), 0.6)


def test_the_page_gets_only_what_it_has_not_yet(client, host):
    client.post("/noiseorder/v1/audition", json={})
    (sheet_id,) = host.sheets.by_id
    first = client.get(f"/noiseorder/v1/audition/sheet/{sheet_id}").json()
    assert [each["variant"] for each in first["previews"]] == [0, 1]
    assert decode(first["previews"][0]).size == (512, 256), "at most"
    assert first["done"]
    assert (first["candidates"], first["depth"], first["images"], first["steps"], first["of"]) == (4, 0.75, 1, 6, 20)
    assert [
        each["variant"] for each in client.get(f"/noiseorder/v1/audition/sheet/{sheet_id}?have=1").json()["previews"]
    ] == [1]


def test_a_sheet_that_is_completed_while_it_is_told_is_not_told_as_done(monkeypatch):
    """The page asks no more of one that is done."""
    preview = sheet.Preview(0, 7, 0, Image.new("RGB", (8, 8)))
    growing = sheet.Sheet("x", 2, previews=[preview])

    def complete(picture):
        growing.previews.append(preview)
        growing.done = True
        return ""

    monkeypatch.setattr(sheet, "png", complete)
    told = sheet.drawn(growing)
    assert (len(told["previews"]), told["done"]) == (1, False)
    told = sheet.drawn(growing, 1)
    assert (len(told["previews"]), told["done"]) == (1, True)


def test_a_sheet_that_has_not_begun_is_no_error(client):
    answer = client.get("/noiseorder/v1/audition/sheet/other")
    assert (answer.status_code, answer.json()) == (200, {"previews": [], "begun": False, "busy": False})


def test_the_page_gets_seeds_as_text_too_as_its_numbers_end_at_2_to_the_53(client, host):
    host.seed = 2**53 + 1
    result = client.post("/noiseorder/v1/audition", json={}).json()
    assert [each["seed"] for each in result["previews"]] == [2**53 + 1] * 2, "for programs"
    (sheet_id,) = host.sheets.by_id
    told = client.get(f"/noiseorder/v1/audition/sheet/{sheet_id}").json()
    assert [(each["seed"], each["seed_text"]) for each in told["previews"]] == [(2**53 + 1, "9007199254740993")] * 2
    assert told["begun"]


def test_tickets():
    sheets = sheet.Sheets()
    assert sheets.claim("") is sheets.claim(None) is None
    request = sheet.Sheet("x", 3, 0.6, True)
    audition = sheets.claim(sheet.ticket(request))
    assert (audition.id, audition.candidates, audition.depth, audition.scored) == ("x", 3, 0.6, True)
    assert audition.image is None
    assert sheets.by_id == {"x": audition}
    assert audition.told == "3 candidates", "nothing was made yet"
    assert sheets.claim(sheet.ticket(request)) is None, "good once"
    of_one = sheet.Sheet("v", 3, image=1)
    assert sheets.claim(sheet.ticket(of_one)).image == 1
    assert sheets.claim(sheet.ticket(sheet.Sheet("w", 3, image=0))).image == 0
    plain = sheets.claim(json.dumps({"id": "p", "candidates": 3, "depth": 1}))
    assert (plain.scored, plain.settings) == (False, {})
    wrong = [json.dumps({"id": "y", "candidates": 3, "depth": 1, "image": image}) for image in (-1, "1", 0.5, True)]
    for text in ("{", "[]", "{}", json.dumps({"id": "y"}), *wrong):
        with pytest.raises(SettingError, match="cannot be read"):
            sheets.claim(text)
    for depth in (7, 1.01, 0.04):
        with pytest.raises(SettingError, match=f"depth = {depth}"):
            sheets.claim(json.dumps({"id": "y", "candidates": 3, "depth": depth}))
    assert sheets.claim(json.dumps({"id": "z", "candidates": 3, "depth": 1})).depth == 1


def test_the_price_of_images_of_a_single_step_and_of_none():
    assert cost_in_images(3, Plan(1, 1), 1, 0) == 3
    assert cost_in_images(3, Plan(1, 1), 1, 0, 2) == 9
    assert cost_in_images(2, Plan(1, 0), 0, 0) == 0, "nothing is asked"


def test_the_price_counts_prompts_joined_by_and_and_samplers_of_second_order(client):
    def read_price(query):
        return client.get(f"/noiseorder/v1/audition/cost?candidates=9&{query}").json()["told"].rpartition(": ")[2]

    # Nine times 6 of 20 calls of three rows, and two key levels of three evaluations in either.
    assert read_price("sampler=Euler&parts=2&evaluations=6") == f"{9 * (18 + 6) / (60 + 6):.1f} images{DECODED}"
    # Eleven of 39 calls: the last step asks once.
    assert read_price("sampler=Heun") == f"{9 * 11 / 39:.1f} images{DECODED}"


def test_best():
    assert sheet.best([-3.0, -1.0, -2.0]) == 1
    assert sheet.best([-1.0, -1.0]) == 0
    assert sheet.best([None, float("nan"), -5.0]) == 2
    assert sheet.best([None, float("nan")]) is None
    assert sheet.best([]) is None


def test_the_panel_adds_one_argument_that_is_not_stored():
    with gr.Blocks() as page:
        ticket = sheet.panel(lambda name: f"test_{name}")
        sheet.sliders(lambda name: f"test_{name}")
    assert (ticket.value, ticket.visible) == ("", sheet.HIDDEN)
    kinds = gr.Slider | gr.Textbox
    assert all(block.do_not_save_to_config for block in page.blocks.values() if isinstance(block, kinds))
    elements = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    names = {"candidates", "depth", "button", "ticket"}
    assert elements.keys() == {f"test_audition_{name}" for name in names} | {"test_sheet"}, (
        "javascript/noiseorder.js knows"
    )
    sliders = [elements[f"test_audition_{name}"] for name in ("candidates", "depth")]
    assert [(each.minimum, each.maximum, each.value, each.step) for each in sliders] == [
        (2, 16, 9, 1),
        (0.05, 1, 0.75, 0.01),
    ]
    assert elements["test_audition_button"].value == "Audition"
    assert all(each.interactive for each in (*sliders, ticket))
    assert "noiseorder-cells" in str([block.value for block in page.blocks.values() if isinstance(block, gr.HTML)])


def test_a_sheet_before_its_plan_tells_no_steps():
    told = sheet.summary(sheet.Sheet("x", 2))
    assert (told["steps"], told["of"], told["sketch"]) == (0, 0, False)


BOUNDS = {
    "steps": (1, 1000),
    "width": (1, 16384),
    "height": (1, 16384),
    "strength": (0, 1),
    "parts": (1, 1000),
    "candidates": (1, 16),
    "depth": (0.05, 1),
    "evaluations": (0, 64),
    "images": (1, 10_000),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_price_has_bounds(client, name):
    """Nothing that would keep the server busy."""
    low, high = BOUNDS[name]
    step = 1 if isinstance(low, int) else 0.01
    answers = [
        client.get(f"/noiseorder/v1/audition/cost?sampler=Euler&{name}={value}").status_code
        for value in (low, high, low - step, high + 1)
    ]
    assert answers == [200, 200, 422, 422]

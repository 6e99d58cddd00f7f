"""Who may look: the routes behind a real Gradio's login, and behind the password of a host's API."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr
import pytest
import requests
import torch
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import BaseModel

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.webui import accordion, api, inspector, sheet
from lib_noiseorder.webui.cost import Rates
from lib_noiseorder.webui.userpresets import Presets

PROGRAMS = ("presets", "inspect", "audition")
PAGE = ("outcome?tab=txt2img", "audition/cost?sampler=Euler", "audition/sheet/mine")
OPEN = ("schema", "version")
USERS = [("ann", "a"), ("bob", "b")]
SEEDS = {"ann": 111, "bob": 222, None: 333}
"""Of each user's last generation; None is whoever has no login."""


def made():
    """What a WebUI shows after a generation of ann's and one without a login."""
    sheets = sheet.Sheets()
    contact_sheet = sheets.claim(sheet.ticket(sheet.Sheet("mine", 2, 0.75)))
    contact_sheet.previews = [sheet.Preview(0, 7, 0, Image.new("RGB", (8, 8)))]
    return {
        "sheets": sheets,
        "outcomes": {("txt2img", "ann"): "what ann made", ("txt2img", None): "what somebody made"},
        "inspections": inspected(),
    }


def inspected():
    inspections = inspector.Inspections()
    for user, seed in SEEDS.items():
        images = inspector.observe([seed], "", {name: torch.ones(1, 4, 8, 8) for name in inspector.STATES})
        inspections.keep(user, NoiseOrderConfig(True), 2, images)
    return inspections


def ask(session, address, name):
    method = "POST" if name == "audition" else "GET"
    return session.request(method, f"{address}/noiseorder/v1/{name}", json={} if method == "POST" else None)


@pytest.fixture(scope="module")
def served():
    """A page with a login and the inspector's panel, and its app."""
    with gr.Blocks(analytics_enabled=False) as page:
        inspector.panel(lambda name: name, inspected(), lambda: True, lambda on: None)
    app, address, _ = page.launch(prevent_thread_lock=True, quiet=True, auth=USERS)
    api.register(app, dict, **made())
    yield address.rstrip("/"), app
    page.close()


def logged_in(address, user):
    session = requests.Session()
    session.post(f"{address}/login", data=dict(zip(("username", "password"), user, strict=True))).raise_for_status()
    return session


@pytest.mark.parametrize("name", [*PAGE, *PROGRAMS])
def test_with_a_login_nothing_is_shown_to_anybody_else(served, name):
    """Programs' routes too, as long as the host's own API is off."""
    address, _ = served
    assert ask(requests, address, name).status_code == requests.get(f"{address}/config").status_code == 401
    stranger = requests.Session()
    stranger.cookies.update({"access-token": "x", "access-token-unsecure": "x"})
    assert ask(stranger, address, name).status_code == 401
    # 404: no API of the host's is there.
    assert ask(logged_in(address, USERS[0]), address, name).status_code in (200, 404)


@pytest.mark.parametrize("name", OPEN)
def test_what_shows_nobody_s_work_is_open(served, name):
    assert ask(requests, served[0], name).status_code == 200


def test_a_user_is_told_what_was_done_for_this_user(served):
    address, _ = served
    for user, told in zip(USERS, ("what ann made", ""), strict=True):
        assert ask(logged_in(address, user), address, PAGE[0]).json() == {"told": told}


def seeds_shown(text):
    return [seed for seed in SEEDS.values() if str(seed) in text]


@pytest.mark.parametrize("user", USERS)
def test_a_user_sees_the_noise_of_this_user_s_generation(served, user):
    """By the panel's three events (the page loads, the button, the box), and by the route behind the login."""
    address, _ = served
    session = logged_in(address, user)
    pages = [page for _, page in (*press(session, address, 0), *press(session, address, 1, True))]
    assert [seeds_shown(page) for page in pages] == [[SEEDS[user[0]]]] * 3
    images = ask(session, address, "inspect").json()["images"]
    assert [image["seed"] for image in images] == [SEEDS[user[0]]]


def press(session, address, inside, *values):
    """What the events that have this many inputs answer."""
    config = session.get(f"{address}/config").json()
    for k, event in enumerate(config["dependencies"]):
        if len(event["inputs"]) == inside:
            answer = session.post(
                f"{address}{config.get('api_prefix', '')}/run/predict",
                json={"fn_index": event.get("id", k), "data": list(values), "session_hash": "x"},
            )
            yield answer.json()["data"]


def test_a_user_switches_the_inspector_for_this_user_alone(served):
    """In the panel, where the switch is the only event with an input."""
    address, _ = served
    ann, bob = (logged_in(address, user) for user in USERS)
    for on in (False, True):
        assert [box for box, _ in press(ann, address, 1, on)] == [on]
        assert [box for box, _ in press(ann, address, 0)] == [on] * 2
        assert [box for box, _ in press(bob, address, 0)] == [True] * 2


def test_the_line_of_the_cost_is_that_of_the_user(tmp_path):
    """Of whom the inspector is on for."""
    with gr.Blocks(analytics_enabled=False) as page:
        rates = Rates(inspects=lambda user: user == "ann")
        accordion.controls(lambda name: name, Presets(tmp_path / "presets.json"), lambda: None, rates=rates)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, auth=USERS)
    address = address.rstrip("/")
    for user, told in zip(USERS, ("+<span>2</span> model evaluations", "Costs nothing"), strict=True):
        session = logged_in(address, user)
        config = session.get(f"{address}/config").json()
        values = {each["id"]: each["props"].get("value") for each in config["components"]}
        cost = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "cost")
        inputs = next(each["inputs"] for each in config["dependencies"] if cost in each["outputs"])
        ((line, _), *_) = press(session, address, len(inputs), *(values[each] for each in inputs))
        assert told in line
    page.close()


def test_without_a_login_it_is_open():
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox()
    app, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    api.register(app, dict, **made())
    address = address.rstrip("/")
    assert [ask(requests, address, name).status_code for name in PAGE] == [200] * 3
    assert ask(requests, address, PAGE[0]).json() == {"told": "what somebody made"}
    assert ask(requests, address, "presets").status_code == 200
    assert ask(requests, address, "inspect").json()["images"][0]["seed"] == SEEDS[None]
    page.close()


class Txt2Img(BaseModel):
    alwayson_scripts: dict[str, Any] = {}


def with_password(app):
    """As AUTOMATIC1111's --api-auth does it."""

    def auth(credentials: HTTPBasicCredentials = Depends(HTTPBasic())):  # noqa: B008
        if not secrets.compare_digest(credentials.password, "secret"):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})
        return True

    def txt2imgapi(txt2imgreq: Txt2Img):
        return {}

    app.add_api_route("/sdapi/v1/txt2img", txt2imgapi, methods=["POST"], dependencies=[Depends(auth)])


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_need_the_password_of_the_host_s_api(name):
    app = FastAPI()
    with_password(app)
    api.register(app, dict, **made())
    client = TestClient(app, raise_server_exceptions=False)
    assert ask(client, "", name).status_code == 401
    client.auth = ("me", "wrong")
    assert ask(client, "", name).status_code == 401
    client.auth = ("me", "secret")
    assert ask(client, "", name).status_code != 401


def test_a_program_inspects_what_programs_made():
    """They are nobody to the page's login, as the hosts' own API leaves the user empty."""
    app = FastAPI()
    with_password(app)
    api.register(app, dict, **made())
    client = TestClient(app)
    client.auth = ("me", "secret")
    assert [image["seed"] for image in ask(client, "", "inspect").json()["images"]] == [SEEDS[None]]


def test_a_login_that_is_not_understood_lets_nobody_in():
    """Of a Gradio to come."""
    app = FastAPI()
    app.auth = {"ann": "a"}
    api.register(app, dict, **made())
    client = TestClient(app)
    assert [ask(client, "", name).status_code for name in PAGE] == [401] * 3
    app.auth = None
    assert [ask(client, "", name).status_code for name in PAGE] == [200] * 3

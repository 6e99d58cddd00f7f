"""The routes in a real FastAPI, whichever version came with the Gradio that runs these tests."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib_noiseorder.config import FIELDS, NoiseOrderConfig, SettingError, parse
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import api

MINE = NoiseOrderConfig(True, erase=2.0, variant=7)


@pytest.fixture
def client():
    app = FastAPI()
    api.register(app, lambda: {**PRESETS, "Mine": MINE})
    return TestClient(app)


def test_schema_describes_every_setting(client):
    told = client.get("/noiseorder/v1/schema").json()
    assert list(told["properties"]) == [field.name for field in FIELDS]
    assert told["additionalProperties"] is False
    assert told["properties"]["levels"] == {
        "title": "Key levels",
        "description": told["properties"]["levels"]["description"],
        "default": 1,
        "type": "integer",
        "minimum": 1,
        "maximum": 8,
    }


def test_schema_and_settings_agree_on_what_is_allowed(client):
    for name, told in client.get("/noiseorder/v1/schema").json()["properties"].items():
        good = told.get("enum") or [told[key] for key in ("minimum", "maximum", "default") if key in told]
        for value in good:
            parse(({name: value},))
        wrong = ["nonsense", None] + [
            told[key] + step for key, step in (("minimum", -1), ("maximum", 1)) if key in told
        ]
        for value in wrong:
            with pytest.raises(SettingError, match=name):
                parse(({name: value},))


def test_presets_can_be_sent_as_they_are(client):
    told = client.get("/noiseorder/v1/presets").json()
    assert {name: parse((preset,)) for name, preset in told.items()} == {**PRESETS, "Mine": MINE}


def test_version(client):
    assert client.get("/noiseorder/v1/version").json() == {"algorithm": "1"}


def test_defaults_in_the_schema_are_those_of_an_object_that_leaves_them_out(client):
    told = client.get("/noiseorder/v1/schema").json()["properties"]
    assert parse(({},)) == parse(({name: entry["default"] for name, entry in told.items()},))


def test_routes_take_nothing_from_the_one_who_asks(client):
    """No path, no size, no body: an address either is one of the routes or is not found."""
    ours = [route for route in client.app.routes if route.path.startswith(api.PREFIX)]
    assert len(ours) == 4
    for route in ours:
        asked = route.dependant
        taken = (asked.path_params, asked.query_params, asked.header_params, asked.cookie_params, asked.body_params)
        assert not any(taken)
        assert (route.methods, "{" in route.path) == ({"GET"}, False)
    told = client.get("/noiseorder/v1/presets").content
    assert client.get("/noiseorder/v1/presets?path=../../x&count=999999999").content == told
    for address in ("presets/../../../etc/passwd", "presets/x", "%2e%2e/version", "schema%00"):
        assert client.get(f"/noiseorder/v1/{address}").status_code == 404
    assert client.post("/noiseorder/v1/presets", json={}).status_code == 405

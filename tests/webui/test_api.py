"""The routes in a real FastAPI, whichever version came with the Gradio that runs these tests."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib_noiseorder import chain
from lib_noiseorder.config import BY_NAME, FIELDS, NoiseOrderConfig, SettingError, parse
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import api

MINE = NoiseOrderConfig(True, erase=2.0, variant=7)


@pytest.fixture
def client():
    app = FastAPI()
    api.register(app, lambda: {**PRESETS, "Mine": MINE})
    return TestClient(app)


def test_schema_describes_every_setting(client):
    schema = client.get("/noiseorder/v1/schema").json()
    assert list(schema["properties"]) == [field.name for field in FIELDS]
    assert {key: schema[key] for key in ("title", "type", "additionalProperties")} == {
        "title": "Noise Order",
        "type": "object",
        "additionalProperties": False,
    }
    kinds = {field.name: schema["properties"][field.name]["type"] for field in FIELDS if field.name != "chain"}
    assert {kind: [name for name in kinds if kinds[name] == kind] for kind in kinds.values()} == {
        "boolean": ["enabled", "compare_original", "compare_erased", "compare_injected"],
        "number": ["erase", "inject", "first_level", "last_level", "layout", "structure", "detail"],
        "string": ["direction", "normalisation", "passes", "region"],
        "integer": ["levels", "variant", "audition"],
    }
    assert schema["properties"]["direction"]["enum"] == list(BY_NAME["direction"].choices)
    assert [schema["properties"][name]["default"] for name in ("enabled", "compare_erased", "erase")] == [
        True,
        False,
        4.0,
    ]
    assert schema["properties"]["levels"] == {
        "title": "Key levels",
        "description": schema["properties"]["levels"]["description"],
        "default": 1,
        "type": "integer",
        "minimum": 1,
        "maximum": 8,
    }

    link = {
        "type": "object",
        "properties": {
            "n": {"type": "number", "minimum": 1, "maximum": chain.HIGHEST_N},
            "variant": {"type": "integer", "minimum": 0, "maximum": chain.HIGHEST_VARIANT},
            "box": {
                "type": "array",
                "items": {"type": "number", "minimum": 0, "maximum": 1},
                "minItems": 4,
                "maxItems": 4,
            },
        },
        "required": ["n"],
        "additionalProperties": False,
    }
    links = {"type": "array", "maxItems": chain.MOST, "items": link}
    assert schema["properties"]["chain"]["anyOf"] == [{"type": "string"}, links]


def test_schema_and_settings_agree_on_what_is_allowed(client):
    for name, schema in client.get("/noiseorder/v1/schema").json()["properties"].items():
        good = schema.get("enum") or [schema[key] for key in ("minimum", "maximum", "default") if key in schema]
        for value in good:
            parse(({name: value},))
        wrong = ["nonsense", None] + [
            schema[key] + step for key, step in (("minimum", -1), ("maximum", 1)) if key in schema
        ]
        for value in wrong:
            with pytest.raises(SettingError, match=name):
                parse(({name: value},))


def test_presets_can_be_sent_as_they_are(client):
    presets = client.get("/noiseorder/v1/presets").json()
    assert {name: parse((preset,)) for name, preset in presets.items()} == {**PRESETS, "Mine": MINE}


def test_version(client):
    assert client.get("/noiseorder/v1/version").json() == {"algorithm": "1"}


def test_defaults_in_the_schema_are_those_of_an_object_that_leaves_them_out(client):
    properties = client.get("/noiseorder/v1/schema").json()["properties"]
    assert parse(({},)) == parse(({name: entry["default"] for name, entry in properties.items()},))


def test_routes_take_no_more_than_they_need_from_the_one_who_asks(client):
    """No path, and no size that hurts: an address either is one of the routes or is not found."""
    routes = {route.path.removeprefix(api.PREFIX): route for route in client.app.routes if "noiseorder" in route.path}
    auditions = {"/audition": "POST", "/audition/cost": "GET", "/audition/sheet/{id}": "GET"}
    assert routes.keys() == {"/schema", "/presets", "/version", "/inspect", "/outcome", *auditions}
    for path, route in routes.items():
        assert route.methods == {auditions.get(path, "GET")}
        needs = route.dependant
        values = (needs.path_params, needs.query_params, needs.header_params, needs.cookie_params, needs.body_params)
        assert any(values) is (path in (*auditions, "/outcome"))


@pytest.mark.parametrize(
    "query",
    ["steps=1000000000", "steps=0", "width=1000000", "height=-1", "strength=2", "candidates=17", "depth=0", "have=-1"],
)
def test_sizes_that_would_hurt_are_not_taken(client, query):
    address = "audition/sheet/x" if query.startswith("have") else "audition/cost"
    assert client.get(f"/noiseorder/v1/{address}?sampler=Euler&{query}").status_code == 422
    assert client.get("/noiseorder/v1/audition/cost?sampler=../x").status_code == 200


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("steps", 1, 1000),
        ("width", 1, 16384),
        ("height", 1, 16384),
        ("strength", 0, 1),
        ("candidates", 1, 16),
        ("depth", 0.05, 1),
        ("evaluations", 0, 64),
        ("parts", 1, 1000),
        ("images", 1, 10_000),
    ],
)
def test_sizes_are_taken_up_to_their_ends(client, name, least, most):
    codes = [
        client.get(f"/noiseorder/v1/audition/cost?sampler=Euler&{name}={value}").status_code
        for value in (least, most, least - 0.01 if name == "depth" else least - 1, most + 1)
    ]
    assert codes == [200, 200, 422, 422]


def test_addresses_are_no_paths(client):
    content = client.get("/noiseorder/v1/presets").content
    assert client.get("/noiseorder/v1/presets?path=../../x&count=999999999").content == content
    for address in ("presets/../../../etc/passwd", "presets/x", "%2e%2e/version", "schema%00"):
        assert client.get(f"/noiseorder/v1/{address}").status_code == 404
    assert client.post("/noiseorder/v1/presets", json={}).status_code == 405

"""What a program needs to know to use the extension through the WebUI's API: `GET /noiseorder/v1/...`."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..config import FIELDS, Field
from ..presets import PRESETS
from .infotext import VERSION

PREFIX = "/noiseorder/v1"


def schema() -> dict[str, Any]:
    """The settings as a JSON Schema, for the one object that `alwayson_scripts` takes as its first argument."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Noise Order",
        "type": "object",
        "properties": {field.name: describe(field) for field in FIELDS},
        "additionalProperties": False,
    }


def describe(field: Field) -> dict[str, Any]:
    """One setting. An object sent without "enabled" is enabled, so that is the default here."""
    told: dict[str, Any] = {"title": field.label, "description": field.help, "default": field.default}
    if isinstance(field.default, bool):
        return {**told, "type": "boolean", "default": field.default or field.name == "enabled"}
    if field.choices:
        return {**told, "type": "string", "enum": list(field.choices)}
    kind = "integer" if isinstance(field.default, int) else "number"
    return {**told, "type": kind, "minimum": field.minimum, "maximum": field.maximum}


def presets() -> dict[str, Any]:
    """The built-in presets, each as an object that can be sent as it is."""
    return {name: dataclasses.asdict(preset) for name, preset in PRESETS.items()}


def version() -> dict[str, str]:
    """The version of the algorithm, as infotexts carry it."""
    return {"algorithm": VERSION}


def register(app: Any) -> None:
    """Add the routes to the WebUI's FastAPI app."""
    for name, answer in (("schema", schema), ("presets", presets), ("version", version)):
        app.add_api_route(f"{PREFIX}/{name}", answer, methods=["GET"], response_model=None)

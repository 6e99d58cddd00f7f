"""What a program needs to know to use the extension through the WebUI's API: `GET /noiseorder/v1/...`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException

from ..config import FIELDS, Field, NoiseOrderConfig
from . import inspector
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


def version() -> dict[str, str]:
    """The version of the algorithm, as infotexts carry it."""
    return {"algorithm": VERSION}


def register(
    app: Any, presets: Callable[[], Mapping[str, NoiseOrderConfig]], inspects: Callable[[], bool] = lambda: False
) -> None:
    """Add the routes to the WebUI's FastAPI app.

    presets: the built-in ones and the person's own, as they are now; inspects: whether the noise inspector is on.
    """

    def told() -> dict[str, Any]:
        """Every preset as an object that can be sent as it is."""
        return {name: dataclasses.asdict(preset) for name, preset in presets().items()}

    def inspect() -> dict[str, Any]:
        """What the noise of the last generation was; 404 says why there is nothing to tell."""
        if inspector.last is None:
            raise HTTPException(404, inspector.NOTHING if inspects() else inspector.OFF)
        return inspector.describe(inspector.last)

    for name, answer in (("schema", schema), ("presets", told), ("version", version), ("inspect", inspect)):
        app.add_api_route(f"{PREFIX}/{name}", answer, methods=["GET"], response_model=None)

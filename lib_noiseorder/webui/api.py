"""What a program needs to know to use the extension through the WebUI's API: `GET /noiseorder/v1/...`."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from fastapi import HTTPException, Query

from ..config import FIELDS, Field, NoiseOrderConfig, SettingError, parse
from ..core.schedule import DEPTH
from ..job import Job
from . import inspector, sheet
from .cost import Rates, cost_in_images, rows
from .infotext import VERSION

PREFIX = "/noiseorder/v1"
RATES = Rates()


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
    text = f"{field.help}. {field.more}".rstrip()
    entry: dict[str, Any] = {"title": field.label, "description": text, "default": field.default}
    if isinstance(field.default, bool):
        return {**entry, "type": "boolean", "default": field.default or field.name == "enabled"}
    if field.choices:
        return {**entry, "type": "string", "enum": list(field.choices)}
    kind = "integer" if isinstance(field.default, int) else "number"
    return {**entry, "type": kind, "minimum": field.minimum, "maximum": field.maximum}


def version() -> dict[str, str]:
    """The version of the algorithm, as infotexts carry it."""
    return {"algorithm": VERSION}


def audition(app: Any, body: dict[str, Any], sheets: sheet.Sheets) -> dict[str, Any]:
    """What txt2img takes (img2img with "init_images"), and `candidates` and `depth`: previews instead of images.

    The host's own route makes them, in its queue; 422 says what cannot be asked.
    """
    request = dict(body)
    try:
        contact_sheet = sheet.Sheet(
            secrets.token_hex(8), request.pop("candidates", 4), request.pop("depth", DEPTH), True
        )
        sheet.check(contact_sheet.candidates, contact_sheet.depth)
        scripts = {str(name).lower(): value for name, value in (request.get("alwayson_scripts") or {}).items()}
        settings = parse(scripts.get("noise order", {}).get("args") or [{}])
        if not settings.active:
            raise SettingError("Noise Order is off, or changes nothing: switch it on, and set Erase above 1")
        settings.check_candidates(contact_sheet.candidates)
    except (SettingError, AttributeError) as error:
        raise HTTPException(422, str(error)) from None
    values = [getattr(settings, field.name) for field in FIELDS]
    scripts["noise order"] = {"args": [*values, sheet.ticket(contact_sheet)]}
    route = host_route(app, "img2img" if request.get("init_images") else "txt2img")
    (model,) = [kind for name, kind in get_type_hints(route.endpoint).items() if name != "return"][:1]
    try:
        payload = model(**{**request, "alwayson_scripts": scripts})
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    route.endpoint(payload)
    result = sheets.by_id.get(contact_sheet.id, contact_sheet)
    if not result.previews and result.notes and result.notes != ["interrupted"]:
        raise HTTPException(422, "; ".join(result.notes))
    return sheet.describe(result)


def host_route(app: Any, name: str) -> Any:
    """The host's own route that makes images."""
    for route in app.routes:
        if getattr(route, "path", "") == f"/sdapi/v1/{name}":
            return route
    raise HTTPException(404, "the WebUI's own API is off: start it with --api")


def register(
    app: Any,
    presets: Callable[[], Mapping[str, NoiseOrderConfig]],
    rates: Rates = RATES,
    sheets: sheet.Sheets | None = None,
    inspections: inspector.Inspections | None = None,
    outcomes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add the routes to the WebUI's FastAPI app.

    presets: the built-in ones and the user's own, as they are now; sheets, inspections, outcomes: what is shown.
    """
    all_sheets = sheets or sheet.Sheets()
    seen = inspections or inspector.Inspections()

    def make(body: dict[str, Any]) -> dict[str, Any]:
        return audition(app, body, all_sheets)

    def cost(
        sampler: str,
        scheduler: str = "Automatic",
        # A schedule is computed for these: nothing of a size that would keep the server busy.
        steps: int = Query(20, ge=1, le=1000),
        width: int = Query(512, ge=1, le=16384),
        height: int = Query(512, ge=1, le=16384),
        strength: float = Query(1.0, ge=0, le=1),
        cfg: float = 7.0,
        parts: int = Query(1, ge=1, le=1000),
        candidates: int = Query(4, ge=1, le=16),
        depth: float = Query(DEPTH, ge=0.05, le=1),
        evaluations: int = Query(0, ge=0, le=64),
    ) -> dict[str, Any]:
        """What an audition will cost, for the line on the page; evaluations: of Inject, for each candidate."""
        plan = rates.plan(Job(steps, cfg, strength, parts, sampler, scheduler, width, height, strength < 1), depth)
        if plan is None:
            return {"told": f"{candidates} candidates down to {depth:g} of the schedule"}
        price = cost_in_images(candidates, plan, rows(parts, cfg, rates.negative[0]), evaluations)
        return {"told": sheet.words(candidates, plan.preview, plan.steps, price)}

    def progress(id: str, have: int = Query(0, ge=0)) -> dict[str, Any]:
        """The sheet so far, without the previews that the page has."""
        result = all_sheets.progress(id, have)
        if result is None:
            raise HTTPException(404, "no such audition, or it has not begun")
        return result

    def told() -> dict[str, Any]:
        """Every preset as an object that can be sent as it is."""
        return {name: dataclasses.asdict(preset) for name, preset in presets().items()}

    def inspect() -> dict[str, Any]:
        """What the noise of the last generation was; 404 says why there is nothing to tell."""
        if seen.last is None:
            raise HTTPException(404, inspector.NOTHING if rates.inspects() else inspector.OFF)
        return inspector.describe(seen.last)

    def done(tab: str) -> dict[str, str]:
        """What was done in the last generation of a tab, for the line on the page."""
        return {"told": outcomes.get(tab, "")}

    routes = {"schema": schema, "presets": told, "version": version, "inspect": inspect, "outcome": done}
    for name, answer in routes.items():
        app.add_api_route(f"{PREFIX}/{name}", answer, methods=["GET"], response_model=None)
    # Behind the same password as the host's own.
    guard: Any = next((r.dependencies for r in app.routes if getattr(r, "path", "") == "/sdapi/v1/txt2img"), [])
    app.add_api_route(f"{PREFIX}/audition", make, methods=["POST"], response_model=None, dependencies=guard)
    app.add_api_route(f"{PREFIX}/audition/cost", cost, methods=["GET"], response_model=None)
    app.add_api_route(f"{PREFIX}/audition/sheet/{{id}}", progress, methods=["GET"], response_model=None)

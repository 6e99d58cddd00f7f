"""What a program needs to know to use the extension through the WebUI's API: `GET /noiseorder/v1/...`."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from fastapi import Depends, HTTPException, Query

from .. import chain
from ..config import FIELDS, Field, NoiseOrderConfig, SettingError, parse, quote
from ..core.schedule import DEPTH
from ..job import Job
from . import infotext, inspector, sheet
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
    if isinstance(field.default, str):
        numbers = {"n": (1, chain.HIGHEST_N), "variant": (0, chain.HIGHEST_VARIANT)}
        link: dict[str, Any] = {
            name: {"type": "number" if name == "n" else "integer", "minimum": low, "maximum": high}
            for name, (low, high) in numbers.items()
        }
        link["box"] = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}
        link["box"] |= {"minItems": 4, "maxItems": 4}
        item = {"type": "object", "properties": link, "required": ["n"], "additionalProperties": False}
        return {**entry, "anyOf": [{"type": "string"}, {"type": "array", "maxItems": chain.MOST, "items": item}]}
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
        if request.get("script_name"):
            raise SettingError('an audition takes no script of the menu "Script": leave script_name out')
        scripts = scripts_of(request)
        settings = read_settings(scripts.get("noise order"), request.get("infotext"))
        if not settings.active:
            raise SettingError("Noise Order is off, or changes nothing: switch it on, and set Erase above 1")
        settings.check_candidates(contact_sheet.candidates)
    except SettingError as error:
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
    if not result.previews and result.notes and "interrupted" not in result.notes:
        raise HTTPException(422, "; ".join(result.notes))
    return sheet.describe(result)


def scripts_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says to scripts, by their names in small letters, as the hosts look for them."""
    scripts = request.get("alwayson_scripts") or {}
    if not isinstance(scripts, Mapping):
        raise SettingError(f"alwayson_scripts = {quote(scripts)}: must be an object")
    return {str(name).lower(): value for name, value in scripts.items()}


def read_settings(entry: object, text: object) -> NoiseOrderConfig:
    """The settings of a request: its arguments for us, else the host's field "infotext", else the defaults."""
    entry = entry or {}
    args = entry.get("args") if isinstance(entry, Mapping) else entry
    if args is not None and (not isinstance(entry, Mapping) or not isinstance(args, list)):
        raise SettingError(
            f'args = {quote(args)}: must be a list, as in {{"noise order": {{"args": [{{"erase": 4}}]}}}}'
        )
    if args:
        return parse(args)
    params = infotext.entries(text) if isinstance(text, str) else {}
    if infotext.version(params) is None:
        return parse([{}])
    if infotext.version(params) != VERSION:
        raise SettingError(
            f"the image of this infotext was made by version {quote(infotext.version(params))} of the algorithm; this "
            f"extension has version {VERSION} and cannot make it again"
        )
    return parse([{field.name: infotext.reader(field)(params) for field in FIELDS}])


def host_route(app: Any, name: str) -> Any:
    """The host's own route that makes images."""
    for route in app.routes:
        if getattr(route, "path", "") == f"/sdapi/v1/{name}":
            return route
    raise HTTPException(404, "the WebUI's own API is off: start it with --api")


def find_route(app: Any, path: str) -> Any:
    return next((route for route in app.routes if getattr(route, "path", "") == path), None)


def page_login(app: Any) -> tuple[list[Any], Callable[..., Any]]:
    """What Gradio's own routes ask for, as dependencies, and the one of them that tells the user's name.

    Found at /config, from which the page is made, in Gradio 3.41, 4.40 and 6. The name is None where there is no login.
    """

    def closed() -> None:
        if getattr(app, "auth", None) is not None or getattr(app, "auth_dependency", None) is not None:
            raise HTTPException(401, "Not authenticated")

    def nobody() -> None:
        return None

    def calls(dependant: Any) -> list[Any]:
        return [call for each in dependant.dependencies for call in (each.call, *calls(each))]

    route = find_route(app, "/config")
    guard = list(getattr(route, "dependencies", []))
    if not guard:
        # A WebUI without its page; or a Gradio that does otherwise, whose login nobody would pass.
        return [Depends(closed)], nobody
    named = (call for call in calls(route.dependant) if getattr(call, "__name__", "") == "get_current_user")
    return guard, next(named, nobody)


def register(
    app: Any,
    presets: Callable[[], Mapping[str, NoiseOrderConfig]],
    rates: Rates = RATES,
    sheets: sheet.Sheets | None = None,
    inspections: inspector.Inspections | None = None,
    outcomes: Mapping[Any, str] = MappingProxyType({}),
    busy: Callable[[], bool] = lambda: False,
) -> None:
    """Add the routes to the WebUI's FastAPI app.

    presets: the built-in ones and the user's own, as they are now; sheets, inspections, outcomes: what is shown; busy:
    whether the host is at a job.
    Programs' routes that show anybody's work ask for what the host's own API asks for, and the page's for what the page
    asks for. With a login a page is told outcomes, by (tab, user), and inspections of its own user's generations
    alone, and a sheet by its name, which only the page that asked for it knows. A program has no login: it is told of
    inspections what programs made.
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
        images: int = Query(1, ge=1, le=10_000),
    ) -> dict[str, Any]:
        """What an audition will cost, for the line on the page.

        evaluations: of Inject, for each candidate; images: of all batches.
        """
        plan = rates.plan(Job(steps, cfg, strength, parts, sampler, scheduler, width, height, strength < 1), depth)
        if plan is None:
            return {"told": f"{candidates} candidates down to {depth:g} of the schedule", "known": False}
        price = cost_in_images(candidates, plan, rows(parts, cfg, rates.negative[0]), evaluations)
        return {"told": sheet.words(candidates, plan, price, images), "known": True}

    login, user_of = page_login(app)
    name: Any = Depends(user_of)
    host_txt2img = find_route(app, "/sdapi/v1/txt2img")
    # Without the host's API there is no password of its own.
    programs: Any = login if host_txt2img is None else host_txt2img.dependencies

    def progress(id: str, have: int = Query(0, ge=0)) -> dict[str, Any]:
        """The sheet so far, without the previews that the page has, and whether anything is going on."""
        return {**all_sheets.progress(id, have), "busy": busy()}

    def told() -> dict[str, Any]:
        """Every preset as an object that can be sent as it is."""
        return {name: dataclasses.asdict(preset) for name, preset in presets().items()}

    def inspect(user: Any = name) -> dict[str, Any]:
        """What the noise of this user's last generation was; 404 says why there is nothing to tell."""
        record = seen.last.get(user or None)
        if record is None:
            raise HTTPException(404, inspector.NOTHING if rates.inspects(user or None) else inspector.OFF)
        return inspector.describe(record)

    def done(tab: str, user: Any = name) -> dict[str, str]:
        """What was done in the last generation of a tab by this user, for the line on the page."""
        return {"told": outcomes.get((tab, user or None), "")}

    def add(name: str, answer: Callable[..., Any], guard: Any = (), method: str = "GET") -> None:
        app.add_api_route(f"{PREFIX}/{name}", answer, methods=[method], response_model=None, dependencies=list(guard))

    add("schema", schema)
    add("version", version)
    add("presets", told, programs)
    add("inspect", inspect, programs)
    add("audition", make, programs, "POST")
    add("outcome", done, login)
    add("audition/cost", cost, login)
    add("audition/sheet/{id}", progress, login)

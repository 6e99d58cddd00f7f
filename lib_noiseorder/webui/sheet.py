"""What was asked of an audition and what came of it so far, for the page and for programs.

The page has no settings of its own for it: it presses the tab's own Generate button with a request in a hidden
component, so that queue, progress, interruption and gallery are the host's. A request is good once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from PIL import Image

from ..config import SettingError
from ..core.schedule import DEPTH
from ..job import Plan
from .inspector import png

LIMIT = 4
"""Sheets that are remembered; the oldest are forgotten."""
GRADIO_6 = int(gr.__version__.split(".")[0]) >= 6
HIDDEN: Any = "hidden" if GRADIO_6 else False
"""In the document and not to be seen; Gradio 6 leaves out what is not visible, and what is folded."""
THUMBNAIL = 512
SHEET = (
    '<nav class="noiseorder-crumbs" aria-label="How this noise was reached" hidden></nav>'
    '<div class="noiseorder-chosen" role="group" aria-label="The chosen preview" hidden></div>'
    '<p class="noiseorder-told" role="status"></p>'
    '<p class="noiseorder-stale" role="status"></p>'
    '<div class="noiseorder-cells" role="group" aria-label="Previews"></div>'
    '<p class="noiseorder-made"></p>'
)
"""Where javascript/sheet.js shows a sheet."""


@dataclass(frozen=True)
class Preview:
    """One candidate: of which image it is, with which variant, and what it will become, as small as it was decoded;
    score: the critic's; settings: those that make it, by API key."""

    image: int
    seed: int
    variant: int
    picture: Image.Image
    score: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Sheet:
    """The previews of one audition, in the order in which they were made.

    settings: what the request sets, by API key, over the controls: the chain whose last link is varied.
    image: the one of the batch that is auditioned, counted from 0; None is all of them.
    plan: where the previews end; cost: of all of an image, in images; size: of an image.
    """

    id: str
    candidates: int
    depth: float = DEPTH
    scored: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    image: int | None = None
    images: int = 0
    variants: tuple[int, ...] = ()
    plan: Plan | None = None
    cost: float = 0.0
    size: tuple[int, int] = (512, 512)
    previews: list[Preview] = field(default_factory=list)
    infotexts: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: bool = False

    @property
    def told(self) -> str:
        """What was made and what it cost, in words; before the first preview nothing is known of steps."""
        if self.plan is None:
            return f"{self.candidates} candidates"
        return words(self.candidates, self.plan, self.cost, self.images)


def words(candidates: int, plan: Plan, cost: float, images: int) -> str:
    """The cost of the candidates of one image, in whole images, and of all images where there are several.

    A decoding beside that: how many steps it takes depends on the checkpoint and on the machine.
    """
    total = f" for each image, {images * cost:.1f} for all {images}" if images > 1 else ""
    return f"{candidates} candidates at {plan.words}: {cost:.1f} images{total}, and decoding the previews"


def ticket(sheet: Sheet) -> str:
    """Make the request that the hidden component, or a program, hands to the generation."""
    names = ("id", "candidates", "depth", "scored", "settings", "image")
    return json.dumps({name: getattr(sheet, name) for name in names})


class Sheets:
    """The last sheets by their ids; a request is good once."""

    def __init__(self) -> None:
        self.by_id: dict[str, Sheet] = {}

    def claim(self, request: object) -> Sheet | None:
        """The sheet that a request asks for; None for no request and for one claimed before. Raises SettingError."""
        if not isinstance(request, str) or not request:
            return None
        try:
            data = json.loads(request)
            scored, settings = bool(data.get("scored", False)), dict(data.get("settings") or {})
            image = data.get("image")
            if image is not None and (type(image) is not int or image < 0):
                raise ValueError
            sheet = Sheet(str(data["id"]), data["candidates"], data["depth"], scored, settings, image)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingError(f"the request of an audition cannot be read: {request[:60]!r}") from None
        if sheet.id in self.by_id:
            return None
        check(sheet.candidates, sheet.depth)
        self.by_id[sheet.id] = sheet
        for oldest in list(self.by_id)[:-LIMIT]:
            del self.by_id[oldest]
        return sheet

    def progress(self, id: str, have: int) -> dict[str, Any]:
        """What the page draws: the previews after the first `have`, small; of a sheet that is not begun nothing."""
        sheet = self.by_id.get(id)
        if sheet is None:
            return {"previews": [], "begun": False}
        return drawn(sheet, have)


def drawn(sheet: Sheet, have: int = 0) -> dict[str, Any]:
    """A sheet as the page draws it, with the previews after the first `have`, small."""
    so_far = summary(sheet)  # first: what is done by now has all its previews
    previews = [
        {**describe_preview(each), "picture": png(small(each.picture)), "seed_text": str(each.seed)}
        for each in sheet.previews[have:]
    ]
    return {**so_far, "previews": previews, "begun": True}


def check(candidates: object, depth: object) -> None:
    """Raise SettingError where an audition cannot be that; how many candidates there can be is the settings' matter."""
    if isinstance(candidates, bool) or not isinstance(candidates, int):
        raise SettingError(f"candidates = {candidates!r}: must be a whole number from 2 to 16")
    fits = isinstance(depth, (int, float)) and not isinstance(depth, bool) and math.isfinite(depth)
    if not fits or not 0.05 <= float(depth) <= 1:  # type: ignore[arg-type]
        raise SettingError(f"depth = {depth!r}: must be a number from 0.05 to 1, a position on the schedule")


def describe(sheet: Sheet) -> dict[str, Any]:
    """A sheet as JSON; previews are base64 PNG."""
    return {
        **summary(sheet),
        "previews": [
            {
                **describe_preview(preview),
                "picture": png(resize(preview.picture, sheet.size)),
                "infotext": sheet.infotexts[k] if k < len(sheet.infotexts) else None,
            }
            for k, preview in enumerate(sheet.previews)
        ],
    }


def summary(sheet: Sheet) -> dict[str, Any]:
    """A sheet without its previews."""
    names = ("candidates", "depth", "images", "variants", "cost", "told", "notes", "done")
    plan = sheet.plan or Plan(0, 0)
    steps = {"steps": plan.preview, "of": plan.sketch or plan.steps, "sketch": bool(plan.sketch)}
    return {**{name: getattr(sheet, name) for name in names}, **steps}


def describe_preview(preview: Preview) -> dict[str, Any]:
    """A preview without its picture. A critic of one's own may give what JSON has no word for."""
    score = preview.score if preview.score is not None and math.isfinite(preview.score) else None
    told = {"image": preview.image, "seed": preview.seed, "variant": preview.variant, "score": score}
    return {**told, "settings": preview.settings}


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def small(image: Image.Image) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((THUMBNAIL, THUMBNAIL))
    return copy


def best(scores: Sequence[float | None]) -> int | None:
    """Index of the highest score, the first of equal ones; None where there is no number among them."""
    ranked = [(score, -k) for k, score in enumerate(scores) if score is not None and math.isfinite(score)]
    return -max(ranked)[1] if ranked else None


def panel(elem_id: Callable[[str], str]) -> Any:
    """Button and an empty sheet, which javascript/sheet.js makes work; returns the hidden ticket.

    Not in Gradio: its events could neither read the tab's own settings nor take their place in the host's queue.
    """
    gr.Button("Audition", elem_id=elem_id("audition_button"))
    gr.HTML(
        f'<p class="noiseorder-price" aria-live="polite"></p>{SHEET}',
        elem_id=elem_id("sheet"),
    )
    return keep_out(gr.Textbox("", label="Audition ticket", visible=HIDDEN, elem_id=elem_id("audition_ticket")))


def sliders(elem_id: Callable[[str], str]) -> None:
    """What the button goes by."""
    with gr.Row():
        keep_out(
            gr.Slider(
                2,
                16,
                9,
                step=1,
                label="Candidates",
                info="How many variants the button Audition previews",
                elem_id=elem_id("audition_candidates"),
            )
        )
        keep_out(
            gr.Slider(
                0.05,
                1,
                DEPTH,
                step=0.01,
                label="Preview at",
                info="Where on the schedule: lower shows more and costs more",
                elem_id=elem_id("audition_depth"),
            )
        )


def keep_out(component: Any) -> Any:
    """Of no event of Gradio's: it would take it for what is only shown; and nothing whose value is to be stored."""
    component.do_not_save_to_config = True
    component.interactive = True
    return component

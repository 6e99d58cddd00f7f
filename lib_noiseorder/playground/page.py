"""The playground's page: the accordion of the extension on a small model, without a WebUI."""

from __future__ import annotations

import base64
import contextlib
import html
import inspect
import io
import json
import os
import re
import secrets
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from starlette.middleware import Middleware

from ..config import NoiseOrderConfig
from ..core import Unsupported
from ..presets import PRESETS, follow
from ..webui import accordion, inspector, sheet
from ..webui.sheet import GRADIO_6
from ..webui.userpresets import Presets
from .audition import Candidates, audition
from .comparison import CANDIDATES, CFG_SCALE, COUNT, MODEL, STEPS, Comparison, Side, compare, load
from .models import MODELS, Description
from .world import to_uint8

NAMES = {description.words: name for name, description in MODELS.items()}
WORLDS = list(dict.fromkeys(description.world for description in MODELS.values()))
EXAMPLES = [example for world in WORLDS for example in world.EXAMPLES]
"""The first is what the page shows when it is opened."""
ABOUT = (
    "The same prompt and seed with other noise is another image. **Audition** shows after a few steps what several "
    "noises of each seed will become, and what a checker finds in them; choose one, and **Generate** makes its image, "
    "beside the one without Noise Order."
)
WORLD = "\n".join(
    [
        "Small models that run on any computer, each of one kind of scene:\n",
        *(f"* {world.ABOUT} ({'; '.join(d.words for d in MODELS.values() if d.world is world)})" for world in WORLDS),
    ]
)
FRAMED = "Dashed frame: what the model chooses"
MAX_IMAGES = 16
ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "javascript" / name for name in ("noiseorder.js", "sheet.js")]
STYLE = ROOT / "style.css"
PHONE = """
@media (max-width: 640px) {
    #controls { display: contents !important; }
    #controls > * { order: 2; flex: 1 1 100% !important; min-width: 0; }
    #controls > :nth-child(-n+2) { order: 0; }
    #result { order: 1; }
}
"""
"""On a phone the result stands beneath prompt and buttons, and the other controls beneath it."""
COLUMNS = {"without": "Without", "erased": "Erased", "injected": "Injected", "with": "With Noise Order"}
"""The columns of images; those between the first and the last are shown when they are asked for."""


def generate(
    model: str,
    prompt: str,
    negative: str,
    seed: float | None,
    count: float,
    steps: float,
    cfg_scale: float,
    look: bool,
    *settings: Any,
    progress: Any = gr.Progress(),  # noqa: B008  (how Gradio recognises it)
) -> list[Any]:
    """The Generate button: results, summary, columns and what is in them; an error is shown in Gradio's box."""
    if seed is None:
        raise gr.Error("Seed is empty: give a whole number")
    try:
        config, _ = follow(NoiseOrderConfig(True, *settings), MODELS[NAMES[model]].family)
        seeds = range(int(seed), int(seed) + int(count))
        comparison = compare(
            load(NAMES[model]),
            prompt,
            negative,
            seeds,
            int(steps),
            float(cfg_scale),
            config,
            lambda f, text: progress(f, text),
            look=look,
        )
    except (ValueError, Unsupported) as error:
        raise gr.Error(str(error)) from error

    sides = {"without": comparison.without, **comparison.between, "with": comparison.modulated}
    report = {name: side.tally() for name, side in sides.items()} | {"noise": comparison.noise()}
    summary = "<br>".join(f"<b>{name.capitalize()}:</b> {html.escape(text)}" for name, text in report.items())
    visibility = [gr.update(visible=name in sides) for name in COLUMNS]
    return [
        gr.update(visible=True),
        f"<p>{summary}</p>",
        *visibility,
        *(figures(comparison.seeds, sides[name]) if name in sides else "" for name in COLUMNS),
        gr.update(value=inspector_page(comparison) if look else "", visible=look),
    ]


def preview(
    model: str,
    prompt: str,
    negative: str,
    seed: float | None,
    count: float,
    steps: float,
    cfg_scale: float,
    request: str,
    *settings: Any,
) -> tuple[Any, str]:
    """The Audition button: earlier results hidden, and what javascript/sheet.js draws.

    request: as a WebUI gets it, whose settings count more than the controls; empty where the button itself was pressed.
    """
    contact_sheet = sheet.Sheet(secrets.token_hex(8), CANDIDATES, done=True)
    drawn: dict[str, Any] = {}
    try:
        if seed is None:
            raise ValueError("Seed is empty: give a whole number")
        asked = json.loads(request) if request else {}
        if asked.get("image") is not None:
            seed, count = seed + asked["image"], 1
        controls = NoiseOrderConfig(True, *settings)
        config, _ = follow(controls.replace(**asked.get("settings", {})), MODELS[NAMES[model]].family)
        config = config if config.audition else config.replace(audition=CANDIDATES)
        candidates = candidates_of(model, prompt, negative, int(seed), int(count), int(steps), float(cfg_scale), config)
        drawn = draw(contact_sheet, candidates, config)
    except (ValueError, Unsupported) as error:
        contact_sheet.notes.append(str(error))
        drawn = {**sheet.drawn(contact_sheet), "told": "No audition"}
    drawn["id"] = contact_sheet.id  # a page is told of the same sheet twice, and must notice
    return gr.update(visible=False), f'<div data-sheet="{html.escape(json.dumps(drawn))}"></div>'


@lru_cache(maxsize=8)
def candidates_of(
    model: str,
    prompt: str,
    negative: str,
    seed: int,
    count: int,
    steps: int,
    cfg_scale: float,
    config: NoiseOrderConfig,
) -> Candidates:
    """The previews of the seeds from `seed` on; the last ones are remembered, as every page opens with the same."""
    seeds = range(seed, seed + count)
    return audition(load(NAMES[model]), prompt, negative, seeds, steps, cfg_scale, config)


def draw(contact_sheet: sheet.Sheet, candidates: Candidates, config: NoiseOrderConfig) -> dict[str, Any]:
    """The sheet as a WebUI's page gets it, with what the checker found in each preview, and which the model chooses."""
    contact_sheet.images, contact_sheet.variants = len(candidates.seeds), candidates.variants
    contact_sheet.candidates, contact_sheet.plan = config.audition, candidates.plan
    notes = []
    for k, result in enumerate(candidates.results):
        row, column = divmod(k, len(candidates.variants))
        chain = config.with_variant(candidates.variants[column])
        contact_sheet.previews.append(
            sheet.Preview(
                row,
                candidates.seeds[row],
                candidates.variants[column],
                Image.fromarray(candidates.images[k]),
                candidates.scores[k],
                {"variant": chain.variant, "chain": chain.chain},
            )
        )
        note = f"{'✓' if result.both else '✗'} {result.verdict}"
        title = f"the model's own score: {candidates.scores[k]:.4f}"
        notes.append({"note": note, "title": title, "best": column == candidates.best(row)})
    drawn = sheet.drawn(contact_sheet)
    drawn["previews"] = [preview | note for preview, note in zip(drawn["previews"], notes, strict=True)]
    return {**drawn, "told": f"{candidates.tally()}. {FRAMED}"}


def data_url(image: np.ndarray) -> str:
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def suit(model: str, prompt: str) -> list[Any]:
    """What a newly chosen model needs: a prompt of its world, and its steps and CFG if it was distilled."""
    description: Description = MODELS[NAMES[model]]
    # One that fits is not written back: meanwhile the user may have typed another.
    new_prompt: Any = gr.update()
    try:
        description.world.parse_caption(prompt)
    except ValueError:
        new_prompt = description.world.EXAMPLES[0]
    few = description.distilled
    return [new_prompt, *((few, 1) if few else (gr.update(), gr.update()))]


def fit(model: str, prompt: str) -> str:
    """The model for a newly chosen example: the same where its world has such prompts, else the first that fits."""
    for words in (model, *NAMES):
        with contextlib.suppress(ValueError):
            MODELS[NAMES[words]].world.parse_caption(prompt)
            return words
    raise gr.Error(f"no model reads {prompt!r}")


def inspector_page(comparison: Comparison) -> str:
    """The inspector's page for the first images; its previews of what the model sees need no decoder here."""

    def draw(denoised: torch.Tensor) -> Image.Image:
        return Image.fromarray(to_uint8(denoised[None], 8)[0])

    images = inspector.observe(comparison.seeds, "", comparison.noises, comparison.previews, draw)
    return inspector.page(images)


def figures(seeds: Sequence[int], side: Side) -> str:
    """One column as HTML: every image with what the checker found under it."""
    items = []
    for seed, image, result in zip(seeds, side.images, side.results, strict=True):
        words = f"seed {seed} {'✓' if result.both else '✗'}<br>{html.escape(result.words).replace('; ', '<br>')}"
        items.append(
            f'<figure style="margin:0;width:128px"><img src="{data_url(image)}" width="128" height="128" '
            f'alt="{html.escape(result.words)}">'
            f'<figcaption style="font-size:12px;line-height:1.3">{words}</figcaption></figure>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(items)}</div>'


def user_data() -> Path:
    """Where this system keeps what a user's programs remember."""
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "noiseorder"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home)) / "noiseorder"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "noiseorder"


def appearance() -> dict[str, Any]:
    """Theme and style of the page, for its making or, from Gradio 6 on, for its launch."""
    # Fonts of the reader's own: Gradio's default theme would fetch them from elsewhere.
    theme = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("monospace",))
    return {"theme": theme, "css": STYLE.read_text(encoding="utf-8") + PHONE}


def build(data: Path | None = None) -> gr.Blocks:
    """The page, not yet launched. data: the folder of the user's own presets; default: the system's."""
    presets = Presets((data or user_data()) / "presets.json")
    early = {} if GRADIO_6 else appearance()
    with gr.Blocks(title="Noise Order playground", analytics_enabled=False, **early) as page:
        gr.Markdown(f"# Noise Order playground\n{ABOUT}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320, elem_id="controls"):
                prompt = gr.Textbox(EXAMPLES[0], label="Prompt", elem_id="prompt")
                with gr.Row():
                    auditions = gr.Button("Audition", variant="primary", elem_id="audition")
                    button = gr.Button("Generate", elem_id="generate")
                examples = gr.Examples([[example] for example in EXAMPLES], [prompt])
                model = gr.Radio(list(NAMES), value=MODELS[MODEL].words, label="Model", elem_id="model")
                with gr.Row():
                    seed = gr.Number(1, label="Seed", precision=0, elem_id="seed")
                    count = gr.Slider(1, MAX_IMAGES, COUNT, step=1, label="Images", elem_id="count")
                with gr.Row():
                    steps = gr.Slider(1, 50, STEPS, step=1, label="Sampling steps", elem_id="steps")
                    cfg_scale = gr.Slider(1, 10, CFG_SCALE, step=0.1, label="CFG Scale", elem_id="cfg_scale")
                negative = gr.Textbox("", label="Negative prompt", elem_id="negative")
                with gr.Accordion(accordion.TITLE, open=True):
                    settings = accordion.controls(
                        lambda name: f"noiseorder_{name}",
                        presets,
                        lambda words: MODELS[NAMES[words]].family,
                        [model],
                        text=accordion.ABOUT,
                    )
                look = gr.Checkbox(False, label="Inspect the noise", elem_id="inspect")
                with gr.Accordion("What a prompt can say", open=False):
                    gr.Markdown(WORLD)
            with gr.Column(scale=3, min_width=320, elem_id="result"):
                with gr.Column(visible=False, scale=0) as results:
                    summary = gr.HTML(elem_id="summary")
                    with gr.Row():
                        columns, contents = [], []
                        for name, title in COLUMNS.items():
                            with gr.Column(visible=name in ("without", "with"), min_width=136) as column:
                                gr.Markdown(f"### {title}")
                                contents.append(gr.HTML(elem_id=name))
                            columns.append(column)
                    inside = gr.HTML(visible=False, elem_id="inspected")
                gr.HTML(sheet.SHEET, elem_id="noiseorder_sheet")
                answer = gr.HTML("", visible=sheet.HIDDEN, elem_id="noiseorder_sheet_data")
                request = sheet.keep_out(
                    gr.Textbox("", visible=sheet.HIDDEN, elem_id="noiseorder_audition_ticket", label="Audition ticket")
                )
        model.change(suit, [model, prompt], [prompt, steps, cfg_scale])
        inputs = [model, prompt, negative, seed, count, steps, cfg_scale]
        button.click(generate, [*inputs, look, *settings], [results, summary, *columns, *contents, inside])
        fit_event = examples.load_input_event.then(fit, [model, prompt], [model], show_progress="hidden")
        for event in (page.load, auditions.click, fit_event.then):
            event(preview, [*inputs, request, *settings], [results, answer])
        # A WebUI loads the files by itself. Gradio 4 renamed the argument.
        code = "\n".join(script.read_text(encoding="utf-8") for script in SCRIPTS)
        keyword = "js" if "js" in inspect.signature(page.load).parameters else "_js"
        page.load(None, None, None, **{keyword: f"() => {{{code}}}"})
    return page


class Local:
    """Keeps the page to its own server: what Gradio's page would fetch or connect to elsewhere is taken out of it, and
    the browser is told to fetch nothing else."""

    policy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws:"
    elsewhere = re.compile(rb'<script[^>]*\ssrc="https?://[^>]*>\s*</script>|<link[^>]*\shref="https?://[^>]*>')

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start: Any = None
        body = b""

        async def answer(message: Any) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.policy.encode())]
                if dict(message["headers"]).get(b"content-type", b"").startswith(b"text/html"):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                body = self.elsewhere.sub(b"", body)
                start["headers"] = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                await send(start)
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, answer)


def launch(port: int | None = None, browser: bool = True, data: Path | None = None, **options: Any) -> Any:
    """Serve the page on this machine only; what it opens with is made beforehand."""
    preview(
        MODELS[MODEL].words, EXAMPLES[0], "", 1, COUNT, STEPS, CFG_SCALE, "", *accordion.values_of(PRESETS["Default"])
    )
    return (
        build(data)
        .queue()
        .launch(
            server_name="127.0.0.1",
            server_port=port,
            inbrowser=browser,
            share=False,
            app_kwargs={"middleware": [Middleware(Local)]},
            **(appearance() | {"footer_links": ["gradio", "settings"]} if GRADIO_6 else {"show_api": False}),
            **options,
        )
    )

"""The playground's page: the accordion of the extension on a small model, without a WebUI."""

from __future__ import annotations

import base64
import html
import inspect
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from starlette.middleware import Middleware

from ..config import NoiseOrderConfig
from ..core import Unsupported
from ..presets import follow
from ..webui import accordion, inspector
from ..webui.userpresets import Presets
from .audition import Sheet, audition
from .comparison import Comparison, Side, compare, load
from .models import MODELS, Description
from .world import to_uint8

NAMES = {description.words: name for name, description in MODELS.items()}
WORLDS = list(dict.fromkeys(description.world for description in MODELS.values()))
EXAMPLES = [example for world in WORLDS for example in world.EXAMPLES]
WORLD = "\n".join(
    [
        "Small models, each of one kind of scene, and a checker that reads each picture back:\n",
        *(f"* {world.ABOUT} ({'; '.join(d.words for d in MODELS.values() if d.world is world)})" for world in WORLDS),
    ]
)
MAX_IMAGES = 16
CANDIDATES = 6
"""Of the Audition button, where the settings name no number."""
SCRIPT = Path(__file__).parents[2] / "javascript" / "noiseorder.js"
COLUMNS = {"without": "Without", "erased": "Erased", "injected": "Injected", "with": "With Noise Order"}
"""The columns of pictures; those between the first and the last are shown when they are asked for."""


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
    """The Generate button: summary, columns and what is in them; what cannot be done is told in Gradio's error box."""
    if seed is None:
        raise gr.Error("Seed is empty: give a whole number")
    try:
        config, _ = follow(NoiseOrderConfig(True, *settings), MODELS[NAMES[model]].family)
        seeds = range(int(seed), int(seed) + int(count))
        made = compare(
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

    sides = {"without": made.without, **made.between, "with": made.modulated}
    told = {name: side.tally() for name, side in sides.items()} | {"noise": str(made.report)}
    summary = "<br>".join(f"<b>{name.capitalize()}:</b> {html.escape(text)}" for name, text in told.items())
    shown = [gr.update(visible=name in sides) for name in COLUMNS]
    return [
        f"<p>{summary}</p>",
        *shown,
        *(figures(made.seeds, sides[name]) if name in sides else "" for name in COLUMNS),
        gr.update(value=inspected(made) if look else "", visible=look),
    ]


def preview(
    model: str,
    prompt: str,
    negative: str,
    seed: float | None,
    count: float,
    steps: float,
    cfg_scale: float,
    *settings: Any,
) -> str:
    """The Audition button: the sheet of the candidates, of so many as Audition is set to."""
    if seed is None:
        raise gr.Error("Seed is empty: give a whole number")
    try:
        config, _ = follow(NoiseOrderConfig(True, *settings), MODELS[NAMES[model]].family)
        config = config if config.audition else config.replace(audition=CANDIDATES)
        seeds = range(int(seed), int(seed) + int(count))
        made = audition(load(NAMES[model]), prompt, negative, seeds, int(steps), float(cfg_scale), config)
    except (ValueError, Unsupported) as error:
        raise gr.Error(str(error)) from error
    return cells(made)


def cells(made: Sheet) -> str:
    """A sheet as HTML that javascript/noiseorder.js lets a person choose from; what the critic takes has a frame."""
    rows = []
    for row, seed in enumerate(made.seeds):
        line = ""
        for column, variant in enumerate(made.variants):
            k = row * len(made.variants) + column
            found, frame = made.found[k], "2px solid" if column == made.best(row) else "2px solid transparent"
            line += (
                f'<td style="vertical-align:top"><button type="button" class="noiseorder-cell" '
                f'data-variant="{variant}" data-seed="{made.seeds[0]}" aria-pressed="false" '
                f'aria-label="Choose variant {variant}, seed {seed}" tabindex="{0 if k == 0 else -1}" '
                f'style="padding:3px;border:{frame};border-radius:6px;cursor:pointer">'
                f'<img src="{data_url(made.pictures[k])}" width="128" height="128" alt=""></button>'
                f'<div style="font-size:12px;line-height:1.3;width:136px">{"✓" if found.both else "✗"} '
                f"{html.escape(found.words)}<br>critic {made.scores[k]:.4f}</div></td>"
            )
        rows.append(f'<tr><th scope="row">Seed {seed}</th>{line}</tr>')
    head = "".join(f'<th scope="col">Variant {variant}</th>' for variant in made.variants)
    return (
        f"<p>{html.escape(made.tally())}. The frame is what the model's own judgement takes.</p>"
        '<div class="noiseorder-cells" style="overflow-x:auto"><table style="width:auto">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="noiseorder-told" role="status"></p>'
    )


def data_url(picture: np.ndarray) -> str:
    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def suit(model: str, prompt: str) -> list[Any]:
    """What a newly chosen model needs: a prompt of its world, and its steps and CFG if it was distilled."""
    description: Description = MODELS[NAMES[model]]
    try:
        description.world.parse_caption(prompt)
    except ValueError:
        prompt = description.world.EXAMPLES[0]
    few = description.distilled
    return [prompt, *((few, 1) if few else (gr.update(), gr.update()))]


def inspected(made: Comparison) -> str:
    """The inspector's page for the first images; its pictures of what the model sees need no decoder here."""

    def draw(denoised: torch.Tensor) -> Image.Image:
        return Image.fromarray(to_uint8(denoised[None], 8)[0])

    images = inspector.observe(made.seeds, "", made.noises, made.previews, draw)
    return inspector.page(images)


def figures(seeds: Sequence[int], side: Side) -> str:
    """One column as HTML: every picture with what the checker found under it."""
    shown = []
    for seed, picture, found in zip(seeds, side.pictures, side.found, strict=True):
        words = f"seed {seed} {'✓' if found.both else '✗'}<br>{html.escape(found.words).replace('; ', '<br>')}"
        shown.append(
            f'<figure style="margin:0;width:128px"><img src="{data_url(picture)}" width="128" height="128" '
            f'alt="{html.escape(found.words)}">'
            f'<figcaption style="font-size:12px;line-height:1.3">{words}</figcaption></figure>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(shown)}</div>'


def user_data() -> Path:
    """Where this system keeps what a person's programs remember."""
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "noiseorder"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home)) / "noiseorder"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "noiseorder"


def build(data: Path | None = None) -> gr.Blocks:
    """The page, not yet launched. data: the folder of the person's own presets; default: the system's."""
    presets = Presets((data or user_data()) / "presets.json")
    # Fonts of the reader's own: Gradio's default theme would fetch them from elsewhere.
    theme = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("monospace",))
    with gr.Blocks(title="Noise Order playground", theme=theme, analytics_enabled=False) as page:
        gr.Markdown(f"# Noise Order playground\n{WORLD}")
        with gr.Row():
            with gr.Column(scale=2):
                prompt = gr.Textbox(EXAMPLES[0], label="Prompt", elem_id="prompt")
                negative = gr.Textbox("", label="Negative prompt", elem_id="negative")
                gr.Examples([[example] for example in EXAMPLES], [prompt])
            with gr.Column(scale=1):
                model = gr.Radio(list(NAMES), value=MODELS["unet"].words, label="Model", elem_id="model")
                seed = gr.Number(1, label="Seed", precision=0, elem_id="seed")
                count = gr.Slider(1, MAX_IMAGES, 8, step=1, label="Images", elem_id="count")
            with gr.Column(scale=1):
                steps = gr.Slider(1, 50, 10, step=1, label="Sampling steps", elem_id="steps")
                cfg_scale = gr.Slider(1, 10, 1.5, step=0.1, label="CFG Scale", elem_id="cfg_scale")
                button = gr.Button("Generate", variant="primary", elem_id="generate")
                auditions = gr.Button("Audition", elem_id="audition")
        with gr.Accordion(accordion.TITLE, open=True):
            settings = accordion.controls(
                lambda name: f"noiseorder_{name}",
                presets,
                lambda words: MODELS[NAMES[words]].family,
                [model],
                text=accordion.ABOUT,
            )
        model.change(suit, [model, prompt], [prompt, steps, cfg_scale])
        look = gr.Checkbox(False, label="Inspect the noise", elem_id="inspect")
        sheet = gr.HTML(elem_id="noiseorder_sheet")
        summary = gr.HTML(elem_id="summary")
        with gr.Row():
            columns, contents = [], []
            for name, title in COLUMNS.items():
                with gr.Column(visible=name in ("without", "with")) as column:
                    gr.Markdown(f"### {title}")
                    contents.append(gr.HTML(elem_id=name))
                columns.append(column)
        inside = gr.HTML(visible=False, elem_id="inspected")
        button.click(
            generate,
            [model, prompt, negative, seed, count, steps, cfg_scale, look, *settings],
            [summary, *columns, *contents, inside],
        )
        auditions.click(preview, [model, prompt, negative, seed, count, steps, cfg_scale, *settings], [sheet])
        # A WebUI loads the file by itself. Gradio 4 renamed the argument.
        keyword = "js" if "js" in inspect.signature(page.load).parameters else "_js"
        page.load(None, None, None, **{keyword: f"() => {{{SCRIPT.read_text(encoding='utf-8')}}}"})
    return page


class Local:
    """Tells the browser to fetch nothing from anywhere but this page's own server: Gradio's page would, from three."""

    policy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws:"

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.policy.encode())]
            await send(message)

        await self.app(scope, receive, answer)


def launch(port: int | None = None, browser: bool = True, data: Path | None = None, **options: Any) -> Any:
    """Serve the page on this machine only."""
    return (
        build(data)
        .queue()
        .launch(
            server_name="127.0.0.1",
            server_port=port,
            inbrowser=browser,
            show_api=False,
            share=False,
            app_kwargs={"middleware": [Middleware(Local)]},
            **options,
        )
    )

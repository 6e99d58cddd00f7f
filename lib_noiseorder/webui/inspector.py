"""The noise of the last generation for the eye: numbers, pictures of it, and what the model saw in it."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..config import NoiseOrderConfig
from ..core import Preview
from ..core.statistics import cosine, kurtosis, mean, rms, spectrum

LIMIT = 4
"""Images kept of a generation, in each of its passes."""
STATES = ("before", "erased", "after")
COLOURS = {"before": (20, 130, 60), "erased": (40, 100, 190), "after": (200, 70, 40)}
TITLE = "Noise inspector"
ABOUT = (
    "What the noise of the last generation was before and after, and what the model saw in it at the key levels; "
    "costs two evaluations per key level and image."
)
OFF = 'The inspector is off: switch on "Keep what the noise inspector shows" under Settings, Noise Order, and generate.'
NOTHING = "Nothing to inspect: the last generation was not changed by Noise Order, or there was none yet."


@dataclass(frozen=True)
class Seen:
    """One image: the three noises (C, ...) float32, and for each key level two pictures, before and after."""

    seed: int
    stage: str
    noises: dict[str, Tensor]
    previews: list[tuple[float, float, Image.Image, Image.Image]]


@dataclass(frozen=True)
class Record:
    """One generation: what was set, what looking cost per image and pass, and the images."""

    config: NoiseOrderConfig
    evaluations: int
    images: list[Seen]


last: Record | None = None
"""Of the last generation of this WebUI; None when there is nothing to show."""


def forget() -> None:
    """A generation begins."""
    global last
    last = None


def keep(config: NoiseOrderConfig, evaluations: int, images: Sequence[Seen]) -> None:
    """Remember images of this generation, after those of its earlier batches and passes."""
    global last
    known = last.images if last is not None else []
    last = Record(config, evaluations, [*known, *images[: room(images[0].stage)]])


def room(stage: str) -> int:
    """How many more images of this pass are kept."""
    return LIMIT - sum(image.stage == stage for image in (last.images if last is not None else []))


def noise_picture(noise: Tensor) -> Image.Image:
    """The first three channels as red, green, blue; ±3 is black and white."""
    pixels = noise.reshape(noise.shape[0], -1, *noise.shape[-2:])[:3, 0]
    pixels = pixels.expand(3, -1, -1) if len(pixels) < 3 else pixels
    scaled = ((pixels / 6 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(scaled.movedim(0, -1).contiguous().numpy())


def observe(
    seeds: Sequence[int],
    stage: str,
    noises: dict[str, Tensor],
    previews: Sequence[Preview] = (),
    draw: Callable[[Tensor], Image.Image] = noise_picture,
) -> list[Seen]:
    """The first images of a batch, copied away; draw: makes a picture of one image's x̂0, (C, ...)."""
    return [
        Seen(
            seed,
            stage,
            {name: noise[index].float().cpu().clone() for name, noise in noises.items()},
            [
                (preview.level.fraction, preview.level.sigma, draw(preview.before[index]), draw(preview.after[index]))
                for preview in previews
            ],
        )
        for index, seed in enumerate(seeds[:LIMIT])
    ]


def numbers(noise: Tensor) -> dict[str, Any]:
    """What is measured of one noise, (C, ...)."""
    batch = noise[None].double()
    return {
        "rms": rms(batch).item(),
        "mean": mean(batch)[0],
        "kurtosis": kurtosis(batch)[0],
        "spectrum": spectrum(batch)[0].tolist(),
    }


def describe(record: Record) -> dict[str, Any]:
    """A record as JSON; pictures are base64 PNG."""
    return {
        "settings": dataclasses.asdict(record.config),
        "evaluations": record.evaluations,
        "images": [describe_image(image) for image in record.images],
    }


def describe_image(image: Seen) -> dict[str, Any]:
    measured = {name: numbers(noise) for name, noise in image.noises.items()}
    before = image.noises["before"][None]
    return {
        "seed": image.seed,
        "stage": image.stage or "first",
        **{
            name: {
                **values,
                "cosine": cosine(image.noises[name][None], before)[0],
                "picture": png(noise_picture(image.noises[name])),
            }
            for name, values in measured.items()
        },
        "cosine": cosine(image.noises["after"][None], before)[0],
        "spectrum_plot": png(plot({name: values["spectrum"] for name, values in measured.items()})),
        "previews": [
            {"level": fraction, "sigma": sigma, "before": png(before_it), "after": png(after_it)}
            for fraction, sigma, before_it, after_it in image.previews
        ],
    }


def png(picture: Image.Image) -> str:
    """A picture as base64 PNG."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def plot(curves: dict[str, list[float]], width: int = 360, height: int = 200) -> Image.Image:
    """Power over spatial frequency, from 0 to half a cycle per pixel; the line at 1 is white noise."""
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    left, top, right, bottom = 34, 8, width - 8, height - 32
    high = max(2.0, *(1.05 * max(curve) for curve in curves.values()))

    def point(share: float, power: float) -> tuple[float, float]:
        return left + share * (right - left), bottom - power / high * (bottom - top)

    draw.rectangle((left, top, right, bottom), outline=(200, 200, 200))
    draw.line([point(0, 1), point(1, 1)], fill=(0, 0, 0))
    for power in (0.0, 1.0, high):
        draw.text((4, point(0, power)[1] - 6), f"{power:.1f}", (60, 60, 60), font)
    for name, curve in curves.items():
        draw.line([point(k / max(len(curve) - 1, 1), power) for k, power in enumerate(curve)], COLOURS[name], 2)
    draw.text((left, bottom + 3), "power, by cycles per pixel 0 to 0.5; black: white noise", (60, 60, 60), font)
    for k, name in enumerate(curves):
        draw.text((left + 70 * k, bottom + 17), name, COLOURS[name], font)
    return sheet


def page(images: Sequence[Seen]) -> str:
    """The images as HTML."""
    return "".join(section(describe_image(image)) for image in images)


def section(image: dict[str, Any]) -> str:
    """One image of `describe` as HTML."""
    measures = ("rms", "mean", "kurtosis", "cosine")
    head = "".join(f"<th>{name}</th>" for name in ("noise", *measures, "picture"))
    rows = "".join(
        f"<tr><th>{name}</th>"
        + "".join(f"<td>{image[name][measure]:.3f}</td>" for measure in measures)
        + f"<td>{shown(image[name]['picture'], f'noise {name}', 96)}</td></tr>"
        for name in STATES
    )
    previews = "".join(
        f"<tr><th>{preview['level']:.2f}</th>"
        + "".join(f"<td>{shown(preview[name], f'seen {name}', 128)}</td>" for name in ("before", "after"))
        + "</tr>"
        for preview in image["previews"]
    )
    seen = f"<table><tr><th>level</th><th>seen before</th><th>seen after</th></tr>{previews}</table>"
    return (
        f'<div class="noiseorder-inspected"><h4>Seed {image["seed"]}, {html.escape(image["stage"])} pass</h4>'
        f'<div style="display:flex;flex-wrap:wrap;gap:16px"><table><tr>{head}</tr>{rows}</table>'
        f"{shown(image['spectrum_plot'], 'radial power spectrum', 360)}{seen if previews else ''}</div></div>"
    )


def shown(data: str, title: str, width: int) -> str:
    return (
        f'<img src="data:image/png;base64,{data}" alt="{title}" title="{title}" width="{width}" '
        'style="image-rendering:pixelated;max-width:none">'
    )


def panel(elem_id: Callable[[str], str], enabled: Callable[[], bool]) -> None:
    """The folded panel; nothing is worked out before its button is pressed."""
    with gr.Accordion(TITLE, open=False, elem_id=elem_id("inspector")):
        gr.Markdown(ABOUT)
        button = gr.Button("Refresh", elem_id=elem_id("inspect"))
        inside = gr.HTML(elem_id=elem_id("inspected"))

    def refresh() -> str:
        return page(last.images) if last is not None else f"<p>{html.escape(NOTHING if enabled() else OFF)}</p>"

    button.click(refresh, [], [inside], show_progress="hidden")

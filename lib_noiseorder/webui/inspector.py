"""The noise of the last generation for the eye: numbers, images of it, and what the model saw in it."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from gradio.context import Context
from PIL import Image, ImageDraw
from torch import Tensor

from ..config import NoiseOrderConfig, SettingError
from ..core import LevelPreview
from ..core.statistics import cosine, kurtosis, mean, rms, spectrum

LIMIT = 4
"""Images kept of a generation, in each of its passes."""
STATES = ("before", "erased", "after")
COLOURS = {"before": (40, 150, 80), "erased": (70, 130, 230), "after": (225, 95, 50)}
GREY = (128, 128, 128)
"""Seen on a light page and on a dark one, as the colours are."""
NOTABLE = 4.5
"""How many standard errors from white noise stand out: by chance fewer than one number in 100 000 does."""
TITLE = "Noise inspector"
SWITCH = "Keep what the noise inspector shows"
ABOUT = (
    "The noise of the last generation before and after, beside white noise as a sampler expects it, and what the model "
    "sees in it. Costs two evaluations per key level and image; the images stay the same."
)
OFF = f'The inspector is off: switch on "{SWITCH}" here or under Settings, Noise Order, and generate.'
NOTHING = "Nothing to inspect: the last generation was not changed by Noise Order, or there was none yet."
STYLE = ".noiseorder-inspected :is(td, th) {padding: 2px 3px !important; font-size: clamp(10px, 3vw, 13px)}"
"""The hosts' own cells are too wide for a phone."""
WHITE = "white: as a sampler expects"


@dataclass(frozen=True)
class Inspection:
    """One image: the three noises (C, ...) float32, and for each key level two images, before and after."""

    seed: int
    stage: str
    noises: dict[str, Tensor]
    previews: list[tuple[float, float, Image.Image, Image.Image]]


@dataclass(frozen=True)
class Record:
    """One generation: what was set, what looking cost per image and pass, and the images."""

    config: NoiseOrderConfig
    evaluations: int
    images: list[Inspection]


class Inspections:
    """What is kept of each user's last generation, where there is something to show; the user None has no login.

    switched: by users with a login, where they used the switch in the panel.
    """

    def __init__(self) -> None:
        self.last: dict[str | None, Record] = {}
        self.switched: dict[str | None, bool] = {}

    def wanted(self, user: str | None, option: bool) -> bool:
        """Whether a user's noise is to be kept: as this user has switched it, else as the settings page says."""
        return self.switched.get(user, option)

    def forget(self, user: str | None) -> None:
        """A generation begins."""
        self.last.pop(user, None)

    def keep(self, user: str | None, config: NoiseOrderConfig, evaluations: int, images: Sequence[Inspection]) -> None:
        """Remember images of this generation, after those of its earlier batches and passes."""
        kept = images[: self.room(user, images[0].stage)]
        self.last[user] = Record(config, evaluations, [*self.images(user), *kept])

    def images(self, user: str | None) -> Sequence[Inspection]:
        """The images of the user's last generation that are kept."""
        return self.last[user].images if user in self.last else ()

    def room(self, user: str | None, stage: str) -> int:
        """How many more images of this pass are kept."""
        return LIMIT - sum(image.stage == stage for image in self.images(user))


def noise_image(noise: Tensor) -> Image.Image:
    """The first three channels as red, green, blue; ±3 is black and white."""
    pixels = noise.reshape(noise.shape[0], -1, *noise.shape[-2:])[:3, 0]
    pixels = pixels.expand(3, -1, -1) if len(pixels) < 3 else pixels
    scaled = ((pixels / 6 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(scaled.movedim(0, -1).contiguous().numpy())


def observe(
    seeds: Sequence[int],
    stage: str,
    noises: dict[str, Tensor],
    previews: Sequence[LevelPreview] = (),
    draw: Callable[[Tensor], Image.Image] = noise_image,
) -> list[Inspection]:
    """The first images of a batch, copied away; draw: makes an image of one image's x̂0, (C, ...)."""
    return [
        Inspection(
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


def verdict(measurements: dict[str, Any], shape: Sequence[int]) -> str:
    """What of `numbers` stands out from white noise of that shape, (C, ..., H, W), in words."""
    count, parts = math.prod(shape), []
    strength, shift, peak = measurements["rms"], measurements["mean"], measurements["kurtosis"]
    if abs(strength - 1) > NOTABLE / math.sqrt(2 * count):
        parts.append(f"{'stronger' if strength > 1 else 'weaker'} than a sampler expects (rms {strength:.3f})")
    if abs(shift) > NOTABLE / math.sqrt(count):
        parts.append(f"mean {shift:+.3f} instead of 0")
    if abs(peak) > NOTABLE * math.sqrt(24 / count):
        parts.append(f"{'more' if peak > 0 else 'fewer'} extreme values than white noise (kurtosis {peak:+.3f})")
    # Where the strength is off, every frequency is: what is left when it is taken out.
    relative = [power / max(strength, 1e-9) ** 2 for power in measurements["spectrum"]]
    scores = [deviation(power, degrees) for power, degrees in zip(relative, freedom(shape), strict=True)]
    k = max(range(len(scores)), key=lambda k: abs(scores[k]))
    if abs(scores[k]) > NOTABLE:
        frequency = k / min(shape[-2:])
        kind = "coarse" if frequency < 1 / 6 else "middle" if frequency < 1 / 3 else "fine"
        parts.append(f"{relative[k]:.2f} times the power of white noise at {frequency:.2f} cycles per pixel ({kind})")
    return "; ".join(parts) or WHITE


def freedom(shape: Sequence[int]) -> list[float]:
    """Of how many numbers each power of `spectrum` is the mean: the annulus has about `2πk · HW / N²` in a channel."""
    height, width = shape[-2:]
    side, layers = min(height, width), math.prod(shape[:-2])
    return [max(1.0, 2 * math.pi * k) * height * width / side**2 * layers for k in range(side // 2 + 1)]


def deviation(power: float, degrees: float) -> float:
    """A mean of so many squared normal numbers in standard errors, `(p^⅓ − 1 + v) / √v`, v = 2 / (9 ν)."""
    variance = 2 / (9 * degrees)
    return (power ** (1 / 3) - 1 + variance) / math.sqrt(variance)


def describe(record: Record) -> dict[str, Any]:
    """A record as JSON; images are base64 PNG."""
    return {
        "settings": dataclasses.asdict(record.config),
        "evaluations": record.evaluations,
        "images": [describe_image(image) for image in record.images],
    }


def describe_image(image: Inspection) -> dict[str, Any]:
    measurements = {name: numbers(noise) for name, noise in image.noises.items()}
    before = image.noises["before"][None]
    return {
        "seed": image.seed,
        "stage": image.stage or "first",
        **{
            name: {
                **values,
                "cosine": cosine(image.noises[name][None], before)[0],
                "verdict": verdict(values, image.noises[name].shape),
                "picture": png(noise_image(image.noises[name])),
            }
            for name, values in measurements.items()
        },
        "cosine": cosine(image.noises["after"][None], before)[0],
        "spectrum_plot": png(plot({name: values["spectrum"] for name, values in measurements.items()})),
        "previews": [
            {"level": fraction, "sigma": sigma, "before": png(before_it), "after": png(after_it)}
            for fraction, sigma, before_it, after_it in image.previews
        ],
    }


def png(image: Image.Image) -> str:
    """An image as base64 PNG."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def plot(curves: dict[str, list[float]], width: int = 720, height: int = 300) -> Image.Image:
    """Power over spatial frequency, from 0 to half a cycle per pixel and from 0 to `top`; the grey line is white noise.

    Without ground and words: those of the page follow its theme, and every Pillow has other letters.
    """
    sheet = Image.new("RGBA", (width, height))
    draw, high = ImageDraw.Draw(sheet), top(curves)

    def point(share: float, power: float) -> tuple[float, float]:
        return 2 + share * (width - 5), (1 - power / high) * (height - 5) + 2

    draw.rectangle((0, 0, width - 1, height - 1), outline=GREY)
    draw.line([point(0, 1), point(1, 1)], GREY, 3)
    for name, curve in curves.items():
        draw.line([point(k / max(len(curve) - 1, 1), power) for k, power in enumerate(curve)], COLOURS[name], 4)
    return sheet


def top(curves: dict[str, list[float]]) -> float:
    """The power at the upper edge of the plot."""
    return max(2.0, *(1.05 * max(curve) for curve in curves.values()))


def page(images: Sequence[Inspection]) -> str:
    """The images as HTML."""
    return f"<style>{STYLE}</style>" + "".join(section(describe_image(image)) for image in images)


def section(image: dict[str, Any]) -> str:
    """One image of `describe` as HTML; nothing in it is wider than a phone."""
    measures = ("rms", "mean", "kurtosis", "cosine")
    head = "".join(f"<th>{name}</th>" for name in ("noise", *measures))
    rows = "".join(
        f"<tr><th>{label(name)}<br>{img(image[name]['picture'], f'noise {name}', 48)}</th>"
        + "".join(f"<td>{image[name][measure]:.3f}</td>" for measure in measures)
        + "</tr>"
        for name in STATES
    )
    verdicts = "".join(f"<li>{label(name)}: {html.escape(image[name]['verdict'])}</li>" for name in STATES)
    previews = "".join(
        f"<tr><th>{preview['level']:.2f}</th>"
        + "".join(f"<td>{img(preview[name], f'seen {name}', 80)}</td>" for name in ("before", "after"))
        + "</tr>"
        for preview in image["previews"]
    )
    preview_table = f"<table><tr><th>level</th><th>seen before</th><th>seen after</th></tr>{previews}</table>"
    high = top({name: image[name]["spectrum"] for name in STATES})
    return (
        f'<div class="noiseorder-inspected"><h4>Seed {image["seed"]}, {html.escape(image["stage"])} pass</h4>'
        f'<ul style="margin:4px 0">{verdicts}</ul>'
        '<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">'
        f'<div style="max-width:100%;overflow-x:auto"><table style="width:auto"><tr>{head}</tr>'
        f"<tr><th>white</th><td>1</td><td>0</td><td>0</td><td></td></tr>{rows}</table>"
        '<div style="font-size:12px">cosine to the seed\'s own noise: 1 is the same, 0 another seed</div></div>'
        '<figure style="margin:0;width:360px;max-width:100%">'
        f'<img src="data:image/png;base64,{image["spectrum_plot"]}" alt="radial power spectrum" '
        'style="width:100%;height:auto;display:block"><figcaption style="font-size:12px">'
        f"Power, 0 to {high:.1f}, by spatial frequency, 0 to 0.5 cycles per pixel: "
        f"{', '.join(label(name) for name in STATES)}; grey: white noise</figcaption></figure>"
        f"{preview_table if previews else ''}</div></div>"
    )


def label(name: str) -> str:
    return f'<span style="color:rgb{COLOURS[name]};font-weight:600">{name}</span>'


def img(data: str, title: str, width: int) -> str:
    return (
        f'<img src="data:image/png;base64,{data}" alt="{title}" title="{title}" '
        f'style="image-rendering:pixelated;width:{width}px;max-width:none">'
    )


def panel(
    elem_id: Callable[[str], str],
    inspections: Inspections,
    enabled: Callable[[], bool],
    switch: Callable[[bool], None],
) -> None:
    """The folded panel; javascript/inspector.js presses its button after a generation and when it is opened.

    Where the WebUI has a login, it shows a user's own generations alone, and its switch is that user's.
    enabled: what the settings page says; switch: sets it there, raising SettingError where that cannot be.
    """
    with gr.Accordion(TITLE, open=False, elem_id=elem_id("inspector"), elem_classes="noiseorder-fold"):
        gr.Markdown(ABOUT)
        box = gr.Checkbox(label=SWITCH, elem_id=elem_id("inspector_on"))
        button = gr.Button("Refresh", elem_id=elem_id("inspect"))
        inside = gr.HTML(elem_id=elem_id("inspected"))
    box.do_not_save_to_config = True

    def refresh(request: gr.Request) -> tuple[bool, str]:
        user = request.username or None
        on, images = inspections.wanted(user, enabled()), inspections.images(user)
        off = "" if on else f"<p>{html.escape(OFF)}</p>"
        content = off + page(images) if images else off or f"<p>{html.escape(NOTHING)}</p>"
        # javascript/inspector.js leaves everybody's settings page alone where it finds this.
        return on, content if user is None else f'{content}<i class="noiseorder-own" hidden></i>'

    def change(on: bool, request: gr.Request) -> tuple[bool, str]:
        if request.username:
            inspections.switched[request.username] = on
            return refresh(request)
        try:
            switch(on)
        except SettingError as error:
            return enabled(), f"<p>⚠ {html.escape(str(error))}</p>"
        return refresh(request)

    presses = itertools.count()

    def answer(request: gr.Request) -> tuple[bool, str]:
        on, content = refresh(request)
        # Never the same twice: javascript/inspector.js sees that an answer came, and Gradio shows only what is new.
        return on, f'{content}<i class="noiseorder-answer" data-number="{next(presses)}" hidden></i>'

    Context.root_block.load(refresh, [], [box, inside], show_progress="hidden", queue=False)
    button.click(answer, [], [box, inside], show_progress="hidden", queue=False)
    # .input fires for the user alone, not for what `refresh` tells.
    box.input(change, [box], [box, inside], show_progress="hidden", queue=False)

"""What the page is set to, and the steps that follow from it. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Job:
    """What the page itself is set to, as javascript/noiseorder.js tells it.

    strength: of the denoising in img2img; parts: prompts joined by AND; hires_steps, hires_cfg: 0 is as in the first
    pass, and so is a hires_sampler that there is none of by that name.
    """

    steps: int = 20
    cfg: float = 7.0
    strength: float = 1.0
    parts: int = 1
    sampler: str = "Euler"
    scheduler: str = "Automatic"
    width: int = 512
    height: int = 512
    img2img: bool = False
    mask: bool = False
    hires: bool = False
    hires_steps: int = 0
    hires_cfg: float = 0.0
    hires_sampler: str = ""
    hires_parts: int = 1


def read(text: object) -> Job:
    """The job in a JSON object; what is missing or of another type is as in any job."""
    try:
        data = json.loads(str(text))
        defaults = {field.name: field.default for field in dataclasses.fields(Job)}
        values = {name: data[name] for name in defaults if type(data.get(name)) in (type(defaults[name]), int)}
    except (ValueError, AttributeError):
        return Job()
    job = Job(**values)
    # A schedule is computed for these: nothing that would keep the server busy.
    return dataclasses.replace(job, steps=min(max(int(job.steps), 1), 1000))


class Plan(NamedTuple):
    """Of the first pass: the steps of a preview and of the image, and how often a step asks the model."""

    preview: int
    steps: int
    order: int = 1

    def calls(self, steps: int) -> int:
        """How often so many steps ask: the last one of a second-order sampler asks once, and so does one cut short."""
        return self.order * (steps - 1) + 1

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
    """Of the first pass: where a preview ends, and how often the model is evaluated until there and by the image.

    preview: steps of a preview; steps: of the image; calls: evaluations until the x̂0 of each step a preview can end in,
    one for each where nothing is known; image_calls: of the image, as many as it has steps where nothing is known;
    sketch: steps of the coarser run that a preview is of, 0 where it is of the image's own first steps.
    """

    preview: int
    steps: int
    calls: tuple[int, ...] = ()
    image_calls: int = 0
    sketch: int = 0

    @property
    def preview_cost(self) -> int:
        """Evaluations of a preview, for each prompt."""
        return self.calls[self.preview - 1] if self.preview <= len(self.calls) else self.preview

    @property
    def image_cost(self) -> int:
        """Evaluations of an image, for each prompt."""
        return self.image_calls or self.steps

    @property
    def words(self) -> str:
        """Where the preview is, in words."""
        if self.sketch:
            return f"step {self.preview} of a sketch of {self.sketch} steps"
        return f"{self.preview} of {self.steps} steps"

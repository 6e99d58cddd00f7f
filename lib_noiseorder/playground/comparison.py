"""The same seeds without and with Noise Order, what the checker found, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ..config import NoiseOrderConfig
from ..core import LevelPreview, Report, modulate, previews
from ..modulation import modulation
from .audition import audition
from .host import PlaygroundDenoiser, seed_noise
from .models import PlaygroundModel
from .world import CheckResult, to_uint8

MODEL, COUNT, STEPS, CFG_SCALE, CANDIDATES = "dit", 4, 10, 3.0, 4
"""What page and command line begin with; steps and CFG scale of a distilled model are its own."""


@dataclass(frozen=True)
class Side:
    """One way to make the seeds: images (B, H, W, 3) uint8, what was found in them, model evaluations per image."""

    images: np.ndarray
    results: list[CheckResult]
    evaluations: int
    relation: str
    """What relation stands for in this world, in one word."""

    def tally(self) -> str:
        """How many images are right, in words."""
        count = len(self.results)
        objects, both = sum(f.objects for f in self.results), sum(f.both for f in self.results)
        return (
            f"{objects} of {count} with the right objects, {both} of {count} with the right {self.relation} too; "
            f"{self.evaluations} evaluations per image"
        )


@dataclass(frozen=True)
class Comparison:
    """The same seeds without and with, and between them what was asked for besides: erased, injected."""

    seeds: tuple[int, ...]
    without: Side
    modulated: Side
    between: dict[str, Side]
    report: Report
    noises: dict[str, torch.Tensor]
    """Before, erased and after, (B, 3, 16, 16)."""
    previews: list[LevelPreview]
    """What the model sees in the first of them and in the last; empty unless it was asked for."""

    def noise(self) -> str:
        """What was done to the noise, in words."""
        report = self.report
        if not report.applied:
            return str(report)
        correlation, before, after = (
            sum(values) / len(values) for values in (report.cosine, report.std_before, report.std_after)
        )
        parts = [
            f"correlation {correlation:.2f} with the seed's own (1 is the same, 0 another seed)",
            f"standard deviation {before:.2f} before, {after:.2f} after",
            f"{report.evaluations} evaluation{'' if report.evaluations == 1 else 's'} per image",
            *report.notes,
        ]
        return "; ".join(parts)


@cache
def load(name: str) -> PlaygroundModel:
    """The model, read once."""
    return PlaygroundModel.load(name)


def compare(
    model: PlaygroundModel,
    prompt: str,
    negative: str,
    seeds: Sequence[int],
    steps: int,
    cfg_scale: float,
    config: NoiseOrderConfig,
    progress: Callable[[float, str], object] = lambda fraction, text: None,
    enlarge: int = 8,
    look: bool = False,
) -> Comparison:
    """Make every seed's image without and with the settings, and in the ways they ask for besides.

    With an audition every seed goes on with the variant that won.

    progress: called with the share done and a word. look: also make previews. Raises ValueError for a prompt that is
    not a caption of the model's world, no seeds, or steps < 1.
    """
    if not seeds:
        raise ValueError("no seeds: give at least one")
    world = model.world
    scenes = [world.parse_caption(prompt)] * len(seeds)
    tokens, uncond = world.encode(scenes), world.null_tokens(len(seeds))
    if negative.strip():
        uncond = world.encode([world.parse_caption(negative)] * len(seeds))
    sides: dict[str, Side] = {}
    report = Report(applied=False)
    # "without" is the original already.
    between = {name: variant for name, variant in config.variants.items() if variant.active}
    ways = {"without": NoiseOrderConfig(), **between, "with": config}
    variants: list[int] = []
    if config.audition:
        sheet = audition(model, prompt, negative, seeds, steps, cfg_scale, config)
        variants = [sheet.variants[sheet.best(row)] for row in range(len(seeds))]
    for part, (name, settings) in enumerate(ways.items()):
        host = PlaygroundDenoiser(model, seeds, tokens, uncond, cfg_scale)
        erased: list[torch.Tensor] = []
        noise, report = modulate(seed_noise(seeds), modulation(settings), host, erased.append, variants)

        def tell(step: int, total: int, denoised: torch.Tensor, part: int = part, name: str = name) -> None:
            progress((part + (step + 1) / total) / len(ways), name)

        images = model.sample(noise, tokens, uncond, cfg_scale, steps, tell)
        sides[name] = Side(to_uint8(images, enlarge), world.check(images, scenes), host.evaluations, world.RELATION)
    # What the loop leaves is of the last way, the one with the settings. Inactive ones do not even erase.
    noises = {"before": seed_noise(seeds), "erased": (erased or [noise])[0], "after": noise}
    level_previews = previews(noises["before"], noise, modulation(config), host) if look else []
    without, modulated = sides.pop("without"), sides.pop("with")
    return Comparison(tuple(seeds), without, modulated, sides, report, noises, level_previews)

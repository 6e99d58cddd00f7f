"""What each variant of a seed's noise would become, after a few steps, and what the checker finds in it there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..config import NoiseOrderConfig
from ..core import modulate, self_consistency
from ..job import Plan
from ..modulation import modulation
from ..webui.cost import guess
from .host import PlaygroundDenoiser, seed_noise
from .models import PlaygroundModel
from .world import CheckResult, to_uint8


class _Reached(Exception):
    """The preview's step."""


@dataclass(frozen=True)
class Candidates:
    """A row for every seed, a column for every variant of the last erasure; the lists go row by row.

    plan: where the previews end; cost: of all previews of one seed, in images.
    """

    seeds: tuple[int, ...]
    variants: tuple[int, ...]
    images: np.ndarray
    results: list[CheckResult]
    scores: list[float]
    plan: Plan
    cost: float

    def best(self, row: int) -> int:
        """The column that the model's own judgement takes."""
        scores = self.scores[row * len(self.variants) : (row + 1) * len(self.variants)]
        return max(range(len(scores)), key=scores.__getitem__)

    def of_seed(self, row: int) -> list[CheckResult]:
        """What was found in the candidates of one seed."""
        return self.results[row * len(self.variants) : (row + 1) * len(self.variants)]

    def tally(self) -> str:
        """What was made, and what choosing among it brings, in words."""
        rows, count = range(len(self.seeds)), len(self.seeds)
        first = sum(self.of_seed(row)[0].both for row in rows)
        by_model = sum(self.of_seed(row)[self.best(row)].both for row in rows)
        any_right = sum(any(result.both for result in self.of_seed(row)) for row in rows)
        return (
            f"{len(self.variants)} candidates at {self.plan.words}: {self.cost:.1f} images per seed. "
            f"Right: {first} of {count} as they come, {by_model} of {count} as the model chooses, "
            f"{any_right} of {count} with the best chosen by eye"
        )

    def choices(self) -> list[str]:
        """What the model chooses for each seed, in words."""
        return [
            f"Seed {seed}: variant {self.variants[self.best(row)]}, {self.of_seed(row)[self.best(row)].verdict}"
            for row, seed in enumerate(self.seeds)
        ]


def audition(
    model: PlaygroundModel,
    prompt: str,
    negative: str,
    seeds: Sequence[int],
    steps: int,
    cfg_scale: float,
    config: NoiseOrderConfig,
    enlarge: int = 8,
) -> Candidates:
    """Preview the candidates of every seed that the settings ask for, the critic's evaluation not counted in the cost.

    Raises ValueError for a prompt that is not a caption of the model's world, no seeds, or steps < 1.
    """
    if not seeds:
        raise ValueError("no seeds: give at least one")
    config.check_candidates(config.audition)
    variants = range(config.first_variant, config.first_variant + config.audition)
    rows = [seed for seed in seeds for _ in variants]
    world = model.world
    scenes = [world.parse_caption(prompt)] * len(rows)
    tokens, uncond = world.encode(scenes), world.null_tokens(len(rows))
    if negative.strip():
        uncond = world.encode([world.parse_caption(negative)] * len(rows))
    host = PlaygroundDenoiser(model, rows, tokens, uncond, cfg_scale)
    noise, report = modulate(seed_noise(rows), modulation(config), host, variants=[*variants] * len(seeds))
    plan = guess(steps)
    previews: list[torch.Tensor] = []

    def stop(step: int, total: int, denoised: torch.Tensor) -> None:
        if step + 1 == plan.preview:
            previews.append(denoised)
            raise _Reached

    with contextlib.suppress(_Reached):
        model.sample(noise, tokens, uncond, cfg_scale, plan.sketch or steps, stop)
    (denoised,) = previews
    each = 1 if cfg_scale == 1 else 2
    ours = report.evaluations
    return Candidates(
        tuple(seeds),
        tuple(variants),
        to_uint8(denoised, enlarge),
        world.check(denoised, scenes),
        self_consistency(denoised, host),
        plan,
        len(variants) * (each * plan.preview + ours) / (each * steps + ours),
    )

"""What the model sees in a noise, for the eye alone: nothing of it goes into the image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .denoiser import Denoiser, Level
from .modulate import Modulation


class LevelPreview(NamedTuple):
    """x̂0 of the prompt alone at one level, from the noise before and after; (B, C, ...)."""

    level: Level
    before: Tensor
    after: Tensor


def previews(before: Tensor, after: Tensor, modulation: Modulation, denoiser: Denoiser) -> list[LevelPreview]:
    """One preview for each of the K key levels, also where nothing is injected: 2 K evaluations per image.

    before, after: (B, C, ...). Raises Interrupted, and whatever the model raises.
    """
    keys = modulation.keys
    with denoiser.predicting(2 * len(keys)):
        results = []
        for key in keys:
            level = denoiser.level(key.fraction)
            inputs = [denoiser.noise_scaling(noise, level) for noise in (before, after)]
            denoised = [denoiser.denoise(x, level, False).cond for x in inputs]
            results.append(LevelPreview(level, *denoised))
    return results

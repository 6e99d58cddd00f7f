"""What the model sees in a noise, for the eye alone: nothing of it goes into the image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..config import NoiseOrderConfig
from .host import Host, Level
from .schedule import key_levels


class Preview(NamedTuple):
    """x̂0 of the prompt alone at one level, from the noise before and after; (B, C, ...)."""

    level: Level
    before: Tensor
    after: Tensor


def previews(before: Tensor, after: Tensor, config: NoiseOrderConfig, host: Host) -> list[Preview]:
    """One preview for each of the K key levels, also where nothing is injected: 2 K evaluations per image.

    before, after: (B, C, ...). Raises Interrupted, and whatever the model raises.
    """
    keys = key_levels(config.levels, config.first_level, config.last_level, config.weights)
    with host.predicting(2 * len(keys)):
        results = []
        for key in keys:
            level = host.level(key.fraction)
            denoised = [host.denoise(host.place(noise, level), level, False).cond for noise in (before, after)]
            results.append(Preview(level, *denoised))
    return results

"""The model as its own critic: does it still see in a preview what the preview shows?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .denoiser import Denoiser
from .statistics import accumulate
from .streams import derive_seed

LEVEL = 0.6
"""Where on the schedule the model is asked: chosen on models of one world; what it brings: docs/evidence.md."""
Critic = Callable[[Tensor, Denoiser], Sequence[float]]
"""`critic(x̂0, denoiser)`: a score for each image of the batch, higher is better. x̂0: (B, C, ...), latents."""


def reconsider(denoised: Tensor, denoiser: Denoiser, stage: str) -> Tensor:
    """x̂0', what the prompt alone makes of x̂0 and fresh noise at LEVEL; one evaluation each, in `denoiser.predicting`.

    The noise is keyed by the seed and the stage alone, so that all variants of an image get the same draw.
    """
    noise = denoiser.fresh_noise([derive_seed(seed, 1, stage=stage) for seed in denoiser.seeds])
    level = denoiser.level(LEVEL)
    return denoiser.denoise(denoiser.noise_scaling(noise, level, denoised), level, False).cond


@torch.no_grad()
def self_consistency(denoised: Tensor, denoiser: Denoiser) -> list[float]:
    """`−mean (x̂0' − x̂0)²` per image: x̂0' is what the prompt alone makes of x̂0 and fresh noise; one evaluation each.

    Raises Interrupted, and whatever the model raises.
    """
    with denoiser.predicting(1):
        again = reconsider(denoised, denoiser, "critic")
    return [-value for value in (accumulate(again) - accumulate(denoised)).square().flatten(1).mean(dim=1).tolist()]

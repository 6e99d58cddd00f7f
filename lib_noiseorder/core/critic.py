"""The model as its own critic: does it still see in a preview what the preview shows?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .host import Host
from .statistics import accumulate
from .streams import stream_seed

LEVEL = 0.6
"""Where on the schedule the model is asked: chosen on models of one world; what it brings: docs/evidence.md."""
Critic = Callable[[Tensor, Host], Sequence[float]]
"""`critic(x̂0, host)`: a score for each image of the batch, higher is better. x̂0: (B, C, ...), latents."""


def reconsider(denoised: Tensor, host: Host, stage: str) -> Tensor:
    """x̂0', what the prompt alone makes of x̂0 and fresh noise at LEVEL; one evaluation each, in `host.predicting`.

    The noise is keyed by the seed and the stage alone, so that all variants of an image get the same draw.
    """
    noise = host.fresh_noise([stream_seed(seed, 1, stage=stage) for seed in host.seeds])
    level = host.level(LEVEL)
    return host.denoise(host.place(noise, level, denoised), level, False).cond


@torch.no_grad()
def self_consistency(denoised: Tensor, host: Host) -> list[float]:
    """`−mean (x̂0' − x̂0)²` per image: x̂0' is what the prompt alone makes of x̂0 and fresh noise; one evaluation each.

    Raises Interrupted, and whatever the model raises.
    """
    with host.predicting(1):
        again = reconsider(denoised, host, "critic")
    return [-value for value in (accumulate(again) - accumulate(denoised)).square().flatten(1).mean(dim=1).tolist()]

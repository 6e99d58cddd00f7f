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


@torch.no_grad()
def self_consistency(denoised: Tensor, host: Host) -> list[float]:
    """`−mean (x̂0' − x̂0)²` per image: x̂0' is what the prompt alone makes of x̂0 and fresh noise; one evaluation each.

    The noise is keyed by the seed alone, so that all candidates of an image are judged by the same draw.
    Raises Interrupted, and whatever the model raises.
    """
    noise = host.fresh_noise([stream_seed(seed, 1, stage="critic") for seed in host.seeds])
    with host.predicting(1):
        level = host.level(LEVEL)
        again = host.denoise(host.place(noise, level, denoised), level, False).cond
    return [-value for value in (accumulate(again) - accumulate(denoised)).square().flatten(1).mean(dim=1).tolist()]

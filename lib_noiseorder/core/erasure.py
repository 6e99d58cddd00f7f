"""Semantic erasure: Noise Latent Normalization (NLN), arXiv 2511.07756."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .statistics import accumulate

EDGE = 1 / 16
"""Width of a box's soft edge, in fractions of the image."""


def erase(noise: Tensor, n: float, draw: Callable[[int], Tensor], mask: Tensor | None = None) -> Tensor:
    """`s = (z_1 + Σ_{i=2..⌊n⌋} z_i + √(n−⌊n⌋) z_{⌊n⌋+1}) / √n`: exactly N(0, I), correlation 1/√n with z_1.

    noise: z_1, the seed's own noise, (B, C, ...), any rank and floating dtype; it is not changed.
    n: how many draws are mixed, real, >= 1; n = 1 returns `noise` itself.
    draw: `draw(i)`, i = 2, 3, ..., gives the i-th fresh unit-variance draw of every image, shaped as noise.
    mask: m in [0, 1], broadcastable to noise; a pixel then mixes 1 + m (n − 1) draws and is divided by its
    own root, which keeps it N(0, 1).
    Raises ValueError for n < 1 or not finite, and for a mask outside [0, 1].
    Source: the paper's NLN for integer n; the real n and the mask are its continuous form.
    """
    if not math.isfinite(n) or n < 1:
        raise ValueError(f"n = {n}: erasure mixes a finite number of draws, n >= 1")
    if n == 1:
        return noise
    count = torch.as_tensor(float(n), dtype=accumulate(noise).dtype, device=noise.device)
    if mask is not None:
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise ValueError("mask: every value must be in [0, 1]")
        count = 1 + accumulate(mask).to(count) * (count - 1)
    mixed = accumulate(noise).clone()
    for index in range(2, math.ceil(n) + 1):
        share = (count - (index - 1)).clamp(0, 1)
        mixed += share.sqrt() * draw(index).to(mixed)
    mixed /= count.sqrt()
    return mixed.to(noise.dtype)


def box_mask(box: Sequence[float], like: Tensor) -> Tensor:
    """`m(x, y) = r_x r_y`, each a linear ramp of width EDGE around the box's sides; none at the image's own border.

    box: left, top, right and bottom in fractions of the image; like: a noise, (..., H, W). Returns (H, W), float32.
    """

    def ramp(size: int, low: float, high: float) -> Tensor:
        centres = (torch.arange(size, device=like.device, dtype=torch.float32) + 0.5) / size
        rise = torch.ones_like(centres) if low <= 0 else ((centres - low) / EDGE + 0.5).clamp(0, 1)
        fall = torch.ones_like(centres) if high >= 1 else ((high - centres) / EDGE + 0.5).clamp(0, 1)
        return rise * fall

    left, top, right, bottom = box
    return ramp(like.shape[-2], top, bottom)[:, None] * ramp(like.shape[-1], left, right)

"""Semantic injection: Temporal Prediction Weighting (TPW) and the adjustment, arXiv 2511.07756."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .statistics import accumulate, dot, rms


def to_d(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """The prediction of the method, `(x − x̂0) / σ`: ε̂ of an ε- or v-model (x = x0 + σε), velocity of a flow model."""
    return (accumulate(x) - accumulate(denoised)) / sigma


def aggregate(directions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """TPW, `Σ_k w_k d_k / √(Σ_k w_k²)`; K tensors (B, C, ...) -> (B, C, ...)."""
    scale = math.sqrt(sum(weight * weight for weight in weights))
    total = torch.zeros_like(directions[0])
    for direction, weight in zip(directions, weights, strict=True):
        total += direction * (weight / scale)
    return total


def orthonormal(direction: Tensor, noise: Tensor) -> Tensor:
    """The part of a direction orthogonal to the noise, per image, at unit rms; zero where there is none."""
    direction, noise = accumulate(direction), accumulate(noise)
    rest = direction - noise * (dot(direction, noise) / dot(noise, noise))
    # Once more, as in Gram-Schmidt: the direction is mostly the noise itself, what is left of it needs a second pass.
    rest = rest - noise * (dot(rest, noise) / dot(noise, noise))
    size = rms(rest)
    return torch.where(size > 0, rest / size.clamp_min(torch.finfo(size.dtype).tiny), torch.zeros_like(rest))


def inject(
    noise: Tensor,
    directions: Sequence[Tensor],
    weights: Sequence[float],
    delta: float,
    normalisation: str = "orthonormal",
) -> Tensor:
    """The adjustment `z' = (z + δ d) / √(1 + δ²)` along the aggregate d of the K directions.

    noise: z, (B, C, ...), any rank and floating dtype; it is not changed, δ = 0 returns it itself.
    directions: K tensors shaped as noise; weights: w_k, K numbers, not all zero.
    normalisation: "as printed" takes d = Σ w_k d_k / √(Σ w_k²) as it comes. "orthonormal" first reduces every
    d_k, and then d, to its part orthogonal to z (per image) with the rms of z: z' keeps the rms of z and is
    turned by exactly arctan δ. An image whose directions vanish keeps its noise.
    Raises ValueError for an unknown normalisation, a δ that is not finite, weights all zero, or counts that differ.
    Source: the paper's TPW and adjustment; the orthonormal form makes the independence they assume true.
    """
    if normalisation not in ("orthonormal", "as printed"):
        raise ValueError(f'normalisation = {normalisation!r}: must be "orthonormal" or "as printed"')
    if not math.isfinite(delta):
        raise ValueError(f"delta = {delta}: must be finite")
    if not directions or len(directions) != len(weights) or not any(weights):
        raise ValueError(f"{len(directions)} directions with weights {tuple(weights)}: one weight each, not all zero")
    if delta == 0:
        return noise
    z = accumulate(noise)
    if normalisation == "as printed":
        direction = aggregate([accumulate(d) for d in directions], weights)
        return ((z + delta * direction) / math.sqrt(1 + delta * delta)).to(noise.dtype)
    direction = orthonormal(aggregate([orthonormal(d, z) for d in directions], weights), z)
    result = (z + delta * rms(z) * direction) / math.sqrt(1 + delta * delta)
    return torch.where(rms(direction) > 0, result, z).to(noise.dtype)

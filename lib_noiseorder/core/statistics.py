"""What is measured of a noise, one number per image."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulate(tensor: Tensor) -> Tensor:
    """The tensor in the precision the method computes in: float64 stays, everything else becomes float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per image, `Σ a·b`; (B, ...) -> (B, 1, ..., 1), so that it broadcasts."""
    return (accumulate(a) * accumulate(b)).sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def rms(tensor: Tensor) -> Tensor:
    """Root mean square per image, `√(Σ x² / N)`; (B, ...) -> (B, 1, ..., 1)."""
    return (dot(tensor, tensor) / tensor[0].numel()).sqrt()


def std(tensor: Tensor) -> tuple[float, ...]:
    """Standard deviation of each image's noise; a unit Gaussian has 1."""
    return tuple(accumulate(tensor).flatten(1).std(dim=1, correction=0).tolist())


def cosine(a: Tensor, b: Tensor) -> tuple[float, ...]:
    """Cosine between two noises of each image, `⟨a, b⟩ / (‖a‖ ‖b‖)`; 0 where one of them is zero."""
    norm = (dot(a, a) * dot(b, b)).sqrt()
    return tuple((dot(a, b) / norm.clamp_min(torch.finfo(norm.dtype).tiny)).flatten().tolist())

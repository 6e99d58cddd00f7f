"""What is measured of a noise, one number per image."""

from __future__ import annotations

import math

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


def angle(a: Tensor, b: Tensor) -> tuple[float, ...]:
    """Degrees between two noises of each image, `arccos` of their cosine."""
    return tuple(math.degrees(math.acos(min(max(value, -1), 1))) for value in cosine(a, b))


def mean(tensor: Tensor) -> tuple[float, ...]:
    """Mean of each image's noise; a unit Gaussian has 0."""
    return tuple(accumulate(tensor).flatten(1).mean(dim=1).tolist())


def kurtosis(tensor: Tensor) -> tuple[float, ...]:
    """Excess kurtosis of each image's noise, `m₄ / m₂² − 3`; a Gaussian has 0, and so has a constant here."""
    centred = accumulate(tensor).flatten(1)
    centred = centred - centred.mean(dim=1, keepdim=True)
    square, fourth = centred.square().mean(dim=1), centred.pow(4).mean(dim=1)
    excess = fourth / square.square().clamp_min(torch.finfo(square.dtype).tiny) - 3
    return tuple(torch.where(square > 0, excess, 0).tolist())


def spectrum(tensor: Tensor) -> Tensor:
    """Radial power spectrum `⟨|F|²⟩ / (H W)` of each image; white noise of unit variance has 1 everywhere.

    (B, C, ..., H, W) -> (B, ⌊N/2⌋ + 1), N = min(H, W): the mean over all channels and over the annulus |f| ≈ k/N
    cycles per pixel, k = 0, 1, ..., ⌊N/2⌋; the corners beyond belong to the last.
    """
    height, width = tensor.shape[-2:]
    side = min(height, width)
    power = torch.fft.rfft2(accumulate(tensor)).abs().square().flatten(1, -3).mean(dim=1) / (height * width)
    down = torch.fft.fftfreq(height, dtype=torch.float64)
    across = torch.fft.rfftfreq(width, dtype=torch.float64)
    band = (torch.hypot(down[:, None], across) * side).round().long().clamp(max=side // 2).flatten().to(power.device)
    # The real transform leaves out the mirror images of all columns but the first and, of an even width, the last.
    twice = torch.full_like(power[0], 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    counts = power.new_zeros(side // 2 + 1).index_add_(0, band, twice.flatten())
    return power.new_zeros(len(power), side // 2 + 1).index_add_(1, band, (power * twice).flatten(1)) / counts

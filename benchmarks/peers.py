"""Other training-free ways to change the initial noise, written from their published formulas, for quality.py.

Each takes the seeds' noise z (B, C, ...) and the host of a batch and returns the noise to start from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib_noiseorder.core.erasure import erase
from lib_noiseorder.core.injection import to_d
from lib_noiseorder.core.modulate import apply_cfg
from lib_noiseorder.core.streams import derive_seed
from lib_noiseorder.playground.host import PlaygroundDenoiser

CLIP = 0.5 / 128
"""Noise-level guidance clips at 0.5, of a noise whose norm is 128 (SD1.5, 512 × 512)."""
JITTER = 0.001
NODE = {"epsilon": 0.8, "flow": 0.8 * 0.6}
"""The node's δ by kind of model."""
PREDICTIONS = 5


def norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))


def noise_level_guidance(noise: Tensor, host: PlaygroundDenoiser, iterations: int) -> Tensor:
    """`z ← z − clip(ε_c − ε_u)`, a little fresh noise, scaled to the norm √d, again and again (arXiv 2509.13936).

    At pure noise the ε of a flow model is the noise itself; there it is the difference of its velocities.
    """
    size, level = noise[0].numel() ** 0.5, host.level(1.0)
    for k in range(iterations):
        x = host.noise_scaling(noise, level)
        cond, uncond = host.denoise(x, level, True)
        assert uncond is not None
        step = to_d(x, cond, level.sigma) - to_d(x, uncond, level.sigma)
        step = step * (CLIP * size / norm(step)).clamp(max=1)
        noise = noise - step + JITTER * host.fresh_noise([derive_seed(s, k, stage="nlg") for s in host.seeds])
        noise = noise * (size / norm(noise))
    return noise


def redenoise(noise: Tensor, host: PlaygroundDenoiser, steps: int, scale: float = 5.5) -> Tensor:
    """One step of `steps` down with CFG 5.5 and back up with CFG 1, from which golden noise is learned (2411.09502)."""
    top, below = host.level(1.0), host.level(1 - 1 / steps)
    x = host.noise_scaling(noise, top)
    x = x + (below.sigma - top.sigma) * to_d(x, apply_cfg(host.denoise(x, top, True), scale), top.sigma)
    x = x + (top.sigma - below.sigma) * to_d(x, host.denoise(x, below, False).cond, below.sigma)
    return x / host.noise_scaling(torch.ones(()), top)


def node(noise: Tensor, host: PlaygroundDenoiser, steps: int) -> Tensor:
    """`(z + δ d) / √(1 + δ²)` with eight draws mixed and d the mean of five x̂0 of a whole generation before, both of
    mean 0 and standard deviation 1: as in the SemanticNoiseSampler of ComfyUI-geltz."""
    mixed = erase(noise, 8.0, lambda index: host.fresh_noise([derive_seed(seed, index) for seed in host.seeds]))
    at = torch.linspace(0, steps - 1, min(PREDICTIONS, steps)).round().long().tolist()
    predictions: list[Tensor] = []

    def keep(step: int, total: int, denoised: Tensor) -> None:
        if step in at:
            predictions.append(denoised)

    host.model.sample(mixed, host.tokens, host.uncond_tokens, host.cfg_scale, steps, keep)
    delta = NODE[host.model.kind]
    z, direction = (standard(x) for x in (mixed, torch.stack(predictions).mean(dim=0)))
    return (z + delta * direction) / (1 + delta**2) ** 0.5


def standard(x: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1, per image."""
    flat = x.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)).view_as(x)

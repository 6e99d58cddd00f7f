"""The playground as a host: a small trained model instead of a WebUI's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..core import Denoised, Level
from .models import PlaygroundModel
from .world import CHANNELS, SIZE


def seed_noise(seeds: Sequence[int], size: int = SIZE) -> Tensor:
    """The seeds' own noise, (B, 3, size, size) float32, one CPU generator per image."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(CHANNELS, size, size, generator=generator) for generator in generators])


class PlaygroundDenoiser:
    """One batch: the model, the seeds, the tokens of prompt and negative prompt (B, k)."""

    stage = ""
    latent: Tensor | None = None
    mask: Tensor | None = None

    def __init__(
        self, model: PlaygroundModel, seeds: Sequence[int], tokens: Tensor, uncond_tokens: Tensor, cfg_scale: float
    ) -> None:
        self.model, self.seeds, self.cfg_scale = model, seeds, cfg_scale
        self.tokens, self.uncond_tokens = tokens, uncond_tokens
        self.has_uncond = model.has_uncond
        self.start = model.evaluations

    @property
    def evaluations(self) -> int:
        return (self.model.evaluations - self.start) // len(self.seeds)

    def fresh_noise(self, seeds: Sequence[int]) -> Tensor:
        return seed_noise(seeds)

    @contextmanager
    def predicting(self, total: int) -> Iterator[None]:
        yield

    def level(self, fraction: float) -> Level:
        return Level(fraction, self.model.sigma_at(fraction))

    def noise_scaling(self, noise: Tensor, level: Level, latent: Tensor | None = None) -> Tensor:
        if latent is None:
            return self.model.noise_scaling(noise, level.sigma)
        return (1 - level.sigma if self.model.kind == "flow" else 1) * latent + level.sigma * noise

    def denoise(self, x: Tensor, level: Level, with_uncond: bool) -> Denoised:
        cond = self.model.denoise(x, level.sigma, self.tokens)
        return Denoised(cond, self.model.denoise(x, level.sigma, self.uncond_tokens) if with_uncond else None)

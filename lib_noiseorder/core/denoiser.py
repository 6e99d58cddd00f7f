"""What the method needs of whoever owns the model and the random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from torch import Tensor


class Level(NamedTuple):
    """A level of noise: its position on the model's schedule (1 = pure noise) and its sigma there."""

    fraction: float
    sigma: float


class Denoised(NamedTuple):
    """x̂0 for the prompt and, where it was asked for, for the negative prompt."""

    cond: Tensor
    uncond: Tensor | None


class Interrupted(Exception):
    """The user interrupted or skipped the generation while the model was being asked."""


class Unsupported(Exception):
    """This generation cannot be modulated; the text says why and what to do."""


class Denoiser(Protocol):
    """The loaded model, its prompts and its random numbers, for one batch of images."""

    seeds: Sequence[int]
    cfg_scale: float
    stage: str
    """Names a later pass over the same images ("hires"), empty for the first: its draws are its own."""

    latent: Tensor | None
    """The image that img2img and the hires pass start from, broadcastable to the noise; None without one."""
    mask: Tensor | None
    """1 inside the user's inpainting mask, 0 outside, soft between, broadcastable to the noise; None without one."""

    @property
    def has_uncond(self) -> bool:
        """Whether there is a negative prompt to ask: some hosts do not encode it at CFG 1."""

    @property
    def evaluations(self) -> int:
        """Model evaluations per image since this object was made."""

    def fresh_noise(self, seeds: Sequence[int]) -> Tensor:
        """One draw per seed from the host's noise source, scaled as its noise is; no other generator moves."""

    def predicting(self, total: int) -> AbstractContextManager[None]:
        """A context with the model ready for `total` predictions; on leaving, whatever they disturb is as before."""

    def level(self, fraction: float) -> Level:
        """The level at this position of the part of the model's schedule that will run, 1 = where it begins."""

    def noise_scaling(self, noise: Tensor, level: Level, latent: Tensor | None = None) -> Tensor:
        """The model input x for this noise at this level, by the host's noise scaling, around `latent` or its image."""

    def denoise(self, x: Tensor, level: Level, with_uncond: bool) -> Denoised:
        """x̂0: one evaluation per image for the prompt alone, two with the negative prompt. Raises Interrupted."""

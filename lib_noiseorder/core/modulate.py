"""The pipeline: erase, ask the model, inject, and tell what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..chain import Link
from ..names import DENOISED, EVERYWHERE, GUIDANCE, INSIDE, LOOK_AHEAD, MULTI_STEP, NOISE, ORTHONORMAL, SELF_CORRECTION
from .critic import reconsider
from .denoiser import Denoised, Denoiser, Level, Unsupported
from .erasure import box_mask, erase
from .injection import inject, to_d
from .schedule import KeyLevel, key_levels
from .statistics import angle, cosine, rms, std
from .streams import derive_seed


@dataclass(frozen=True)
class Modulation:
    """The numbers that the method takes; the defaults change nothing.

    erase: n of `erase`, real, >= 1; variant: which family of fresh draws; region: where they go, by the mask.
    inject: δ of `inject`, 0 = none; direction: one of names.GUIDANCE, LOOK_AHEAD, DENOISED, NOISE, SELF_CORRECTION;
    levels, first_level, last_level, weights: of `key_levels`; normalisation: of `inject`.
    """

    erase: float = 1.0
    variant: int = 0
    chain: tuple[Link, ...] = ()
    region: str = EVERYWHERE
    inject: float = 0.0
    direction: str = GUIDANCE
    levels: int = 1
    first_level: float = 0.9
    last_level: float = 0.7
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    normalisation: str = ORTHONORMAL

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self.erase != 1 or self.inject != 0 or bool(self.chain)

    @property
    def keys(self) -> tuple[KeyLevel, ...]:
        return key_levels(self.levels, self.first_level, self.last_level, self.weights)


@dataclass(frozen=True)
class Report:
    """What was done to the noise of one batch; the tuples hold one number per image."""

    applied: bool
    evaluations: int = 0
    levels: tuple[Level, ...] = ()
    std_before: tuple[float, ...] = ()
    std_after: tuple[float, ...] = ()
    cosine: tuple[float, ...] = ()
    """Between the new noise and the seed's own."""
    notes: tuple[str, ...] = ()
    angle: tuple[float, ...] = ()
    """Degrees from the erased noise to the new one; empty where nothing was injected."""

    def __str__(self) -> str:
        if not self.applied:
            return "; ".join(("noise untouched", *self.notes))

        def numbers(values: tuple[float, ...]) -> str:
            return " ".join(f"{value:.3f}" for value in values)

        parts = [
            f"std {numbers(self.std_before)} -> {numbers(self.std_after)}",
            f"cosine to the seed's noise {numbers(self.cosine)}",
            f"{self.evaluations} evaluation{'' if self.evaluations == 1 else 's'} per image",
        ]
        return "; ".join((*parts, *self.notes))


def modulate(
    noise: Tensor,
    modulation: Modulation,
    denoiser: Denoiser,
    watch: Callable[[Tensor], object] = lambda erased: None,
    variants: Sequence[int] = (),
) -> tuple[Tensor, Report]:
    """`z' = inject(erase(z))`: the modulated noise and the report of it.

    noise: the seeds' own unit-variance noise, (B, C, ...); it is not changed. An inactive modulation returns it itself.
    watch: is given the erased noise, which is the noise itself where nothing is erased; only to look at.
    variants: of each image, of its last erasure; without it all have the modulation's.
    Raises Interrupted, Unsupported when a prediction is not finite, and whatever the model raises.
    """
    if not modulation.active:
        return noise, Report(applied=False)

    erased = erase_along(noise, modulation, denoiser, variants)
    watch(erased)
    result = erased
    levels: tuple[Level, ...] = ()
    notes: tuple[str, ...] = ()
    angles: tuple[float, ...] = ()
    if modulation.inject:
        keys = modulation.keys
        direction = modulation.direction
        if direction == GUIDANCE and not denoiser.has_uncond:
            direction = DENOISED
            cfg = f"{denoiser.cfg_scale:g}"
            notes = (f'no negative prompt at CFG {cfg}: direction "{DENOISED}" instead of "{GUIDANCE}"',)
        with denoiser.predicting(len(keys) + (direction == SELF_CORRECTION)):
            levels, directions = directions_at(erased, keys, direction, denoiser)
        if not all(bool(torch.isfinite(direction).all()) for direction in directions):
            raise Unsupported("the model's predictions hold NaN or infinity")
        weights = [key.weight for key in keys] if direction not in MULTI_STEP else [1.0]
        result = inject(erased, directions, weights, modulation.inject, modulation.normalisation)
        notes += note_vanished(directions)
        angles = angle(result, erased)
    return result, Report(
        applied=True,
        evaluations=denoiser.evaluations,
        levels=levels,
        std_before=std(noise),
        std_after=std(result),
        cosine=cosine(result, noise),
        notes=notes,
        angle=angles,
    )


def erase_along(noise: Tensor, modulation: Modulation, denoiser: Denoiser, variants: Sequence[int] = ()) -> Tensor:
    """`z_k = erase(z_{k−1}, n_k, draws of (seed, variant_k, k), m_k)`: the seed's noise through Erase and the chain.

    The correlation with the seed's noise is 1/√Π n_k where no mask is. variants: of each image, in the last erasure.
    m_k is the box of the link, and the region of the image mask, which holds for all. Raises Unsupported for a region
    without a mask.
    """
    seeds = denoiser.seeds
    region: Tensor | None = None
    if modulation.region != EVERYWHERE and (modulation.erase != 1 or modulation.chain):
        if denoiser.mask is None:
            raise Unsupported(f'Region is "{modulation.region}", but there is no mask: set it to "{EVERYWHERE}"')
        region = denoiser.mask if modulation.region == INSIDE else 1 - denoiser.mask

    links = (Link(modulation.erase, modulation.variant), *modulation.chain)
    for k, link in enumerate(links):
        # The first erasure's draws are those of versions without a chain.
        stage = "/".join(part for part in (denoiser.stage, f"link{k}" if k else "") if part)
        own = variants if variants and k == len(links) - 1 else [link.variant] * len(seeds)

        def draw(index: int, own: Sequence[int] = own, stage: str = stage) -> Tensor:
            return denoiser.fresh_noise(
                [derive_seed(seed, index, variant, stage) for seed, variant in zip(seeds, own, strict=True)]
            )

        mask = region
        if link.box is not None:
            box = box_mask(link.box, noise)
            mask = box if region is None else box * region.to(box)
        noise = erase(noise, link.n, draw, mask)
    return noise


def directions_at(
    noise: Tensor, keys: tuple[KeyLevel, ...], direction: str, denoiser: Denoiser
) -> tuple[tuple[Level, ...], list[Tensor]]:
    """The levels asked and the directions found there, `−(x − x̂0)/σ` and its kin: toward x̂0 but for "noise".

    guidance: −(cond − uncond); denoised: −cond; noise: +cond, at each level on the same noise z. look-ahead: the x̂0
    itself, with CFG, at the last level of a walk of Euler steps (DDIM's, in this scaling) that starts from z. Around an
    image x0' the direction is toward what the model would change of it, x̂0 − x0'. self-correction: x̂0' − x̂0, where x̂0
    is that of such a walk with the prompt alone and x̂0' what the model makes of it under fresh noise.
    """
    levels = tuple(denoiser.level(key.fraction) for key in keys)
    if direction in MULTI_STEP:
        with_uncond = direction == LOOK_AHEAD and denoiser.has_uncond
        denoised = sample_euler(noise, levels, denoiser, with_uncond, denoiser.cfg_scale)
        if direction == SELF_CORRECTION:
            return levels, [reconsider(denoised, denoiser, f"{denoiser.stage}/{direction}") - denoised]
        return levels, [denoised if denoiser.latent is None else denoised - denoiser.latent]
    directions = []
    for level in levels:
        x = denoiser.noise_scaling(noise, level)
        cond, uncond = denoiser.denoise(x, level, direction == GUIDANCE)
        if uncond is not None:
            prediction = to_d(x, cond, level.sigma) - to_d(x, uncond, level.sigma)
        elif denoiser.latent is None:
            prediction = to_d(x, cond, level.sigma)
        else:
            # The same for ε and v, where x = x0' + σz; a velocity alone would hold the image itself once more.
            prediction = noise - (cond - denoiser.latent) / level.sigma
        directions.append(prediction if direction == NOISE else -prediction)
    return levels, directions


def sample_euler(noise: Tensor, levels: Sequence[Level], denoiser: Denoiser, with_uncond: bool, scale: float) -> Tensor:
    """The x̂0 at the last of these levels, each reached from the one before by a step of Euler's, from pure noise."""
    x = denoiser.noise_scaling(noise, levels[0])
    for here, there in pairwise(levels):
        velocity = to_d(x, apply_cfg(denoiser.denoise(x, here, with_uncond), scale), here.sigma)
        x = x + (there.sigma - here.sigma) * velocity
    return apply_cfg(denoiser.denoise(x, levels[-1], with_uncond), scale)


def apply_cfg(denoised: Denoised, scale: float) -> Tensor:
    """Classifier-free guidance, `u + g (c − u)`."""
    if denoised.uncond is None:
        return denoised.cond
    return denoised.uncond + scale * (denoised.cond - denoised.uncond)


def note_vanished(directions: list[Tensor]) -> tuple[str, ...]:
    """A note naming the images in which the model saw no direction at all."""
    size = torch.stack([rms(direction).flatten() for direction in directions]).amax(dim=0)
    images = [str(index + 1) for index, value in enumerate(size.tolist()) if value == 0]
    if not images:
        return ()
    return (f"nothing to inject in image {', '.join(images)}: the prompt and the negative prompt predict the same",)

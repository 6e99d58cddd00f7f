"""The pipeline: erase, ask the model, inject, and tell what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..config import (
    AUTO,
    DENOISED,
    EVERYWHERE,
    GUIDANCE,
    INSIDE,
    LOOK_AHEAD,
    NOISE,
    SELF_CORRECTION,
    WALKS,
    NoiseOrderConfig,
)
from .critic import reconsider
from .erasure import erase
from .host import Denoised, Host, Level, Unsupported
from .injection import inject, predict
from .schedule import KeyLevel, key_levels
from .statistics import angle, cosine, rms, std
from .streams import stream_seed


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
    config: NoiseOrderConfig,
    host: Host,
    watch: Callable[[Tensor], object] = lambda erased: None,
    variants: Sequence[int] = (),
) -> tuple[Tensor, Report]:
    """`z' = inject(erase(z))`: the modulated noise and the report of it.

    noise: the seeds' own unit-variance noise, (B, C, ...); it is not changed. An inactive config returns it itself.
    watch: is given the erased noise, which is the noise itself where nothing is erased; only to look at.
    variants: of each image; without it all have the config's.
    Raises Interrupted, Unsupported when a prediction is not finite, and whatever the model raises.
    """
    if not config.active:
        return noise, Report(applied=False)

    own = list(zip(host.seeds, variants or [config.variant] * len(host.seeds), strict=True))

    def draw(index: int) -> Tensor:
        return host.fresh_noise([stream_seed(seed, index, variant, host.stage) for seed, variant in own])

    mask = None
    if config.region != EVERYWHERE and config.erase != 1:
        if host.mask is None:
            raise Unsupported(f'Region is "{config.region}", but there is no mask: set it to "{EVERYWHERE}"')
        mask = host.mask if config.region == INSIDE else 1 - host.mask
    erased = erase(noise, config.erase, draw, mask)
    watch(erased)
    result = erased
    levels: tuple[Level, ...] = ()
    notes: tuple[str, ...] = ()
    angles: tuple[float, ...] = ()
    if config.inject:
        keys = key_levels(config.levels, config.first_level, config.last_level, config.weights)
        # Auto is settled by who knows the model; where nobody does, it is the default.
        direction = GUIDANCE if config.direction == AUTO else config.direction
        if direction == GUIDANCE and not host.has_uncond:
            direction = DENOISED
            notes = (f'no negative prompt at CFG {host.cfg_scale:g}: direction "{DENOISED}" instead of "{GUIDANCE}"',)
        with host.predicting(len(keys) + (direction == SELF_CORRECTION)):
            levels, directions = ask(erased, keys, direction, host)
        if not all(bool(torch.isfinite(direction).all()) for direction in directions):
            raise Unsupported("the model's predictions hold NaN or infinity")
        weights = [key.weight for key in keys] if direction not in WALKS else [1.0]
        result = inject(erased, directions, weights, config.inject, config.normalisation)
        notes += note_vanished(directions)
        angles = angle(result, erased)
    return result, Report(
        applied=True,
        evaluations=host.evaluations,
        levels=levels,
        std_before=std(noise),
        std_after=std(result),
        cosine=cosine(result, noise),
        notes=notes,
        angle=angles,
    )


def ask(
    noise: Tensor, keys: tuple[KeyLevel, ...], direction: str, host: Host
) -> tuple[tuple[Level, ...], list[Tensor]]:
    """The levels asked and the directions found there, `−(x − x̂0)/σ` and its kin: toward x̂0 but for "noise".

    guidance: −(cond − uncond); denoised: −cond; noise: +cond, at each level on the same noise z. look-ahead: the x̂0
    itself, with CFG, at the last level of a walk of Euler steps (DDIM's, in this scaling) that starts from z. Around an
    image x0' the direction is toward what the model would change of it, x̂0 − x0'. self-correction: x̂0' − x̂0, where x̂0
    is that of such a walk with the prompt alone and x̂0' what the model makes of it under fresh noise.
    """
    levels = tuple(host.level(key.fraction) for key in keys)
    if direction in WALKS:
        with_uncond = direction == LOOK_AHEAD and host.has_uncond
        denoised = walk(noise, levels, host, with_uncond, host.cfg_scale)
        if direction == SELF_CORRECTION:
            return levels, [reconsider(denoised, host, f"{host.stage}/{direction}") - denoised]
        return levels, [denoised if host.latent is None else denoised - host.latent]
    directions = []
    for level in levels:
        x = host.place(noise, level)
        cond, uncond = host.denoise(x, level, direction == GUIDANCE)
        if uncond is not None:
            prediction = predict(x, cond, level.sigma) - predict(x, uncond, level.sigma)
        elif host.latent is None:
            prediction = predict(x, cond, level.sigma)
        else:
            # The same for ε and v, where x = x0' + σz; a velocity alone would hold the image itself once more.
            prediction = noise - (cond - host.latent) / level.sigma
        directions.append(prediction if direction == NOISE else -prediction)
    return levels, directions


def walk(noise: Tensor, levels: Sequence[Level], host: Host, with_uncond: bool, scale: float) -> Tensor:
    """The x̂0 at the last of these levels, each reached from the one before by a step of Euler's, from pure noise."""
    x = host.place(noise, levels[0])
    for here, there in pairwise(levels):
        velocity = predict(x, guide(host.denoise(x, here, with_uncond), scale), here.sigma)
        x = x + (there.sigma - here.sigma) * velocity
    return guide(host.denoise(x, levels[-1], with_uncond), scale)


def guide(denoised: Denoised, scale: float) -> Tensor:
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

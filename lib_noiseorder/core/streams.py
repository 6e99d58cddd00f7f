"""Seeds of the fresh draws: one independent stream per image and draw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def derive_seed(seed: int, draw: int, variant: int = 0, stage: str = "") -> int:
    """63-bit key `BLAKE2b("noiseorder", variant, seed, draw, stage)` of draw i >= 2 of the image with this seed.

    Neighbouring seeds get unrelated keys, so the images s, s+1, ... of a batch share no draw. stage names a later
    pass over the same image, whose draws are its own. Seeds that are the same number, 5 and 5.0, are the same seed.
    """
    text = f"noiseorder/{variant}/{int(seed)}/{draw}" + (f"/{stage}" if stage else "")
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def cpu_draws(shape: Sequence[int], seeds: Sequence[int], variant: int = 0) -> Callable[[int], Tensor]:
    """Draw i of every image, z_i ~ N(0, I), from torch's CPU generator.

    shape: of one image, without the batch dimension; the result of `draw(i)` is (len(seeds), *shape), float32.
    """

    def draw(index: int) -> Tensor:
        generators = [torch.Generator().manual_seed(derive_seed(seed, index, variant)) for seed in seeds]
        return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])

    return draw


Generators = list[tuple[Callable[[Any], object], Any]]
"""Each kind of device's global generators: what sets their states, and the states."""


def global_generators() -> Generators:
    """The states of torch's global generators, of the CPU and of every accelerator that is there."""
    generators: Generators = [(torch.set_rng_state, torch.get_rng_state())]
    if torch.cuda.is_available():
        generators.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        generators.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    xpu = getattr(torch, "xpu", None)  # Intel Arc; not in every build of torch 2.0
    if xpu is not None and xpu.is_available():
        generators.append((xpu.set_rng_state_all, xpu.get_rng_state_all()))
    return generators


def set_global_generators(generators: Generators) -> None:
    for set_state, state in generators:
        set_state(state)


@contextmanager
def keep_generators() -> Iterator[None]:
    """Whatever is drawn from torch's global generators inside, nobody misses afterwards."""
    before = global_generators()
    try:
        yield
    finally:
        set_global_generators(before)

"""How often the playground's checkers take a spoiled picture for right, and a right one for spoiled.

    python benchmarks/checker.py [--count 4096]

Scenes of each world are drawn, spoiled in one way at a time, and checked. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib_noiseorder.playground import clutter, scenes
from lib_noiseorder.playground.sprites import COLOURS, PALETTE
from lib_noiseorder.playground.world import World

WORLDS: dict[str, World] = {"sprites": scenes, "clutter": clutter}


def first_object(images: Tensor, samples: list) -> tuple[Tensor, Tensor]:
    """The pixels of each scene's first object (n, 1, 16, 16), and the index of its colour (n,)."""
    colour = torch.tensor([list(COLOURS).index(scene.words[0]) for scene in samples])
    return (images - PALETTE[colour][..., None, None]).abs().amax(1, keepdim=True) < 1e-3, colour


def lose(pixels: int) -> Callable[[Tensor, list, torch.Generator], Tensor]:
    """Turn some pixels of the first object grey."""

    def spoil(images: Tensor, samples: list, generator: torch.Generator) -> Tensor:
        where, _ = first_object(images, samples)
        order = (torch.rand(where.shape, generator=generator) + 2.0 * ~where).flatten(1).argsort(1).argsort(1)
        return torch.where(where & (order < pixels).view_as(where), 0.0, images)

    return spoil


def noisy(rms: float) -> Callable[[Tensor, list, torch.Generator], Tensor]:
    return lambda images, samples, generator: images + rms * torch.randn(images.shape, generator=generator)


def recolour(images: Tensor, samples: list, generator: torch.Generator) -> Tensor:
    """Give the first object a colour that nothing else has."""
    where, _ = first_object(images, samples)
    free = [next(k for k, name in enumerate(COLOURS) if name not in scene.words) for scene in samples]
    return torch.where(where, PALETTE[free][..., None, None], images)


def double(images: Tensor, samples: list, generator: torch.Generator) -> Tensor:
    """Draw the first object once more, where its mirror image is."""
    where, colour = first_object(images, samples)
    return torch.where(where.flip(3), PALETTE[colour][..., None, None], images)


WAYS: dict[str, tuple[bool, Callable[[Tensor, list, torch.Generator], Tensor]]] = {
    "as drawn": (True, noisy(0)),
    "noise, rms 0.1": (True, noisy(0.1)),
    "noise, rms 0.2": (True, noisy(0.2)),
    "2 pixels of an object lost": (True, lose(2)),
    "4 pixels lost": (True, lose(4)),
    "5 pixels lost": (False, lose(5)),
    "object lost": (False, lose(25)),
    "object of another colour": (False, recolour),
    "object mirrored into the picture once more": (False, double),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=900_000)
    args = parser.parse_args()
    print(
        f"N = {args.count} per cell\n\n| picture | should be | {' | '.join(WORLDS)} |\n|---|---|{'---|' * len(WORLDS)}"
    )
    for name, (right, spoil) in WAYS.items():
        cells = []
        for world in WORLDS.values():
            generator = torch.Generator().manual_seed(args.seed)
            samples = world.random_scenes(args.count, generator)
            spoiled = spoil(world.render(samples, generator), samples, generator)
            cells.append(f"{sum(result.both for result in world.check(spoiled, samples)) / args.count:.4f}")
        print(f"| {name} | {'right' if right else 'wrong'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

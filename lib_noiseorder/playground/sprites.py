"""Coloured 5x5 sprites: stamping them on a canvas, and finding them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .world import CONTRAST, SIZE

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
}
COLOUR_NAMES = tuple(COLOURS)
PALETTE = CONTRAST * torch.tensor(list(COLOURS.values()), dtype=torch.float32)
SPRITE_SIZE = 5
LAST = SIZE - SPRITE_SIZE
# Sprites stand on even pixels: small networks learn them from far fewer images than at every pixel.
GRID = 2
_MIN_AREA = 5
_MAX_WRONG_PIXELS = 4


def masks_of(sprites: Mapping[str, Sequence[str]]) -> torch.Tensor:
    """The sprites as drawn in text, (n, 5, 5) bool."""
    return torch.tensor([[[cell == "#" for cell in row] for row in rows] for rows in sprites.values()])


def stamp(
    canvas: torch.Tensor, left: torch.Tensor, top: torch.Tensor, colour: torch.Tensor, mask: torch.Tensor
) -> None:
    """Draw one sprite per image on the canvas (n, 16, 16, 3): its mask (n, 5, 5) in its colour's index (n,)."""
    cells = torch.arange(SPRITE_SIZE)
    window = (
        torch.arange(len(canvas))[:, None, None],
        top[:, None, None] + cells[:, None],
        left[:, None, None] + cells,
    )
    canvas[window] = torch.where(mask[..., None], PALETTE[colour][:, None, None], canvas[window])


@dataclass(frozen=True)
class Detections:
    """Per image and colour: pixel count, centre (x, y); per sprite: wrong pixels, overlap over union."""

    sprites: tuple[str, ...]
    area: torch.Tensor
    centre: torch.Tensor
    wrong: torch.Tensor
    ratio: torch.Tensor

    def present(self, index: int) -> list[str]:
        """The colours that cover more than stray pixels of image `index`."""
        return [name for name, area in zip(COLOUR_NAMES, self.area[index], strict=True) if area >= _MIN_AREA]

    def sprite(self, index: int, colour: str) -> str | None:
        """The sprite of this colour, None if it is like no sprite."""
        wrong, sprite = self.wrong[index, COLOUR_NAMES.index(colour)].min(0)
        return self.sprites[int(sprite)] if wrong <= _MAX_WRONG_PIXELS else None

    def overlap(self, index: int, colour: str, sprite: str) -> float:
        """How much of this sprite in this colour is there, 0 to 1."""
        return float(self.ratio[index, COLOUR_NAMES.index(colour), self.sprites.index(sprite)])

    def offset(self, index: int, colour: str, other: str) -> tuple[float, float]:
        """From the second colour's centre to the first's, in pixels (x, y)."""
        first, second = self.centre[index, [COLOUR_NAMES.index(colour), COLOUR_NAMES.index(other)]]
        x, y = (first - second).tolist()
        return x, y


def colour_masks(images: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
    """Which pixels are nearer to a colour than to the others and the ground, (n, 4, 16, 16) of 0 and 1.

    images, ground: (n, 3, 16, 16) in [-1, 1].
    """
    palette = (PALETTE / CONTRAST)[None, :, :, None, None]
    candidates = torch.cat([palette.expand(len(images), -1, -1, SIZE, SIZE), ground[:, None]], 1)
    nearest = (images[:, None] - candidates).square().sum(2).argmin(1)
    return (nearest[:, None] == torch.arange(len(COLOURS))[None, :, None, None]).float()


def find(masks: torch.Tensor, names: tuple[str, ...], sprites: torch.Tensor) -> Detections:
    """Look for the sprites (m, 5, 5) in each colour's mask (n, 4, 16, 16)."""
    # A sprite's best place is where it covers most of its colour. What lies outside it counts as wrong too: a
    # second blob of the same colour spoils the match, and no connected components are needed.
    shape = (len(masks), len(COLOURS), len(names))
    best, place = F.conv2d(masks.reshape(-1, 1, SIZE, SIZE), sprites[:, None].float()).flatten(2).max(-1)
    best, place, area = best.view(shape), place.view(shape), masks.sum((2, 3))
    union = area[..., None] + sprites.sum((1, 2)) - best
    wrong, sprite = (union - best).min(-1, keepdim=True)
    spot = place.gather(2, sprite)
    span = LAST + 1
    matched = torch.cat([spot % span, spot // span], -1) + (SPRITE_SIZE - 1) / 2
    axis = torch.arange(SIZE, dtype=torch.float32)
    mass = torch.stack([(masks.sum(2) * axis).sum(-1), (masks.sum(3) * axis).sum(-1)], -1)
    centre = torch.where(wrong <= _MAX_WRONG_PIXELS, matched, mass / area.clamp(min=1)[..., None])
    return Detections(names, area, centre, union - best, best / union)

"""The playground's world: captioned 16x16 scenes of two coloured sprites, and a checker that reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

SIZE = 16
CHANNELS = 3
TOKENS = 5
CONTRAST = 1.5
"""Images span about [-CONTRAST, CONTRAST], so that their spread is near that of the unit-variance noise."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
}
SPRITES: dict[str, tuple[str, ...]] = {
    "square": ("#####", "#####", "#####", "#####", "#####"),
    "cross": ("..#..", "..#..", "#####", "..#..", "..#.."),
    "ring": ("#####", "#...#", "#...#", "#...#", "#####"),
}
RELATIONS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
"""Relation -> direction (x right, y down) from the second object to the first."""

VOCABULARY = ("", *COLOURS, *SPRITES, *RELATIONS)
NULL_TOKEN = 0

_COLOUR_NAMES, _SPRITE_NAMES, _RELATION_NAMES = tuple(COLOURS), tuple(SPRITES), tuple(RELATIONS)
_PALETTE = CONTRAST * torch.tensor(list(COLOURS.values()), dtype=torch.float32)
_MASKS = torch.tensor([[[cell == "#" for cell in row] for row in rows] for rows in SPRITES.values()])
_SPRITE_SIZE = _MASKS.shape[-1]
_LAST = SIZE - _SPRITE_SIZE
_DIRECTIONS = torch.tensor(list(RELATIONS.values()), dtype=torch.float32)
_COLOUR, _SPRITE = ("colour", _COLOUR_NAMES), ("sprite", _SPRITE_NAMES)
_RELATION = ("relation", _RELATION_NAMES)
_SLOTS = (_COLOUR, _SPRITE, _RELATION, _COLOUR, _SPRITE)
_FILLERS = frozenset({"a", "an", "the", "is", "to"})
_GREY = 0.5
# Sprites stand on even pixels: small networks learn them from far fewer images than at every pixel.
_GRID = 2
_GAPS = (3, 4)
_MAX_DRIFT = 1
_MIN_AREA = 5
_MAX_WRONG_PIXELS = 4
_EXTRA_PENALTY = 0.15


@dataclass(frozen=True)
class Scene:
    """Two sprites of different colours, the first one placed `relation` the second."""

    colour: str
    sprite: str
    relation: str
    other_colour: str
    other_sprite: str

    def __post_init__(self) -> None:
        for word, (kind, names) in zip(self.words, _SLOTS, strict=True):
            if word not in names:
                raise ValueError(f"{word!r} is not a {kind}; allowed: {', '.join(names)}")
        if self.colour == self.other_colour:
            raise ValueError(f"both objects are {self.colour!r}; the two colours must differ")

    @property
    def words(self) -> tuple[str, str, str, str, str]:
        """The five words in the order of the caption and of the tokens."""
        return self.colour, self.sprite, self.relation, self.other_colour, self.other_sprite


@dataclass(frozen=True)
class CheckResult:
    """What the checker found in one image, against the scene it was asked for."""

    objects: bool
    relation: bool
    score: float
    words: str

    @property
    def both(self) -> bool:
        """Objects and relation are right."""
        return self.objects and self.relation


def random_scenes(count: int, generator: torch.Generator) -> list[Scene]:
    """Draw `count` scenes uniformly from all valid ones."""

    def draw(high: int) -> list[int]:
        return torch.randint(high, (count,), generator=generator).tolist()

    colours, steps = draw(len(COLOURS)), draw(len(COLOURS) - 1)
    picks = zip(colours, steps, draw(len(SPRITES)), draw(len(RELATIONS)), draw(len(SPRITES)), strict=True)
    return [
        Scene(
            _COLOUR_NAMES[colour],
            _SPRITE_NAMES[sprite],
            _RELATION_NAMES[relation],
            _COLOUR_NAMES[(colour + 1 + step) % len(COLOURS)],
            _SPRITE_NAMES[other],
        )
        for colour, step, sprite, relation, other in picks
    ]


def caption(scene: Scene) -> str:
    """The scene in words, e.g. "a red cross left of a blue ring"."""
    return f"a {scene.colour} {scene.sprite} {scene.relation} a {scene.other_colour} {scene.other_sprite}"


def parse_caption(text: str) -> Scene:
    """Read a caption; raise ValueError naming the word that was not understood and what is allowed there."""
    words = [word for word in re.findall(r"[^\s.,;]+", text.lower()) if word not in _FILLERS]
    found: list[str] = []
    for kind, names in _SLOTS:
        allowed = f"allowed: {', '.join(names)}"
        if not words:
            raise ValueError(f"the caption ends where a {kind} is expected; {allowed}")
        name = next((name for name in names if name.split() == words[: name.count(" ") + 1]), None)
        if name is None:
            raise ValueError(f"{words[0]!r} is not a {kind}; {allowed}")
        found.append(name)
        del words[: name.count(" ") + 1]
    if words:
        raise ValueError(f"{words[0]!r} is one word too many; allowed: nothing after the second {_SPRITE[0]}")
    return Scene(*found)


def encode(scenes: Sequence[Scene]) -> torch.Tensor:
    """Tokens of the scenes, (n, 5) int64; 0 is the null token."""
    tokens = [[VOCABULARY.index(word) for word in scene.words] for scene in scenes]
    return torch.tensor(tokens, dtype=torch.int64).view(-1, TOKENS)


def null_tokens(count: int) -> torch.Tensor:
    """Tokens of the empty caption, (count, 5) int64."""
    return torch.full((count, TOKENS), NULL_TOKEN)


def render(scenes: Sequence[Scene], generator: torch.Generator) -> torch.Tensor:
    """Draw each scene at a random place on a random grey, (n, 3, 16, 16) float32 in [-1.5, 1.5]."""
    count = len(scenes)

    def draw(low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high + 1, (count,), generator=generator)

    colour, sprite, relation, other_colour, other_sprite = (
        torch.tensor([names.index(scene.words[slot]) for scene in scenes], dtype=torch.int64)
        for slot, (_, names) in enumerate(_SLOTS)
    )
    last = _LAST // _GRID
    gap = draw(*_GAPS)
    near = (torch.rand(count, generator=generator) * (last - gap + 1)).long()
    side = draw(0, last)
    other_side = (side + draw(-_MAX_DRIFT, _MAX_DRIFT)).clamp(0, last)
    horizontal = _DIRECTIONS[relation, 0] != 0
    ahead = _DIRECTIONS[relation].sum(1) > 0
    along, other_along = near + gap * ahead, near + gap * ~ahead
    grey = CONTRAST * _GREY * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    canvas = grey.expand(count, SIZE, SIZE, CHANNELS).clone()
    for a, b, tint, shape in (
        (along, side, colour, sprite),
        (other_along, other_side, other_colour, other_sprite),
    ):
        left, top = torch.where(horizontal, a, b), torch.where(horizontal, b, a)
        _stamp(canvas, _GRID * left, _GRID * top, tint, shape)
    return canvas.permute(0, 3, 1, 2).contiguous()


def _stamp(
    canvas: torch.Tensor, left: torch.Tensor, top: torch.Tensor, colour: torch.Tensor, sprite: torch.Tensor
) -> None:
    cells = torch.arange(_SPRITE_SIZE)
    window = (
        torch.arange(len(canvas))[:, None, None],
        top[:, None, None] + cells[:, None],
        left[:, None, None] + cells,
    )
    canvas[window] = torch.where(_MASKS[sprite][..., None], _PALETTE[colour][:, None, None], canvas[window])


def to_uint8(images: torch.Tensor, factor: int = 1) -> np.ndarray:
    """Images (n, 3, h, w) as uint8 RGB (n, h * factor, w * factor, 3), enlarged by nearest neighbour."""
    scaled = ((images.detach().float().cpu() / CONTRAST).clamp(-1, 1) + 1) * 127.5
    pixels = scaled.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def check(images: torch.Tensor, scenes: Sequence[Scene]) -> list[CheckResult]:
    """Read each image (n, 3, 16, 16) back and compare it with its scene; ValueError if the counts differ."""
    if len(images) != len(scenes):
        raise ValueError(f"{len(images)} images for {len(scenes)} scenes; allowed: one scene per image")
    if not scenes:
        return []
    found = _match(_colour_masks(images.detach().float().cpu()))
    return [_judge(found, index, scene) for index, scene in enumerate(scenes)]


@dataclass(frozen=True)
class _Found:
    """Per image and colour: pixel count, centre (x, y); per sprite: wrong pixels, overlap over union."""

    area: torch.Tensor
    centre: torch.Tensor
    wrong: torch.Tensor
    ratio: torch.Tensor

    def present(self, index: int) -> list[str]:
        """The colours that cover more than stray pixels of image `index`."""
        return [name for name, area in zip(_COLOUR_NAMES, self.area[index], strict=True) if area >= _MIN_AREA]

    def sprite(self, index: int, colour: str) -> str | None:
        """The sprite of this colour, None if it is like no sprite."""
        wrong, sprite = self.wrong[index, _COLOUR_NAMES.index(colour)].min(0)
        return _SPRITE_NAMES[int(sprite)] if wrong <= _MAX_WRONG_PIXELS else None

    def overlap(self, index: int, colour: str, sprite: str) -> float:
        """How much of this sprite in this colour is there, 0 to 1."""
        return float(self.ratio[index, _COLOUR_NAMES.index(colour), _SPRITE_NAMES.index(sprite)])

    def offset(self, index: int, colour: str, other: str) -> tuple[float, float]:
        """From the second colour's centre to the first's, in pixels (x, y)."""
        first, second = self.centre[index, [_COLOUR_NAMES.index(colour), _COLOUR_NAMES.index(other)]]
        x, y = (first - second).tolist()
        return x, y


def _colour_masks(images: torch.Tensor) -> torch.Tensor:
    """Which pixels are nearest to each colour, (n, 4, 16, 16) of 0 and 1; the median is the background."""
    pixels = (images.nan_to_num() / CONTRAST).clamp(-1, 1).flatten(2).transpose(1, 2)
    background = pixels.median(dim=1, keepdim=True).values
    palette = (_PALETTE / CONTRAST).expand(len(images), -1, -1)
    distance = (pixels[:, :, None] - torch.cat([palette, background], dim=1)[:, None]).square().sum(-1)
    masks = distance.argmin(-1)[:, None] == torch.arange(len(COLOURS))[None, :, None]
    return masks.unflatten(2, (SIZE, SIZE)).float()


def _match(masks: torch.Tensor) -> _Found:
    # A sprite's best place is where it covers most of its colour. What lies outside it counts as wrong too: a
    # second blob of the same colour spoils the match, and no connected components are needed.
    shape = (len(masks), len(COLOURS), len(SPRITES))
    best, place = F.conv2d(masks.view(-1, 1, SIZE, SIZE), _MASKS[:, None].float()).flatten(2).max(-1)
    best, place, area = best.view(shape), place.view(shape), masks.sum((2, 3))
    union = area[..., None] + _MASKS.sum((1, 2)) - best
    wrong, sprite = (union - best).min(-1, keepdim=True)
    spot = place.gather(2, sprite)
    span = _LAST + 1
    matched = torch.cat([spot % span, spot // span], -1) + (_SPRITE_SIZE - 1) / 2
    axis = torch.arange(SIZE, dtype=torch.float32)
    mass = torch.stack([(masks.sum(2) * axis).sum(-1), (masks.sum(3) * axis).sum(-1)], -1)
    centre = torch.where(wrong <= _MAX_WRONG_PIXELS, matched, mass / area.clamp(min=1)[..., None])
    return _Found(area, centre, union - best, best / union)


def _judge(found: _Found, index: int, scene: Scene) -> CheckResult:
    asked = {scene.colour: scene.sprite, scene.other_colour: scene.other_sprite}
    present = found.present(index)
    # In the caption's order as far as it goes, so that the relation reads the same way round.
    present.sort(key=lambda colour: list(asked).index(colour) if colour in asked else len(asked))
    sprites = {colour: found.sprite(index, colour) for colour in present}
    offset = found.offset(index, present[0], present[1]) if len(present) >= 2 else None
    relation = _relation_found(offset) if offset else None
    named = offset is not None and set(present[:2]) == set(asked)
    closeness = _closeness(offset, scene.relation) if offset and named else 0.0
    overlaps = [found.overlap(index, colour, sprite) for colour, sprite in asked.items()]
    extra = len(set(present) - set(asked))
    things = ", ".join(f"{colour} {sprite or 'blob'}" for colour, sprite in sprites.items()) or "nothing"
    return CheckResult(
        objects=sprites == asked,
        relation=named and relation == scene.relation,
        score=max(0.0, (sum(overlaps) + closeness) / 3 - _EXTRA_PENALTY * extra),
        words=f"{things}; {relation}" if relation else things,
    )


def _closeness(offset: tuple[float, float], relation: str) -> float:
    """1 inside the quadrant of the relation, down to 0 at a right angle to it and beyond."""
    length = math.hypot(*offset)
    cosine = sum(a * b for a, b in zip(offset, RELATIONS[relation], strict=True)) / length if length else 0.0
    return min(1.0, max(0.0, math.sqrt(2) * cosine))


def _relation_found(offset: tuple[float, float]) -> str:
    x, y = offset
    if abs(x) == abs(y):
        return "diagonal" if x else "on top of"
    if abs(x) > abs(y):
        return "left of" if x < 0 else "right of"
    return "above" if y < 0 else "below"

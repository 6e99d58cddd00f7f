"""The playground's world: captioned 16x16 scenes of two coloured sprites, and a checker that reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .sprites import COLOUR_NAMES, COLOURS, GRID, LAST, Detections, colour_masks, find, masks_of, stamp
from .world import CHANNELS, CONTRAST, NULL_TOKEN, SIZE, CheckResult
from .world import to_uint8 as to_uint8

TOKENS = 5
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
EXAMPLES: tuple[str, ...] = (
    "a red cross left of a blue ring",
    "a yellow square above a green cross",
    "a blue ring right of a red square",
    "a green ring below a yellow cross",
)
ABOUT = (
    "**a** *colour* *sprite* *relation* **a** *colour* *sprite*, with red, green, blue, yellow · square, cross, ring · "
    "left of, right of, above, below."
)
RELATION = "relation"

_SPRITE_NAMES, _RELATION_NAMES = tuple(SPRITES), tuple(RELATIONS)
_MASKS = masks_of(SPRITES)
_DIRECTIONS = torch.tensor(list(RELATIONS.values()), dtype=torch.float32)
_COLOUR, _SPRITE = ("colour", COLOUR_NAMES), ("sprite", _SPRITE_NAMES)
_RELATION = ("relation", _RELATION_NAMES)
_SLOTS = (_COLOUR, _SPRITE, _RELATION, _COLOUR, _SPRITE)
_FILLERS = frozenset({"a", "an", "the", "is", "to"})
_GREY = 0.5
_GAPS = (3, 4)
_MAX_DRIFT = 1
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


def random_scenes(count: int, generator: torch.Generator) -> list[Scene]:
    """Draw `count` scenes uniformly from all valid ones."""

    def draw(high: int) -> list[int]:
        return torch.randint(high, (count,), generator=generator).tolist()

    colours, steps = draw(len(COLOURS)), draw(len(COLOURS) - 1)
    picks = zip(colours, steps, draw(len(SPRITES)), draw(len(RELATIONS)), draw(len(SPRITES)), strict=True)
    return [
        Scene(
            COLOUR_NAMES[colour],
            _SPRITE_NAMES[sprite],
            _RELATION_NAMES[relation],
            COLOUR_NAMES[(colour + 1 + step) % len(COLOURS)],
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
    slots: list[str] = []
    for kind, names in _SLOTS:
        allowed = f"allowed: {', '.join(names)}"
        if not words:
            raise ValueError(f"the caption ends where a {kind} is expected; {allowed}")
        name = next((name for name in names if name.split() == words[: name.count(" ") + 1]), None)
        if name is None:
            raise ValueError(f"{words[0]!r} is not a {kind}; {allowed}")
        slots.append(name)
        del words[: name.count(" ") + 1]
    if words:
        raise ValueError(f"{words[0]!r} is one word too many; allowed: nothing after the second {_SPRITE[0]}")
    return Scene(*slots)


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
    last = LAST // GRID
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
        stamp(canvas, GRID * left, GRID * top, tint, _MASKS[shape])
    return canvas.permute(0, 3, 1, 2).contiguous()


def check(images: torch.Tensor, scenes: Sequence[Scene]) -> list[CheckResult]:
    """Read each image (n, 3, 16, 16) back and compare it with its scene; ValueError if the counts differ."""
    if len(images) != len(scenes):
        raise ValueError(f"{len(images)} images for {len(scenes)} scenes; allowed: one scene per image")
    if not scenes:
        return []
    pixels = (images.detach().float().cpu().nan_to_num() / CONTRAST).clamp(-1, 1)
    # The median is the ground: the two sprites never cover half of the image.
    ground = pixels.flatten(2).median(dim=2).values[..., None, None].expand_as(pixels)
    detections = find(colour_masks(pixels, ground), _SPRITE_NAMES, _MASKS)
    return [_judge(detections, index, scene) for index, scene in enumerate(scenes)]


def _judge(detections: Detections, index: int, scene: Scene) -> CheckResult:
    expected = {scene.colour: scene.sprite, scene.other_colour: scene.other_sprite}
    present = detections.present(index)
    # In the caption's order as far as it goes, so that the relation reads the same way round.
    present.sort(key=lambda colour: list(expected).index(colour) if colour in expected else len(expected))
    sprites = {colour: detections.sprite(index, colour) for colour in present}
    offset = detections.offset(index, present[0], present[1]) if len(present) >= 2 else None
    relation = _name_relation(offset) if offset else None
    named = offset is not None and set(present[:2]) == set(expected)
    closeness = _closeness(offset, scene.relation) if offset and named else 0.0
    overlaps = [detections.overlap(index, colour, sprite) for colour, sprite in expected.items()]
    extra = len(set(present) - set(expected))
    things = ", ".join(f"{colour} {sprite or 'blob'}" for colour, sprite in sprites.items()) or "nothing"
    return CheckResult(
        objects=sprites == expected,
        relation=named and relation == scene.relation,
        score=max(0.0, (sum(overlaps) + closeness) / 3 - _EXTRA_PENALTY * extra),
        words=f"{things}; {relation}" if relation else things,
    )


def _closeness(offset: tuple[float, float], relation: str) -> float:
    """1 inside the quadrant of the relation, down to 0 at a right angle to it and beyond."""
    length = math.hypot(*offset)
    cosine = sum(a * b for a, b in zip(offset, RELATIONS[relation], strict=True)) / length if length else 0.0
    return min(1.0, max(0.0, math.sqrt(2) * cosine))


def _name_relation(offset: tuple[float, float]) -> str:
    x, y = offset
    if abs(x) == abs(y):
        return "diagonal" if x else "on top of"
    if abs(x) > abs(y):
        return "left of" if x < 0 else "right of"
    return "above" if y < 0 else "below"

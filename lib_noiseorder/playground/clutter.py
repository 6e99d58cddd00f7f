"""The second world: one to three sprites on a ground that is more or less busy, and a checker that reads both."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .sprites import COLOUR_NAMES, COLOURS, GRID, LAST, colour_masks, find, masks_of, stamp
from .world import CHANNELS, CONTRAST, NULL_TOKEN, SIZE, CheckResult

SPRITES: dict[str, tuple[str, ...]] = {
    "diamond": ("..#..", ".###.", "#####", ".###.", "..#.."),
    "ring": ("#####", "#...#", "#...#", "#...#", "#####"),
    "saltire": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
    "tee": ("#####", "..#..", "..#..", "..#..", "..#.."),
}
GROUNDS = ("grey", "stripes", "checks", "speckles")
MAX_OBJECTS = 3
TOKENS = 2 * MAX_OBJECTS + 1
VOCABULARY = ("", *COLOURS, *SPRITES, *GROUNDS)
EXAMPLES: tuple[str, ...] = (
    "a red diamond and a blue ring on stripes",
    "a yellow tee on speckles",
    "a green saltire, a red tee and a blue diamond on checks",
    "a blue ring and a yellow saltire on grey",
)
ABOUT = (
    "**a** *colour* *sprite*, one to three of them, **on** *ground*, with red, green, blue, yellow · diamond, ring, "
    "saltire, tee · grey, stripes, checks, speckles; how strong the ground is, the seed decides."
)
RELATION = "ground"

_SPRITE_NAMES = tuple(SPRITES)
_MASKS = masks_of(SPRITES)
_FILLERS = frozenset({"a", "an", "the", "and"})
_ON = "on"
_GREY = 0.5
_TINT = 0.1
_SLOPE = 0.3
_STRENGTH = (0.15, 0.45)
_SPECKLE_STRENGTH = (0.25, 0.5)
_SPECKLE_SHARE = (0.15, 0.5)
"""Strengths in units of CONTRAST; how many of the pixels are speckled."""
_PERIOD = 4
_MIN_TEXTURE = 0.075
_MIN_PATTERN = 0.5
_EXTRA_PENALTY = 0.15


def _placements() -> torch.Tensor:
    """All ways to place three sprites a pixel or more apart, (n, 3, 2) of (x, y) on the grid."""
    side = LAST // GRID + 1
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    apart = GRID * (places[:, None] - places[None]).abs().amax(-1) > len(_MASKS[0])
    triples = apart[:, :, None] & apart[:, None, :] & apart[None]
    return places[triples.nonzero()]


def _waves() -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes (4, 16, 16) and checks (4, 16, 16) of 1 and -1 in every phase; the other phases are their negatives."""
    axis = torch.arange(SIZE)
    waves = [1.0 - 2.0 * ((axis + phase) % _PERIOD >= _PERIOD // 2) for phase in (0, 1)]
    flat = torch.ones(SIZE)
    stripes = [torch.outer(wave, flat) for wave in waves] + [torch.outer(flat, wave) for wave in waves]
    return torch.stack(stripes), torch.stack([torch.outer(down, across) for down in waves for across in waves])


_PLACEMENTS = _placements()
_STRIPES, _CHECKS = _waves()


@dataclass(frozen=True)
class Scene:
    """One to three (colour, sprite) of different colours on a ground."""

    objects: tuple[tuple[str, str], ...]
    ground: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"{len(self.objects)} objects; allowed: 1 to {MAX_OBJECTS}")
        for colour, sprite in self.objects:
            _check_word(colour, "colour", COLOUR_NAMES)
            _check_word(sprite, "sprite", _SPRITE_NAMES)
        _check_word(self.ground, "ground", GROUNDS)
        colours = [colour for colour, _ in self.objects]
        twice = next((colour for colour in colours if colours.count(colour) > 1), None)
        if twice:
            raise ValueError(f"two objects are {twice!r}; the colours must differ")

    @property
    def words(self) -> tuple[str, ...]:
        """The words in the order of the tokens; "" where an object is absent."""
        absent = ("",) * (TOKENS - 1 - 2 * len(self.objects))
        return (*(word for pair in self.objects for word in pair), *absent, self.ground)


def _check_word(word: str, kind: str, names: Sequence[str]) -> None:
    if word not in names:
        raise ValueError(f"{word!r} is not a {kind}; allowed: {', '.join(names)}")


def random_scenes(count: int, generator: torch.Generator) -> list[Scene]:
    """Draw `count` scenes: number of objects, colours, sprites and ground each uniformly."""
    numbers = torch.randint(1, MAX_OBJECTS + 1, (count,), generator=generator).tolist()
    colours = torch.rand(count, len(COLOURS), generator=generator).argsort(1).tolist()
    sprites = torch.randint(len(SPRITES), (count, MAX_OBJECTS), generator=generator).tolist()
    grounds = torch.randint(len(GROUNDS), (count,), generator=generator).tolist()
    return [
        Scene(
            tuple(
                (COLOUR_NAMES[colour], _SPRITE_NAMES[sprite])
                for colour, sprite in zip(some_colours[:number], some_sprites[:number], strict=True)
            ),
            GROUNDS[ground],
        )
        for number, some_colours, some_sprites, ground in zip(numbers, colours, sprites, grounds, strict=True)
    ]


def caption(scene: Scene) -> str:
    """The scene in words, e.g. "a green saltire, a red tee and a blue diamond on checks"."""
    *first, last = [f"a {colour} {sprite}" for colour, sprite in scene.objects]
    things = f"{', '.join(first)} and {last}" if first else last
    return f"{things} {_ON} {scene.ground}"


def parse_caption(text: str) -> Scene:
    """Read a caption; raise ValueError naming the word that was not understood and what is allowed there."""
    words = [word for word in re.findall(r"[^\s.,;]+", text.lower()) if word not in _FILLERS]

    def read(kind: str, names: Sequence[str]) -> str:
        if not words:
            raise ValueError(f"the caption ends where a {kind} is expected; allowed: {', '.join(names)}")
        _check_word(words[0], kind, names)
        return words.pop(0)

    objects = [(read("colour", COLOUR_NAMES), read("sprite", _SPRITE_NAMES))]
    while (word := read(f"colour or {_ON!r}", (*COLOUR_NAMES, _ON))) != _ON:
        objects.append((word, read("sprite", _SPRITE_NAMES)))
    ground = read("ground", GROUNDS)
    if words:
        raise ValueError(f"{words[0]!r} is one word too many; allowed: nothing after the ground")
    return Scene(tuple(objects), ground)


def encode(scenes: Sequence[Scene]) -> torch.Tensor:
    """Tokens of the scenes, (n, 7) int64; 0 where an object is absent."""
    tokens = [[VOCABULARY.index(word) for word in scene.words] for scene in scenes]
    return torch.tensor(tokens, dtype=torch.int64).view(-1, TOKENS)


def null_tokens(count: int) -> torch.Tensor:
    """Tokens of the empty caption, (count, 7) int64."""
    return torch.full((count, TOKENS), NULL_TOKEN)


def render(scenes: Sequence[Scene], generator: torch.Generator) -> torch.Tensor:
    """Draw each scene at random places on a ground of random strength, (n, 3, 16, 16) float32 in [-1.5, 1.5]."""
    count = len(scenes)
    canvas = _draw_grounds(torch.tensor([GROUNDS.index(scene.ground) for scene in scenes]), generator)
    places = GRID * _PLACEMENTS[torch.randint(len(_PLACEMENTS), (count,), generator=generator)]
    for slot in range(MAX_OBJECTS):
        pairs = [scene.objects[slot] if slot < len(scene.objects) else None for scene in scenes]
        colour = torch.tensor([COLOUR_NAMES.index(pair[0]) if pair else 0 for pair in pairs], dtype=torch.int64)
        sprite = torch.tensor([_SPRITE_NAMES.index(pair[1]) if pair else 0 for pair in pairs], dtype=torch.int64)
        there = torch.tensor([pair is not None for pair in pairs], dtype=torch.bool)
        stamp(canvas, places[:, slot, 0], places[:, slot, 1], colour, _MASKS[sprite] & there[:, None, None])
    return canvas.permute(0, 3, 1, 2).contiguous()


def _draw_grounds(kinds: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Grey, a tint, a slope and a texture, (n, 16, 16, 3)."""
    count = len(kinds)

    def draw(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    axis = torch.linspace(-1, 1, SIZE)
    angle, slope = draw(0, 2 * math.pi, 1, 1), draw(0, _SLOPE, 1, 1)
    ramp = slope * (angle.cos() * axis + angle.sin() * axis[:, None])
    wave = torch.randint(len(_STRIPES), (count,), generator=generator)
    sign = 1 - 2 * torch.randint(2, (count, 1, 1), generator=generator)
    strength = draw(*_STRENGTH, 1, 1) * sign
    speckled = torch.rand(count, SIZE, SIZE, generator=generator) < draw(*_SPECKLE_SHARE, 1, 1)
    lighter = 1 - 2 * torch.randint(2, (count, SIZE, SIZE), generator=generator)
    textures = torch.stack(
        [
            torch.zeros(count, SIZE, SIZE),
            strength * _STRIPES[wave],
            strength * _CHECKS[wave],
            draw(*_SPECKLE_STRENGTH, 1, 1) * speckled * lighter,
        ],
        1,
    )
    grey = draw(-_GREY, _GREY, 1, 1) + ramp + textures[torch.arange(count), kinds]
    return CONTRAST * (grey[..., None] + draw(-_TINT, _TINT, 1, 1, CHANNELS)).clamp(-1, 1)


def check(images: torch.Tensor, scenes: Sequence[Scene]) -> list[CheckResult]:
    """Read each image (n, 3, 16, 16) back and compare it with its scene; ValueError if the counts differ."""
    if len(images) != len(scenes):
        raise ValueError(f"{len(images)} images for {len(scenes)} scenes; allowed: one scene per image")
    if not scenes:
        return []
    pixels = (images.detach().float().cpu().nan_to_num() / CONTRAST).clamp(-1, 1)
    grey = pixels.mean(1)
    masks = colour_masks(pixels, grey[:, None].expand_as(pixels))
    detections = find(masks, _SPRITE_NAMES, _MASKS)
    grounds = _read_grounds(grey, 1 - masks.sum(1))
    results = []
    for index, (scene, ground) in enumerate(zip(scenes, grounds, strict=True)):
        expected = dict(scene.objects)
        sprites = {colour: detections.sprite(index, colour) for colour in detections.present(index)}
        shares = [detections.overlap(index, colour, sprite) for colour, sprite in expected.items()]
        shares.append(float(ground == scene.ground))
        extra = len(sprites.keys() - expected.keys())
        things = ", ".join(f"{colour} {sprite or 'blob'}" for colour, sprite in sprites.items()) or "nothing"
        results.append(
            CheckResult(
                objects=sprites == expected,
                relation=ground == scene.ground,
                score=max(0.0, sum(shares) / len(shares) - _EXTRA_PENALTY * extra),
                words=f"{things}; on {ground}",
            )
        )
    return results


def _read_grounds(grey: torch.Tensor, bare: torch.Tensor) -> list[str]:
    """The ground of each image, from its bare pixels (n, 16, 16) of 0 and 1."""
    bare = bare.flatten(1)
    axis = torch.linspace(-1, 1, SIZE)
    plane = torch.stack([torch.ones(SIZE, SIZE), axis.expand(SIZE, SIZE), axis[:, None].expand(SIZE, SIZE)], -1)
    # A slope is no texture: what the best plane through the bare pixels leaves over is.
    columns = bare[..., None] * plane.view(-1, 3)
    values = bare * grey.flatten(1)
    fit = torch.linalg.pinv(columns) @ values[..., None]
    rest = values - (columns @ fit)[..., 0]
    energy, count = rest.square().sum(1), bare.sum(1).clamp(min=1)
    strength = (energy / count).sqrt()
    # Of the rest's energy, how much one wave explains.
    stripes, checks = (
        ((rest @ waves.flatten(1).T).square() / (energy * count).clamp(min=1e-9)[:, None]).amax(1)
        for waves in (_STRIPES, _CHECKS)
    )
    kinds = torch.full((len(grey),), GROUNDS.index("speckles"))
    kinds[checks >= _MIN_PATTERN] = GROUNDS.index("checks")
    kinds[stripes >= _MIN_PATTERN] = GROUNDS.index("stripes")
    kinds[strength < _MIN_TEXTURE] = GROUNDS.index("grey")
    return [GROUNDS[kind] for kind in kinds.tolist()]

"""The latent world: one to three shapes on a ground at 128 × 128, prompts in plain English, and a checker.

A prompt tells the objects and either how the two of them stand or what the ground is. Where, how large, with which
outline, and on which tone, the seed decides. The checker reads pictures behind a VAE: soft, a little off in colour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

SIZE = 128
MAX_OBJECTS = 3
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 48),
    "green": (44, 168, 64),
    "blue": (42, 78, 222),
    "yellow": (240, 208, 40),
    "purple": (150, 50, 192),
}
SHAPES = ("circle", "square", "triangle", "star", "ring")
RELATIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
"""Relation -> direction (x right, y down) from the second object to the first."""
GROUNDS = ("plain", "striped", "checked", "dotted")
COLOUR_NAMES, RELATION_NAMES = tuple(COLOURS), tuple(RELATIONS)
EXAMPLES = (
    "a red circle on a striped background",
    "a blue star left of a yellow ring",
    "a green triangle and a purple square on dots",
)

NUMBERS = (0.3, 0.55, 0.15)
"""How often a scene has one, two, three objects."""
RADIUS, SMALL_RADIUS = (18.0, 23.0), (16.0, 20.0)
"""Of objects, in pixels; the smaller where there are three."""
PHRASINGS = (
    "{things} on a {ground} background",
    "a drawing of {things}, {ground} background",
    "{things} on {noun}",
)
NOUNS = {"plain": "a plain wall", "striped": "stripes", "checked": "checks", "dotted": "dots"}
SAYINGS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
RELATION_PHRASINGS = ("{first} {saying} {second}", "a drawing of {first} {saying} {second}")

_PALETTE = torch.tensor(list(COLOURS.values())) / 255
_OUTLINE = 2.0
_INNER, _STAR = 0.42, 0.5
"""Radius of a ring's hole and of a star's inner corners, of the outer one."""
_MARGIN = 2
_GAP = 6
_STRIPE, _CHECK, _DOT = 24, 32, 24
"""Periods of the grounds, in pixels."""
_STEEP = 2.5
"""How many periods' worth of the wave's slope the edges of stripes and checks have."""

Box = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """One to three (colour, shape) of different colours; relation (of two) or ground, "" where it is not said."""

    objects: tuple[tuple[str, str], ...]
    relation: str = ""
    ground: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"{len(self.objects)} objects; allowed: 1 to {MAX_OBJECTS}")
        for colour, shape in self.objects:
            _check_word(colour, "colour", COLOUR_NAMES)
            _check_word(shape, "shape", SHAPES)
        if len({colour for colour, _ in self.objects}) < len(self.objects):
            raise ValueError("two objects of one colour; the colours must differ")
        if self.relation:
            _check_word(self.relation, "relation", RELATION_NAMES)
            if len(self.objects) != 2:
                raise ValueError(f"a relation of {len(self.objects)} objects; allowed: of two")
        if self.ground:
            _check_word(self.ground, "ground", GROUNDS)


@dataclass(frozen=True)
class Reading:
    """What the checker found in one image, against the scene it was asked for."""

    objects: bool
    relation: bool
    """The relation and the ground are as said; True where nothing is said of them."""
    score: float
    words: str

    @property
    def right(self) -> bool:
        """All that the prompt says is there, and nothing else."""
        return self.objects and self.relation


def _check_word(word: str, kind: str, names: Sequence[str]) -> None:
    if word not in names:
        raise ValueError(f"{word!r} is not a {kind}; allowed: {', '.join(names)}")


def random_scenes(count: int, generator: torch.Generator) -> list[Scene]:
    """Draw `count` scenes: the number of objects by NUMBERS, all else uniformly."""
    numbers = torch.multinomial(torch.tensor(NUMBERS), count, replacement=True, generator=generator) + 1
    colours = torch.rand(count, len(COLOURS), generator=generator).argsort(1).tolist()
    shapes = torch.randint(len(SHAPES), (count, MAX_OBJECTS), generator=generator).tolist()
    relations = torch.randint(len(RELATIONS), (count,), generator=generator).tolist()
    grounds = torch.randint(len(GROUNDS), (count,), generator=generator).tolist()
    related = (torch.rand(count, generator=generator) < 0.5).tolist()
    scenes = []
    for index, number in enumerate(numbers.tolist()):
        pairs = zip(colours[index][:number], shapes[index], strict=False)
        objects = tuple((COLOUR_NAMES[colour], SHAPES[shape]) for colour, shape in pairs)
        if number == 2 and related[index]:
            scenes.append(Scene(objects, relation=RELATION_NAMES[relations[index]]))
        else:
            scenes.append(Scene(objects, ground=GROUNDS[grounds[index]]))
    return scenes


def captions(scene: Scene) -> list[str]:
    """The scene in words, in every phrasing."""
    names = [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}" for colour, shape in scene.objects]
    if scene.relation:
        return [
            phrasing.format(first=names[0], saying=saying, second=names[1])
            + (f" on a {scene.ground} background" if scene.ground else "")
            for phrasing in RELATION_PHRASINGS
            for saying in SAYINGS[scene.relation]
        ]
    *first, last = names
    things = f"{', '.join(first)} and {last}" if first else last
    if not scene.ground:
        return [things, f"a drawing of {things}"]
    return [phrasing.format(things=things, ground=scene.ground, noun=NOUNS[scene.ground]) for phrasing in PHRASINGS]


def parse_caption(text: str) -> Scene:
    """Read a prompt in any phrasing; raise ValueError where it tells no scene."""
    words = re.findall(r"[a-z]+", text.lower())
    objects = []
    for first, second in pairwise(words):
        if first in COLOUR_NAMES:
            _check_word(second, "shape", SHAPES)
            objects.append((first, second))
    says = {saying.split()[-2 if saying.endswith(" of") else -1]: name for name, of in SAYINGS.items() for saying in of}
    grounds = {word: name for name, noun in NOUNS.items() for word in (name, noun.split()[-1])}
    relation = next((says[word] for word in words if word in says), "")
    ground = next((grounds[word] for word in words if word in grounds and word != "wall"), "")
    return Scene(tuple(objects), relation, ground)


def _uniform(count: int, limits: Box, generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(count, generator=generator)


def _place(scenes: Sequence[Scene], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centres (n, 3, 2) and radii (n, 3) in pixels: no two closer than _GAP, related ones clearly so."""
    count = len(scenes)
    numbers = torch.tensor([len(scene.objects) for scene in scenes])
    many = (numbers == MAX_OBJECTS)[:, None]
    shape = (count, MAX_OBJECTS)
    spread = torch.rand(shape, generator=generator)
    radius = torch.where(
        many,
        SMALL_RADIUS[0] + (SMALL_RADIUS[1] - SMALL_RADIUS[0]) * spread,
        RADIUS[0] + (RADIUS[1] - RADIUS[0]) * spread,
    )
    directions = torch.tensor(list(RELATIONS.values()), dtype=torch.float32)
    said = torch.tensor([RELATION_NAMES.index(s.relation) if s.relation else -1 for s in scenes])
    direction = directions[said]
    centre = torch.zeros(count, MAX_OBJECTS, 2)
    open_ = torch.ones(count, dtype=torch.bool)
    there = torch.arange(MAX_OBJECTS) < numbers[:, None]
    while open_.any():
        reach = SIZE / 2 - _MARGIN - radius[..., None]
        draw = SIZE / 2 + reach * (2 * torch.rand(count, MAX_OBJECTS, 2, generator=generator) - 1)
        centre = torch.where(open_[:, None, None], draw, centre)
        apart = (centre[:, :, None] - centre[:, None]).norm(dim=-1)
        need = radius[:, :, None] + radius[:, None] + _GAP
        both = there[:, :, None] & there[:, None] & ~torch.eye(MAX_OBJECTS, dtype=torch.bool)
        clash = (both & (apart < need)).flatten(1).any(1)
        step = centre[:, 0] - centre[:, 1]
        along, across = (step * direction).sum(1), (step * direction.flip(1)).sum(1).abs()
        open_ = clash | ((said >= 0) & (along < 1.6 * across.clamp(min=1)))
    return centre, radius


def signed_distance(shape: int, x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """Distance to the outline in pixels, negative inside, of SHAPES[shape] of this radius around (0, 0)."""
    r = (x.square() + y.square()).sqrt()
    name = SHAPES[shape]
    if name == "circle":
        return r - radius
    if name == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.85 * radius
    if name == "ring":
        return torch.maximum(r - radius, _INNER * radius - r)
    if name == "triangle":
        # Upright and equilateral, its box centred; `half` is the radius of the circle inside it.
        half = 0.575 * radius
        low = y - half / 2
        return torch.maximum(low - half, 0.866 * x.abs() - 0.5 * low - half)
    # Folded into the tenth between an outer corner and the next inner one.
    angle = torch.atan2(x, -y)
    tenth = math.pi / 5
    radius = 1.1 * radius
    folded = (torch.remainder(angle + tenth, 2 * tenth) - tenth).abs()
    px, py = r * folded.sin(), r * folded.cos()
    inner = _STAR * radius
    ax, ay = inner * math.sin(tenth), inner * math.cos(tenth)
    length = (ax**2 + (radius - ay) ** 2) ** 0.5
    return (px * (radius - ay) + (py - radius) * ax) / length


def _grounds(kinds: Tensor, generator: torch.Generator) -> Tensor:
    """Grounds (n, 3, 128, 128) in [0, 1]: a tone with a tint and a slope, and the texture of its kind."""
    count = len(kinds)
    axis = torch.arange(SIZE) + 0.5

    def draw(low: float, high: float) -> Tensor:
        return _uniform(count, (low, high), generator)[:, None, None]

    def wave(period: int) -> tuple[Tensor, Tensor]:
        """Soft square waves in [-1, 1] down (n, 128, 1) and across (n, 1, 128), with random phases."""
        phases = torch.rand(2, count, 1, generator=generator)
        down, across = (_STEEP * torch.sin(2 * math.pi * (axis / period + phase)) for phase in phases)
        return down.clamp(-1, 1)[:, :, None], across.clamp(-1, 1)[:, None, :]

    upright = torch.rand(count, 1, 1, generator=generator) < 0.5
    down, across = wave(_STRIPE)
    stripes = torch.where(upright, across, down).expand(count, SIZE, SIZE)
    down, across = wave(_CHECK)
    checks = down * across
    shift = _DOT * torch.rand(2, count, 1, generator=generator)
    gap_y, gap_x = (torch.remainder(axis + s, _DOT) - _DOT / 2 for s in shift)
    dots = 2 * (6.5 - (gap_y[:, :, None].square() + gap_x[:, None, :].square()).sqrt()).clamp(-0.5, 0.5)
    textures = torch.stack([torch.zeros(count, SIZE, SIZE), stripes, checks, dots], 1)
    sign = 1 - 2 * torch.randint(2, (count, 1, 1), generator=generator)
    strength = draw(0.07, 0.13) * sign
    angle, slope = draw(0, 2 * math.pi), draw(0, 0.08)
    ramp = slope * (angle.cos() * (axis / 64 - 1) + angle.sin() * (axis / 64 - 1)[:, None])
    grey = draw(0.3, 0.75) + ramp + strength * textures[torch.arange(count), kinds]
    tint = _uniform(3 * count, (-0.03, 0.03), generator).view(count, 3, 1, 1)
    return (grey[:, None] + tint).clamp(0, 1)


def render(scenes: Sequence[Scene], generator: torch.Generator) -> Tensor:
    """Draw each scene, (n, 3, 128, 128) float32 in [-1, 1]; what is not said is drawn at random."""
    count = len(scenes)
    free = torch.randint(len(GROUNDS), (count,), generator=generator).tolist()
    kinds = [GROUNDS.index(s.ground) if s.ground else k for s, k in zip(scenes, free, strict=True)]
    canvas = _grounds(torch.tensor(kinds), generator)
    centres, radii = _place(scenes, generator)
    dark = torch.rand(count, MAX_OBJECTS, generator=generator) < 0.5
    axis = torch.arange(SIZE) + 0.5
    for slot in range(MAX_OBJECTS):
        for index, name in enumerate(SHAPES):
            rows = [k for k, s in enumerate(scenes) if slot < len(s.objects) and s.objects[slot][1] == name]
            if not rows:
                continue
            centre = centres[rows, slot]
            x, y = axis - centre[:, 0, None, None], axis[:, None] - centre[:, 1, None, None]
            distance = signed_distance(index, x, y, radii[rows, slot, None, None])[:, None]
            colour = _PALETTE[[COLOUR_NAMES.index(scenes[k].objects[slot][0]) for k in rows]][..., None, None]
            outline = torch.where(dark[rows, slot, None, None, None], 0.25 * colour, 0.96)
            inside, body = (0.5 - distance).clamp(0, 1), (0.5 - distance - _OUTLINE).clamp(0, 1)
            painted = outline + body * (colour - outline)
            canvas[rows] = canvas[rows] + inside * (painted - canvas[rows])
    return 2 * canvas - 1


_HALF = SIZE // 2
_KINDS = range(len(SHAPES))
_FIT_RADII = tuple(float(r) for r in np.arange(14.5, 25.5, 1.0))
_MIN_AREA = 24
"""Pixels of the halved image that make a colour present."""
_MIN_OVERLAP = 0.72
_MIN_CHROMA = 0.55
"""Of the palette's own, along its direction."""
_MIN_TEXTURE = 0.03
_MIN_PATTERN = 0.3
_EXTRA_PENALTY = 0.15


def _templates() -> Tensor:
    """Every shape's body in every radius, (shapes, radii, 64, 64) of 0 and 1, centred at (0, 0) with wrap-around."""
    axis = torch.arange(_HALF, dtype=torch.float32)
    axis = 2 * torch.where(axis < _HALF / 2, axis, axis - _HALF)
    x, y = axis.expand(_HALF, _HALF), axis[:, None].expand(_HALF, _HALF)
    bodies = [[(signed_distance(k, x, y, radius) < -_OUTLINE).float() for radius in _FIT_RADII] for k in _KINDS]
    sharp = torch.stack([torch.stack(sizes) for sizes in bodies])
    # Once more with rounded corners, as a VAE leaves them.
    soft = F.avg_pool2d(F.pad(sharp, (3, 3, 3, 3), mode="circular"), 3, 1)
    soft = F.avg_pool2d(soft, 5, 1)
    return torch.cat([sharp, (soft > 0.5).float()], 1)


_TEMPLATES = _templates()
_SPECTRA = torch.fft.rfft2(_TEMPLATES).conj()
_AREAS = _TEMPLATES.sum((-1, -2))


def _colour_masks(images: Tensor) -> Tensor:
    """Where each colour is, (n, 5, 64, 64) of 0 and 1, of images (n, 3, 128, 128) in [0, 1]."""
    small = F.avg_pool2d(images, 2)
    chroma = small - small.mean(1, keepdim=True)
    own = _PALETTE - _PALETTE.mean(1, keepdim=True)
    size = own.norm(dim=1)
    along = torch.einsum("nchw,kc->nkhw", chroma, own / size[:, None])
    strong = along / size[:, None, None]
    best = torch.zeros_like(along).scatter_(1, along.argmax(1, keepdim=True), 1.0)
    return best * (strong > _MIN_CHROMA)


def _fit(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Best overlap over union with each shape, (n, shapes), and the centres (n, 2) of the masks (n, 64, 64)."""
    overlaps = []
    for spectra, areas in zip(_SPECTRA, _AREAS, strict=True):
        common = torch.fft.irfft2(torch.fft.rfft2(mask)[:, None] * spectra, s=(_HALF, _HALF))
        union = mask.sum((1, 2))[:, None, None, None] + areas[:, None, None] - common
        overlaps.append((common / union.clamp(min=1)).flatten(1).amax(1))
    axis = 2 * torch.arange(_HALF) + 1.0
    area = mask.sum((1, 2)).clamp(min=1)
    centre = torch.stack([(mask.sum(1) * axis).sum(1), (mask.sum(2) * axis).sum(1)], 1) / area[:, None]
    return torch.stack(overlaps, 1), centre


def _read_grounds(grey: Tensor, bare: Tensor) -> list[str]:
    """The ground of each image (n, 64, 64), from its bare pixels of 0 and 1; "unclear" where nothing fits."""
    axis = 2 * torch.arange(_HALF) + 1.0
    line = axis / 64 - 1

    def waves(period: int) -> list[Tensor]:
        turn = 2 * math.pi * axis / period
        return [turn.sin(), turn.cos()]

    one = torch.ones(_HALF)
    plane = [torch.outer(one, one), torch.outer(one, line), torch.outer(line, one)]
    across = [torch.outer(one, w) for w in waves(_STRIPE)]
    down = [torch.outer(w, one) for w in waves(_STRIPE)]
    checks = [torch.outer(a, b) for a in waves(_CHECK) for b in waves(_CHECK)]
    basis = torch.stack(plane + across + down + checks, -1).view(-1, 11)
    weight, values = bare.flatten(1), grey.flatten(1)
    columns = weight[..., None] * basis
    gram = columns.transpose(1, 2) @ basis + 1e-3 * torch.eye(11)
    fit = torch.linalg.solve(gram, (columns.transpose(1, 2) @ values[..., None]))[..., 0]
    flat = values - fit[:, :3] @ basis[:, :3].T
    energy = (weight * flat.square()).sum(1) / weight.sum(1).clamp(min=1)
    power = [fit[:, a:b].square().sum(1) / d for a, b, d in ((3, 5, 2), (5, 7, 2), (7, 11, 4))]
    names = []
    for total, x, y, check in zip(energy.tolist(), *(p.tolist() for p in power), strict=True):
        if total**0.5 < _MIN_TEXTURE:
            names.append("plain")
        elif max(x + y, check) < _MIN_PATTERN * total:
            names.append("unclear")
        elif check > x + y:
            names.append("checked")
        else:
            names.append("dotted" if min(x, y) > 0.25 * max(x, y) else "striped")
    return names


def check(images: Tensor, scenes: Sequence[Scene]) -> list[Reading]:
    """Read each image (n, 3, 128, 128) in [-1, 1] and compare it with its scene; ValueError if the counts differ."""
    if len(images) != len(scenes):
        raise ValueError(f"{len(images)} images for {len(scenes)} scenes; allowed: one scene per image")
    if not scenes:
        return []
    pixels = (images.detach().float().cpu().nan_to_num() / 2 + 0.5).clamp(0, 1)
    masks = _colour_masks(pixels)
    areas = masks.sum((2, 3))
    present = areas >= _MIN_AREA
    where = present.nonzero().tolist()
    overlaps, centres = _fit(masks[present]) if where else (torch.zeros(0, len(SHAPES)), torch.zeros(0, 2))
    # An outline, dark or light, belongs to its object.
    object_ = F.max_pool2d(masks.amax(1, keepdim=True), 7, 1, 3)[:, 0]
    grounds = _read_grounds(F.avg_pool2d(pixels.mean(1, keepdim=True), 2)[:, 0], 1 - object_)
    found: list[dict[str, tuple[str, Tensor, Tensor]]] = [{} for _ in scenes]
    for (image, colour), overlap, centre in zip(where, overlaps, centres, strict=True):
        shape = SHAPES[int(overlap.argmax())] if overlap.max() >= _MIN_OVERLAP else "blob"
        found[image][COLOUR_NAMES[colour]] = (shape, overlap, centre)
    return [_compare(scene, things, ground) for scene, things, ground in zip(scenes, found, grounds, strict=True)]


def _compare(scene: Scene, things: dict[str, tuple[str, Tensor, Tensor]], ground: str) -> Reading:
    """One image's reading from what was found in it: colour -> (shape, overlap with each shape, centre)."""
    expected = dict(scene.objects)
    shares = [
        float(things[colour][1][SHAPES.index(shape)]) if colour in things else 0.0 for colour, shape in expected.items()
    ]
    said = []
    if scene.ground:
        said.append(ground == scene.ground)
    if scene.relation:
        first, second = (things.get(colour) for colour, _ in scene.objects)
        holds = False
        if first and second:
            step, direction = first[2] - second[2], torch.tensor(RELATIONS[scene.relation], dtype=torch.float32)
            along, across = float(step @ direction), float((step * direction.flip(0)).sum().abs())
            holds = along > max(8.0, across)
        said.append(holds)
    shares += [float(holds) for holds in said]
    extra = len(things.keys() - expected.keys())
    words = ", ".join(f"{colour} {shape}" for colour, (shape, *_) in things.items()) or "nothing"
    return Reading(
        objects={colour: shape for colour, (shape, *_) in things.items()} == expected,
        relation=all(said),
        score=max(0.0, sum(shares) / len(shares) - _EXTRA_PENALTY * extra),
        words=f"{words}; {ground}",
    )


def tensor_of(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures as (n, 3, 128, 128) in [-1, 1]; other sizes are scaled."""
    arrays = [np.asarray(p.convert("RGB").resize((SIZE, SIZE)), dtype=np.float32) for p in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1


def pictures_of(images: Tensor) -> list[Image.Image]:
    """Images (n, 3, h, w) in [-1, 1] as pictures."""
    from PIL import Image

    pixels = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]


def right(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    """1 where a picture shows what its prompt says, else 0: a scorer for benchmarks/webui_quality.py."""
    readings = check(tensor_of(pictures), [parse_caption(prompt) for prompt in prompts])
    return [float(reading.right) for reading in readings]


def score(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    """How much of its prompt a picture shows, 0 to 1: a scorer for benchmarks/webui_quality.py."""
    return [reading.score for reading in check(tensor_of(pictures), [parse_caption(prompt) for prompt in prompts])]

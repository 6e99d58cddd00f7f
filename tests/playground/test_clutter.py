from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from lib_noiseorder.playground.clutter import (
    GROUNDS,
    SPRITES,
    Scene,
    caption,
    check,
    encode,
    null_tokens,
    parse_caption,
    random_scenes,
    render,
)
from lib_noiseorder.playground.sprites import COLOURS
from lib_noiseorder.playground.world import CONTRAST

SCENE = Scene((("green", "saltire"), ("red", "tee"), ("blue", "diamond")), "checks")
COUNT = 512


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return random_scenes(COUNT, generator(1))


@pytest.fixture(scope="module")
def images(scenes: list[Scene]) -> torch.Tensor:
    return render(scenes, generator(2))


def replace(scene: Scene, slot: int, colour: str | None = None, sprite: str | None = None) -> Scene:
    objects = list(scene.objects)
    objects[slot] = (colour or objects[slot][0], sprite or objects[slot][1])
    return dataclasses.replace(scene, objects=tuple(objects))


def pick_other(word: str, words: object, excluded: tuple[str, ...] = ()) -> str:
    return next(each for each in words if each != word and each not in excluded)  # type: ignore[attr-defined]


def recolour(scene: Scene) -> Scene:
    colours = tuple(colour for colour, _ in scene.objects)
    return replace(scene, 0, colour=pick_other(colours[0], COLOURS, colours))


def reshape(scene: Scene) -> Scene:
    return replace(scene, 0, sprite=pick_other(scene.objects[0][1], SPRITES))


def add_object(scene: Scene) -> Scene:
    colours = tuple(colour for colour, _ in scene.objects)
    return Scene((*scene.objects[:2], (pick_other("", COLOURS, colours), "ring")), scene.ground)


def change_ground(scene: Scene) -> Scene:
    return dataclasses.replace(scene, ground=pick_other(scene.ground, GROUNDS))


def test_clean_renders_are_read_back_exactly(scenes: list[Scene], images: torch.Tensor) -> None:
    for scene, result in zip(scenes, check(images, scenes), strict=True):
        assert result.both
        assert result.score == pytest.approx(1.0)
        things, ground = result.words.split("; on ")
        assert ground == scene.ground
        assert set(things.split(", ")) == {" ".join(pair) for pair in scene.objects}


@pytest.mark.parametrize(
    ("spoil", "objects", "ground"),
    [
        (recolour, False, True),
        (reshape, False, True),
        (add_object, False, True),
        (change_ground, True, False),
    ],
)
def test_every_other_caption_is_refused(
    scenes: list[Scene], images: torch.Tensor, spoil: Callable[[Scene], Scene], objects: bool, ground: bool
) -> None:
    for result in check(images, [spoil(scene) for scene in scenes]):
        assert (result.objects, result.relation, result.both) == (objects, ground, False)
        assert result.score < 0.95


def test_shuffled_captions_are_refused(scenes: list[Scene], images: torch.Tensor) -> None:
    pairs = list(zip(scenes, scenes[1:] + scenes[:1], strict=True))
    for (scene, target), result in zip(pairs, check(images, [target for _, target in pairs]), strict=True):
        assert result.objects == (set(scene.objects) == set(target.objects))
        assert result.relation == (scene.ground == target.ground)


@pytest.mark.parametrize(("rms", "right"), [(0.1, 1.0), (0.2, 0.75)])
def test_noise_on_an_image_is_borne(scenes: list[Scene], images: torch.Tensor, rms: float, right: float) -> None:
    noisy = images + rms * torch.randn(images.shape, generator=generator(3))
    results = check(noisy, scenes)
    assert sum(result.objects for result in results) == COUNT
    assert sum(result.both for result in results) >= right * COUNT


def fray(image: torch.Tensor, colour: str, pixels: int) -> torch.Tensor:
    """The image with some pixels of one colour turned grey."""
    target = CONTRAST * torch.tensor(COLOURS[colour], dtype=torch.float32)
    rows = (image - target[:, None, None]).abs().amax(0).lt(1e-3).nonzero()
    image = image.clone()
    for row, column in rows[torch.randperm(len(rows), generator=generator(4))][:pixels]:
        image[:, row, column] = 0
    return image


@pytest.mark.parametrize(("pixels", "right"), [(4, True), (5, False), (25, False)])
def test_a_frayed_or_missing_object_is_an_artefact(
    scenes: list[Scene], images: torch.Tensor, pixels: int, right: bool
) -> None:
    pairs = zip(images, scenes, strict=True)
    frayed = torch.stack([fray(image, scene.objects[0][0], pixels) for image, scene in pairs])
    for result in check(frayed, scenes):
        assert result.objects == right


def test_an_object_drawn_twice_is_wrong(scenes: list[Scene], images: torch.Tensor) -> None:
    alone = [index for index, scene in enumerate(scenes) if len(scene.objects) == 1]
    # Every sprite fits the part of the image that its mirror image leaves, or runs into it.
    twice = images[alone]
    flipped = twice.flip(2)
    colours = torch.stack([CONTRAST * torch.tensor(COLOURS[scenes[index].objects[0][0]]) for index in alone])
    stamped = (flipped - colours[:, :, None, None]).abs().amax(1, keepdim=True) < 1e-3
    for result in check(torch.where(stamped, flipped, twice), [scenes[index] for index in alone]):
        assert not result.objects


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), float("nan"))])
def test_empty_images_hold_nothing(image: torch.Tensor) -> None:
    result = check(image, [SCENE])[0]
    assert (result.objects, result.relation, result.score, result.words) == (False, False, 0.0, "nothing; on grey")


def test_an_image_all_of_one_colour_has_no_ground_to_read() -> None:
    red = CONTRAST * torch.tensor(COLOURS["red"], dtype=torch.float32)
    result = check(red[None, :, None, None].expand(1, 3, 16, 16), [SCENE])[0]
    assert not result.objects
    assert result.words.startswith("red blob")


def test_images_differ_in_how_busy_they_are(scenes: list[Scene], images: torch.Tensor) -> None:
    def busy(ground: str) -> torch.Tensor:
        subset = images[[index for index, scene in enumerate(scenes) if scene.ground == ground]]
        return (subset.diff(dim=2).square().mean((1, 2, 3)) + subset.diff(dim=3).square().mean((1, 2, 3))).sqrt()

    plain, checks, speckles = busy("grey").mean(), busy("checks"), busy("speckles")
    for textured in (checks, speckles):
        assert textured.mean() > 1.2 * plain
        assert textured.std() > 0.1 * textured.mean()


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="2 images for 1 scenes"):
        check(torch.zeros(2, 3, 16, 16), [SCENE])
    assert check(torch.zeros(0, 3, 16, 16), []) == []


def test_objects_never_touch_and_lie_everywhere(scenes: list[Scene], images: torch.Tensor) -> None:
    result = check(images, scenes)
    assert all(each.objects for each in result), "sprites that overlap would lack pixels"
    green = (images[:, 1] - images[:, 0].maximum(images[:, 2]) > CONTRAST).any(0)
    assert green[:15, :15].all(), "the last row and column are off the grid"


def test_scenes_are_drawn_evenly() -> None:
    samples = random_scenes(4000, generator(5))
    for counts, kinds in (
        (Counter(len(scene.objects) for scene in samples), 3),
        (Counter(scene.ground for scene in samples), 4),
        (Counter(scene.objects[0][0] for scene in samples), 4),
        (Counter(scene.objects[0][1] for scene in samples), 4),
    ):
        assert len(counts) == kinds
        assert max(counts.values()) < 1.15 * 4000 / kinds


def test_captions_round_trip(scenes: list[Scene]) -> None:
    assert caption(SCENE) == "a green saltire, a red tee and a blue diamond on checks"
    assert caption(Scene((("red", "ring"),), "grey")) == "a red ring on grey"
    assert [parse_caption(caption(scene)) for scene in scenes] == scenes


@pytest.mark.parametrize(
    "text",
    [
        "A green saltire, a red TEE, a blue diamond on checks.",
        "green saltire red tee blue diamond on the checks",
    ],
)
def test_captions_are_read_generously(text: str) -> None:
    assert parse_caption(text) == SCENE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends where a colour is expected; allowed: red, green, blue, yellow"),
        ("a pink tee on grey", "'pink' is not a colour; allowed: red, green, blue, yellow"),
        ("a red cross on grey", "'cross' is not a sprite; allowed: diamond, ring, saltire, tee"),
        ("a red tee", "ends where a colour or 'on' is expected; allowed: red, green, blue, yellow, on"),
        ("a red tee left of a blue ring", "'left' is not a colour or 'on'; allowed: red, green, blue, yellow, on"),
        ("a red tee on", "ends where a ground is expected; allowed: grey, stripes, checks, speckles"),
        ("a red tee on sand", "'sand' is not a ground; allowed: grey, stripes, checks, speckles"),
        ("a red tee on grey please", "'please' is one word too many; allowed: nothing after the ground"),
        ("a red tee and a red ring on grey", "two objects are 'red'; the colours must differ"),
        ("a red tee, a blue tee, a green tee, a yellow tee on grey", "4 objects; allowed: 1 to 3"),
    ],
)
def test_what_was_not_understood_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_caption(text)


def test_tokens_are_distinct_and_tell_the_ground(scenes: list[Scene]) -> None:
    tokens = encode(scenes)
    assert tokens.shape == (COUNT, 7)
    assert tokens.dtype == torch.int64
    assert (tokens[:, -1] != 0).all()
    assert len({tuple(row) for row in tokens.tolist()}) == len(set(scenes))
    assert not null_tokens(3).any()
    assert encode([]).shape == (0, 7)


def test_scenes_and_renders_follow_their_generator(scenes: list[Scene], images: torch.Tensor) -> None:
    assert random_scenes(COUNT, generator(1)) == scenes
    assert torch.equal(render(scenes, generator(2)), images)
    assert not torch.equal(render(scenes, generator(3)), images)
    assert images.abs().max() == CONTRAST

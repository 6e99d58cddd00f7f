from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lib_noiseorder.playground.scenes import (
    COLOURS,
    CONTRAST,
    RELATIONS,
    SPRITES,
    Scene,
    caption,
    check,
    encode,
    null_tokens,
    parse_caption,
    random_scenes,
    render,
    to_uint8,
)

SCENE = Scene("red", "cross", "left of", "blue", "ring")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return random_scenes(256, generator(1))


@pytest.fixture(scope="module")
def images(scenes: list[Scene]) -> torch.Tensor:
    return render(scenes, generator(2))


def test_clean_renders_are_read_back_exactly(scenes: list[Scene], images: torch.Tensor) -> None:
    for scene, result in zip(scenes, check(images, scenes), strict=True):
        assert result.objects
        assert result.relation
        assert result.both
        assert result.score == pytest.approx(1.0)
        assert result.words == (
            f"{scene.colour} {scene.sprite}, {scene.other_colour} {scene.other_sprite}; {scene.relation}"
        )


@pytest.mark.parametrize(
    ("field", "words", "objects", "relation"),
    [
        ("colour", COLOURS, False, False),
        ("other_colour", COLOURS, False, False),
        ("sprite", SPRITES, False, True),
        ("other_sprite", SPRITES, False, True),
        ("relation", RELATIONS, True, False),
    ],
)
def test_one_wrong_word_is_seen(
    scenes: list[Scene],
    images: torch.Tensor,
    field: str,
    words: dict[str, object],
    objects: bool,
    relation: bool,
) -> None:
    def spoil(scene: Scene) -> Scene:
        excluded = (getattr(scene, field), scene.colour, scene.other_colour)
        return dataclasses.replace(scene, **{field: next(word for word in words if word not in excluded)})

    for result in check(images, [spoil(scene) for scene in scenes]):
        assert (result.objects, result.relation, result.both) == (objects, relation, False)
        assert result.score < 0.95


def test_swapped_objects_are_seen(scenes: list[Scene], images: torch.Tensor) -> None:
    words = [scene.words for scene in scenes]
    swapped = [Scene(b, other, relation, a, sprite) for a, sprite, relation, b, other in words]
    for result in check(images, swapped):
        assert result.objects
        assert not result.relation


def test_shuffled_captions_score_about_zero(scenes: list[Scene], images: torch.Tensor) -> None:
    results = check(images, scenes[1:] + scenes[:1])
    assert np.mean([result.both for result in results]) < 0.02
    assert np.mean([result.score for result in results]) < 0.3


def test_checker_tolerates_noise() -> None:
    image = render([SCENE], generator())
    noisy = image + 0.15 * torch.randn(image.shape, generator=generator(3))
    assert check(noisy, [SCENE])[0].both


@pytest.mark.parametrize(("erased", "sprite"), [(4, "square"), (5, "blob")])
def test_a_sprite_may_lack_four_pixels(erased: int, sprite: str) -> None:
    scene = dataclasses.replace(SCENE, sprite="square")
    image = render([scene], generator())
    red = (image[0, 0] > image[0, 1] + CONTRAST).nonzero()
    for row, column in red[:erased]:
        image[0, :, row, column] = image.median()
    result = check(image, [scene])[0]
    assert result.words == f"red {sprite}, blue ring; left of"
    assert result.objects == (sprite == "square")


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), float("nan"))])
def test_empty_images_hold_nothing(image: torch.Tensor) -> None:
    result = check(image, [SCENE])[0]
    assert (result.objects, result.relation, result.score, result.words) == (False, False, 0.0, "nothing")


def test_a_second_sprite_of_the_same_colour_and_a_third_colour_are_wrong() -> None:
    image = torch.zeros(1, 3, 16, 16)
    red, green, blue, _ = (CONTRAST * torch.tensor(colour)[:, None, None] for colour in COLOURS.values())
    image[0, :, 0:5, 0:5] = red
    image[0, :, 0:5, 10:15] = blue
    scene = Scene("red", "square", "left of", "blue", "square")
    assert check(image, [scene])[0].both
    third = image.clone()
    third[0, :, 10:15, 5:10] = green
    assert check(third, [scene])[0].words == "red square, blue square, green square; left of"
    assert not check(third, [scene])[0].objects
    twice = image.clone()
    twice[0, :, 10:15, 0:5] = red
    assert not check(twice, [scene])[0].objects


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="2 images for 1 scenes"):
        check(torch.zeros(2, 3, 16, 16), [SCENE])
    assert check(torch.zeros(0, 3, 16, 16), []) == []


def test_captions_round_trip(scenes: list[Scene]) -> None:
    assert caption(SCENE) == "a red cross left of a blue ring"
    assert [parse_caption(caption(scene)) for scene in scenes] == scenes


@pytest.mark.parametrize(
    "text",
    [
        "A Red cross, left of the blue RING.",
        "red cross  to the left of blue ring",
        "a red cross is left of a blue ring",
    ],
)
def test_captions_are_read_generously(text: str) -> None:
    assert parse_caption(text) == SCENE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends where a colour is expected; allowed: red, green, blue, yellow"),
        ("a pink cross left of a blue ring", "'pink' is not a colour; allowed: red, green, blue, yellow"),
        ("a red dog left of a blue ring", "'dog' is not a sprite; allowed: square, cross, ring"),
        ("a red cross near a blue ring", "'near' is not a relation; allowed: left of, right of, above"),
        ("a red cross left a blue ring", "'left' is not a relation"),
        ("a red cross left of a blue", "ends where a sprite is expected"),
        ("a red cross left of a blue ring please", "'please' is one word too many"),
        ("a red cross left of a red ring", "both objects are 'red'"),
    ],
)
def test_what_was_not_understood_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_caption(text)


def test_scene_refuses_unknown_words() -> None:
    with pytest.raises(ValueError, match="'beside' is not a relation"):
        dataclasses.replace(SCENE, relation="beside")


def test_tokens_are_distinct_and_never_null(scenes: list[Scene]) -> None:
    tokens = encode(scenes)
    assert tokens.shape == (256, 5)
    assert tokens.dtype == torch.int64
    assert (tokens != 0).all()
    assert len({tuple(row) for row in tokens.tolist()}) == len(set(scenes))
    assert not null_tokens(3).any()
    assert encode([]).shape == (0, 5)


def test_scenes_and_renders_follow_their_generator(scenes: list[Scene], images: torch.Tensor) -> None:
    assert random_scenes(256, generator(1)) == scenes
    assert torch.equal(render(scenes, generator(2)), images)
    assert not torch.equal(render(scenes, generator(3)), images)
    assert images.abs().max() == CONTRAST


def test_pixels_for_display() -> None:
    image = render([SCENE], generator())
    small, large = to_uint8(image), to_uint8(image, 8)
    assert small.shape == (1, 16, 16, 3)
    assert large.shape == (1, 128, 128, 3)
    assert small.dtype == np.uint8
    assert np.array_equal(large[:, ::8, ::8], small)
    assert (small == (255, 0, 0)).all(-1).sum() == 9

"""Ends of the ranges, what is left out, and precision, where a formula says it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import LevelPreview, Report, erase, inject, key_levels
from lib_noiseorder.core.injection import aggregate, orthonormal
from lib_noiseorder.core.statistics import cosine, dot, mean, rms, std


def randn(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_key_levels_left_to_themselves():
    assert [tuple(level) for level in key_levels(3)] == [
        (0.9, 1),
        (pytest.approx(0.8), 1),
        (pytest.approx(0.7), 1),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_whole_schedule_can_be_used(count):
    levels = key_levels(count, 1.0, 1.0)
    assert [level.fraction for level in levels] == [1.0] * count
    assert key_levels(count, 1e-9, 1e-9)[-1].fraction == 1e-9


def test_erasing_takes_masks_to_their_ends():
    noise = randn(1, 4, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    indices = []

    def draw(index):
        indices.append(index)
        return randn(1, 4, 8, 8, seed=index)

    result = erase(noise, 2.5, draw, mask)
    assert indices == [2, 3]
    assert torch.equal(result[..., :4], noise[..., :4])
    expected = (noise + randn(1, 4, 8, 8, seed=2) + math.sqrt(0.5) * randn(1, 4, 8, 8, seed=3)) / math.sqrt(2.5)
    torch.testing.assert_close(result[..., 4:], expected[..., 4:])


@pytest.mark.parametrize("share", [0.9, 0.999, 0.99999])
def test_a_direction_that_is_almost_the_noise_is_made_orthogonal_in_single_precision_too(share):
    z = randn(2, 4, 32, 32, dtype=torch.float32)
    direction = share * z + math.sqrt(1 - share**2) * randn(2, 4, 32, 32, seed=2, dtype=torch.float32)
    result = orthonormal(direction, z)
    assert max(abs(value) for value in cosine(result, z)) < 1e-6
    torch.testing.assert_close(rms(result), torch.ones(2, 1, 1, 1))


def test_the_aggregate_is_the_weighted_sum():
    a, b = randn(1, 2, 4, 4), randn(1, 2, 4, 4, seed=2)
    torch.testing.assert_close(aggregate([a, b], [3.0, 4.0]), (3 * a + 4 * b) / 5)


def test_small_directions_count_as_large_ones_do():
    """Only what is zero has no direction."""
    z, direction = randn(2, 4, 8, 8), randn(2, 4, 8, 8, seed=2)
    torch.testing.assert_close(inject(z, [1e-20 * direction], [1.0], 0.1), inject(z, [direction], [1.0], 0.1))


def test_measures_of_each_image():
    x = randn(3, 2, 4, 4) * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1) + 0.5
    flat = x.flatten(1)
    assert dot(x, x).shape == rms(x).shape == (3, 1, 1, 1)
    torch.testing.assert_close(rms(x).flatten(), flat.square().mean(1).sqrt())
    assert std(x) == pytest.approx(flat.std(dim=1, correction=0).tolist())
    assert mean(x) == pytest.approx(flat.mean(dim=1).tolist())
    assert cosine(x, -2 * x) == pytest.approx([-1] * 3)
    assert cosine(x, 0 * x) == (0, 0, 0)


def test_single_precision_is_enough_for_everything_but_double():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert rms(randn(1, 4, 8, 8, dtype=dtype)).dtype == torch.float32
    assert rms(randn(1, 4, 8, 8)).dtype == torch.float64


@pytest.mark.parametrize("instance", [NoiseOrderConfig(), Report(applied=False)])
def test_what_was_decided_cannot_be_changed(instance):
    name = dataclasses.fields(instance)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(instance, name, True)


def test_a_preview_names_what_it_holds():
    assert LevelPreview._fields == ("level", "before", "after")

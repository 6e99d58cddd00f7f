"""The noises of `benchmarks/variety.py` are what their names say."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="module")
def variety(benchmark):
    return benchmark("variety")


@pytest.fixture(scope="module")
def noises(variety):
    model = variety.PlaygroundModel.load("few")

    def draw(index):
        return torch.randn(200, variety.K, 3, 16, 16, generator=torch.Generator().manual_seed(index))

    return variety.rows(draw(1), draw, model)


@pytest.mark.parametrize(
    ("row", "correlation"),
    [
        ("independent seeds", 0),
        ("Erase, n = 4", 0),
        ("z and −z", -1),
        ("pairwise correlation −1/3", -1 / 3),
        ("variants of one seed, Erase n = 4", 1 / 4),
        ("the same, mirrored", 1 / 4 - 3 / 4),
    ],
)
def test_each_is_a_unit_gaussian_and_they_differ_as_named(noises, row, correlation):
    noise = noises[row]
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    # The first and the third: a pair where there are pairs.
    assert (noise[:, 0] * noise[:, 2]).mean().item() == pytest.approx(correlation, abs=0.01)


def test_high_frequencies_stay_where_the_low_ones_alone_are_changed(variety, noises):
    plain = noises["independent seeds"]
    for row, correlation in (("pairwise correlation −1/3", -1 / 3), ("z and −z", -1)):
        noise = noises[f"low frequencies alone: {row}"]
        assert noise.std().item() == pytest.approx(1, abs=0.01)
        low = variety.low(noise)
        torch.testing.assert_close(noise - low, plain - variety.low(plain), atol=1e-4, rtol=0)
        between = (low[:, 0] * low[:, 2]).mean() / low.square().mean()
        assert between.item() == pytest.approx(correlation, abs=0.03)

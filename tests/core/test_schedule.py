from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_noiseorder.core import key_levels
from lib_noiseorder.core.schedule import sketch_depth


def test_one_level_is_the_first_with_weight_one():
    assert key_levels(1, 0.9, 0.2, (0, 0, 5)) == ((0.9, 1.0),)


def test_three_levels_carry_the_three_weights():
    levels = key_levels(3, 1.0, 0.2, (1, 2, 3))
    assert [level.fraction for level in levels] == pytest.approx([1.0, 0.6, 0.2])
    assert [level.weight for level in levels] == [1, 2, 3]


def test_weights_are_interpolated_between():
    assert [level.weight for level in key_levels(5, weights=(0, 1, 3))] == [0, 0.5, 1, 2, 3]
    assert [level.weight for level in key_levels(2, weights=(1, 7, 3))] == [1, 3]


@given(
    count=st.integers(2, 20),
    first=st.floats(0.01, 1),
    last=st.floats(0.01, 1),
    weights=st.tuples(*[st.floats(0.1, 5)] * 3),
)
def test_levels_run_evenly_from_first_to_last(count, first, last, weights):
    levels = key_levels(count, first, last, weights)
    assert len(levels) == count
    assert levels[0].fraction == first
    assert levels[-1].fraction == pytest.approx(last)
    steps = [b.fraction - a.fraction for a, b in pairwise(levels)]
    assert steps == pytest.approx([(last - first) / (count - 1)] * (count - 1), abs=1e-12)
    assert (levels[0].weight, levels[-1].weight) == pytest.approx((weights[0], weights[2]))
    assert all(min(weights) - 1e-9 <= level.weight <= max(weights) + 1e-9 for level in levels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "count = 0"),
        ((3, 0.0), "first = 0.0"),
        ((3, 0.9, 1.2), "last = 1.2"),
        ((3, math.nan), "first = nan"),
        ((3, 0.9, 0.7, (0, 0, 0)), "not all zero"),
        ((3, 0.9, 0.7, (1, math.inf, 1)), "finite"),
        ((2, 0.9, 0.7, (0, 1, 0)), "zero at all 2"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        key_levels(*arguments)


@pytest.mark.parametrize(("depth", "sketch"), [(0.75, 0.65), (0.2, 0.1), (0.15, 0.05), (0.1, 0.05)])
def test_a_sketch_goes_deeper_but_not_to_the_end(depth, sketch):
    assert sketch_depth(depth) == pytest.approx(sketch)

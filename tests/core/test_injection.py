from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import printed, turned

from lib_noiseorder.core import inject
from lib_noiseorder.core.statistics import cosine, rms

SHAPES = [(2, 4, 16, 16), (3, 16, 1, 8, 8), (1, 128, 4, 4)]
DELTA = st.floats(-3, 3).filter(lambda d: abs(d) > 1e-6)
WEIGHTS = st.lists(st.floats(0.05, 3), min_size=1, max_size=5)


def normal(shape, seed, like=None, share=0.0):
    value = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return value if like is None else share * like + math.sqrt(1 - share**2) * value


def arrays(tensors):
    return [tensor.numpy() for tensor in tensors]


@pytest.mark.parametrize("shape", SHAPES)
@given(delta=DELTA, weights=WEIGHTS, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_as_printed_is_the_paper(shape, delta, weights, seed):
    z = normal(shape, seed)
    directions = [normal(shape, seed + k + 1, z, 0.9) for k in range(len(weights))]
    ours = inject(z, directions, weights, delta, "as printed")
    np.testing.assert_allclose(
        ours.numpy(), printed(z.numpy(), arrays(directions), weights, delta), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
@given(delta=DELTA, weights=WEIGHTS, seed=st.integers(0, 1000), share=st.sampled_from([0, 0.9, 0.999]))
@settings(max_examples=25, deadline=None)
def test_orthonormal_is_the_reference(shape, delta, weights, seed, share):
    z = normal(shape, seed)
    directions = [10.0**k * normal(shape, seed + k + 1, z, share) for k in range(len(weights))]
    ours = inject(z, directions, weights, delta)
    np.testing.assert_allclose(
        ours.numpy(), turned(z.numpy(), arrays(directions), weights, delta), rtol=1e-9, atol=1e-10
    )


@given(delta=DELTA, weights=WEIGHTS, seed=st.integers(0, 1000), share=st.floats(-0.999, 0.999))
@settings(max_examples=50, deadline=None)
def test_orthonormal_turns_by_arctan_delta_and_keeps_the_rms(delta, weights, seed, share):
    shape = (3, 4, 16, 16)
    z = normal(shape, seed)
    directions = [normal(shape, seed + k + 1, z, share) for k in range(len(weights))]
    result = inject(z, directions, weights, delta)
    assert cosine(result, z) == pytest.approx([math.cos(math.atan(delta))] * 3, abs=1e-12)
    torch.testing.assert_close(rms(result), rms(z), rtol=1e-12, atol=0)
    toward = [
        (result[k] * directions[0][k]).sum() - cosine(result, z)[k] * (z[k] * directions[0][k]).sum() for k in range(3)
    ]
    if len(weights) == 1:
        assert all(value.sign() == math.copysign(1, delta) for value in toward)


def test_unit_rms_in_gives_unit_rms_out():
    z = normal((2, 4, 32, 32), 1)
    z = z / rms(z)
    result = inject(z, [normal(z.shape, 2, z, 0.99)], [1.0], 0.5)
    torch.testing.assert_close(rms(result), torch.ones_like(rms(result)), rtol=1e-12, atol=0)


def test_a_strong_level_does_not_drown_a_weak_one():
    z, a, b = (normal((1, 4, 32, 32), seed) for seed in range(3))
    one = inject(z, [a, b], [1, 1], 0.2)
    other = inject(z, [1000 * a, b], [1, 1], 0.2)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("normalisation", ["orthonormal", "as printed"])
def test_zero_delta_is_the_input_itself(normalisation):
    z = normal((1, 4, 8, 8), 0)
    assert inject(z, [z], [1.0], 0, normalisation) is z


def test_no_direction_leaves_that_image_alone():
    z = normal((2, 4, 8, 8), 0)
    direction = normal(z.shape, 1)
    direction[1] = 0
    result = inject(z, [direction], [1.0], 0.1)
    assert torch.equal(result[1], z[1])
    assert not torch.equal(result[0], z[0])


def test_an_image_does_not_know_its_batch():
    z, d = normal((4, 4, 16, 16), 0).float(), normal((4, 4, 16, 16), 1).float()
    batch = inject(z, [d], [1.0], 0.1)
    for k in range(4):
        torch.testing.assert_close(
            batch[k : k + 1], inject(z[k : k + 1], [d[k : k + 1]], [1.0], 0.1), rtol=0, atol=1e-7
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    z, d = normal((2, 4, 16, 16), 0).to(dtype), normal((2, 4, 16, 16), 1).to(dtype)
    result = inject(z, [d], [1.0], 0.3)
    exact = turned(z.double().numpy(), [d.double().numpy()], [1.0], 0.3)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.double().numpy(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_works_on_inference_tensors():
    with torch.inference_mode():
        z, d = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
        assert inject(z, [d], [1.0], 0.1).shape == z.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalisation": "unit"}, "normalisation = 'unit'"),
        ({"delta": math.nan}, "delta = nan"),
        ({"weights": [0.0]}, "not all zero"),
        ({"weights": [1.0, 1.0]}, "1 directions"),
        ({"directions": [], "weights": []}, "0 directions"),
    ],
)
def test_refuses(changes, message):
    z = torch.randn(1, 4, 4, 4)
    arguments = {"noise": z, "directions": [z], "weights": [1.0], "delta": 0.1, **changes}
    with pytest.raises(ValueError, match=message):
        inject(**arguments)

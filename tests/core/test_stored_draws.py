"""The draws behind every image ever made: golden values, they may never change."""

from __future__ import annotations

import pytest
import torch

from lib_noiseorder.core import Modulation, erase, modulate
from lib_noiseorder.core.streams import cpu_draws, derive_seed


@pytest.mark.parametrize(
    ("seed", "draw", "variant", "stage", "key"),
    [
        (0, 2, 0, "", 8933709436450844333),
        (1, 2, 0, "", 768362128523554052),
        (1, 3, 0, "", 4239398346880894578),
        (12345, 64, 0, "", 6821287664016291436),
        (2**32 - 1, 2, 0, "", 6940941396968656236),
        (1, 2, 3, "", 8847738341134186180),
        (1, 2, 0, "hires", 5391920654833668406),
        (1, 2, 3, "hires", 8169962048018038040),
    ],
)
def test_keys(seed, draw, variant, stage, key):
    """Checked with `printf noiseorder/VARIANT/SEED/DRAW[/STAGE] | b2sum -l 64`, little-endian and halved."""
    assert derive_seed(seed, draw, variant, stage) == key


def test_without_being_told_it_is_the_first_variant_and_the_first_pass():
    assert derive_seed(1, 2) == derive_seed(1, 2, 0, "") == 768362128523554052
    shape = (4, 8, 8)
    assert torch.equal(cpu_draws(shape, [1])(2), cpu_draws(shape, [1], 0)(2))


def test_draws_of_the_cpu():
    draws = cpu_draws((4, 8, 8), [1, 2])
    assert draws(2)[:, 0, 0, :3].tolist() == [
        pytest.approx([-2.1902, 0.1845, 0.0506], abs=5e-5),
        pytest.approx([-1.1495, -0.4448, 0.1570], abs=5e-5),
    ]
    assert cpu_draws((4, 8, 8), [1], 7)(2)[0, 0, 0, :3].tolist() == pytest.approx([-0.6487, -0.4636, 0.0949], abs=5e-5)


@pytest.mark.parametrize(
    ("n", "begin", "end"),
    [
        (2, [-2.627441, -0.400005, -0.426620], [1.255228, 1.247726, -0.007679]),
        (2.5, [-2.438501, -1.004247, -0.779248], [0.887483, 1.094420, -0.036229]),
        (4, [-1.407101, -0.715894, -1.335124], [0.347273, 1.300694, 0.106643]),
    ],
)
def test_the_erased_noise(n, begin, end):
    """Of seeds 1 and 2: the first three numbers of one, the last three of the other."""
    noise = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)])
    result = erase(noise, n, cpu_draws((4, 8, 8), [1, 2]))
    assert result[0, 0, 0, :3].tolist() == pytest.approx(begin, abs=2e-6)
    assert result[1, 3, 7, -3:].tolist() == pytest.approx(end, abs=2e-6)


class Drawing:
    """A host that tells which seeds were drawn."""

    mask = None
    evaluations = 0

    def __init__(self, stage: str) -> None:
        self.seeds, self.stage, self.keys = [1, 7], stage, []

    def fresh_noise(self, seeds):
        self.keys.append(seeds)
        return torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in seeds])


@pytest.mark.parametrize("variant", [0, 3])
@pytest.mark.parametrize("stage", ["", "hires"])
def test_every_image_draws_by_its_seed_the_variant_and_the_pass(variant, stage):
    host = Drawing(stage)
    modulate(torch.zeros(2, 4, 8, 8), Modulation(erase=3.5, variant=variant), host)
    assert host.keys == [[derive_seed(seed, draw, variant, stage) for seed in (1, 7)] for draw in (2, 3, 4)]

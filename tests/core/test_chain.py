"""The chain of erasures: moments, correlations, independence, boxes, and the text it is written as."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from reference import erased

from lib_noiseorder.chain import EXAMPLE, MOST, ChainError, Link, read_chain, with_variant, write_chain
from lib_noiseorder.core import Modulation, Unsupported, modulate
from lib_noiseorder.core.erasure import EDGE, box_mask
from lib_noiseorder.core.streams import cpu_draws, derive_seed

SEEDS = list(range(300, 316))


class Noises:
    """Draws alone: a chain asks no model. dtype: of the fresh draws, which the hosts make in their own."""

    mask = None
    evaluations = 0

    def __init__(self, seeds=SEEDS, shape=(4, 32, 32), stage="", dtype=torch.float64):
        self.seeds, self.shape, self.stage, self.dtype = seeds, shape, stage, dtype

    def fresh_noise(self, seeds):
        draws = [torch.randn(*self.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(draws).to(self.dtype)


def noise(seeds=SEEDS, shape=(4, 32, 32)):
    return cpu_draws(shape, seeds)(1).double()


def apply(text, denoiser=None, z=None, erase=1.0, variants=(), **settings):
    denoiser = denoiser or Noises()
    z = noise(denoiser.seeds, denoiser.shape) if z is None else z
    return modulate(z, Modulation(erase=erase, chain=read_chain(text), **settings), denoiser, variants=variants)[0]


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_no_chain_is_erase_alone():
    z = noise()
    plain = modulate(z, Modulation(erase=2.5, variant=3), Noises())[0]
    assert torch.equal(apply("", erase=2.5, variant=3), plain)
    assert modulate(z, Modulation(), Noises())[0] is z


@pytest.mark.parametrize("stage", ["", "hires"])
def test_is_one_erasure_after_the_other(stage):
    """Against the formula in numpy: each link with its own variant, place and pass."""
    denoiser = Noises(stage=stage)
    ours = apply("1.2 v7; 3 v2", denoiser, erase=4.5, variant=5)

    def draws(variant, name):
        stage_name = "/".join(part for part in (stage, name) if part)
        return [
            denoiser.fresh_noise([derive_seed(seed, i, variant, stage_name) for seed in SEEDS]).numpy()
            for i in range(2, 7)
        ]

    theirs = noise().numpy()
    for n, variant, name in ((4.5, 5, ""), (1.2, 7, "link1"), (3, 2, "link2")):
        theirs = erased([theirs, *draws(variant, name)], n)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "erase"), [("1.2 v1", 1), ("2 v0; 2 v0", 1), ("1.5 v3; 1.2 v9; 4 v0", 4), ("64 v0; 64 v1", 16)]
)
def test_stays_gaussian_and_keeps_one_part_in_the_root_of_the_product(text, erase):
    z, result = noise(), apply(text, erase=erase)
    size, product = z.numel(), erase * math.prod(link.n for link in read_chain(text))
    kurtosis = (result**4).mean().item() / result.std().item() ** 4 - 3
    assert abs(result.mean().item()) < 5 / math.sqrt(size)
    assert abs(result.std().item() - 1) < 5 / math.sqrt(2 * size)
    assert abs(kurtosis) < 5 * math.sqrt(24 / size)
    assert abs(correlation(z, result) - 1 / math.sqrt(product)) < 5 / math.sqrt(size)


def test_links_are_independent():
    """What two links add shares nothing, though n and variant are the same; nor do variants, passes and Erase."""
    z = noise()
    added = {
        "first link": apply("2 v0") - z / math.sqrt(2),
        "variant": apply("2 v1") - z / math.sqrt(2),
        "hires": apply("2 v0", Noises(stage="hires")) - z / math.sqrt(2),
        "Erase": apply("", erase=2.0) - z / math.sqrt(2),
        "second link": apply("2 v0; 2 v0") - apply("2 v0") / math.sqrt(2),
    }
    for first in added:
        for second in added:
            if first < second:
                assert abs(correlation(added[first], added[second])) < 5 / math.sqrt(z.numel()), (first, second)


def test_images_are_independent_and_do_not_know_their_batch():
    both, alone = apply("2 v0; 4 v1", Noises([300, 301])), apply("2 v0; 4 v1", Noises([301]))
    assert torch.equal(both[1:], alone)
    assert abs(correlation(both[0], both[1])) < 5 / math.sqrt(both[0].numel())


def test_variants_of_images_are_those_of_the_last_link():
    denoiser = Noises([300, 301])
    mixed = apply("2 v4; 1.2 v9", denoiser, variants=(3, 5))
    for k, variant in enumerate((3, 5)):
        assert torch.equal(mixed[k], apply(f"2 v4; 1.2 v{variant}", denoiser)[k])


@pytest.mark.parametrize("shape", [(4, 32, 32), (16, 1, 32, 32), (3, 2, 32, 32)])
def test_a_box_erases_inside_and_keeps_the_rest(shape):
    z = noise(shape=shape)
    result = apply("16 v2 @ 0.5 0.25 1 0.75", Noises(shape=shape))
    assert torch.equal(result[..., :, : 16 - 2], z[..., :, : 16 - 2])
    assert torch.equal(result[..., :6, :], z[..., :6, :])
    assert torch.equal(result[..., 26:, :], z[..., 26:, :])
    inside = (..., slice(10, 22), slice(18, 32))
    size = z[inside].numel()
    assert abs(correlation(z[inside], result[inside]) - 1 / 4) < 5 / math.sqrt(size)
    edge = result[..., 10:22, 14:18]  # pixel by pixel N(0, 1), also where it is half erased
    assert abs(edge.std().item() - 1) < 5 / math.sqrt(2 * edge.numel())


def test_the_mask_of_a_box():
    mask = box_mask((0.25, 0, 0.75, 1), torch.empty(1, 1, 3, 64))
    centres = (np.arange(64) + 0.5) / 64
    ramps = np.clip((centres - 0.25) / EDGE + 0.5, 0, 1) * np.clip((0.75 - centres) / EDGE + 0.5, 0, 1)
    np.testing.assert_allclose(mask.numpy(), np.tile(ramps, (3, 1)), rtol=1e-6)
    assert torch.equal(box_mask((0, 0, 1, 1), mask), torch.ones(3, 64)), "the whole image has no edge"


def test_a_box_over_the_whole_image_is_none():
    np.testing.assert_allclose(apply("4 v1 @ 0 0 1 1").numpy(), apply("4 v1").numpy(), rtol=1e-6, atol=1e-6)


def test_the_region_holds_for_links_too():
    denoiser = Noises()
    denoiser.mask = torch.zeros(1, 1, 32, 32)
    denoiser.mask[..., 16:] = 1
    result = apply("4 v1; 4 v2 @ 0 0 1 0.5", denoiser, region="inside")
    assert torch.equal(result[..., :16], noise()[..., :16])
    assert not torch.equal(result[..., 16:], noise()[..., 16:])
    with pytest.raises(Unsupported, match="there is no mask"):
        apply("4 v1", region="inside")


TEXTS = {
    EXAMPLE: (Link(1.2, 7), Link(64, 2, (0.5, 0.1, 0.95, 0.6))),
    "": (),
    " 2 ": (Link(2),),
    "1.5v3 ;\n 4 v1@0 0 .5 1.;": (Link(1.5, 3), Link(4, 1, (0, 0, 0.5, 1))),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_and_written(text):
    assert read_chain(text) == TEXTS[text]
    assert read_chain(write_chain(TEXTS[text])) == TEXTS[text]


def test_objects_are_links():
    objects = [{"n": 1.2, "variant": 7}, {"n": 64, "variant": 2, "box": [0.5, 0.1, 0.95, 0.6]}, {"n": 2}]
    assert write_chain(read_chain(objects)) == f"{EXAMPLE}; 2 v0"


def test_the_last_variant_is_replaced():
    assert write_chain(with_variant(read_chain(EXAMPLE), 12)) == EXAMPLE.replace("v2", "v12")


@pytest.mark.parametrize(
    "value",
    [
        "2 v1; many",
        "2; 1",
        "2; 64.5",
        "2; 0.5",
        "2; 2 v10000",
        "2; 2 v-1",
        "2; 2 v1.5",
        "2; -3",
        "2; 2 @ 0 0 1",
        "2; 2 @ 0.5 0 0.5 1",
        "2; 2 @ 0 0.9 1 0.1",
        "2; 2 @ 0 0 1 1.01",
        "2; 2 v1 extra",
        "2; 2, 3",
        "2; nan",
        "2; ٣",
        [{"n": 2}, {"n": "2"}],
        [{"n": 2}, {"variant": 2}],
        [{"n": 2}, {"n": True}],
        [{"n": 2}, {"n": 2, "variant": 0.5}],
        [{"n": 2}, {"n": 2, "variant": -1}],
        [{"n": 2}, {"n": 2, "variant": True}],
        [{"n": 2}, {"n": 2, "variant": 10000}],
        [{"n": 2}, {"n": 2, "box": [0, 0, 1]}],
        *([{"n": 2}, {"n": 2, "box": [-0.1 * (k == side) + (k > 1) for k in range(4)]}] for side in (0, 1)),
        *([{"n": 2}, {"n": 2, "box": [0.1 * (k == side) + (k > 1) for k in range(4)]}] for side in (2, 3)),
        [{"n": 2}, {"n": 2, "box": 3}],
        [{"n": 2}, {"n": 2, "part": 3}],
        [{"n": 2}, {"n": math.nan}],
        [{"n": 2}, None],
    ],
)
def test_what_is_no_link_is_told_by_its_place(value):
    with pytest.raises(ChainError, match=r"^link 2, .+, must be n above 1 and up to 64, a variant from v0 to v9999"):
        read_chain(value)


def test_what_is_no_chain_is_no_error_of_a_link():
    with pytest.raises(TypeError, match="a chain is a text or a list, not int"):
        read_chain(3)


def test_a_chain_has_an_end():
    assert len(read_chain("2;" * MOST)) == MOST
    with pytest.raises(ChainError, match="at most 16 links, and has 17"):
        read_chain("2;" * (MOST + 1))


@pytest.mark.parametrize(("length", "shown"), [(60, "{}"), (61, "{:.57}...")])
def test_a_long_link_is_told_in_part(length, shown):
    part = "x" * (length - 2)
    with pytest.raises(ChainError, match=re.escape(f"link 1, {shown.format(repr(part))}, must be")):
        read_chain([part])

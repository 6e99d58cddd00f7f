"""The built-in critic, on the exact denoiser of a Gaussian."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_modulate import MEAN, SHAPE, SPREAD, GaussianHost, noise

from lib_noiseorder.core import Modulation, modulate, self_consistency
from lib_noiseorder.core.streams import derive_seed


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_is_the_mean_square_of_what_the_model_would_change(kind):
    host, denoised = GaussianHost([11, 12], kind), noise([3, 4])
    scores = self_consistency(denoised, host)
    z = host.fresh_noise([derive_seed(seed, 1, stage="critic") for seed in (11, 12)])
    sigma, v, m = host.level(0.6).sigma, SPREAD["cond"] ** 2, host.means["cond"]
    if kind == "flow":
        x = (1 - sigma) * denoised + sigma * z
        prediction = m + v * (1 - sigma) / ((1 - sigma) ** 2 * v + sigma**2) * (x - (1 - sigma) * m)
    else:
        prediction = m + v / (v + sigma**2) * (denoised + sigma * z - m)
    expected = -((prediction - denoised) ** 2).flatten(1).mean(dim=1)
    torch.testing.assert_close(torch.tensor(scores, dtype=torch.float64), expected)
    assert host.evaluations == 1
    assert host.totals == [1]
    assert host.calls == [(sigma, False)]


def test_what_the_model_expects_scores_best():
    host = GaussianHost([1, 1, 1])
    pattern = host.means["cond"][0]
    scores = self_consistency(torch.stack([pattern, pattern * 0.5, -pattern]), host)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 2 * scores[1] > 2 * scores[2]


def test_an_image_is_judged_alone_as_in_its_batch():
    denoised = noise([3, 4])
    together = self_consistency(denoised, GaussianHost([11, 12]))
    alone = [self_consistency(denoised[k : k + 1], GaussianHost([seed]))[0] for k, seed in enumerate((11, 12))]
    assert together == alone


def test_it_does_not_use_the_image_that_img2img_starts_from():
    host, denoised = GaussianHost([11]), noise([3])
    expected = self_consistency(denoised, host)
    host.latent = torch.full((1, *SHAPE), MEAN, dtype=torch.float64)
    assert self_consistency(denoised, host) == expected


def test_images_of_a_batch_can_have_variants_of_their_own():
    z, config = noise([7, 7, 8]), Modulation(erase=4.0, inject=0.05)
    result, _ = modulate(z, config, GaussianHost([7, 7, 8]), variants=[2, 5, 2])
    for k, (seed, variant) in enumerate(((7, 2), (7, 5), (8, 2))):
        alone, _ = modulate(z[k : k + 1], dataclasses.replace(config, variant=variant), GaussianHost([seed]))
        assert torch.equal(result[k : k + 1], alone)
    with pytest.raises(ValueError, match="zip"):
        modulate(z, config, GaussianHost([7, 7, 8]), variants=[2, 5])

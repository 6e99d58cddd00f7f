"""The pipeline on a model whose answers are known in closed form: x0 = the posterior mean of a Gaussian."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from reference import erased, printed, turned

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import Denoised, Interrupted, Level, Modulation, Unsupported, modulate, previews
from lib_noiseorder.core.streams import cpu_draws, derive_seed
from lib_noiseorder.modulation import modulation
from lib_noiseorder.presets import PRESETS

SHAPE = (4, 16, 16)
MEAN = 0.7
# Not the same for both: else every guided walk would point the same way, and a wrong step could not be told.
SPREAD = {"cond": 0.5, "uncond": 0.9}


class GaussianHost:
    """The exact denoiser of data N(mean, spread^2): of the prompt with the mean m, of the negative prompt with -m/2."""

    def __init__(self, seeds, kind="epsilon", has_uncond=True, cfg_scale=5.0):
        self.stage, self.mask, self.latent = "", None, None
        self.seeds, self.kind, self.has_uncond, self.cfg_scale = seeds, kind, has_uncond, cfg_scale
        self.evaluations, self.calls, self.totals, self.inside, self.fail = 0, [], [], False, None
        pattern = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
        self.means = {"cond": MEAN * pattern, "uncond": -MEAN / 2 * pattern.flip(-1)}

    def fresh_noise(self, seeds):
        return torch.stack([torch.randn(*SHAPE, generator=torch.Generator().manual_seed(s)) for s in seeds]).double()

    @contextmanager
    def predicting(self, total):
        self.inside = True
        self.totals.append(total)
        yield
        self.inside = False

    def level(self, fraction):
        return Level(fraction, fraction if self.kind == "flow" else 14.6 * fraction**3)

    def noise_scaling(self, noise, level, latent=None):
        latent = self.latent if latent is None else latent
        if latent is not None:
            s = level.sigma
            return (1 - s) * latent + s * noise if self.kind == "flow" else latent + s * noise
        return noise if self.kind == "flow" else noise * math.sqrt(1 + level.sigma**2)

    def posterior(self, x, sigma, which):
        m, v = self.means[which], SPREAD[which] ** 2
        if self.kind == "flow":
            a = 1 - sigma
            return m + v * a / (a * a * v + sigma**2) * (x - a * m)
        return m + v / (v + sigma**2) * (x - m)

    def denoise(self, x, level, with_uncond):
        assert self.inside
        if self.fail is not None and len(self.calls) == self.fail[0]:
            raise self.fail[1]
        self.calls.append((level.sigma, with_uncond))
        self.evaluations += 2 if with_uncond else 1
        uncond = self.posterior(x, level.sigma, "uncond") if with_uncond else None
        return Denoised(self.posterior(x, level.sigma, "cond"), uncond)


def noise(seeds, dtype=torch.float64):
    return cpu_draws(SHAPE, seeds)(1).to(dtype)


def config(**settings):
    return modulation(NoiseOrderConfig(**{"enabled": True, "inject": 0.05, **settings}))


def reference_erased(z, seeds, n, host, variant=0):
    draws = [host.fresh_noise([derive_seed(s, i, variant) for s in seeds]).numpy() for i in range(2, math.ceil(n) + 1)]
    return erased([z.numpy(), *draws], n) if n > 1 else z.numpy()


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
@pytest.mark.parametrize("direction", ["guidance", "denoised", "noise"])
@pytest.mark.parametrize("normalisation", ["orthonormal", "as printed"])
@pytest.mark.parametrize("levels", [1, 3])
def test_is_the_method(kind, direction, normalisation, levels):
    seeds = [11, 12]
    host, z = GaussianHost(seeds, kind), noise(seeds)
    configuration = config(
        direction=direction, normalisation=normalisation, levels=levels, inject=0.2, erase=2.5, structure=0.3
    )
    result, report = modulate(z, configuration, host)

    s = reference_erased(z, seeds, 2.5, host)
    fractions, weights = ([0.9], [1.0]) if levels == 1 else ([0.9, 0.8, 0.7], [1, 0.3, 1])
    directions = []
    for fraction in fractions:
        level = host.level(fraction)
        x = torch.from_numpy(s) * (1 if kind == "flow" else math.sqrt(1 + level.sigma**2))
        predictions = {w: ((x - host.posterior(x, level.sigma, w)) / level.sigma).numpy() for w in ("cond", "uncond")}
        directions.append(
            {
                "noise": predictions["cond"],
                "denoised": -predictions["cond"],
                "guidance": -(predictions["cond"] - predictions["uncond"]),
            }[direction]
        )
    expected = (turned if normalisation == "orthonormal" else printed)(s, directions, weights, 0.2)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9, atol=1e-10)
    assert report.applied
    assert report.evaluations == levels * (2 if direction == "guidance" else 1)
    assert [level.fraction for level in report.levels] == pytest.approx(fractions)
    assert [level.sigma for level in report.levels] == pytest.approx([host.level(f).sigma for f in fractions])
    assert report.std_after == pytest.approx(expected.reshape(2, -1).std(axis=1))
    a, b = s.reshape(2, -1), expected.reshape(2, -1)
    cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    assert report.angle == pytest.approx(np.degrees(np.arccos(cosines)))
    if normalisation == "orthonormal":
        assert report.angle == pytest.approx([math.degrees(math.atan(0.2))] * 2)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
@pytest.mark.parametrize("normalisation", ["orthonormal", "as printed"])
def test_look_ahead_walks_the_sampler_s_way(kind, normalisation):
    """Its x0 is that of a plain DDIM (or Euler flow) loop over the same levels, written in the textbook variables."""
    seeds = [3]
    host, z = GaussianHost(seeds, kind), noise(seeds)
    settings = {"direction": "look-ahead", "levels": 3, "first_level": 1.0, "last_level": 0.8, "erase": 1}
    # As printed, the part along the noise counts too, which here is all that tells where the walk began.
    configuration = config(**settings, inject=0.08, normalisation=normalisation)
    result, report = modulate(z, configuration, host)

    sigmas = [host.level(f).sigma for f in (1.0, 0.9, 0.8)]
    state = z.numpy().copy()
    for here, there in zip(sigmas, [*sigmas[1:], None], strict=True):
        a = 1 / math.sqrt(1 + here**2)
        x = torch.from_numpy(state if kind == "flow" else state / a)
        cond, uncond = (host.posterior(x, here, which).numpy() for which in ("cond", "uncond"))
        x0 = uncond + 5.0 * (cond - uncond)
        if there is None:
            break
        if kind == "flow":
            eps = (state - (1 - here) * x0) / here
            state = (1 - there) * x0 + there * eps
        else:
            b = 1 / math.sqrt(1 + there**2)
            eps = (state - a * x0) / math.sqrt(1 - a * a)
            state = b * x0 + math.sqrt(1 - b * b) * eps
    expected = (turned if normalisation == "orthonormal" else printed)(z.numpy(), [x0], [1.0], 0.08)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-7, atol=1e-8)
    assert report.evaluations == 6


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
@pytest.mark.parametrize("stage", ["", "hires"])
@pytest.mark.parametrize("image", [False, True])
def test_self_correction_is_what_the_model_changes_of_its_own_preview(kind, stage, image):
    """x0 of a plain loop with the prompt alone, and once more from fresh noise on it, in the textbook variables."""
    seeds = [3, 4]
    host, z = GaussianHost(seeds, kind), noise(seeds)
    host.stage, host.latent = stage, torch.full((1, *SHAPE), 0.3).double() if image else None
    settings = {"direction": "self-correction", "levels": 3, "first_level": 1.0, "last_level": 0.8, "erase": 1}
    result, report = modulate(z, config(**settings, inject=0.08, variant=5), host)

    sigmas = [host.level(f).sigma for f in (1.0, 0.9, 0.8)]
    x = host.noise_scaling(z, host.level(1.0)).numpy()
    for here, there in zip(sigmas, [*sigmas[1:], None], strict=True):
        x0 = host.posterior(torch.from_numpy(x), here, "cond").numpy()
        if there is not None:
            x = x0 + there / here * (x - x0)
    sigma = host.level(0.6).sigma
    fresh = host.fresh_noise([derive_seed(seed, 1, 0, f"{stage}/self-correction") for seed in seeds]).numpy()
    x = (1 - sigma if kind == "flow" else 1) * x0 + sigma * fresh
    again = host.posterior(torch.from_numpy(x), sigma, "cond").numpy()
    np.testing.assert_allclose(result.numpy(), turned(z.numpy(), [again - x0], [1.0], 0.08), rtol=1e-7, atol=1e-8)
    assert report.evaluations == 4
    assert host.totals == [4]
    assert {with_uncond for _, with_uncond in host.calls} == {False}


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
@pytest.mark.parametrize("direction", ["denoised", "guidance", "look-ahead"])
def test_around_an_image_the_noise_turns_toward_what_would_change(kind, direction):
    """With one level and orthonormal, d is x0_hat - x0' (for guidance cond - uncond), in every scaling."""
    seeds = [4]
    host, z = GaussianHost(seeds, kind), noise(seeds)
    host.latent = 0.8 * torch.ones(1, *SHAPE, dtype=torch.float64) + 0.3 * noise([77])
    result, report = modulate(z, config(direction=direction, erase=1, inject=0.1, first_level=0.6), host)

    (sigma,) = (level.sigma for level in report.levels)
    x = host.noise_scaling(z, report.levels[0])
    cond, uncond = (host.posterior(x, sigma, which).numpy() for which in ("cond", "uncond"))
    target = {
        "denoised": cond - host.latent.numpy(),
        "guidance": cond - uncond,
        "look-ahead": uncond + 5.0 * (cond - uncond) - host.latent.numpy(),
    }[direction]
    np.testing.assert_allclose(result.numpy(), turned(z.numpy(), [target], [1.0], 0.1), rtol=1e-8, atol=1e-9)


def test_around_an_image_the_paper_s_sign_is_the_predicted_noise():
    host, z = GaussianHost([4]), noise([4])
    host.latent = 0.3 * noise([77])
    configuration = config(direction="noise", erase=1, inject=0.1, normalisation="as printed")
    result, report = modulate(z, configuration, host)
    (sigma,) = (level.sigma for level in report.levels)
    x = host.noise_scaling(z, report.levels[0])
    epsilon = (x - host.posterior(x, sigma, "cond")) / sigma
    np.testing.assert_allclose(result.numpy(), printed(z.numpy(), [epsilon.numpy()], [1.0], 0.1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("region", "untouched"), [("inside", "right"), ("outside", "left")])
def test_region(region, untouched):
    host, z = GaussianHost([1, 2]), noise([1, 2])
    host.mask = torch.zeros(4, 16, 16)
    host.mask[..., :8] = 1
    result, _ = modulate(z, config(inject=0, region=region), host)
    halves = {"left": (..., slice(0, 8)), "right": (..., slice(8, 16))}
    other = halves["left" if untouched == "right" else "right"]
    assert torch.equal(result[halves[untouched]], z[halves[untouched]])
    np.testing.assert_allclose(result[other], reference_erased(z, [1, 2], 4, host)[other], atol=1e-12)


def test_region_without_a_mask_is_refused():
    with pytest.raises(Unsupported, match="no mask"):
        modulate(noise([1]), config(region="inside"), GaussianHost([1]))
    modulate(noise([1]), config(region="inside", erase=1), GaussianHost([1]))


def test_denoised_turns_toward_the_prompt_and_noise_away():
    seeds = [5]
    z = noise(seeds)
    host = GaussianHost(seeds)
    closeness = {}
    for direction in ("denoised", "noise", "guidance", "look-ahead"):
        for sign in (1, -1):
            result, _ = modulate(z, config(direction=direction, erase=1, inject=sign * 0.2), GaussianHost(seeds))
            closeness[direction, sign] = ((result - z) * host.means["cond"]).sum().item()
    for direction in ("denoised", "guidance", "look-ahead"):
        assert closeness[direction, 1] > 0 > closeness[direction, -1]
    assert closeness["noise", 1] < 0 < closeness["noise", -1]


@pytest.mark.parametrize(
    "configuration", [Modulation(), config(erase=1, inject=0), modulation(NoiseOrderConfig(enabled=False, erase=8))]
)
def test_off_is_absent(configuration):
    z = noise([1])
    result, report = modulate(z, configuration, None)  # type: ignore[arg-type]  # not even looked at
    assert result is z
    assert not report.applied


def test_erasing_alone_asks_the_model_nothing():
    host, z = GaussianHost([1, 2]), noise([1, 2])
    result, report = modulate(z, config(inject=0, erase=4), host)
    assert host.calls == []
    assert report.evaluations == 0
    np.testing.assert_allclose(result.numpy(), reference_erased(z, [1, 2], 4, host), atol=1e-12)
    assert report.cosine == pytest.approx([0.5, 0.5], abs=0.1)


def test_paper_as_printed_rescales_and_says_so():
    host = GaussianHost([1])
    host.posterior = lambda x, sigma, which: torch.zeros_like(x)  # a model that predicts its input: the noise itself
    _, report = modulate(noise([1]), modulation(PRESETS["Paper, as printed"]), host)
    # rho = 1, K = 3, delta = 0.1: (1 + 0.1 sqrt 3) / sqrt 1.01, times sqrt(1 + 1/sigma^2) for each x / sigma
    assert report.std_after[0] > 1.1
    assert "std" in str(report)


def test_without_a_negative_prompt_guidance_becomes_denoised():
    host, other, z = GaussianHost([1], has_uncond=False), GaussianHost([1]), noise([1])
    result, report = modulate(z, config(), host)
    expected, _ = modulate(z, config(direction="denoised"), other)
    assert torch.equal(result, expected)
    assert report.evaluations == 1
    assert "denoised" in report.notes[0]


def test_an_image_does_not_know_its_batch():
    seeds = [21, 22, 23]
    batch, _ = modulate(noise(seeds), config(levels=2), GaussianHost(seeds))
    for k, seed in enumerate(seeds):
        alone, _ = modulate(noise([seed]), config(levels=2), GaussianHost([seed]))
        torch.testing.assert_close(batch[k : k + 1], alone, rtol=0, atol=1e-14)


def test_same_prompt_and_negative_prompt_inject_nothing():
    host, z = GaussianHost([1, 2]), noise([1, 2])
    posterior = host.posterior
    host.posterior = lambda x, sigma, which: posterior(x, sigma, "cond")
    result, report = modulate(z, config(erase=1), host)
    assert torch.equal(result, z)
    assert "image 1, 2" in report.notes[0]


@pytest.mark.parametrize("error", [Interrupted(), RuntimeError("out of memory")])
@pytest.mark.parametrize("call", [0, 1, 2])
def test_failure_leaves_the_noise_alone(error, call):
    host, z = GaussianHost([1]), noise([1])
    before = z.clone()
    host.fail = (call, error)
    with pytest.raises(type(error)):
        modulate(z, config(levels=3), host)
    assert torch.equal(z, before)


def test_nan_from_the_model_is_refused():
    host, z = GaussianHost([1]), noise([1])
    host.posterior = lambda x, sigma, which: x * math.nan
    with pytest.raises(Unsupported, match="NaN"):
        modulate(z, config(), host)


def test_half_precision_noise_comes_back_in_half_precision():
    z = noise([1], torch.float32).to(torch.bfloat16)
    result, _ = modulate(z, config(), GaussianHost([1]))
    assert result.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "settings",
    [{}, {"inject": 0}, {"erase": 1}, {"direction": "look-ahead", "levels": 2}, {"direction": "self-correction"}],
)
def test_being_watched_changes_nothing_and_shows_the_erased_noise(settings):
    seeds, noises = [4, 5], []
    z = noise(seeds)
    plain, unwatched = modulate(z, config(**settings), GaussianHost(seeds, "epsilon"))
    watched, report = modulate(
        z, config(**settings), GaussianHost(seeds, "epsilon"), lambda e: noises.append(e.clone())
    )
    assert torch.equal(plain, watched)
    np.testing.assert_allclose(
        noises[0].numpy(), reference_erased(z, seeds, config(**settings).erase, GaussianHost(seeds, "epsilon"))
    )
    assert report.evaluations == unwatched.evaluations


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_previews_are_what_the_prompt_alone_predicts_at_the_key_levels(kind):
    seeds = [4, 5]
    host, before, after = GaussianHost(seeds, kind), noise(seeds), noise([6, 7])
    result = previews(before, after, config(inject=0, levels=3), host)
    assert host.evaluations == 2 * 3
    assert [preview.level.fraction for preview in result] == pytest.approx([0.9, 0.8, 0.7])
    for level, *predictions in result:
        for z, x0 in zip((before, after), predictions, strict=True):
            torch.testing.assert_close(x0, host.posterior(host.noise_scaling(z, level), level.sigma, "cond"))


def test_the_numbers_of_nothing():
    nothing = (1.0, 0, (), "everywhere", 0.0, "guidance", 1, 0.9, 0.7, (1.0, 1.0, 1.0), "orthonormal")
    assert Modulation() == Modulation(*nothing)
    assert not Modulation().active

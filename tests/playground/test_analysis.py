"""The arithmetic of `benchmarks/analysis.py`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lib_noiseorder.core.erasure import erase
from lib_noiseorder.playground.host import seed_noise


@pytest.fixture(scope="module")
def analysis(benchmark):
    return benchmark("analysis")


@pytest.fixture
def images():
    """Of a model whose image is the sum of its noise and of a pattern of its prompt."""
    seeds = range(128)
    patterns = 2 * seed_noise([seed + 10**6 for seed in seeds])
    noise = seed_noise(seeds)

    def make(noise, tokens):
        return noise + patterns[tokens[:, 0]]

    def erased(n):
        return erase(noise, n, lambda index: seed_noise([seed + 1000 * index for seed in seeds]))

    tokens = torch.arange(128)[:, None]
    own = make(noise, tokens)
    return SimpleNamespace(
        noise=noise, tokens=tokens, own=own, make=make, erased=erased, prediction=lambda fraction: patterns
    )


def cells(analysis, monkeypatch, table, images):
    rows = {}
    monkeypatch.setattr(analysis, "row", lambda name, *values: rows.update({name: [float(v.mean()) for v in values]}))
    table(images)
    return rows


def test_likeness_is_a_correlation(analysis):
    noise = seed_noise(range(64))
    assert analysis.likeness(noise, noise).mean() == pytest.approx(1)
    assert analysis.likeness(noise, -noise).mean() == pytest.approx(-1)
    assert analysis.likeness(noise, noise.roll(1, 0)).mean() == pytest.approx(0, abs=0.02)


def test_what_noise_and_prompt_carry_is_told_apart(analysis, images, monkeypatch):
    rows = cells(analysis, monkeypatch, analysis.across_prompts, images)
    # Variance 1 of the noise, 4 of the prompt.
    assert rows["all pixels"] == pytest.approx([0.2, 0.8, 0], abs=0.03)
    assert rows["high frequencies"] == pytest.approx([0.2, 0.8, 0], abs=0.03)


def test_the_seed_s_part_decays_as_its_noise(analysis, images, monkeypatch):
    rows = cells(analysis, monkeypatch, analysis.decay, images)
    for n in analysis.ERASE:
        assert rows[f"{n} | {n**-0.5:.2f}"] == pytest.approx([0.8 + 0.2 * n**-0.5] * 2, abs=0.03)
    assert rows["another seed | 0"] == pytest.approx([0.8] * 2, abs=0.03)


def test_a_level_carries_what_agrees_with_the_image(analysis, images, monkeypatch):
    rows = cells(analysis, monkeypatch, analysis.carried, images)
    assert list(rows) == [f"{level:g}" for level in analysis.LEVELS]
    for values in rows.values():
        assert values == pytest.approx([0.8**0.5, 0], abs=0.03)


def test_images_are_sampled_as_the_model_is_meant_to(analysis):
    few = analysis.Images("few", 3, 7, 3.0, 20)
    assert (few.cfg, few.steps) == (1.0, 4)
    assert few.prediction(0.9).shape == few.own.shape
    other = analysis.Images("dit", 3, 7, 3.0, 2)
    host_uncond = other.model.denoise(other.model.noise_scaling(other.noise, 0.9), 0.9, other.uncond)
    cond = other.model.denoise(other.model.noise_scaling(other.noise, 0.9), 0.9, other.tokens)
    torch.testing.assert_close(other.prediction(0.9), cond - host_uncond)

"""What `benchmarks/ideas.py` does to the noise, and what its critics say."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise
from lib_noiseorder.playground.models import PlaygroundModel

SEEDS = [5, 6, 7]


@pytest.fixture(scope="module")
def ideas(benchmark):
    return benchmark("ideas")


def host_of(seeds):
    model = PlaygroundModel.load("dit")
    scenes = model.world.random_scenes(len(SEEDS), torch.Generator().manual_seed(0))
    tokens = model.world.encode(scenes)[[SEEDS.index(seed) for seed in seeds]]
    return PlaygroundDenoiser(model, seeds, tokens, model.world.null_tokens(len(seeds)), 3.0)


@pytest.mark.slow
def test_an_idea_costs_six_evaluations_at_most_and_keeps_noise_noise(ideas):
    for name, idea in ideas.IDEAS.items():
        host, noise = host_of(SEEDS), seed_noise(SEEDS)
        changed = idea(noise, host)
        assert 0 < host.evaluations <= 6, name
        assert torch.equal(noise, seed_noise(SEEDS)), name
        assert changed.std().item() == pytest.approx(1, abs=0.06), name
        assert changed.shape == noise.shape


@pytest.mark.slow
def test_an_image_of_a_batch_gets_what_it_gets_alone(ideas):
    for name, idea in ideas.IDEAS.items():
        whole = idea(seed_noise(SEEDS), host_of(SEEDS))
        for k, seed in enumerate(SEEDS):
            alone = idea(seed_noise([seed]), host_of([seed]))
            torch.testing.assert_close(whole[k : k + 1], alone, rtol=0, atol=1e-4, msg=name)


def test_the_best_is_each_image_s_own(ideas):
    candidates = [torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)]
    errors = [torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), torch.tensor([2.0, 2.0]).view(2, 1, 1, 1)]
    assert ideas.best(candidates, errors).mean(dim=(1, 2, 3)).tolist() == [0, 1]


def test_what_is_drawn_anew_is_the_worst_third_or_nothing(ideas):
    noise = seed_noise(SEEDS)
    changed = ideas.redraw(noise, host_of(SEEDS), (1.0, 0.6), 0.4) != noise
    for image in changed:
        assert torch.equal(image[0], image[1])
        assert image.float().mean().item() == pytest.approx(ideas.REDRAWN, abs=0.02) or not image.any()
    assert changed.any()


def test_a_turn_is_by_delta(ideas):
    noise = seed_noise(SEEDS)
    for name, idea in ideas.IDEAS.items():
        if "δ = 0.08" in name:
            turned = idea(noise, host_of(SEEDS))
            cosine = torch.cosine_similarity(turned.flatten(1).double(), noise.flatten(1).double())
            assert cosine.tolist() == pytest.approx([(1 + 0.08**2) ** -0.5] * 3, abs=1e-6), name


@pytest.mark.slow
def test_a_critic_costs_what_it_says_and_prefers_an_image_to_what_is_none(ideas):
    host = host_of(SEEDS)
    image = host.model.sample(seed_noise(SEEDS), host.tokens, host.uncond_tokens, 3.0, 10)
    for name, (critic, cost) in ideas.CRITICS.items():
        host = host_of(SEEDS)
        scores = critic(image, host)
        assert host.evaluations == cost, name
        worse = critic((image + 0.5 * seed_noise(SEEDS)).clamp(-1, 1), host_of(SEEDS))
        assert sum(scores) > sum(worse), name


def test_busyness_is_the_squared_difference_of_neighbours(ideas):
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 3, 16, 16)
    assert ideas.busyness(torch.cat([stripes, stripes.mT, torch.ones(1, 3, 16, 16)])).tolist() == [1, 1, 0]


def turn(one, other):
    """The tangent of the angle between them, per image."""
    cosine = torch.cosine_similarity(one.flatten(1).double(), other.flatten(1).double())
    return (1 / cosine.square() - 1).sqrt()


def test_self_correction_again_begins_with_what_came_of_the_round_before(ideas):
    noise, one = seed_noise(SEEDS), partial(ideas.correct_again, delta=0.1, fractions=(0.85,), fraction=0.6)
    host = host_of(SEEDS)
    first, second = one(noise, host, rounds=1), one(noise, host_of(SEEDS), rounds=2)
    assert host.evaluations == 2
    assert turn(first, noise).tolist() == pytest.approx([0.1] * 3, abs=1e-5)
    assert turn(second, first).tolist() == pytest.approx([0.1] * 3, abs=1e-5)


def test_what_is_corrected_is_what_would_be_chosen(ideas):
    noise, levels = seed_noise(SEEDS), {"count": 2, "fractions": (1.0, 0.75), "fraction": 0.6}
    chosen = ideas.choose(noise, host_of(SEEDS), **levels)
    corrected = ideas.choose_and_correct(noise, host_of(SEEDS), delta=0.1, **levels)
    assert turn(corrected, chosen).tolist() == pytest.approx([0.1] * 3, abs=1e-5)

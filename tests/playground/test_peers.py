"""What `benchmarks/peers.py` does to the noise is what its formulas say."""

from __future__ import annotations

import pytest
import torch

from lib_noiseorder.core.erasure import erase
from lib_noiseorder.core.injection import to_d
from lib_noiseorder.core.streams import derive_seed
from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise
from lib_noiseorder.playground.models import PlaygroundModel

SEEDS = range(5, 9)


@pytest.fixture(scope="module")
def peers(benchmark):
    return benchmark("peers")


@pytest.fixture(params=["unet", "dit"])
def host(request):
    model = PlaygroundModel.load(request.param)
    world = model.world
    tokens = world.encode(world.random_scenes(len(SEEDS), torch.Generator().manual_seed(1)))
    return PlaygroundDenoiser(model, SEEDS, tokens, world.null_tokens(len(SEEDS)), 3.0)


def direction(host, noise):
    """Toward the prompt and away from no prompt, at pure noise."""
    level = host.level(1.0)
    x = host.noise_scaling(noise, level)
    cond, uncond = host.denoise(x, level, True)
    return to_d(x, uncond, level.sigma) - to_d(x, cond, level.sigma)


def cosine(a, b):
    return torch.cosine_similarity(a.flatten(1), b.flatten(1))


def test_noise_level_guidance_goes_toward_the_prompt_by_so_much_at_most(peers, host, monkeypatch):
    monkeypatch.setattr(peers, "JITTER", 0)
    noise = seed_noise(SEEDS)
    noise *= noise[0].numel() ** 0.5 / peers.norm(noise)
    result = peers.noise_level_guidance(noise, host, 1)
    assert host.evaluations == 2
    assert (cosine(result - noise, direction(host, noise)) > 0.98).all()
    # 0.5 of a norm of 128, unless the direction itself is smaller.
    shifts = (result - noise).flatten(1).norm(dim=1) / 768**0.5
    assert (shifts < 0.5 / 128 * 1.01).all()
    again = peers.noise_level_guidance(noise, host, 3)
    torch.testing.assert_close(again.flatten(1).norm(dim=1), torch.full((4,), 768**0.5))
    assert ((again - noise).flatten(1).norm(dim=1) > (result - noise).flatten(1).norm(dim=1)).all()


def test_its_jitter_is_of_the_seed(peers, host, monkeypatch):
    noise = seed_noise(SEEDS)
    with_it = peers.noise_level_guidance(noise, host, 1)
    torch.testing.assert_close(with_it, peers.noise_level_guidance(noise, host, 1), atol=0, rtol=0)
    monkeypatch.setattr(peers, "JITTER", 0)
    rms = (with_it - peers.noise_level_guidance(noise, host, 1)).square().mean().sqrt()
    assert rms.item() == pytest.approx(0.001, rel=0.1)


def test_redenoising_with_one_scale_is_nearly_nothing_and_else_goes_toward_the_prompt(peers, host):
    noise = seed_noise(SEEDS)
    result = peers.redenoise(noise, host, 20)
    assert host.evaluations == 3
    assert (cosine(result - noise, direction(host, noise)) > 0.8).all()
    same = peers.redenoise(noise, host, 200, scale=1.0)
    assert (same - noise).square().mean() < 0.05 * (result - noise).square().mean()


def test_the_node_adds_the_image_of_a_whole_generation(peers, host):
    noise = seed_noise(SEEDS)
    result = peers.node(noise, host, 10)
    assert host.evaluations == 20
    mixed = erase(noise, 8.0, lambda index: seed_noise([derive_seed(seed, index) for seed in SEEDS]))
    predictions = []

    def keep(step, total, denoised):
        if step in (0, 2, 4, 7, 9):
            predictions.append(denoised)

    host.model.sample(mixed, host.tokens, host.uncond_tokens, 3.0, 10, keep)
    delta = {"epsilon": 0.8, "flow": 0.48}[host.model.kind]
    image = result * (1 + delta**2) ** 0.5 - peers.standard(mixed)
    assert image.flatten(1).mean(1).tolist() == pytest.approx([0] * 4, abs=1e-5)
    assert image.flatten(1).std(1).tolist() == pytest.approx([delta] * 4, rel=1e-3)
    torch.testing.assert_close(image / delta, peers.standard(sum(predictions)), atol=1e-3, rtol=0)

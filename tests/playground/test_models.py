from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lib_noiseorder.playground.evaluate import evaluate
from lib_noiseorder.playground.models import (
    NETWORKS,
    WEIGHTS,
    PlaygroundModel,
    sigma_table,
    sigma_to_timestep,
    timestep_to_sigma,
)
from lib_noiseorder.playground.scenes import check, encode, null_tokens, random_scenes, render
from lib_noiseorder.playground.train import loss_of, save

NAMES = ("unet", "dit")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    # The tensors are small: on a busy machine threads wait for each other far longer than they work.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> PlaygroundModel:
    return PlaygroundModel.load(request.param)


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tokens() -> torch.Tensor:
    return encode(random_scenes(3, torch.Generator().manual_seed(1)))


def test_kinds_and_unknown_names() -> None:
    assert {name: PlaygroundModel.load(name).kind for name in NAMES} == {"unet": "epsilon", "dit": "flow"}
    with pytest.raises(ValueError, match=r"'sdxl'; allowed: unet, dit"):
        PlaygroundModel.load("sdxl")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_are_small_half_precision_and_finite(name: str) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size < 8 * 2**20
    for value in load_file(path).values():
        assert value.dtype == torch.float16
        assert value.isfinite().all()


def test_schedule_is_that_of_stable_diffusion() -> None:
    sigmas = sigma_table()
    assert len(sigmas) == 1000
    assert sigmas[-1].item() == pytest.approx(14.6146, abs=1e-3)
    assert sigmas[0].item() == pytest.approx(0.0292, abs=1e-3)
    timesteps = torch.tensor([0.0, 0.5, 17.25, 500.0, 998.75, 999.0], dtype=torch.float64)
    assert torch.allclose(sigma_to_timestep(timestep_to_sigma(timesteps)), timesteps)
    assert torch.allclose(timestep_to_sigma(torch.arange(1000.0)).double(), sigmas, rtol=1e-5)


def test_sigma_at(model: PlaygroundModel) -> None:
    sigmas = [model.sigma_at(fraction) for fraction in (0.0, 0.25, 0.5, 1.0)]
    if model.kind == "flow":
        assert sigmas == [0.0, 0.25, 0.5, 1.0]
    else:
        assert sigmas == [sigma_table()[timestep].item() for timestep in (0, 250, 500, 999)]
    for fraction in (-0.01, 1.01):
        with pytest.raises(ValueError, match="outside"):
            model.sigma_at(fraction)


def test_denoised_follows_from_the_networks_own_prediction(
    model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor
) -> None:
    sigma = model.sigma_at(0.7)
    x = model.place(noise, sigma)
    if model.kind == "flow":
        assert torch.equal(x, noise)
        prediction = model.network(noise, torch.full((3,), sigma), tokens)
    else:
        prediction = model.network(noise, torch.full((3,), 699.0), tokens)
    denoised = model.denoise(x, sigma, tokens)
    assert torch.allclose((x - denoised) / sigma, prediction, atol=2e-4)
    each = torch.full((3,), sigma)
    assert torch.allclose(model.denoise(x, each, tokens), denoised, atol=1e-5)


def test_a_slightly_noisy_scene_is_cleaned(model: PlaygroundModel, noise: torch.Tensor) -> None:
    scenes = random_scenes(3, torch.Generator().manual_seed(1))
    images = render(scenes, torch.Generator().manual_seed(2))
    sigma = model.sigma_at(0.2)
    x = (1 - sigma) * images + sigma * noise if model.kind == "flow" else images + sigma * noise
    before = (x - images).square().mean()
    assert (model.denoise(x, sigma, encode(scenes)) - images).square().mean() < before / 5


@pytest.mark.parametrize("cfg_scale", [1.0, 3.0])
def test_an_image_does_not_know_its_batch(
    model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor, cfg_scale: float
) -> None:
    together = model.sample(noise, tokens, null_tokens(3), cfg_scale, 4)
    for k in range(3):
        alone = model.sample(noise[k : k + 1], tokens[k : k + 1], null_tokens(1), cfg_scale, 4)
        assert torch.allclose(together[k : k + 1], alone, atol=1e-3)
    assert torch.equal(model.sample(noise, tokens, null_tokens(3), cfg_scale, 4), together)


def test_sampler_is_ddim_or_euler(model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor) -> None:
    x, steps = noise.double(), 3
    for step in range(steps):
        here, there = 1 - step / steps, 1 - (step + 1) / steps
        if model.kind == "flow":
            velocity = model.network(x.float(), torch.full((3,), here), tokens).double()
            x = x + (there - here) * velocity
            continue
        timesteps = round(999 * here), round(999 * there)
        abar, abar_next = (1 / (1 + sigma_table()[timestep] ** 2) for timestep in timesteps)
        if step == steps - 1:
            abar_next = torch.ones(())
        epsilon = model.network(x.float(), torch.full((3,), float(timesteps[0])), tokens).double()
        x0 = (x - (1 - abar).sqrt() * epsilon) / abar.sqrt()
        x = abar_next.sqrt() * x0 + (1 - abar_next).sqrt() * epsilon
    assert torch.allclose(model.sample(noise, tokens, None, 1.0, steps).double(), x, atol=1e-2)


def test_evaluations_and_callback(model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor) -> None:
    seen: list[tuple[int, int, torch.Tensor]] = []
    before = model.evaluations
    images = model.sample(noise, tokens, None, 1.0, 2, lambda *values: seen.append(values))
    assert model.evaluations - before == 2 * 3
    assert [values[:2] for values in seen] == [(0, 2), (1, 2)]
    assert torch.allclose(seen[-1][2], images, atol=1e-4)
    model.sample(noise, tokens, null_tokens(3), 2.0, 2)
    assert model.evaluations - before == 2 * 3 + 2 * 2 * 3


def test_guidance_extrapolates_and_needs_an_unconditional(
    model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor
) -> None:
    sigma = model.sigma_at(1.0)
    x = model.place(noise, sigma)
    cond, uncond = model.denoise(x, sigma, tokens), model.denoise(x, sigma, null_tokens(3))
    guided = model.guided(x, sigma, tokens, null_tokens(3), 3.0)
    assert torch.allclose(guided, uncond + 3 * (cond - uncond), atol=1e-3)
    assert not torch.allclose(guided, cond, atol=0.05)
    with pytest.raises(ValueError, match="CFG scale 3"):
        model.sample(noise, tokens, None, 3.0, 2)
    with pytest.raises(ValueError, match="at least 1"):
        model.sample(noise, tokens, None, 1.0, 0)


def test_quality_floor(model: PlaygroundModel) -> None:
    results = evaluate(model, count=64, seed=3, cfg_scale=3.0)
    assert sum(result.objects for result in results) >= 0.6 * 64
    assert sum(result.both for result in results) >= 0.55 * 64
    scenes = random_scenes(32, torch.Generator().manual_seed(3))
    noise = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    captionless = model.sample(noise, null_tokens(32), None, 1.0, 10)
    assert sum(result.both for result in check(captionless, scenes)) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_training_loss_reaches_the_layers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    scenes = random_scenes(4, torch.Generator().manual_seed(1))
    images = render(scenes, torch.Generator().manual_seed(2))
    losses = loss_of(network, images, encode(scenes), torch.tensor([0.01, 0.3, 0.7, 0.999]))
    assert losses.shape == (4,)
    assert losses.isfinite().all()
    losses.mean().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    save(network, tmp_path / "x.safetensors")
    NETWORKS[name]().load_state_dict(load_file(tmp_path / "x.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]

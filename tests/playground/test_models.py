from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lib_noiseorder.core import Modulation, modulate
from lib_noiseorder.playground.evaluate import evaluate, spread
from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise
from lib_noiseorder.playground.models import (
    MODELS,
    WEIGHTS,
    PlaygroundModel,
    sigma_table,
    sigma_to_timestep,
    timestep_to_sigma,
)
from lib_noiseorder.playground.train import BATCH, RECIPES, TEACHER_STEPS, Recipe, distilling_loss, loss_of, save, train
from lib_noiseorder.presets import FAMILIES

NAMES = tuple(MODELS)
FLOORS = {"unet": (0.6, 0.55), "dit": (0.6, 0.55), "clutter-dit": (0.6, 0.55)}
"""Shares of right objects, and of all right, that a test of 64 images must reach; for the others see below."""
ORDINARY = tuple(name for name in NAMES if MODELS[name].distilled is None)


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
def tokens(model: PlaygroundModel) -> torch.Tensor:
    return model.world.encode(model.world.random_scenes(3, torch.Generator().manual_seed(1)))


@pytest.fixture
def uncond(model: PlaygroundModel) -> torch.Tensor:
    return model.world.null_tokens(3)


def test_kinds_and_unknown_names() -> None:
    for name in NAMES:
        assert PlaygroundModel.load(name).kind == ("epsilon" if "unet" in name else "flow")
    with pytest.raises(ValueError, match=r"'sdxl'; allowed: unet, dit"):
        PlaygroundModel.load("sdxl")


def test_every_model_has_weights_a_recipe_and_a_family() -> None:
    assert {path.stem for path in WEIGHTS.glob("*.safetensors")} == set(NAMES) == set(RECIPES)
    for name, description in MODELS.items():
        assert description.family in FAMILIES
        assert (description.distilled is None) == (RECIPES[name].teacher is None) == (description.family != "distilled")
    assert len({description.words for description in MODELS.values()}) == len(NAMES)
    assert len({id(description.world) for description in MODELS.values()}) == 2


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
    x = model.noise_scaling(noise, sigma)
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
    scenes = model.world.random_scenes(3, torch.Generator().manual_seed(1))
    images = model.world.render(scenes, torch.Generator().manual_seed(2))
    sigma = model.sigma_at(0.2)
    x = (1 - sigma) * images + sigma * noise if model.kind == "flow" else images + sigma * noise
    before = (x - images).square().mean()
    assert (model.denoise(x, sigma, model.world.encode(scenes)) - images).square().mean() < before / 5


@pytest.mark.parametrize("cfg_scale", [1.0, 3.0])
def test_an_image_does_not_know_its_batch(
    model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor, uncond: torch.Tensor, cfg_scale: float
) -> None:
    if not model.has_uncond:
        cfg_scale = 1.0
    together = model.sample(noise, tokens, uncond, cfg_scale, 4)
    for k in range(3):
        alone = model.sample(noise[k : k + 1], tokens[k : k + 1], uncond[:1], cfg_scale, 4)
        assert torch.allclose(together[k : k + 1], alone, atol=1e-3)
    assert torch.equal(model.sample(noise, tokens, uncond, cfg_scale, 4), together)


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


def test_evaluations_and_callback(
    model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor, uncond: torch.Tensor
) -> None:
    calls: list[tuple[int, int, torch.Tensor]] = []
    before = model.evaluations
    images = model.sample(noise, tokens, None, 1.0, 2, lambda *values: calls.append(values))
    assert model.evaluations - before == 2 * 3
    assert [values[:2] for values in calls] == [(0, 2), (1, 2)]
    assert torch.allclose(calls[-1][2], images, atol=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        model.sample(noise, tokens, None, 1.0, 0)
    if model.has_uncond:
        model.sample(noise, tokens, uncond, 2.0, 2)
        assert model.evaluations - before == 2 * 3 + 2 * 2 * 3


def test_guidance_extrapolates_and_needs_an_unconditional(
    model: PlaygroundModel, noise: torch.Tensor, tokens: torch.Tensor, uncond: torch.Tensor
) -> None:
    sigma = model.sigma_at(1.0)
    x = model.noise_scaling(noise, sigma)
    if not model.has_uncond:
        with pytest.raises(ValueError, match=f"CFG scale 3.0 with '{model.name}', whose guidance is baked in; use CFG"):
            model.guide(x, sigma, tokens, uncond, 3.0)
        return
    cond, without = model.denoise(x, sigma, tokens), model.denoise(x, sigma, uncond)
    guided = model.guide(x, sigma, tokens, uncond, 3.0)
    assert torch.allclose(guided, without + 3 * (cond - without), atol=1e-3)
    assert not torch.allclose(guided, cond, atol=0.05)
    with pytest.raises(ValueError, match="CFG scale 3"):
        model.sample(noise, tokens, None, 3.0, 2)


@pytest.mark.slow
def test_quality_floor(model: PlaygroundModel) -> None:
    distilled = MODELS[model.name].distilled
    results = evaluate(model, count=64, seed=3, cfg_scale=1.0 if distilled else 3.0, steps=distilled or 10)
    objects, both = FLOORS.get(model.name, (0.5, 0.45))
    assert sum(result.objects for result in results) >= objects * 64
    assert sum(result.both for result in results) >= both * 64
    if distilled:
        return
    scenes = model.world.random_scenes(32, torch.Generator().manual_seed(3))
    noise = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    captionless = model.sample(noise, model.world.null_tokens(32), None, 1.0, 10)
    assert sum(result.both for result in model.world.check(captionless, scenes)) <= 2


def test_the_host_asks_without_a_prompt_only_where_the_model_can(
    model: PlaygroundModel, tokens: torch.Tensor, uncond: torch.Tensor
) -> None:
    host = PlaygroundDenoiser(model, (1, 2, 3), tokens, uncond, 1.0)
    assert host.has_uncond == model.has_uncond == (MODELS[model.name].distilled is None)
    noise, report = modulate(seed_noise(host.seeds), Modulation(erase=4.0, inject=0.05), host)
    assert noise.isfinite().all()
    assert report.evaluations == (2 if host.has_uncond else 1)
    assert bool(report.notes) != host.has_uncond


def test_spread_is_the_mean_distance_of_images_of_one_prompt() -> None:
    model = PlaygroundModel.load("dit")
    result = spread(model, 3, 2, 5, 1.0, 2)
    generator = torch.Generator().manual_seed(5)
    scenes = model.world.random_scenes(3, generator)
    noise = torch.randn(6, 3, 16, 16, generator=generator)
    tokens = model.world.encode([scene for scene in scenes for _ in range(2)])
    pairs = model.sample(noise, tokens, None, 1.0, 2).unflatten(0, (3, 2))
    distances = (pairs[:, 0] - pairs[:, 1]).square().mean((1, 2, 3)).sqrt()
    assert torch.allclose(result, distances, atol=1e-4)


@pytest.mark.parametrize("name", ORDINARY)
def test_training_loss_reaches_the_layers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, world = MODELS[name].network(), MODELS[name].world
    scenes = world.random_scenes(4, torch.Generator().manual_seed(1))
    images = world.render(scenes, torch.Generator().manual_seed(2))
    losses = loss_of(network, images, world.encode(scenes), torch.tensor([0.01, 0.3, 0.7, 0.999]))
    assert losses.shape == (4,)
    assert losses.isfinite().all()
    losses.mean().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    save(network, tmp_path / "x.safetensors")
    MODELS[name].network().load_state_dict(load_file(tmp_path / "x.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.slow
def test_training_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_noiseorder.playground.train.BATCH", 2)
    monkeypatch.setattr("lib_noiseorder.playground.train.SAVE_EVERY", -1.0)
    recipe = Recipe(seed=3, steps=4, schedule=4)
    train("dit", recipe, tmp_path / "whole.safetensors", "cpu")
    assert not (tmp_path / "whole.state").exists()

    target = tmp_path / "parted.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("lib_noiseorder.playground.train.Path.unlink", lambda *args, **kwargs: None)
        train("dit", dataclasses.replace(recipe, steps=2), target, "cpu")
    halfway = load_file(target)
    train("dit", recipe, target, "cpu")
    whole, joined = load_file(tmp_path / "whole.safetensors"), load_file(target)
    assert any(not torch.equal(halfway[name], whole[name]) for name in whole)
    assert all(torch.equal(joined[name], whole[name]) for name in whole)


def test_distilling_asks_the_teacher_for_its_guided_way() -> None:
    teacher = PlaygroundModel.load("dit")
    world = teacher.world
    scenes = world.random_scenes(BATCH, torch.Generator().manual_seed(1))
    images, tokens = world.render(scenes, torch.Generator().manual_seed(2)), world.encode(scenes)
    inputs: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Student(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            inputs.append((x, time))
            return torch.zeros_like(x)

    torch.manual_seed(7)
    losses, start = distilling_loss(Student(), teacher, images, tokens, 4)  # type: ignore[arg-type]
    (x, time), *_ = inputs
    assert torch.equal(time, start)
    assert 0.5 * BATCH < torch.isin(start, torch.tensor([0.25, 0.5, 0.75, 1.0])).sum() < 0.95 * BATCH
    for k in range(0, BATCH, 12):
        end, moved = max(0.0, start[k].item() - 0.25), x[k : k + 1]
        levels = torch.linspace(start[k].item(), end, TEACHER_STEPS + 1).tolist()
        for here, there in pairwise(levels):
            denoised = teacher.guide(moved, here, tokens[k : k + 1], world.null_tokens(1), 3.0)
            moved = moved + (moved - denoised) / here * (there - here)
        velocity = (x[k : k + 1] - moved) / (start[k].item() - end)
        assert losses[k].item() == pytest.approx(velocity.square().mean().item(), rel=1e-3)

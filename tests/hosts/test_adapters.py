"""The adapters by themselves: what they take from the host's processing object, and what they leave of it."""

from __future__ import annotations

import math
import sys
import types

import fakes
import pytest
import torch
from fakes import A1111, Composable, Multicond, Sampler, Scheduled, encode, multicond
from test_batches import job


def adapter(host, latent=None, seeds=(1,), prompt="a", uc="there", **settings):
    """The host's adapter for one batch; settings are those of the processing object."""
    seeds = list(seeds)
    attributes = {name: settings.pop(name) for name in list(settings) if not hasattr(host.processing, name)}
    p = host.processing([prompt] * len(seeds), [""] * len(seeds), seeds, **settings)
    vars(p).update(attributes)
    p.sd_model, p.sampler, p.modified_noise = host.model(p), Sampler(host.network), attributes.get("modified_noise")
    noise = host.draw(host.shape, seeds)
    latent = None if latent is None else torch.full_like(noise, latent)
    return host.loaded.session.adapter(p, noise, multicond(p.prompts), host.uncond(p) if uc == "there" else uc, latent)


def test_the_first_pass_of_txt2img(host):
    batch = adapter(host, seeds=[3, 4], nmask=torch.ones(1), initial_noise_multiplier=0.5, cfg_scale=6)
    assert (batch.is_hires, batch.stage, batch.seeds, batch.cfg_scale) == (False, "", [3, 4], 6.0)
    assert (batch.mask, batch.latent, batch.noise_scale) == (None, None, 1.0)
    assert (batch.evaluations, batch.has_uncond) == (0, True)
    assert not adapter(host, uc=None).has_uncond


def test_img2img(host):
    mask = torch.ones(1)
    batch = adapter(host, latent=0.3, nmask=mask, initial_noise_multiplier=0.5)
    assert (batch.stage, batch.noise_scale) == ("", 0.5)
    assert batch.mask is mask
    assert adapter(host, latent=0.3).noise_scale == 1.0
    assert adapter(host, latent=0.3).mask is None


def test_the_hires_pass(host):
    """It has neither the mask nor the multiplier of img2img, whatever stands on the processing object."""
    batch = adapter(host, latent=0.3, nmask=torch.ones(1), initial_noise_multiplier=0.5, is_hr_pass=True)
    assert (batch.is_hires, batch.stage, batch.mask, batch.noise_scale) == (True, "hires", None, 1.0)
    assert batch.cfg_scale == (5.0 if isinstance(host, A1111) else 3.0)


def test_fresh_noise_is_the_hosts_own_for_these_seeds(host):
    batch = adapter(host, seeds=[1, 2], latent=0.3, initial_noise_multiplier=0.5)
    for seeds in ([7, 8], [9]):
        expected = [torch.randn(host.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        assert torch.equal(batch.fresh_noise(seeds), 0.5 * torch.stack(expected))


def test_the_page_is_told_while_the_model_is_made_ready_and_all_is_put_back(host):
    state = host.state
    state.current_latent = latent = object()
    with adapter(host).predicting(5):
        told = (state.textinfo, state.sampling_step, state.sampling_steps)
        assert told == ("Noise Order: evaluating the model", 0, 10)
        state.current_latent, state.sampling_step, state.textinfo = None, 3, "other"
    assert (state.textinfo, state.sampling_step, state.sampling_steps) == ("before", 4, 9)
    assert state.current_latent is latent


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 10),
        ({"is_hr_pass": True, "latent": 0.3}, 10),
        ({"is_hr_pass": True, "latent": 0.3, "hr_second_pass_steps": 7}, 7),
        ({"hr_second_pass_steps": 7}, 10),
    ],
)
def test_meanwhile_the_steps_are_those_of_the_pass(host, settings, steps):
    """Other extensions reckon their windows by them, and schedules of LoRA weights divide by their number."""
    with adapter(host, **settings).predicting(1):
        assert (host.state.sampling_step, host.state.sampling_steps) == (0, steps)


@pytest.mark.parametrize("strength", [0.5, 0.75, 1.0])
def test_meanwhile_the_steps_of_img2img_are_those_that_run(host, strength):
    batch = adapter(host, latent=0.3, denoising_strength=strength)
    run = host.setup_img2img_steps(batch.p)[1] + batch.extra_steps
    with batch.predicting(1):
        assert (host.state.sampling_step, host.state.sampling_steps) == (0, run)


@torch.no_grad()
def test_a_second_question_counts_anew(host):
    batch, states = adapter(host), []
    host.network.before = lambda: states.append((host.state.textinfo, host.state.sampling_step))
    for _ in range(2):
        with batch.predicting(2):
            for fraction in (1.0, 0.5):
                level = batch.level(fraction)
                batch.denoise(batch.noise_scaling(batch.noise, level), level, False)
    assert states == [("Noise Order: evaluating the model 1/2", 0), ("Noise Order: evaluating the model 2/2", 0)] * 2
    assert batch.evaluations == 4


def test_a_preview_shows_the_first_frame(host):
    calls = []
    host.loaded.session.adapter.preview.__globals__["sd_samplers_common"].single_sample_to_image = lambda *call: (
        calls.append(call)
    )
    one, frames = torch.randn(4, 8, 8), torch.randn(4, 3, 8, 8)
    host.loaded.session.adapter.preview(one)
    host.loaded.session.adapter.preview(frames)
    assert [kind for _, kind in calls] == [2, 2]
    assert torch.equal(calls[0][0], one)
    assert torch.equal(calls[1][0], frames[:, 0])


@pytest.mark.parametrize(("fraction", "index"), [(1.0, 999), (0.5, 500), (0.05, 50), (0.0004, 0)])
def test_levels_of_txt2img_are_positions_in_the_whole_table(host, fraction, index):
    level = adapter(host).level(fraction)
    assert level.fraction == fraction
    assert level.sigma == host.sigmas[index].item()


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 1), (0.5, 2), (0.75, 20), (1.0, 10)])
def test_levels_of_img2img_begin_where_the_sampler_does(host, strength, steps):
    batch = adapter(host, latent=0.3, steps=steps, denoising_strength=strength)
    all_steps, t_enc = host.setup_img2img_steps(batch.p)
    run = t_enc + batch.extra_steps
    first = batch.p.sampler.get_sigmas(batch.p, all_steps)[all_steps - run]
    assert batch.level(1.0).sigma == pytest.approx(first.item())


@pytest.mark.parametrize(("begins", "index"), [(0, 0), (501, 501), (999, 999), (1000, 999), (5000, 999)])
def test_timesteps_are_positions_in_the_table_and_end_with_it(host, begins, index):
    batch = adapter(host, latent=0.3)
    batch.p.sampler = types.SimpleNamespace(get_timesteps=lambda p, steps: torch.full((steps,), begins))
    assert batch.schedule.start == index


def timesteps(p, steps):
    """As A1111, the Forges and reForge space DDIM's: more where the steps do not divide 1000."""
    return torch.clip(torch.arange(0, 1000, 1000 // steps) + 1, 0, 999)


@pytest.mark.parametrize(("steps", "run"), [(20, 20), (30, 31), (7, 8)])
def test_txt2img_runs_every_timestep_there_is(host, steps, run):
    batch = adapter(host, steps=steps)
    batch.p.sampler = types.SimpleNamespace(get_timesteps=timesteps)
    found = batch.schedule.indices
    assert len(found) == run
    assert batch.schedule.told == steps
    assert found == tuple(timesteps(batch.p, steps).flip(0).tolist())
    assert batch.schedule.preview_steps(0.75, sketch=True) == next(k + 1 for k, t in enumerate(found) if t < 0.65 * 999)


def test_around_an_image_the_noise_is_that_of_a_timestep_more_than_is_run(host):
    """As the hosts' `sample_img2img` goes; ersatzForge's noise is that of its first step."""
    batch = adapter(host, latent=0.3, steps=20, denoising_strength=0.75)
    batch.p.sampler = types.SimpleNamespace(get_timesteps=timesteps)
    all_steps, t_enc = host.setup_img2img_steps(batch.p)
    every = timesteps(batch.p, all_steps).tolist()
    assert batch.schedule.indices == tuple(reversed(every[:t_enc]))
    assert batch.schedule.start == every[t_enc - 1 + batch.extra_steps]
    assert batch.schedule.told == t_enc + batch.extra_steps
    below = [t < 0.75 * batch.schedule.start for t in reversed(every[:t_enc])]
    assert batch.schedule.preview_steps(0.75) == below.index(True) + 1


def test_where_the_hosts_run_no_timestep_there_is_one_to_preview(host):
    """DDIM, 20 steps, strength 0.04: the image is decoded with its noise."""
    batch = adapter(host, latent=0.3, steps=20, denoising_strength=0.04)
    batch.p.sampler = types.SimpleNamespace(get_timesteps=timesteps)
    if host.setup_img2img_steps(batch.p)[1] > 0:
        return  # ersatzForge runs the steps that were asked for
    assert batch.schedule.indices == (1,)
    assert batch.schedule.preview_steps(0.75) == 1


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_writing_keeps_what_another_extension_added(host, noise):
    batch = adapter(host)
    original = batch.noise
    batch.p.modified_noise = original + 0.25
    batch.write(torch.full_like(original, noise))
    assert torch.equal(original, torch.full_like(original, noise))
    torch.testing.assert_close(batch.p.modified_noise, torch.full_like(original, noise + 0.25))
    batch.p.modified_noise = None
    batch.write(torch.ones_like(original))
    assert torch.equal(original, torch.ones_like(original))
    assert batch.p.modified_noise is None


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_where_a_noise_is_placed(host, fraction):
    batch = adapter(host)
    level = batch.level(fraction)
    scale = 1.0 if host.kind == "const" else math.sqrt(1 + level.sigma**2)
    torch.testing.assert_close(batch.noise_scaling(batch.noise, level), batch.noise * scale)
    batch = adapter(host, latent=0.3)
    s = level.sigma
    expected = (1 - s) * 0.3 + s * batch.noise if host.kind == "const" else 0.3 + s * batch.noise
    torch.testing.assert_close(batch.noise_scaling(batch.noise, level), expected)


def edited(first, second):
    """A prompt that changes after the very first step."""
    return [Scheduled(0, encode(first)), Scheduled(4, encode(second))]


def test_prompts_are_those_of_the_first_step(host, monkeypatch):
    settings = {"inject": 0.05, "erase": 1}
    plain = host.txt2img(settings, prompts=["red"], negative=["grey"])
    monkeypatch.setattr(fakes, "multicond", lambda *_: Multicond([[Composable(edited("red", "blue"))]]))
    monkeypatch.setattr(host, "uncond", lambda p: [edited("grey", "green")])
    assert torch.equal(host.txt2img(settings).noise, plain.noise)


@pytest.mark.parametrize("direction", ["denoised", "guidance"])
@pytest.mark.parametrize("weight", [2, 0.5, 0.0005, -1])
def test_a_single_prompt_with_a_weight(host, direction, weight, monkeypatch):
    """It counts in guidance alone: the mean of one prompt is that prompt."""
    a, u = encode("a cat").item(), encode("").item()
    mixed = a if direction == "denoised" else u + weight * (a - u)
    settings = {"direction": direction, "normalisation": "as printed", "inject": 0.5}
    result = host.txt2img(settings, prompts=[f"a cat :{weight}"])
    assert "Noise Order error" not in result.infotext
    monkeypatch.setattr(
        fakes, "multicond", lambda *_: Multicond([[Composable([Scheduled(4, torch.tensor([[mixed]]))])]])
    )
    torch.testing.assert_close(result.noise, host.txt2img(settings).noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", [(1, 2), (2, 1), (1, 0), (0, 1)])
def test_every_image_has_its_own_weight(a1111, weights):
    batch = {"seeds": [1, 2], "prompts": [f"a cat :{weight}" for weight in weights], "negative": ["bad", ""]}
    settings = {"normalisation": "as printed", "inject": 0.5}
    both = a1111.txt2img(settings, **batch)
    for k in range(2):
        alone = {name: values[k : k + 1] for name, values in batch.items()}
        torch.testing.assert_close(both.noise[k : k + 1], a1111.txt2img(settings, **alone).noise)
    nothing = [torch.equal(noise, untouched) for noise, untouched in zip(both.noise, both.untouched, strict=True)]
    assert nothing == [False, False], "erased, whatever is injected"
    turned = a1111.txt2img({**settings, "erase": 1}, **batch)
    same = [torch.allclose(a, b / math.sqrt(1.25)) for a, b in zip(turned.noise, turned.untouched, strict=True)]
    assert same == [weight == 0 for weight in weights], "with the weight 0 the prompt is the negative prompt"


@pytest.mark.parametrize(("weight", "cancels"), [(-0.9985, False), (-0.9993, True), (-1, True), (-1.0015, False)])
def test_weights_cancel_out_where_their_sum_is_next_to_nothing(host, weight, cancels):
    result = host.txt2img({"inject": 0.05, "direction": "denoised"}, prompts=[f"a cat AND a dog :{weight}"])
    assert ("cancel out" in result.infotext.get("Noise Order error", "")) is cancels


def test_modifiers_are_told_the_seed_of_the_first_image(patcher_host):
    seeds = []

    def modifier(model, x, sigma, uncond, cond, scale, options, seed):
        seeds.append(seed)
        return model, x, sigma, uncond, cond, scale, options, seed

    patcher_host.options["conditioning_modifiers"] = [modifier]
    patcher_host.txt2img(True, 4.0, 0.05, seeds=[5, 6, 7], prompts=["a"] * 3, negative=[""] * 3)
    assert seeds == [5]


@pytest.mark.parametrize("is_img2img", [False, True])
@pytest.mark.parametrize("direction", ["denoised", "guidance"])
def test_inpainting_models_get_one_mask_for_every_image(inpainting_host, is_img2img, direction):
    inpainting_host.conditioning_key = "hybrid"
    inpainting_host.script.is_img2img = is_img2img
    many = {"seeds": [1, 2, 3], "prompts": ["a"] * 3, "negative": [""] * 3}
    result = inpainting_host.txt2img(
        {"inject": 0.05, "direction": direction}, image_conditioning=torch.zeros(1, 5, 8, 8), **many
    )
    assert not torch.equal(result.noise, result.untouched)
    assert (result.errors, result.comments) == ([], [])


@pytest.mark.parametrize("module", ["backend", "modules_forge"])
def test_half_of_what_tells_a_forge_is_no_forge(monkeypatch, module):
    class Other(A1111):
        def install(self):
            super().install()
            self.module(module, __path__=[])

    assert Other(monkeypatch).loaded.session.adapter.name == "AUTOMATIC1111"


def test_the_multiplier_of_img2img_has_no_say_in_txt2img_and_its_hires_pass(host):
    settings = {"passes": "both", "inject": 0}
    one, other = (job(host, settings, hires=True, seeds=[1], initial_noise_multiplier=m) for m in (None, 0.5))
    for a, b in zip(one.noises, other.noises, strict=True):
        assert torch.equal(a, b)


def test_the_denoiser_of_sd3_is_the_model_s_own(monkeypatch):
    """k-diffusion's is of another schedule."""
    from fakes import A1111SD3

    host = A1111SD3(monkeypatch)

    def refuse(*arguments, **settings):
        raise AssertionError("not for a flow")

    monkeypatch.setattr(sys.modules["k_diffusion.external"], "CompVisDenoiser", refuse)
    result = host.txt2img({"inject": 0.05})
    assert "Noise Order error" not in result.infotext
    assert not torch.equal(result.noise, result.untouched)

"""The script in the hosts: what a generation sees of it."""

from __future__ import annotations

import functools
import math
import sys
import types

import fakes
import pytest
import torch
from fakes import A1111, Composable, Forge, Multicond, Neo, Processing, Scheduled, encode

ON = {"enabled": True, "inject": 0.05}


def changed(result):
    return not torch.equal(result.noise, result.untouched)


@pytest.mark.parametrize(
    "args", [(), (False, 8.0), (True, 1.0, 0.0), ({"enabled": False, "erase": 99},), ({"erase": 1, "inject": 0},)]
)
def test_off_is_absent(host, args):
    result = host.txt2img(*args)
    assert not changed(result)
    assert host.network.calls == 0
    assert result.infotext == {}
    assert (result.comments, result.errors) == ([], [])


def test_on_changes_the_noise_and_tells_all_of_it_before_sampling(host):
    result = host.txt2img(True, 4.0, 0.05)
    assert changed(result)
    assert result.errors == []
    assert result.params_txt == result.infotext
    assert result.infotext == {
        "Noise Order": "1",
        "Noise Order erase": "4",
        "Noise Order inject": "0.05",
        "Noise Order direction": "guidance",
        "Noise Order levels": "1",
        "Noise Order first level": "0.9",
        "Noise Order normalisation": "orthonormal",
        "Noise Order variant": "0",
    }


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"inject": 0.05, "direction": "guidance", "levels": 1}, 2),
        ({"inject": 0.05, "direction": "guidance", "levels": 3}, 6),
        ({"inject": 0.05, "direction": "look-ahead", "levels": 3}, 6),
        ({"inject": 0.05, "direction": "self-correction", "levels": 3}, 4),
        ({"inject": 0.05, "direction": "denoised", "levels": 3}, 3),
        ({"inject": 0.05, "direction": "noise", "levels": 3, "normalisation": "as printed"}, 3),
        ({"inject": 0}, 0),
    ],
)
def test_evaluations_are_exactly_what_was_promised(host, settings, rows):
    result = host.txt2img({**ON, **settings}, seeds=[1, 2], prompts=["a cat", "a dog"], negative=["", ""])
    assert changed(result)
    assert host.network.rows == 2 * rows


def test_the_network_is_fed_the_erased_noise_itself(host):
    result = host.txt2img({**ON, "erase": 1, "direction": "denoised", "levels": 2, "first_level": 1.0})
    for x, sigma, _ in host.network.inputs:
        scale = 1 if host.kind == "const" else math.sqrt(1 + sigma.item() ** 2)
        torch.testing.assert_close(x / scale, result.untouched, rtol=1e-6, atol=1e-6)
    top = host.network.inputs[0][1].item()
    assert top == pytest.approx(1.0 if host.kind == "const" else math.exp(2.68))


def test_same_request_twice_is_the_same_noise(host):
    first, second = (host.txt2img(True, 4.0, 0.05) for _ in range(2))
    assert torch.equal(first.noise, second.noise)


def test_an_image_does_not_know_its_batch(host):
    seeds, prompts = [5, 6, 7], ["a cat", "a dog", "a tree"]
    batch = host.txt2img(True, 4.0, 0.05, seeds=seeds, prompts=prompts, negative=[""] * 3)
    for k in range(3):
        alone = host.txt2img(True, 4.0, 0.05, seeds=[seeds[k]], prompts=[prompts[k]])
        torch.testing.assert_close(batch.noise[k : k + 1], alone.noise, rtol=0, atol=1e-6)


def test_random_numbers_of_others_are_left_alone(host):
    torch.manual_seed(0)
    host.txt2img(False)
    expected = torch.get_rng_state()
    host.network.before = lambda: torch.rand(1)  # as token merging does
    host.txt2img(True, 4.0, 0.05)
    assert torch.equal(torch.get_rng_state(), expected)


def test_state_of_the_host_is_put_back(host):
    host.state.current_latent = latent = torch.zeros(1)
    states = []

    def disturb():
        states.append((host.state.textinfo, host.state.sampling_step, host.state.sampling_steps))
        host.state.current_latent = torch.ones(1)  # as a preview of what is asked would

    host.network.before = disturb
    host.txt2img({**ON, "direction": "denoised", "levels": 3})
    assert len(states) == 3
    for state in states:
        assert all(a != b for a, b in zip(state, ("before", 4, 9), strict=True)), "nothing there to be put back"
    assert (host.state.textinfo, host.state.sampling_step, host.state.sampling_steps) == ("before", 4, 9)
    assert host.state.current_latent is latent


@pytest.mark.parametrize(("direction", "total"), [("denoised", 3), ("look-ahead", 3), ("self-correction", 4)])
def test_text_and_bar_move_while_the_model_works(host, direction, total):
    states = []
    host.network.before = lambda: states.append(
        (host.state.textinfo, host.state.sampling_step, host.state.sampling_steps)
    )
    host.txt2img({**ON, "levels": 3, "direction": direction})
    # The bar stands at the beginning of the image's steps: LoRA schedules and windows divide by their number.
    expected = [(f"Noise Order: evaluating the model {k}/{total}", 0, 10) for k in range(1, total + 1)]
    assert sorted(set(states)) == expected


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), AssertionError()])
def test_a_failing_model_leaves_the_noise_and_an_honest_infotext(host, call, error):
    def fail():
        if host.network.calls == call:
            raise error

    host.network.before = fail
    result = host.txt2img({**ON, "levels": 2})
    assert not changed(result)
    assert list(result.infotext) == ["Noise Order error"]
    assert type(error).__name__ in result.infotext["Noise Order error"]
    assert type(error).__name__ in result.comments[0]
    assert (host.state.textinfo, host.state.sampling_step, host.state.sampling_steps) == ("before", 4, 9)
    host.network.before = lambda: None
    assert changed(host.txt2img(True, 4.0, 0.05))


def test_interruption_leaves_the_noise_and_raises_nothing(host):
    def interrupt():
        if host.network.calls == 1:
            host.state.interrupted = True

    host.network.before = interrupt
    result = host.txt2img({**ON, "levels": 4, "direction": "denoised"})
    assert host.network.calls == 2, "the evaluation under way ends, the next is not begun"
    assert not changed(result)
    assert "interrupted" in result.infotext["Noise Order error"]
    assert result.errors == []


def test_skipping_is_an_interruption(host):
    host.state.skipped = True
    assert not changed(host.txt2img(True, 4.0, 0.05))
    assert host.network.calls == 0


@pytest.mark.parametrize(
    ("settings", "field", "allowed"),
    [
        ({"inject": 0.05, "erase": 0.5}, "erase", "from 1 to 64"),
        ({"inject": 0.05, "erase": math.nan}, "erase", "from 1 to 64"),
        ({"inject": 0.05, "erase": "4"}, "erase", "from 1 to 64"),
        ({"inject": 0.05, "erase": None}, "erase", "from 1 to 64"),
        ({"inject": 1e6}, "inject", "from -1 to 1"),
        ({"inject": math.inf}, "inject", "from -1 to 1"),
        ({"inject": 0.05, "levels": 0}, "levels", "from 1 to 8"),
        ({"inject": 0.05, "levels": 2.5}, "levels", "a whole number"),
        ({"inject": 0.05, "levels": True}, "levels", "a whole number"),
        ({"inject": 0.05, "direction": "up"}, "direction", '"look-ahead"'),
        ({"inject": 0.05, "direction": 3}, "direction", '"look-ahead"'),
        ({"normalisation": ""}, "normalisation", '"as printed"'),
        ({"enabled": "true"}, "enabled", "true or false"),
        ({"enabled": 1}, "enabled", "true or false"),
        ({"first_level": 0}, "first_level", "from 0.05 to 1"),
        ({"layout": 0, "structure": 0, "detail": 0}, "Weights", "above 0"),
        ({"layout": 0, "detail": 0, "levels": 2}, "two key levels", "above 0"),
        ({"strength": 1}, "strength", "erase, inject"),
        ({"variant": [1]}, "variant", "a whole number"),
    ],
)
def test_a_bad_setting_is_named_and_the_image_is_made_without(host, settings, field, allowed, capsys):
    result = host.txt2img({**ON, **settings})
    assert not changed(result)
    assert host.network.calls == 0
    assert result.errors == []
    for message in (result.infotext["Noise Order error"], result.comments[0], capsys.readouterr().out):
        assert field in message
        assert allowed in message
    assert len(result.infotext) == 1


def test_positional_arguments_are_checked_as_well(host):
    assert "levels" in host.txt2img(True, 4.0, 0.05, "guidance", 0).infotext["Noise Order error"]


@pytest.mark.parametrize(("prompts", "negative"), [(["a"], ["", "", ""]), (["a", "b", "c"], ["", ""])])
def test_a_prompt_list_shorter_than_the_batch_is_refused(host, prompts, negative):
    result = host.txt2img(True, 4.0, 0.05, prompts=prompts, negative=negative, seeds=[1, 2, 3])
    assert not changed(result)
    assert "prompts for a batch of 3 images" in result.infotext["Noise Order error"]


def test_a_later_success_is_made_and_told_again_after_a_failure(host):
    """One job of two batches: the model fails in the first, the second is as if that had not been."""
    p = host.processing(["a cat"], [""], [1])
    p.sd_model, p.sampler, p.modified_noise = host.model(p), fakes.Sampler(host.network), None
    p.n_iter, p.all_seeds = 2, [1, 1]
    noises, infotexts = [], []
    host.begin(p, ON)
    for fails in (True, False):
        host.network.before = (lambda: (_ for _ in ()).throw(RuntimeError("once"))) if fails else lambda: None
        host.script.process_batch(p, ON)
        infotexts.append(host.told(p))
        noise = host.draw(host.shape, p.seeds)
        noises.append((noise.clone(), noise))
        host.script.process_before_every_sampling(
            p, ON, x=noise, noise=noise, c=fakes.multicond(["a cat"]), uc=host.uncond(p)
        )
        infotexts.append(host.told(p))
    (untouched, refused), (_, modulated) = noises
    assert torch.equal(refused, untouched)
    torch.testing.assert_close(modulated, host.txt2img(True, 4.0, 0.05).noise, rtol=0, atol=0)
    assert not torch.equal(modulated, untouched)
    before, after, *second = infotexts
    assert before["Noise Order"] == "1"
    assert after == {"Noise Order error": "RuntimeError: once"}
    assert second == [before, before]


def test_keys_of_an_earlier_cell_are_taken_out(host):
    """X/Y/Z cells are copies of one p that share one extra_generation_params."""
    stale = {"Noise Order": "1", "Noise Order erase": "9", "Noise Order error": "x", "Steps": "4"}
    assert host.txt2img(False, extra_generation_params=dict(stale)).infotext == {"Steps": "4"}
    infotext = host.txt2img({"erase": 4, "inject": 0}, extra_generation_params=dict(stale)).infotext
    assert infotext == {
        "Steps": "4",
        "Noise Order": "1",
        "Noise Order erase": "4",
        "Noise Order inject": "0",
        "Noise Order variant": "0",
    }


@pytest.fixture
def img2img(host):
    host.script.is_img2img = True
    return host


def test_img2img_erases_and_injects(img2img):
    result = img2img.txt2img(True, 4.0, 0.05)
    assert changed(result)
    assert result.infotext["Noise Order"] == "1"
    assert "Noise Order pass" not in result.infotext


def test_img2img_asks_around_the_image_and_inside_the_part_that_will_run(img2img):
    result = img2img.txt2img(
        {**ON, "erase": 1, "direction": "denoised", "levels": 2, "first_level": 1.0, "last_level": 0.5}
    )
    table = img2img.sigmas
    for (x, sigma, _), part in zip(img2img.network.inputs, (1.0, 0.5), strict=True):
        assert sigma.item() == pytest.approx(table[round(part * img2img.begins)].item(), rel=2e-3)
        image, noise = 0.3, result.untouched
        s = sigma.item()
        expected = (1 - s) * image + s * noise if img2img.kind == "const" else image + s * noise
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 1.3])
def test_img2img_keeps_the_noise_multiplier(img2img, multiplier):
    seeds = list(range(40))
    many = {"seeds": seeds, "prompts": ["a"] * 40, "negative": [""] * 40}
    result = img2img.txt2img({**ON, "inject": 0}, initial_noise_multiplier=multiplier, **many)
    assert result.noise.std().item() == pytest.approx(multiplier, abs=0.02)
    plain = img2img.txt2img({**ON, "inject": 0}, **many)
    torch.testing.assert_close(result.noise, multiplier * plain.noise, rtol=1e-5, atol=1e-6)


def test_img2img_without_a_step_is_refused(img2img):
    img2img_steps = {"denoising_strength": 0.0}
    sys.modules["modules.sd_samplers_common"].setup_img2img_steps = lambda p, steps=None: (0, 0)
    result = img2img.txt2img(True, 4.0, 0.05, **img2img_steps)
    assert not changed(result)
    assert "denoising strength 0" in result.infotext["Noise Order error"]


def test_region_of_the_mask(img2img):
    mask = torch.zeros(((1,) if img2img.masks_are_batches else ()) + img2img.shape)
    mask[..., :4] = 1
    result = img2img.txt2img({**ON, "inject": 0, "region": "inside"}, nmask=mask)
    assert torch.equal(result.noise[..., 4:], result.untouched[..., 4:])
    assert not torch.equal(result.noise[..., :4], result.untouched[..., :4])
    assert result.infotext["Noise Order region"] == "inside"


def test_region_without_a_mask_is_refused(img2img):
    result = img2img.txt2img({**ON, "region": "inside"})
    assert not changed(result)
    assert "no mask" in result.infotext["Noise Order error"]


def test_region_means_nothing_in_txt2img(host):
    result = host.txt2img({**ON, "region": "inside"})
    assert torch.equal(result.noise, host.txt2img(True, 4.0, 0.05).noise)
    assert "Noise Order region" not in result.infotext


def test_timestep_samplers_begin_at_their_timestep(img2img):
    class Timesteps:
        def get_timesteps(self, p, steps):
            return torch.tensor([1 + 1000 * step // steps for step in range(steps)])

    img2img.txt2img(
        {**ON, "direction": "denoised", "first_level": 1.0},
        before_process=lambda p: setattr(p, "sampler", Timesteps()),
    )
    assert img2img.network.inputs[0][1].item() == pytest.approx(img2img.sigmas[img2img.begins_timestep].item())


def test_inner_pass_of_adetailer_is_not_ours(host):
    host.script.is_img2img = True
    p = fakes.Bare(_ad_inner=True, seeds=[1], all_seeds=[1], extra_generation_params={})
    host.begin(p, ON)
    host.script.process_batch(p)
    assert p.extra_generation_params == {}


def test_inner_pass_of_adetailer_is_ours_if_asked_for(host):
    host.opts.data["noiseorder_adetailer"] = True
    host.script.is_img2img = True
    p = fakes.Bare(_ad_inner=True, seeds=[1], iteration=0, all_seeds=[1], extra_generation_params={})
    host.begin(p, ON)
    host.script.process_batch(p)
    assert p.extra_generation_params["Noise Order"] == "1"
    assert p.extra_generation_params["Noise Order in ADetailer"] == "True"
    host.opts.data["noiseorder_adetailer"] = False
    host.begin(p, ON)
    assert p.extra_generation_params == {}


@pytest.mark.parametrize(("passes", "first", "second"), [("first", 1, 0), ("hires", 0, 1), ("both", 1, 1)])
def test_hires_passes(host, passes, first, second):
    result = host.txt2img({**ON, "passes": passes}, hires=True)
    assert changed(result) is bool(first)
    assert torch.equal(result.hires_noise, result.hires_untouched) is not bool(second)
    assert host.network.rows == 2 * (first + second)
    assert result.infotext.get("Noise Order pass", "first") == passes
    plain = host.txt2img({**ON, "passes": "first"}, hires=False)
    if first:
        assert torch.equal(plain.noise, result.noise)


def test_hires_pass_modulates_once_and_right(host):
    """Forge main calls twice with one noise: as exact as the single call of the others."""
    result = host.txt2img({**ON, "passes": "hires", "inject": 0, "erase": 4}, hires=True)
    share = (result.hires_noise * result.hires_untouched).mean() / result.hires_untouched.square().mean()
    assert share.item() == pytest.approx(0.5, abs=0.15), "erased twice it would be a quarter"
    assert result.hires_noise.std().item() == pytest.approx(1, abs=0.15)


def test_hires_pass_wrapped_by_another_extension(host, monkeypatch):
    """Its source cannot be read then: the first call is taken, and the noise is still modulated once."""
    original = host.processing.sample_hr_pass
    monkeypatch.setattr(host.processing, "sample_hr_pass", functools.partial(original))
    # The price on Forge main, which the fake refuses elsewhere: the model of the first call.
    monkeypatch.setattr(type(host), "stale", property(lambda self: False, lambda self, value: None))
    result = host.txt2img(
        {**ON, "passes": "hires", "inject": 0},
        hires=True,
        before_process=lambda p: setattr(p, "sample_hr_pass", functools.partial(original, p)),
    )
    assert result.errors == []
    share = (result.hires_noise * result.hires_untouched).mean() / result.hires_untouched.square().mean()
    assert share.item() == pytest.approx(0.5, abs=0.15)


def test_hires_draws_are_not_those_of_the_first_pass(host):
    result = host.txt2img({**ON, "passes": "both", "inject": 0, "erase": 64}, hires=True)
    flat = result.hires_noise.flatten()[: result.noise.numel()]
    assert abs(torch.corrcoef(torch.stack([flat, result.noise.flatten()]))[0, 1]) < 0.25


def test_hires_pass_without_hires_fix_is_refused(host):
    result = host.txt2img({**ON, "passes": "hires"})
    assert not changed(result)
    assert "hires fix is off" in result.infotext["Noise Order error"]


def test_a_failure_in_the_hires_pass_still_tells_of_the_first(host):
    def fail():
        if host.network.calls >= 1:
            raise RuntimeError("broken")

    host.network.before = fail
    result = host.txt2img({**ON, "passes": "both", "direction": "denoised"}, hires=True)
    assert changed(result)
    assert torch.equal(result.hires_noise, result.hires_untouched)
    assert result.infotext["Noise Order error"].startswith("hires pass: RuntimeError")
    assert result.infotext["Noise Order"] == "1"
    assert "Noise Order pass" not in result.infotext


def test_after_a_failure_in_the_first_pass_the_hires_pass_is_left_alone(host):
    def fail():
        if host.network.calls == 0:
            raise RuntimeError("once")

    host.network.before = fail
    result = host.txt2img({**ON, "passes": "both"}, hires=True)
    assert not changed(result)
    assert torch.equal(result.hires_noise, result.hires_untouched)
    assert list(result.infotext) == ["Noise Order error"]


def test_and_counts_every_prompt(host):
    host.txt2img({**ON, "direction": "denoised"}, prompts=["a cat AND a dog :0.5"])
    assert host.network.rows == 2
    host.txt2img({**ON, "direction": "guidance"}, prompts=["a cat AND a dog :0.5"])
    assert host.network.rows == 2 + 3


@pytest.mark.parametrize("direction", ["denoised", "guidance"])
def test_and_is_the_hosts_mixture(host, direction, monkeypatch):
    """The model is linear in the conditioning: AND must equal one prompt with the mixed number."""
    a, b, u = (encode(text).item() for text in ("a cat", "a dog", ""))
    mixed = (a + 0.5 * b) / 1.5 if direction == "denoised" else u + (a - u) + 0.5 * (b - u)
    # As printed, because orthonormal would not show a wrong factor.
    settings = {**ON, "direction": direction, "normalisation": "as printed", "inject": 0.5}
    with_and = host.txt2img(settings, prompts=["a cat AND a dog :0.5"])

    monkeypatch.setattr(
        fakes, "multicond", lambda *_: Multicond([[Composable([Scheduled(4, torch.tensor([[mixed]]))])]])
    )
    single = host.txt2img(settings)
    torch.testing.assert_close(with_and.noise, single.noise, rtol=1e-4, atol=1e-5)


def test_weights_that_cancel_out_are_refused(host):
    result = host.txt2img({**ON, "direction": "denoised"}, prompts=["a cat AND a dog :-1"])
    assert not changed(result)
    assert "cancel" in result.infotext["Noise Order error"]


def test_prompt_editing_asks_for_the_prompt_of_the_beginning(host):
    editing, plain = (
        host.txt2img(True, 4.0, 0.05, prompts=["[red:blue:.5]"]),
        host.txt2img(True, 4.0, 0.05, prompts=["red"]),
    )
    assert torch.equal(editing.noise, plain.noise)


def test_sdxl_conditionings(host):
    assert changed(host.txt2img(True, 4.0, 0.05, sdxl=True))


INPAINTING = [{"conditioning_key": "hybrid"}, {"is_sdxl_inpaint": True}]


@pytest.mark.parametrize("model", INPAINTING)
@pytest.mark.parametrize("is_img2img", [False, True])
def test_inpainting_models(inpainting_host, is_img2img, model):
    vars(inpainting_host).update(model)
    inpainting_host.script.is_img2img = is_img2img
    states = []
    for on in (False, True):
        result = inpainting_host.txt2img(on, image_conditioning=torch.zeros(1, 5, 8, 8))
        states.append(torch.get_rng_state())
    assert changed(result)
    assert torch.equal(*states), "the conditioning is encoded by a VAE that draws from the global generator"


@pytest.mark.parametrize("model", INPAINTING)
def test_the_hires_pass_of_inpainting_models_is_refused(inpainting_host, model):
    vars(inpainting_host).update(model)
    result = inpainting_host.txt2img({**ON, "passes": "both"}, hires=True)
    assert changed(result)
    assert torch.equal(result.hires_noise, result.hires_untouched)
    assert "inpainting models" in result.infotext["Noise Order error"]


@pytest.mark.parametrize(("key", "stage"), [("crossattn-adm", "txt"), ("hybrid", "edit")])
def test_models_with_other_conditioning_are_refused(inpainting_host, key, stage):
    inpainting_host.conditioning_key, inpainting_host.cond_stage_key = key, stage
    result = inpainting_host.txt2img(True, 4.0, 0.05)
    assert not changed(result)
    assert key in result.infotext["Noise Order error"]


def test_forge_at_cfg_1_has_no_negative_prompt(forge):
    result = forge.txt2img(True, 4.0, 0.05, cfg_scale=1.0)
    assert changed(result)
    assert forge.network.rows == 1


def test_an_image_condition_of_another_extension_is_refused(patcher_host):
    result = patcher_host.txt2img(
        ON, before_process=lambda p: setattr(patcher_host.unet, "extra_concat_condition", torch.zeros(1))
    )
    assert not changed(result)
    assert "image condition" in result.infotext["Noise Order error"]


def test_prepares_and_cleans_up(patcher_host):
    patcher_host.controlnet = object()
    assert changed(patcher_host.txt2img(True, 4.0, 0.05))
    assert patcher_host.prepared == ["prepare", "cleanup"]
    assert patcher_host.unet.extra_model_patchers_during_sampling == ["mine"]


def test_cleans_up_after_a_failure(patcher_host):
    patcher_host.network.before = lambda: (_ for _ in ()).throw(RuntimeError("x"))
    patcher_host.txt2img(True, 4.0, 0.05)
    assert patcher_host.prepared == ["prepare", "cleanup"]
    assert patcher_host.unet.extra_model_patchers_during_sampling == ["mine"]


@pytest.mark.parametrize(("direction", "negatives"), [("guidance", 1), ("denoised", 0)])
def test_asks_with_the_modified_conditions(patcher_host, direction, negatives):
    """As Revision modifies them; it goes over the negative ones too and takes no None."""
    calls = []

    def modifier(model, x, sigma, uncond, cond, scale, options, seed):
        calls.append((len(uncond), scale, seed))
        return model, x, sigma, uncond, [{**entry, "text": -entry["text"]} for entry in cond], scale, options, seed

    settings = {**ON, "direction": direction}
    plain = patcher_host.txt2img(settings, cfg_scale=5.0)
    patcher_host.options["conditioning_modifiers"] = [modifier]
    result = patcher_host.txt2img(settings, cfg_scale=5.0)
    assert [entry[:2] for entry in calls] == [(negatives, 5.0)]
    assert not torch.equal(result.noise, plain.noise)


def test_keeps_what_controlnet_inpaint_added(patcher_host):
    plain = patcher_host.txt2img(True, 4.0, 0.05)
    original = patcher_host.script.process_before_every_sampling

    def built_in_first(p, *args, **kwargs):
        p.modified_noise = kwargs["noise"] + 0.25
        original(p, *args, **kwargs)

    patcher_host.script.process_before_every_sampling = built_in_first
    result = patcher_host.txt2img(True, 4.0, 0.05)
    torch.testing.assert_close(result.noise, plain.noise + 0.25)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("model_type", "EDM", 'predict "EDM"'),
        ("object_patches", {"model_sampling": object()}, "switch it off"),
        ("leftovers", {"create_denoiser": object()}, "load the checkpoint again"),
    ],
)
def test_reforge_with_another_sampling_is_refused(reforge, setting, value, reason):
    setattr(reforge, setting, value)
    result = reforge.txt2img(True, 4.0, 0.05)
    assert not changed(result)
    assert reason in result.infotext["Noise Order error"]


def test_reforge_without_a_negative_prompt_in_the_hires_pass(reforge):
    """Its hires CFG below 0 means that."""
    reforge.uncond = lambda p: None
    result = reforge.txt2img({**ON, "passes": "hires"}, hires=True, hr_cfg=-1.0)
    assert not torch.equal(result.hires_noise, result.hires_untouched)
    assert reforge.network.rows == 1


@pytest.mark.parametrize("is_img2img", [False, True])
def test_neo_video_is_refused(neo_video, is_img2img):
    neo_video.script.is_img2img = is_img2img
    five = {"seeds": [1, 2, 3, 4, 5], "prompts": ["a"] * 5, "negative": [""] * 5}
    result = neo_video.txt2img(True, 4.0, 0.05, **five)
    assert not changed(result)
    assert "videos are not supported" in result.infotext["Noise Order error"]


def test_neo_video_model_with_one_frame_is_an_image(neo_video):
    neo_video.shape = (16, 1, 8, 8)
    assert changed(neo_video.txt2img(True, 4.0, 0.05, seeds=[5], prompts=["a"]))
    assert neo_video.network.rows == 2


def test_img2img_of_several_images_from_one(neo):
    """Qwen-Image encodes one image for the whole batch: image k is still the image made alone."""
    neo.script.is_img2img = True
    seeds = [5, 6, 7]
    batch = neo.txt2img(True, 4.0, 0.05, seeds=seeds, prompts=["a"] * 3, negative=[""] * 3)
    assert changed(batch)
    for k in range(3):
        alone = neo.txt2img(True, 4.0, 0.05, seeds=[seeds[k]], prompts=["a"])
        torch.testing.assert_close(batch.noise[k : k + 1], alone.noise, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("fake", "name"), [(Forge, "Forge"), (Neo, "Forge Neo"), (A1111, "AUTOMATIC1111")])
def test_each_host_has_its_adapter(monkeypatch, fake, name):
    fake(monkeypatch)
    from lib_noiseorder.hosts.detect import adapter

    assert adapter().name == name


def test_unknown_webui_is_refused(monkeypatch):
    """The first Forge: reForge's back end by name, without the functions asked for."""

    class FirstForge(A1111):
        def install(self):
            super().install()
            self.module("ldm_patched", __path__=[])

    result = FirstForge(monkeypatch).txt2img(True, 4.0, 0.05)
    assert not changed(result)
    assert "not supported yet" in result.infotext["Noise Order error"]


def test_ersatz_calls_without_noise_are_ignored(ersatz):
    """It calls the hook again at the refiner switch, with x alone."""
    p = Processing(["a"], [""], [1])
    ersatz.script.process(p, True)
    ersatz.script.process_before_every_sampling(p, x=torch.zeros(1))
    assert "Noise Order error" not in p.extra_generation_params


def test_xyz_cells_override_the_accordion(host):
    def cell(*args, **overrides):
        result = host.txt2img(*args, before_process=lambda p: host.loaded.override(p, overrides))
        return result.infotext.get("Noise Order erase")

    assert cell(False, erase=2.0) == "2"
    assert cell(True, 8.0, erase=2.0) == "2"
    assert cell(True, enabled=False) is None
    assert cell(False) is None


def test_axes_are_registered_before_the_page_is_built(host):
    module = types.SimpleNamespace(
        axis_options=[], AxisOption=lambda label, *_, **__: types.SimpleNamespace(label=label)
    )
    sys.modules["modules.scripts"].scripts_data.append(types.SimpleNamespace(path="xyz_grid.py", module=module))
    for callback in host.before_ui:
        callback()
    assert "[Noise Order] Erase" in [option.label for option in module.axis_options]

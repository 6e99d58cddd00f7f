"""What the model is asked and what is refused: the second pass's own options, prompts joined by AND, counts."""

from __future__ import annotations

import math

import fakes
import pytest
import torch
from fakes import A1111, Composable, Ersatz, Forge, ForgeFlow, Multicond, Neo, ReForge, Scheduled, encode
from test_batches import job

HIRES = {"inject": 0.05, "passes": "hires"}


def refused(result, reason):
    assert torch.equal(result.noise, result.untouched)
    assert list(result.infotext) == ["Noise Order error"]
    assert reason in result.infotext["Noise Order error"]
    return True


@pytest.mark.parametrize(("second", "run"), [(0, 10), (20, 20), (7, 7)])
def test_the_hires_pass_begins_where_its_own_steps_say(host, second, run):
    """At denoising strength 0.5 the sampler takes so many of twice the steps."""
    result = job(host, {**HIRES, "direction": "denoised", "first_level": 1.0}, hires=True, hr_second_pass_steps=second)
    assert result.changed[1::2] == [True] * 3
    begin = torch.linspace(999, 0, 2 * run).long()[run]
    for x, sigma, _ in host.network.inputs:
        assert sigma.item() == pytest.approx(host.sigmas[begin].item())
        assert x.shape[-1] == 16


def test_the_first_pass_knows_no_steps_of_the_second(host):
    sigmas = []
    for second in (0, 20):
        job(host, {"inject": 0.05, "direction": "denoised"}, seeds=[1], hr_second_pass_steps=second)
        sigmas.append(host.network.inputs[-1][1].item())
    assert sigmas[0] == sigmas[1]


def test_the_hires_pass_is_guided_by_its_own_scale(host):
    """A1111 and its kin with that pass's own CFG; AUTOMATIC1111 itself has one for both."""
    settings = {**HIRES, "direction": "look-ahead", "erase": 1}

    def noise(cfg_scale, hr_cfg):
        return job(host, settings, hires=True, seeds=[1], cfg_scale=cfg_scale, hr_cfg=hr_cfg).noises[1]

    one, other_first, other_second = noise(5.0, 2.0), noise(7.0, 2.0), noise(5.0, 9.0)
    has_its_own = not isinstance(host, A1111)
    assert torch.equal(one, other_first) is has_its_own
    assert torch.equal(one, other_second) is not has_its_own


def test_the_first_pass_is_guided_by_the_scale_of_the_image(host):
    settings = {"inject": 0.05, "direction": "look-ahead", "erase": 1}
    one, hires, first = (
        job(host, settings, seeds=[1], cfg_scale=cfg, hr_cfg=hr).noises[0] for cfg, hr in ((5, 2), (5, 9), (7, 2))
    )
    assert torch.equal(one, hires)
    assert not torch.equal(one, first)


@pytest.mark.parametrize(("direction", "rows"), [("look-ahead", 3), ("guidance", 3), ("denoised", 3)])
def test_without_a_negative_prompt_the_prompt_alone_is_asked(host, direction, rows):
    host.uncond = lambda p: None
    result = host.txt2img({"inject": 0.05, "direction": direction, "levels": 3})
    assert not torch.equal(result.noise, result.untouched)
    assert host.network.rows == rows
    assert (result.errors, result.comments) == ([], [])


@pytest.mark.parametrize("direction", ["denoised", "guidance"])
@pytest.mark.parametrize("weight", [-2, -0.5, 3])
def test_and_with_any_sum_but_zero_is_the_hosts_mixture(host, direction, weight, monkeypatch):
    """The model is linear in the conditioning: AND must equal one prompt with the mixed number."""
    a, b, u = (encode(text).item() for text in ("a cat", "a dog", ""))
    mixed = (a + weight * b) / (1 + weight) if direction == "denoised" else u + (a - u) + weight * (b - u)
    settings = {"direction": direction, "normalisation": "as printed", "inject": 0.5}
    with_and = host.txt2img(settings, prompts=[f"a cat AND a dog :{weight}"])
    assert not torch.equal(with_and.noise, with_and.untouched)
    assert "Noise Order error" not in with_and.infotext
    monkeypatch.setattr(
        fakes, "multicond", lambda *_: Multicond([[Composable([Scheduled(4, torch.tensor([[mixed]]))])]])
    )
    torch.testing.assert_close(with_and.noise, host.txt2img(settings).noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("prompt", "each"), [("a cat", 1), ("a cat AND a dog :0.5", 2), ("a AND b AND c", 3)])
@pytest.mark.parametrize(("direction", "negative"), [("denoised", 0), ("guidance", 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_told_of_the_evaluations_is_what_the_model_counted(
    host, prompt, each, direction, negative, batch, capsys
):
    many = {"seeds": list(range(batch)), "prompts": [prompt] * batch, "negative": [""] * batch}
    host.txt2img({"inject": 0.05, "direction": direction, "levels": 2}, **many)
    count = 2 * (each + negative)
    assert host.network.rows == batch * count
    assert f"; {count} evaluation{'' if count == 1 else 's'} per image" in capsys.readouterr().out


def test_evaluations_of_prompts_unlike_each_other_are_told_as_the_next_whole_number(a1111, capsys):
    a1111.txt2img(True, 4.0, 0.05, seeds=[1, 2], prompts=["a AND b", "c"], negative=["", ""])
    assert a1111.network.rows == 3 + 2
    assert "; 3 evaluations per image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("many", "reason"),
    [
        ({"seeds": [1, 2], "prompts": ["a"], "negative": [""]}, "1 prompts for a batch of 2 images"),
        ({"seeds": [1], "prompts": ["a", "b"], "negative": [""]}, "2 prompts for a batch of 1 images"),
        ({"seeds": [1], "prompts": ["a"], "negative": ["", ""]}, "2 negative prompts for a batch of 1 images"),
    ],
)
def test_lists_of_another_length_than_the_batch_are_refused(host, many, reason):
    assert refused(host.txt2img(True, 4.0, 0.05, **many), f"{reason}: give one for every image")
    assert host.network.calls == 0


def test_seeds_of_another_number_than_the_batch_are_refused(host):
    assert refused(
        host.txt2img(True, 4.0, 0.05, before_hook=lambda p: p.seeds.append(2)), "2 seeds for a batch of 1 images"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [0, 1, 2])
def test_an_answer_that_is_not_finite_is_refused(host, value, call):
    answer = type(host.network).__call__

    class Spoiled(type(host.network)):
        def __call__(self, x, sigma, cond):
            output = answer(self, x, sigma, cond)
            if self.calls == call + 1:
                output[..., -1] = value
            return output

    host.network.__class__ = Spoiled
    result = host.txt2img({"inject": 0.05, "direction": "denoised", "levels": 3})
    assert refused(result, "the model's predictions hold NaN or infinity")


def test_inpainting_models_of_forge_are_refused(forge):
    result = forge.txt2img(True, 4.0, 0.05, before_process=lambda p: setattr(p.sd_model, "is_inpaint", True))
    assert refused(result, "inpainting models are not supported")
    assert forge.network.calls == 0


@pytest.mark.parametrize("kind", ["edm", "sample"])
def test_models_of_forge_that_predict_something_else_are_refused(forge, kind):
    result = forge.txt2img(
        True, 4.0, 0.05, before_process=lambda p: setattr(forge.unet.model.predictor, "prediction_type", kind)
    )
    assert refused(result, f'models that predict "{kind}" are not supported')


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "const"])
def test_models_of_forge_that_can_be_asked(monkeypatch, kind):
    monkeypatch.setattr(Forge, "kind", kind)
    result = Forge(monkeypatch).txt2img(True, 4.0, 0.05)
    assert not torch.equal(result.noise, result.untouched)


@pytest.mark.parametrize("name", ["EPS", "V_PREDICTION"])
def test_models_of_reforge_that_can_be_asked(reforge, name):
    reforge.model_type = name
    result = reforge.txt2img(True, 4.0, 0.05)
    assert not torch.equal(result.noise, result.untouched)


@pytest.mark.parametrize(
    ("key", "supported"),
    [("crossattn", True), ("hybrid", True), ("concat", True), (None, True), ("crossattn-adm", False), ("adm", False)],
)
def test_models_by_what_else_they_are_conditioned_on(inpainting_host, key, supported):
    from lib_noiseorder.core import Unsupported

    inpainting_host.conditioning_key = key
    p = inpainting_host.processing(["a"], [""], [1])
    p.sd_model = inpainting_host.model(p)

    batch = inpainting_host.loaded.session.adapter(p, torch.zeros(1, 4, 8, 8), fakes.multicond(["a"]), None)
    if supported:
        assert batch.inpaints() is (key in ("hybrid", "concat"))
        return
    with pytest.raises(Unsupported, match=f'models with "{key}" conditioning'):
        batch.inpaints()


@pytest.mark.parametrize(
    ("fake", "name"),
    [
        (A1111, "AUTOMATIC1111"),
        (Forge, "Forge"),
        (ForgeFlow, "Forge"),
        (ReForge, "reForge"),
        (Neo, "Forge Neo"),
        (Ersatz, "ersatzForge"),
    ],
)
def test_every_host_has_its_own_adapter(monkeypatch, fake, name):
    assert fake(monkeypatch).loaded.session.adapter.name == name


def test_the_draws_of_the_hires_pass_are_the_stored_ones(host):
    """What the sampler of the second pass begins with, by the formula and the stored keys."""
    from lib_noiseorder.core.streams import derive_seed

    result = job(host, {**HIRES, "inject": 0, "erase": 3, "variant": 5}, hires=True, seeds=[7])
    shape = result.untouched[1].shape[1:]
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(derive_seed(7, k, 5, "hires"))) for k in (2, 3)]
    expected = (result.untouched[1] + sum(draws)) / math.sqrt(3)
    torch.testing.assert_close(result.noises[1], expected, rtol=1e-5, atol=1e-6)


def test_the_draws_of_the_first_pass_are_the_stored_ones(host):
    from lib_noiseorder.core.streams import derive_seed

    result = job(host, {"inject": 0, "erase": 3, "variant": 5}, seeds=[7])
    shape = result.untouched[0].shape[1:]
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(derive_seed(7, k, 5))) for k in (2, 3)]
    expected = (result.untouched[0] + sum(draws)) / math.sqrt(3)
    torch.testing.assert_close(result.noises[0], expected, rtol=1e-5, atol=1e-6)

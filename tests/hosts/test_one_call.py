"""AUTOMATIC1111: prompt and negative prompt of a guided level in one call, where its sampler asks them so."""

from __future__ import annotations

import pytest
import torch
from fakes import A1111, A1111SD3, encode

LEVELS = 3
ON = {"inject": 0.05, "levels": LEVELS}


@pytest.fixture(params=[A1111, A1111SD3], ids=lambda fake: fake.__name__)
def a1111(request, monkeypatch):
    return request.param(monkeypatch)


def run(host, settings=ON, **changes):
    """The noise, and how often the model was called for how many rows."""
    network = host.network
    network.calls = network.rows = 0
    result = host.txt2img(settings, **changes)
    assert not torch.equal(result.noise, result.untouched)
    assert "Noise Order error" not in result.infotext
    return result.noise, network.calls, network.rows


@pytest.mark.parametrize("direction", ["guidance", "look-ahead"])
@pytest.mark.parametrize("prompt", ["a cat", "a cat AND a dog :0.5"])
@pytest.mark.parametrize("batch", [1, 3])
def test_one_call_a_level_gives_the_numbers_of_two(a1111, direction, prompt, batch):
    many = {"seeds": list(range(batch)), "prompts": [prompt] * batch, "negative": ["", "bad", "b"][:batch]}
    settings = {**ON, "direction": direction}
    one, calls, rows = run(a1111, settings, **many)
    a1111.opts.batch_cond_uncond = False
    two, calls_apart, rows_apart = run(a1111, settings, **many)
    assert (calls, calls_apart) == (LEVELS, 2 * LEVELS)
    assert rows == rows_apart == batch * LEVELS * (3 if "AND" in prompt else 2)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_without_a_negative_prompt_there_is_one_call_as_before(a1111):
    assert run(a1111, {**ON, "direction": "denoised"})[1:] == (LEVELS, LEVELS)


def test_prompts_of_other_lengths_are_two_calls(a1111, monkeypatch):
    expected, calls, _ = run(a1111)
    uncond = a1111.uncond

    def longer(p):
        """A second row, which this text encoder does not count."""
        negatives = uncond(p)
        for schedules in negatives:
            for entry in schedules:
                cond = entry.cond
                if isinstance(cond, dict):
                    entry.cond = {**cond, "crossattn": torch.cat([cond["crossattn"]] * 2)}
                else:
                    entry.cond = torch.cat([cond] * 2)
        return negatives

    a1111.network.__class__ = type("First", (type(a1111.network),), {"__call__": first_token})
    monkeypatch.setattr(a1111, "uncond", longer)
    noise, apart, _ = run(a1111)
    assert (calls, apart) == (LEVELS, 2 * LEVELS)
    torch.testing.assert_close(noise, expected, rtol=1e-5, atol=1e-6)


def first_token(self, x, sigma, cond):
    return torch.nn.Module.__call__(self, x, sigma, cond[:, :1])


@pytest.mark.parametrize("batch", [1, 2])
def test_out_of_memory_falls_back_to_two_calls(a1111, batch):
    many = {"seeds": list(range(batch)), "prompts": ["a cat"] * batch, "negative": [""] * batch}
    expected, _, rows = run(a1111, **many)
    network, sizes = a1111.network, []

    def small():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    answer = type(network).forward

    class Small(type(network)):
        def forward(self, x, sigma, cond):
            sizes.append(len(x))
            if len(x) > batch:
                small()
            return answer(self, x, sigma, cond)

    network.__class__ = Small
    noise, calls, rows_apart = run(a1111, **many)
    # Together is tried once in this batch, and the memory freed once.
    assert sizes == [2 * batch] + [batch] * 2 * LEVELS
    assert (calls, rows_apart) == (2 * LEVELS, rows)
    assert a1111.collected == 1
    torch.testing.assert_close(noise, expected, rtol=1e-5, atol=1e-6)
    sizes.clear()
    run(a1111, **many)
    assert sizes[0] == 2 * batch, "the next batch tries again"


def test_another_error_is_not_asked_twice(a1111):
    def fail():
        raise RuntimeError("broken")

    a1111.network.before = fail
    result = a1111.txt2img(ON)
    assert torch.equal(result.noise, result.untouched)
    assert "RuntimeError: broken" in result.infotext["Noise Order error"]


def test_each_image_keeps_its_own_prompts(a1111):
    batch = {"seeds": [1, 2], "prompts": ["a cat", "a dog"], "negative": ["bad", "worse"]}
    both = run(a1111, **batch)[0]
    for k in range(2):
        alone = run(a1111, **{name: values[k : k + 1] for name, values in batch.items()})[0]
        torch.testing.assert_close(both[k : k + 1], alone, rtol=1e-5, atol=1e-6)
    assert encode("a cat") != encode("a dog")


@pytest.mark.parametrize("is_img2img", [False, True])
def test_inpainting_models_get_mask_and_image_for_both(monkeypatch, is_img2img):
    host = A1111(monkeypatch)
    host.conditioning_key = "hybrid"
    host.script.is_img2img = is_img2img
    noise, calls, _ = run(host, image_conditioning=torch.zeros(1, 5, 8, 8))
    assert calls == LEVELS
    host.opts.batch_cond_uncond = False
    torch.testing.assert_close(run(host, image_conditioning=torch.zeros(1, 5, 8, 8))[0], noise, rtol=1e-5, atol=1e-6)

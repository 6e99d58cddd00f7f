"""What the model answers, and what it was asked: refused answers, a prompt without a negative one, counts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from reference import turned
from test_modulate import GaussianHost, config, noise

from lib_noiseorder.core import Unsupported, modulate, previews


def spoil_answer(host, call, value):
    """One number of one image is wrong in one answer."""
    denoise, calls = host.denoise, []

    def spoil(x, level, with_uncond):
        answer = denoise(x, level, with_uncond)
        if len(calls) == call:
            answer.cond[-1, -1, -1, -1] = value
        calls.append(call)
        return answer

    host.denoise = spoil


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("direction", ["guidance", "denoised", "noise", "look-ahead", "self-correction"])
@pytest.mark.parametrize("normalisation", ["orthonormal", "as printed"])
def test_an_answer_that_is_not_finite_at_any_level_is_refused(direction, level, value, normalisation):
    host, z = GaussianHost([1, 2]), noise([1, 2])
    before = z.clone()
    spoil_answer(host, level, value)
    with pytest.raises(Unsupported, match="NaN or infinity"):
        modulate(z, config(direction=direction, levels=3, normalisation=normalisation), host)
    assert torch.equal(z, before)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
@pytest.mark.parametrize("levels", [1, 3])
def test_look_ahead_without_a_negative_prompt_walks_by_the_prompt_alone(kind, levels):
    settings = {"direction": "look-ahead", "levels": levels, "first_level": 1.0}
    host, other, z = GaussianHost([1], kind, has_uncond=False), GaussianHost([1], kind, cfg_scale=1.0), noise([1])
    result, report = modulate(z, config(**settings), host)
    expected, _ = modulate(z, config(**settings), other)
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=1e-9, atol=1e-10)
    assert [with_uncond for _, with_uncond in host.calls] == [False] * levels
    assert report.evaluations == levels
    assert report.notes == ()


def test_look_ahead_with_one_level_has_nothing_to_weigh():
    """The weights have no say in it: those of the key levels may be as unlike as they like."""
    z = noise([1])
    one, _ = modulate(z, config(direction="look-ahead", levels=3), GaussianHost([1]))
    other, _ = modulate(
        z, config(direction="look-ahead", levels=3, layout=0, structure=2, detail=0.1), GaussianHost([1])
    )
    assert torch.equal(one, other)


def test_look_ahead_is_guided_by_the_hosts_scale():
    seeds = [3]
    for scale in (1.5, 7.0):
        host, z = GaussianHost(seeds, cfg_scale=scale), noise(seeds)
        result, report = modulate(z, config(direction="look-ahead", erase=1, inject=0.1), host)
        x = host.noise_scaling(z, report.levels[0])
        cond, uncond = (host.posterior(x, report.levels[0].sigma, which).numpy() for which in ("cond", "uncond"))
        expected = turned(z.numpy(), [uncond + scale * (cond - uncond)], [1.0], 0.1)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("direction", "has_uncond", "each"),
    [
        ("guidance", True, 2),
        ("guidance", False, 1),
        ("look-ahead", True, 2),
        ("denoised", True, 1),
        ("noise", True, 1),
        ("self-correction", True, 1),
    ],
)
@pytest.mark.parametrize("levels", [1, 2, 8])
def test_what_is_told_of_the_evaluations_is_what_was_asked(direction, has_uncond, each, levels):
    host = GaussianHost([1], has_uncond=has_uncond)
    _, report = modulate(noise([1]), config(direction=direction, levels=levels), host)
    evaluations = each * levels + (direction == "self-correction")
    assert report.evaluations == evaluations == sum(1 + with_uncond for _, with_uncond in host.calls)
    plural = "" if evaluations == 1 else "s"
    assert f"; {evaluations} evaluation{plural} per image" in str(report)


def test_the_report_in_words():
    _, report = modulate(noise([1, 2]), config(direction="denoised", inject=0.1, erase=1), GaussianHost([1, 2]))
    before, after = report.std_before, report.std_after
    assert str(report) == (
        f"std {before[0]:.3f} {before[1]:.3f} -> {after[0]:.3f} {after[1]:.3f}; "
        "cosine to the seed's noise 0.995 0.995; 1 evaluation per image"
    )
    _, report = modulate(noise([1]), config(), GaussianHost([1], has_uncond=False, cfg_scale=1.0))
    assert str(report).endswith(
        '; 1 evaluation per image; no negative prompt at CFG 1: direction "denoised" instead of "guidance"'
    )
    _, report = modulate(noise([1]), config(erase=1, inject=0), GaussianHost([1]))
    assert str(report) == "noise untouched"
    assert (report.applied, report.evaluations, report.levels, report.notes) == (False, 0, (), ())
    assert str(dataclasses.replace(report, notes=("one", "two"))) == "noise untouched; one; two"


def test_images_in_which_there_is_nothing_to_inject_are_named():
    host, z = GaussianHost([1, 2, 3]), noise([1, 2, 3])
    posterior = host.posterior

    def same(x, sigma, which):
        answer, other = posterior(x, sigma, which), posterior(x, sigma, "cond")
        answer[1:] = other[1:]
        return answer

    host.posterior = same
    result, report = modulate(z, config(erase=1, levels=2), host)
    assert [torch.equal(a, b) for a, b in zip(result, z, strict=True)] == [False, True, True]
    assert report.notes == ("nothing to inject in image 2, 3: the prompt and the negative prompt predict the same",)


def record_totals(host):
    """What the host is told to come, of questions for which the page has a bar."""
    totals, predicting = [], host.predicting
    host.predicting = lambda total: (totals.append(total), predicting(total))[1]
    return totals


@pytest.mark.parametrize("levels", [1, 3])
def test_the_host_is_told_how_many_questions_will_come(levels):
    for direction in ("guidance", "denoised", "look-ahead"):
        host = GaussianHost([1])
        totals = record_totals(host)
        modulate(noise([1]), config(direction=direction, levels=levels), host)
        assert totals == [levels] == [len(host.calls)]
    host = GaussianHost([1])
    totals = record_totals(host)
    previews(noise([1]), noise([2]), config(levels=levels), host)
    assert totals == [2 * levels] == [len(host.calls)]
    assert [with_uncond for _, with_uncond in host.calls] == [False] * 2 * levels

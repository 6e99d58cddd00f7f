"""Jobs of several batches, with and without a hires pass: each batch is made as if it were the first."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pytest
import torch
from fakes import Bare, Sampler, multicond

ON = {"enabled": True, "inject": 0.05}


@dataclass
class JobResult:
    """What the sampler began with, pass by pass, and what was said."""

    noises: list[torch.Tensor] = field(default_factory=list)
    untouched: list[torch.Tensor] = field(default_factory=list)
    infotexts: list[dict[str, str]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def changed(self) -> list[bool]:
        return [not torch.equal(a, b) for a, b in zip(self.noises, self.untouched, strict=True)]


@torch.no_grad()
def job(host, *args, seeds=(1, 2, 3), hires=False, before=lambda n: None, prompt="a cat", **settings):
    """One job of a batch for each seed, in the order of the hosts; before(n) is called before each."""
    p, result = host.processing([prompt], [""], [1], enable_hr=hires, **settings), JobResult()
    p.sd_model, p.sampler, p.modified_noise = host.model(p), Sampler(host.network), None
    p.n_iter, p.all_seeds = len(seeds), list(seeds)
    host.swallow(result.errors, lambda: host.begin(p, *args))
    *rest, height, width = host.shape
    for n, seed in enumerate(seeds):
        before(n)
        p.seeds, p.is_hr_pass, p.iteration = [seed], False, n
        host.swallow(result.errors, lambda n=n: host.script.process_batch(p, *args, batch_number=n))
        for is_hires in (False, True)[: 1 + hires]:
            noise = host.draw((*rest, height * (1 + is_hires), width * (1 + is_hires)), p.seeds)
            result.untouched.append(noise.clone())
            c, uc = multicond([prompt]), host.uncond(p)
            if is_hires:
                p.is_hr_pass = True
                call = (p, args, result.errors, torch.full_like(noise, 0.3), noise, c, uc)
                result.noises.append(p.sample_hr_pass(host, call))
            else:
                result.noises.append(host.process_before_every_sampling(p, args, result.errors, noise, noise, c, uc))
        result.infotexts.append(host.told(p))
    assert result.errors == []
    return result


def fails_in(host, *batches):
    """A model that fails in these batches."""

    def before(n):
        host.network.before = (lambda: (_ for _ in ()).throw(RuntimeError("once"))) if n in batches else lambda: None

    return before


@pytest.mark.parametrize("hires", [False, True])
def test_every_batch_is_the_one_made_alone(host, hires):
    settings = {"inject": 0.05, "passes": "both" if hires else "first"}
    result = job(host, settings, hires=hires)
    alone = [job(host, settings, seeds=[seed], hires=hires) for seed in (1, 2, 3)]
    assert result.changed == [True] * len(result.noises)
    for ours, theirs in zip(result.noises, [noise for each in alone for noise in each.noises], strict=True):
        assert torch.equal(ours, theirs)
    assert result.infotexts == [each.infotexts[0] for each in alone]


@pytest.mark.parametrize("passes", ["hires", "both"])
def test_the_hires_pass_of_every_batch_is_modulated(host, passes):
    result = job(host, {"inject": 0.05, "passes": passes}, hires=True)
    assert result.changed == [passes == "both", True] * 3
    assert host.network.rows == 3 * 2 * (1 + (passes == "both"))


@pytest.mark.parametrize("batches", [(0,), (1,), (0, 1)])
def test_after_a_refused_batch_later_ones_are_modulated_again(host, batches):
    plain = job(host, ON)
    result = job(host, ON, before=fails_in(host, *batches))
    assert result.changed == [n not in batches for n in range(3)]
    for n in range(3):
        if n in batches:
            assert result.infotexts[n] == {"Noise Order error": "RuntimeError: once"}
        else:
            assert torch.equal(result.noises[n], plain.noises[n])
            assert result.infotexts[n] == plain.infotexts[n]


def test_after_a_refused_batch_the_hires_pass_of_later_ones_is_modulated_again(host):
    result = job(host, {"inject": 0.05, "passes": "both"}, hires=True, before=fails_in(host, 0))
    assert result.changed == [False, False, True, True, True, True]
    assert "Noise Order" not in result.infotexts[0]
    assert result.infotexts[1]["Noise Order pass"] == result.infotexts[2]["Noise Order pass"] == "both"
    assert "Noise Order error" not in result.infotexts[1]


def test_what_is_refused_before_anything_is_made_is_refused_in_every_batch(host):
    result = job(host, {"inject": 0.05, "erase": 99}, before=lambda n: None)
    assert result.changed == [False] * 3
    assert all(list(infotext) == ["Noise Order error"] for infotext in result.infotexts)


def test_two_jobs_in_a_row_know_nothing_of_each_other(host):
    result = job(host, ON, before=fails_in(host, 0, 1, 2))
    assert result.changed == [False] * 3
    host.network.before = lambda: None
    assert job(host, ON).changed == [True] * 3
    assert job(host, False).changed == [False] * 3


def test_a_job_that_was_stopped_for_a_failure_is_the_only_one(host):
    host.opts.data["noiseorder_on_failure"] = "stop"
    job(host, ON, seeds=[1], before=fails_in(host, 0))
    assert host.state.interrupted
    host.state.interrupted = False
    assert job(host, ON, seeds=[1], before=fails_in(host)).changed == [True]
    assert not host.state.interrupted


@pytest.mark.parametrize("args", [(False,), ({"erase": 1, "inject": 0},)])
@pytest.mark.parametrize("copied", [True, False])
def test_a_cell_that_is_off_knows_nothing_of_the_one_before(host, args, copied):
    """The cells of an X/Y/Z plot are copies of one object, with the job of the cell before on them."""
    p = host.processing(["a cat"], [""], [1])
    p.sd_model, p.sampler, p.modified_noise = host.model(p), Sampler(host.network), None
    host.begin(p, ON)
    p = copy.copy(p) if copied else p
    host.begin(p, *args)
    host.script.process_batch(p, *args)
    noise = host.draw(host.shape, p.seeds)
    before = noise.clone()
    host.script.process_before_every_sampling(p, *args, x=noise, noise=noise, c=multicond(["a cat"]), uc=host.uncond(p))
    assert torch.equal(noise, before)
    assert p.extra_generation_params == {}
    assert host.network.calls == 0


@pytest.mark.parametrize("is_img2img", [False, True])
@torch.no_grad()
def test_a_processing_object_without_what_only_txt2img_has(host, is_img2img):
    """Of a hires pass: img2img has it in no host."""
    host.script.is_img2img = is_img2img
    processing = host.processing(["a cat"], [""], [1])
    names = set(vars(processing)) - {"is_hr_pass", "enable_hr", "hr_second_pass_steps"}
    p = Bare(**{name: getattr(processing, name) for name in names}, modified_noise=None)
    p.sd_model, p.sampler = host.model(processing), Sampler(host.network)
    host.begin(p, {"inject": 0.05, "passes": "hires"})
    assert ("Noise Order error" in p.extra_generation_params) is not is_img2img
    host.begin(p, {"inject": 0.05, "direction": "denoised"})
    noise = host.draw(host.shape, p.seeds)
    before = noise.clone()
    x = torch.full_like(noise, 0.3) if is_img2img else noise
    host.script.process_before_every_sampling(p, x=x, noise=noise, c=multicond(["a cat"]), uc=host.uncond(p))
    assert not torch.equal(noise, before)
    assert "Noise Order error" not in p.extra_generation_params
    assert set(p._noiseorder.reports) == {"first"}, "not the hires pass"

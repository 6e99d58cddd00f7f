"""Which WebUI this is, and whether it has what is used of it: asked once, when the script is loaded."""

from __future__ import annotations

import functools
import importlib.util
import sys

import pytest
import torch
from fakes import A1111, A1111SD3, ROOT, Bare, Ersatz, Forge, ForgeFlow, Neo, ReForge

FAKES = [A1111, Forge, ReForge, Neo, Ersatz]


def find_again():
    """What a fresh start of the WebUI finds."""
    from lib_noiseorder.hosts.detect import find_host

    for name in [name for name in sys.modules if name.startswith("lib_noiseorder.hosts.") and "detect" not in name]:
        del sys.modules[name]
    return find_host(sys.modules["modules.scripts"].Script)


@pytest.mark.parametrize("fake", [A1111, A1111SD3, Forge, ForgeFlow, ReForge, Neo, Ersatz])
def test_each_host_is_found_with_all_its_symbols(fake, monkeypatch):
    fake(monkeypatch)
    host, why_not = find_again()
    assert why_not == ""
    assert host.__module__.startswith("lib_noiseorder.hosts.")


def symbols():
    """Every symbol of every adapter, by the fake that has it."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as monkeypatch:
        cases = []
        for fake in FAKES:
            fake(monkeypatch)
            from lib_noiseorder.hosts.detect import SYMBOLS, adapter

            cases += [(fake, symbol, count) for symbol, count in {**SYMBOLS, **adapter().symbols}.items()]
    # This runs while tests are collected: those that come later are to import modules that know each other.
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "lib_noiseorder":
            del sys.modules[name]
    return cases


@pytest.mark.parametrize(
    ("fake", "symbol", "count"), symbols(), ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_missing_or_changed_symbol_switches_us_off_with_its_name(fake, symbol, count, monkeypatch):
    fake(monkeypatch)
    module, _, name = symbol.rpartition(".")
    if count is not None:
        original = getattr(sys.modules[module], name)
        monkeypatch.setattr(sys.modules[module], name, lambda *, only_named=None: None)
        if count:
            host, why_not = find_again()
            assert host is None
            assert symbol in why_not
            assert "other arguments" in why_not
        monkeypatch.setattr(sys.modules[module], name, original)
    monkeypatch.delattr(sys.modules[module], name)
    host, why_not = find_again()
    assert host is None
    assert name in why_not
    assert "not supported yet" in why_not
    assert str(sys.modules[module]) not in why_not


@pytest.mark.parametrize("name", ["CompVisDenoiser", "CompVisVDenoiser"])
def test_a_wrapper_that_takes_a_model_alone_is_enough(name, monkeypatch):
    A1111(monkeypatch)
    monkeypatch.setattr(sys.modules["k_diffusion.external"], name, lambda model: None)
    assert find_again()[1] == ""


@pytest.mark.parametrize("newer", [False, True])
def test_the_first_forge_is_refused_by_its_name(newer, monkeypatch):
    """Its back end, from which reForge's was made, asks for two conditions where reForge asks for any number."""
    ReForge(monkeypatch)
    samplers = sys.modules["ldm_patched.modules.samplers"]
    samplers.calc_cond_uncond_batch = lambda model, cond, uncond, x, timestep, options: None
    if not newer:
        monkeypatch.delattr(samplers, "calc_cond_batch")
    host, why_not = find_again()
    assert (host is not None) is newer
    assert ("the first Forge or Forge Classic" in why_not) is not newer


def test_the_number_of_calls_in_the_hires_pass_is_the_one_declared(host):
    calls, own = [], host.script.process_before_every_sampling

    def count(p, *args, **named):
        calls.append(p.is_hr_pass)
        own(p, *args, **named)

    host.script.process_before_every_sampling = count
    host.txt2img({"inject": 0.05, "passes": "both"}, hires=True)
    assert calls.count(True) == host.loaded.session.adapter.hires_calls


def once(self):
    self.scripts.process_before_every_sampling(self, noise=None)


def twice(self):
    if self.scripts is not None:
        self.scripts.process_before_every_sampling(self, noise=None)
    self.scripts.process_before_every_sampling(self, noise=None)
    return self.sampler.sample_img2img(self)


def elsewhere(self):
    """Of another extension: calls what was there, with process_before_every_sampling in it."""
    return once(self)


@pytest.mark.parametrize("fake", FAKES)
@pytest.mark.parametrize(
    ("method", "calls"),
    [(once, 1), (twice, 2), (elsewhere, None), (functools.partial(twice), None), (property(twice), None), (None, None)],
)
def test_another_number_of_calls_is_told_when_the_script_is_loaded(fake, method, calls, monkeypatch, capsys):
    fake(monkeypatch)
    kind = type("StableDiffusionProcessingTxt2Img", (), {} if method is None else {"sample_hr_pass": method})
    sys.modules["modules.processing"].StableDiffusionProcessingTxt2Img = kind
    capsys.readouterr()
    host, why_not = find_again()
    assert why_not == ""
    console = capsys.readouterr().out
    if calls in (None, host.hires_calls):
        assert console == ""
    else:
        assert console.startswith("[Noise Order] ")
        assert console.count("\n") == 1
        assert f"{host.name} calls the hook {calls} times where {host.hires_calls} were expected" in console


def test_a_host_without_a_hires_pass_of_that_name_is_no_error(host, capsys):
    assert not hasattr(sys.modules["modules.processing"], "StableDiffusionProcessingTxt2Img")
    assert find_again()[1] == ""
    assert capsys.readouterr().out == ""


class Old(A1111):
    """AUTOMATIC1111 before 1.10, and SD.Next: no hook in the class of scripts, and no call of it."""

    calls_the_hook = False

    def process_before_every_sampling(self, *call):
        return call[4]


@pytest.mark.parametrize(
    "settings", [{"inject": 0.05, "erase": 4}, {"erase": 4, "inject": 0}, {"inject": 0.1, "erase": 1}]
)
def test_a_host_without_the_hook_is_told_and_nothing_claimed(settings, monkeypatch):
    host = Old(monkeypatch)
    result = host.txt2img({"enabled": True, **settings})
    assert torch.equal(result.noise, result.untouched)
    assert list(result.infotext) == ["Noise Order error"]
    assert "never calls the hook" in result.infotext["Noise Order error"]
    assert "AUTOMATIC1111 1.10" in result.comments[0]
    assert host.txt2img(False).infotext == {}


@pytest.mark.parametrize("fake", [Old, A1111])
def test_the_panel_says_so(fake, monkeypatch):
    import gradio as gr

    host = fake(monkeypatch)
    with gr.Blocks() as page:
        host.script.ui(False)
    texts = [block.value for block in page.blocks.values() if isinstance(block, gr.Markdown)]
    warning = any("does nothing here" in str(text) and "never calls the hook" in str(text) for text in texts)
    assert warning is (fake is Old)


class Deaf(A1111):
    """A model with a way of its own: the hook is there, and not called."""

    def process_before_every_sampling(self, *call):
        return call[4]


@pytest.mark.parametrize("passes", ["first", "both"])
def test_what_was_not_done_is_not_claimed(passes, monkeypatch):
    result = Deaf(monkeypatch).txt2img({"enabled": True, "inject": 0.05, "passes": passes}, hires=passes == "both")
    assert torch.equal(result.noise, result.untouched)
    assert "Noise Order" not in result.infotext
    assert "first" in result.infotext["Noise Order error"]
    assert "did not run" in result.comments[0]


@pytest.mark.parametrize(("passes", "pass_name"), [("first", None), ("hires", "hires"), ("both", "hires")])
def test_the_upscale_button_runs_the_hires_pass_alone(host, passes, pass_name, monkeypatch):
    def skip_first(p, args, errors, x, noise, c, uc):
        return noise if not p.is_hr_pass else original(p, args, errors, x, noise, c, uc)

    original = host.process_before_every_sampling
    monkeypatch.setattr(host, "process_before_every_sampling", skip_first)
    result = host.txt2img({"enabled": True, "inject": 0.05, "passes": passes}, hires=True)
    assert torch.equal(result.noise, result.untouched)
    assert torch.equal(result.hires_noise, result.hires_untouched) is (pass_name is None)
    assert ("Noise Order" in result.infotext) is (pass_name is not None)
    assert result.infotext.get("Noise Order pass") == pass_name
    assert ("Noise Order error" in result.infotext) is (passes != "hires")


def test_after_a_pass_that_did_not_run_the_next_batch_is_modulated(host):
    p = Bare(seeds=[1], iteration=0, all_seeds=[1], extra_generation_params={}, enable_hr=False)
    host.begin(p, True)
    host.script.process_batch(p)
    host.script.post_sample(p, None)
    assert "Noise Order error" in p.extra_generation_params
    host.script.process_batch(p)
    assert p.extra_generation_params["Noise Order"] == "1"


def test_both_passes_without_hires_fix_are_the_first_alone(host):
    result = host.txt2img({"enabled": True, "inject": 0.05, "passes": "both"})
    assert not torch.equal(result.noise, result.untouched)
    assert result.infotext["Noise Order pass"] == "both"
    assert "Noise Order error" not in result.infotext


def test_after_an_update_the_same_process_loads_the_new_modules(a1111, monkeypatch):
    """ "Reload UI" runs the scripts again, and their libraries stay in memory."""
    import lib_noiseorder

    before = {name: module for name, module in sys.modules.items() if name.startswith("lib_noiseorder.")}
    for name in before:
        monkeypatch.setitem(sys.modules, name, before[name])  # put back afterwards
    spec = importlib.util.spec_from_file_location("noiseorder.py", ROOT / "scripts" / "noiseorder.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert sys.modules["lib_noiseorder.session"] is before["lib_noiseorder.session"]
    monkeypatch.setattr(lib_noiseorder, "stamp", 0.0)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert sys.modules["lib_noiseorder.session"] is not before["lib_noiseorder.session"]
    assert sys.modules["lib_noiseorder.config"] is not before["lib_noiseorder.config"]
    assert loaded.session is not a1111.loaded.session


def test_what_is_handed_around_by_value_cannot_be_changed(a1111):
    from lib_noiseorder import config, job
    from lib_noiseorder.core.modulate import Modulation, Report
    from lib_noiseorder.hosts import schedule
    from lib_noiseorder.webui import cost, inspector, options, sheet

    kinds = [
        *(config.Field, config.NoiseOrderConfig, job.Job, Modulation, Report),
        *(schedule.Schedule, schedule.Trace, schedule.Planned, cost.Rates, options.Options, sheet.Preview),
        *(inspector.Inspection, inspector.Record),
    ]
    assert [kind.__name__ for kind in kinds if not kind.__dataclass_params__.frozen] == []


def test_a_function_without_a_signature_is_passed_over_and_the_next_is_looked_at(a1111, monkeypatch):
    from lib_noiseorder.hosts import detect

    monkeypatch.setattr(detect, "look_up", {"a.dict": dict, "a.gone": None}.get)
    detect.check_symbols({"a.dict": 7})
    with pytest.raises(LookupError, match=r"it has no a\.gone"):
        detect.check_symbols({"a.dict": 7, "a.gone": 0})

"""What a user is told: in the console, below the image and in the infotext, word by word."""

from __future__ import annotations

import sys
import types

import fakes
import pytest
import torch
from fakes import A1111
from test_batches import fails_in, job

ON = {"inject": 0.05, "erase": 1, "direction": "denoised"}


def fails(host, error):
    def fail():
        raise error

    host.network.before = fail


def test_a_failure_is_told_everywhere_in_one_line_and_traced_in_the_console(host, capsys):
    fails(host, RuntimeError("out of\n  memory\ttoday"))
    result = host.txt2img(True, 4.0, 0.05)
    reason = "RuntimeError: out of memory today"
    assert result.infotext == {"Noise Order error": reason}
    assert result.comments == [f"Noise Order: Noise left as it is. {reason}"]
    console = capsys.readouterr()
    assert console.out == f"[Noise Order] Noise left as it is. {reason}\n"
    assert "Traceback (most recent call last)" in console.err


def test_what_is_not_supported_is_no_failure_to_be_traced(host, capsys):
    result = host.txt2img(True, 4.0, 0.05, prompts=["a", "b"])
    console = capsys.readouterr()
    assert console.out == f"[Noise Order] Noise left as it is. {result.infotext['Noise Order error']}\n"
    assert console.err == ""


def test_an_interruption_in_words(host):
    host.state.interrupted = True
    result = host.txt2img(True, 4.0, 0.05)
    assert result.infotext == {"Noise Order error": "interrupted during a model evaluation"}


def test_hires_without_hires_fix_in_words(host):
    result = host.txt2img({"inject": 0.05, "passes": "hires"})
    assert result.infotext == {
        "Noise Order error": 'Pass is "hires", but hires fix is off: switch it on, or set Pass to "first"'
    }
    assert "Noise Order error" not in host.txt2img({"inject": 0.05, "passes": "both"}).infotext


def test_a_pass_has_no_meaning_in_img2img(host):
    host.script.is_img2img = True
    result = host.txt2img({"passes": "hires", "inject": 0})
    assert not torch.equal(result.noise, result.untouched)
    assert "Noise Order pass" not in result.infotext


def test_region_without_a_mask_in_words(host):
    host.script.is_img2img = True
    result = host.txt2img({"region": "outside"})
    assert result.infotext == {
        "Noise Order error": 'Region is "outside", but there is no mask: set it to "everywhere"',
    }


def test_a_webui_that_is_not_supported_in_words(monkeypatch):
    class FirstForge(A1111):
        def install(self):
            super().install()
            self.module("ldm_patched", __path__=[])

    result = FirstForge(monkeypatch).txt2img(True, 4.0, 0.05)
    reason = result.infotext["Noise Order error"]
    assert reason == (
        "this WebUI is not supported yet; AUTOMATIC1111 1.10, Forge, reForge, Forge Neo, ersatzForge are supported"
    ) or reason.endswith("; AUTOMATIC1111 1.10, Forge, reForge, Forge Neo, ersatzForge are")


@pytest.mark.parametrize("passes", ["hires", "both"])
def test_a_failure_in_the_hires_pass_says_which(host, passes):
    def fail():
        if host.network.calls >= (passes == "both"):
            raise RuntimeError("once")

    host.network.before = fail
    result = job(host, {**ON, "passes": passes}, hires=True, seeds=[1])
    assert result.changed == [passes == "both", False]
    assert result.infotexts[0]["Noise Order error"] == "hires pass: RuntimeError: once"
    assert ("Noise Order" in result.infotexts[0]) is (passes == "both")
    assert "Noise Order pass" not in result.infotexts[0]


def test_a_failure_in_the_first_pass_does_not_speak_of_the_second(host):
    result = job(host, {**ON, "passes": "both"}, hires=True, seeds=[1], before=fails_in(host, 0))
    assert result.infotexts == [{"Noise Order error": "RuntimeError: once"}]


def test_everything_in_the_console(host, capsys):
    host.opts.data["noiseorder_console"] = "everything"
    host.txt2img({"inject": 0, "erase": 1.5})
    first, settings, levels = capsys.readouterr().out.splitlines()
    assert first.startswith("[Noise Order] std ")
    assert first.endswith("; 0 evaluations per image")
    assert settings == (
        "[Noise Order] settings: Noise Order: 1, Noise Order erase: 1.5, Noise Order inject: 0, Noise Order variant: 0"
    )
    assert levels == "[Noise Order] levels evaluated: none"
    host.txt2img({**ON, "levels": 2, "first_level": 1.0, "last_level": 0.5})
    *_, levels = capsys.readouterr().out.splitlines()
    table = host.sigmas
    assert levels == (
        f"[Noise Order] levels evaluated: 1 (sigma {table[999].item():.4g}), 0.5 (sigma {table[500].item():.4g})"
    )


@pytest.mark.parametrize(("choice", "lines"), [("one line per batch", 2), ("errors only", 0), ("everything", 4)])
def test_the_inspector_tells_its_cost(host, choice, lines, capsys):
    host.opts.data.update({"noiseorder_inspector": True, "noiseorder_console": choice})
    host.txt2img({**ON, "levels": 3})
    console = capsys.readouterr().out.splitlines()
    assert len(console) == lines
    assert ("[Noise Order] inspector: 6 more evaluations per image" in console) is (choice != "errors only")


def test_a_look_that_fails_is_traced_in_the_console(host, capsys):
    def fail():
        if host.network.calls == 1:
            raise RuntimeError("while looking")

    host.opts.data["noiseorder_inspector"] = True
    host.network.before = fail
    result = host.txt2img(ON)
    assert not torch.equal(result.noise, result.untouched)
    console = capsys.readouterr()
    assert "while looking" in console.err
    assert "[Noise Order] inspector: 0 more evaluations per image" in console.out


def test_a_host_without_a_place_below_the_image(host, capsys):
    p = fakes.Bare(extra_generation_params={})
    host.begin(p, {"inject": 0.05, "erase": 99})
    assert list(p.extra_generation_params) == ["Noise Order error"]
    assert "from 1 to 64" in capsys.readouterr().out


@pytest.mark.parametrize("inner", [True, False])
def test_adetailers_passes(host, inner):
    host.opts.data["noiseorder_adetailer"] = False
    p = fakes.Bare(_ad_inner=inner, extra_generation_params={"Noise Order": "1", "Steps": "4"})
    host.begin(p, True)
    assert ("Noise Order" in p.extra_generation_params) is not inner
    assert p.extra_generation_params["Steps"] == "4"


def test_without_being_asked_for_adetailer_is_not_told_of(host):
    assert "Noise Order in ADetailer" not in host.txt2img(True, 4.0, 0.05).infotext


def test_a_call_without_a_job_or_a_noise_does_nothing(host):
    p = host.processing(["a"], [""], [1])
    noise = torch.randn(1, *host.shape)
    before = noise.clone()
    host.script.process_before_every_sampling(p, x=noise, noise=noise, c=None, uc=None)
    host.begin(p, False)
    host.script.process_before_every_sampling(p, x=noise, noise=noise, c=None, uc=None)
    host.begin(p, True)
    host.script.process_before_every_sampling(p, x=noise, c=None, uc=None)
    assert torch.equal(noise, before)
    assert host.network.calls == 0
    assert "Noise Order error" not in p.extra_generation_params


def test_the_plots_axes_come_before_the_page_once(host):
    module = types.SimpleNamespace(
        axis_options=[], AxisOption=lambda label, *_, **__: types.SimpleNamespace(label=label)
    )
    sys.modules["modules.scripts"].scripts_data.append(types.SimpleNamespace(path="xyz_grid.py", module=module))
    for callback in [*host.before_ui, *host.before_ui]:
        callback()
    labels = [option.label for option in module.axis_options]
    assert len(labels) == len(set(labels))

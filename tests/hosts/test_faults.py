"""Whatever goes wrong, and whenever: the noise is as asked for or untouched, and what is told is true."""

from __future__ import annotations

import pytest
import torch

ON = {"enabled": True, "inject": 0.05, "levels": 3, "direction": "denoised"}


def assert_untouched(host, result, reason):
    assert torch.equal(result.noise, result.untouched)
    assert list(result.infotext) == ["Noise Order error"]
    assert reason in result.infotext["Noise Order error"]
    assert reason in result.comments[0]
    assert result.errors == []
    assert (host.state.textinfo, host.state.sampling_step, host.state.sampling_steps) == ("before", 4, 9)


@pytest.mark.parametrize("call", [0, 1, 2])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda x: x * torch.nan, "NaN or infinity"),
        (lambda x: x * torch.inf, "NaN or infinity"),
        (lambda x: x[..., :1], "answered with the shape"),
        (lambda x: x[:, :1], "answered with the shape"),
        (lambda x: x.flatten(1), "answered with the shape"),
    ],
)
def test_an_answer_of_no_use(host, call, answer, reason, monkeypatch):
    forward, calls = type(host.network).forward, []

    def broken(self, x, *rest):
        calls.append(x)
        output = forward(self, x, *rest)
        return answer(output) if len(calls) == call + 1 else output

    monkeypatch.setattr(type(host.network), "forward", broken)
    assert_untouched(host, host.txt2img(ON), reason)
    # The next image is as if nothing had been.
    again = host.txt2img(ON)
    assert not torch.equal(again.noise, again.untouched)


@pytest.mark.parametrize("flag", ["interrupted", "skipped"])
@pytest.mark.parametrize("call", [0, 1, 2])
def test_interrupted_or_skipped_at_any_question(host, flag, call):
    def stop():
        if host.network.calls == call:
            setattr(host.state, flag, True)

    host.network.before = stop
    result = host.txt2img(ON)
    if call == 2:  # the last answer is there already
        assert not torch.equal(result.noise, result.untouched)
        assert result.infotext["Noise Order"] == "1"
    else:
        assert_untouched(host, result, "interrupted")
    assert host.network.calls == call + 1


def test_another_script_changes_the_noise_before_us(host):
    """What is found is modulated."""

    def halve(p):
        calls.append(p)

    calls = []
    draw = host.draw
    plain = host.txt2img({"enabled": True, "erase": 1, "inject": 0.05}, before_hook=halve)
    host.draw = lambda *args: draw(*args) * 0.5
    halved = host.txt2img({"enabled": True, "erase": 1, "inject": 0.05})
    assert len(calls) == 1
    assert halved.noise.std().item() == pytest.approx(plain.noise.std().item() / 2, rel=0.01)


def test_the_settings_of_a_generation_stay_those_it_began_with(host):
    expected = host.txt2img({"enabled": True, "inject": 0.05})

    def meddle(p):
        host.opts.data.update(noiseorder_on_failure="stop", noiseorder_default_preset="Erase only")
        p._noiseorder_xyz = {"inject": 0.05, "erase": 64.0}

    assert torch.equal(host.txt2img({"enabled": True, "inject": 0.05}, before_hook=meddle).noise, expected.noise)


@pytest.mark.parametrize("settings", [{}, {"inject": 0}])
def test_noise_that_cannot_be_written_is_left_and_told(host, settings):
    """As an expanded tensor: several images share its memory."""
    draw = host.draw
    host.draw = lambda shape, seeds: draw(shape, seeds[:1]).expand(len(seeds), *shape)
    result = host.txt2img({**ON, **settings}, seeds=[1, 1], prompts=["a", "a"], negative=["", ""])
    assert_untouched(host, result, "RuntimeError")


def test_a_state_of_the_host_that_vanishes(host, monkeypatch):
    """Another version without the text beside the progress bar."""
    monkeypatch.delattr(host.state, "textinfo")
    result = host.txt2img(ON)
    assert torch.equal(result.noise, result.untouched)
    assert "AttributeError" in result.infotext["Noise Order error"]

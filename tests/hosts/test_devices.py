"""Devices without float64 (MPS, DirectML, Arc), their random numbers, and tensors of inference mode."""

from __future__ import annotations

import fakes
import pytest
import torch
from fakes import A1111, A1111SD3, Ersatz, Forge, ForgeFlow, Neo, ReForge

ON = {"enabled": True, "inject": 0.05, "levels": 2}
FAKES = [A1111, A1111SD3, Forge, ForgeFlow, ReForge, Neo, Ersatz]


class OnDevice(torch.Tensor):
    """A tensor on such a device: whatever is computed from it stays there, and raises as PyTorch does."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        output = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return output.as_subclass(torch.Tensor)
        for tensor in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(tensor, OnDevice) and tensor.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
        return output


@pytest.fixture(params=FAKES, ids=lambda fake: fake.__name__)
def device_host(request, monkeypatch):
    for name in ("SIGMAS", "FLOW_SIGMAS"):
        monkeypatch.setattr(fakes, name, getattr(fakes, name).as_subclass(OnDevice))
    host = request.param(monkeypatch)
    draw = host.draw
    monkeypatch.setattr(host, "draw", lambda *args: draw(*args).as_subclass(OnDevice))
    return host


def test_the_tensor_raises_as_pytorch_does():
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2).as_subclass(OnDevice).double()
    assert torch.zeros(2).as_subclass(OnDevice).cpu().double().dtype == torch.float64


@pytest.mark.parametrize("normalisation", ["orthonormal", "as printed"])
@pytest.mark.parametrize("direction", ["guidance", "look-ahead", "denoised", "noise", "self-correction"])
@pytest.mark.parametrize("where", ["txt2img", "hires", "img2img", "inpaint"])
def test_nothing_on_the_device_is_float64(device_host, where, direction, normalisation):
    settings = {**ON, "erase": 2.5, "direction": direction, "normalisation": normalisation}
    changes = {}
    if where == "hires":
        settings["passes"], changes["hires"] = "both", True
    elif where != "txt2img":
        device_host.script.is_img2img = True
    if where == "inpaint":
        settings["region"] = "inside"
        shape = ((1,) if device_host.masks_are_batches else ()) + device_host.shape
        changes["nmask"] = torch.ones(shape).as_subclass(OnDevice)
    result = device_host.txt2img(settings, **changes)
    assert "Noise Order error" not in result.infotext
    assert isinstance(result.noise, OnDevice)
    assert not torch.equal(result.noise, result.untouched)
    if where == "hires":
        assert not torch.equal(result.hires_noise, result.hires_untouched)


def test_the_inspector_too(device_host):
    device_host.opts.data["noiseorder_inspector"] = True
    result = device_host.txt2img(ON)
    record = device_host.loaded.session.inspections.last[None]
    assert result.errors == []
    assert len(record.images) == 1
    assert record.evaluations == 4


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_the_generators_of_every_device_are_put_back(host, device, monkeypatch):
    """As the CPU's are: token merging and VAEs draw there."""
    generator = [7]
    module = getattr(torch, device)
    suffix = "" if device == "mps" else "_all"
    monkeypatch.setattr(torch.backends.mps if device == "mps" else module, "is_available", lambda: True)
    monkeypatch.setattr(module, f"get_rng_state{suffix}", lambda: list(generator))
    monkeypatch.setattr(module, f"set_rng_state{suffix}", lambda state: generator.__setitem__(slice(None), state))
    host.network.before = lambda: generator.__setitem__(0, generator[0] + 1)
    host.txt2img(ON)
    assert generator == [7]


def test_an_inference_tensor_outside_of_inference_mode_is_written_whole(a1111):
    """torch writes it and then raises: never reported as untouched."""
    expected = a1111.txt2img(ON)
    draw = a1111.draw

    def inference(*args):
        with torch.inference_mode():
            return draw(*args).clone()

    a1111.draw = inference
    result = a1111.txt2img(ON)
    assert result.noise.is_inference()
    assert "Noise Order error" not in result.infotext
    assert torch.equal(result.noise, expected.noise)

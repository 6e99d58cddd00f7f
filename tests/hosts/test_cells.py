"""Cells of an X/Y/Z plot: copies of one processing object, each with settings of its own."""

from __future__ import annotations

import copy
import sys
import types

import pytest
import torch

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import xyz


class AxisOption:
    def __init__(self, label, type, apply, confirm=None, choices=None):
        self.label, self.apply = label, apply


@pytest.fixture
def axes(host):
    """The axes as the script registers them, before the page is built."""
    module = types.SimpleNamespace(AxisOption=AxisOption, axis_options=[])
    sys.modules["modules.scripts"].scripts_data.append(types.SimpleNamespace(path="scripts/xyz_grid.py", module=module))
    for callback in host.before_ui:
        callback()
    return {option.label.removeprefix(xyz.PREFIX): option.apply for option in module.axis_options}


def settings_of(host, p):
    return host.loaded.session.generation(p).overrides


def test_cells_do_not_leak_into_each_other(host, axes):
    origin = host.processing(["a"], [""], [1])
    first = copy.copy(origin)
    axes["Erase"](first, 2.0, [])
    second = copy.copy(first)
    axes["Inject"](second, 0.1, [])
    assert settings_of(host, origin) == {}
    assert settings_of(host, first) == {"erase": 2.0}
    assert settings_of(host, second) == {"erase": 2.0, "inject": 0.1}
    # Nor where the object itself has a generation already, as after a first plot.
    third = copy.copy(origin)
    axes["Erase"](third, 9.0, [])
    assert settings_of(host, origin) == {}
    assert settings_of(host, third) == {"erase": 9.0}


def config_of(host, p, *args):
    host.script.before_process(p, *args)
    return p._noiseorder.config


def test_a_cell_that_sets_anything_is_switched_on_unless_it_says_off(host, axes):
    for values, args, enabled in (
        ({"Erase": 2.0}, (False,), True),
        ({"Erase": 2.0, "Enabled": "False"}, (True,), False),
        ({}, (False,), False),
        ({}, (True,), True),
    ):
        p = host.processing(["a"], [""], [1])
        for name, value in values.items():
            axes[name](p, value, [])
        assert config_of(host, p, *args).enabled is enabled


def test_what_a_cell_sets_is_made(host, axes):
    settings = {"erase": 2.0, "inject": 0.1, "direction": "denoised"}

    def apply(p):
        for name, value in (("Erase", 2.0), ("Inject", 0.1), ("Direction", "denoised")):
            axes[name](p, value, [])

    made = host.txt2img({"enabled": False, "erase": 9.0}, before_process=apply)
    assert torch.equal(made.noise, host.txt2img(settings).noise)
    assert made.infotext["Noise Order erase"] == "2"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_made_whole_beside_what_is_chosen_to_be_made(host, axes, name):
    p = host.processing(["a"], [""], [1])
    axes["Preset"](p, name, [])
    config = config_of(host, p, {"erase": 9.0, "compare_erased": True})
    assert config == PRESETS[name].replace(compare_erased=True)
    assert isinstance(config, NoiseOrderConfig)

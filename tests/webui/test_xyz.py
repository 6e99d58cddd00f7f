from __future__ import annotations

import types

import pytest

from lib_noiseorder.config import BY_NAME, FIELDS, NoiseOrderConfig, parse
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import xyz

MINE = NoiseOrderConfig(True, erase=2.0, variant=7)


class AxisOption:
    """As in every host: positional label, type, apply; the rest by keyword."""

    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label, self.type, self.apply = label, type, apply
        self.confirm, self.choices = confirm, choices


@pytest.fixture
def options():
    module = types.SimpleNamespace(AxisOption=AxisOption, axis_options=[AxisOption("Steps", int, None)])
    data = [
        types.SimpleNamespace(path="scripts/other.py", module=None),
        types.SimpleNamespace(path="x/xyz_grid.py", module=module),
    ]
    presets = lambda: {**PRESETS, "Mine": MINE}  # noqa: E731
    assert xyz.register(data, presets, put)
    assert xyz.register(data, presets, put), "a second time, as after Reload UI"
    return {option.label.removeprefix(xyz.PREFIX): option for option in module.axis_options}


def put(p, values):
    """Into a dict for each processing object, in the place of a generation."""
    p.settings.update(values)


def cell():
    return types.SimpleNamespace(settings={})


def overrides(p):
    """As a generation takes them: a cell that sets anything of ours is switched on unless it says off."""
    return {"enabled": True, **p.settings} if p.settings else {}


def test_every_setting_has_its_axis_once(options):
    assert list(options) == ["Steps", "Preset", "Enabled", *(field.label for field in FIELDS[1:])]


def test_a_disabled_xyz_script_is_no_error():
    assert xyz.register([], dict, put) is False


def test_values_reach_the_settings(options):
    p = cell()
    options["Erase"].apply(p, 2.0, [])
    options["Direction"].apply(p, "look-ahead", [])
    options["Key levels"].apply(p, 3, [])
    config = parse((True, 9.0), overrides(p))
    assert (config.erase, config.direction, config.levels) == (2.0, "look-ahead", 3)


def test_sweeping_a_setting_switches_on_and_the_enabled_axis_decides(options):
    swept, off = cell(), cell()
    options["Erase"].apply(swept, 2.0, [])
    options["Erase"].apply(off, 2.0, [])
    options["Enabled"].apply(off, "False", [])
    assert parse((False,), overrides(swept)).enabled
    assert not parse((True,), overrides(off)).enabled
    assert not parse((False,), overrides(cell())).enabled


@pytest.mark.parametrize("name", [*PRESETS, "Mine"])
def test_presets(options, name):
    p = cell()
    options["Preset"].apply(p, name, [])
    preset = {**PRESETS, "Mine": MINE}[name]
    assert parse((), overrides(p)) == preset
    config = parse(({"compare_erased": True},), overrides(p))
    assert config == preset.replace(compare_erased=True), "what is made beside it is no part of a preset"
    assert name in options["Preset"].choices()


def test_types_are_what_the_plot_reads_numbers_by(options):
    for field in FIELDS[1:]:
        # Text for a yes or no, too: bool("False") is True.
        listed = bool(field.choices) or isinstance(field.default, bool)
        assert options[field.label].type is (str if listed else type(field.default))
        assert (options[field.label].choices is not None) is listed
    assert options["Enabled"].type is str
    assert options["Enabled"].choices() == ["True", "False"]
    assert options["Direction"].choices() == list(BY_NAME["direction"].choices)


@pytest.mark.parametrize(
    ("label", "good", "bad", "texts"),
    [
        ("Erase", [1.0, 64.0], [0.5, 4.0, 99.0], ["0.5", "99.0", "from 1 to 64"]),
        ("Key levels", [1, 8], [0], ["0", "from 1 to 8"]),
        ("Direction", ["noise"], ["up"], ["'up'", "look-ahead"]),
        ("Enabled", ["True", "false"], ["perhaps"], ["'perhaps'", "true or false"]),
        ("Preset", ["Default", "Mine"], ["Yours"], ["'Yours'", "Paper, as printed"]),
    ],
)
def test_bad_values_are_named_before_anything_is_generated(options, label, good, bad, texts):
    options[label].confirm(None, good)
    with pytest.raises(RuntimeError) as error:
        options[label].confirm(None, bad)
    assert all(text in str(error.value) for text in (f"{xyz.PREFIX}{label}", *texts))


def test_each_bad_value_has_its_sentence(options):
    with pytest.raises(RuntimeError) as error:
        options["Erase"].confirm(None, [0.5, 99.0])
    first, second = str(error.value).split("; ")
    assert "= 0.5: must" in first
    assert second.startswith("Erase (erase) = 99.0: must")

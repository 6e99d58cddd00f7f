from __future__ import annotations

import pytest

from lib_noiseorder.presets import CAVEATS, FAMILIES, PRESETS, TWO_STEP, automatic, follow
from lib_noiseorder.webui.cost import injection


@pytest.mark.parametrize(
    ("family", "name"), [("eps", TWO_STEP), ("v", TWO_STEP), ("flow", TWO_STEP), ("distilled", "Few steps")]
)
def test_auto_takes_the_direction_of_the_family_s_preset_and_says_so(family, name):
    config = PRESETS["Auto"].replace(erase=7.0, levels=2)
    result, preset = follow(config, family)
    assert preset == name
    assert result == config.replace(direction=PRESETS[name].direction)
    assert automatic(family) == f"Auto: {FAMILIES[family].words} is loaded, so “{name}”."


def test_the_presets_of_the_families_differ_in_nothing_else():
    for family in FAMILIES.values():
        assert PRESETS[family.preset].replace(direction="auto") == PRESETS["Auto"]


def test_auto_without_a_model_is_the_two_step_method_and_says_why():
    assert follow(PRESETS["Auto"], None) == (PRESETS[TWO_STEP], TWO_STEP)
    assert "no model is loaded yet" in automatic(None)


@pytest.mark.parametrize("direction", ["guidance", "look-ahead", "denoised", "noise", "self-correction"])
def test_a_direction_that_was_chosen_follows_nothing(direction):
    config = PRESETS[TWO_STEP].replace(direction=direction)
    assert follow(config, "distilled") == (config, "")


def test_few_steps_asks_no_negative_prompt():
    preset = PRESETS["Few steps"]
    assert (preset.direction, preset.levels, preset.first_level, preset.inject) == ("denoised", 1, 0.9, 0.05)
    assert injection(preset, 1, 7.0, True) == 1


def test_names():
    assert next(iter(PRESETS)) == "Default"
    assert {family.preset for family in FAMILIES.values()} <= set(PRESETS)


def test_what_is_told_of_presets_is_told_of_built_in_ones():
    assert CAVEATS.keys() <= PRESETS.keys()

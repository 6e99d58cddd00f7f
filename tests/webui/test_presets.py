from __future__ import annotations

import pytest

from lib_noiseorder.presets import AUTO, FAMILIES, PRESETS, automatic


@pytest.mark.parametrize(
    ("family", "name"), [("eps", "Default"), ("v", "Default"), ("flow", "Default"), ("few", "Few steps")]
)
def test_auto_takes_the_preset_of_the_family_and_says_so(family, name):
    chosen, told = automatic(family)
    assert chosen == name
    assert name in told
    assert FAMILIES[family].words in told


def test_auto_without_a_model_is_the_default_and_says_why():
    chosen, told = automatic(None)
    assert chosen == "Default"
    assert "no model is loaded yet" in told


def test_few_steps_asks_no_negative_prompt():
    preset = PRESETS["Few steps"]
    assert (preset.direction, preset.levels, preset.first_level, preset.inject) == ("denoised", 1, 0.9, 0.05)
    assert preset.evaluations == 1


def test_names():
    assert next(iter(PRESETS)) == "Default"
    assert AUTO not in PRESETS
    assert {family.preset for family in FAMILIES.values()} <= set(PRESETS)

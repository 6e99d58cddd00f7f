"""What is refused, in the words a user reads; and what is just allowed."""

from __future__ import annotations

import dataclasses

import pytest

from lib_noiseorder.config import BY_NAME, FIELDS, OFF, Field, NoiseOrderConfig, SettingError, parse
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import infotext
from lib_noiseorder.webui.cost import injection
from lib_noiseorder.webui.userpresets import Presets


def catch(call):
    with pytest.raises(SettingError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("enabled", 1, "Noise Order (enabled) = 1: must be true or false"),
        ("erase", 0.5, "Erase (erase) = 0.5: must be a number from 1 to 64"),
        ("inject", -1.01, "Inject (inject) = -1.01: must be a number from -1 to 1"),
        ("levels", 9, "Key levels (levels) = 9: must be a whole number from 1 to 8"),
        ("levels", 1.5, "Key levels (levels) = 1.5: must be a whole number from 1 to 8"),
        ("variant", True, "Variant (variant) = True: must be a whole number from 0 to 9999"),
        ("passes", "third", """Pass (passes) = 'third': must be one of "first", "hires", "both\""""),
        ("passes", 1, """Pass (passes) = 1: must be one of "first", "hires", "both\""""),
        ("passes", ["first"], """Pass (passes) = ['first']: must be one of "first", "hires", "both\""""),
    ],
)
def test_a_value_that_cannot_be(name, value, sentence):
    assert catch(lambda: BY_NAME[name].check(value)) == sentence
    assert catch(lambda: NoiseOrderConfig(**{"enabled": True, name: value})) == sentence


@pytest.mark.parametrize(("length", "text"), [(58, "'" + 58 * "x" + "'"), (59, "'" + 56 * "x" + "...")])
def test_a_long_value_is_cut(length, text):
    assert catch(lambda: BY_NAME["passes"].check("x" * length)).startswith(f"Pass (passes) = {text}: must be")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"layout": 0, "structure": 0, "detail": 0}, "layout, structure, detail) = 0, 0, 0"),
        ({"layout": 0, "structure": 0, "detail": 0, "levels": 3}, "layout, structure, detail) = 0, 0, 0"),
        ({"layout": 0, "detail": 0, "levels": 2}, "layout, detail (all that two key levels use)) = 0, 0"),
    ],
)
def test_weights_without_any(settings, names):
    assert catch(lambda: NoiseOrderConfig(True, **settings)) == f"Weights ({names}: at least one must be above 0"


@pytest.mark.parametrize(
    "settings",
    [
        {"layout": 0, "detail": 0},
        {"layout": 0, "detail": 0, "levels": 1},
        {"layout": 0, "detail": 0, "levels": 3},
        {"layout": 0, "structure": 0, "levels": 2},
        {"structure": 0, "detail": 0, "levels": 2},
        {"layout": 0, "structure": 0, "levels": 8},
    ],
)
def test_one_weight_is_enough(settings):
    config = NoiseOrderConfig(True, **settings)
    assert config.weights == tuple(settings.get(name, 1.0) for name in ("layout", "structure", "detail"))


def test_settings_not_known():
    names = ", ".join(field.name for field in FIELDS)
    assert (
        catch(lambda: parse(({"strength": 1, "erase": 2, "n": 3},)))
        == f"Unknown setting 'strength', 'n': the settings are {names}"
    )


@pytest.mark.parametrize(("count", "told"), [(5, "'a', 'b', 'c', 'd', 'e'"), (6, "'a', 'b', 'c', 'd', 'e' and 1 more")])
def test_of_many_settings_not_known_five_are_named(count, told):
    assert catch(lambda: parse((dict.fromkeys("abcdefg"[:count]),))).startswith(f"Unknown setting {told}: the settings")


@pytest.mark.parametrize("enabled", [True, False])
def test_arguments_by_position_by_name_and_from_the_plot(enabled):
    assert parse((enabled, 2.0)).enabled is enabled
    assert parse(({"enabled": enabled, "erase": 2.0},)).enabled is enabled
    assert parse((not enabled, 2.0), {"enabled": enabled}).enabled is enabled
    assert parse((True, 2.0), {"erase": 3.0}) == NoiseOrderConfig(True, 3.0)
    assert parse(({"erase": 2.0},), {"erase": 3.0}) == NoiseOrderConfig(True, 3.0)
    assert parse((), {"erase": 3.0}) is OFF
    assert parse([{}]) == NoiseOrderConfig(True)
    assert parse((True, {"erase": 3.0})[:1]) == NoiseOrderConfig(True)


def test_the_object_that_was_sent_is_left_alone():
    settings = {"erase": 2.0}
    parse((settings,), {"inject": 0.1})
    assert settings == {"erase": 2.0}


def test_a_field_needs_no_range():
    field = Field("name", False, "Label", "help", "key")
    assert (field.minimum, field.maximum, field.step, field.choices) == (0, 0, 0, ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        field.name = "other"


@pytest.mark.parametrize(
    ("settings", "active", "evaluations"),
    [
        ({}, True, 0),
        ({"inject": 0.05}, True, 2),
        ({"inject": 0.05, "enabled": False}, False, 2),
        ({"inject": 0.05, "erase": 1}, True, 2),
        ({"erase": 1, "inject": 0}, False, 0),
        ({"erase": 1, "inject": -0.5, "levels": 8, "direction": "look-ahead"}, True, 16),
        ({"inject": 1, "levels": 8, "direction": "noise"}, True, 8),
        ({"erase": 2, "inject": 0}, True, 0),
    ],
)
def test_whether_anything_is_done_and_what_it_costs(settings, active, evaluations):
    config = NoiseOrderConfig(**{"enabled": True, **settings})
    assert (config.active, injection(config, 1, 7.0, True)) == (active, evaluations)
    assert type(config.active) is bool


def test_pasted_yes_and_no():
    field = BY_NAME["compare_original"]
    read = infotext.reader(field)
    assert read({"Noise Order": "1", field.infotext: "True"}) is True
    assert read({"Noise Order": "1", field.infotext: "False"}) is False
    assert read({"Noise Order": "1"}) is False
    assert read({field.infotext: "True"}) is None


def test_numbers_are_written_as_short_as_they_are_read_back():
    assert [infotext.text(value) for value in (4.0, 0.05, 10.0, 1e-5, 3, True, "x")] == [
        "4",
        "0.05",
        "10",
        "1e-05",
        "3",
        "True",
        "x",
    ]


@pytest.fixture
def presets(tmp_path):
    return Presets(tmp_path / "deeper" / "noiseorder" / "presets.json")


def test_names_of_own_presets_at_their_ends(presets):
    for name in ("x", "x" * 60):
        assert presets.save(name, OFF) == name
    assert presets.names() == [*PRESETS, "x", "x" * 60]
    assert catch(lambda: presets.save("x" * 61, OFF)) == (
        "Preset name of 61 characters: give 1 to 60 characters, no line breaks or control characters"
    )
    assert catch(lambda: presets.save("", OFF)) == (
        "Preset name '': give 1 to 60 characters, no line breaks or control characters"
    )
    assert catch(lambda: presets.save("auto", OFF)) == (
        "Preset name 'auto': a built-in preset has that name, give another"
    )


@pytest.mark.parametrize(("length", "text"), [(60, repr("x" * 58 + "\x07x")), (61, "of 61 characters")])
def test_a_name_with_a_control_character_is_shown_unless_it_is_too_long(presets, length, text):
    name = "x" * (length - 2) + "\x07x"
    assert catch(lambda: presets.save(name, OFF)).startswith(f"Preset name {text}: give 1 to 60")


def test_renaming_to_its_own_name_or_to_that_of_another(presets):
    presets.save("Mine", OFF)
    presets.save("Other", OFF)
    assert catch(lambda: presets.rename("Mine", "Other")) == (
        'There is a preset "Other" already: choose another name, or delete that one first'
    )
    assert presets.rename("Mine", " Third ") == "Third"
    assert presets.names() == [*PRESETS, "Third", "Other"]


@pytest.mark.parametrize(("name", "text"), [("Nobody", "'Nobody'"), (None, "None"), (["Mine"], "['Mine']"), (3, "3")])
def test_choosing_no_preset(presets, name, text):
    presets.save("Mine", OFF)
    presets.save("Other", OFF)
    assert catch(lambda: presets.get(name)) == f"{text} is no preset: the presets are {', '.join(PRESETS)}, Mine, Other"


@pytest.mark.parametrize("enabled", [True, False])
def test_a_chosen_preset_is_on(presets, enabled):
    presets.save("Mine", NoiseOrderConfig(enabled, 2.0))
    assert presets.get("Mine") == NoiseOrderConfig(True, 2.0)
    presets.path.write_text('{"version": 1, "presets": {"Off": {"enabled": false, "erase": 3}}}', encoding="utf-8")
    assert presets.get("Off") == NoiseOrderConfig(True, 3.0)


def test_presets_that_cannot_be_used_take_no_others_with_them(presets):
    presets.save("Mine", OFF)
    text = '{"version": 1, "presets": {"A": 3, "B": {"erase": 2}, "C": {"erase": 99}, "D": {"erase": 3}}}'
    presets.path.write_text(text, encoding="utf-8")
    assert list(presets.usable()) == [*PRESETS, "B", "D"]
    assert catch(lambda: presets.get("A")) == (
        f'Preset "A" cannot be used. it must be an object of settings. Correct it in {presets.path}'
    )
    assert catch(lambda: presets.get("C")) == (
        f'Preset "C" cannot be used. Erase (erase) = 99: must be a number from 1 to 64. Correct it in {presets.path}'
    )


def test_the_file_can_be_read_by_people(presets):
    presets.save("Märchen", OFF)
    lines = presets.path.read_bytes().decode("utf-8").splitlines()
    assert lines[:4] == ["{", ' "version": 1,', ' "presets": {', '  "Märchen": {']

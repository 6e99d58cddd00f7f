from __future__ import annotations

import dataclasses
import math

import pytest

from lib_noiseorder.config import BY_NAME, FIELDS, OFF, NoiseOrderConfig, SettingError, parse
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui.cost import injection

NUMBERS = [field for field in FIELDS if field.maximum]
ids = {"ids": lambda field: field.name}


def test_table_and_dataclass_are_the_same_settings_in_the_same_order():
    own = [(field.name, field.default) for field in dataclasses.fields(NoiseOrderConfig)]
    assert own == [(field.name, field.default) for field in FIELDS]
    assert all(type(field.default) is type(getattr(OFF, field.name)) for field in FIELDS)


def test_stored_names():
    """Arguments by position, API keys, labels and infotext keys live in people's scripts and images: add at the end."""
    assert [(field.name, field.label, field.infotext) for field in FIELDS][:19] == [
        ("enabled", "Noise Order", "Noise Order"),
        ("erase", "Erase", "Noise Order erase"),
        ("inject", "Inject", "Noise Order inject"),
        ("direction", "Direction", "Noise Order direction"),
        ("levels", "Key levels", "Noise Order levels"),
        ("first_level", "First level", "Noise Order first level"),
        ("last_level", "Last level", "Noise Order last level"),
        ("layout", "Layout weight", "Noise Order layout"),
        ("structure", "Structure weight", "Noise Order structure"),
        ("detail", "Detail weight", "Noise Order detail"),
        ("normalisation", "Normalisation", "Noise Order normalisation"),
        ("variant", "Variant", "Noise Order variant"),
        ("passes", "Pass", "Noise Order pass"),
        ("region", "Region", "Noise Order region"),
        ("compare_original", "Also make: original", "Noise Order compare original"),
        ("compare_erased", "Also make: erased", "Noise Order compare erased"),
        ("compare_injected", "Also make: injected", "Noise Order compare injected"),
        ("audition", "Audition", "Noise Order audition"),
        ("chain", "Chain", "Noise Order chain"),
    ]
    assert BY_NAME["direction"].choices == (
        "guidance",
        "look-ahead",
        "denoised",
        "noise",
        "auto",
        "self-correction",
    )
    assert BY_NAME["region"].choices == ("everywhere", "inside", "outside")
    assert BY_NAME["passes"].choices == ("first", "hires", "both")
    assert BY_NAME["normalisation"].choices == ("orthonormal", "as printed")


def test_defaults_are_what_was_measured():
    default = NoiseOrderConfig(enabled=True)
    assert (default.erase, default.inject, default.direction) == (4.0, 0.0, "guidance")
    assert (default.levels, default.first_level, default.normalisation) == (1, 0.9, "orthonormal")
    assert PRESETS["Default"] == default


def test_paper_preset_is_the_paper():
    paper = PRESETS["Paper, as printed"]
    assert (paper.erase, paper.levels, paper.direction, paper.normalisation) == (4, 3, "noise", "as printed")


@pytest.mark.parametrize("field", NUMBERS, **ids)
def test_numbers_are_taken_at_their_ends_and_refused_beyond(field):
    for end in (field.minimum, field.maximum):
        assert field.check(end) == end
        assert type(field.check(end)) is type(field.default)
    for beyond in (field.minimum - 1, field.maximum + 1, math.nan, math.inf, -math.inf, "1", None, True, [1], {}):
        with pytest.raises(SettingError) as error:
            field.check(beyond)
        assert field.name in str(error.value)
        assert f"from {field.minimum:g} to {field.maximum:g}" in str(error.value)
        assert repr(beyond) in str(error.value)


def test_whole_numbers_come_as_floats_from_some_pages():
    assert BY_NAME["levels"].check(3.0) == 3
    assert isinstance(BY_NAME["levels"].check(3.0), int)
    assert isinstance(BY_NAME["erase"].check(3), float)
    with pytest.raises(SettingError, match="a whole number"):
        BY_NAME["levels"].check(2.5)


def test_a_long_value_is_shortened():
    with pytest.raises(SettingError) as error:
        BY_NAME["direction"].check("x" * 10_000)
    assert len(str(error.value)) < 300


def test_parse_positional_and_dict_agree():
    assert parse((True, 2, 0.1, "denoised", 3)) == parse(
        ({"erase": 2, "inject": 0.1, "direction": "denoised", "levels": 3},)
    )
    assert parse(()) == OFF
    assert parse((True,)) == NoiseOrderConfig(enabled=True)
    assert parse(({},)).enabled
    # The hosts add the arguments that were not sent, and the ticket of an audition comes behind the settings.
    assert parse(({"erase": 2}, 9.0, "")) == NoiseOrderConfig(enabled=True, erase=2.0)


def test_off_is_off_whatever_else_is_wrong():
    assert parse((False, "nonsense")) == OFF
    assert parse(({"enabled": False, "erase": -1},)) == OFF


def test_unknown_keys_are_named_with_the_known_ones():
    with pytest.raises(SettingError, match=r"strength.*enabled, erase"):
        parse(({"strength": 1},))


@pytest.mark.parametrize(
    ("settings", "evaluations"),
    [
        ({}, 0),
        ({"inject": 0.05}, 2),
        ({"inject": -0.05, "levels": 3}, 6),
        ({"inject": 0.05, "direction": "look-ahead", "levels": 3}, 6),
        ({"inject": 0.05, "direction": "self-correction", "levels": 3}, 4),
        ({"inject": 0.05, "direction": "denoised", "levels": 3}, 3),
        ({"inject": 0.05, "direction": "noise"}, 1),
        ({"inject": 0}, 0),
    ],
)
def test_evaluations(settings, evaluations):
    assert injection(NoiseOrderConfig(**{"enabled": True, **settings}), 1, 7.0, True) == evaluations


def test_what_is_made_beside_the_image_does_not_activate_it():
    assert not NoiseOrderConfig(True, 1.0, 0.0, compare_original=True).active


def test_variants_differ_in_what_their_name_says_and_ask_for_nothing_themselves():
    config = NoiseOrderConfig(True, 3.0, 0.1, "denoised", compare_original=True, compare_erased=True)
    assert config.comparisons == ("original", "erased")
    assert config.variants == {
        "original": NoiseOrderConfig(True, 1.0, 0.0, "denoised"),
        "erased": NoiseOrderConfig(True, 3.0, 0.0, "denoised"),
    }
    assert not config.variants["original"].active


class Hostile:
    """An object that raises whatever is done with it."""

    def fail(self, *arguments):
        raise RuntimeError("asked")

    __repr__ = __str__ = __eq__ = __bool__ = __float__ = __int__ = __len__ = fail
    __class__ = property(fail)
    __hash__ = None


class HostileText(str):
    def __eq__(self, other):
        raise RuntimeError("asked")

    __hash__ = str.__hash__


class HostileNumber(float):
    def __repr__(self):
        raise RuntimeError("asked")

    def __float__(self):
        raise RuntimeError("asked")

    __le__ = __ge__ = __lt__ = __gt__ = __float__


DEEP: list = []
DEEP.append(DEEP)
HOSTILE = [10**400, -(10**5000), 1e308, Hostile(), HostileText("up"), HostileNumber(3), DEEP, b"\xff", "\ud800", "a\nb"]


@pytest.mark.parametrize("field", FIELDS, **ids)
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_value_raises_anything_but_the_sentence(field, number):
    with pytest.raises(SettingError) as error:
        field.check(HOSTILE[number])
    message = str(error.value)
    assert message.startswith(f"{field.label} ({field.name}) = ")
    if field.name != "chain" or not issubclass(type(HOSTILE[number]), (str, list)):
        assert message.endswith(f": must be {field.allowed}")
    assert "must be" in message
    assert "\n" not in message
    assert message.encode()
    assert len(message) < 300


def test_unknown_keys_are_told_in_short():
    with pytest.raises(SettingError) as error:
        parse(({"k" * 10_000: 1, "\ud800": 1, **{f"other {k}": k for k in range(1000)}},))
    assert len(str(error.value).encode()) < 700
    assert "and 997 more" in str(error.value)


def test_an_audition_needs_candidates_that_differ():
    assert NoiseOrderConfig(True, inject=0.05, audition=2, variant=9998).audition == 2
    for settings, message in (
        ({"audition": 1}, "must be from 2 to 16"),
        ({"audition": 4, "erase": 1.0}, "set Erase above 1"),
        ({"audition": 3, "variant": 9998}, "at most 9997"),
    ):
        with pytest.raises(SettingError, match=message):
            NoiseOrderConfig(True, **settings)
    assert NoiseOrderConfig(True, inject=0.05, audition=2, compare_injected=True).variants["injected"].audition == 0

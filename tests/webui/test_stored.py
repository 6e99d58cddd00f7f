"""What lies in people's images, presets, scripts and defaults, as golden values: once stored, it stays readable."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lib_noiseorder.config import (
    COMPARE,
    FIELDS,
    OFF,
    VARIANTS,
    NoiseOrderConfig,
)
from lib_noiseorder.names import (
    BOTH,
    HIRES,
    NOISE,
)
from lib_noiseorder.presets import FAMILIES, PRESETS, automatic
from lib_noiseorder.webui import infotext
from lib_noiseorder.webui.userpresets import Presets

# Name, default, label, minimum, maximum, step, choices.
STORED = [
    ("enabled", False, "Noise Order", 0, 0, 0, ()),
    ("erase", 4.0, "Erase", 1.0, 64.0, 0.5, ()),
    ("inject", 0.0, "Inject", -1.0, 1.0, 0.01, ()),
    (
        "direction",
        "guidance",
        "Direction",
        0,
        0,
        0,
        ("guidance", "look-ahead", "denoised", "noise", "auto", "self-correction"),
    ),
    ("levels", 1, "Key levels", 1, 8, 1, ()),
    ("first_level", 0.9, "First level", 0.05, 1.0, 0.01, ()),
    ("last_level", 0.7, "Last level", 0.05, 1.0, 0.01, ()),
    ("layout", 1.0, "Layout weight", 0.0, 2.0, 0.05, ()),
    ("structure", 1.0, "Structure weight", 0.0, 2.0, 0.05, ()),
    ("detail", 1.0, "Detail weight", 0.0, 2.0, 0.05, ()),
    ("normalisation", "orthonormal", "Normalisation", 0, 0, 0, ("orthonormal", "as printed")),
    ("variant", 0, "Variant", 0, 9999, 1, ()),
    ("passes", "first", "Pass", 0, 0, 0, ("first", "hires", "both")),
    ("region", "everywhere", "Region", 0, 0, 0, ("everywhere", "inside", "outside")),
    ("compare_original", False, "Also make: original", 0, 0, 0, ()),
    ("compare_erased", False, "Also make: erased", 0, 0, 0, ()),
    ("compare_injected", False, "Also make: injected", 0, 0, 0, ()),
    ("audition", 0, "Audition", 0, 16, 1, ()),
    ("chain", "", "Chain", 0, 0, 0, ()),
]
KEYS = [
    "Noise Order",
    "Noise Order erase",
    "Noise Order inject",
    "Noise Order direction",
    "Noise Order levels",
    "Noise Order first level",
    "Noise Order last level",
    "Noise Order layout",
    "Noise Order structure",
    "Noise Order detail",
    "Noise Order normalisation",
    "Noise Order variant",
    "Noise Order pass",
    "Noise Order region",
    "Noise Order compare original",
    "Noise Order compare erased",
    "Noise Order compare injected",
    "Noise Order audition",
    "Noise Order chain",
]


def test_the_table():
    rows = [(f.name, f.default, f.label, f.minimum, f.maximum, f.step, f.choices) for f in FIELDS]
    assert rows[: len(STORED)] == STORED
    assert [type(row[1]) for row in rows[: len(STORED)]] == [type(row[1]) for row in STORED]
    assert [f.infotext for f in FIELDS][: len(KEYS)] == KEYS


def test_settings_left_out_are_these():
    assert list(dataclasses.asdict(OFF).items())[: len(STORED)] == [(name, default) for name, default, *_ in STORED]


def test_keys_beside_the_settings():
    assert (infotext.VERSION, infotext.MARKER, infotext.ERROR) == ("1", "Noise Order", "Noise Order error")
    assert (infotext.INNER, infotext.VARIANT) == ("Noise Order in ADetailer", "Noise Order compare")


def test_variants():
    assert VARIANTS == {
        "original": {"erase": 1.0, "inject": 0.0, "chain": ""},
        "erased": {"inject": 0.0},
        "injected": {"erase": 1.0, "chain": ""},
    }
    assert COMPARE == ("compare_original", "compare_erased", "compare_injected")


# Beside "enabled", what differs from the defaults above.
STORED_PRESETS = {
    "Default": {},
    "Erase only": {},
    "Erase and inject": {"inject": 0.05},
    "Inject only": {"erase": 1.0, "inject": 0.05},
    "Look-ahead": {
        "erase": 1.0,
        "inject": 0.08,
        "direction": "look-ahead",
        "levels": 3,
        "first_level": 1.0,
        "last_level": 0.8,
    },
    "Few steps": {"inject": 0.05, "direction": "denoised"},
    "Paper, as printed": {
        "inject": 0.1,
        "direction": "noise",
        "levels": 3,
        "last_level": 0.1,
        "normalisation": "as printed",
    },
    "Auto": {"inject": 0.05, "direction": "auto"},
    "Self-correction": {
        "erase": 1.0,
        "inject": 0.1,
        "direction": "self-correction",
        "levels": 3,
        "first_level": 1.0,
        "last_level": 0.75,
    },
}


def test_presets():
    defaults = {name: default for name, default, *_ in STORED}
    assert list(PRESETS)[: len(STORED_PRESETS)] == list(STORED_PRESETS)
    for name, settings in STORED_PRESETS.items():
        values = list(dataclasses.asdict(PRESETS[name]).items())[: len(STORED)]
        assert dict(values) == {**defaults, "enabled": True, **settings}


def test_families_and_what_auto_says():
    assert list(FAMILIES) == ["eps", "v", "flow", "distilled"]
    assert [automatic(family) for family in ("eps", "v", "flow", "distilled", None)] == [
        "Auto: a model that predicts noise (ε) is loaded, so “Erase and inject”.",
        "Auto: a model that predicts velocity (v) is loaded, so “Erase and inject”.",
        "Auto: a flow model is loaded, so “Erase and inject”.",
        "Auto: a few-step or guidance-distilled model is loaded, so “Few steps”.",
        "Auto: no model is loaded yet; “Erase and inject” until it is known.",
    ]


ERASED = {"Noise Order": "1", "Noise Order erase": "2.5"}
INJECTED = {
    "Noise Order": "1",
    "Noise Order erase": "1",
    "Noise Order inject": "0.05",
    "Noise Order direction": "guidance",
    "Noise Order levels": "1",
    "Noise Order first level": "0.9",
    "Noise Order normalisation": "orthonormal",
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"enabled": False}, {}),
        ({"erase": 1, "inject": 0}, {}),
        ({"inject": 0.05}, {**INJECTED, "Noise Order erase": "4", "Noise Order variant": "0"}),
        ({"erase": 2.5, "inject": 0}, {**ERASED, "Noise Order inject": "0", "Noise Order variant": "0"}),
        (
            {"erase": 2.5, "inject": 0, "region": "inside", "variant": 9},
            {**ERASED, "Noise Order inject": "0", "Noise Order variant": "9", "Noise Order region": "inside"},
        ),
        (
            {"erase": 1, "inject": -0.07, "region": "inside", "variant": 9},
            {**INJECTED, "Noise Order inject": "-0.07"},
        ),
        (
            {"erase": 1, "inject": 0.05, "levels": 2, "structure": 0.5},
            {
                **INJECTED,
                "Noise Order levels": "2",
                "Noise Order last level": "0.7",
                "Noise Order layout": "1",
                "Noise Order structure": "0.5",
                "Noise Order detail": "1",
            },
        ),
        (
            {
                "erase": 1,
                "inject": 0.05,
                "levels": 3,
                "direction": "look-ahead",
                "passes": "both",
                "compare_erased": True,
            },
            {
                **INJECTED,
                "Noise Order direction": "look-ahead",
                "Noise Order levels": "3",
                "Noise Order last level": "0.7",
                "Noise Order pass": "both",
                "Noise Order compare erased": "True",
            },
        ),
        (
            {"erase": 1, "inject": 0.05, "levels": 3, "direction": "self-correction"},
            {
                **INJECTED,
                "Noise Order direction": "self-correction",
                "Noise Order levels": "3",
                "Noise Order last level": "0.7",
            },
        ),
        (
            {"inject": 0, "passes": "hires", "compare_original": True, "compare_injected": True},
            {
                "Noise Order": "1",
                "Noise Order erase": "4",
                "Noise Order inject": "0",
                "Noise Order variant": "0",
                "Noise Order pass": "hires",
                "Noise Order compare original": "True",
                "Noise Order compare injected": "True",
            },
        ),
    ],
)
def test_infotexts(settings, expected):
    assert infotext.write(NoiseOrderConfig(**{"enabled": True, **settings})) == expected


def test_the_file_of_presets(tmp_path):
    path = tmp_path / "presets.json"
    config = NoiseOrderConfig(
        True, 2.5, -0.1, NOISE, 3, 1.0, 0.5, 0.5, 1.5, 0.25, "as printed", 9, BOTH, "inside", True
    )
    Presets(path).save("Mine", config)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert list(data) == ["version", "presets"]
    assert data["version"] == 1
    assert list(data["presets"]["Mine"].items())[:13] == [
        ("erase", 2.5),
        ("inject", -0.1),
        ("direction", "noise"),
        ("levels", 3),
        ("first_level", 1.0),
        ("last_level", 0.5),
        ("layout", 0.5),
        ("structure", 1.5),
        ("detail", 0.25),
        ("normalisation", "as printed"),
        ("variant", 9),
        ("passes", "both"),
        ("region", "inside"),
    ]
    assert not set(data["presets"]["Mine"]) & {"enabled", *COMPARE}


def test_a_file_of_presets_as_it_was_written_once(tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(
        '{\n "version": 1,\n "presets": {\n  "Märchen": {\n   "erase": 2.5,\n   "direction": "noise",\n'
        '   "passes": "hires",\n   "region": "outside"\n  }\n }\n}',
        encoding="utf-8",
    )
    preset = Presets(path).get("Märchen")
    assert (preset.enabled, preset.erase, preset.direction, preset.passes, preset.region) == (
        True,
        2.5,
        NOISE,
        HIRES,
        "outside",
    )
    assert (preset.inject, preset.levels, preset.variant) == (0.0, 1, 0)

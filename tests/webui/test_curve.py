"""What is drawn, before it is drawn: the numbers are those the method uses."""

from __future__ import annotations

import json
import re

import pytest

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core.schedule import key_levels
from lib_noiseorder.webui.accordion import values_of
from lib_noiseorder.webui.curve import curve


def read_curve(**settings):
    config = NoiseOrderConfig(True, inject=0.05, **settings)
    markup = curve(*values_of(config))
    data = {key: json.loads(value) for key, value in re.findall(r'data-(\w+)="([^"]*)"', markup)}
    return data, re.search(r'aria-label="([^"]*)"', markup).group(1)


@pytest.mark.parametrize("levels", [2, 3, 4, 8])
def test_levels_and_weights_are_the_methods_own(levels):
    data, words = read_curve(levels=levels, first_level=1.0, last_level=0.35, layout=2.0, structure=0.5, detail=1.25)
    keys = key_levels(levels, 1.0, 0.35, (2.0, 0.5, 1.25))
    assert data["levels"] == [[key.fraction, key.weight] for key in keys]
    assert words.startswith(
        f"{levels} key levels at {', '.join(f'{key.fraction:.2f}' for key in keys)}"
        f" with weights {', '.join(f'{key.weight:.2f}' for key in keys)};"
    )
    # The line ends where the levels do, and every level lies on it.
    assert data["curve"][0] == data["levels"][0]
    assert data["curve"][-1] == data["levels"][-1]
    for position, weight in data["levels"]:
        assert any(
            abs((b[0] - a[0]) * (weight - a[1]) - (b[1] - a[1]) * (position - a[0])) < 1e-9
            and min(a[0], b[0]) - 1e-9 <= position <= max(a[0], b[0]) + 1e-9
            for a, b in zip(data["curve"], data["curve"][1:], strict=False)
        )


def test_one_level_has_no_weight():
    data, words = read_curve(detail=0.5)
    assert data == {"levels": [[0.9, 1.0]], "curve": []}
    assert words.startswith("1 key level at 0.90;")


@pytest.mark.parametrize("direction", ["look-ahead", "self-correction"])
def test_a_walk_has_no_weights(direction):
    data, words = read_curve(direction=direction, levels=3, detail=0.5)
    assert [weight for _, weight in data["levels"]] == [1, 1, 1]
    assert data["curve"] == []
    assert f"{direction} uses no weights" in words


def test_nothing_is_drawn_where_nothing_is_asked():
    markup = curve(*values_of(NoiseOrderConfig(True, inject=0.0)))
    assert "not used" in markup
    assert "data-" not in markup


def test_nothing_is_drawn_of_settings_that_cannot_work():
    assert curve(0.5) == ""

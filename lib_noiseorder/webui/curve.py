"""The key levels for the eye and the ear: what the browser draws, and the same in words."""

from __future__ import annotations

import html
import json

from ..config import (
    NoiseOrderConfig,
)
from ..core.schedule import key_levels
from ..names import (
    MULTI_STEP,
)


def curve(*values: object) -> str:
    """An element that javascript/noiseorder.js draws into; where there is nothing to draw, a sentence or nothing.

    values: the settings in the order of FIELDS, without "enabled". data-levels: [position, weight] of every key level;
    data-curve: the corners of the line of weights.
    """
    try:
        config = NoiseOrderConfig(True, *values)  # type: ignore[arg-type]
    except ValueError:
        return ""
    if not config.inject:
        return '<div class="noiseorder-curve">Key levels: not used, Inject is 0.</div>'
    levels = key_levels(config.levels, config.first_level, config.last_level, config.weights)
    weighted = config.levels > 1 and config.direction not in MULTI_STEP
    words = f"{len(levels)} key level{'' if len(levels) == 1 else 's'} at " + numbers([key.fraction for key in levels])
    line: list[tuple[float, float]] = []
    if weighted:
        words += " with weights " + numbers([key.weight for key in levels])
        line = list(key_levels(min(config.levels, 3), config.first_level, config.last_level, config.weights))
    elif config.levels > 1:
        words += f"; {config.direction} uses no weights"
    marks = [(key.fraction, key.weight if weighted else 1.0) for key in levels]
    return (
        f'<div class="noiseorder-curve" role="img" aria-label="{html.escape(words)}; 1 is pure noise, 0 the image" '
        f'data-levels="{json.dumps(marks)}" data-curve="{json.dumps(line)}"></div>'
    )


def numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)

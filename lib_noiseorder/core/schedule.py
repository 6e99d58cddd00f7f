"""Where on the schedule the model is asked, and how much each answer weighs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DEPTH = 0.75
"""How far down the schedule the preview of an audition goes, where nothing else is said."""


SKETCH = 7
"""Steps of a sketch: a coarser run of the same deterministic sampler, ended early. Chosen in docs/evidence.md."""
DEEPER = 0.1
"""How much further down the schedule a sketch goes than the image's own first steps do: its steps are so long."""


def sketch_steps(strength: float = 1.0) -> int:
    """The steps of a sketch, of which img2img runs a share; strength: of its denoising."""
    return round(SKETCH / max(strength, 1e-3))


def sketch_depth(depth: float) -> float:
    """The position below which a sketch's last step begins, where the image's own first steps would go to `depth`."""
    return max(depth - DEEPER, 0.05)


def first_below(positions: Sequence[float], depth: float) -> int:
    """How many steps, begun at these positions of the schedule, until one is begun below `depth`; else all of them."""
    return next((k + 1 for k, position in enumerate(positions) if position < depth), len(positions))


class KeyLevel(NamedTuple):
    """A key timestep t_k: its position on the model's schedule (1 = pure noise) and its weight w_k."""

    fraction: float
    weight: float


def key_levels(
    count: int, first: float = 0.9, last: float = 0.7, weights: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[KeyLevel, ...]:
    """K key timesteps `t_k = first + (last − first) (k−1)/(K−1)` with the weights interpolated over them.

    count: K >= 1; K = 1 is `first` alone, with weight 1 (one prediction needs no weighing).
    first, last: positions on the schedule in (0, 1], 1 = pure noise.
    weights: (layout, structure, detail) at the first, the middle and the last of the K levels, linear between.
    Raises ValueError for K < 1, a position outside (0, 1], a weight that is not finite, or weights that are
    zero at every one of the K levels.
    Source: TPW's key timesteps and weights; the paper prints neither t_k nor w_k.
    """
    if count < 1:
        raise ValueError(f"count = {count}: at least one key level is needed")
    for name, position in (("first", first), ("last", last)):
        if not 0 < position <= 1:
            raise ValueError(f"{name} = {position}: a position on the schedule is in (0, 1]")
    if not all(math.isfinite(weight) for weight in weights) or not any(weights):
        raise ValueError(f"weights = {tuple(weights)}: they must be finite and not all zero")
    if count == 1:
        return (KeyLevel(first, 1.0),)
    layout, structure, detail = weights
    levels = []
    for k in range(count):
        s = k / (count - 1)
        weight = layout + (structure - layout) * 2 * s if s <= 0.5 else structure + (detail - structure) * (2 * s - 1)
        levels.append(KeyLevel(first + (last - first) * s, weight))
    if not any(level.weight for level in levels):
        raise ValueError(f"weights = {tuple(weights)}: they are zero at all {count} key levels")
    return tuple(levels)

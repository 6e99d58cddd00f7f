"""From the settings to the numbers that the method takes."""

from __future__ import annotations

from .config import (
    NoiseOrderConfig,
)
from .core import Modulation
from .names import (
    AUTO,
    GUIDANCE,
)


def modulation(config: NoiseOrderConfig) -> Modulation:
    """Return the method's numbers of these settings; switched off, they change nothing.

    Direction "auto" is settled by whoever knows the model (presets.follow); here it is the default.
    """
    return Modulation(
        erase=config.erase if config.enabled else 1.0,
        variant=config.variant,
        chain=config.links if config.enabled else (),
        region=config.region,
        inject=config.inject if config.enabled else 0.0,
        direction=GUIDANCE if config.direction == AUTO else config.direction,
        levels=config.levels,
        first_level=config.first_level,
        last_level=config.last_level,
        weights=config.weights,
        normalisation=config.normalisation,
    )

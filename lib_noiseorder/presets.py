"""Settings that belong together, by name."""

from __future__ import annotations

from .config import AS_PRINTED, LOOK_AHEAD, NOISE, NoiseOrderConfig

PRESETS: dict[str, NoiseOrderConfig] = {
    "Default": NoiseOrderConfig(enabled=True),
    "Erase only": NoiseOrderConfig(enabled=True, inject=0.0),
    "Inject only": NoiseOrderConfig(enabled=True, erase=1.0),
    "Look-ahead": NoiseOrderConfig(
        enabled=True, erase=1.0, inject=0.08, direction=LOOK_AHEAD, levels=3, first_level=1.0, last_level=0.8
    ),
    # Of its δ and t_k the paper prints nothing but "early, middle, late".
    "Paper, as printed": NoiseOrderConfig(
        enabled=True,
        inject=0.1,
        direction=NOISE,
        levels=3,
        first_level=0.9,
        last_level=0.1,
        normalisation=AS_PRINTED,
    ),
}
"""Built-in presets; the first is the default."""

"""Settings that belong together, by name."""

from __future__ import annotations

from typing import NamedTuple

from .config import AS_PRINTED, DENOISED, LOOK_AHEAD, NOISE, NoiseOrderConfig

PRESETS: dict[str, NoiseOrderConfig] = {
    "Default": NoiseOrderConfig(enabled=True),
    "Erase only": NoiseOrderConfig(enabled=True, inject=0.0),
    "Inject only": NoiseOrderConfig(enabled=True, erase=1.0),
    "Look-ahead": NoiseOrderConfig(
        enabled=True, erase=1.0, inject=0.08, direction=LOOK_AHEAD, levels=3, first_level=1.0, last_level=0.8
    ),
    # Such models run at CFG 1 and have no negative prompt to ask.
    "Few steps": NoiseOrderConfig(enabled=True, direction=DENOISED),
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
AUTO = "Auto"


class Family(NamedTuple):
    """A family of models in words, and the preset for it."""

    words: str
    preset: str


# Families share a preset where nothing was measured to differ.
FAMILIES: dict[str, Family] = {
    "eps": Family("a model that predicts noise (ε)", "Default"),
    "v": Family("a model that predicts velocity (v)", "Default"),
    "flow": Family("a flow model", "Default"),
    "few": Family("a few-step or guidance-distilled model", "Few steps"),
}


def automatic(family: str | None) -> tuple[str, str]:
    """The preset for a family of models (None: not known) and a line that says which was taken and why."""
    if family not in FAMILIES:
        name = next(iter(PRESETS))
        return name, f"{AUTO}: no model is loaded yet, so “{name}”. Choose {AUTO} again after the first picture."
    words, name = FAMILIES[family]
    return name, f"{AUTO}: {words} is loaded, so “{name}”."

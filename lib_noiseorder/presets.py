"""Settings that belong together, by name."""

from __future__ import annotations

from typing import NamedTuple

from .config import (
    NoiseOrderConfig,
)
from .names import (
    AS_PRINTED,
    AUTO,
    DENOISED,
    LOOK_AHEAD,
    NOISE,
    SELF_CORRECTION,
)

TWO_STEP = "Erase and inject"
"""The method this extension is named for: erase, then inject with guidance."""

PRESETS: dict[str, NoiseOrderConfig] = {
    "Default": NoiseOrderConfig(enabled=True),
    # The same as the default, and stays so whatever the default becomes: plots and scripts name it.
    "Erase only": NoiseOrderConfig(enabled=True, erase=4.0, inject=0.0),
    TWO_STEP: NoiseOrderConfig(enabled=True, inject=0.05),
    "Inject only": NoiseOrderConfig(enabled=True, erase=1.0, inject=0.05),
    "Look-ahead": NoiseOrderConfig(
        enabled=True, erase=1.0, inject=0.08, direction=LOOK_AHEAD, levels=3, first_level=1.0, last_level=0.8
    ),
    # Such models run at CFG 1 and have no negative prompt to ask.
    "Few steps": NoiseOrderConfig(enabled=True, inject=0.05, direction=DENOISED),
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
    "Auto": NoiseOrderConfig(enabled=True, inject=0.05, direction=AUTO),
    "Self-correction": NoiseOrderConfig(
        enabled=True, erase=1.0, inject=0.1, direction=SELF_CORRECTION, levels=3, first_level=1.0, last_level=0.75
    ),
}
"""Built-in presets; the first is the default, which asks no model: what Inject brings is not the same everywhere."""

GUIDED = (
    "At CFG 3 its Inject brought nothing on the small models it was measured on, and harmed on one of them. Audition "
    "brought more than more steps do for the same cost; Self-correction did on most that draw pixels, not in latents."
)

CAVEATS: dict[str, str] = {
    TWO_STEP: GUIDED + " Inject 0 leaves Erase alone, which costs nothing.",
    "Inject only": GUIDED,
    "Look-ahead": "Look-ahead is for few-step models: on the one measured it brought more than more steps did. "
    "At CFG 3 it brought nothing, and harmed on one model.",
    "Self-correction": "Self-correction is for ordinary models: at CFG 3 it brought more right images on most of the "
    "small pixel models it was measured on, where more steps did not. On the one in latents, and on the one few-step "
    "model, it brought nothing clear.",
    "Few steps": "On the one few-step model measured this brought hardly more than a step more does; Look-ahead did.",
    "Paper, as printed": "As the paper prints it this harmed on five of six small models; on the sixth it did nothing.",
}
"""What a preset brought where its name does not tell for which models it is; the figures are in docs/evidence.md."""


DISTILLED = "distilled"
"""The family of models made for few steps at CFG 1."""


class Family(NamedTuple):
    """A family of models in words, and the preset for it."""

    words: str
    preset: str


# Families share a preset where nothing was measured to differ; between them it is the direction that differs.
FAMILIES: dict[str, Family] = {
    "eps": Family("a model that predicts noise (ε)", TWO_STEP),
    "v": Family("a model that predicts velocity (v)", TWO_STEP),
    "flow": Family("a flow model", TWO_STEP),
    DISTILLED: Family("a few-step or guidance-distilled model", "Few steps"),
}


def follow(config: NoiseOrderConfig, family: str | None) -> tuple[NoiseOrderConfig, str]:
    """The settings with the direction "auto" as in the preset for this family of models (None: not known), and the name
    of that preset; without "auto" the settings themselves and no name."""
    if config.direction != AUTO:
        return config, ""
    name = FAMILIES[family].preset if family in FAMILIES else TWO_STEP
    return config.replace(direction=PRESETS[name].direction), name


def automatic(family: str | None) -> str:
    """What "auto" does, and why."""
    if family not in FAMILIES:
        return f"Auto: no model is loaded yet; “{TWO_STEP}” until it is known."
    words, name = FAMILIES[family]
    return f"Auto: {words} is loaded, so “{name}”."

"""The settings: one table, one frozen dataclass. Standard library only.

Everything a user can set is described once in FIELDS; the accordion, the API, the infotext and the checks are
made from it. Names, labels and keys are stored in people's images, scripts and defaults: add at the end, never
rename.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .chain import EXAMPLE, LINK, MOST, ChainError, Link, read_chain, with_variant, write_chain
from .names import (
    AS_PRINTED,
    AUTO,
    BOTH,
    DENOISED,
    EVERYWHERE,
    FIRST,
    GUIDANCE,
    HIRES,
    INSIDE,
    LOOK_AHEAD,
    NOISE,
    ORTHONORMAL,
    OUTSIDE,
    SELF_CORRECTION,
)


class SettingError(ValueError):
    """A setting that cannot be used; its text names the field, the value and what is allowed."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting. `name` is also its API key.

    help: one short line; more: the rest of it; useful: the part of the range that a slider shows.
    """

    name: str
    default: bool | int | float | str
    label: str
    help: str
    infotext: str
    minimum: float = 0
    maximum: float = 0
    step: float = 0
    choices: tuple[str, ...] = ()
    more: str = ""
    useful: tuple[float, float] | None = None

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if self.choices:
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if isinstance(self.default, str):
            return f'links, each {LINK}, as in "{EXAMPLE}"'
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.minimum:g} to {self.maximum:g}"

    def check(self, value: object) -> bool | int | float | str:
        """The value in the field's own type; raises SettingError, and nothing else, for what cannot be used."""
        try:
            result = self.convert(value)
        except ChainError as error:
            raise SettingError(f"{self.label} ({self.name}) = {quote(value)}: {error}") from None
        except Exception:  # 10**400 is too large for a float, and an object of another type may do anything
            result = None
        if result is None:
            raise SettingError(f"{self.label} ({self.name}) = {quote(value)}: must be {self.allowed}")
        return result

    def convert(self, value: object) -> bool | int | float | str | None:
        """The value in the field's own type; None if it is of another type or out of range."""
        if isinstance(self.default, bool):
            return value if isinstance(value, bool) else None
        if self.choices:
            return value if isinstance(value, str) and value in self.choices else None
        if isinstance(self.default, str):
            return write_chain(read_chain(value))
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and self.minimum <= value <= self.maximum
            and (isinstance(self.default, float) or value == int(value))
        ):
            return type(self.default)(value)
        return None


def quote(value: object) -> str:
    """A value for a message, on one line and not long; some cannot be written at all, as an int of 5000 digits."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = "something that cannot be written here"
    return text if len(text) <= 60 else text[:57] + "..."


FIELDS: tuple[Field, ...] = (
    Field("enabled", False, "Noise Order", "Change the noise that this generation starts from", "Noise Order"),
    Field(
        "erase",
        4.0,
        "Erase",
        "How far from this seed's image: 1 = this seed, 4 = half, 16 = nearly another",
        "Noise Order erase",
        1.0,
        64.0,
        0.5,
        more="Costs nothing. n draws of noise are mixed, and the seed's own keeps the share 1/√n of the result. The "
        "image is another, on average no better one: of several, choose.",
        useful=(1.0, 16.0),
    ),
    Field(
        "inject",
        0.0,
        "Inject",
        "Turns the noise toward the model's own idea of the prompt; 0 = off",
        "Noise Order inject",
        -1.0,
        1.0,
        0.01,
        more="The noise is turned toward what the model predicts for the prompt, by the angle with this tangent (δ): "
        "0.05 is 2.9°. Whether it brings anything depends on the model and on CFG: docs/evidence.md. A negative value "
        "turns away.",
        useful=(-0.2, 0.3),
    ),
    Field(
        "direction",
        GUIDANCE,
        "Direction",
        "What Inject turns the noise toward",
        "Noise Order direction",
        choices=(GUIDANCE, LOOK_AHEAD, DENOISED, NOISE, AUTO, SELF_CORRECTION),
        more="guidance: toward the prompt and away from the negative prompt, 2 evaluations per key level. "
        "look-ahead: toward the image seen after walking the key levels with guidance, 2 per level. "
        "denoised: toward what the prompt alone predicts, 1 per level. "
        "noise: along the predicted noise, as the paper prints it, 1 per level. "
        "auto: denoised for few-step models and guidance for all others, as loaded at each generation. "
        "self-correction: toward what the model would change in the image seen after walking the key levels with the "
        "prompt alone, 1 per level and 1 more.",
    ),
    Field(
        "levels",
        1,
        "Key levels",
        "At how many levels of noise the model is evaluated; more cost more",
        "Noise Order levels",
        1,
        8,
        1,
        more="K: what is seen at each is added up; look-ahead and self-correction walk along them, with two or more.",
    ),
    Field(
        "first_level",
        0.9,
        "First level",
        "Where on the model's schedule the first one is: 1 = pure noise, which decides the layout",
        "Noise Order first level",
        0.05,
        1.0,
        0.01,
        more="Below 0.7 the model sees little of the prompt in it.",
    ),
    Field(
        "last_level",
        0.7,
        "Last level",
        "Where the last one is, nearer to the finished image",
        "Noise Order last level",
        0.05,
        1.0,
        0.01,
        more="Used with two or more key levels.",
    ),
    Field(
        "layout",
        1.0,
        "Layout weight",
        "Weight of the first level: what is where",
        "Noise Order layout",
        0.0,
        2.0,
        0.05,
        more="Used with two or more key levels, not by look-ahead and self-correction.",
    ),
    Field(
        "structure",
        1.0,
        "Structure weight",
        "Weight of the middle level",
        "Noise Order structure",
        0.0,
        2.0,
        0.05,
        more="Used with three or more key levels, not by look-ahead and self-correction.",
    ),
    Field(
        "detail",
        1.0,
        "Detail weight",
        "Weight of the last level: finer parts",
        "Noise Order detail",
        0.0,
        2.0,
        0.05,
        more="Used with two or more key levels, not by look-ahead and self-correction.",
    ),
    Field(
        "normalisation",
        ORTHONORMAL,
        "Normalisation",
        "orthonormal only turns the noise; as printed also makes it stronger, which burns the image",
        "Noise Order normalisation",
        choices=(ORTHONORMAL, AS_PRINTED),
        more="orthonormal: the strength of the noise stays exactly as it was. as printed: the paper's formula.",
    ),
    Field(
        "variant",
        0,
        "Variant",
        "Another image at the same distance from this seed's",
        "Noise Order variant",
        0,
        9999,
        1,
        more="Another family of fresh draws for the same seed. Audition sets it to the one that is chosen.",
    ),
    Field(
        "passes",
        FIRST,
        "Pass",
        "With hires fix: which pass starts from the changed noise",
        "Noise Order pass",
        choices=(FIRST, HIRES, BOTH),
        more="img2img has one pass and needs no choice.",
    ),
    Field(
        "region",
        EVERYWHERE,
        "Region",
        "With an inpainting mask: erase everywhere, only inside it or only outside it",
        "Noise Order region",
        choices=(EVERYWHERE, INSIDE, OUTSIDE),
        more="Inject always acts everywhere.",
    ),
    Field(
        "compare_original",
        False,
        "Also make: original",
        "Beside the image, the same seeds without Noise Order; a generation more",
        "Noise Order compare original",
    ),
    Field(
        "compare_erased",
        False,
        "Also make: erased",
        "Beside the image, the same seeds with Inject 0; a generation more",
        "Noise Order compare erased",
    ),
    Field(
        "compare_injected",
        False,
        "Also make: injected",
        "Beside the image, the same seeds with Erase 1; a generation more",
        "Noise Order compare injected",
    ),
    Field(
        "audition",
        0,
        "Audition",
        "Each image tries so many variants and goes on with the best by the model's own judgement; 0 = off",
        "Noise Order audition",
        0,
        16,
        1,
        more="2 or more; each is made for the first few steps. On the models measured an exact checker "
        "chose better at CFG 3: to choose by eye, press Audition.",
    ),
    Field(
        "chain",
        "",
        "Chain",
        "Further erasures after Erase, each n v variant @ box; Vary and Change a part write it",
        "Noise Order chain",
        more=f"For example {EXAMPLE}: first n = 1.2 with variant 7, then n = 64 with variant 2 inside a box "
        "(left, top, right and bottom in fractions of the image). The nearer n is to 1, the more stays. Audition tries "
        f"variants of the last one. At most {MOST}; presets leave it alone.",
    ),
)
BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}
VARIANTS: dict[str, dict[str, Any]] = {
    "original": {"erase": 1.0, "inject": 0.0, "chain": ""},
    "erased": {"inject": 0.0},
    "injected": {"erase": 1.0, "chain": ""},
}
"""What can be made beside the image, each asked for by "compare_" and its name, and what is set there."""
COMPARE = tuple(f"compare_{name}" for name in VARIANTS)
"""The settings that have no say in the image itself."""
NO_PRESET = (*COMPARE, "chain")
"""The settings that presets leave alone: what is made beside the image, and how one noise was reached."""


@dataclasses.dataclass(frozen=True)
class NoiseOrderConfig:
    """The settings of one generation, checked. What the defaults bring: `docs/evidence.md`."""

    enabled: bool = False
    erase: float = 4.0
    inject: float = 0.0
    direction: str = GUIDANCE
    levels: int = 1
    first_level: float = 0.9
    last_level: float = 0.7
    layout: float = 1.0
    structure: float = 1.0
    detail: float = 1.0
    normalisation: str = ORTHONORMAL
    variant: int = 0
    passes: str = FIRST
    region: str = EVERYWHERE
    compare_original: bool = False
    compare_erased: bool = False
    compare_injected: bool = False
    audition: int = 0
    chain: str = ""

    def __post_init__(self) -> None:
        for field in FIELDS:
            object.__setattr__(self, field.name, field.check(getattr(self, field.name)))
        # Interpolated over two levels, the middle weight has no say: say so before a generation is spent on it.
        used = self.weights if self.levels != 2 else (self.layout, self.detail)
        if not any(used):
            names = "layout, structure, detail" if self.levels != 2 else "layout, detail (all that two key levels use)"
            raise SettingError(f"Weights ({names}) = {', '.join(f'{w:g}' for w in used)}: at least one must be above 0")
        if self.enabled and self.audition:
            self.check_candidates(self.audition)

    def check_candidates(self, count: int) -> None:
        """Raise SettingError where so many candidates cannot be had."""
        setting = f"{BY_NAME['audition'].label} (audition) = {count}"
        highest = BY_NAME["variant"].maximum
        if not 2 <= count <= BY_NAME["audition"].maximum:
            raise SettingError(f"{setting}: must be from 2 to {BY_NAME['audition'].maximum:g}")
        if self.erase == 1 and not self.links:
            raise SettingError(f"{setting}: at Erase (erase) = 1 all candidates are the same noise; set Erase above 1")
        if self.first_variant + count - 1 > highest:
            where = (
                f"the last link's variant of Chain (chain) = {self.chain}"
                if self.links
                else (f"Variant (variant) = {self.variant}")
            )
            raise SettingError(f"{setting}: {where} is too high; at most {highest - count + 1:g}")

    @property
    def links(self) -> tuple[Link, ...]:
        """The erasures after the first one."""
        return read_chain(self.chain)

    @property
    def first_variant(self) -> int:
        """The variant that an audition varies: of the last link, else of Erase."""
        return self.links[-1].variant if self.links else self.variant

    def with_variant(self, variant: int) -> NoiseOrderConfig:
        """The settings whose last erasure has this variant."""
        if self.links:
            return self.replace(chain=write_chain(with_variant(self.links, variant)))
        return self.replace(variant=variant)

    @property
    def weights(self) -> tuple[float, float, float]:
        return (self.layout, self.structure, self.detail)

    @property
    def active(self) -> bool:
        """Whether anything would be done: off, and n = 1 with δ = 0, are the same as being absent."""
        return self.enabled and (self.erase != 1 or self.inject != 0 or bool(self.chain))

    @property
    def comparisons(self) -> tuple[str, ...]:
        """The names of the variants to make beside the image."""
        return tuple(name for name, field in zip(VARIANTS, COMPARE, strict=True) if getattr(self, field))

    @property
    def variants(self) -> dict[str, NoiseOrderConfig]:
        """The settings of the variants asked for, without those that would be an image already made."""
        made, settings = {(self.erase, self.inject, self.chain)}, {}
        for name in self.comparisons:
            variant = self.replace(**VARIANTS[name], audition=0, **dict.fromkeys(COMPARE, False))
            triple = (variant.erase, variant.inject, variant.chain)
            if triple not in made:
                made.add(triple)
                settings[name] = variant
        return settings

    def replace(self, **changes: object) -> NoiseOrderConfig:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


OFF = NoiseOrderConfig()


def parse(args: Sequence[Any], overrides: Mapping[str, Any] = MappingProxyType({})) -> NoiseOrderConfig:
    """The settings from a script's arguments: positional in the order of FIELDS, or one dict of names.

    Fewer arguments take the defaults; overrides, by name, come last. A dict without "enabled" is enabled: who sends
    settings wants them used. Off is off before anything else is looked at. Raises SettingError naming the field, the
    value and the range.
    """
    if args and isinstance(args[0], Mapping):
        values = {"enabled": True, **args[0]}
        unknown = [quote(key) for key in values if key not in BY_NAME]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise SettingError(f"Unknown setting {', '.join(unknown[:5])}{more}: the settings are {', '.join(BY_NAME)}")
    else:
        values = dict(zip(BY_NAME, args, strict=False))
    values.update(overrides)
    if values.get("enabled", False) is False:
        return OFF
    return NoiseOrderConfig(**values)

"""Settings to the text under an image, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..config import BY_NAME, COMPARE, EVERYWHERE, FIELDS, FIRST, LOOK_AHEAD, Field, NoiseOrderConfig, SettingError

VERSION = "1"
"""Of the algorithm: an image says which one made it."""
MARKER = BY_NAME["enabled"].infotext
ERROR = "Noise Order error"
INNER = "Noise Order in ADetailer"
"""On an image for which ADetailer's inner passes were to be modulated too."""
AUDITIONED = "Noise Order auditioned"
"""On an image whose variant won against others: how many there were. Not read back: the variant is told."""
VARIANT = "Noise Order compare"
"""On an image made beside another one: which variant it is. Not read back: the image's own settings made it."""


def write(config: NoiseOrderConfig) -> dict[str, str]:
    """What is needed to make the image again: every setting that had a say, empty when nothing is done.

    A setting that had none (weights with one key level) is left out and read back as its default. What was made
    beside it is told, so that pasting brings back the whole job. An audition is not: it ended in a variant.
    """
    if not config.active:
        return {}
    names = ["erase", "inject"]
    if config.inject:
        names += ["direction", "levels", "first_level", "normalisation"]
        if config.levels > 1:
            names.append("last_level")
            if config.direction != LOOK_AHEAD:
                names += ["layout", "structure", "detail"]
    if config.erase != 1:
        names.append("variant")
        if config.region != EVERYWHERE:
            names.append("region")
    if config.passes != FIRST:
        names.append("passes")
    names += [name for name in COMPARE if getattr(config, name)]
    return {MARKER: VERSION, **{BY_NAME[name].infotext: text(getattr(config, name)) for name in names}}


class PerImage(list[str]):
    """One value for each image of a batch. Some hosts count images from the first of all batches: it repeats."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index % len(self) if isinstance(index, int) else index)


def clear(params: dict[str, Any]) -> None:
    """Take every key of ours out: the cells of an X/Y/Z plot share one dict."""
    for key in (ERROR, INNER, AUDITIONED, *(field.infotext for field in FIELDS)):
        params.pop(key, None)


def reader(field: Field, switch_off: Callable[[], bool] = lambda: True) -> Callable[[Mapping[str, Any]], Any]:
    """What pasting an infotext puts into a field's control; None leaves the control alone.

    An image made without us switches us off, unless switch_off says no, and changes nothing else.
    """

    def read(params: Mapping[str, Any]) -> Any:
        if field.name == "enabled":
            return True if MARKER in params else False if switch_off() else None
        if MARKER not in params:
            return None
        written = params.get(field.infotext)
        try:
            return field.default if written is None else field.check(value(field, written))
        except (SettingError, ValueError):
            return None

    return read


def text(value: object) -> str:
    """A setting as short as it can be read back exactly: 4.0 is "4"."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def value(field: Field, written: object) -> object:
    """What was written, as the field's kind of value."""
    if isinstance(field.default, bool):
        return {"True": True, "False": False}.get(str(written))
    return written if field.choices else float(str(written))

"""An axis of the X/Y/Z plot for every setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..config import FIELDS, NO_PRESET, Field, NoiseOrderConfig, SettingError

PREFIX = "[Noise Order] "
Put = Callable[[Any, Mapping[str, Any]], None]
"""Sets settings of one cell, given its processing object, in place of the accordion's."""
GetPresets = Callable[[], Mapping[str, NoiseOrderConfig]]
"""Tells the built-in presets and the user's own, as they are now."""


def register(scripts_data: Sequence[Any], presets: GetPresets, put: Put) -> bool:
    """Add the axes to the host's X/Y/Z script; False where the user has it disabled.

    scripts_data: the host's `scripts.scripts_data`, each entry with `path` and `module`.
    """
    for entry in scripts_data:
        if Path(entry.path).name != "xyz_grid.py":
            continue
        module: ModuleType = entry.module
        # "Reload UI" keeps the list of axes of a built-in X/Y/Z script: those there may be of modules loaded before.
        others = [option for option in module.axis_options if not option.label.startswith(PREFIX)]
        module.axis_options[:] = [*others, *axes(module.AxisOption, presets, put)]
        return True
    return False


def axes(option: Callable[..., Any], presets: GetPresets, put: Put) -> list[Any]:
    """The axes, made with the host's own AxisOption."""
    return [preset_axis(option, presets, put), *(axis(field, option, put) for field in FIELDS)]


def preset_axis(option: Callable[..., Any], presets: GetPresets, put: Put) -> Any:
    """The axis of the presets by name."""
    label = f"{PREFIX}Preset"

    def read(value: Any) -> NoiseOrderConfig:
        available = presets()
        if value not in available:
            raise SettingError(f"{value!r} is no preset: the presets are {', '.join(available)}")
        return available[value]

    def apply(p: Any, value: Any, values: Sequence[Any]) -> None:
        preset = read(value)
        put(p, {field.name: getattr(preset, field.name) for field in FIELDS if field.name not in NO_PRESET})

    def confirm(p: Any, values: Sequence[Any]) -> None:
        refuse_bad(label, values, read)

    return option(label, str, apply, confirm=confirm, choices=lambda: list(presets()))


def axis(field: Field, option: Callable[..., Any], put: Put) -> Any:
    """One axis; what has choices gets the host's dropdown."""
    label = f"{PREFIX}{'Enabled' if field.name == 'enabled' else field.label}"

    def read(value: Any) -> Any:
        # The plot hands over text for a yes or no, and bool("False") would be True.
        if isinstance(field.default, bool):
            value = {"true": True, "false": False}.get(str(value).strip().lower(), value)
        return field.check(value)

    def apply(p: Any, value: Any, values: Sequence[Any]) -> None:
        put(p, {field.name: read(value)})

    def confirm(p: Any, values: Sequence[Any]) -> None:
        refuse_bad(label, values, read)

    if isinstance(field.default, bool):
        return option(label, str, apply, confirm=confirm, choices=lambda: ["True", "False"])
    if field.choices:
        return option(label, str, apply, confirm=confirm, choices=lambda: list(field.choices))
    return option(label, type(field.default), apply, confirm=confirm)


def refuse_bad(label: str, values: Sequence[Any], read: Callable[[Any], object]) -> None:
    """Raise before anything is generated, naming every value that cannot be used."""
    wrong = []
    for value in values:
        try:
            read(value)
        except SettingError as error:
            wrong.append(str(error))
    if wrong:
        raise RuntimeError(f"{label}: {'; '.join(wrong)}")

"""The presets a person can choose: the built-in ones and their own, which live in one JSON file."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from ..config import COMPARE, FIELDS, NoiseOrderConfig, SettingError, parse
from ..presets import AUTO, PRESETS

VERSION = 1
LONGEST = 60


class Presets:
    """Built-in and own presets by name.

    path: the file of the person's own, `{"version": 1, "presets": {name: {API key: value}}}`; made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()

    def names(self) -> list[str]:
        """Every name, built-in first; also those whose settings cannot be used, which choosing explains."""
        try:
            return [*PRESETS, *self.read()]
        except OSError as error:
            print(f"[Noise Order] your own presets cannot be read: {error}")
            return list(PRESETS)

    def get(self, name: object) -> NoiseOrderConfig:
        """The settings of a preset. Raises SettingError if there is none or it cannot be used, OSError."""
        if isinstance(name, str) and name in PRESETS:
            return PRESETS[name]
        own = self.read()
        if not isinstance(name, str) or name not in own:
            raise SettingError(f"{name!r} is no preset: the presets are {', '.join((*PRESETS, *own))}")
        try:
            if not isinstance(own[name], dict):
                raise SettingError("it must be an object of settings")
            return parse(({**own[name], "enabled": True},))
        except SettingError as error:
            raise SettingError(f'Preset "{name}" cannot be used. {error}. Correct it in {self.path}') from None

    def usable(self) -> dict[str, NoiseOrderConfig]:
        """Every preset that can be used."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except (SettingError, OSError):
                continue
        return found

    def save(self, name: str, config: NoiseOrderConfig) -> str:
        """Keep settings under a name, in place of an own preset of that name; returns the name as kept."""
        with self.lock:
            name = checked(name)
            kept_out = ("enabled", *COMPARE)  # what is made beside the picture is no part of a preset
            values = {field.name: getattr(config, field.name) for field in FIELDS if field.name not in kept_out}
            self.write({**self.read(), name: values})
        return name

    def rename(self, old: object, new: str) -> str:
        """Give an own preset another name, which no other has; returns the name as kept."""
        with self.lock:
            own, new = self.read(), checked(new)
            self.must_be_own(old, own)
            if new in own and new != old:
                raise SettingError(f'There is a preset "{new}" already: choose another name, or delete that one first')
            self.write({new if name == old else name: values for name, values in own.items()})
        return new

    def delete(self, name: object) -> None:
        with self.lock:
            own = self.read()
            self.must_be_own(name, own)
            self.write({kept: values for kept, values in own.items() if kept != name})

    @staticmethod
    def must_be_own(name: object, own: dict[str, Any]) -> None:
        # A list from the page, of several or of none, is no name either.
        if not isinstance(name, str) or name not in own:
            told = f'"{name}" is built in' if name in (AUTO, *PRESETS) else f"{name!r} is none of your own presets"
            raise SettingError(f"{told}: choose one of your own ({', '.join(own) or 'there is none yet'})")

    def read(self) -> dict[str, Any]:
        """The person's own presets, unchecked. A damaged file is set aside under another name, with a line about it."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            held = json.loads(text.decode("utf-8"))
            if held["version"] != VERSION or not isinstance(held["presets"], dict):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            aside = next(path for path in map(self.aside, range(1, 1000)) if not path.exists())
            self.path.rename(aside)
            print(f"[Noise Order] {self.path} is damaged or of another version; it was set aside as {aside.name}")
            return {}
        return {str(name): values for name, values in held["presets"].items()}

    def aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.damaged-{number}.json")

    def write(self, own: dict[str, Any]) -> None:
        """Replace the file as a whole: whenever the power fails, the old one or the new one is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({"version": VERSION, "presets": own}, file, indent=1, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)


def checked(name: str) -> str:
    """A name for an own preset, without spaces around it. Raises SettingError."""
    name = str(name or "").strip()
    told = f"Preset name {name!r}" if len(name) <= LONGEST else f"Preset name of {len(name)} characters"
    if not 1 <= len(name) <= LONGEST or not name.isprintable():
        raise SettingError(f"{told}: give 1 to {LONGEST} characters, no line breaks or control characters")
    if name.casefold() in (built_in.casefold() for built_in in (AUTO, *PRESETS)):
        raise SettingError(f"{told}: a built-in preset has that name, give another")
    return name

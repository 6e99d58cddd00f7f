"""The presets a user can choose: the built-in ones and their own, which live in one JSON file."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeGuard

from .. import log
from ..config import FIELDS, NO_PRESET, NoiseOrderConfig, SettingError, parse, quote
from ..presets import PRESETS

VERSION = 1
LONGEST = 60
EMPTY = b'{"version": 1, "presets": {}}'
PATIENCE = 10.0
"""Seconds to wait for another WebUI that is writing, which takes it milliseconds."""
UNREPLACED = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""What a system answers where another file cannot be put in place of this one: mounted, open, or its folder closed."""


class Presets:
    """Built-in and own presets by name.

    path: the file of the user's own, `{"version": 1, "presets": {name: {API key: value}}}`; made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Every name, built-in first; also those whose settings cannot be used, which choosing explains."""
        try:
            return [*PRESETS, *self.read()]
        except (SettingError, OSError) as error:
            log.warn(f"your own presets cannot be read: {error}")
            return list(PRESETS)

    def get(self, name: object) -> NoiseOrderConfig:
        """The settings of a preset. Raises SettingError if there is none or it cannot be used, OSError."""
        if is_among(name, PRESETS):
            return PRESETS[name]
        own = self.read()
        if not is_among(name, own):
            raise SettingError(f"{quote(name)} is no preset: the presets are {', '.join((*PRESETS, *own))}")
        try:
            if not isinstance(own[name], dict):
                raise SettingError("it must be an object of settings")
            return parse(({**own[name], "enabled": True},))
        except SettingError as error:
            raise SettingError(f'Preset "{name}" cannot be used. {error}. Correct it in {self.path}') from None

    def usable(self) -> dict[str, NoiseOrderConfig]:
        """Every preset that can be used."""
        presets = {}
        for name in self.names():
            with suppress(SettingError, OSError):
                presets[name] = self.get(name)
        return presets

    def save(self, name: str, config: NoiseOrderConfig) -> str:
        """Keep settings under a name, in place of an own preset of that name; returns the name as kept."""
        name = check_name(name)
        excluded = ("enabled", *NO_PRESET)
        values = {field.name: getattr(config, field.name) for field in FIELDS if field.name not in excluded}
        with self.alone():
            self.write({**self.whole(), name: values})
        return name

    def rename(self, old: object, new: str) -> str:
        """Give an own preset another name, which no other has; returns the name as kept."""
        new = check_name(new)
        with self.alone():
            own = self.whole()
            check_own(old, own)
            if new in own and new != old:
                raise SettingError(f'There is a preset "{new}" already: choose another name, or delete that one first')
            self.write({new if name == old else name: values for name, values in own.items()})
        return new

    def delete(self, name: object) -> None:
        with self.alone():
            own = self.whole()
            check_own(name, own)
            self.write({other: values for other, values in own.items() if other != name})

    def read(self) -> dict[str, Any]:
        """The user's own presets, unchecked. A damaged file is set aside under another name, with a line about it."""
        own = decode(self.content())
        if own is None:
            with self.alone():
                own = self.whole()
        return own

    def whole(self) -> dict[str, Any]:
        """The same for who is alone with the file: now a damaged one is no half of what another is writing."""
        text = self.content()
        own = decode(text)
        if own is not None:
            return own
        # A copy is set aside and the file emptied: a link or a mounted file has to stay where it is.
        names = (f"{self.path.stem}.damaged-{number}.json" for number in itertools.count(1))
        aside = next(path for path in map(self.path.with_name, names) if not path.exists())
        try:
            aside.write_bytes(text)
            self.write({})
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        log.warn(f"{self.path} is damaged or of another version; it was set aside as {aside.name}")
        return {}

    def content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            raise OSError(f"{self.path} cannot be read ({error.strerror or error}): allow reading it") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else, in this WebUI or another, changes the file meanwhile; whoever dies leaves no lock behind.

        The lock is that of an empty SQLite database, the one in the standard library that waits on every system.
        """
        target = Path(os.path.realpath(self.path))
        with ExitStack() as stack:
            with suppress(OSError):
                target.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock = stack.enter_context(closing(sqlite3.connect(f"{target}.lock", timeout=PATIENCE)))
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                if "locked" in str(error):
                    raise SettingError("Another WebUI is writing your presets for too long: try again") from None
                # Where no lock file can be made, as in a folder that is read-only, the file is written all the same.
            yield

    def write(self, own: dict[str, Any]) -> None:
        """Replace the file as a whole; a link stays a link to it. Raises OSError, with the file as it was."""
        target = Path(os.path.realpath(self.path))
        # By hand half a character may have been written, "\ud800", which has no bytes: it stays as it was.
        document = json.dumps({"version": VERSION, "presets": own}, indent=1, ensure_ascii=False)
        text = document.encode("utf-8", "backslashreplace")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not replace(target, text):
                rewrite(target, text)
        except OSError as error:
            raise OSError(
                f"{self.path} could not be written ({error.strerror or error}), your presets are as they were: "
                "make room or allow writing there, then try again"
            ) from error


def is_among(name: object, presets: Mapping[str, Any]) -> TypeGuard[str]:
    """A list from the page, of several or of none, is no name."""
    return isinstance(name, str) and name in presets


def check_own(name: object, own: dict[str, Any]) -> None:
    """Raise SettingError for what is none of the user's own presets."""
    if not is_among(name, own):
        reason = f'"{name}" is built in' if is_among(name, PRESETS) else f"{quote(name)} is none of your own presets"
        raise SettingError(f"{reason}: choose one of your own ({', '.join(own) or 'there is none yet'})")


def decode(text: bytes) -> dict[str, Any] | None:
    """The presets in a file of UTF-8 or UTF-16, with or without byte order mark; None if damaged or another version."""
    try:
        # Python refuses to read an int of more than 4300 digits, and with it the whole file.
        data = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 400 else float(digits))
        if data["version"] != VERSION or not isinstance(data["presets"], dict):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    # A name with half a character in it would take the whole page down.
    return {name.encode("utf-8", "backslashreplace").decode(): values for name, values in data["presets"].items()}


def replace(path: Path, text: bytes) -> bool:
    """Put a new file in the place of this one: whenever the power fails, the old one or the new one is there.

    False where it cannot be, as with a mounted file, or where another name would be left with the old one.
    """
    if path.exists() and path.stat().st_nlink > 1:
        return False
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        fill(fresh, text)
        if path.exists():
            shutil.copymode(path, fresh)
        fresh.replace(path)
    except OSError as error:
        if error.errno not in UNREPLACED or not path.is_file():
            raise
        return False
    finally:
        fresh.unlink(missing_ok=True)
    return True


def rewrite(path: Path, text: bytes) -> None:
    """Write a file where it lies; the old bytes again, which have their room on the disk, if that fails."""
    before = path.read_bytes()
    try:
        fill(path, text, "r+b")
    except OSError:
        fill(path, before, "r+b")
        raise


def fill(path: Path, text: bytes, mode: str = "wb") -> None:
    """Write the bytes into a file, to the disk itself."""
    with path.open(mode) as file:
        file.write(text)
        file.truncate()
        os.fsync(file.fileno())


def check_name(name: str) -> str:
    """A name for an own preset, without spaces around it. Raises SettingError."""
    name = str(name or "").strip()
    subject = f"Preset name {name!r}" if len(name) <= LONGEST else f"Preset name of {len(name)} characters"
    if not 1 <= len(name) <= LONGEST or not name.isprintable():
        raise SettingError(f"{subject}: give 1 to {LONGEST} characters, no line breaks or control characters")
    if name.casefold() in (built_in.casefold() for built_in in PRESETS):
        raise SettingError(f"{subject}: a built-in preset has that name, give another")
    return name

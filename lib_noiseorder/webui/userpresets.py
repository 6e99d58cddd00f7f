"""The presets a user can choose: the built-in ones and their own, which live in one JSON file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

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
        if isinstance(name, str) and name in PRESETS:
            return PRESETS[name]
        own = self.read()
        # A list from the page, of several or of none, is no name either.
        if not isinstance(name, str) or name not in own:
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
            try:
                presets[name] = self.get(name)
            except (SettingError, OSError):
                continue
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
            self.must_be_own(old, own)
            if new in own and new != old:
                raise SettingError(f'There is a preset "{new}" already: choose another name, or delete that one first')
            self.write({new if name == old else name: values for name, values in own.items()})
        return new

    def delete(self, name: object) -> None:
        with self.alone():
            own = self.whole()
            self.must_be_own(name, own)
            self.write({other: values for other, values in own.items() if other != name})

    @staticmethod
    def must_be_own(name: object, own: dict[str, Any]) -> None:
        # A list from the page, of several or of none, is no name either.
        if not isinstance(name, str) or name not in own:
            reason = f'"{name}" is built in' if name in list(PRESETS) else f"{quote(name)} is none of your own presets"
            raise SettingError(f"{reason}: choose one of your own ({', '.join(own) or 'there is none yet'})")

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
        aside = next(path for path in map(self.aside, range(1, 1000)) if not path.exists())
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

    def aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.damaged-{number}.json")

    @property
    def target(self) -> Path:
        """The file itself, where the path is a link to it."""
        return Path(os.path.realpath(self.path))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else, in this WebUI or another, changes the file meanwhile; whoever dies leaves no lock behind."""
        target = self.target
        with ExitStack() as stack:
            # Where a lock file cannot be made, as in a folder that is read-only, the file is written all the same.
            with suppress(OSError):
                target.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(target.with_name(f"{target.name}.lock").open("ab"))
                stack.enter_context(hold_lock(lock.fileno()))
            yield

    def write(self, own: dict[str, Any]) -> None:
        """Replace the file as a whole: whenever the power fails, the old one or the new one is there.

        What has another name, or refuses to be replaced as a mounted file does, is written where it lies.
        Raises OSError, with the file as it was.
        """
        target = self.target
        fresh = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        # By hand half a character may have been written, "\ud800", which has no bytes: it stays as it was.
        document = json.dumps({"version": VERSION, "presets": own}, indent=1, ensure_ascii=False)
        text = document.encode("utf-8", "backslashreplace")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.stat().st_nlink > 1:
                rewrite(target, text)
                return
            try:
                fill(fresh, text)
                if target.exists():
                    shutil.copymode(target, fresh)
                fresh.replace(target)
            except OSError as error:
                if error.errno not in UNREPLACED or not target.is_file():
                    raise
                rewrite(target, text)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise OSError(
                f"{self.path} could not be written ({error.strerror or error}), your presets are as they were: "
                "make room or allow writing there, then try again"
            ) from error


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


@contextmanager
def hold_lock(file: int) -> Iterator[None]:
    """An open file to ourselves. Raises SettingError if another keeps it long, OSError where files have no locks."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except (BlockingIOError, PermissionError):
            if time.monotonic() > end:
                raise SettingError("Another WebUI is writing your presets for too long: try again") from None
            time.sleep(0.01)
    yield  # closing the file unlocks it


def fill(path: Path, text: bytes, mode: str = "wb") -> None:
    """Write the bytes into a file, to the disk itself."""
    with path.open(mode, buffering=0) as file:
        rest = text
        while rest:
            rest = rest[file.write(rest) :]
        file.truncate()
        os.fsync(file.fileno())


def rewrite(path: Path, text: bytes) -> None:
    """Write a file where it lies; the old bytes again, which have their room on the disk, if that fails."""
    before = path.read_bytes()
    try:
        fill(path, text, "r+b")
    except OSError:
        fill(path, before, "r+b")
        raise


def check_name(name: str) -> str:
    """A name for an own preset, without spaces around it. Raises SettingError."""
    name = str(name or "").strip()
    subject = f"Preset name {name!r}" if len(name) <= LONGEST else f"Preset name of {len(name)} characters"
    if not 1 <= len(name) <= LONGEST or not name.isprintable():
        raise SettingError(f"{subject}: give 1 to {LONGEST} characters, no line breaks or control characters")
    if name.casefold() in (built_in.casefold() for built_in in PRESETS):
        raise SettingError(f"{subject}: a built-in preset has that name, give another")
    return name

"""Settings to the text under an image, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from .. import log
from ..config import (
    BY_NAME,
    COMPARE,
    FIELDS,
    Field,
    NoiseOrderConfig,
    SettingError,
    quote,
)
from ..names import (
    EVERYWHERE,
    FIRST,
    MULTI_STEP,
)

VERSION = "1"
"""Of the algorithm: an image says which one made it."""
MARKER = BY_NAME["enabled"].infotext
ERROR = "Noise Order error"
INNER = "Noise Order in ADetailer"
"""On an image for which ADetailer's inner passes were to be modulated too."""
AUDITIONED = "Noise Order auditioned"
"""On an image whose variant won against others: how many there were. Not read back: the variant is told."""
AUTO = "Noise Order auto"
"""On an image whose direction followed the model: from which preset. Not read back: the direction is told."""
VARIANT = "Noise Order compare"
"""On an image made beside another one: which variant it is. Not read back: the image's own settings made it."""
KEYS = (ERROR, INNER, AUDITIONED, AUTO, *(field.infotext for field in FIELDS))
ENTRY = re.compile(rf'({MARKER}[\w ]*): *("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""One of ours in the last line of an infotext, as the hosts read it."""
COMMA = re.compile(rf"({MARKER} [\w ]+): *(-?\d+),(\d+)(?=,|\s*$)")
"""A number with a decimal comma; between the entries of an infotext the comma has a space behind it."""


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
            if config.direction not in MULTI_STEP:
                names += ["layout", "structure", "detail"]
    if config.erase != 1:
        names.append("variant")
    if config.chain:
        names.append("chain")
    if (config.erase != 1 or config.chain) and config.region != EVERYWHERE:
        names.append("region")
    if config.passes != FIRST:
        names.append("passes")
    names += [name for name in COMPARE if getattr(config, name)]
    return {MARKER: VERSION, **{BY_NAME[name].infotext: text(getattr(config, name)) for name in names}}


class PerImage(str):
    """A value of its own for each image of a generation, which the hosts ask for when they write an infotext.

    They call what can be called with everything they know of the image. In JSON it is the values, joined by commas.
    """

    values: dict[int, str | None]

    def __new__(cls, values: Mapping[int, str | None]) -> PerImage:
        text = super().__new__(cls, ", ".join(str(value) for value in values.values() if value is not None))
        text.values = dict(values)
        return text

    def __call__(
        self,
        p: Any = None,
        index: int | None = None,
        all_seeds: Sequence[Any] = (),
        use_main_prompt: bool = False,
        **others: Any,
    ) -> str | None:
        """The value of one image; the hosts leave out None. use_main_prompt: of a grid, which names the first image."""
        if use_main_prompt:
            return self.values.get(0)
        place = index or 0
        # Most hosts count within the batch, ersatzForge and `Processed.infotext` from the first of all images.
        if len(all_seeds) < len(p.all_seeds):
            place += p.iteration * p.batch_size
        return self.values.get(place)


def merge(images: Mapping[int, Mapping[str, str]], last: int) -> dict[str, str]:
    """What to put into a host's `extra_generation_params` for these images, by their places in the generation.

    last: the last image that is being made; of later ones nothing is known yet. A key whose value all images share is
    that value, another a PerImage.
    """
    known = {index: texts for index, texts in images.items() if index <= last}
    params: dict[str, str] = {}
    for key in dict.fromkeys(key for texts in known.values() for key in texts):
        values = {index: texts.get(key) for index, texts in known.items()}
        first = next(iter(values.values()))
        same = first is not None and len(set(values.values())) == 1
        params[key] = first if same and first is not None else PerImage(values)
    return params


def clear(params: dict[str, Any]) -> None:
    """Take every key of ours out: the cells of an X/Y/Z plot share one dict."""
    for key in KEYS:
        params.pop(key, None)


def say(message: str) -> None:
    """Say it in the console and in a message on the page."""
    log.warn(f"{message}")
    # Gradio 4 takes the message for HTML, Gradio 3 does not.
    gr.Warning(f"Noise Order: {message}".replace("<", "‹"))


def complete_params(infotext: str, params: dict[str, Any]) -> None:
    """Callback `infotext_pasted`, before the readers: what the host's own reading of the text leaves out.

    It ends a number at a decimal comma, and nobody asks for a setting that this version does not have.
    """
    if version(params) != VERSION:
        return
    for key, whole, digits in COMMA.findall(infotext.strip().rpartition("\n")[2]):
        if params.get(key) == whole:
            params[key] = f"{whole}.{digits}"
    for key in params:
        if key.startswith(f"{MARKER} ") and key not in (*KEYS, VARIANT):
            say(f"{key}: {quote(params[key])} is a setting that this version does not have: the image may differ")


def entries(text: str) -> dict[str, str]:
    """Our keys in an infotext, for who has no host to read it."""
    params = {key: entry.strip() for key, entry in ENTRY.findall(text.strip().rpartition("\n")[2])}
    complete_params(text, params)
    return params


class Reader(str):
    """A reader of one field that is its infotext key too.

    The hosts call what can be called when they paste. What is text besides they list among the fields that can be
    ignored in pasting, and carry to the other tab by "Send to".
    """

    read: Callable[[Mapping[str, Any]], Any]

    def __new__(cls, key: str, read: Callable[[Mapping[str, Any]], Any]) -> Reader:
        text = super().__new__(cls, key)
        text.read = read
        return text

    def __call__(self, params: Mapping[str, Any]) -> Any:
        return self.read(params)


def version(params: Mapping[str, Any]) -> str | None:
    """The version of the algorithm that made the image; None for an image made without us."""
    return str(params[MARKER]).strip() if MARKER in params else None


def reader(field: Field, switch_off: Callable[[], bool] = lambda: True) -> Reader:
    """What pasting an infotext puts into a field's control; None leaves the control alone.

    An image made without us switches us off, unless switch_off says no, and changes nothing else; so does one made by
    another version of the algorithm, always and with a message. What is not understood is said, and its default taken.
    """

    def enabled(params: Mapping[str, Any]) -> bool | None:
        image_version = version(params)
        if image_version is None:
            return False if switch_off() else None
        if image_version != VERSION:
            say(
                f"the image was made by version {quote(image_version)} of the algorithm; this extension has version "
                f"{VERSION} and cannot make it again. Noise Order stays off: look for an update of the extension"
            )
        return image_version == VERSION

    def read(params: Mapping[str, Any]) -> Any:
        if version(params) != VERSION:
            return None
        entry = params.get(field.infotext)
        if entry is None:
            return field.default
        try:
            return field.check(value(field, str(entry).strip()))
        except (SettingError, ValueError):
            say(
                f"{field.infotext}: {quote(entry)} was not understood, it must be {field.allowed}; "
                f"{field.label} is set to its default, {text(field.default)}"
            )
            return field.default

    return Reader(field.infotext, enabled if field.name == "enabled" else read)


def text(value: object) -> str:
    """A setting as short as it can be read back exactly: 4.0 is "4"."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def value(field: Field, entry: str) -> object:
    """What was written, as the field's kind of value."""
    if isinstance(field.default, bool):
        return {"True": True, "False": False}.get(entry)
    return entry if isinstance(field.default, str) else float(entry.replace(",", "."))

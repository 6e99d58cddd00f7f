"""The WebUI's settings page: what is chosen once and not for every image. The keys are stored: never rename."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from ..config import SettingError
from ..presets import PRESETS
from .infotext import INNER
from .inspector import SWITCH

PREFIX = "noiseorder_"
SECTION = ("noiseorder", "Noise Order")
SWITCH_OFF, LEAVE_ALONE = "switch off", "leave alone"
CONTINUE, STOP = "continue", "stop"
GOOD, AS_LIVE = "good", "as the live preview"
PER_BATCH, ERRORS, EVERYTHING = "one line per batch", "errors only", "everything"
CHOICES = {
    "paste": (SWITCH_OFF, LEAVE_ALONE),
    "on_failure": (CONTINUE, STOP),
    "console": (PER_BATCH, ERRORS, EVERYTHING),
    "preview_quality": (GOOD, AS_LIVE),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is set on the settings page, or its defaults; in the WebUI each key begins with PREFIX."""

    default_preset: str = next(iter(PRESETS))
    paste: str = SWITCH_OFF
    on_failure: str = CONTINUE
    console: str = PER_BATCH
    inspector: bool = False
    adetailer: bool = False
    sketches: bool = True
    preview_quality: str = GOOD
    previews_in_gallery: bool = True


WORDS = {
    "default_preset": (
        "Preset that the controls begin with",
        "with another than Default, defaults of these controls from the Defaults page (ui-config.json) are not used",
    ),
    "paste": ("Pasting an image that was made without Noise Order", "whether it is switched off or left as it is"),
    "on_failure": (
        "When Noise Order cannot do what was asked",
        "continue: the image is made with its noise untouched; stop: the generation is ended. Both say why",
    ),
    "console": ("What is written to the console", "everything: also the settings and the noise levels asked"),
    "inspector": (SWITCH, "the noise of the last generation; two evaluations more per key level and image"),
    "adetailer": ("Work in the passes of ADetailer too", "with the settings of the image, and in its infotext"),
    "sketches": (
        "Audition by sketches",
        "previews are of a coarser run, clearer and cheaper, where the sampler draws no noise in its steps; off: "
        "always of the image's own first steps",
    ),
    "preview_quality": (
        "Preview quality",
        "good: by the checkpoint's VAE, or by TAESD where live previews are; as the live preview: quicker, often no "
        "more than an eighth of the image",
    ),
    "previews_in_gallery": (
        "Previews also in the gallery",
        "off: the sheet has them all, and the gallery the first alone, as the WebUI shows something there after every "
        "generation",
    ),
}


def read(data: Mapping[str, Any]) -> Options:
    """The options in a WebUI's `shared.opts.data`; a value that is none of the choices counts as the default."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Options):
        value = data.get(PREFIX + field.name, field.default)
        allowed = CHOICES.get(field.name)
        if type(value) is type(field.default) and (allowed is None or value in allowed):
            values[field.name] = value
    return Options(**values)


def write(opts: Any, name: str, value: object, file: Any) -> None:
    """Set one option and save all, as the settings page does; SettingError where the host does not let it be.

    opts, file: the host's `shared.opts` and `shared.config_filename`.
    """
    try:
        opts.set(PREFIX + name, value)
        opts.save(file)
    except (AssertionError, RuntimeError, OSError) as error:
        raise SettingError(f"“{WORDS[name][0]}” cannot be set or saved: {error}. See Settings, Noise Order") from None
    if opts.data.get(PREFIX + name) != value:
        raise SettingError(f"“{WORDS[name][0]}” cannot be set: this WebUI does not allow it. See its log")


def register(opts: Any, option_info: Callable[..., Any], preset_names: Callable[[], list[str]]) -> None:
    """Add the settings page.

    opts, option_info: the host's `shared.opts` and `shared.OptionInfo`; preset_names: asked when the page is made.
    """
    for field in dataclasses.fields(Options):
        label, info = WORDS[field.name]
        component: Any = gr.Checkbox
        arguments: Any = {}
        if field.name == "default_preset":
            component, arguments = gr.Dropdown, lambda: {"choices": preset_names()}
        elif field.name in CHOICES:
            component, arguments = gr.Radio, {"choices": list(CHOICES[field.name])}
        option = option_info(field.default, label, component, arguments, section=SECTION).info(info)
        # Set afterwards: a host without categories then ignores it.
        option.category_id = "sd"
        if field.name == "adetailer":
            # It has a say in the image, so pasting sets it, as the hosts do with settings that have.
            option.infotext = INNER
        opts.add_option(PREFIX + field.name, option.needs_reload_ui() if field.name == "default_preset" else option)

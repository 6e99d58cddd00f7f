"""Noise Order in a WebUI: wiring only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modules import script_callbacks, scripts, shared
from modules.paths import data_path
from modules.ui_components import InputAccordion

import lib_noiseorder


def forget_older_modules() -> None:
    """After an update in place and "Reload UI", the same process would go on with the modules that it has loaded."""
    package: Any = lib_noiseorder
    stamp = max(path.stat().st_mtime for path in Path(package.__file__).parent.rglob("*.py"))
    if getattr(package, "stamp", None) != stamp:
        for name in [name for name in sys.modules if name.startswith("lib_noiseorder.")]:
            del sys.modules[name]
        package.stamp = stamp


forget_older_modules()

from lib_noiseorder.config import FIELDS
from lib_noiseorder.hosts.detect import find_host
from lib_noiseorder.session import session
from lib_noiseorder.webui import accordion, api, infotext, inspector, options, xyz
from lib_noiseorder.webui.userpresets import Presets

session.adapter, session.why_not = find_host(scripts.Script)
session.options = lambda: options.read(shared.opts.data)
PRESETS = session.presets = Presets(Path(data_path, "noiseorder", "presets.json"))


def switch_inspector(on: bool) -> None:
    options.write(shared.opts, "inspector", on, shared.config_filename)


class NoiseOrderScript(scripts.Script):
    def title(self) -> str:
        return accordion.TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        with InputAccordion(False, label=accordion.TITLE, elem_id=self.elem_id("enabled")) as enabled:
            *settings, ticket = accordion.controls(
                self.elem_id,
                PRESETS,
                session.family,
                start=session.options().default_preset,
                text=accordion.about(session.why_not),
                audition=True,
                rates=session.rates(),
            )
            inspector.panel(self.elem_id, session.inspections, lambda: session.options().inspector, switch_inspector)
        self.infotext_fields = [
            (component, infotext.reader(field, lambda: session.options().paste == options.SWITCH_OFF))
            for component, field in zip([enabled, *settings], FIELDS, strict=True)
        ]
        self.paste_field_names = [field.infotext for field in FIELDS]
        return [enabled, *settings, ticket]

    def before_process(self, p: Any, *args: Any) -> None:
        session.generation(p).before_process(p, args, self.is_img2img)

    def process(self, p: Any, *args: Any) -> None:
        session.generation(p).process(p)

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        session.generation(p).process_batch(p)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        session.generation(p).before_sampling(p, *(kwargs.get(name) for name in ("x", "noise", "c", "uc")))

    def post_sample(self, p: Any, ps: Any, *args: Any) -> None:
        session.generation(p).post_sample(p)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        session.generation(p).postprocess(p, processed)


def override(p: Any, settings: Any) -> None:
    session.generation(p).overrides.update(settings)


script_callbacks.on_app_started(
    lambda _, app: api.register(
        app,
        PRESETS.usable,
        session.rates(),
        session.sheets,
        session.inspections,
        session.outcomes,
        lambda: bool(shared.state.job),
    )
)
script_callbacks.on_infotext_pasted(infotext.complete_params)
# Not at import: the X/Y/Z script may be loaded after this one.
script_callbacks.on_before_ui(lambda: xyz.register(scripts.scripts_data, PRESETS.usable, override))
script_callbacks.on_ui_settings(lambda: options.register(shared.opts, shared.OptionInfo, PRESETS.names))

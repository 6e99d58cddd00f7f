"""Noise Order in a WebUI: wiring only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modules import script_callbacks, scripts, shared
from modules.paths import data_path
from modules.ui_components import InputAccordion

from lib_noiseorder.config import FIELDS
from lib_noiseorder.generation import audition, compare, copies, hook
from lib_noiseorder.hosts.detect import find_host
from lib_noiseorder.webui import accordion, api, cost, infotext, inspector, options, sheet, xyz
from lib_noiseorder.webui.userpresets import Presets

HOST, WHY_NOT = find_host(scripts.Script)
PRESETS = Presets(Path(data_path, "noiseorder", "presets.json"))


def read_options() -> options.Options:
    """The settings page, as it is now or as a request overrides it."""
    return options.read(shared.opts.data)


def inspects() -> bool:
    return read_options().inspector


def switch_inspector(on: bool) -> None:
    options.write(shared.opts, "inspector", on, shared.config_filename)


def rates() -> cost.Rates:
    negative = HOST.negative_at_cfg_1 if HOST else (True, True)
    return cost.Rates(lambda job, depth: audition.plan(HOST, job, depth), negative, inspects)


class NoiseOrderScript(scripts.Script):
    def title(self) -> str:
        return accordion.TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        with InputAccordion(False, label=accordion.TITLE, elem_id=self.elem_id("enabled")) as enabled:
            family = HOST.family if HOST else lambda: None
            ticket: list[Any] = []
            settings = accordion.controls(
                self.elem_id,
                PRESETS,
                family,
                start=read_options().default_preset,
                text=accordion.about(WHY_NOT),
                below_cost=lambda: ticket.append(sheet.panel(self.elem_id)),
                advanced=lambda: sheet.sliders(self.elem_id),
                rates=rates(),
            )
            inspector.panel(self.elem_id, inspects, switch_inspector)
        self.infotext_fields = [
            (component, infotext.reader(field, lambda: read_options().paste == options.SWITCH_OFF))
            for component, field in zip([enabled, *settings], FIELDS, strict=True)
        ]
        self.paste_field_names = [field.infotext for field in FIELDS]
        return [enabled, *settings, *ticket]

    def before_process(self, p: Any, *args: Any) -> None:
        audition.begin(p, args, HOST)
        compare.keep(p, args)

    def process(self, p: Any, *args: Any) -> None:
        copies.settle(p)
        hook.begin(p, args, HOST, WHY_NOT, self.is_img2img, read_options(), shared.state.interrupt)
        compare.count(p)

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        audition.check_prompts(p)
        hook.announce(p)
        audition.before_batch(p)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        arguments = [kwargs.get(name) for name in ("x", "noise", "c", "uc")]
        hook.before_sampling(p, HOST, *arguments)
        audition.before_sampling(p, HOST, *arguments)

    def post_sample(self, p: Any, ps: Any, *args: Any) -> None:
        hook.check_claim(p)
        audition.after_sampling(p, ps)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        hook.finish(p, self.is_img2img)
        audition.finish(p, processed)
        compare.finish(p, processed)


script_callbacks.on_app_started(lambda _, app: api.register(app, PRESETS.usable, rates()))
script_callbacks.on_infotext_pasted(infotext.complete_params)
# Not at import: the X/Y/Z script may be loaded after this one.
script_callbacks.on_before_ui(lambda: xyz.register(scripts.scripts_data, PRESETS.usable))
script_callbacks.on_ui_settings(lambda: options.register(shared.opts, shared.OptionInfo, PRESETS.names))

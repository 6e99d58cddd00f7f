"""Noise Order in a WebUI: wiring only."""

from __future__ import annotations

from typing import Any

from modules import script_callbacks, scripts
from modules.ui_components import InputAccordion

from lib_noiseorder import compare, generation
from lib_noiseorder.config import FIELDS
from lib_noiseorder.hosts.detect import host_class
from lib_noiseorder.webui import accordion, api, infotext, inspector, xyz

HOST = host_class()


def inspects() -> bool:
    return HOST is not None and HOST.inspects()


class NoiseOrderScript(scripts.Script):
    def title(self) -> str:
        return accordion.TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        with InputAccordion(False, label=accordion.TITLE, elem_id=self.elem_id("enabled")) as enabled:
            components = [enabled, *accordion.controls(self.elem_id)]
            inspector.panel(self.elem_id, inspects)
        self.infotext_fields = [
            (component, infotext.reader(field)) for component, field in zip(components, FIELDS, strict=True)
        ]
        self.paste_field_names = [field.infotext for field in FIELDS]
        return components

    def before_process(self, p: Any, *args: Any) -> None:
        compare.keep(p, args)

    def process(self, p: Any, *args: Any) -> None:
        generation.begin(p, args, HOST, self.is_img2img)
        compare.count(p)

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        generation.announce(p)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        generation.before_sampling(p, HOST, kwargs.get("x"), kwargs.get("noise"), kwargs.get("c"), kwargs.get("uc"))

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        compare.finish(p, processed)


script_callbacks.on_app_started(lambda _, app: api.register(app, inspects))
# Not at import: the X/Y/Z script may be loaded after this one.
script_callbacks.on_before_ui(lambda: xyz.register(scripts.scripts_data))

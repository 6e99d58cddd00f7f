"""The controls, made from the table of settings; the same in every WebUI and in the playground."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.context import Context

from .. import log
from ..config import (
    BY_NAME,
    COMPARE,
    FIELDS,
    NO_PRESET,
    Field,
    NoiseOrderConfig,
    SettingError,
)
from ..job import Job, read
from ..names import (
    AUTO,
)
from ..presets import CAVEATS, PRESETS, automatic, follow
from . import cost, sheet
from .curve import curve
from .markup import words
from .userpresets import Presets

TITLE = "Noise Order"
ABOUT = "Changes the noise an image starts from. **Audition** previews several variants to choose from."
BESIDE = "Beside the image, the same seeds without Noise Order, with Inject 0, or with Erase 1: one more image each"
LABEL = "Noise Order preset"
PRESET = "Sets the controls; Auto follows the loaded model"
SIMPLE = ("erase", "inject")
ADVANCED = [field.name for field in FIELDS if field.name not in ("enabled", *SIMPLE, *COMPARE)]
OF_PRESETS = [name for name in (*SIMPLE, *ADVANCED) if name not in NO_PRESET]
PLAYGROUND = cost.Rates()


def about(why_not: str = "") -> str:
    """What stands above the controls; why_not: why nothing can be done in this WebUI, empty where it can."""
    return f"⚠ Noise Order does nothing here: {why_not}." if why_not else ABOUT


DEFAULT = next(iter(PRESETS))


def controls(
    elem_id: Callable[[str], str],
    presets: Presets,
    family: Callable[..., str | None],
    family_inputs: Sequence[Any] = (),
    start: str = DEFAULT,
    text: str = "",
    audition: bool = False,
    rates: cost.Rates = PLAYGROUND,
) -> list[Any]:
    """The controls of every setting but "enabled", in the order of FIELDS; call it inside the enclosing block.

    elem_id: makes the DOM id of a control from its name. family: tells the family of the loaded model, a key of
    presets.FAMILIES, for the direction "auto", from the values of `family_inputs`. start: the preset whose
    settings the controls begin with. text: what stands above the controls. audition: adds the sheet of an audition,
    whose ticket comes after the settings. rates: what the line of the cost has to know.
    """
    start, begin = starting(presets, start)
    gr.Markdown(text or about(), elem_id=elem_id("about"), elem_classes="noiseorder-text")
    preset, message = preset_choice(elem_id, presets, start)
    components = simple_controls(elem_id, begin)
    job, price = readouts(elem_id)
    ticket = [sheet.panel(elem_id)] if audition else []
    with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced"), elem_classes="noiseorder-fold"):
        drawing = gr.HTML(elem_id=elem_id("curve"))
        components |= advanced_controls(elem_id, begin)
        if audition:
            sheet.sliders(elem_id)
        settings = [components[field.name] for field in FIELDS if field.name != "enabled"]
        own_presets(elem_id, presets, preset, settings)
        if not sheet.GRADIO_6:
            gr.HTML(details(), elem_id=elem_id("help"))
    if sheet.GRADIO_6:  # javascript/noiseorder.js reads it while all is folded
        gr.HTML(details(), elem_id=elem_id("help"))
    for component in [preset, *settings]:
        # Else the defaults that the WebUI wrote down when it first saw the controls would win over the chosen preset.
        component.do_not_save_to_config = start != DEFAULT

    def choose(name: object) -> list[Any]:
        return chosen(presets, name)

    # .input fires for the user alone, so a pasted infotext is not overwritten by a preset.
    outputs = [*(components[name] for name in OF_PRESETS), message]
    preset.input(choose, [preset], outputs, show_progress="hidden", queue=False)

    def tell(user: str | None, preset_name: object, job_text: object, *values: Any) -> tuple[str, str]:
        model_family = family(*values[: len(family_inputs)])
        own = dataclasses.replace(rates, user=user)
        return told(presets, preset_name, read(job_text), model_family, values[len(family_inputs) :], own)

    def answer(request: gr.Request, *values: Any) -> tuple[str, str]:
        return tell(request.username or None, *values)

    first = [start, "", *(component.value for component in family_inputs), *values_of(begin)]
    price.value, drawing.value = tell(None, *first)
    # Also at first: the host may have put the user's own defaults into the controls.
    inputs = [preset, job, *family_inputs, *settings]
    for event in (Context.root_block.load, *(component.change for component in inputs)):
        event(answer, inputs, [price, drawing], show_progress="hidden", queue=False)
    return [*settings, *ticket]


def preset_choice(elem_id: Callable[[str], str], presets: Presets, start: str) -> tuple[Any, Any]:
    """The list of presets, and the line beneath it that says what there is to say of the chosen one."""
    preset = gr.Dropdown(
        label=LABEL,
        choices=presets.names(),
        value=start,
        info=PRESET,
        elem_id=elem_id("preset"),
        elem_classes="noiseorder-preset",
    )
    return preset, gr.HTML("", visible=False, elem_id=elem_id("said"))


def simple_controls(elem_id: Callable[[str], str], begin: NoiseOrderConfig) -> dict[str, Any]:
    """What is seen at once, by the names of the settings."""
    with gr.Row():
        components = {name: control(BY_NAME[name], elem_id, getattr(begin, name)) for name in SIMPLE}
    small = {"container": False, "scale": 0, "min_width": 150}
    with gr.Row(elem_id=elem_id("beside"), elem_classes="noiseorder-beside"):
        for name in COMPARE:
            components[name] = gr.Checkbox(
                getattr(begin, name), label=BY_NAME[name].label, elem_id=elem_id(name), **small
            )
    gr.HTML(f"<small>{BESIDE}</small>", elem_id=elem_id("beside_help"), elem_classes="noiseorder-beside-help")
    return components


def readouts(elem_id: Callable[[str], str]) -> tuple[Any, Any]:
    """What javascript/noiseorder.js tells of the page's own settings, hidden, and the line of the cost."""
    job = sheet.keep_out(gr.Textbox("", visible=sheet.HIDDEN, elem_id=elem_id("job")))
    price = gr.HTML(elem_id=elem_id("cost"), elem_classes="noiseorder-text")
    # javascript/noiseorder.js writes here what was done in the last generation.
    gr.HTML('<div class="noiseorder-outcome" role="status"></div>', elem_id=elem_id("outcome"))
    return job, price


def advanced_controls(elem_id: Callable[[str], str], begin: NoiseOrderConfig) -> dict[str, Any]:
    """The other ones, by the names of the settings."""
    return {name: control(BY_NAME[name], elem_id, getattr(begin, name)) for name in ADVANCED}


def chosen(presets: Presets, name: object) -> list[Any]:
    """What the controls of OF_PRESETS become when a user chooses this preset, and the line about it."""
    try:
        config = presets.get(name)
    except (SettingError, OSError) as error:
        return [*[gr.update()] * len(OF_PRESETS), gr.update(value=words(f"⚠ {error}"), visible=True)]
    caveat = words(CAVEATS[str(name)]) if name in CAVEATS else ""
    return [*(getattr(config, each) for each in OF_PRESETS), gr.update(value=caveat, visible=bool(caveat))]


def told(
    presets: Presets, preset_name: object, job: Job, family: str | None, values: Sequence[Any], rates: cost.Rates
) -> tuple[str, str]:
    """The line of the cost, and the drawing of the key levels, of the controls' values in the order of FIELDS."""
    try:
        config = NoiseOrderConfig(True, *values)
    except ValueError as error:
        return state(words(f"⚠ {error}"), set(), False), ""
    actual, _ = follow(config, family)
    text = words(cost.line(actual, job, rates))
    if config.direction == AUTO and config.inject:
        text += words(automatic(family))
    injection_cost = cost.injection(actual, job.parts, job.cfg, rates.negative[1])
    line = state(text, cost.idle(actual, job), is_changed(presets, preset_name, config), injection_cost)
    return line, curve(*values_of(actual))


def is_changed(presets: Presets, name: object, config: NoiseOrderConfig) -> bool:
    """Whether settings are other ones than those of the chosen preset; not of one that cannot be used."""
    try:
        preset = presets.get(name)
    except (SettingError, OSError):
        return False
    return any(getattr(preset, each) != getattr(config, each) for each in OF_PRESETS)


def own_presets(elem_id: Callable[[str], str], presets: Presets, preset: Any, ordered: list[Any]) -> None:
    """The folded group in which a user saves, renames and deletes presets. No script argument is in it."""

    def list_names() -> list[str]:
        return presets.names()

    def renewed(previous: list[str]) -> list[Any]:
        names = list_names()
        return [gr.update() if names == previous else gr.update(choices=names), names]

    # Presets may have been saved since the page was made, or in the other tab. A list that is open already has to be
    # opened again, which javascript/noiseorder.js does: Gradio 3 leaves it as it was, Gradio 4 shows a part of it.
    listed = gr.JSON(list_names(), visible=False)
    script = f"(names) => {{ window.noiseorderReopen?.('{elem_id('preset')}', names); return [] }}"
    for event in (Context.root_block.load, preset.focus):
        reload = event(renewed, [listed], [preset, listed], show_progress="hidden", queue=False)
        # Gradio 4 renamed the argument.
        keyword = "js" if "js" in inspect.signature(reload.then).parameters else "_js"
        reload.then(None, [listed], None, **{keyword: script})
    with gr.Accordion("Presets", open=False, elem_id=elem_id("presets")):
        name = gr.Textbox(
            label="Preset name",
            info="Save keeps the settings above under it; Rename and Delete act on the preset chosen above",
            max_lines=1,
            elem_id=elem_id("preset_name"),
        )
        with gr.Row():
            save, rename, delete = (
                gr.Button(f"{word} preset", elem_id=elem_id(f"preset_{word.lower()}"))
                for word in ("Save", "Rename", "Delete")
            )
        message = gr.HTML("", elem_id=elem_id("preset_message"))
    for scratch in (name, save, rename, delete):
        scratch.do_not_save_to_config = True

    def on(button: Any, act: Callable[..., tuple[str | None, str]], inputs: list[Any]) -> None:
        def click(*values: Any) -> list[Any]:
            try:
                selection, text = act(*values)
            except (SettingError, OSError) as error:
                return [gr.update(choices=list_names()), list_names(), words(f"⚠ {error}")]
            return [gr.update(choices=list_names(), value=selection), list_names(), words(text)]

        button.click(click, inputs, [preset, listed, message], show_progress="hidden", queue=False)

    def save_preset(name: str, *values: Any) -> tuple[str | None, str]:
        name = presets.save(name, NoiseOrderConfig(True, *values))
        return name, f"Saved “{name}”."

    def rename_preset(selection: object, name: str) -> tuple[str | None, str]:
        name = presets.rename(selection, name)
        return name, f"Renamed “{selection}” to “{name}”."

    def delete_preset(selection: object) -> tuple[str | None, str]:
        presets.delete(selection)
        return None, f"Deleted “{selection}”. The controls stay as they are."

    on(save, save_preset, [name, *ordered])
    on(rename, rename_preset, [preset, name])
    on(delete, delete_preset, [preset])


def starting(presets: Presets, name: str) -> tuple[str, NoiseOrderConfig]:
    """The preset to begin with; the default one, with a line in the console, where it cannot be had."""
    try:
        return name, presets.get(name)
    except (SettingError, OSError) as error:
        log.warn(f"the controls begin with “{DEFAULT}”: {error}")
        return DEFAULT, PRESETS[DEFAULT]


def control(field: Any, elem_id: Callable[[str], str], value: Any) -> Any:
    """The Gradio component of one setting."""
    common = {"label": field.label, "value": value, "info": field.help, "elem_id": elem_id(field.name)}
    if isinstance(field.default, bool):
        return gr.Checkbox(**common)
    if field.choices:
        return gr.Dropdown(choices=list(field.choices), **common)
    if isinstance(field.default, str):
        return gr.Textbox(max_lines=1, **common)
    # So wide that its help is not squeezed on a phone.
    size = {"min_width": 240, "elem_classes": "noiseorder-slider"}
    return gr.Slider(minimum=field.minimum, maximum=field.maximum, step=field.step, **size, **common)


def details() -> str:
    """What more there is to say of each control, folded; javascript/noiseorder.js shows it at the controls too."""

    def useful(field: Field) -> str:
        return " data-low={:g} data-high={:g}".format(*field.useful) if field.useful else ""

    rows = f"<dt>{LABEL}</dt><dd data-name=preset>{PRESET}</dd>"
    rows += "".join(f"<dt>{f.label}</dt><dd data-name={f.name}{useful(f)}>{f.more}</dd>" for f in FIELDS if f.more)
    rows += f"<dt>Also make</dt><dd data-name=beside>{BESIDE}</dd>"
    return f"<details class='noiseorder-help'><summary>What each control does</summary><dl>{rows}</dl></details>"


def values_of(config: NoiseOrderConfig) -> list[Any]:
    """The values of the controls, in the order of FIELDS without "enabled"."""
    return [getattr(config, field.name) for field in FIELDS if field.name != "enabled"]


def state(text: str, idle: set[str], changed: bool, injection_cost: int = 0) -> str:
    """The line of the cost with what javascript/noiseorder.js is to show of the controls.

    injection_cost: evaluations of Inject in the first pass.
    """
    mark = "true" if changed else ""
    return (
        f'<div data-names="{" ".join(ADVANCED)}" data-idle="{" ".join(sorted(idle))}" data-changed="{mark}" '
        f'data-injected="{injection_cost}">{text}</div>'
    )

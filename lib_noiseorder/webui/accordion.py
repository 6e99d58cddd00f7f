"""The controls, made from the table of settings; the same in every WebUI and in the playground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ..config import BOTH, COMPARE, FIELDS, NoiseOrderConfig
from ..presets import PRESETS

TITLE = "Noise Order"
ABOUT = (
    "Changes the noise a picture starts from. **Erase** loosens the seed's own composition; "
    "**Inject** turns the noise toward what the model sees in the prompt."
)
PASSES = "Works in txt2img, in its hires pass where that is chosen under Advanced, and in img2img."
SIMPLE = ("erase", "inject")


def controls(elem_id: Callable[[str], str], about: str = f"{ABOUT} {PASSES}") -> list[Any]:
    """The controls of every setting but "enabled", in the order of FIELDS; call it inside the enclosing block.

    elem_id: makes the DOM id of a control from its name.
    """
    made: dict[str, Any] = {}
    gr.Markdown(about, elem_id=elem_id("about"))
    preset = gr.Dropdown(
        label="Noise Order preset",
        choices=list(PRESETS),
        value=next(iter(PRESETS)),
        info="Sets the controls below; they can be changed afterwards",
        elem_id=elem_id("preset"),
    )
    with gr.Row():
        for field in FIELDS:
            if field.name in SIMPLE:
                made[field.name] = control(field, elem_id)
    with gr.Row():
        for field in FIELDS:
            if field.name in COMPARE:
                made[field.name] = control(field, elem_id)
    cost = gr.Markdown(cost_line(*defaults()), elem_id=elem_id("cost"))
    with gr.Accordion("Advanced", open=False, elem_id=elem_id("advanced")):
        for field in FIELDS:
            if field.name != "enabled" and field.name not in (*SIMPLE, *COMPARE):
                made[field.name] = control(field, elem_id)
    ordered = [made[field.name] for field in FIELDS if field.name != "enabled"]
    # .input fires for the person alone, so a pasted infotext is not overwritten by a preset.
    # What is made beside the picture is no part of a preset.
    names = [field.name for field in FIELDS if field.name not in ("enabled", *COMPARE)]
    preset.input(
        lambda name: [getattr(PRESETS[name], each) for each in names], [preset], [made[each] for each in names]
    )
    for component in ordered:
        component.change(cost_line, ordered, [cost], show_progress="hidden", queue=False)
    return ordered


def control(field: Any, elem_id: Callable[[str], str]) -> Any:
    """The Gradio component of one setting."""
    common = {"label": field.label, "value": field.default, "info": field.help, "elem_id": elem_id(field.name)}
    if isinstance(field.default, bool):
        return gr.Checkbox(**common)
    if field.choices:
        return gr.Dropdown(choices=list(field.choices), **common)
    return gr.Slider(minimum=field.minimum, maximum=field.maximum, step=field.step, **common)


def defaults() -> list[Any]:
    return [field.default for field in FIELDS if field.name != "enabled"]


def cost_line(*values: Any) -> str:
    """What the settings cost and what would be wrong with them, in one line."""
    try:
        config = NoiseOrderConfig(True, *values)
    except ValueError as error:
        return f"⚠ {error}"
    if not config.active:
        return "Nothing is changed: Erase is 1 and Inject is 0."
    count = config.evaluations
    each = "per image and pass" if config.passes == BOTH else "per image"
    return f"Cost: {count} model evaluation{'' if count == 1 else 's'} {each}." if count else "Costs nothing."

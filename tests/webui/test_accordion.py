"""The controls in a real Gradio, whichever of the two versions runs these tests."""

from __future__ import annotations

import gradio as gr
import pytest

from lib_noiseorder.config import FIELDS, NoiseOrderConfig
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import accordion


@pytest.fixture
def components():
    with gr.Blocks():
        return accordion.controls(lambda name: f"test_{name}")


def test_controls_follow_the_table(components):
    assert len(components) == len(FIELDS) - 1
    for component, field in zip(components, FIELDS[1:], strict=True):
        assert component.label == field.label
        assert component.value == field.default
        assert component.elem_id == f"test_{field.name}"
        assert component.info == field.help
        if not field.choices and not isinstance(field.default, bool):
            assert (component.minimum, component.maximum, component.step) == (field.minimum, field.maximum, field.step)


def test_labels_are_unique_because_defaults_are_stored_by_them(components):
    with gr.Blocks() as page:
        accordion.controls(lambda name: name)
    labels = [block.label for block in page.blocks.values() if getattr(block, "label", None)]
    assert len(labels) == len(set(labels))


def test_building_twice_in_one_page_works():
    """A WebUI with --api builds every script's controls three times."""
    with gr.Blocks():
        first, second = (accordion.controls(lambda name: name) for _ in range(2))
    assert not set(map(id, first)) & set(map(id, second))


def test_cost_line():
    assert accordion.cost_line(*accordion.defaults()) == "Cost: 2 model evaluations per image."
    changed = dict(zip([field.name for field in FIELDS[1:]], accordion.defaults(), strict=True))
    assert "1 model evaluation " in accordion.cost_line(*{**changed, "direction": "denoised"}.values())
    assert accordion.cost_line(*{**changed, "inject": 0}.values()) == "Costs nothing."
    assert "Nothing is changed" in accordion.cost_line(*{**changed, "inject": 0, "erase": 1}.values())
    assert "layout" in accordion.cost_line(*{**changed, "layout": 0, "structure": 0, "detail": 0}.values())


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_settings_of_the_controls(name):
    preset = PRESETS[name]
    assert preset.active
    assert NoiseOrderConfig(True, *(getattr(preset, field.name) for field in FIELDS[1:])) == preset


def test_says_where_it_works():
    with gr.Blocks() as page:
        accordion.controls(lambda name: name)
    texts = " ".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.Markdown))
    assert "in its hires pass where that is chosen" in texts

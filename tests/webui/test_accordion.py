"""The controls in a real Gradio, whichever of the two versions runs these tests."""

from __future__ import annotations

import re

import gradio as gr
import pytest

from lib_noiseorder.config import BY_NAME, COMPARE, FIELDS, NoiseOrderConfig
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import accordion, cost
from lib_noiseorder.webui.infotext import write
from lib_noiseorder.webui.markup import words
from lib_noiseorder.webui.userpresets import Presets


@pytest.fixture
def build(tmp_path):
    """Make the controls, with the user's own presets in a folder of this test."""

    def create(elem_id=lambda name: name, **more):
        return accordion.controls(elem_id, Presets(tmp_path / "presets.json"), lambda: "flow", **more)

    return create


@pytest.fixture
def components(build):
    with gr.Blocks():
        return build(lambda name: f"test_{name}")


def test_controls_follow_the_table(components):
    assert len(components) == len(FIELDS) - 1
    for component, field in zip(components, FIELDS[1:], strict=True):
        assert component.label == field.label
        assert component.value == field.default
        assert component.elem_id == f"test_{field.name}"
        assert component.info == (None if field.name in COMPARE else field.help)
        if field.maximum:
            assert (component.minimum, component.maximum, component.step) == (field.minimum, field.maximum, field.step)


def test_labels_are_unique_because_defaults_are_stored_by_them(build):
    with gr.Blocks() as page:
        build()
    labels = [block.label for block in page.blocks.values() if getattr(block, "label", None)]
    assert len(labels) == len(set(labels))


def test_building_twice_in_one_page_works(build, tmp_path):
    """A WebUI with --api builds every script's controls three times."""
    with gr.Blocks():
        first, second = (build() for _ in range(2))
    assert not set(map(id, first)) & set(map(id, second))
    assert not list(tmp_path.iterdir())


def test_the_default_preset_of_the_settings_page_sets_the_controls(build):
    with gr.Blocks() as page:
        components = build(start="Look-ahead")
    assert [component.value for component in components] == accordion.values_of(PRESETS["Look-ahead"])
    # The host writes every default down when it first sees it; those must not win over the chosen preset.
    assert all(component.do_not_save_to_config for component in components)
    with gr.Blocks():
        assert not any(component.do_not_save_to_config for component in build())
    assert "+<span>6</span> model evaluations" in str(
        [block.value for block in page.blocks.values() if hasattr(block, "value")]
    )


def test_a_default_preset_that_is_gone_is_told_and_replaced(build, capsys):
    with gr.Blocks():
        components = build(start="Mine")
    assert [component.value for component in components] == accordion.values_of(PRESETS["Default"])
    assert "'Mine' is no preset" in capsys.readouterr().out


def test_scratch_controls_are_no_arguments_and_no_stored_defaults(build):
    with gr.Blocks() as page:
        arguments = build()
    scratch = [block for block in page.blocks.values() if str(block.elem_id).startswith("preset_")]
    inputs = [block for block in scratch if not isinstance(block, gr.HTML)]
    assert len(inputs) == 4
    assert all(block.do_not_save_to_config for block in inputs)
    assert not {block._id for block in scratch} & {block._id for block in arguments}


def test_everything_that_can_be_set_says_what_it_does(build):
    with gr.Blocks() as page:
        build()
    kinds = gr.Slider | gr.Dropdown | gr.Textbox | gr.Checkbox
    controls = [block for block in page.blocks.values() if isinstance(block, kinds) and block.visible is True]
    assert len(controls) == len(FIELDS) + 1
    assert [block.label for block in controls if not block.info] == [BY_NAME[name].label for name in COMPARE]
    assert all(len(block.info) > 20 for block in controls if block.info)
    (beside,) = [block for block in page.blocks.values() if block.elem_id == "beside_help"]
    assert accordion.BESIDE in beside.value


def test_everything_that_opens_is_closed(build):
    with gr.Blocks() as page:
        build()
    accordions = [block for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    assert {block.label: block.open for block in accordions} == {"Advanced": False, "Presets": False}


def get_cost(build, **more):
    """What stands in the line of the cost at first."""
    with gr.Blocks() as page:
        build(**more)
    (line,) = [block.value for block in page.blocks.values() if block.elem_id == "cost"]
    return line


def test_cost_line(build):
    text = get_cost(build, start="Erase and inject")
    assert "Cost: +<span>2</span> model evaluations per image, +<span>5</span> % of <span>40</span> " in text
    assert "Costs nothing." in get_cost(build)
    assert 'data-changed=""' in get_cost(build)
    assert 'data-injected="2"' in text, "for the price of an audition"


def test_what_a_candidate_costs_is_what_its_first_pass_does():
    def count_evaluations(**settings):
        return cost.injection(
            NoiseOrderConfig(**{"enabled": True, "inject": 0.05, "levels": 2, **settings}), 2, 7.0, False
        )

    assert [count_evaluations(passes=each) for each in ("first", "both", "hires")] == [6, 6, 0]
    assert count_evaluations(inject=0) == 0
    assert count_evaluations(direction="denoised") == 4


def test_auto_says_what_it_follows(build):
    assert "<p>Auto: a flow model is loaded, so “Erase and inject”.</p>" in get_cost(build, start="Auto")
    assert "Auto" not in get_cost(build)


@pytest.mark.parametrize(
    ("settings", "job", "idle"),
    [
        ({}, {}, "detail last_level layout passes region structure"),
        ({"levels": 2}, {"hires": True}, "region structure"),
        ({"levels": 3}, {"hires": True}, "region"),
        ({"levels": 3, "direction": "look-ahead"}, {"hires": True}, "detail layout region structure"),
        ({"levels": 3, "direction": "self-correction"}, {"hires": True}, "detail layout region structure"),
        ({"erase": 1, "levels": 3}, {"hires": True}, "audition region variant"),
        ({"levels": 3}, {"img2img": True, "hires": True}, "passes region"),
        ({"levels": 3}, {"img2img": True, "mask": True}, "passes"),
        ({"levels": 3, "region": "inside"}, {"img2img": True}, "passes"),
        ({"levels": 3, "passes": "hires"}, {}, "region"),
        (
            {"inject": 0, "levels": 3},
            {"hires": True},
            "detail direction first_level last_level layout levels normalisation region structure",
        ),
    ],
)
def test_only_what_has_a_say_is_shown(settings, job, idle):
    assert (
        sorted(cost.idle(NoiseOrderConfig(**{"enabled": True, "inject": 0.05, **settings}), cost.Job(**job)))
        == idle.split()
    )


def test_what_is_not_told_in_an_infotext_is_not_shown_either():
    """The other way round, a middle weight at two levels is told and has no say."""
    for settings in ({}, {"levels": 3}, {"inject": 0}, {"erase": 1}, {"levels": 3, "direction": "look-ahead"}):
        config = NoiseOrderConfig(**{"enabled": True, "inject": 0.05, **settings})
        parameters, by_job = write(config), {"audition", "passes", "region"}
        silent = {field.name for field in FIELDS if field.infotext not in parameters} - {
            "enabled",
            "chain",
            *by_job,
            *COMPARE,
        }
        assert silent == cost.idle(config, cost.Job()) - by_job


def test_numbers_stand_by_themselves_to_be_translated():
    assert words("+2 of 4.5 <b> steps") == "<p>+<span>2</span> of <span>4.5</span> &lt;b&gt; steps</p>"
    assert words("SD15 x0 1e3") == "<p>SD15 x0 1e3</p>"


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_settings_of_the_controls(name):
    preset = PRESETS[name]
    assert preset.active
    assert NoiseOrderConfig(True, *(getattr(preset, field.name) for field in FIELDS[1:])) == preset


def test_the_first_sight_speaks_of_images_and_not_of_formulas():
    for field in FIELDS:
        assert not re.search(r"draws|√|tangent|δ|modulat|picture", field.help), field.help
        assert len(field.help) <= 120, field.help
        assert not field.help.endswith(".")
    assert not re.search(r"draws|√|tangent|δ|modulat|picture", accordion.ABOUT)


def test_the_rest_is_behind_it_word_by_word():
    """One whole piece of text for each control, which a WebUI can translate."""
    texts = dict(re.findall(r"<dd data-name=(\w+)[^>]*>([^<]*)</dd>", accordion.details()))
    more = {field.name: field.more for field in FIELDS if field.more}
    assert texts == {"preset": accordion.PRESET, "beside": accordion.BESIDE, **more}
    assert {field.name for field in FIELDS} - texts.keys() == {"enabled", *COMPARE}

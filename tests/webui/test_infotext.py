from __future__ import annotations

import json
import re
import types

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_noiseorder.chain import Link, read_chain, write_chain
from lib_noiseorder.config import (
    BY_NAME,
    FIELDS,
    NoiseOrderConfig,
)
from lib_noiseorder.names import (
    MULTI_STEP,
)
from lib_noiseorder.webui import infotext
from lib_noiseorder.webui.cost import injection

# How the hosts read an infotext's last line (A1111 and Forge alike).
PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
NEO = re.compile(r'\s*([\w\s\-\/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


corners = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.51, 1), st.floats(0.51, 1))
links = st.builds(Link, st.floats(1.01, 64), st.integers(0, 900), st.none() | corners)


def strategy(field):
    if field.name == "enabled":
        return st.just(True)
    if isinstance(field.default, bool):
        return st.booleans()
    if field.choices:
        return st.sampled_from(field.choices)
    if field.name == "chain":
        return st.lists(links, max_size=3).map(write_chain)
    if isinstance(field.default, int):
        return st.integers(field.minimum, field.maximum)
    return st.floats(field.minimum, field.maximum)


def can_audition(c):
    variant = read_chain(c["chain"])[-1].variant if c["chain"] else c["variant"]
    return c["audition"] > 1 and (c["erase"] > 1 or c["chain"]) and variant + c["audition"] <= 10_000


configs = st.fixed_dictionaries({field.name: strategy(field) for field in FIELDS}).filter(
    lambda c: c["layout"] + c["detail"] > 0 and (c["audition"] == 0 or can_audition(c))
)


def paste(text, how=PARAM):
    """What pasting puts into the controls; None leaves one alone."""
    params = {key.strip(): value.strip() for key, value in how.findall(text.rpartition("\n")[2])}
    infotext.complete_params(text, params)
    return {field.name: infotext.reader(field)(params) for field in FIELDS}


@given(configs)
def test_what_is_written_makes_the_same_image(settings):
    config = NoiseOrderConfig(**settings)
    text = ", ".join(f"{key}: {value}" for key, value in infotext.write(config).items())
    values = paste(f"Steps: 20, {text}, Version: v1")
    assert values["enabled"] is config.active
    if not config.active:
        return
    restored = NoiseOrderConfig(**values)
    # Settings that had no say may differ; what is done may not.
    assert infotext.write(restored) == infotext.write(config)
    assert injection(restored, 1, 7.0, True) == injection(config, 1, 7.0, True)
    assert restored.comparisons == config.comparisons
    assert restored.links == config.links
    if config.inject:
        assert (restored.erase, restored.inject, restored.direction, restored.normalisation) == (
            config.erase,
            config.inject,
            config.direction,
            config.normalisation,
        )
    if config.inject and config.levels > 1:
        assert restored.last_level == config.last_level
        assert config.direction in MULTI_STEP or restored.weights == config.weights


def test_every_key_and_value_survives_the_hosts_format():
    config = NoiseOrderConfig(
        True, 2.5, -0.07, "denoised", 3, 1.0, 0.5, 0.5, 1.5, 0.25, "as printed", 7, "both", "inside", True, True, True
    ).replace(chain="1.2 v7; 64 v2 @ 0.5 0.1 0.95 0.6")
    parameters = infotext.write(config)
    text = "Steps: 20, " + ", ".join(f"{key}: {value}" for key, value in parameters.items())
    assert dict(PARAM.findall(text)) == {"Steps": "20", **parameters}
    assert NoiseOrderConfig(**paste(text)) == config
    assert set(parameters) == {field.infotext for field in FIELDS if field.name != "audition"}


def test_an_audition_is_not_paid_again():
    """What came of it is the variant; pasting makes that image."""
    parameters = infotext.write(NoiseOrderConfig(True, variant=5, audition=4))
    assert parameters["Noise Order variant"] == "5"
    assert paste(", ".join(f"{key}: {value}" for key, value in parameters.items()))["audition"] == 0


def test_a_value_for_each_image_wherever_the_host_begins_to_count():
    """Most count within the batch and hand over its seeds; ersatzForge, and params.txt, count all images."""
    variants = infotext.PerImage({0: "3", 1: "8", 2: None, 3: "5"})
    assert (str(variants), json.dumps([variants])) == ("3, 8, 5", '["3, 8, 5"]')
    for iteration, values in enumerate((["3", "8"], [None, "5"], [None, None])):
        p = types.SimpleNamespace(all_seeds=[1, 2, 3, 4], batch_size=2, iteration=iteration)
        seeds = p.all_seeds[2 * iteration : 2 * iteration + 2]
        assert [variants(p=p, index=k, all_seeds=seeds, all_prompts=[]) for k in range(2)] == values
        assert [variants(p=p, index=k, all_seeds=p.all_seeds) for k in range(4)] == ["3", "8", None, "5"]
        assert variants(p=p, index=1, all_seeds=p.all_seeds, use_main_prompt=True) == "3", "a grid's"
    p = types.SimpleNamespace(all_seeds=[1, 2], batch_size=2, iteration=0)
    assert [variants(p=p, index=k, all_seeds=p.all_seeds) for k in (0, 1, None)] == ["3", "8", "3"]


def test_what_all_images_share_is_one_value_and_of_later_images_nothing_is_said():
    images = {0: {"a": "1", "b": "x"}, 1: {"a": "1", "b": "y", "c": "z"}, 2: {"a": "2"}}
    assert infotext.merge(images, 0) == {"a": "1", "b": "x"}
    merged = infotext.merge(images, 1)
    assert list(merged) == ["a", "b", "c"]
    assert not callable(merged["a"])
    assert [merged[key].values for key in "bc"] == [{0: "x", 1: "y"}, {0: None, 1: "z"}]
    merged = infotext.merge(images, 2)
    assert [merged[key].values for key in "abc"] == [
        {0: "1", 1: "1", 2: "2"},
        {0: "x", 1: "y", 2: None},
        {0: None, 1: "z", 2: None},
    ]
    assert infotext.merge({}, 0) == {}
    assert infotext.merge({3: {"a": "1"}}, 2) == {}


def test_an_image_made_without_us_switches_us_off_and_touches_nothing_else():
    assert paste("Steps: 20, Seed: 1") == {"enabled": False, **{field.name: None for field in FIELDS[1:]}}


def test_an_image_made_without_us_can_be_told_to_leave_us_alone():
    enabled = infotext.reader(FIELDS[0], switch_off=lambda: False)
    assert enabled({"Steps": "20"}) is None
    assert enabled({infotext.MARKER: "1"}) is True


def test_an_image_where_we_failed_is_one_made_without_us():
    assert paste(f"Steps: 20, {infotext.ERROR}: no")["enabled"] is False


def test_settings_that_had_no_say_are_read_as_their_defaults():
    values = paste("Noise Order: 1, Noise Order erase: 2, Noise Order inject: 0")
    assert values["erase"] == 2
    assert values["inject"] == 0
    assert values["levels"] == 1


@pytest.fixture
def read_messages(monkeypatch, capsys):
    """What was said on the page and in the console, both the same."""
    warnings = []
    monkeypatch.setattr(gr, "Warning", warnings.append)

    def read():
        lines = capsys.readouterr().out.splitlines()
        assert [line.replace("[Noise Order] ", "Noise Order: ").replace("<", "‹") for line in lines] == warnings
        return [warnings.pop(0) for _ in lines]

    return read


def test_what_is_not_understood_is_said_and_the_default_taken(read_messages):
    values = paste("Noise Order: 1, Noise Order erase: many, Noise Order inject: 1e9, Noise Order direction: up")
    assert (values["erase"], values["inject"], values["direction"]) == (4, 0, "guidance")
    assert values["enabled"] is True
    erase, inject, direction = read_messages()
    assert "Noise Order erase: 'many' was not understood, it must be a number from 1 to 64" in erase
    assert "Erase is set to its default, 4" in erase
    assert "'1e9'" in inject
    assert 'one of "guidance", "look-ahead"' in direction
    assert "set to its default, guidance" in direction


@pytest.mark.parametrize("field", FIELDS[1:], ids=lambda field: field.name)
@pytest.mark.parametrize("text", ["", "nan", "-1e999", "9" * 400, "<img src=x>", '"', "None", "1 2", "\ud800"])
def test_nothing_but_an_allowed_value_is_read(field, text, read_messages):
    if (field.name, text) == ("chain", ""):
        return  # no chain is one
    value = infotext.reader(field)({infotext.MARKER: "1", field.infotext: text})
    assert (value, type(value)) == (field.default, type(field.default))
    (message,) = read_messages()
    assert field.infotext in message
    assert "<" not in message
    assert message.encode()


@pytest.mark.parametrize("how", [PARAM, NEO], ids=["A1111 and Forge", "Neo"])
def test_a_decimal_comma_is_read_as_it_was_meant(how, read_messages):
    text = (
        "a prompt with Noise Order erase: 7,5\nSteps: 20, Noise Order: 1, Noise Order erase: 2,5, "
        "Noise Order inject: -0,08, Noise Order levels: 3, Noise Order last level: 0,5"
    )
    values = paste(text, how)
    assert (values["erase"], values["inject"], values["levels"], values["last_level"]) == (2.5, -0.08, 3, 0.5)
    assert infotext.reader(BY_NAME["inject"])({infotext.MARKER: "1", "Noise Order inject": "0,08"}) == 0.08
    assert read_messages() == []
    # What a prompt says is no setting.
    assert paste("Noise Order erase: 2,9, x\nNoise Order: 1, Noise Order erase: 2", how)["erase"] == 2
    assert paste("Noise Order: 1, Noise Order levels: 2,5", how)["levels"] == 1
    assert "'2.5'" in read_messages()[0]


@pytest.mark.parametrize("version", ["2", "1.1", "", "x", "<img src=x>"])
@pytest.mark.parametrize("switch_off", [True, False])
def test_an_image_of_another_algorithm_is_not_taken_for_one_of_this(version, switch_off, read_messages):
    params = {"Steps": "20", infotext.MARKER: version, "Noise Order erase": "9", "Noise Order tilt": "3"}
    infotext.complete_params("", params)
    values = {field.name: infotext.reader(field, lambda: switch_off)(params) for field in FIELDS}
    assert values == {"enabled": False, **{field.name: None for field in FIELDS[1:]}}
    (message,) = read_messages()
    assert f"version '{version}' of the algorithm".replace("<", "‹") in message
    assert "Noise Order stays off" in message


def test_a_setting_of_a_later_version_is_named(read_messages):
    values = paste("Steps: 20, Noise Order: 1, Noise Order tilt: 3, Noise Order compare: erased, Noise Orders: 3")
    assert values["enabled"] is True
    (message,) = read_messages()
    assert message.startswith("Noise Order: Noise Order tilt: '3' is a setting that this version does not have")


def test_nothing_is_said_where_all_was_understood(read_messages):
    config = NoiseOrderConfig(True, 2.5, -0.07, "denoised", 3, region="inside", passes="both", compare_erased=True)
    paste(", ".join(f"{key}: {value}" for key, value in {**infotext.write(config), infotext.INNER: "True"}.items()))
    paste("Steps: 20, Seed: 1")
    paste("Steps: 20, Noise Order error: no")
    assert read_messages() == []


def test_types_are_those_of_the_controls():
    values = paste("Noise Order: 1, Noise Order erase: 4, Noise Order levels: 2")
    assert [type(values[field.name]) for field in FIELDS] == [type(field.default) for field in FIELDS]


def test_clear_takes_only_ours():
    params = {"Steps": 4, **infotext.write(NoiseOrderConfig(True, inject=0.05)), infotext.ERROR: "x"}
    infotext.clear(params)
    assert params == {"Steps": 4}

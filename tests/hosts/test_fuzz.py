"""Random and hostile settings by every way they come: nothing reaches the host, and nothing is half applied.

Seeded, so that a failure comes again; NOISEORDER_FUZZ=21000 makes so many generations in place of 3500.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import types

import gradio as gr
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_noiseorder.config import BY_NAME, FIELDS, OFF, NoiseOrderConfig, SettingError, parse
from lib_noiseorder.presets import PRESETS, follow
from lib_noiseorder.webui import cost, infotext, xyz
from lib_noiseorder.webui.curve import curve
from lib_noiseorder.webui.userpresets import Presets

GENERATIONS = int(os.environ.get("NOISEORDER_FUZZ", "3500"))
PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
DEEP: list = []
DEEP.append(DEEP)
HOSTILE = (
    *(None, True, False, 0, 1, -1, 2, 3.0, 2.5, 0.0, -0.0, 5e-324, 1e308, -1e308, 1e-12, 1.0000001, 64.0000001),
    *(math.nan, math.inf, -math.inf, 2**63, -(2**63), 10**400, -(10**5000), 1 + 0j),
    *("", "4", "0.05", "nan", "true", "True", "up", "GUIDANCE", "guidance ", "\x00", "\ud800", "x" * 10_000, "🌲"),
    *(
        "<img src=x>",
        "![p](x)",
        "%s{0}",
        "__import__('os')",
        "../../etc/passwd",
        b"4",
        (),
        [],
        {},
        [4],
        {"erase": 4},
        DEEP,
    ),
    *(DEEP, object(), NoiseOrderConfig, torch.ones(2), torch.tensor(math.nan), float, range(3)),
)


def good(field, rng):
    """An allowed value, often one of the ends."""
    if isinstance(field.default, bool):
        return rng.random() < (0.7 if field.name == "enabled" else 0.2)
    if field.choices:
        return rng.choice(field.choices)
    if field.name == "chain":
        return rng.choice(("", "", "2", "1.5 v3", "1.2 v7; 64 v2 @ 0.5 0.1 0.95 0.6", [{"n": 2, "variant": 9_990}]))
    if rng.random() < 0.3:
        return rng.choice((field.minimum, field.maximum, field.default))
    if isinstance(field.default, int):
        return rng.randint(field.minimum, field.maximum)
    return rng.uniform(field.minimum, field.maximum)


def beside(field, rng):
    """A number close to what is allowed, or any other value."""
    if field.maximum and rng.random() < 0.4:
        end = rng.choice((field.minimum, field.maximum))
        return rng.choice((math.nextafter(end, math.inf), math.nextafter(end, -math.inf), end + 1, end - 1, -end, end))
    return rng.choice(HOSTILE)


LINK = re.compile(r"(\d+(?:\.\d*)?)(?:\s*v(\d+))?(?:\s*@((?:\s+[01](?:\.\d+)?){4}))?", re.ASCII)


def links_of(value):
    """Of each link its n, variant and box, worked out apart from the code; None for what is no chain."""
    if isinstance(value, (list, tuple)):
        known = all(isinstance(each, dict) and set(each) <= {"n", "variant"} and "n" in each for each in value)
        return [(each["n"], each.get("variant", 0), None) for each in value] if known else None
    if not isinstance(value, str):
        return None
    found = [LINK.fullmatch(part) for part in (each.strip() for each in re.split("[;\n]", value)) if part]
    if not all(found):
        return None
    boxes = [[float(side) for side in each[3].split()] if each[3] else None for each in found]
    return [(float(each[1]), int(each[2] or 0), box) for each, box in zip(found, boxes, strict=True)]


def allowed_chain(value):
    links = links_of(value)
    return links is not None and all(
        1 < n <= 64 and variant < 10_000 and (box is None or (box[0] < box[2] and box[1] < box[3]))
        for n, variant, box in links
    )


def allowed(field, value):
    """Whether the value is one the documentation allows, worked out apart from the code."""
    if isinstance(field.default, bool):
        return value is True or value is False
    if field.choices:
        return type(value) is str and value in field.choices
    if field.name == "chain":
        return allowed_chain(value)
    if type(value) not in (int, float) or not -1e6 < value < 1e6:
        return False
    whole = isinstance(field.default, float) or value in range(10_000)
    return field.minimum <= value <= field.maximum and whole


def draw_settings(rng):
    """Settings by name: most are good, so that some are good altogether."""
    share = rng.choice((0.0, 0.0, 0.05, 0.3))
    names = rng.sample([field.name for field in FIELDS], rng.randint(0, len(FIELDS)))
    return {name: (beside if rng.random() < share else good)(BY_NAME[name], rng) for name in names}


def positional(values):
    """As the page and a list in the API hand them over; an object in the first place would be all the settings."""
    if isinstance(values.get("enabled"), dict):
        values = {**values, "enabled": None}
    return [values.get(field.name, True if field.name == "enabled" else field.default) for field in FIELDS]


def expect(values):
    """OFF, the settings, or the names of which one must be told."""
    if values.get("enabled", True) is False:
        return OFF
    wrong = [f"({name})" for name, value in values.items() if not allowed(BY_NAME[name], value)]
    if wrong:
        return wrong
    settings = {**{field.name: field.default for field in FIELDS}, **values, "enabled": True}
    used = ("layout", "detail") if settings["levels"] == 2 else ("layout", "structure", "detail")
    if not any(settings[name] for name in used):
        return ["layout"]
    count = settings["audition"]
    links = links_of(settings["chain"])
    variant = links[-1][1] if links else settings["variant"]
    if count and (count == 1 or (settings["erase"] == 1 and not links) or variant + count > 10_000):
        return ["(audition)"]
    return NoiseOrderConfig(**settings)


def attempt(read):
    """The settings, or the sentence that refuses them; anything else that is raised fails the test."""
    try:
        return read()
    except SettingError as refusal:
        message = str(refusal)
    assert message.encode()
    assert "\n" not in message
    assert len(message) < 1000
    return message


def agree(result, expected):
    if isinstance(expected, list):
        assert isinstance(result, str), (result, expected)
        assert any(name in result for name in expected), (result, expected)
    else:
        assert result == expected


def cost_line(*values):
    """As the accordion makes it."""
    try:
        config, _ = follow(NoiseOrderConfig(True, *values), "distilled")
    except ValueError as error:
        return f"⚠ {error}"
    return cost.line(config, cost.Job(hires=True), cost.Rates())


def test_ten_thousand_settings_of_page_and_api():
    rng = random.Random(1)
    applied = 0
    for _ in range(5_000):
        values = draw_settings(rng)
        expected = expect(values)
        agree(attempt(lambda values=values: parse((values,))), expected)
        arguments = positional(values)
        agree(attempt(lambda arguments=arguments: parse(arguments)), expected)
        # What the page tells of the same values, at each of their changes.
        line, drawing = cost_line(*arguments[1:]), curve(*arguments[1:])
        refused = isinstance(expect({**values, "enabled": True}), list)
        assert line.startswith("⚠") is refused is (drawing == "")
        applied += isinstance(expected, NoiseOrderConfig) and expected.active
    assert 1_000 < applied < 4_500


def test_a_thousand_unknown_names():
    rng = random.Random(2)
    for _ in range(1_000):
        key = rng.choice((*HOSTILE[-14:-9], "Erase", "erase ", "x" * 5000, 3, None, "\ud800", "__class__", "self"))
        if isinstance(key, (list, dict)):
            continue
        assert "Unknown setting" in attempt(lambda key=key: parse(({**draw_settings(rng), key: rng.choice(HOSTILE)},)))


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(gr, "Warning", lambda message: message.encode())


def test_five_thousand_infotexts(quiet):
    rng = random.Random(3)
    noise = (
        "",
        "4",
        "0,05",
        "-0,5",
        "nan",
        "1e999",
        "9" * 500,
        "up",
        '"',
        '"a',
        "a: b",
        "<img src=x>",
        "🌲",
        "\\",
        "None",
    )
    for _ in range(5_000):
        values = draw_settings(rng)
        entries = {
            BY_NAME[name].infotext: rng.choice((infotext.text(v), rng.choice(noise)))
            for name, v in values.items()
            if allowed(BY_NAME[name], v)
        }
        entries[infotext.MARKER] = rng.choice(("1", "1", "1", "2", "", "x"))
        lines = [f"{key}: {value}" for key, value in entries.items()]
        rng.shuffle(lines)
        text = f"a prompt\nSteps: 4, {', '.join(lines)}"
        if rng.random() < 0.2:
            text = "".join(character for character in text if rng.random() < 0.95)
        params = dict(PARAM.findall(text.rpartition("\n")[2]))
        infotext.complete_params(text, params)
        read = {field.name: infotext.reader(field)(params) for field in FIELDS}
        marker = params.get(infotext.MARKER)
        if marker != "1":
            assert read == {"enabled": False, **{field.name: None for field in FIELDS[1:]}}
            continue
        assert all(allowed(BY_NAME[name], value) for name, value in read.items())
        agree(attempt(lambda read=read: NoiseOrderConfig(**read)), expect(read))


@settings(max_examples=300, deadline=None)
@given(st.text(), st.dictionaries(st.sampled_from(infotext.KEYS), st.text()))
def test_any_text_can_be_pasted(text, params):
    params = {infotext.MARKER: "1", **params}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gr, "Warning", lambda message: None)
        infotext.complete_params(text, params)
        for field in FIELDS:
            value = infotext.reader(field)(params)
            assert value is None or allowed(field, value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=700, deadline=None)
@given(st.dictionaries(st.sampled_from([*BY_NAME, "other"]), json_values, max_size=4) | json_values)
@pytest.mark.slow
def test_any_json_can_be_sent(value):
    result = attempt(lambda: parse((value,)))
    if isinstance(value, dict):
        agree(result, ["Unknown setting"] if set(value) - set(BY_NAME) else expect(value))


class AxisOption:
    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label, self.type, self.apply, self.confirm = label, type, apply, confirm


def test_four_thousand_texts_of_the_xyz_plot():
    """What the user types is split and made a number by the plot itself; what it cannot read it refuses itself."""
    rng = random.Random(4)
    cell = {}
    options = xyz.axes(AxisOption, lambda: PRESETS, lambda p, values: cell.update(values))
    texts = (
        "",
        "4",
        "0.05",
        "nan",
        "inf",
        "1e400",
        "-1e400",
        "9" * 400,
        "1_0",
        "up",
        "True",
        "false",
        " noise ",
        "Default",
    )
    confirmed = 0
    for _ in range(4_000):
        option, field = rng.choice(list(zip(options, (None, *FIELDS), strict=True)))
        text = rng.choice((*texts, str(good(field, rng)) if field else rng.choice(list(PRESETS))))
        try:
            values = [option.type(text)]
        except (ValueError, OverflowError):
            continue
        p, message = types.SimpleNamespace(), ""
        cell.clear()
        try:
            option.confirm(p, values)
        except RuntimeError as refusal:
            message = str(refusal)
        if message:
            assert option.label in message
            with pytest.raises(SettingError):
                option.apply(p, values[0], values)
            assert cell == {}
        else:
            option.apply(p, values[0], values)
            assert cell
            assert all(allowed(BY_NAME[name], value) for name, value in cell.items())
            confirmed += 1
    assert confirmed > 500


@pytest.mark.slow
def test_three_thousand_presets_in_files_written_by_hand(tmp_path):
    rng = random.Random(5)
    presets = Presets(tmp_path / "presets.json")
    usable = 0
    for _ in range(30):
        entries = {}
        for k in range(100):
            values = {name: value for name, value in draw_settings(rng).items() if value is not DEEP}
            entry = values if rng.random() < 0.9 else rng.choice((None, 3, "x", [], [values], {"other": 1}))
            try:
                json.dumps(entry)
            except (TypeError, ValueError):
                entry = None
            entries[f"{k} {rng.choice(('', '🌲', '![p](x)', 'x' * 300))}"] = entry
        text = json.dumps({"version": 1, "presets": entries}, ensure_ascii=rng.random() < 0.5)
        presets.path.write_text(text, rng.choice(("utf-8", "utf-8-sig")), "surrogatepass")
        names = presets.usable()
        for name, entry in entries.items():
            expected = ["must be an object", "Unknown"]
            if isinstance(entry, dict) and set(entry) <= set(BY_NAME):
                expected = expect({**entry, "enabled": True})
            agree(attempt(lambda name=name: presets.get(name)), expected)
            assert (name in names) is not isinstance(expected, list)
        presets.save("Mine", NoiseOrderConfig(True, inject=0.05))
        assert list(presets.usable()) == [*names, "Mine"]
        usable += len(names)
    assert usable > 500


@pytest.mark.slow
def test_generations(host):
    """Through the whole of a generation, also with hires fix and around an image."""
    rng = random.Random(6)
    counts = {"applied": 0, "refused": 0, "off": 0}
    for number in range(GENERATIONS // 7):
        values = draw_settings(rng)
        hires = rng.random() < 0.2
        host.script.is_img2img = not hires and rng.random() < 0.3
        expected = expect(values)
        if isinstance(expected, NoiseOrderConfig) and expected.active:
            # A few draws and levels are like many, and faster.
            values = {**values, "erase": min(values.get("erase", 4), 6.0), "levels": min(values.get("levels", 1), 3)}
            expected = expect(values)
        by_xyz = {} if rng.random() < 0.8 else {"enabled": True, "inject": rng.uniform(-1, 1)}
        if by_xyz:
            expected = expect({**values, **by_xyz})
        arguments = rng.choice(([values], positional(values)))
        count = rng.choice((1, 1, 2))
        mask = torch.tensor([[float(rng.random() < 0.5) for _ in range(8)] for _ in range(8)])
        more = {"nmask": mask} if host.script.is_img2img else {}
        result = host.txt2img(
            *arguments,
            hires=hires,
            before_process=lambda p, by_xyz=by_xyz: host.loaded.override(p, by_xyz),
            seeds=[rng.choice((0, 1, 2**31, 2**32 - 1, number)) for _ in range(count)],
            prompts=["a cat"] * count,
            negative=[""] * count,
            cfg_scale=rng.choice((1.0, 5.0)),
            **more,
        )
        assert result.errors == []
        pairs = [(result.noise, result.untouched)]
        if hires:
            pairs.append((result.hires_noise, result.hires_untouched))
        assert all(torch.isfinite(noise).all() for noise, _ in pairs)
        changed = [not torch.equal(noise, untouched) for noise, untouched in pairs]
        error = result.infotext.get(infotext.ERROR)
        if isinstance(expected, list):
            agree(error, expected)
        elif error is not None:
            # Right in itself, but not in this tab.
            assert re.match('Pass is "hires", but hires fix is off', error)
        if error is not None:
            assert list(result.infotext) == [infotext.ERROR]
            assert result.comments
            assert not any(changed)
            counts["refused"] += 1
        elif infotext.MARKER in result.infotext:
            assert expected.active
            assert any(changed)
            counts["applied"] += 1
        else:
            assert not expected.active
            assert result.infotext == {}
            assert not any(changed)
            counts["off"] += 1
    assert min(counts.values()) > GENERATIONS // 7 // 20, counts
    print(type(host).__name__, counts)

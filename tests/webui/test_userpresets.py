"""The person's own presets: what is saved comes back, and nothing is ever lost."""

from __future__ import annotations

import json
import os
import threading

import pytest

from lib_noiseorder.config import COMPARE, FIELDS, NoiseOrderConfig, SettingError
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui.userpresets import Presets

MINE = NoiseOrderConfig(True, erase=2.5, inject=-0.1, direction="look-ahead", levels=3, variant=9)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "noiseorder" / "presets.json"


@pytest.fixture
def presets(path):
    return Presets(path)


def written(path):
    return json.loads(path.read_text(encoding="utf-8"))


def put(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")


def test_looking_makes_no_file(presets, path):
    assert presets.names() == list(PRESETS)
    assert presets.usable() == PRESETS
    assert not path.parent.exists()


def test_saved_renamed_deleted_and_read_again(presets, path):
    assert presets.save("  Märchen 🌲 ", MINE) == "Märchen 🌲"
    again = Presets(path)
    assert again.names() == [*PRESETS, "Märchen 🌲"]
    assert again.get("Märchen 🌲") == MINE
    again.save("Other", MINE.replace(variant=1))
    assert again.rename("Märchen 🌲", "Wald") == "Wald"
    assert presets.names() == [*PRESETS, "Wald", "Other"]
    presets.delete("Other")
    assert presets.usable() == {**PRESETS, "Wald": MINE}
    assert [file.name for file in path.parent.iterdir()] == ["presets.json"]


def test_the_file_holds_api_keys(presets, path):
    presets.save("Mine", MINE)
    told = written(path)
    assert told["version"] == 1
    assert list(told["presets"]["Mine"]) == [field.name for field in FIELDS[1:] if field.name not in COMPARE]


def test_a_preset_of_an_earlier_version_has_the_defaults_of_newer_settings(presets, path):
    put(path, {"version": 1, "presets": {"Old": {"erase": 2}}})
    assert presets.get("Old") == NoiseOrderConfig(True, erase=2.0)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "''"),
        ("  ", "1 to 60"),
        (None, "''"),
        ("x" * 61, "61 characters"),
        ("two\nlines", "two\\nlines"),
        ("bell\x07", "control"),
        ("DEFAULT", "built-in"),
        ("auto", "built-in"),
        ("paper, as PRINTED ", "built-in"),
    ],
)
def test_a_name_that_cannot_be_is_told(presets, path, name, told):
    presets.save("Mine", MINE)
    before = path.read_bytes()
    for act in (lambda: presets.save(name, MINE), lambda: presets.rename("Mine", name)):
        with pytest.raises(SettingError, match="Preset name") as error:
            act()
        assert told in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Default", '"Default" is built in'),
        ("Auto", '"Auto" is built in'),
        ("Nobody", "'Nobody' is none of your own presets"),
        (None, "None is none of your own presets"),
        ([], "[] is none of your own presets"),
        (["Mine"], "['Mine'] is none of your own presets"),
        (["Default"], "['Default'] is none of your own presets"),
    ],
)
def test_only_own_presets_can_be_changed(presets, name, told):
    for own in ("there is none yet", "Mine", "Mine, Other"):
        before = presets.names()
        for act in (lambda: presets.delete(name), lambda: presets.rename(name, "New")):
            with pytest.raises(SettingError) as error:
                act()
            assert str(error.value) == f"{told}: choose one of your own ({own})"
        assert presets.names() == before
        presets.save("Mine" if own == "there is none yet" else "Other", MINE)


def test_a_name_that_is_taken_is_not_overwritten_by_renaming(presets):
    presets.save("Mine", MINE)
    presets.save("Other", MINE.replace(variant=1))
    with pytest.raises(SettingError, match='"Other" already'):
        presets.rename("Mine", "Other")
    assert presets.rename("Mine", "Mine") == "Mine"
    assert presets.get("Other").variant == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 2, "presets": {}}',
        '{"version": 1, "presets": []}',
        "[" * 100_000,
        "\udcff",
    ],
    ids=["empty", "cut", "list", "null", "no presets", "version 2", "presets is a list", "deep", "no utf-8"],
)
def test_a_damaged_file_is_set_aside(presets, path, capsys, text):
    for number in (1, 2):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert presets.names() == list(PRESETS)
        told = capsys.readouterr().out
        assert f"presets.damaged-{number}.json" in told
        assert told.count("\n") == 1
        aside = path.with_name(f"presets.damaged-{number}.json")
        assert aside.read_bytes() == text.encode("utf-8", "surrogateescape")
    presets.save("Mine", MINE)
    assert presets.get("Mine") == MINE
    assert aside.exists()


@pytest.mark.parametrize("broken", [{"strength": 1}, {"erase": 99}, {"direction": "up"}, 3, None])
def test_one_preset_that_cannot_be_used_is_explained_and_kept(presets, path, broken):
    put(path, {"version": 1, "presets": {"Bad": broken, "Good": {"erase": 2}}})
    assert presets.names() == [*PRESETS, "Bad", "Good"]
    assert list(presets.usable()) == [*PRESETS, "Good"]
    with pytest.raises(SettingError, match=r'"Bad" cannot be used\. .*presets\.json'):
        presets.get("Bad")
    presets.save("Mine", MINE)
    assert written(path)["presets"]["Bad"] == broken


def test_a_write_that_fails_leaves_the_file_as_it_was(presets, path, monkeypatch):
    presets.save("Mine", MINE)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        presets.save("Other", MINE)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["presets.json"]


def test_the_old_file_is_whole_until_the_new_one_is(presets, path):
    presets.save("Mine", MINE)
    with path.open("rb") as old:
        before = path.read_bytes()
        presets.save("Other", MINE)
        assert old.read() == before != path.read_bytes()


def test_a_file_that_cannot_be_read_is_not_overwritten(presets, path, capsys):
    path.mkdir(parents=True)
    assert presets.names() == list(PRESETS)
    assert "cannot be read" in capsys.readouterr().out
    with pytest.raises(OSError, match=r"presets\.json"):
        presets.save("Mine", MINE)
    assert path.is_dir()


def test_saving_from_two_tabs_at_once_loses_nothing(presets):
    threads = [threading.Thread(target=presets.save, args=(f"Mine {k}", MINE)) for k in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(presets.names()) == len(PRESETS) + 20

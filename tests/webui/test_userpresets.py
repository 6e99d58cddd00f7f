"""The user's own presets: what is saved comes back, and nothing is ever lost."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib_noiseorder.config import FIELDS, NO_PRESET, NoiseOrderConfig, SettingError
from lib_noiseorder.presets import PRESETS
from lib_noiseorder.webui import userpresets
from lib_noiseorder.webui.userpresets import Presets

ROOT = Path(__file__).parents[2]
MINE = NoiseOrderConfig(True, erase=2.5, inject=-0.1, direction="look-ahead", levels=3, variant=9)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "noiseorder" / "presets.json"


@pytest.fixture
def presets(path):
    return Presets(path)


def read_file(path):
    return json.loads(path.read_text(encoding="utf-8"))


def list_files(path):
    """What lies in the folder, but for the empty file that two WebUIs agree by."""
    return sorted(file.name for file in path.parent.iterdir() if file.name != "presets.json.lock")


def write_file(path, text):
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
    assert list_files(path) == ["presets.json"]


def test_the_file_holds_api_keys(presets, path):
    presets.save("Mine", MINE)
    data = read_file(path)
    assert data["version"] == 1
    assert list(data["presets"]["Mine"]) == [field.name for field in FIELDS[1:] if field.name not in NO_PRESET]


def test_a_preset_of_an_earlier_version_has_the_defaults_of_newer_settings(presets, path):
    write_file(path, {"version": 1, "presets": {"Old": {"erase": 2}}})
    assert presets.get("Old") == NoiseOrderConfig(True, erase=2.0)


@pytest.mark.parametrize(
    ("name", "message"),
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
def test_a_name_that_cannot_be_is_told(presets, path, name, message):
    presets.save("Mine", MINE)
    before = path.read_bytes()
    for act in (lambda: presets.save(name, MINE), lambda: presets.rename("Mine", name)):
        with pytest.raises(SettingError, match="Preset name") as error:
            act()
        assert message in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
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
def test_only_own_presets_can_be_changed(presets, name, message):
    for own in ("there is none yet", "Mine", "Mine, Other"):
        before = presets.names()
        for act in (lambda: presets.delete(name), lambda: presets.rename(name, "New")):
            with pytest.raises(SettingError) as error:
                act()
            assert str(error.value) == f"{message}: choose one of your own ({own})"
        assert presets.names() == before
        presets.save("Mine" if own == "there is none yet" else "Other", MINE)


def test_a_name_that_is_taken_is_not_overwritten_by_renaming(presets):
    presets.save("Mine", MINE)
    presets.save("Other", MINE.replace(variant=1))
    with pytest.raises(SettingError, match='"Other" already'):
        presets.rename("Mine", "Other")
    assert presets.rename("Mine", "Mine") == "Mine"
    assert presets.get("Other").variant == 1


def test_where_a_damaged_file_cannot_be_set_aside_the_reason_is_told(presets, path, monkeypatch):
    path.parent.mkdir(exist_ok=True)
    path.write_text("{")

    def fail(self, data):
        raise OSError("no space left")

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(OSError, match="no space left"):
        presets.whole()
    assert path.read_text() == "{"


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
        output = capsys.readouterr().out
        assert f"presets.damaged-{number}.json" in output
        assert output.count("\n") == 1
        backup = path.with_name(f"presets.damaged-{number}.json")
        assert backup.read_bytes() == text.encode("utf-8", "surrogateescape")
    presets.save("Mine", MINE)
    assert presets.get("Mine") == MINE
    assert backup.exists()


@pytest.mark.parametrize(
    "broken",
    [
        {"strength": 1},
        {"erase": 99},
        {"direction": "up"},
        {"direction": "\ud800"},
        {"\ud800": 1},
        {"erase": 10**400},
        {"levels": 10**350},
        {"erase": [[{}]]},
        3,
        None,
    ],
    ids=lambda broken: str(broken)[:20].encode("ascii", "replace").decode(),
)
def test_one_preset_that_cannot_be_used_is_explained_and_kept(presets, path, broken):
    write_file(path, {"version": 1, "presets": {"Bad": broken, "Good": {"erase": 2}}})
    assert presets.names() == [*PRESETS, "Bad", "Good"]
    assert list(presets.usable()) == [*PRESETS, "Good"]
    with pytest.raises(SettingError, match=r'"Bad" cannot be used\. .*presets\.json'):
        presets.get("Bad")
    presets.save("Mine", MINE)
    preset = read_file(path)["presets"]["Bad"]
    assert preset == broken or preset == {"erase": math.inf}
    assert list(presets.usable()) == [*PRESETS, "Good", "Mine"]


def test_a_number_that_python_does_not_read_takes_no_other_preset_with_it(presets, path):
    write_file(path, '{"version": 1, "presets": {"Bad": {"erase": %s}, "Good": {"erase": 2}}}' % ("9" * 5000))
    assert list(presets.usable()) == [*PRESETS, "Good"]
    with pytest.raises(SettingError, match="Erase"):
        presets.get("Bad")


def test_a_name_that_has_no_bytes_takes_no_other_preset_with_it(presets, path):
    write_file(path, '{"version": 1, "presets": {"half \\ud800": {"erase": 3}, "Good": {"erase": 2}}}')
    assert [name.encode() for name in presets.names()]
    presets.save("Mine", MINE)
    assert [*presets.usable()][len(PRESETS) :] == ["half \\ud800", "Good", "Mine"]
    assert presets.get("half \\ud800").erase == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-8"])
def test_a_file_saved_by_any_editor_is_read(presets, path, encoding, capsys):
    path.parent.mkdir()
    path.write_bytes('{"version": 1,\r\n "presets": {"Märchen": {"erase": 2}}}\r\n'.encode(encoding))
    assert presets.get("Märchen").erase == 2
    presets.save("Mine", MINE)
    assert presets.names() == [*PRESETS, "Märchen", "Mine"]
    assert list_files(path) == ["presets.json"]
    assert capsys.readouterr().out == ""


def test_a_write_that_fails_leaves_the_file_as_it_was(presets, path, monkeypatch):
    presets.save("Mine", MINE)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        presets.save("Other", MINE)
    assert path.read_bytes() == before
    assert list_files(path) == ["presets.json"]


def test_what_cannot_be_written_is_said_with_what_to_do(presets, path, monkeypatch):
    presets.save("Mine", MINE)
    before = path.read_bytes()
    for number, reason in ((errno.ENOSPC, "No space left"), (errno.EIO, "Input/output error")):

        def fail(*arguments, number=number):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", fail)
            for act in (lambda: presets.save("Other", MINE), lambda: presets.delete("Mine")):
                with pytest.raises(OSError, match=rf"presets\.json could not be written \({reason}.*then try again"):
                    act()
    assert path.read_bytes() == before
    assert list_files(path) == ["presets.json"]


def test_another_webui_that_is_writing_is_waited_for(presets, path, monkeypatch):
    presets.save("Other", MINE)
    with ThreadPoolExecutor() as threads:
        with Presets(path).alone():
            saving = threads.submit(presets.save, "Mine", MINE)
            time.sleep(0.2)
            assert not saving.done()
            monkeypatch.setattr(userpresets, "PATIENCE", 0.0)
            with pytest.raises(SettingError, match="Another WebUI is writing your presets for too long"):
                presets.delete("Other")
        assert saving.result() == "Mine"
    assert presets.get("Mine") == MINE
    presets.delete("Other")


def test_where_no_lock_can_be_had_the_file_is_written_all_the_same(presets, path):
    write_file(path.with_name("presets.json.lock"), "no database")
    presets.save("Mine", MINE)
    assert presets.get("Mine") == MINE


def refuse(number):
    def replace(self, target):
        raise OSError(number, os.strerror(number))

    return replace


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES])
def test_a_file_that_refuses_to_be_replaced_is_written_where_it_lies(presets, path, monkeypatch, number):
    presets.save("A name that makes the file longer", MINE)
    inode = path.stat().st_ino
    monkeypatch.setattr(Path, "replace", refuse(number))
    presets.delete("A name that makes the file longer")
    assert read_file(path) == {"version": 1, "presets": {}}
    presets.save("Mine", MINE)
    assert presets.get("Mine") == MINE
    path.write_bytes(b"{")
    assert presets.names() == list(PRESETS)
    assert list_files(path) == ["presets.damaged-1.json", "presets.json"]
    assert (path.stat().st_ino, read_file(path)) == (inode, {"version": 1, "presets": {}})


def test_a_disk_that_is_full_while_a_file_is_written_where_it_lies_leaves_it_as_it_was(presets, path, monkeypatch):
    presets.save("Mine", MINE)
    before = path.read_bytes()
    fsync, calls = os.fsync, []

    def fail(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", refuse(errno.EBUSY))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        presets.save("Other", MINE)
    assert (len(calls), path.read_bytes()) == (3, before)


def test_a_file_in_a_folder_that_is_closed_is_written(presets, path, monkeypatch):
    presets.save("Mine", MINE)
    open_file = Path.open

    def deny(self, mode="r", *arguments, **settings):
        if self != path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(self, mode, *arguments, **settings)

    monkeypatch.setattr(Path, "open", deny)
    presets.save("Other", MINE)
    assert presets.names() == [*PRESETS, "Mine", "Other"]


@pytest.mark.parametrize("exists", [True, False], ids=["there", "dangling"])
def test_a_link_stays_a_link_to_the_file_that_is_written(presets, path, tmp_path, exists):
    target = tmp_path / "elsewhere" / "mine.json"
    if exists:
        target.parent.mkdir()
        target.write_text('{"version": 1, "presets": {"Good": {"erase": 2}}}')
        target.chmod(0o664)
    path.parent.mkdir()
    path.symlink_to(target)
    presets.save("Mine", MINE)
    assert path.is_symlink()
    assert list(read_file(target)["presets"]) == (["Good", "Mine"] if exists else ["Mine"])
    assert not exists or target.stat().st_mode & 0o777 == 0o664
    target.write_text("damaged")
    assert presets.names() == list(PRESETS)
    assert path.is_symlink()
    assert (list_files(path), list_files(target)[0]) == (["presets.damaged-1.json", "presets.json"], "mine.json")
    assert read_file(target)["presets"] == {}


def test_a_second_name_of_the_file_tells_the_same(presets, path, tmp_path):
    presets.save("Mine", MINE)
    second = tmp_path / "second.json"
    os.link(path, second)
    presets.save("Other", MINE)
    assert second.read_bytes() == path.read_bytes()
    assert list(read_file(second)["presets"]) == ["Mine", "Other"]


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


SAVE = """
import sys
from pathlib import Path
from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.webui.userpresets import Presets

presets = Presets(Path(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
for k in range(25):
    presets.save(f"{sys.argv[2]} {k}", NoiseOrderConfig(True, variant=k))
"""


@pytest.mark.parametrize("how", ["replaced", "written where it lies"])
def test_saving_from_two_webuis_at_once_loses_nothing(presets, path, how):
    if how != "replaced":
        presets.save("Mine", MINE)
        os.link(path, path.with_name("second name"))
    command = [sys.executable, "-c", SAVE, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, name], cwd=ROOT, **pipes) for name in ("one", "two")]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    while any(process.poll() is None for process in processes):
        presets.names()  # as opening the list does meanwhile
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    own = presets.read()
    assert {f"{name} {k}" for name in ("one", "two") for k in range(25)} <= set(own)
    assert not [name for name in list_files(path) if "damaged" in name or "tmp" in name]


HOLD = """
import sys
from pathlib import Path
from lib_noiseorder.webui.userpresets import Presets

with Presets(Path(sys.argv[1])).alone():
    print(flush=True)
    sys.stdin.readline()
"""


def test_a_webui_that_was_ended_while_it_wrote_locks_nobody_out(presets, path, monkeypatch):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with monkeypatch.context() as patched:
            patched.setattr(userpresets, "PATIENCE", 0.1)
            with pytest.raises(SettingError, match="Another WebUI is writing"):
                presets.save("Mine", MINE)
        assert not path.exists()
        process.kill()
    presets.save("Mine", MINE)
    assert presets.get("Mine") == MINE

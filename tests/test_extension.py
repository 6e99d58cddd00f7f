"""The extension as a WebUI finds it on disk."""

from __future__ import annotations

import ast
import configparser
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS_IN_A_WEBUI = [
    *sorted((ROOT / "lib_noiseorder").glob("*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("core/*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("generation/*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("hosts/*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("webui/*.py")),
    *sorted((ROOT / "scripts").glob("*.py")),
]
THERE = {"torch", "gradio", "numpy", "PIL", "modules", "lib_noiseorder", *sys.stdlib_module_names}
THERE |= {"backend", "k_diffusion", "ldm_patched", "modules_forge"}  # of the hosts, imported by their adapters alone
THERE |= {"fastapi"}  # with which every WebUI serves its API


def test_install_does_nothing_and_quickly(tmp_path):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        # -I -S: what the file itself takes, not the environment it is run in.
        ran = subprocess.run(
            [sys.executable, "-I", "-S", ROOT / "install.py"], cwd=tmp_path, capture_output=True, check=True
        )
        times.append(time.perf_counter() - start)
        assert ran.stdout == ran.stderr == b""
    assert min(times) < 0.1
    assert not list(tmp_path.iterdir())
    assert ast.parse((ROOT / "install.py").read_text()).body == []


@pytest.mark.parametrize("path", RUNS_IN_A_WEBUI, ids=lambda path: str(path.relative_to(ROOT)))
def test_needs_nothing_a_webui_lacks(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        assert {name.partition(".")[0] for name in names} <= THERE


@pytest.mark.parametrize(
    "path", [*RUNS_IN_A_WEBUI, *sorted((ROOT / "lib_noiseorder" / "playground").glob("*.py"))], ids=str
)
def test_is_python_3_10(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_no_package_that_would_shadow_other_extensions():
    for folder in ("scripts", "tests", "modules", "javascript", "docs", "benchmarks"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_one_script_file():
    assert [path.name for path in (ROOT / "scripts").glob("*.py")] == ["noiseorder.py"]
    assert len((ROOT / "scripts" / "noiseorder.py").read_text().splitlines()) < 150


def test_metadata_can_be_read():
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "metadata.ini")
    assert metadata["Extension"]["Name"] == "sd-webui-noiseorder"


def test_no_network_at_import(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lib_noiseorder"]:
        monkeypatch.delitem(sys.modules, name)


def test_index_entry_has_what_the_index_asks_for():
    entry = json.loads((ROOT / "docs" / "index-entry.json").read_text())
    assert set(entry) == {"name", "url", "description", "tags"}
    assert re.fullmatch(r"https://[^ ]+/sd-webui-noiseorder\.git", entry["url"])
    assert set(entry["tags"]) <= {"script", "manipulations", "science"}

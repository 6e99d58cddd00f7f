"""The extension as a WebUI finds it on disk."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    *sorted((ROOT / "lib_noiseorder").glob("*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("core/*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("generation/*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("hosts/*.py")),
    *sorted((ROOT / "lib_noiseorder").glob("webui/*.py")),
    *sorted((ROOT / "scripts").glob("*.py")),
]
PACKAGES = {"torch", "gradio", "numpy", "PIL", "modules", "lib_noiseorder", *sys.stdlib_module_names}
PACKAGES |= {"backend", "k_diffusion", "ldm_patched", "modules_forge"}  # of the hosts, imported by their adapters alone
PACKAGES |= {"fastapi"}  # with which every WebUI serves its API


def test_install_does_nothing(tmp_path):
    command = [sys.executable, "-I", "-S", ROOT / "install.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert run.stdout == run.stderr == b""
    assert not list(tmp_path.iterdir())
    assert ast.parse((ROOT / "install.py").read_text()).body == []


def test_the_makefile_names_tests_that_are_there():
    told = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = set(re.findall(r"tests/\w+/\w+\.py", told))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_needs_nothing_a_webui_lacks(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        assert {name.partition(".")[0] for name in names} <= PACKAGES


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "lib_noiseorder" / "playground").glob("*.py"))], ids=str)
def test_is_python_3_10(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_no_package_that_would_shadow_other_extensions():
    for folder in ("scripts", "tests", "modules", "javascript", "docs", "benchmarks"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_one_script_file():
    assert [path.name for path in (ROOT / "scripts").glob("*.py")] == ["noiseorder.py"]
    assert len((ROOT / "scripts" / "noiseorder.py").read_text().splitlines()) < 150


def test_the_list_of_unnoticeable_mutants_holds_only_what_the_code_has(tmp_path):
    """Else `make mutants` refuses to begin."""
    command = [sys.executable, str(ROOT / "benchmarks" / "mutants.py"), "--list", "--share", "0"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_metadata_can_be_read():
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "metadata.ini")
    assert metadata["Extension"]["Name"] == "sd-webui-noiseorder"


IMPORT = """
import sys

import fastapi, gradio, numpy, PIL, pytest, torch

import fakes

def refuse(event, arguments):
    kinds = ("socket.", "urllib.", "http.", "subprocess.", "os.system", "os.exec", "os.fork", "webbrowser.")
    if event.startswith(kinds):
        raise AssertionError(event)

sys.addaudithook(refuse)
modules = set()
with pytest.MonkeyPatch.context() as monkeypatch:
    for host in (fakes.A1111, fakes.Forge, fakes.ReForge, fakes.Neo, fakes.Ersatz):
        host(monkeypatch)
        modules |= {name for name in sys.modules if name.partition(".")[0] == "lib_noiseorder"}
print(*modules)

import os, socket, subprocess, urllib.request

for way in (
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: urllib.request.urlopen("http://127.0.0.1:9"),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
):
    try:
        way()
    except AssertionError as error:
        print(error)
"""


def test_no_network_at_import():
    """A fresh Python imports the extension as every host does, and refuses connections and other programs."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'hosts'}", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    modules, *refusals = run.stdout.splitlines()
    ours = [path.relative_to(ROOT).with_suffix("") for path in SOURCES if path.parent != ROOT / "scripts"]
    assert {".".join(path.parts).removesuffix(".__init__") for path in ours} <= set(modules.split())
    assert len(refusals) == 4, "what is to be refused is refused"


NETWORK = {"socket", "ssl", "urllib", "urllib3", "http", "ftplib", "smtplib", "xmlrpc", "asyncio", "socketserver"}
NETWORK |= {"requests", "httpx", "aiohttp", "websockets", "huggingface_hub", "webbrowser"}
PROGRAMS = {"subprocess", "multiprocessing", "ctypes", "runpy", "code", "codeop", "pty"}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
EVALUATORS = {"eval", "exec", "compile", "__import__", "import_module"}
LOADS = {"torch.load", "torch.hub", "torch.jit", "np.load", "numpy.load", "gr.load", "os.system", "os.popen"}


def find_dangers(source):
    """What in a source could fetch, start a program or run what others wrote."""
    findings = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        findings += [name for name in names if name.partition(".")[0] in NETWORK | PROGRAMS | PICKLES or name in LOADS]
        if isinstance(node, ast.Call):
            callee = ast.unparse(node.func)
            findings += [callee] if callee.rpartition(".")[2] in EVALUATORS - {"compile"} or callee == "compile" else []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            findings += [name] if name in LOADS or name.startswith(("os.exec", "os.spawn", "os.fork")) else []
    return findings


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_fetches_nothing_starts_nothing_and_runs_no_text(path):
    # The modules it looks symbols up in stand in its own table.
    allowed = ["import_module"] if path.name == "detect.py" else []
    assert find_dangers(path.read_text(encoding="utf-8")) == allowed


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from urllib import request",
        "import urllib.request as ask",
        "from torch import load",
        "x = torch.load('x')",
        "eval('1')",
        "builtins.exec('1')",
        "compile('1', '', 'eval')",
        "importlib.import_module('x')",
        "os.system('x')",
        "os.execv('x', [])",
        "def f():\n    from subprocess import run",
    ],
)
def test_what_fetches_starts_or_runs_would_be_seen(line):
    assert find_dangers(line)


def test_the_page_fetches_from_our_own_routes_alone_and_makes_no_html_of_text():
    scripts = [path.read_text(encoding="utf-8") for path in (ROOT / "javascript").glob("*.js")]
    assert scripts
    for text in scripts:
        assert {*re.findall(r"https?://[^\s\"'`]*", text)} <= {"http://www.w3.org/2000/svg"}, "the name of a format"
        # Both relative to the page: our own routes, and images that are in the answers themselves.
        text = text.replace("fetch(`noiseorder/v1/", "").replace("src: `data:image/png;base64,", "")
        ways = r"fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import|eval|Function|innerHTML|outerHTML"
        assert not re.search(rf"\b({ways}|insertAdjacentHTML|document\.write|Worker|src|href)\b", text)


def test_index_entry_has_what_the_index_asks_for():
    entry = json.loads((ROOT / "docs" / "index-entry.json").read_text())
    assert set(entry) == {"name", "url", "description", "tags"}
    assert re.fullmatch(r"https://[^ ]+/sd-webui-noiseorder\.git", entry["url"])
    assert set(entry["tags"]) <= {"script", "manipulations", "science"}

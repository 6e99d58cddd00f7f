"""`pytest tests/live --webui PATH [--webui-python PATH]`: the extension in a real WebUI. Not collected without."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ONE_KIND = ("sd15", "sd15v", "sd15inpaint", "flux", "wan")
"""Fixtures of the tests that are for one kind of checkpoint only."""

ON_DEMAND = ("screenshots", "soak", "trained")
"""Fixtures of the tests that are run only with the option of that name."""


def pytest_addoption(parser):
    group = parser.getgroup("live")
    group.addoption("--webui", type=Path, help="folder of an AUTOMATIC1111, Forge or reForge WebUI that already runs")
    group.addoption("--webui-python", type=Path, help="its Python; default: PATH/venv/bin/python")
    group.addoption("--extensions", type=Path, nargs="*", default=[], help="folders of other extensions to try beside")
    group.addoption("--screenshots", type=Path, help="folder for images of the accordion; without it none are made")
    group.addoption("--soak", type=int, metavar="N", help="also make N mixed requests of three clients; 500 or more")
    group.addoption("--trained", type=int, metavar="N", help="also make N prompts' images of the trained checkpoint")
    group.addoption("--merges", type=Path, help="bpe_simple_vocab_16e6.txt.gz of CLIP, where open_clip is not there")
    text = "of the model; gguf (Q8_0) for Forge's flux only; default: fp32"
    group.addoption("--precision", choices=["fp32", "bf16", "fp16", "gguf"], default="fp32", help=text)
    group.addoption("--checkpoints", help="kinds to run, comma separated; default: all that fit the machine")


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("webui", None) is None else None


def pytest_configure(config):
    config.addinivalue_line("markers", "only(*hosts): what the other hosts have not")
    config.addinivalue_line("markers", "beside(*extensions): folders that have to be named by --extensions")
    config.addinivalue_line("markers", "not_inpainting: what the 9-channel models cannot do")
    config.addinivalue_line("markers", "batches: what cannot be had of a model of videos")


def kinds_of(config) -> list[str]:
    """The checkpoint kinds of this run."""
    from webui import plan

    selection = config.getoption("checkpoints")
    kinds, _ = plan(config.getoption("webui"), python_of(config))
    return [kind for kind in kinds if not selection or kind in selection.split(",")]


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", kinds_of(metafunc.config), scope="session")
    if "neighbour" in metafunc.fixturenames:
        from beside import cases
        from webui import host_of

        folders = [path.name for path in metafunc.config.getoption("extensions")]
        neighbours = cases(host_of(metafunc.config.getoption("webui")), kinds_of(metafunc.config), folders)
        metafunc.parametrize("neighbour", neighbours, ids=[f"{name}-{kind}" for name, kind, _ in neighbours])


def pytest_collection_modifyitems(config, items):
    """Leave out what this host or this choice of checkpoints has not, visibly as deselected."""
    if config.getoption("webui", None) is None:
        return
    from webui import HOSTS, VIDEO, host_of

    host, kinds = host_of(config.getoption("webui")), kinds_of(config)
    folders = [path.name for path in config.getoption("extensions")]
    out = [
        item
        for item in items
        if any(host not in marker.args for marker in item.iter_markers("only"))
        or not (HOSTS[host].calls_the_hook or item.get_closest_marker("only"))
        or any(name not in folders for marker in item.iter_markers("beside") for name in marker.args)
        # Without any of them pytest would make one test of it, and skip that.
        or (
            "neighbour" in getattr(item, "fixturenames", ())
            and not isinstance(item.callspec.params["neighbour"], tuple)
        )
        or (item.get_closest_marker("not_inpainting") and item.callspec.params["kind"] == "sd15inpaint")
        or (item.get_closest_marker("batches") and item.callspec.params["kind"] == VIDEO)
        or any(kind in getattr(item, "fixturenames", ()) and kind not in kinds for kind in ONE_KIND)
        or any(name in getattr(item, "fixturenames", ()) and not config.getoption(name) for name in ON_DEMAND)
    ]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def python_of(config) -> Path:
    return config.getoption("webui_python") or config.getoption("webui") / "venv" / "bin" / "python"


def pytest_report_header(config):
    webui = config.getoption("webui", None)
    if webui is None:
        return None
    from webui import describe, plan

    kinds, reasons = plan(webui, python_of(config))
    lines = [f"webui: {describe(webui)}, {config.getoption('precision')}", f"checkpoints: {', '.join(kinds)}"]
    return lines + [f"left out: {kind}: {reason}" for kind, reason in reasons.items()]


def pytest_terminal_summary(terminalreporter, config):
    """How many passed for each checkpoint, as docs/compatibility.md tells it."""
    if config.getoption("webui", None) is None:
        return
    counts = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            if outcome != "passed" or report.when == "call":
                parts = report.nodeid.partition("[")[2].rstrip("]").split("-")
                kind = next((kind for kind in kinds_of(config) if kind in parts), "without a checkpoint of its own")
                counts.setdefault(kind, Counter())[outcome] += 1
    for kind, outcomes in counts.items():
        terminalreporter.write_line(f"{kind}: " + ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items()))


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    """The WebUI with this extension and the probe linked in, and every checkpoint generated."""
    from webui import WebUI

    webui = WebUI(request.config.getoption("webui"), python_of(request.config), tmp_path_factory.mktemp("data"))
    webui.neighbours = request.config.getoption("extensions")
    webui.precision = request.config.getoption("precision")
    selection = request.config.getoption("checkpoints")
    webui.make_checkpoints(selection.split(",") if selection else None)
    with webui.running(extension=False):
        webui.baselines = {kind: webui.plain_pixels(kind) for kind in webui.kinds}
    with webui.running(extension=True):
        yield webui


@pytest.fixture
def screenshots(request):
    return request.config.getoption("screenshots")


@pytest.fixture
def soak(request):
    """How many requests."""
    return request.config.getoption("soak")


@pytest.fixture
def sd15():
    """The kind the LoRA and the ControlNet are made for."""
    return "sd15"


@pytest.fixture
def sd15v():
    return "sd15v"


@pytest.fixture
def sd15inpaint():
    return "sd15inpaint"


@pytest.fixture
def flux():
    return "flux"


@pytest.fixture
def wan():
    return "wan"


@pytest.fixture
def options(server):
    """Sets options and puts them back: what a request overrides, the hosts only put back if it was ever saved."""
    from lib_noiseorder.webui.options import Options

    before = server.get("/sdapi/v1/options")
    previous = {}

    def change(**values):
        # Forge's API tells only the options that were there before the extensions; ours are at their defaults.
        defaults = {f"noiseorder_{name}": value for name, value in vars(Options()).items()}
        previous.update({key: before.get(key, defaults.get(key, False)) for key in values})
        server.post("/sdapi/v1/options", values)

    yield change
    if previous:
        server.post("/sdapi/v1/options", previous)


@pytest.fixture(autouse=True)
def quiet_probe(request):
    """Every test begins with the probe counting from nought and failing nothing."""
    if "server" in request.fixturenames:
        request.getfixturevalue("server").probe()

"""`benchmarks/webui_quality.py` against a server that answers as a WebUI's route does."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def tool(benchmark):
    return benchmark("webui_quality")


class WebUI(ThreadingHTTPServer):
    """Grey noise of the seed; modulated it is twice as strong, with more steps a tenth stronger."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Route)
        self.bodies = []
        self.model = "tiny"
        self.status = 200
        self.active = True
        self.error = ""
        self.at_most = 10**9

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Route(BaseHTTPRequestHandler):
    server: WebUI

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        here = self.path == "/sdapi/v1/txt2img"
        status = self.server.status if len(self.server.bodies) < self.server.at_most else 500
        if not here or status != 200:
            self.answer(status if here else 404, {"detail": "always on script noise order not found"})
            return
        self.server.bodies.append(body)
        (settings,) = body["alwayson_scripts"]["noise order"]["args"]
        modulated = settings is not False and self.server.active
        size = (1 + modulated) * (1.1 if body["steps"] > 20 else 1)
        noise = np.random.default_rng(body["seed"]).standard_normal((32, 48))
        pixels = np.clip(128 + 10 * size * noise, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).convert("RGB").save(file, "PNG")
        text = f"{body['prompt']}\nSteps: {body['steps']}, Seed: {body['seed']}, Model: {self.server.model}"
        if modulated:
            text += f", Noise Order error: {self.server.error}" if self.server.error else ", Noise Order: 1"
        info = json.dumps({"infotexts": [text + ", Version: x"]})
        self.answer(200, {"images": [base64.b64encode(file.getvalue()).decode()], "info": info})

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def webui():
    server = WebUI()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def call(tool, webui, tmp_path, monkeypatch, capsys):
    """Runs the tool with these options; what it printed, as (out, err)."""
    (tmp_path / "prompts.txt").write_text("a red cat\n\na blue dog, Noise Order: 1\na green bird\n", encoding="utf-8")

    def run(*options):
        common = ["--url", webui.url, "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["webui_quality.py", *common, *options])
        tool.main()
        return capsys.readouterr()

    return run


def test_pairs_of_the_same_prompt_and_seed(call, webui, tmp_path):
    request = ("--request", '{"steps": 20, "cfg_scale": 5}', "--controls", '24 steps={"steps": 24}')
    out, err = call("--rows", "Default", 'mine={"erase": 1, "inject": 0.1}', *request, "--seed", "7")
    assert "24/24" in err
    by_row = [[(body["prompt"], body["seed"]) for body in webui.bodies[row::4]] for row in range(4)]
    assert by_row == [by_row[0]] * 4
    assert [seed for _, seed in by_row[0]] == [7, 8, 9, 10, 11, 12]
    first = webui.bodies[:4]
    args = [body["alwayson_scripts"]["noise order"]["args"] for body in first]
    assert args[0] == args[3] == [False]
    assert args[1][0]["enabled"] is True
    assert args[1][0]["erase"] == 4
    assert args[2] == [{"erase": 1, "inject": 0.1}]
    assert [body["steps"] for body in first] == [20, 20, 20, 24]
    assert {body["cfg_scale"] for body in webui.bodies} == {5}
    assert "3 prompts, 6 images a row, Model: tiny." in out
    assert "9 comparisons" in out
    residue = out.partition("### residue, which says nothing of quality")[2].partition("###")[0]
    plain = float(residue.partition("Plain: ")[2].split()[0])
    assert plain == pytest.approx(10, rel=0.1)
    change = {line.split(" | ")[0]: line.split(" | ")[1:3] for line in residue.splitlines() if line.startswith("| ")}
    for row, ratio in (("| Default", 1), ("| mine", 1), ("| 24 steps", 0.1)):
        assert float(change[row][0].strip("*").split()[0]) / plain == pytest.approx(ratio, abs=0.05)
        assert change[row][1] == "100%"
    with (tmp_path / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert rows[0]["row"] == "plain"
    assert (rows[-1]["row"], rows[-1]["prompt"], rows[-1]["seed"]) == ("24 steps", "a green bird", "12")
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width == 4 * 192
        assert sheet.height == 16 + 6 * (192 + 16)
        sheet.load()


def test_goes_on_where_it_was_stopped(call, webui, tmp_path, capsys):
    webui.at_most = 5
    with pytest.raises(SystemExit, match="HTTP 500"):
        call("--seeds", "1")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert len(times) == 5
    capsys.readouterr()
    out, err = call("--seeds", "1", "--score-only")
    assert "2 prompts, 2 images a row" in out
    webui.at_most = 10**9
    out, err = call("--seeds", "1")
    assert len(webui.bodies) == 6
    assert "6/6" in err
    assert "3 prompts, 3 images a row" in out
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    webui.status = 500
    again, _ = call("--seeds", "1")
    assert again == out


def test_another_request_or_checkpoint_is_not_mixed_in(call, webui):
    call("--seeds", "1")
    with pytest.raises(SystemExit, match="made with another steps: choose another --out"):
        call("--seeds", "1", "--request", '{"steps": 30}')
    with pytest.raises(SystemExit, match="made with another alwayson_scripts"):
        call("--seeds", "1", "--rows", 'Erase and inject={"erase": 9}')
    webui.model = "other"
    with pytest.raises(SystemExit, match=r"with Model: other, others with Model: tiny: choose an --out for each"):
        call("--seeds", "1", "--rows", "Default", "Erase only")


def test_what_was_not_done_is_not_measured(call, webui, tmp_path):
    webui.error = "videos are not supported"
    with pytest.raises(SystemExit, match=r"left the noise of .* as it was: videos are not supported"):
        call()
    webui.error, webui.active = "", False
    with pytest.raises(SystemExit, match="came with Noise Order off"):
        call()
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1  # the plain one


def test_a_scorer_of_ones_own(call, webui, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def length(images, prompts):\n    return [len(text) + image.width for image, text in zip(images, prompts)]\n"
        "def none(images, prompts):\n    return [float('nan')] * len(images)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    out, _ = call("--scorers", "mine:length")
    assert f"### mine:length\n\nPlain: {48 + (9 + 26 + 12) / 3:.3f}" in out
    assert "+0.000 [+0.000, +0.000] | 50%" in out
    with pytest.raises(SystemExit, match="must be a finite number each"):
        call("--scorers", "mine:none")


def test_the_seeds_of_a_prompt_make_no_more_prompts(call, webui, tmp_path, monkeypatch):
    (tmp_path / "strong.py").write_text(
        "import numpy\ndef longer(images, prompts):\n"
        "    return [len(text) * (numpy.std(image) > 15) for image, text in zip(images, prompts)]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    out, _ = call("--scorers", "strong:longer", "--seeds", "3")
    # Of three prompts one alone is drawn three times in 3.7 % of the draws; were they nine, never.
    assert "3 prompts, 9 images a row" in out
    assert "+15.667 [+9.000, +26.000]" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rows", "Defalt"), "--rows Defalt: must be one of Default, Erase only"),
        (("--rows", 'x={"erase": 0}'), r"--rows x: Erase \(erase\) = 0: must be a number from 1 to 64"),
        (("--rows", 'x={"erase": 1, "inject": 0}'), "must change the noise"),
        (("--rows", 'x={"compare_original": true}'), "make nothing beside the image"),
        (("--rows", "Default", 'default={"erase": 9}'), "names of rows and controls must differ"),
        (("--controls", "24 steps"), "--controls 24 steps: must be NAME="),
        (("--controls", "24 steps=24"), "--controls 24: must be a JSON object"),
        (("--request", "steps"), "--request steps: must be a JSON object"),
        (("--scorers", "nothing"), "--scorers nothing: must be one of sharpness, residue, colourfulness"),
        (("--scorers", "nothing:here"), "No module named 'nothing'"),
        (("--prompts", "nothing.txt"), "--prompts: .*nothing.txt"),
        (("--score-only",), "no pair is complete yet"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(call, webui, options, message):
    with pytest.raises(SystemExit, match=message):
        call(*options)
    assert webui.bodies == []


def test_one_prompt_has_no_interval(call, tmp_path):
    (tmp_path / "one.txt").write_text("a red cat\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="1 prompts, a line each; an interval needs two or more"):
        call("--prompts", str(tmp_path / "one.txt"))


def test_a_webui_that_is_not_there_or_has_no_api(call, webui):
    with pytest.raises(SystemExit, match=r"HTTP 404: .*start the WebUI with --api"):
        call("--url", f"{webui.url}/other")
    with pytest.raises(SystemExit, match="is the WebUI running, with --api"):
        call("--url", "http://127.0.0.1:9")


def test_the_measures(tool):
    noise = np.random.default_rng(0).standard_normal((64, 64))
    flat = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))
    ramp = Image.fromarray(np.tile(np.arange(0, 192, 3, dtype=np.uint8), (64, 1)))
    noisy = Image.fromarray(np.clip(128 + 12 * noise, 0, 255).astype(np.uint8))
    assert [measure(flat) for measure in tool.MEASURES.values()] == [0, 0, 0]
    assert tool.sharpness(ramp) == pytest.approx(3)
    assert tool.residue(ramp) == 0
    assert tool.residue(noisy) == pytest.approx(12, rel=0.05)
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert tool.colourfulness(red) == pytest.approx(0.3 * np.hypot(255, 127.5))

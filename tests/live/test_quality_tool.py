"""`benchmarks/webui_quality.py` with the real WebUI behind it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

from PIL import Image
from webui import ROOT


def test_pairs_of_a_real_webui(server, sd15, tmp_path):
    server.load(sd15)
    (tmp_path / "prompts.txt").write_text("a red cat\na blue dog\na green bird\n", encoding="utf-8")
    plain = server.txt2img(sd15, seed=3).pixels[0]
    command = [sys.executable, str(ROOT / "benchmarks" / "webui_quality.py"), "--url", server.url]
    command += ["--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out"), "--seeds", "1"]
    command += ["--seed", "3", "--rows", "Default", "Look-ahead", 'choose={"inject": 0, "audition": 2}']
    command += ["--controls", 'more={"steps": 5}', "--request", json.dumps(server.request(sd15))]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "3 prompts, 3 images a row, Model" in first.stdout
    assert "15/15" in first.stderr
    for row in ("| Default |", "| Look-ahead |", "| choose |", "| more |"):
        assert first.stdout.count(row) == 3
    with Image.open(tmp_path / "out" / "plain" / "0001-3.png") as image:
        assert (plain == image.convert("RGB")).all()
    infotext = json.loads((tmp_path / "out" / "choose" / "0002-4.json").read_text(encoding="utf-8"))["infotext"]
    assert "Noise Order auditioned: 2" in infotext
    with (tmp_path / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
        assert len({row["sharpness"] for row in csv.DictReader(file)}) == 15
    again = subprocess.run([*command, "--url", "http://127.0.0.1:9"], capture_output=True, text=True, check=False)
    assert again.stdout == first.stdout

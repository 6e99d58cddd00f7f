"""Auditions of the latent world in a WebUI, played by a small server: its right images are drawn, not generated."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import tables
from latent import auditions, world


def is_right(seed: int, variant: int) -> bool:
    """Of each prompt's four candidates two."""
    return (seed + variant) % 2 == 0


def picture(prompt: str, seed: int, variant: int) -> str:
    """What the prompt says, or nothing."""
    image = world.render([world.parse_caption(prompt)], torch.Generator().manual_seed(seed))
    image = image if is_right(seed, variant) else torch.linspace(-1, -0.9, 128).expand_as(image)
    file = io.BytesIO()
    world.pictures_of(image)[0].save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
    seed, prompt = body["seed"], body["prompt"]
    (settings,) = body["alwayson_scripts"]["noise order"]["args"]
    assert (settings["erase"], settings["inject"]) == (4.0, 0.0)
    if path == "/sdapi/v1/txt2img":
        variant = settings["variant"]
        info = json.dumps({"infotexts": [f"{prompt}\nSteps: 20, Noise Order variant: {variant}"]})
        return {"images": [picture(prompt, seed, variant)], "info": info}
    assert path == "/noiseorder/v1/audition"
    own = body.get("override_settings") == {"noiseorder_sketches": False}
    sign = -1 if own else 1  # the critic sees nothing but the opposite in an image's own first steps
    where = "7 of 20 steps" if own else "step 4 of a sketch of 7 steps"
    previews = [
        {"variant": v, "picture": picture(prompt, seed, v), "score": sign * float(is_right(seed, v))}
        for v in range(body["candidates"])
    ]
    cost = {"sketch": 0.9, "first steps": 1.5}["first steps" if own else "sketch"]
    return {"previews": previews, "notes": [], "told": f"4 candidates at {where}: 1.8 images", "cost": cost}


@pytest.fixture
def webui() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = json.dumps(answer(self.path, body)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_choices_are_told_beside_what_was_finished(webui, tmp_path, monkeypatch, capsys) -> None:
    url, asked = webui
    command = ["auditions.py", "--url", url, "--out", str(tmp_path / "out"), "--count", "3", "--name", "A1111, Euler"]
    command += ["--csv", str(tmp_path / "rows.csv")]
    monkeypatch.setattr(sys, "argv", command)
    auditions.main()
    table = capsys.readouterr().out
    assert len(asked) == 3 * (4 + 3)
    rows = table.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    lines = {line.split(" | ")[0].strip("| "): line for line in rows}
    assert "N = 3; plain, the mean of 4 candidates: right 0.500" in table
    assert "| 36 | +0.500" in lines["audition of 4, step 4 of a sketch of 7 steps, the model chooses"]
    assert "| 32 | +0.500" in lines["audition of 4, step 4 of a sketch of 7 steps, the checker chooses"]
    assert "| 60 | -0.500" in lines["audition of 4, 7 of 20 steps, the model chooses"]
    assert "| 56 | +0.500" in lines["audition of 4, 7 of 20 steps, the checker chooses"]
    # Of the first two candidates one is right: there the critic sees the opposite.
    assert "| 42 | -0.500" in lines["2 finished, the model chooses"]
    assert "| 40 | +0.500" in lines["2 finished, the checker chooses"]
    assert "| audition of 4, 7 of 20 steps, the model chooses | +1.000" in table
    assert "| step 4 of a sketch of 7 steps | 1.000, 1.000 |" in table
    assert "| step 4 of a sketch of 7 steps | anything | 3 | +1.000 [+1.000, +1.000] |" in table
    assert "| 7 of 20 steps | anything | 3 | +0.000 [+0.000, +0.000] |" in table
    kept = tables.read(tmp_path / "rows.csv")
    assert {(each["model"], each["setting"]) for each in kept} == {("A1111, Euler", "20 steps, CFG 7")}
    found = next(each for each in kept if each["what"] == "audition of 4, 7 of 20 steps, the model chooses")
    told = [found[name] for name in ("metric", "against", "n", "evaluations", "value", "low", "high", "bold")]
    assert told == ["right", "plain", "3", "60", "-0.500", "-0.500", "-0.500", ""]
    auditions.main()
    assert capsys.readouterr().out == table
    assert len(asked) == 21, "what is there is not made again"
    monkeypatch.setattr(sys, "argv", [*command, "--request", '{"cfg_scale": 3}'])
    with pytest.raises(SystemExit, match="another request"):
        auditions.main()


def test_finishing_costs_the_hires_pass_too_and_looking_does_not(webui, tmp_path, monkeypatch, capsys) -> None:
    url, _ = webui
    hires = '{"enable_hr": true, "hr_scale": 1.5, "hr_second_pass_steps": 10}'
    command = ["auditions.py", "--url", url, "--out", str(tmp_path), "--count", "2", "--request", hires]
    monkeypatch.setattr(sys, "argv", [*command, "--looks", "sketch"])
    auditions.main()
    table = capsys.readouterr().out
    assert "| audition of 4, step 4 of a sketch of 7 steps, the checker chooses | 32 |" in table
    assert "| 2 finished, the checker chooses | 85 |" in table
    assert "7 of 20" not in table
    monkeypatch.setattr(sys, "argv", [*command, "--looks", "first steps"])
    with pytest.raises(SystemExit, match="other looks"):
        auditions.main()


def test_an_image_whose_noise_was_left_as_it_is_ends_the_run(webui, tmp_path, monkeypatch) -> None:
    url, _ = webui
    plain = {"images": [], "info": json.dumps({"infotexts": ["Noise Order error: no"]})}
    monkeypatch.setattr(auditions, "post", lambda *_: plain)
    monkeypatch.setattr(sys, "argv", ["auditions.py", "--url", url, "--out", str(tmp_path), "--count", "1"])
    with pytest.raises(SystemExit, match="left as it is"):
        auditions.main()
    assert not list(tmp_path.rglob("told.json"))


def test_the_prompts_are_in_all_their_wordings(monkeypatch, capsys) -> None:
    pairs = auditions.scenes_of(40)
    assert all(world.parse_caption(prompt) == scene for scene, prompt in pairs)
    monkeypatch.setattr(sys, "argv", ["auditions.py", "--count", "40"])
    auditions.main()
    assert capsys.readouterr().out.splitlines() == [prompt for _, prompt in pairs]
    assert any(prompt != world.captions(scene)[0] for scene, prompt in pairs)

"""`python -m lib_noiseorder.playground --prompt ...`: an image grid without a page."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_noiseorder.playground.__main__ import main
from lib_noiseorder.playground.models import MODELS

PROMPT = ["--prompt", "a red cross left of a blue ring", "--count", "2", "--steps", "2"]


@pytest.mark.parametrize("model", MODELS)
def test_writes_the_grid_and_tells_what_was_found(tmp_path, capsys, model):
    target = tmp_path / "grid.png"
    world = MODELS[model].world
    main([*PROMPT, "--prompt", world.EXAMPLES[0], "--model", model, "--inject", "0.05", "--save", str(target)])
    output = capsys.readouterr().out
    assert "Without: " in output
    assert f"with the right {world.RELATION} too" in output
    assert f"{1 if MODELS[model].distilled else 2} evaluation" in output
    assert "with the seed's own (1 is the same, 0 another seed)" in output
    assert output.endswith(f"Saved:    {target}\n")
    with Image.open(target) as grid:
        assert grid.width > 2 * 128
        assert len(grid.getcolors(1 << 20)) > 10


def test_the_docs_image_and_result_are_those_of_their_command(tmp_path, capsys):
    root = Path(__file__).parents[2]
    text = (root / "docs" / "playground.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"python -m lib_noiseorder\.playground (--prompt .*)", text)
    arguments = shlex.split(command)
    target = tmp_path / arguments[-1]
    main([*arguments[:-1], str(target)])
    assert re.search(r"Right: .* by eye", capsys.readouterr().out).group() in text
    with Image.open(target) as image, Image.open(root / "docs" / "images" / target.name) as reference:
        assert image.size == reference.size
        differs = np.abs(np.asarray(image).astype(int) - np.asarray(reference)).max(-1) > 2
    assert differs.mean() < 0.001, "another Pillow may draw a letter differently"


@pytest.mark.parametrize("more", [[], ["--audition", "2"]])
def test_nothing_is_left_behind_unless_a_file_is_given(tmp_path, monkeypatch, capsys, more):
    monkeypatch.chdir(tmp_path)
    main([*PROMPT, *more])
    assert list(tmp_path.iterdir()) == []
    assert "--save FILE.png keeps them" in capsys.readouterr().out


@pytest.mark.slow
def test_variants_are_further_rows(tmp_path, capsys):
    heights = {}
    for options in ([], ["--compare-original", "--compare-erased", "--compare-injected"]):
        target = tmp_path / "grid.png"
        main([*PROMPT, "--inject", "0.05", "--save", str(target), *options])
        with Image.open(target) as grid:
            heights[len(options)] = grid.height
    assert heights[3] > 1.8 * heights[0], "four rows instead of two"
    output = capsys.readouterr().out
    assert "Erased:  " in output
    assert "Injected:" in output


@pytest.mark.parametrize(("model", "steps", "cfg"), [("dit", 10, 3), ("few", 4, 1)])
def test_steps_and_cfg_are_the_models_own_unless_given(tmp_path, monkeypatch, model, steps, cfg):
    calls = []

    def compare(loaded, prompt, negative, seeds, steps, cfg, config):
        calls.append((steps, cfg))
        raise ValueError("seen")

    monkeypatch.setattr("lib_noiseorder.playground.__main__.compare", compare)
    for options in ([], ["--steps", "3", "--cfg", "2"]):
        with pytest.raises(SystemExit, match="seen"):
            main(["--prompt", "a red cross left of a blue ring", "--model", model, *options])
    assert calls == [(steps, cfg), (3, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "clutter-unet"], "'left' is not a colour or 'on'|'cross' is not a sprite"),
        (["--model", "few", "--cfg", "3"], "use CFG scale 1"),
        (["--prompt", "a purple cross left of a blue ring"], "'purple'"),
        (["--erase", "0.5"], "from 1 to 64"),
        (["--region", "inside"], "no mask"),
        (["--count", "0"], "no seeds"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([*PROMPT, "--save", str(tmp_path / "grid.png"), *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_eight_images_twice_take_seconds(tmp_path):
    start = time.process_time()  # what other processes take does not count
    main([*PROMPT, "--count", "8", "--steps", "10", "--save", str(tmp_path / "grid.png")])
    assert time.process_time() - start < 30

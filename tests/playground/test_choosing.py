"""What `benchmarks/audition.py` makes of the candidates of a prompt."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from lib_noiseorder.playground import clutter, scenes
from lib_noiseorder.playground.world import CheckResult


@pytest.fixture(scope="module")
def audition(benchmark):
    return benchmark("audition")


@pytest.mark.parametrize(
    ("words", "objects", "relation", "kind"),
    [
        ("red cross, blue ring; left of", True, True, 0),
        ("red cross, blue blob; left of", False, True, 1),
        ("red cross, blue ring, green blob; left of", False, True, 1),
        ("red cross", False, False, 2),
        ("nothing", False, False, 2),
        ("red ring, blue ring; left of", False, True, 2),
        ("red cross, blue ring, green cross; left of", False, True, 2),
        ("red blob", False, False, 3),
        ("red cross, blue ring; above", True, False, 4),
    ],
)
def test_kinds_of_failures(audition, words, objects, relation, kind):
    scene = scenes.parse_caption("a red cross left of a blue ring")
    assert audition.kind(CheckResult(objects, relation, 0.5, words), scene, scenes) == kind


@pytest.mark.parametrize("world", [scenes, clutter], ids=["sprites", "clutter"])
def test_right_images_and_no_others_are_of_no_kind(audition, world):
    generator = torch.Generator().manual_seed(0)
    samples = world.random_scenes(200, generator)
    images = world.render(samples, generator)
    images[100:] += 1.2 * torch.randn(images[100:].shape, generator=generator)
    targets = samples[:50] + samples[:50][::-1] + samples[100:]
    results = world.check(images, targets)
    assert {each.both for each in results} == {True, False}
    for each, scene in zip(results, targets, strict=True):
        assert (audition.kind(each, scene, world) == 0) == each.both


def test_candidates_of_one_prompt_are_compared(audition):
    score = np.array([[4.0, 1.0, 2.0], [10.0, 30.0, 20.0], [5.0, 5.0, 0.0], [9.0, 9.0, 9.0]])
    right = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=bool)
    failed = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)
    # Two of two, none of one, one and a half of two (one is equal, one lower): 3.5 of 5; the last prompt tells nothing.
    assert audition.auc(score, right, failed).startswith("0.70 [")
    assert audition.auc(score, right, failed).endswith("], 3 prompts")
    assert audition.auc(score[:1], right[:1], failed[:1]) == ""


def make_arrays(audition, prompts=2, candidates=8):
    count = len(audition.DEPTHS) + 1
    results = np.zeros((prompts, candidates, 3))
    results[:, 3, :] = 1  # only the fourth is right
    verdicts, score = np.zeros((prompts, candidates, count)), np.zeros((prompts, candidates, count))
    verdicts[:, 3] = 1
    score[:, 5, :-1] = 1  # the critic sees it when it is finished
    score[:, 3, -1] = 1
    more = {f"{steps} steps": np.zeros((prompts, 3)) for steps in audition.longer(3.0, 20)}
    return {"found": results, "seen": verdicts, "score": score, **more}


def test_rows_and_what_they_cost(audition):
    rows = audition.rows_of(make_arrays(audition), 3.0, 20)
    measures = {name: (row[0, 1], row[0, 3]) for name, row in rows.items()}
    assert measures["plain"] == measures["Any of 2, the last one"] == (0, 0)
    assert measures["Audition of 2 after 7 of 20 steps, by the checker"] == (0, 28)
    assert measures["Audition of 4 after 7 of 20 steps, by the checker"] == (1, 56)
    assert measures["Audition of 4 after 7 of 20 steps, by the model"] == (0, 60)
    assert measures["Audition of 8 after 7 of 20 steps, by the model"] == (0, 120)
    assert measures["Best of 3 finished, by the model"] == (0, 83)
    assert measures["Best of 4 finished, by the model"] == (1, 124)
    assert measures["Best of 4 finished, by the checker"] == (1, 120)
    assert (measures["50 steps"][1], measures["80 steps"][1]) == (60, 120)
    without = audition.rows_of({**make_arrays(audition), **make_longer(audition, 1.0)}, 1.0, 20)
    assert without["Audition of 4 after 7 of 20 steps, by the model"][0, 3] == 4 * 7 + 4


def make_longer(audition, cfg):
    return {f"{steps} steps": np.zeros((2, 3)) for steps in audition.longer(cfg, 20)}


@pytest.mark.slow
def test_from_the_models_to_the_tables(audition, tmp_path, capsys, monkeypatch):
    # Here it is no module that another process could load.
    monkeypatch.setattr(audition, "make", lambda work, tasks, processes: [work(*task) for task in tasks.values()])
    audition.main(["--count", "2", "--models", "dit", "--steps", "4", "--processes", "1", "--store", str(tmp_path)])
    output = capsys.readouterr()
    assert "### dit, 4 steps, CFG 3" in output.out
    assert "| wrong or missing object |" in output.out
    audition.main(["--count", "2", "--models", "dit", "--steps", "4", "--processes", "0", "--store", str(tmp_path)])
    assert capsys.readouterr().out == output.out


@pytest.mark.slow
def test_its_candidates_are_those_of_the_panel(audition, tmp_path):
    """The first is the preset "Erase only", the others its variants."""
    path = tmp_path / "made.npz"
    audition.make_part("candidates", "dit", 1.0, 4, 11, 2, False, path)
    results = np.load(path)["found"]
    model = audition.PlaygroundModel.load("dit")
    world = model.world
    targets = world.random_scenes(2, torch.Generator().manual_seed(11))
    tokens, uncond = world.encode(targets), world.null_tokens(2)
    quality = sys.modules["quality"]
    for variant in (0, 5):
        host = audition.PlaygroundDenoiser(model, [11, 12], tokens, uncond, 1.0)
        config = quality.PRESETS["Erase only"].replace(variant=variant)
        noise, _ = audition.modulate(audition.seed_noise([11, 12]), quality.modulation(config), host)
        scores = [each.score for each in world.check(model.sample(noise, tokens, uncond, 1.0, 4), targets)]
        assert results[:, variant, 2] == pytest.approx(scores)

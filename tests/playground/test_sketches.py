"""What `benchmarks/sketches.py` makes of the candidates of a prompt, and of their sketches."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch

from lib_noiseorder.core import Modulation, modulate
from lib_noiseorder.playground.host import seed_noise


@pytest.fixture(scope="module")
def sketches(benchmark):
    return benchmark("sketches")


def first_image(batch, steps, watch=None):
    noise, _ = modulate(seed_noise(batch.seeds), Modulation(erase=4.0, variant=0), batch.host)
    return batch.model.sample(noise, batch.tokens, batch.uncond, batch.cfg, steps, watch)


def test_a_sketch_is_the_beginning_of_a_coarser_run(sketches):
    batch = sketches.Candidates("dit", 3.0, 20, 7, 1)
    noise, _ = modulate(seed_noise(batch.seeds), Modulation(erase=4.0, variant=0), batch.host)
    before = batch.model.evaluations
    seen = sketches.look(batch, noise, 7, [2, 4])
    assert batch.model.evaluations - before == 4 * 2
    steps = []
    first_image(batch, 7, lambda step, total, denoised: steps.append(denoised))
    assert list(seen) == [(2, 7), (4, 7)]
    assert torch.equal(seen[2, 7], steps[1])
    assert torch.equal(seen[4, 7], steps[3])


def test_what_is_found_in_candidates(sketches, monkeypatch):
    monkeypatch.setattr(sketches, "COUNT", 2)
    monkeypatch.setattr(sketches, "WHOLE", (5, 5))
    batch = sketches.Candidates("dit", 3.0, 20, 7, 2)
    results = sketches.candidates(batch, [(1, 3), (5, 5)], {"model": lambda x, host: x.flatten(1).sum(1).tolist()})
    assert results["found"].shape == (2, 2, 3)
    image = first_image(batch, 5)
    checks = np.array([(each.objects, each.both, each.score) for each in batch.check(image)], float)
    assert results["found"][:, 0] == pytest.approx(checks)
    assert results["5 of 5, like"] == pytest.approx(1)
    assert (results["1 of 3, like"] < 0.99).all()
    sums = [pytest.approx(each, abs=0.01) for each in image.flatten(1).sum(1).tolist()]
    assert results["5 of 5, model"][:, 0].tolist() == sums
    whole = results["5 of 5, checker"]
    assert whole == pytest.approx(results["found"][..., 1] + results["found"][..., 2])


def made_up(sketches, right=2, drafts=3):
    """The candidate `right` of each of three prompts is right; every judge sees it but the critic of the sketch."""
    found = np.zeros((3, 4, 3))
    found[:, right] = 1
    knows, fooled = np.zeros((3, 4)), np.zeros((3, 4))
    knows[:, right] = fooled[:, 0] = 1
    looks = [sketches.name_of(each) for each in (sketches.SKETCH, sketches.TODAY, sketches.WHOLE)]
    results = {"found": found}
    for name in looks:
        results |= {f"{name}, checker": knows, f"{name}, model": knows}
    results[f"{looks[0]}, model"] = fooled
    draft = sketches.name_of(sketches.DRAFT)
    results |= {f"{draft}, {judge}": knows[:drafts] for judge in ("model", "checker")}
    return results


def test_rows_and_what_they_cost(sketches):
    results = made_up(sketches, drafts=2) | {"more steps": np.ones((1, 3))}
    rows = sketches.rows_of(results, 3.0)
    told = {name: (row[0, 1], row[0, 3], len(row)) for name, row in rows.items()}
    at, of = sketches.SKETCH
    sketch = f"Audition of 4 after {at} of {of} steps"
    assert told["plain"] == (0.25, 0, 3)
    assert told[f"{sketch}, by the model"] == (0, 4 * (2 * at + 1), 3)
    assert told[f"{sketch}, by the checker"] == (1, 4 * 2 * at, 3)
    assert told["Audition of 4 after 7 of 20 steps, by the model"] == (1, 60, 3)
    assert told["Best of 2 finished, by the model"] == (0, 42, 3)
    assert told["Best of 4 finished, by the checker"] == (1, 120, 3)
    assert told["Best of 3 at 10 steps, made again with 20, by the model"] == (1, 63, 2)
    assert told["Best of 3 at 10 steps, made again with 20, by the checker"] == (1, 60, 2)
    # Of the first candidate, which was wrong and now is right.
    assert told[f"{20 + 4 * at + 2} steps"] == (1.25, 8 * at + 4, 1)


def test_the_tables(sketches, tmp_path, capsys):
    options = argparse.Namespace(seed=100, count=3, store=tmp_path, bfloat16=False)
    for part in sketches.COMMANDS["fresh"][:2]:
        (path,) = sketches.store_files(options, part, "dit", 3.0, 20)
        np.savez(path, **made_up(sketches))
    arguments = ["--processes", "0", "--store", str(tmp_path), "--seed", "100", "--count", "3"]
    sketches.main(["fresh", *arguments])
    output = capsys.readouterr().out
    at, of = sketches.SKETCH
    assert f"| Audition of 4 after {at} of {of} steps, by the model | 3 | {4 * (2 * at + 1)} | -0.250" in output
    assert f"| model | Audition of 4 after 7 of 20 steps, by the model | 60, {4 * (2 * at + 1)} | -1.000" in output
    assert f"| checker | Audition of 4 after 7 of 20 steps, by the checker | 56, {8 * at} | +0.000" in output

    (path,) = sketches.store_files(options, "tuning", "dit", 3.0, 20)
    results = {"found": made_up(sketches)["found"]}
    for seen in sketches.TRIED:
        results[f"{sketches.name_of(seen)}, like"] = np.linspace(0, 1, 12).reshape(3, 4)
        for judge in ("checker", "0.6", "0.5", "0.4"):
            # Only the checker and one look's critic see which is right.
            sees = judge == "checker" or (judge, seen) == ("0.5", (4, 8))
            results[f"{sketches.name_of(seen)}, {judge}"] = results["found"][..., 1] * sees
    np.savez(path, **results)
    sketches.main(["tuning", *arguments])
    output = capsys.readouterr().out
    assert "| 0.5 | 4 of 8 | 9 | +0.750 | +0.750 ± 0.000 | +1.000 ± 0.000 |" in output
    assert "| 0.6 | 4 of 8 | 9 | -0.250 | -0.250 ± 0.000 | +0.000 ± 0.000 |" in output
    assert "| checker | 4 of 8 | 8 | +0.750 | +0.750 ± 0.000 | +0.000 ± 0.000 |" in output
    assert "| 4 of 8 | 0.50, 0.10 |" in output


def test_what_is_in_the_store_is_not_made_again(sketches, tmp_path, capsys):
    options = argparse.Namespace(seed=100, count=2, store=tmp_path, bfloat16=False)
    made = {}
    for part in sketches.COMMANDS["fresh"]:
        (path,) = sketches.store_files(options, part, "dit", 3.0, 20)
        np.savez(path, **made_up(sketches))
        made[path] = path.stat().st_mtime_ns
    arguments = ["--store", str(tmp_path), "--seed", "100", "--count", "2", "--models", "dit", "--processes", "1"]
    sketches.main(["fresh", *arguments])
    assert "4/4" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made


def test_other_critics(sketches, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sketches, "COUNT", 2)
    batch = sketches.Candidates("clutter-dit", 3.0, 20, 7, 2)
    before = batch.model.evaluations
    results = sketches.critics(batch)
    # Per image two runs, of 4 and of 3 steps, then 1 + 2 + 2 questions and one for each word and for them all.
    assert batch.model.evaluations - before == 2 * 2 * (2 * (4 + 3) + 5 + batch.tokens.shape[1] + 1)
    assert {values.shape for values in results.values()} == {(2, 2)}
    assert all((values < 0).all() for values in results.values())

    options = argparse.Namespace(seed=100, count=3, store=tmp_path, bfloat16=False)
    found = made_up(sketches)
    blind, sees = np.zeros((2, 4)), found["found"][:2, :, 1]
    scored = dict.fromkeys(results, blind) | {"wish 0.35": 2 * sees}
    for part, values in (("fresh", found), ("critics", scored)):
        (path,) = sketches.store_files(options, part, "dit", 3.0, 20)
        np.savez(path, **values)
    sketches.main(["critics", "--processes", "0", "--store", str(tmp_path), "--seed", "100", "--count", "3"])
    output = capsys.readouterr().out
    assert "dit, N = 2 |" in output
    assert "| built in: consistency 0.6 | 1 | -0.250 |" in output
    assert "| wish 0.35 | 2 | +0.750 | +0.750 ± 0.000 | +1.000 ± 0.000 |" in output
    assert "| consistency 0.6 + wish 0.35 | 3 | +0.750 |" in output
    assert "| last step | 0 | -0.250 |" in output


def test_a_missing_word_is_what_the_model_still_adds(sketches, monkeypatch):
    batch = sketches.Candidates("dit", 3.0, 20, 7, 2)
    asked = []

    def denoise(x, sigma, tokens):
        asked.append(tokens)
        # Each missing word takes away as much as its place says; the second image lacks nothing.
        return (tokens == 0).float() @ torch.arange(1.0, 6) * torch.tensor([1.0, 0]) + torch.zeros(3, 16, 16, 1)

    monkeypatch.setattr(batch.model, "denoise", lambda *arguments: denoise(*arguments).permute(3, 0, 1, 2))
    assert sketches.words(torch.zeros(2, 3, 16, 16), batch.host, 0.6) == [-25, 0]
    assert [(tokens == 0).sum().item() for tokens in asked] == [0, 2, 2, 2, 2, 2]
    assert (batch.tokens != 0).all()


def test_sketches_of_images_of_other_lengths(sketches, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sketches, "LENGTHS", (3, 5))
    monkeypatch.setattr(sketches, "BESIDE", [(2, 3), (5, 5)])
    arguments = ["lengths", "--store", str(tmp_path), "--count", "2", "--models", "clutter-dit"]
    batch = sketches.Candidates("clutter-dit", 3.0, 20, 7, 2)
    (path,) = sketches.store_files(
        argparse.Namespace(seed=4_000_000, count=2, store=tmp_path, bfloat16=False), "lengths", "clutter-dit", 3.0, 20
    )
    results = sketches.lengths(batch)
    np.savez(path, **results)
    assert results["5 of 5, lengths"].shape == (2, 2)
    assert results["5 of 5, lengths"][:, 1] == pytest.approx(1)
    assert (results["2 of 3, lengths"] < 0.999).all()
    sketches.main([*arguments, "--processes", "0"])
    output = capsys.readouterr().out
    assert "| model | look | 3 steps | 5 steps |" in output
    assert "| clutter-dit, N = 2 | 5 of 5 |" in output
    assert output.rstrip().endswith("| 1.00, 1.00 |")

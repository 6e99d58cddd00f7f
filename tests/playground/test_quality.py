"""The arithmetic of `benchmarks/quality.py headline`."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest


@pytest.fixture(scope="module")
def quality(benchmark):
    return benchmark("quality")


def test_holm_multiplies_the_smallest_most_and_never_falls(quality):
    assert quality.holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert quality.holm([0.5, 0.6]) == [1.0, 1.0]
    assert quality.holm([]) == []


def test_right_and_wrong_are_compared_by_mcnemar(quality):
    difference = np.array([1.0] * 30 + [-1.0] * 12 + [0.0] * 100)
    assert quality.p_value(difference) == pytest.approx(math.erfc((30 - 12) / 42**0.5 / 2**0.5))
    assert quality.p_value(-difference) == quality.p_value(difference)
    assert quality.p_value(np.zeros(5)) == 1


def rows_of(**rows):
    """Rows of four images: right or not, and the evaluations they cost."""
    return {
        name.replace("_", " "): np.array([[right, right, right, cost] for right in rights], dtype=float)
        for name, (cost, rights) in rows.items()
    }


def test_the_control_is_the_mixture_that_costs_the_same(quality):
    rows = rows_of(plain=(0, [0, 0, 1, 1]), Row=(3, [1, 1, 1, 1]))
    rows |= {"24 steps": rows_of(x=(8, [1, 0, 1, 1]))["x"], "22 steps": rows_of(x=(4, [0, 1, 0, 1]))["x"]}
    assert quality.control(rows, "Row", quality.STEPS_ROW).tolist() == [0, 0.75, 0.25, 1]
    rows["Row"][:, 3] = 6
    assert quality.control(rows, "Row", quality.STEPS_ROW).tolist() == [0.5, 0.5, 0.5, 1]
    rows["Row"][:, 3] = 8
    assert quality.control(rows, "Row", quality.STEPS_ROW).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("cost", [0, 9])
def test_no_control_for_what_is_free_or_dearer_than_all(quality, cost):
    rows = rows_of(plain=(0, [0, 1]), Row=(cost, [1, 1]))
    rows["24 steps"] = rows_of(x=(8, [1, 0]))["x"]
    assert quality.control(rows, "Row", quality.STEPS_ROW) is None
    assert quality.control(rows, "24 steps", quality.STEPS_ROW) is None


def test_a_choice_is_held_against_finished_images_of_the_same_judge(quality):
    rows = rows_of(plain=(0, [0, 0]), CFG_5=(0, [0, 1]))
    for judge, right in (("model", [1, 0]), ("checker", [1, 1])):
        rows |= rows_of(**{f"Audition_of_4_x,_by_the_{judge}": (2, [1, 1])})
        rows |= rows_of(**{f"Best_of_2_finished,_by_the_{judge}": (2, right)})
    assert quality.against(rows, "Audition of 4 x, by the checker")["best of N"].tolist() == [0, 0]
    differences = quality.against(rows, "Audition of 4 x, by the model")
    assert {name: values.tolist() for name, values in differences.items()} == {
        "plain": [1, 1],
        "best of N": [0, 1],
        "CFG 5": [1, 0],
    }


def test_rows_of_one_batch(quality):
    batch = quality.Batch("few", 1.0, 4, 7, 2)
    for part in quality.HEADLINE:
        quality.PARTS[part](batch)
    rows = batch.rows
    assert {values.shape for values in rows.values()} == {(2, 4)}
    costs = {row: values[0, 3] for row, values in rows.items()}
    # Its look-ahead asks three times, the dearest audition eight; there is no CFG to change.
    assert {row: cost for row, cost in costs.items() if row.endswith(" steps")} == {"7 steps": 3, "12 steps": 8}
    assert not [row for row in rows if row.startswith("CFG")]
    assert costs["plain"] == costs["Erase, n = 4"] == 0
    # Four candidates, one of four steps each, and one question of the critic each.
    assert costs["Audition of 4 after 1 of 4 steps, by the model"] == 4 * 1 + 4
    assert costs["Audition of 4 after 1 of 4 steps, by the checker"] == 4 * 1
    assert costs["Best of 4 finished, by the checker"] == 3 * 4
    both = {row: values[:, 1] for row, values in rows.items()}
    assert (both["Best of 4 finished, by the checker"] >= both["Best of 2 finished, by the checker"]).all()
    assert (both["Best of 2 finished, by the checker"] >= both["plain"]).all()


def test_steps_that_cost_at_least_as_much(quality, monkeypatch):
    batch = quality.Batch("dit", 3.0, 20, 7, 1)
    monkeypatch.setattr(batch.model, "sample", lambda noise, *arguments: noise)
    batch.more_steps(5)
    assert batch.rows["23 steps"][0, 3] == 6


def store(quality, options, part, start, **rows):
    path = next(
        path for path, (first, _) in quality.store_files(options, part, "few", 1.0, 4).items() if first == start
    )
    np.savez(path, **{name.replace("_", " "): np.tile(row, (quality.BATCH, 1)) for name, row in rows.items()})


def test_what_is_in_the_store_is_not_made_again(quality, benchmark, tmp_path, capsys):
    options = argparse.Namespace(
        models=["few"],
        cfg=[3.0, 5.0],
        steps=[20],
        seed=100,
        count=192,
        store=tmp_path,
        processes=0,
        parts=quality.HEADLINE,
        bfloat16=False,
    )
    for start in (100, 164, 228):
        store(quality, options, "modulations", start, plain=[1.0, 0.0, 0.5, 0.0], better=[1.0, 1.0, 1.0, 3.0])
    # Of the rest there is a gap: only what lies before it counts.
    for start in (100, 228):
        store(quality, options, "others", start, CFG_5=[1.0, 1.0, 1.0, 0.0])
    quality.headline(options)
    output = capsys.readouterr().out
    assert "| better | 192 | 3 | **+1.000 [+1.000, +1.000]** | +0.000 [+0.000, +0.000] |" in output
    assert "| CFG 5 | 64 | 0 | **+1.000 [+1.000, +1.000]** |  |" in output
    kept = {(row["what"], row["against"]): row for row in benchmark("tables").read_printed(output)}
    assert kept["better", "plain"] | {"n": "192", "evaluations": "3", "value": "1.000", "bold": "yes"} == kept["better", "plain"]
    assert kept["better", "CFG 5"]["n"] == "192"
    assert kept["CFG 5", "plain"]["n"] == "64"
    assert kept["plain", ""]["value"] == "0.500", "the score, told last"
    options.processes, options.parts = 1, ["modulations"]
    quality.headline(options)
    assert "3/3" in capsys.readouterr().err


def test_weights_trained_again_and_another_precision_begin_anew(quality, tmp_path, monkeypatch):
    options = argparse.Namespace(seed=100, count=100, store=tmp_path, bfloat16=False)
    before = quality.store_files(options, "choices", "few", 1.0, 4)
    assert list(before.values()) == [(100, 64), (164, 36)]
    options.bfloat16 = True
    half = quality.store_files(options, "choices", "few", 1.0, 4)
    options.bfloat16 = False
    (tmp_path / "few.safetensors").write_bytes(b"trained again")
    monkeypatch.setattr(quality, "WEIGHTS", tmp_path)
    after = quality.store_files(options, "choices", "few", 1.0, 4)
    assert len({*before, *half, *after}) == 3 * len(before)


def test_a_distilled_model_is_sampled_once_as_it_was_distilled(quality):
    options = argparse.Namespace(models=["dit", "few"], cfg=[1.0, 3.0], steps=[20, 10])
    assert quality.model_settings(options) == [
        ("dit", 1.0, 20),
        ("dit", 1.0, 10),
        ("dit", 3.0, 20),
        ("dit", 3.0, 10),
        ("few", 1.0, 4),
    ]


@pytest.mark.parametrize(("cfg", "extra"), [(1.0, 20), (3.0, 0)])
def test_another_cfg_is_free_only_where_there_is_one_already(quality, monkeypatch, cfg, extra):
    batch = quality.Batch("dit", cfg, 20, 7, 1)
    monkeypatch.setattr(batch.model, "sample", lambda noise, *arguments: noise)
    batch.other_cfg(5.0)
    assert batch.rows["CFG 5"][0, 3] == extra


@pytest.mark.slow
def test_every_direction_and_what_others_do_cost_what_they_ask(quality):
    batch = quality.Batch("dit", 3.0, 2, 7, 1)
    quality.PARTS["directions"](batch)
    costs = {row: values[0, 3] for row, values in batch.rows.items()}
    assert len(costs) == 4 * 2 * 4
    assert costs["guidance, δ = 0.05, K = 3"] == costs["look-ahead, δ = 0.05, K = 3"] == 6
    assert costs["denoised, δ = 0.2, K = 3"] == costs["noise, δ = 0.2, K = 3"] == 3
    batch.rows = {}
    quality.PARTS["published"](batch)
    assert {row: values[0, 3] for row, values in batch.rows.items()} == {
        "ComfyUI node": 4,
        "Noise-level guidance, 3 iterations": 6,
        "Noise-level guidance, 10 iterations": 20,
        "Noise-level guidance, 20 iterations": 40,
        "Golden noise's re-denoising": 3,
    }
    few = quality.Batch("few", 1.0, 4, 7, 1)
    quality.PARTS["published"](few)
    assert {row: values[0, 3] for row, values in few.rows.items()} == {"ComfyUI node": 4}

"""The arithmetic of `benchmarks/quality.py headline`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "quality.py"


@pytest.fixture(scope="module")
def quality():
    spec = importlib.util.spec_from_file_location("quality", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_holm_multiplies_the_smallest_most_and_never_falls(quality):
    assert quality.holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert quality.holm([0.5, 0.6]) == [1.0, 1.0]
    assert quality.holm([]) == []


def test_a_row_is_held_against_the_steps_that_cost_as_much(quality):
    rows = {
        name: np.array([[1, 1, 1, extra]], dtype=float)
        for name, extra in {"plain": 0, "Erase": 0, "Look-ahead": 6, "21 steps": 2, "23 steps": 6}.items()
    }
    assert quality.control(rows, "Look-ahead") == "23 steps"
    for row in ("plain", "Erase", "21 steps"):
        assert quality.control(rows, row) is None
    assert quality.control({"plain": rows["plain"], "Look-ahead": rows["Look-ahead"]}, "Look-ahead") is None


def test_rows_of_one_batch(quality):
    rows = quality.headline_rows("few", 7, 2)
    assert {made.shape for made in rows.values()} == {(2, 4)}
    assert not [row for row in rows if row.endswith(" steps")], "it was distilled for its own number"
    costs = {row: made[0, 3] for row, made in rows.items()}
    assert costs["plain"] == costs["Erase, n = 4"] == 0
    # Three of four steps are walked before the level is below 0.75, by three candidates of four in vain.
    assert costs["Audition of 4, by the model"] == 3 * 3 + 4
    assert costs["Best of 4 finished, by the checker"] == 3 * 4
    both = {row: made[:, 1] for row, made in rows.items()}
    assert (both["Best of 8 finished, by the checker"] >= both["Best of 2 finished, by the checker"]).all()
    assert (both["Best of 2 finished, by the checker"] >= both["plain"]).all()


def test_what_is_in_the_store_is_not_made_again(quality, tmp_path, capsys):
    plain = np.tile([1.0, 0.0, 0.5, 0.0], (64, 1))
    better = np.tile([1.0, 1.0, 1.0, 3.0], (64, 1))
    np.savez(tmp_path / "few-100-64.npz", plain=plain, better=better)
    options = argparse.Namespace(models=["few"], seed=100, count=64, store=tmp_path, processes=1)
    quality.headline(options)
    told = capsys.readouterr()
    assert "| better | 3 | +0.000 [+0.000, +0.000] | **+1.000 [+1.000, +1.000]** |" in told.out
    assert "1/1" in told.err

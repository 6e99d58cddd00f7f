"""The benchmark of further erasures, on a tiny store."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import walk
from audition import Candidates

from lib_noiseorder.chain import Link
from lib_noiseorder.core import Modulation, modulate


def test_each_image_s_noise_is_its_own_chain():
    batch = Candidates("unet", 3.0, 20, 5, 3)
    noise = walk.noise_of(batch, np.array([0, 4, 0]), [Link(1.5)], [2, 0, 7])
    for k, (first, last) in enumerate([(0, 2), (4, 0), (0, 7)]):
        alone = Candidates("unet", 3.0, 20, 5 + k, 1).host
        settings = Modulation(erase=4.0, variant=first, chain=(Link(1.5, last),))
        assert torch.equal(noise[k : k + 1], modulate(alone.fresh_noise(alone.seeds), settings, alone)[0])


def test_tables(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(walk, "STEPS", 2)
    monkeypatch.setattr(walk, "SKETCH", (1, 2))
    monkeypatch.setattr(walk, "FARTHER", (1.2,))
    monkeypatch.setattr(walk, "BOXES", {"a quarter": walk.BOXES["a quarter"]})
    monkeypatch.setattr(walk, "LARGE", 3)
    monkeypatch.setattr(walk, "SMALL", 2)
    batch = Candidates("unet", 3.0, 2, 5, 2)
    far, sheets = walk.far(batch), walk.sheets(batch)
    assert all((np.abs(values) <= 1 + 1e-6).all() for values in far.values())
    assert (far["1.2"] > far["another seed"]).all()
    assert far["a quarter, 64"].shape == (2, 2)
    assert set(np.concatenate([*sheets.values()])) <= {0.0, 1.0}
    walk.tell_far({"unet": far})
    walk.tell_sheets({"unet": sheets}, 3.0)
    told = capsys.readouterr().out
    assert "| link | unet, N = 2 |" in told
    assert "one sheet of 3, against the first candidate" in told

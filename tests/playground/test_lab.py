"""`benchmarks/lab.py` on a folder with a world and two networks that are no models at all."""

from __future__ import annotations

import sys

import pytest
import torch

WORLD = """
import numpy as np
import torch

R = 8


def rand_spec(count, generator):
    return torch.randint(0, 4, (count, 5), generator=generator)


def encode(scenes):
    return scenes + 1


def score(images, scenes):
    assert images.shape == (len(scenes), 3, R, R)
    return np.array([[float(spec[0] == 0), 1.0, 0.5, 0, 0] for spec in scenes])
"""
NETWORKS = """
import torch


class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, time, tokens):
        return self.scale * x + tokens.float().mean(dim=1)[:, None, None, None] * time.float().mean()


class DiT(UNet):
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "px.py").write_text(WORLD)
    (tmp_path / "pxm.py").write_text(NETWORKS)
    for name in "AB":
        torch.save({"scale": torch.tensor(0.5, dtype=torch.float16)}, tmp_path / f"P{name}_fp16.pt")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("px", "pxm"):
        sys.modules.pop(name, None)


def test_a_folders_models_go_through_the_rows(benchmark, folder, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["lab.py", str(folder), "--count", "3", "--steps", "2", "--parts", "modulations", "corrections"]
    )
    benchmark("lab").main()
    output = capsys.readouterr().out
    for name in "AB":
        assert f"### {folder.name} {name}, 2 steps, CFG 3" in output
    assert output.count("| Self-correction, δ = 0.1 | 3 | 4 |") == 2


def test_seeds_and_schedule_are_the_projects(benchmark, folder):
    lab = benchmark("lab")
    for name, kind in lab.KINDS.items():
        batch = lab.LabBatch(lab.Folder(folder), name, 3.0, 2, 7, 2)
        noise = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(8))
        assert torch.equal(batch.seed_noise()[1], noise)
        assert batch.model.kind == kind
        x, sigma = batch.model.noise_scaling(batch.seed_noise(), batch.model.sigma_at(0.9)), batch.model.sigma_at(0.9)
        time = torch.tensor(0.9 if kind == "flow" else round(999 * 0.9))
        network_input = x if kind == "flow" else x / (1 + sigma**2) ** 0.5
        answer = 0.5 * network_input + batch.tokens.float().mean(dim=1)[:, None, None, None] * time
        torch.testing.assert_close(batch.model.denoise(x, sigma, batch.tokens), x - sigma * answer)

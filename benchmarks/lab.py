"""Rows of quality.py on models of another project, whose folder is told.

    python benchmarks/lab.py PATH [--count 384] [--seed 600000] [--parts modulations corrections others] [--models A B]

PATH holds one of two small worlds: two smooth shapes of 32 × 32 pixels (`data.py`, `models.py`, `lab.py`; relations are
at chance there, so only the objects count), or two sprites of 16 × 16 (`px.py`, `pxm.py`); in each an ε-UNet A and a
flow DiT B (`A_fp16.pt` or `PA_fp16.pt` and so on), and a checker that needs scipy. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from quality import BATCH, HEADLINE, PARTS, Batch, Rows, tell  # noqa: E402

from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise  # noqa: E402
from lib_noiseorder.playground.models import PlaygroundModel  # noqa: E402

KINDS = {"A": "epsilon", "B": "flow"}


class Folder:
    """A folder with one of the two worlds."""

    def __init__(self, path: Path) -> None:
        sys.path.insert(0, str(path))
        self.path, self.sprites = path, (path / "px.py").is_file()
        self.world, self.networks = (importlib.import_module(name) for name in self.modules)
        self.checker = self.world if self.sprites else importlib.import_module("lab")
        self.size: int = self.world.R

    @property
    def modules(self) -> Sequence[str]:
        return ("px", "pxm") if self.sprites else ("data", "models")

    def model(self, name: str) -> PlaygroundModel:
        network = (self.networks.UNet if name == "A" else self.networks.DiT)()
        prefix = "P" if self.sprites else ""
        network.load_state_dict(torch.load(self.path / f"{prefix}{name}_fp16.pt", weights_only=True))
        network.kind = KINDS[name]
        model = PlaygroundModel.__new__(PlaygroundModel)
        model.name, model.kind, model.has_uncond, model.evaluations = name, network.kind, True, 0
        model.network = network.float().eval().requires_grad_(False)
        return model

    def scenes(self, count: int, generator: torch.Generator) -> Tensor:
        return self.world.rand_spec(count, generator, *(() if self.sprites else (0.0, 0.0)))

    def check(self, images: Tensor, scenes: Tensor) -> list[Any]:
        scores = self.checker.score(images, scenes)
        objects, both, score = (scores[:, column] for column in ((1, 0, 2) if self.sprites else (7, 7, 1)))
        rows = zip(objects > 0, both > 0, score, strict=True)
        return [SimpleNamespace(objects=o, both=b, score=s) for o, b, s in rows]


class Host(PlaygroundDenoiser):
    size = 16

    def fresh_noise(self, seeds: Sequence[int]) -> Tensor:
        return seed_noise(seeds, self.size)


class LabBatch(Batch):
    """As quality.Batch, of a folder's model."""

    def __init__(self, folder: Folder, name: str, cfg: float, steps: int, seed: int, count: int) -> None:
        self.folder, self.model = folder, folder.model(name)
        self.cfg, self.steps, self.distilled, self.per_step = cfg, steps, None, 1 if cfg == 1 else 2
        self.scenes = folder.scenes(count, torch.Generator().manual_seed(seed))
        self.seeds = range(seed, seed + count)
        self.tokens = folder.world.encode(self.scenes)
        self.uncond = torch.zeros_like(self.tokens)
        self.host = self.new_host()
        self.rows: Rows = {}

    def new_host(self) -> PlaygroundDenoiser:
        host = Host(self.model, self.seeds, self.tokens, self.uncond, self.cfg)
        host.size = self.folder.size
        return host

    def check(self, images: Tensor) -> list[Any]:
        return self.folder.check(images, self.scenes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=384)
    parser.add_argument("--seed", type=int, default=600_000)
    parser.add_argument("--models", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=HEADLINE)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Folder(options.path.resolve())
    tables = {}
    for name in options.models:
        batches: list[Rows] = []
        for start in range(0, options.count, BATCH):
            count = min(BATCH, options.count - start)
            batch = LabBatch(folder, name, options.cfg, options.steps, options.seed + start, count)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
                for part in options.parts:
                    PARTS[part](batch)
            batches.append(batch.rows)
        title = f"{options.path.name} {name}, {options.steps} steps, CFG {options.cfg:g}"
        tables[title] = {row: np.concatenate([rows[row] for rows in batches]) for row in batches[0]}
    tell(tables)


if __name__ == "__main__":
    main()

"""How far a further erasure goes, what a box keeps, and whether two small sheets bring as much as a large one.

    python benchmarks/walk.py [--count 256] [--seed 4300000] [--models unet dit] [--cfg 3]

Images have 20 steps. Each prompt has a chosen noise (Erase n = 4, variant 0). Far: the correlation of the image after
one more link of n, everywhere or inside a box, with the image of the chosen noise; beside it that of another seed.
Sheets: the sketch that the checker likes best is made as an image, of nine (n = 4) or of five (n = 4) and then of four
around the winner (n = 1.5) and the winner itself; beside it the first candidate. Prints Markdown tables. Keeps what it
has made in --store and goes on there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from audition import Candidates, correlation, per_step  # noqa: E402
from quality import Rows, interval, join_files, keep, make, paired_differences, store_files  # noqa: E402
from sketches import SKETCH, STEPS, look  # noqa: E402

from lib_noiseorder.chain import Link  # noqa: E402
from lib_noiseorder.core import Modulation, modulate  # noqa: E402
from lib_noiseorder.core.erasure import box_mask  # noqa: E402
from lib_noiseorder.playground.models import MODELS  # noqa: E402

FARTHER = (1.2, 1.5, 2.0, 4.0)
BOXES = {
    "a sixteenth": (0.5, 0.5, 0.75, 0.75),
    "a quarter": (0.5, 0.5, 1.0, 1.0),
    "a half": (0.5, 0.0, 1.0, 1.0),
}
INSIDE = (4.0, 64.0)
LARGE, SMALL, NEAR = 9, 5, 1.5


def noise_of(batch: Candidates, first: np.ndarray, chain: Sequence[Link] = (), last: Sequence[int] = ()) -> Tensor:
    """The noise of Erase 4 and a chain; first: each image's variant of Erase; last: of its last link."""
    noise = batch.host.fresh_noise(batch.seeds)
    made = noise.clone()
    for variant in np.unique(first):
        settings = Modulation(erase=4.0, variant=int(variant), chain=tuple(chain))
        of_all, _ = modulate(noise, settings, batch.host, variants=list(last))
        made[torch.tensor(first == variant)] = of_all[torch.tensor(first == variant)]
    return made


def finish(batch: Candidates, noise: Tensor) -> Tensor:
    return batch.model.sample(noise, batch.tokens, batch.uncond, batch.cfg, STEPS)


def far(batch: Candidates) -> Rows:
    """Correlations with the chosen image, (n,); of boxes outside and inside, (n, 2)."""
    zero = np.zeros(len(batch.seeds), int)
    chosen = finish(batch, noise_of(batch, zero))
    rows: Rows = {}
    for n in FARTHER:
        rows[f"{n:g}"] = correlation(finish(batch, noise_of(batch, zero, [Link(n, 1)])), chosen).float().numpy()
    other = finish(batch, batch.host.fresh_noise([seed + 50_000_000 for seed in batch.seeds]))
    rows["another seed"] = correlation(other, chosen).float().numpy()
    for name, box in BOXES.items():
        inside = box_mask(box, chosen) > 0.5
        for n in INSIDE:
            image = finish(batch, noise_of(batch, zero, [Link(n, 1, box)]))
            rows[f"{name}, {n:g}"] = parts(image, chosen, inside)
        rows[f"{name}, another seed"] = parts(other, chosen, inside)
    return rows


def parts(image: Tensor, chosen: Tensor, inside: Tensor) -> np.ndarray:
    return np.stack([correlation(image[..., part], chosen[..., part]).float().numpy() for part in (~inside, inside)], 1)


def sheets(batch: Candidates) -> Rows:
    """Both right, of the first candidate and of the winners of the two ways, (n,)."""

    def liked(noise: Tensor) -> np.ndarray:
        shown = look(batch, noise, SKETCH[1], [SKETCH[0]])[SKETCH]
        return np.array([check.both + check.score for check in batch.check(shown)])

    zero, rows = np.zeros(len(batch.seeds), int), np.arange(len(batch.seeds))
    first = np.stack([liked(noise_of(batch, zero + variant)) for variant in range(LARGE)], axis=1)
    winner, near = first[:, :SMALL].argmax(axis=1), [Link(NEAR)]
    around = [liked(noise_of(batch, winner, near, zero + variant)) for variant in range(LARGE - SMALL)]
    second = np.stack([first[rows, winner], *around], axis=1).argmax(axis=1)
    nearer = noise_of(batch, winner, near, (second - 1).clip(0))
    kept = torch.tensor(second == 0)[:, None, None, None]
    images = {
        "first": noise_of(batch, zero),
        f"one sheet of {LARGE}": noise_of(batch, first.argmax(axis=1)),
        f"{SMALL}, then {LARGE - SMALL} around the winner": torch.where(kept, noise_of(batch, winner), nearer),
    }
    return {
        name: np.array([check.both for check in batch.check(finish(batch, noise))], float)
        for name, noise in images.items()
    }


PARTS: dict[str, Callable[[Candidates], Rows]] = {"far": far, "sheets": sheets}


def make_part(part: str, name: str, cfg: float, steps: int, seed: int, count: int, half: bool, path: Path) -> None:
    """Make one part of one batch of prompts and write it, in a process of its own."""
    torch.set_num_threads(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        keep(path, PARTS[part](Candidates(name, cfg, steps, seed, count)))


def tell_far(results: dict[str, Rows]) -> None:
    print("\n### How far a link goes: correlation with the chosen image, mean ± 95 %\n")
    print(f"| link | {' | '.join(heads(results))} |")
    print("|---" * (len(results) + 1) + "|")
    for key in (*(f"{n:g}" for n in FARTHER), "another seed"):
        what = key if key == "another seed" else f"n = {key}"
        print(f"| {what} | {' | '.join(mean(rows[key]) for rows in results.values())} |")
    print("\n### What a box keeps: correlation outside / inside\n")
    print(f"| box, n | {' | '.join(heads(results))} |\n{'|---' * (len(results) + 1)}|")
    for key in (f"{name}, {n}" for name in BOXES for n in (*(f"{each:g}" for each in INSIDE), "another seed")):
        cells = [f"{rows[key][:, 0].mean():.2f} / {rows[key][:, 1].mean():.2f}" for rows in results.values()]
        print(f"| {key} | {' | '.join(cells)} |")


def heads(results: dict[str, Rows]) -> list[str]:
    return [f"{name}, N = {len(next(iter(rows.values())))}" for name, rows in results.items()]


def mean(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ± {1.96 * values.std() / len(values) ** 0.5:.2f}"


def tell_sheets(results: dict[str, Rows], cfg: float) -> None:
    evaluations = LARGE * SKETCH[0] * per_step(cfg)
    print(f"\n### One sheet or two, chosen by the checker: Δ both ({evaluations} evaluations in either)\n")
    print(f"| | {' | '.join(heads(results))} |")
    print("|---" * (len(results) + 1) + "|")
    one, two = (name for name in next(iter(results.values())) if name != "first")
    for name, against in ((one, "first"), (two, "first"), (two, one)):
        cells = [interval(paired_differences(rows[name], rows[against]), bold=False) for rows in results.values()]
        print(f"| {name}, against the {'first candidate' if against == 'first' else against} | {' | '.join(cells)} |")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=4_300_000)
    parser.add_argument("--cfg", type=float, default=3.0)
    ordinary = [name for name, about in MODELS.items() if not about.distilled]
    parser.add_argument("--models", nargs="+", choices=ordinary, default=ordinary)
    parser.add_argument("--processes", type=int, default=2, help="0 tells what the store has")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    parser.add_argument("--store", type=Path, default=Path("results/walk"))
    options = parser.parse_args(arguments)
    files = {
        (part, name): store_files(options, part, name, options.cfg, STEPS) for part in PARTS for name in options.models
    }
    if options.processes:
        tasks = {
            path: (*which, options.cfg, STEPS, *batch, options.bfloat16, path)
            for which, paths in files.items()
            for path, batch in paths.items()
        }
        make(make_part, dict(sorted(tasks.items(), key=lambda task: task[1][4])), options.processes)
    results = {part: {name: join_files(files[part, name]) for name in options.models} for part in PARTS}
    tell_far({name: rows for name, rows in results["far"].items() if rows})
    tell_sheets({name: rows for name, rows in results["sheets"].items() if rows}, options.cfg)


if __name__ == "__main__":
    main()

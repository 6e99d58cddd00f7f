"""What Noise Order does to the pictures of the playground's models, against the exact checkers.

    python benchmarks/quality.py [--count 512] [--seed 5000] [--models unet dit] [--cfg 1 1.5 3]
    python benchmarks/quality.py headline [--count 1024] [--seed 400000] [--models ...] [--processes 2]

Every variant is made with the same prompts and the same seeds as the plain row and compared picture by picture; the
intervals are 95 % bootstrap intervals of the paired difference. Prints Markdown tables. The headline is about normal
sampling (20 steps, CFG 3; a distilled model its own) and puts beside each row what the same evaluations bring
elsewhere; it keeps what it has made in --store and goes on there.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import Report, modulate
from lib_noiseorder.core.streams import stream_seed
from lib_noiseorder.playground.host import PlaygroundHost, seed_noise
from lib_noiseorder.playground.models import MODELS, PlaygroundModel
from lib_noiseorder.playground.world import CheckResult
from lib_noiseorder.presets import PRESETS

BATCH = 64
INJECT = NoiseOrderConfig(enabled=True, erase=1.0)
VARIANTS: dict[str, NoiseOrderConfig] = {
    "Default: erase n = 4, guidance δ = 0.05": PRESETS["Default"],
    "Erase only, n = 4": PRESETS["Erase only"],
    "Guidance, δ = 0.05, t = 0.9": INJECT,
    "Guidance, δ = −0.05, t = 0.9": INJECT.replace(inject=-0.05),
    "Guidance, δ = 0.2, t = 0.9": INJECT.replace(inject=0.2),
    "Denoised, δ = 0.05, t = 0.9": INJECT.replace(direction="denoised"),
    "Look-ahead, δ = 0.08, t = 1, 0.9, 0.8": PRESETS["Look-ahead"],
    "Paper, as printed (n = 4, K = 3, δ = 0.1)": PRESETS["Paper, as printed"],
}
COLUMNS = ("objects", "both", "score")


def run(
    model: PlaygroundModel, config: NoiseOrderConfig, count: int, seed: int, cfg: float, steps: int
) -> tuple[np.ndarray, list[Report]]:
    """Scores (count, 3) of one variant: objects right, objects and relation right, continuous."""
    world = model.world
    scenes = world.random_scenes(count, torch.Generator().manual_seed(seed))
    scores, reports = [], []
    for start in range(0, count, BATCH):
        part = scenes[start : start + BATCH]
        seeds = range(seed + start, seed + start + len(part))
        tokens, uncond = world.encode(part), world.null_tokens(len(part))
        noise, report = modulate(seed_noise(seeds), config, PlaygroundHost(model, seeds, tokens, uncond, cfg))
        reports.append(report)
        found = world.check(model.sample(noise, tokens, uncond, cfg, steps), part)
        scores += [(result.objects, result.both, result.score) for result in found]
    return np.array(scores, dtype=float), reports


def interval(difference: np.ndarray, resamples: int = 4000) -> str:
    """Mean paired difference with its 95 % bootstrap interval; bold where the interval leaves out 0."""
    generator = np.random.default_rng(0)
    means = difference[generator.integers(0, len(difference), (resamples, len(difference)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    text = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


HEADLINE_STEPS, HEADLINE_CFG = 20, 3.0
PREVIEW = 0.75
CRITIC = 0.6
AUDITIONS = (2, 4, 8)
MODULATIONS = {
    "Erase, n = 4": PRESETS["Erase only"],
    "Inject: guidance δ = 0.05, t = 0.9": PRESETS["Inject only"],
    "Look-ahead, δ = 0.08": PRESETS["Look-ahead"],
}


def critic(model: PlaygroundModel, denoised: Tensor, tokens: Tensor, seeds: range) -> Tensor:
    """-mean (x0' - x0)^2 per image: x0' is what the prompt alone makes of x0 and fresh noise at CRITIC."""
    noise = seed_noise([stream_seed(seed, 1, stage="critic") for seed in seeds])
    sigma = model.sigma_at(CRITIC)
    x = (1 - sigma) * denoised + sigma * noise if model.kind == "flow" else denoised + sigma * noise
    return -(model.denoise(x, sigma, tokens) - denoised).square().mean((1, 2, 3))


def headline_rows(name: str, seed: int, count: int) -> dict[str, np.ndarray]:
    """Per row (count, 4): objects right, objects and relation right, score, evaluations beyond the plain picture."""
    model = PlaygroundModel.load(name)
    world, distilled = model.world, MODELS[name].distilled
    steps, cfg = (distilled, 1.0) if distilled else (HEADLINE_STEPS, HEADLINE_CFG)
    per_step = 2 if model.has_uncond else 1
    scenes = world.random_scenes(count, torch.Generator().manual_seed(seed))
    seeds = range(seed, seed + count)
    tokens, uncond = world.encode(scenes), world.null_tokens(count)
    rows: dict[str, np.ndarray] = {}

    def tell(row: str, found: list[CheckResult], extra: int) -> None:
        rows[row] = np.array([(each.objects, each.both, each.score, extra) for each in found], dtype=float)

    def more_steps(extra: int) -> None:
        taken = steps + extra // per_step
        row = f"{taken} steps"
        if not distilled and row not in rows:
            images = model.sample(seed_noise(seeds), tokens, uncond, cfg, taken)
            tell(row, world.check(images, scenes), extra)

    for row, config in MODULATIONS.items():
        noise, report = modulate(seed_noise(seeds), config, PlaygroundHost(model, seeds, tokens, uncond, cfg))
        tell(row, world.check(model.sample(noise, tokens, uncond, cfg, steps), scenes), report.evaluations)
        if report.evaluations:
            more_steps(report.evaluations)

    # The first candidate is the seed's own noise; every one is finished, so that any choice can be told.
    before = next(step for step in range(steps) if 1 - step / steps < PREVIEW)
    previews, finished = [], []
    for k in range(max(AUDITIONS)):
        noise = seed_noise([stream_seed(each, 1, variant=k) for each in seeds] if k else seeds)
        seen: list[Tensor] = []
        finished.append(
            model.sample(noise, tokens, uncond, cfg, steps, lambda step, total, x0, seen=seen: seen.append(x0))
        )
        previews.append(seen[before])
    judged = [world.check(images, scenes) for images in finished]
    eye = torch.tensor([[each.both + each.score for each in world.check(x0, scenes)] for x0 in previews])
    model_eye = torch.stack([critic(model, x0, tokens, seeds) for x0 in previews])
    last_eye = torch.stack([critic(model, images, tokens, seeds) for images in finished])
    oracle = torch.tensor([[each.both + each.score for each in found] for found in judged])

    def choose(row: str, scores: Tensor, extra: int) -> None:
        chosen = scores.argmax(0).tolist()
        tell(row, [judged[k][image] for image, k in enumerate(chosen)], extra)

    tell("plain", judged[0], 0)
    for candidates in AUDITIONS:
        walk = (candidates - 1) * (before + 1) * per_step
        drawn = torch.rand(candidates, count, generator=torch.Generator().manual_seed(seed))
        choose(f"Audition of {candidates}, by lot", drawn, walk)
        choose(f"Audition of {candidates}, by the model", model_eye[:candidates], walk + candidates)
        choose(f"Audition of {candidates}, by the checker", eye[:candidates], walk)
        more_steps(walk + candidates)
        choose(
            f"Best of {candidates} finished, by the model",
            last_eye[:candidates],
            (candidates - 1) * steps * per_step + candidates,
        )
        choose(
            f"Best of {candidates} finished, by the checker", oracle[:candidates], (candidates - 1) * steps * per_step
        )
    return rows


def made_rows(name: str, seed: int, count: int, path: Path) -> Path:
    """Make the rows of one batch of prompts and write them, in a process of its own."""
    torch.set_num_threads(1)
    rows = headline_rows(name, seed, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, **rows)
    temporary.replace(path)
    return path


def bar(done: int, total: int, began: float, earlier: int) -> None:
    """One line of progress on the terminal, with what is left by the pace since the start."""
    filled = 40 * done // max(total, 1)
    left = (time.monotonic() - began) / max(done - earlier, 1) * (total - done)
    print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{total}, {left / 60:.0f} min left ", end="", file=sys.stderr)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction: the k-th smallest of m times m - k + 1, never falling."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def p_value(difference: np.ndarray) -> float:
    """Two-sided, by the normal distribution of the mean."""
    error = difference.std(ddof=1) / len(difference) ** 0.5
    return math.erfc(abs(difference.mean()) / error / 2**0.5) if error else float(difference.mean() == 0)


def control(rows: dict[str, np.ndarray], row: str) -> str | None:
    """The row of more steps that costs most nearly the same; None for what costs nothing or is one itself."""
    more = {name: abs(made[0, 3] - rows[row][0, 3]) for name, made in rows.items() if name.endswith(" steps")}
    return min(more, key=more.__getitem__) if more and row not in more and rows[row][0, 3] else None


def headline(options: argparse.Namespace) -> None:
    """Make what is not in the store yet, then print a table per model."""
    tasks = {
        options.store / f"{name}-{start}-{BATCH}.npz": (name, start, min(BATCH, options.seed + options.count - start))
        for name in options.models
        for start in range(options.seed, options.seed + options.count, BATCH)
    }
    missing = [path for path in tasks if not path.exists()]
    began, earlier = time.monotonic(), len(tasks) - len(missing)
    bar(earlier, len(tasks), began, earlier)
    with ProcessPoolExecutor(options.processes) as pool:
        for done, _ in enumerate(as_completed([pool.submit(made_rows, *tasks[path], path) for path in missing]), 1):
            bar(earlier + done, len(tasks), began, earlier)
    print(file=sys.stderr)

    tables: dict[str, dict[str, np.ndarray]] = {}
    for name in options.models:
        parts = [np.load(path) for path, (model, _, _) in tasks.items() if model == name]
        tables[name] = {row: np.concatenate([part[row] for part in parts]) for row in parts[0].files}
    compared = [
        (name, row, rows[row][:, 1] - rows["plain"][:, 1])
        for name, rows in tables.items()
        for row in rows
        if row != "plain"
    ]
    corrected = holm([p_value(difference) for _, _, difference in compared])
    for name, rows in tables.items():
        objects, both, score, _ = rows["plain"].mean(axis=0)
        few = MODELS[name].distilled
        print(f"\n### {name}, {few or HEADLINE_STEPS} steps, CFG {1 if few else 3}, N = {len(rows['plain'])}\n")
        print(f"Plain: objects {objects:.3f}, both {both:.3f}, score {score:.3f}\n")
        print("| row | extra evaluations | Δ objects | Δ both | p (Holm) | Δ both against more steps |")
        print("|---|---|---|---|---|---|")
        for (model, row, difference), p in zip(compared, corrected, strict=True):
            if model == name:
                extra = f"{rows[row][0, 3]:.0f}"
                cells = [row, extra, interval(rows[row][:, 0] - rows["plain"][:, 0]), interval(difference), f"{p:.2g}"]
                steps = control(rows, row)
                cells.append(f"{steps}: {interval(rows[row][:, 1] - rows[steps][:, 1])}" if steps else "")
                print(f"| {' | '.join(cells)} |")


def variants(options: argparse.Namespace) -> None:
    """A table of every variant, per model and CFG scale."""
    for name in options.models:
        model = PlaygroundModel.load(name)
        for cfg in options.cfg:
            began = time.monotonic()
            arguments = (options.count, options.seed, cfg, options.steps)
            plain, _ = run(model, NoiseOrderConfig(), *arguments)
            means = ", ".join(
                f"{column} {value:.3f}" for column, value in zip(COLUMNS, plain.mean(axis=0), strict=True)
            )
            print(f"\n### {name}, CFG {cfg:g}, {options.steps} steps, N = {options.count}\n\nPlain: {means}\n")
            print("| variant | extra evaluations | Δ objects | Δ objects and relation | Δ score | noise std | cosine |")
            print("|---|---|---|---|---|---|---|")
            for variant, config in VARIANTS.items():
                scores, reports = run(model, config, *arguments)
                cells = [interval(scores[:, column] - plain[:, column]) for column in range(3)]
                std = np.mean([value for report in reports for value in report.std_after])
                cosine = np.mean([value for report in reports for value in report.cosine])
                row = [variant, str(reports[0].evaluations), *cells, f"{std:.3f}", f"{cosine:.3f}"]
                print(f"| {' | '.join(row)} |", flush=True)
            print(f"\n({time.monotonic() - began:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="variants", choices=["variants", "headline"])
    parser.add_argument("--count", type=int, help="prompts: 512, headline 1024")
    parser.add_argument("--seed", type=int, help="of the first prompt: 5000, headline 400000")
    parser.add_argument("--steps", type=int, default=10, help="variants only")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="unet dit, headline all")
    parser.add_argument("--cfg", nargs="+", type=float, default=[1.0, 1.5, 3.0], help="variants only")
    parser.add_argument("--processes", type=int, default=2, help="headline only")
    parser.add_argument("--store", type=Path, default=Path("results/headline"), help="headline only")
    options = parser.parse_args()
    whole = options.part == "headline"
    options.count = options.count or (1024 if whole else 512)
    options.seed = options.seed or (400_000 if whole else 5000)
    options.models = options.models or (list(MODELS) if whole else ["unet", "dit"])
    (headline if whole else variants)(options)


if __name__ == "__main__":
    main()

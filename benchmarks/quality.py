"""What Noise Order does to the pictures of the playground's models, against the exact checker.

    python benchmarks/quality.py [--count 512] [--seed 5000] [--models unet dit] [--cfg 1 1.5 3]

Every variant is made with the same prompts and the same seeds as the plain row and compared picture by picture; the
intervals are 95 % bootstrap intervals of the paired difference. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.core import Report, modulate
from lib_noiseorder.playground.host import PlaygroundHost, seed_noise
from lib_noiseorder.playground.models import PlaygroundModel
from lib_noiseorder.playground.scenes import check, encode, null_tokens, random_scenes
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
    scenes = random_scenes(count, torch.Generator().manual_seed(seed))
    scores, reports = [], []
    for start in range(0, count, BATCH):
        part = scenes[start : start + BATCH]
        seeds = range(seed + start, seed + start + len(part))
        tokens, uncond = encode(part), null_tokens(len(part))
        noise, report = modulate(seed_noise(seeds), config, PlaygroundHost(model, seeds, tokens, uncond, cfg))
        reports.append(report)
        found = check(model.sample(noise, tokens, uncond, cfg, steps), part)
        scores += [(result.objects, result.both, result.score) for result in found]
    return np.array(scores, dtype=float), reports


def interval(difference: np.ndarray, resamples: int = 4000) -> str:
    """Mean paired difference with its 95 % bootstrap interval; bold where the interval leaves out 0."""
    generator = np.random.default_rng(0)
    means = difference[generator.integers(0, len(difference), (resamples, len(difference)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    text = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--models", nargs="+", default=["unet", "dit"])
    parser.add_argument("--cfg", nargs="+", type=float, default=[1.0, 1.5, 3.0])
    options = parser.parse_args()
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


if __name__ == "__main__":
    main()

"""What choosing noises by their previews brings on the playground's models, and the same cost spent elsewhere.

    python benchmarks/audition.py [--count 256] [--seed 9000] [--models unet dit] [--cfg 3] [--steps 20]

Each prompt has eight candidates (Erase n = 4, nothing injected, variants 0 to 7); those of M are the first M. Every row
is compared prompt by prompt with the first candidate, which is a picture as it comes. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from quality import interval  # noqa: E402

from lib_noiseorder.config import NoiseOrderConfig  # noqa: E402
from lib_noiseorder.core import modulate, self_consistency  # noqa: E402
from lib_noiseorder.core.schedule import DEPTH, first_below  # noqa: E402
from lib_noiseorder.playground.host import PlaygroundHost, seed_noise  # noqa: E402
from lib_noiseorder.playground.models import PlaygroundModel  # noqa: E402

BATCH, MOST = 64, 8
DEPTHS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)


def candidate(model, scenes, seed, variant, cfg, steps, at, judged):
    """One candidate of every prompt: its finished pictures and its x̂0 after each number of steps in `at`, what the
    checker says of each, and what the critic says after each in `judged`."""
    parts = []
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        seeds = range(seed + start, seed + start + len(part))
        tokens, uncond = model.world.encode(part), model.world.null_tokens(len(part))
        host = PlaygroundHost(model, seeds, tokens, uncond, cfg)
        noise, _ = modulate(seed_noise(seeds), NoiseOrderConfig(True, inject=0.0, variant=variant), host)
        seen = {}

        def keep(step, total, denoised, seen=seen):
            if step + 1 in at:
                seen[step + 1] = denoised

        seen[steps] = model.sample(noise, tokens, uncond, cfg, steps, keep)
        parts.append(
            {
                k: (
                    x,
                    [each.both for each in model.world.check(x, part)],
                    self_consistency(x, host) if k in judged else [],
                )
                for k, x in seen.items()
            }
        )
    return {
        k: (
            torch.cat([part[k][0] for part in parts]),
            np.array([each for part in parts for each in part[k][1]], dtype=float),
            np.array([each for part in parts for each in part[k][2]]),
        )
        for k in parts[0]
    }


def correlation(preview: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Of each image's pixels."""
    a, b = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (preview, picture))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))


def picked(found: list[np.ndarray], by: list[np.ndarray]) -> np.ndarray:
    """What was found in the picture of each prompt's highest; of equal ones the first."""
    return np.choose(np.argmax(np.stack(by), axis=0), np.stack(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--models", nargs="+", default=["unet", "dit"])
    options = parser.parse_args()
    steps, cfg = options.steps, options.cfg
    positions = [1 - step / steps for step in range(steps)]
    depths = {depth: first_below(positions, depth) for depth in DEPTHS}
    for name in options.models:
        model, began = PlaygroundModel.load(name), time.monotonic()
        scenes = model.world.random_scenes(options.count, torch.Generator().manual_seed(options.seed))
        arguments = (model, scenes, options.seed)
        k = depths[DEPTH]
        at = set(depths.values())
        found = [candidate(*arguments, v, cfg, steps, at, at | {steps}) for v in range(MOST)]
        plain = found[0][steps][1]
        print(f"\n### {name}, CFG {cfg:g}, {steps} steps, N = {options.count}\n")
        print(f"As it comes: objects and relation right {plain.mean():.3f}\n")
        print("| preview at | steps | correlation with the finished picture: median, lowest tenth |", end="")
        print(" Δ of 4, picked by the checker | Δ of 4, by the critic |\n|---|---|---|---|---|")
        for depth, at in depths.items():
            values = torch.cat([correlation(each[at][0], each[steps][0]) for each in found])
            picks = [picked([e[steps][1] for e in found[:4]], [e[at][by] for e in found[:4]]) for by in (1, 2)]
            gains = " | ".join(interval(each - plain) for each in picks)
            print(f"| {depth:g} | {at} | {values.median():.2f}, {values.quantile(0.1):.2f} | {gains} |")
        print("\n| M | picked by | evaluations | Δ objects and relation |\n|---|---|---|---|")

        def row(count: object, how: str, cost: int, values: np.ndarray, plain: np.ndarray = plain) -> None:
            print(f"| {count} | {how} | {cost} | {interval(values - plain)} |", flush=True)

        for count in (2, 4, 8):
            some = found[:count]
            whole = [each[steps][1] for each in some]
            previews = 2 * k * count
            row(count, "nobody (the last candidate)", 2 * steps, whole[-1])
            row(count, "the checker, on the preview", previews + 2 * steps, picked(whole, [e[k][1] for e in some]))
            # The winner is made from its beginning, as a generation of its own.
            cost = previews + count + 2 * steps
            row(count, "the critic, on the preview", cost, picked(whole, [e[k][2] for e in some]))
            row(count, "the checker, on the finished pictures", 2 * steps * count, np.max(whole, axis=0))
            same = max(cost // (2 * steps + 1), 1)
            few = found[:same]
            judged = picked([e[steps][1] for e in few], [e[steps][2] for e in few])
            row(f"{same}, same cost", "the critic, on finished pictures", same * (2 * steps + 1), judged)
            row(
                f"{same}, same cost",
                "the checker, on finished pictures",
                same * 2 * steps,
                np.max([e[steps][1] for e in few], axis=0),
            )
            if count == 4:
                more = candidate(*arguments, 0, cfg, cost // 2, set(), set())[cost // 2][1]
                row("1, same cost", f"{cost // 2} steps instead of {steps}", cost // 2 * 2, more)
        print(f"\n({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

"""Score the playground's networks on fresh prompts: python -m lib_noiseorder.playground.evaluate unet dit."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .models import NETWORKS, PlaygroundModel
from .scenes import CHANNELS, SIZE, CheckResult, check, encode, null_tokens, random_scenes

CFG_SCALES = (1.0, 1.5, 3.0)


def evaluate(
    model: PlaygroundModel, count: int, seed: int, cfg_scale: float, steps: int = 10, batch: int = 64
) -> list[CheckResult]:
    """Sample `count` random prompts with noise of their own and check every image."""
    generator = torch.Generator().manual_seed(seed)
    scenes = random_scenes(count, generator)
    noise = torch.randn(count, CHANNELS, SIZE, SIZE, generator=generator)
    results: list[CheckResult] = []
    for start in range(0, count, batch):
        part = scenes[start : start + batch]
        uncond = null_tokens(len(part))
        images = model.sample(noise[start : start + batch], encode(part), uncond, cfg_scale, steps)
        results += check(images, part)
    return results


def table_row(results: list[CheckResult]) -> str:
    """Shares of images with objects, relation and both right, and the mean score."""
    rows = [(result.objects, result.relation, result.both, result.score) for result in results]
    return "  ".join(f"{sum(column) / len(rows):9.3f}" for column in zip(*rows, strict=True))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help="unet, dit (default both)")
    parser.add_argument("--weights", type=Path, help="weights file instead of the shipped one")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--seed", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cfg", type=float, nargs="+", default=CFG_SCALES)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.count} prompts, {args.steps} steps")
    print("model   CFG    objects   relation       both      score")
    for name in args.names:
        model = PlaygroundModel.load(name, args.weights)
        for cfg_scale in args.cfg:
            results = evaluate(model, args.count, args.seed, cfg_scale, args.steps)
            print(f"{name:5}  {cfg_scale:4.1f}  {table_row(results)}", flush=True)


if __name__ == "__main__":
    main()

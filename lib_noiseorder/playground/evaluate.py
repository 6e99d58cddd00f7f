"""Score the playground's models on fresh prompts: python -m lib_noiseorder.playground.evaluate unet dit."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .models import MODELS, PlaygroundModel
from .world import CHANNELS, SIZE, CheckResult

CFG_SCALES = (1.0, 1.5, 3.0)


def evaluate(
    model: PlaygroundModel, count: int, seed: int, cfg_scale: float, steps: int = 10, batch: int = 64
) -> list[CheckResult]:
    """Sample `count` random prompts with noise of their own and check every image."""
    generator = torch.Generator().manual_seed(seed)
    world = model.world
    scenes = world.random_scenes(count, generator)
    noise = torch.randn(count, CHANNELS, SIZE, SIZE, generator=generator)
    results: list[CheckResult] = []
    for start in range(0, count, batch):
        part = scenes[start : start + batch]
        uncond = world.null_tokens(len(part))
        images = model.sample(noise[start : start + batch], world.encode(part), uncond, cfg_scale, steps)
        results += world.check(images, part)
    return results


def spread(model: PlaygroundModel, prompts: int, seeds: int, seed: int, cfg_scale: float, steps: int) -> torch.Tensor:
    """Per prompt, (prompts,), the mean rms distance between the images of so many seeds."""
    generator = torch.Generator().manual_seed(seed)
    scenes = model.world.random_scenes(prompts, generator)
    noises = torch.randn(prompts, seeds, CHANNELS, SIZE, SIZE, generator=generator)
    uncond = model.world.null_tokens(seeds)
    distances = []
    for scene, noise in zip(scenes, noises, strict=True):
        images = model.sample(noise, model.world.encode([scene] * seeds), uncond, cfg_scale, steps).flatten(1)
        distances.append(torch.pdist(images).mean() / images.shape[1] ** 0.5)
    return torch.stack(distances)


def table_row(results: list[CheckResult]) -> str:
    """Shares of images with objects, relation and both right, and the mean score."""
    rows = [(result.objects, result.relation, result.both, result.score) for result in results]
    return "  ".join(f"{sum(column) / len(rows):9.3f}" for column in zip(*rows, strict=True))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MODELS), help="models, default all")
    parser.add_argument("--weights", type=Path, help="weights file instead of the shipped one")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--seed", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=10, help="of a distilled model always its own")
    parser.add_argument("--cfg", type=float, nargs="+", default=CFG_SCALES, help="of a distilled model always 1")
    parser.add_argument("--spread", type=int, default=0, help="also tell how far so many seeds of a prompt differ")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.count} prompts")
    print("model         steps   CFG    objects   relation       both      score")
    for name in args.names:
        model = PlaygroundModel.load(name, args.weights)
        distilled = MODELS[name].distilled
        steps = distilled or args.steps
        for cfg_scale in [1.0] if distilled else args.cfg:
            results = evaluate(model, args.count, args.seed, cfg_scale, steps)
            spread_text = ""
            if args.spread:
                distances = spread(model, args.count, args.spread, args.seed, cfg_scale, steps)
                half = 1.96 * distances.std() / args.count**0.5
                spread_text = f"   spread of {args.spread} seeds {distances.mean():.3f} ± {half:.3f}"
            print(f"{name:12}  {steps:5}  {cfg_scale:4.1f}  {table_row(results)}{spread_text}", flush=True)


if __name__ == "__main__":
    main()

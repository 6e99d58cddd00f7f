"""How far the images of one prompt differ, by what is done to their noises, and whether they stay right.

    python benchmarks/variety.py [--prompts 192] [--seed 700000] [--models few dit]

Every prompt gets four noises. Spread is the mean rms distance between its four images; every row is compared with four
independent seeds, prompt by prompt. A distilled model runs as it was distilled, the others with 8 steps and CFG 3.
Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from quality import interval  # noqa: E402

from lib_noiseorder.core.erasure import erase  # noqa: E402
from lib_noiseorder.core.injection import inject  # noqa: E402
from lib_noiseorder.core.streams import derive_seed  # noqa: E402
from lib_noiseorder.playground.models import MODELS, PlaygroundModel  # noqa: E402
from lib_noiseorder.playground.world import CHANNELS, SIZE  # noqa: E402

K = 4
STEPS, CFG = 8, 3.0
BATCH = 16
LOW = 3
"""Low frequencies are those of up to so many waves per image, in each direction."""


def simplex(noise: Tensor) -> Tensor:
    """`z_i = √(K/(K−1)) (g_i − ḡ)`: each N(0, I), pairwise correlation −1/(K−1). (prompts, K, ...)"""
    return (K / (K - 1)) ** 0.5 * (noise - noise.mean(dim=1, keepdim=True))


def low(noise: Tensor) -> Tensor:
    """Its low frequencies; an orthogonal projection."""
    waves = (torch.fft.fftfreq(SIZE) * SIZE).abs() <= LOW
    return torch.fft.ifft2(torch.fft.fft2(noise) * (waves[:, None] & waves)).real


def opposite(noise: Tensor) -> Tensor:
    """`z, −z` in pairs."""
    half = noise[:, : K // 2]
    return torch.cat([half, -half], dim=1)


def empty_first(noise: Tensor, model: PlaygroundModel, delta: float) -> Tensor:
    """Turned toward what the model sees in the noise without a prompt; one evaluation."""
    flat = noise.flatten(0, 1)
    sigma = model.sigma_at(0.9)
    denoised = model.denoise(model.noise_scaling(flat, sigma), sigma, model.world.null_tokens(len(flat)))
    return inject(flat, [denoised], [1.0], delta).view_as(noise)


def rows(noise: Tensor, draw: Callable[[int], Tensor], model: PlaygroundModel) -> dict[str, Tensor]:
    """What becomes of independent noises (prompts, K, ...); draw(i), i = 2, 3, ..., is as many fresh ones."""
    first = noise[:, :1].expand_as(noise)
    results = {
        "independent seeds": noise,
        "Erase, n = 4": erase(noise, 4.0, draw),
        "z and −z": opposite(noise),
        f"pairwise correlation −1/{K - 1}": simplex(noise),
        f"low frequencies alone: pairwise correlation −1/{K - 1}": noise - low(noise) + low(simplex(noise)),
        "low frequencies alone: z and −z": noise - low(noise) + low(opposite(noise)),
        "variants of one seed, Erase n = 4": erase(first, 4.0, draw),
        "the same, mirrored": erase(first, 4.0, lambda index: opposite(draw(index))),
    }
    if model.has_uncond:
        results["toward the empty prompt, δ = 0.1"] = empty_first(noise, model, 0.1)
        results["toward the empty prompt, δ = 0.2"] = empty_first(noise, model, 0.2)
    return results


def measure(model: PlaygroundModel, seed: int, count: int, steps: int, cfg: float) -> dict[str, np.ndarray]:
    """Per row (count, 2): of each prompt the spread of its images and the share of right ones."""
    world = model.world
    scenes = world.random_scenes(count, torch.Generator().manual_seed(seed))

    def draw(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(seed, index))
        return torch.randn(count, K, CHANNELS, SIZE, SIZE, generator=generator)

    repeated = [scene for scene in scenes for _ in range(K)]
    tokens, uncond = world.encode(repeated), world.null_tokens(len(repeated))
    results = {}
    for row, noise in rows(draw(1), draw, model).items():
        images = model.sample(noise.flatten(0, 1), tokens, uncond, cfg, steps)
        right = np.reshape([each.both for each in world.check(images, repeated)], (count, K))
        spread = [torch.pdist(some).mean() / some.shape[1] ** 0.5 for some in images.flatten(1).split(K)]
        results[row] = np.stack([np.array(spread), right.mean(axis=1)], axis=1)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--seed", type=int, default=700_000)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["few", "dit"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        model, distilled = PlaygroundModel.load(name), MODELS[name].distilled
        steps, cfg = (distilled, 1.0) if distilled else (STEPS, CFG)
        parts = [
            measure(model, options.seed + start, min(BATCH, options.prompts - start), steps, cfg)
            for start in range(0, options.prompts, BATCH)
        ]
        results = {row: np.concatenate([part[row] for part in parts]) for row in parts[0]}
        plain = results.pop("independent seeds")
        mean, right = plain.mean(axis=0)
        print(f"\n### {name}, {steps} steps, CFG {cfg:g}, {options.prompts} prompts × {K} noises\n")
        print(f"Independent seeds: spread {mean:.3f}, right {right:.3f}\n")
        print("| noises | Δ spread, share of the independent seeds' | Δ right |\n|---|---|---|")
        for row, values in results.items():
            spread, rightness = (values - plain).T
            print(f"| {row} | {interval(spread / mean)} | {interval(rightness)} |", flush=True)


if __name__ == "__main__":
    main()

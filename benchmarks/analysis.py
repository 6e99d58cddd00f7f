"""What the initial noise and the levels of the schedule carry on the playground's models: the paper's analysis again.

    python benchmarks/analysis.py [--prompts 192] [--seed 800000] [--models unet dit] [--cfg 3] [--steps 20]

Three tables, each per model: what images of one noise share when their prompts differ; how the seed's layout decays
with Erase n; at which levels of the schedule a prediction on pure noise carries the prompt. Intervals are 95 %
bootstrap intervals over the prompts. A distilled model runs as it was distilled. Prints Markdown tables.
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

from quality import BATCH, interval  # noqa: E402
from variety import low  # noqa: E402

from lib_noiseorder.core.erasure import erase  # noqa: E402
from lib_noiseorder.core.streams import derive_seed  # noqa: E402
from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise  # noqa: E402
from lib_noiseorder.playground.models import MODELS, PlaygroundModel  # noqa: E402

ERASE = (2, 4, 8, 16, 64)
LEVELS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3)
PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "all pixels": lambda images: images,
    "low frequencies": low,
    "high frequencies": lambda images: images - low(images),
    "brightness": lambda images: images.mean(dim=(1, 2, 3), keepdim=True),
}
"""Of images that have had their mean over all prompts taken away."""


def likeness(images: Tensor, others: Tensor) -> np.ndarray:
    """`2 ⟨a, b⟩ / (⟨a, a⟩ + ⟨b, b⟩)`, the mean over all pairs below: each pair's part of their correlation, (N,)."""
    a, b = images.flatten(1).double(), others.flatten(1).double()
    size = (a.square().sum(dim=1) + b.square().sum(dim=1)).mean() / 2
    return ((a * b).sum(dim=1) / size).numpy()


def cosine(a: Tensor, b: Tensor) -> np.ndarray:
    """Per image, (N,)."""
    return torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double()).numpy()


class Images:
    """The images of one model, of prompts and seeds that go on from batch to batch."""

    def __init__(self, name: str, prompts: int, seed: int, cfg: float, steps: int) -> None:
        self.model = PlaygroundModel.load(name)
        few = MODELS[name].distilled
        self.cfg, self.steps = (1.0, few) if few else (cfg, steps)
        world = self.model.world
        self.seeds = range(seed, seed + prompts)
        scenes = world.random_scenes(prompts, torch.Generator().manual_seed(seed))
        self.tokens, self.uncond = world.encode(scenes), world.null_tokens(prompts)
        self.noise = seed_noise(self.seeds)
        self.own = self.make(self.noise, self.tokens)

    def make(self, noise: Tensor, tokens: Tensor) -> Tensor:
        batches = zip(noise.split(BATCH), tokens.split(BATCH), self.uncond.split(BATCH), strict=True)
        return torch.cat([self.model.sample(z, cond, uncond, self.cfg, self.steps) for z, cond, uncond in batches])

    def erased(self, n: float) -> Tensor:
        return erase(self.noise, n, lambda index: seed_noise([derive_seed(seed, index) for seed in self.seeds]))

    def prediction(self, fraction: float) -> Tensor:
        """What the prompt changes in x̂0 at this level of pure noise; of a distilled model x̂0 itself."""
        host = PlaygroundDenoiser(self.model, self.seeds, self.tokens, self.uncond, self.cfg)
        level = host.level(fraction)
        cond, uncond = host.denoise(host.noise_scaling(self.noise, level), level, self.model.has_uncond)
        return cond if uncond is None else cond - uncond


def row(name: str, *cells: np.ndarray) -> None:
    print(f"| {' | '.join([name, *(interval(cell, bold=False) for cell in cells)])} |", flush=True)


def across_prompts(images: Images) -> None:
    """Pairs of one noise and two prompts, of one prompt and two noises, and of neither."""
    swapped = images.make(images.noise, images.tokens.roll(1, 0))
    mean = torch.cat([images.own, swapped]).mean(dim=0)
    own, other = images.own - mean, swapped - mean
    print("\n| correlation of images that share | the noise, not the prompt | the prompt, not the noise | neither |")
    print("|---|---|---|---|")
    for name, part in PARTS.items():
        a, b = part(own), part(other)
        row(name, likeness(a, b), likeness(a, b.roll(-1, 0)), likeness(a, b.roll(2, 0)))


def decay(images: Images) -> None:
    """The seed's layout: likeness of the erased noise's image to the seed's own, of the same prompt."""
    floor = images.make(images.noise.roll(1, 0), images.tokens)
    mean = torch.cat([images.own, floor]).mean(dim=0)
    print("\n| Erase n | correlation of the noises, 1/√n | of the images, all pixels | low frequencies |")
    print("|---|---|---|---|")
    erased_images = {str(n): images.make(images.erased(n), images.tokens) for n in ERASE}
    for n, others in (erased_images | {"another seed": floor}).items():
        a, b = images.own - mean, others - mean
        noises = f"{float(n) ** -0.5:.2f}" if n in erased_images else "0"
        row(f"{n} | {noises}", likeness(a, b), likeness(low(a), low(b)))


def carried(images: Images) -> None:
    """Cosine of what the prompt changes in a prediction on pure noise with the finished image."""
    shown = images.own - images.own.mean(dim=0)
    print("\n| level | cosine of the prompt's part of x̂0 with its image | with the image of another prompt and noise |")
    print("|---|---|---|")
    for fraction in LEVELS:
        part = images.prediction(fraction)
        row(f"{fraction:g}", cosine(part, shown), cosine(part, shown.roll(1, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--seed", type=int, default=800_000)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        images = Images(name, options.prompts, options.seed, options.cfg, options.steps)
        print(f"\n### {name}, {images.steps} steps, CFG {images.cfg:g}, {options.prompts} prompts")
        for table in (across_prompts, decay, carried):
            table(images)


if __name__ == "__main__":
    main()

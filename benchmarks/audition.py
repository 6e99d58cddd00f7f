"""What choosing noises by their previews brings on the playground's models, and what the chooser sees.

    python benchmarks/audition.py [--count 256] [--seed 9000] [--models unet dit] [--cfg 3] [--steps 20]

Each prompt has eight candidates (Erase n = 4, nothing injected, variants 0 to 7); those of M are the first M. Every row
is compared prompt by prompt with the first candidate, which is an image as it comes, and stands beside what the same
evaluations bring as finished images or as more steps. Prints Markdown tables: what choosing brings, what a preview
shows, and which failures the model's own judgement sees. Keeps what it has made in --store and goes on there.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from quality import Rows, interval, join_files, keep, make, store_files, tell  # noqa: E402

from lib_noiseorder.core import Modulation, modulate, self_consistency  # noqa: E402
from lib_noiseorder.core.schedule import DEPTH, first_below  # noqa: E402
from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise  # noqa: E402
from lib_noiseorder.playground.models import MODELS, PlaygroundModel  # noqa: E402
from lib_noiseorder.playground.sprites import COLOUR_NAMES  # noqa: E402
from lib_noiseorder.playground.world import CheckResult, World  # noqa: E402

MOST, COUNTS = 8, (2, 4, 8)
DEPTHS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
OBJECT = re.compile(rf"({'|'.join(COLOUR_NAMES)}) (\w+)")
KINDS = {1: "artefact", 2: "wrong or missing object", 3: "both of these", 4: "wrong relation or ground"}


def kind(result: CheckResult, scene: Any, world: World) -> int:
    """What is wrong with an image, a key of KINDS; 0 for a right one. An artefact is a colour that forms no object; of
    relation or ground only an image with the right objects is told."""
    expected = dict(OBJECT.findall(world.caption(scene)))
    there = dict(OBJECT.findall(result.words.partition(";")[0]))
    artefact = "blob" in there.values()
    named = {colour: sprite for colour, sprite in there.items() if sprite != "blob"}
    missing = expected.keys() - there.keys()
    other = any(expected.get(colour) != sprite for colour, sprite in named.items())
    return artefact + 2 * bool(missing or other) or 4 * (not result.both)


def per_step(cfg: float) -> int:
    """Evaluations."""
    return 1 if cfg == 1 else 2


def correlation(preview: Tensor, image: Tensor) -> Tensor:
    """Of each image's pixels."""
    a, b = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (preview, image))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))


def preview_steps(steps: int) -> dict[float, int]:
    """Per depth the steps to its preview."""
    return {depth: first_below([1 - step / steps for step in range(steps)], depth) for depth in DEPTHS}


def longer(cfg: float, steps: int) -> list[int]:
    """As many steps as the previews of so many candidates, but for two, and the critic pay for."""
    each = per_step(cfg)
    return [steps + math.ceil(count * (each * preview_steps(steps)[DEPTH] + 1) / each) for count in COUNTS[1:]]


class Candidates:
    """The candidates of one batch of prompts."""

    def __init__(self, name: str, cfg: float, steps: int, seed: int, count: int) -> None:
        self.model, self.cfg, self.steps = PlaygroundModel.load(name), cfg, steps
        self.world = self.model.world
        self.scenes = self.world.random_scenes(count, torch.Generator().manual_seed(seed))
        self.seeds = range(seed, seed + count)
        self.tokens, self.uncond = self.world.encode(self.scenes), self.world.null_tokens(count)
        self.host = PlaygroundDenoiser(self.model, self.seeds, self.tokens, self.uncond, cfg)

    def image(self, variant: int, steps: int, predictions: dict[int, Tensor] | None = None) -> Tensor:
        """One candidate; its x̂0 after so many steps into `predictions`, where that is asked for."""
        noise, _ = modulate(seed_noise(self.seeds), Modulation(erase=4.0, variant=variant), self.host)

        def watch(step: int, total: int, denoised: Tensor) -> None:
            if predictions is not None:
                predictions[step + 1] = denoised

        return self.model.sample(noise, self.tokens, self.uncond, self.cfg, steps, watch)

    def check(self, images: Tensor) -> list[CheckResult]:
        return self.world.check(images, self.scenes)


def candidates(batch: Candidates) -> Rows:
    """What was found, per prompt, candidate and depth; at the last depth in the finished image."""
    results: dict[str, list[Any]] = {"found": [], "kind": [], "seen": [], "score": [], "correlation": []}
    at = [*preview_steps(batch.steps).values(), batch.steps]
    for variant in range(MOST):
        predictions: dict[int, Tensor] = {}
        image = predictions[batch.steps] = batch.image(variant, batch.steps, predictions)
        checks = [batch.check(predictions[k]) for k in at]
        results["found"].append([(each.objects, each.both, each.score) for each in checks[-1]])
        kinds = [kind(*pair, batch.world) for pair in zip(checks[-1], batch.scenes, strict=True)]
        results["kind"].append(kinds)
        results["seen"].append(np.transpose([[each.both for each in row] for row in checks]))
        results["score"].append(np.transpose([self_consistency(predictions[k], batch.host) for k in at]))
        results["correlation"].append(torch.stack([correlation(predictions[k], image) for k in at], 1).float().numpy())
    return {key: np.stack(each, axis=1).astype(float) for key, each in results.items()}


def more_steps(batch: Candidates) -> Rows:
    """The first candidate with more steps, per prompt."""
    results = {f"{steps} steps": batch.check(batch.image(0, steps)) for steps in longer(batch.cfg, batch.steps)}
    return {row: np.array([(each.objects, each.both, each.score) for each in some]) for row, some in results.items()}


PARTS: dict[str, Callable[[Candidates], Rows]] = {"candidates": candidates, "more": more_steps}
"""What is made, and kept, together."""


def make_part(part: str, name: str, cfg: float, steps: int, seed: int, count: int, half: bool, path: Path) -> None:
    """Make one part of one batch of prompts and write it, in a process of its own."""
    torch.set_num_threads(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        keep(path, PARTS[part](Candidates(name, cfg, steps, seed, count)))


def pick(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each prompt's value of the candidate that stands highest, (n, M, ...) -> (n, ...); of equal ones the first."""
    return values[np.arange(len(values)), by.argmax(axis=1)]


def rows_of(results: Rows, cfg: float, steps: int) -> Rows:
    """The rows of one model as `quality.tell` has them, from what was found."""
    k, finished, each = preview_steps(steps)[DEPTH], results["found"], per_step(cfg)
    level = DEPTHS.index(DEPTH)
    rows = {}

    def row(name: str, values: np.ndarray, extra: int) -> None:
        rows[name] = np.column_stack([values, np.full(len(values), extra)])

    row("plain", finished[:, 0], 0)
    for count in COUNTS:
        some, walk = finished[:, :count], count * k * each
        name = f"Audition of {count} after {k} of {steps} steps"
        row(f"Any of {count}, the last one", some[:, -1], 0)
        # The winner is made from its beginning, as a generation of its own.
        row(f"{name}, by the checker", pick(some, results["seen"][:, :count, level]), walk)
        row(f"{name}, by the model", pick(some, results["score"][:, :count, level]), walk + count)
    for count in range(2, 5):
        some, more = finished[:, :count], (count - 1) * steps * each
        row(f"Best of {count} finished, by the checker", pick(some, some[..., 1]), more)
        row(f"Best of {count} finished, by the model", pick(some, results["score"][:, :count, -1]), more + count)
    for more in (steps for steps in longer(cfg, steps) if f"{steps} steps" in results):
        row(f"{more} steps", results[f"{more} steps"], (more - steps) * each)
    return rows


def previews(results: Rows, steps: int) -> None:
    """Print how like its image a preview is, and what choosing among four by it brings."""
    right = results["found"][..., 1]
    print("\n| preview at | steps | correlation with the finished image: median, lowest tenth |", end="")
    print(" Δ of 4, picked by the checker | Δ of 4, by the critic |\n|---|---|---|---|---|")
    for index, (depth, at) in enumerate(preview_steps(steps).items()):
        like = results["correlation"][:, :, index]
        picks = [pick(right[:, :4], results[by][:, :4, index]) for by in ("seen", "score")]
        gains = " | ".join(interval(each - right[:, 0]) for each in picks)
        print(f"| {depth:g} | {at} | {np.median(like):.2f}, {np.quantile(like, 0.1):.2f} | {gains} |")


def auc(score: np.ndarray, right: np.ndarray, failed: np.ndarray) -> str:
    """How often, of a right and a failed candidate of the same prompt, the right one stands higher; equal ones count
    half. With its 95 % bootstrap interval over the prompts. All (n, M)."""
    higher = np.sign(score[:, :, None] - score[:, None, :]) / 2 + 0.5
    pairs = right[:, :, None] * failed[:, None, :]
    wins, total = (higher * pairs).sum(axis=(1, 2)), pairs.sum(axis=(1, 2))
    has_pairs = total > 0
    if has_pairs.sum() < 2:
        return ""
    wins, total = wins[has_pairs], total[has_pairs]
    samples = np.random.default_rng(0).integers(0, len(wins), (4000, len(wins)))
    low, high = np.percentile(wins[samples].sum(axis=1) / total[samples].sum(axis=1), [2.5, 97.5])
    return f"{wins.sum() / total.sum():.2f} [{low:.2f}, {high:.2f}], {has_pairs.sum()} prompts"


def failures(results: Rows) -> None:
    """Print how the critic ranks each kind of failure, and how often each comes before and after choosing."""
    kinds, level = results["kind"], DEPTHS.index(DEPTH)
    heads = ["failure", "share of all candidates", "critic on the preview, AUC", "critic on the finished image, AUC"]
    heads += ["Δ of 4, by the critic", "Δ of 4, by the checker, on the preview"]
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for number, name in KINDS.items():
        failed = kinds == number
        ranked = [auc(results["score"][..., index], kinds == 0, failed) for index in (level, -1)]
        some = failed[:, :4].astype(float)
        changes = [pick(some, results[by][:, :4, level]) - some[:, 0] for by in ("score", "seen")]
        print(f"| {' | '.join([name, f'{failed.mean():.3f}', *ranked, *map(interval, changes)])} |")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=3.0)
    ordinary = [name for name, about in MODELS.items() if not about.distilled]
    parser.add_argument("--models", nargs="+", choices=ordinary, default=ordinary)
    parser.add_argument("--processes", type=int, default=2, help="0 tells what the store has")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    parser.add_argument("--store", type=Path, default=Path("results/audition"))
    options = parser.parse_args(arguments)
    files = {
        (part, name): store_files(options, part, name, options.cfg, options.steps)
        for part in PARTS
        for name in options.models
    }
    if options.processes:
        tasks = {
            path: (*which, options.cfg, options.steps, *batch, options.bfloat16, path)
            for which, paths in files.items()
            for path, batch in paths.items()
        }
        # The same prompts of every model first.
        tasks = dict(sorted(tasks.items(), key=lambda item: item[1][4]))
        make(make_part, tasks, options.processes)
    all_results = {
        name: {key: results for part in PARTS for key, results in join_files(files[part, name]).items()}
        for name in options.models
    }
    all_results = {name: results for name, results in all_results.items() if "found" in results}
    title = "{}, {} steps, CFG {:g}"
    tell(
        {
            title.format(name, options.steps, options.cfg): rows_of(results, options.cfg, options.steps)
            for name, results in all_results.items()
        }
    )
    for name, results in all_results.items():
        print(f"\n### {name}: what a preview shows, and what the critic sees, N = {len(results['kind'])}")
        previews(results, options.steps)
        failures(results)


if __name__ == "__main__":
    main()

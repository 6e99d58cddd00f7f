"""What Noise Order does to the pictures of the playground's models, against the exact checkers.

    python benchmarks/quality.py [--count 512] [--seed 5000] [--models unet dit] [--cfg 1 1.5 3]
    python benchmarks/quality.py headline [--count 1024] [--seed 600000] [--models ...] [--cfg 3] [--steps 20]

Every variant is made with the same prompts and the same seeds as the plain row and compared picture by picture; the
intervals are 95 % bootstrap intervals of the paired difference. Prints Markdown tables. The headline is about normal
sampling (a distilled model as it was distilled) and puts beside each row what the same evaluations bring elsewhere; it
keeps what it has made in --store, can be stopped at any time, and goes on there; `tables.py keep` keeps what it prints.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import pairwise, product, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from ideas import CRITICS, IDEAS  # noqa: E402
from peers import node, noise_level_guidance, redenoise  # noqa: E402

from lib_noiseorder.config import (  # noqa: E402
    NoiseOrderConfig,
)
from lib_noiseorder.core import Report, modulate, self_consistency  # noqa: E402
from lib_noiseorder.core.schedule import DEPTH, first_below  # noqa: E402
from lib_noiseorder.modulation import modulation  # noqa: E402
from lib_noiseorder.names import (  # noqa: E402
    DENOISED,
    GUIDANCE,
    LOOK_AHEAD,
    NOISE,
)
from lib_noiseorder.playground.host import PlaygroundDenoiser, seed_noise  # noqa: E402
from lib_noiseorder.playground.models import MODELS, WEIGHTS, PlaygroundModel  # noqa: E402
from lib_noiseorder.playground.world import CheckResult  # noqa: E402
from lib_noiseorder.presets import PRESETS, TWO_STEP  # noqa: E402

BATCH = 64
INJECT = PRESETS["Inject only"]
VARIANTS: dict[str, NoiseOrderConfig] = {
    "Erase and inject: n = 4, guidance δ = 0.05": PRESETS[TWO_STEP],
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
        noise, report = modulate(
            seed_noise(seeds), modulation(config), PlaygroundDenoiser(model, seeds, tokens, uncond, cfg)
        )
        reports.append(report)
        results = world.check(model.sample(noise, tokens, uncond, cfg, steps), part)
        scores += [(result.objects, result.both, result.score) for result in results]
    return np.array(scores, dtype=float), reports


def interval(difference: np.ndarray, bold: bool | None = None, resamples: int = 4000) -> str:
    """Mean paired difference with its 95 % bootstrap interval; bold where it leaves out 0, if nothing else is said."""
    generator = np.random.default_rng(0)
    means = difference[generator.integers(0, len(difference), (resamples, len(difference)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    text = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if (low > 0 or high < 0 if bold is None else bold) else text


CANDIDATES = 4
DEPTHS = tuple(sorted({0.9, DEPTH}, reverse=True))
Rows = dict[str, np.ndarray]
"""Per row (count, 4): objects right, objects and relation right, score, evaluations beyond the plain image."""


class Batch:
    """The same prompts and seeds for every row of one model."""

    def __init__(self, name: str, cfg: float, steps: int, seed: int, count: int) -> None:
        self.model = PlaygroundModel.load(name)
        self.world = self.model.world
        self.cfg, self.steps = cfg, steps
        self.distilled = MODELS[name].distilled
        self.per_step = 1 if cfg == 1 else 2
        self.scenes = self.world.random_scenes(count, torch.Generator().manual_seed(seed))
        self.seeds = range(seed, seed + count)
        self.tokens, self.uncond = self.world.encode(self.scenes), self.world.null_tokens(count)
        self.host = self.new_host()
        self.rows: Rows = {}

    def new_host(self) -> PlaygroundDenoiser:
        return PlaygroundDenoiser(self.model, self.seeds, self.tokens, self.uncond, self.cfg)

    def seed_noise(self) -> Tensor:
        return self.host.fresh_noise(self.seeds)

    def noise(self, config: NoiseOrderConfig) -> tuple[Tensor, int]:
        """The modulated noise and the evaluations it took."""
        noise, report = modulate(self.seed_noise(), modulation(config), self.new_host())
        return noise, report.evaluations

    def check(self, images: Tensor) -> list[CheckResult]:
        return self.world.check(images, self.scenes)

    def tell(self, row: str, results: list[CheckResult], extra: int) -> None:
        self.rows[row] = np.array([(each.objects, each.both, each.score, extra) for each in results], dtype=float)

    def add_modulated(self, row: str, config: NoiseOrderConfig) -> None:
        noise, extra = self.noise(config)
        self.tell(row, self.check(self.model.sample(noise, self.tokens, self.uncond, self.cfg, self.steps)), extra)

    def add_changed(self, row: str, change: Callable[[Tensor, PlaygroundDenoiser], Tensor]) -> None:
        """Noise that was changed in another way than ours."""
        host = self.new_host()
        noise = change(self.seed_noise(), host)
        extra = host.evaluations
        self.tell(row, self.check(self.model.sample(noise, self.tokens, self.uncond, self.cfg, self.steps)), extra)

    def more_steps(self, extra: float) -> None:
        """Such evaluations spent on steps, the last one whole."""
        steps = self.steps + math.ceil(extra / self.per_step)
        images = self.model.sample(self.seed_noise(), self.tokens, self.uncond, self.cfg, steps)
        self.tell(f"{steps} steps", self.check(images), (steps - self.steps) * self.per_step)

    def other_cfg(self, cfg: float) -> None:
        if self.distilled or cfg == self.cfg:
            return
        images = self.model.sample(self.seed_noise(), self.tokens, self.uncond, cfg, self.steps)
        self.tell(f"CFG {cfg:g}", self.check(images), (2 - self.per_step) * self.steps)

    def preview_steps(self, depth: float) -> int:
        """Steps to the preview at this depth; a few-step model is looked at after its first."""
        return 1 if self.distilled else first_below([1 - step / self.steps for step in range(self.steps)], depth)


def modulations(batch: Batch) -> None:
    batch.add_modulated("plain", NoiseOrderConfig())
    batch.add_modulated("Erase and inject: n = 4, guidance δ = 0.05", PRESETS[TWO_STEP])
    row = "Look-ahead, δ = 0.08"
    batch.add_modulated(row, PRESETS["Look-ahead"])
    batch.more_steps(batch.rows[row][0, 3])


class Candidates:
    """The seed's own noise and erased variants of it, all finished, so that any choice can be told.

    previews: per number of steps, the x̂0 of every candidate.
    """

    def __init__(self, batch: Batch, depths: Sequence[float]) -> None:
        self.batch = batch
        self.previews: dict[int, list[Tensor]] = {batch.preview_steps(depth): [] for depth in depths}
        self.finished: list[Tensor] = []

        def keep(step: int, total: int, denoised: Tensor) -> None:
            if step + 1 in self.previews:
                self.previews[step + 1].append(denoised)

        for k in range(CANDIDATES):
            noise, _ = batch.noise(PRESETS["Erase only"].replace(variant=k) if k else NoiseOrderConfig())
            self.finished.append(batch.model.sample(noise, batch.tokens, batch.uncond, batch.cfg, batch.steps, keep))
        self.results = [batch.check(images) for images in self.finished]

    def choose(self, row: str, by: Callable[[Tensor], Sequence[float]], seen: list[Tensor], extra: int) -> None:
        """A row of the candidates that stand highest by what is seen of them."""
        best = np.argmax([by(images) for images in seen], axis=0)
        self.batch.tell(row, [self.results[k][image] for image, k in enumerate(best)], extra)

    def auditions(self) -> Iterable[tuple[str, list[Tensor], int]]:
        """Of each depth: a row's name, the previews, their evaluations. The winner is made from its beginning, as a
        generation of its own."""
        for steps, seen in self.previews.items():
            name = f"Audition of {CANDIDATES} after {steps} of {self.batch.steps} steps"
            yield name, seen, CANDIDATES * steps * self.batch.per_step


def choices(batch: Batch) -> None:
    candidates = Candidates(batch, DEPTHS)
    batch.tell("Erase, n = 4", candidates.results[1], 0)

    def critic(images: Tensor) -> Sequence[float]:
        return self_consistency(images, batch.host)

    def eye(images: Tensor) -> Sequence[float]:
        return [each.both + each.score for each in batch.check(images)]

    for name, seen, walk in candidates.auditions():
        candidates.choose(f"{name}, by the model", critic, seen, walk + CANDIDATES)
        candidates.choose(f"{name}, by the checker", eye, seen, walk)
    for count in range(2, CANDIDATES + 1):
        more = (count - 1) * batch.steps * batch.per_step
        finished = candidates.finished[:count]
        candidates.choose(f"Best of {count} finished, by the model", critic, finished, more + count)
        candidates.choose(f"Best of {count} finished, by the checker", eye, finished, more)
    batch.more_steps(CANDIDATES * (batch.preview_steps(min(DEPTHS)) * batch.per_step + 1))


def critics(batch: Batch) -> None:
    """The same auditions, judged by the model in other ways."""
    candidates = Candidates(batch, [min(DEPTHS)])
    for judge, (critic, cost) in CRITICS.items():
        for name, seen, walk in candidates.auditions():
            row = f"{name}, {judge}, by the model"
            candidates.choose(row, partial(critic, host=batch.host), seen, walk + CANDIDATES * cost)


def others(batch: Batch) -> None:
    batch.add_modulated("Inject only: guidance δ = 0.05", PRESETS["Inject only"])
    batch.add_modulated("Paper, as printed", PRESETS["Paper, as printed"])
    batch.other_cfg(1.5)
    batch.other_cfg(5.0)


def corrections(batch: Batch) -> None:
    batch.add_modulated("Self-correction, δ = 0.1", PRESETS["Self-correction"])


def ideas(batch: Batch) -> None:
    """What lost, or was not tried further."""
    for row, idea in IDEAS.items():
        batch.add_changed(row, idea)


def directions(batch: Batch) -> None:
    """Every direction, δ and K, nothing erased."""
    for direction in (GUIDANCE, DENOISED, NOISE, LOOK_AHEAD):
        for levels in (2, 3) if direction == LOOK_AHEAD else (1, 3):
            for delta in (0.02, 0.05, 0.1, 0.2):
                config = INJECT.replace(direction=direction, levels=levels, inject=delta)
                if direction == LOOK_AHEAD:
                    config = config.replace(first_level=1.0, last_level=0.8)
                batch.add_modulated(f"{direction}, δ = {delta:g}, K = {levels}", config)


def peer_methods(batch: Batch) -> None:
    """What others do to the noise; most of it needs the model without a prompt."""
    batch.add_changed("ComfyUI node", partial(node, steps=batch.steps))
    if not batch.distilled:
        for iterations in (3, 10, 20):
            row = f"Noise-level guidance, {iterations} iterations"
            batch.add_changed(row, partial(noise_level_guidance, iterations=iterations))
        batch.add_changed("Golden noise's re-denoising", partial(redenoise, steps=batch.steps))


PARTS: dict[str, Callable[[Batch], None]] = {
    "modulations": modulations,
    "others": others,
    "choices": choices,
    "corrections": corrections,
    "ideas": ideas,
    "critics": critics,
    "directions": directions,
    "published": peer_methods,
}
"""What is made, and kept, together; the first holds the plain row."""
HEADLINE = ["modulations", "corrections", "others", "choices"]


def make_part(part: str, name: str, cfg: float, steps: int, seed: int, count: int, half: bool, path: Path) -> None:
    """Make the rows of one part of one batch of prompts and write them, in a process of its own."""
    torch.set_num_threads(1)
    batch = Batch(name, cfg, steps, seed, count)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        PARTS[part](batch)
    keep(path, batch.rows)


def keep(path: Path, rows: Rows) -> None:
    """Write a file of the store, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, **rows)
    temporary.replace(path)


def model_settings(options: argparse.Namespace) -> list[tuple[str, float, int]]:
    """The models, each at every CFG and the steps asked for; a distilled one as it was distilled."""
    settings = [
        (name, 1.0, few) if (few := MODELS[name].distilled) else (name, cfg, steps)
        for name in options.models
        for cfg in options.cfg
        for steps in options.steps
    ]
    return list(dict.fromkeys(settings))


def store_files(
    options: argparse.Namespace, part: str, name: str, cfg: float, steps: int
) -> dict[Path, tuple[int, int]]:
    """The files of one part of one model in the store, each with its first seed and number of prompts.

    The name holds the digest of the weights: those of a model trained again begin anew.
    """
    digest = hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()[:8]
    precision = "bfloat16-" if options.bfloat16 else ""
    stem = options.store / f"{name}-{digest}-{precision}cfg{cfg:g}-{steps}steps-{part}"
    end = options.seed + options.count
    return {
        Path(f"{stem}-{start}-{BATCH}.npz"): (start, min(BATCH, end - start))
        for start in range(options.seed, end, BATCH)
    }


def bar(done: int, total: int, start: float, earlier: int) -> None:
    """One line of progress on the terminal, with what is left by the pace since the start."""
    filled = 40 * done // max(total, 1)
    remaining = (time.monotonic() - start) / max(done - earlier, 1) * (total - done)
    print(
        f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{total}, {remaining / 60:.0f} min left ",
        end="",
        file=sys.stderr,
    )


def make(work: Callable[..., None], tasks: dict[Path, tuple[Any, ...]], processes: int) -> None:
    """Have the files made that are not there yet, each by `work(*task)`."""
    missing = [task for path, task in tasks.items() if not path.exists()]
    start, earlier = time.monotonic(), len(tasks) - len(missing)
    bar(earlier, len(tasks), start, earlier)
    with ProcessPoolExecutor(processes) as pool:
        for done, future in enumerate(as_completed([pool.submit(work, *task) for task in missing]), 1):
            future.result()
            bar(earlier + done, len(tasks), start, earlier)
    print(file=sys.stderr)


def join_files(files: Iterable[Path]) -> Rows:
    """What the files hold, as far as they are there without a gap."""
    batches = [dict(np.load(path)) for path in takewhile(Path.exists, files)]
    return {row: np.concatenate([batch[row] for batch in batches]) for row in (batches[0] if batches else ())}


def load_rows(options: argparse.Namespace, *model: Any) -> Rows:
    """The rows of one model of `model_settings`, each as far as it is in the store."""
    return {row: values for part in PARTS for row, values in join_files(store_files(options, part, *model)).items()}


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction: the k-th smallest of m times m - k + 1, never falling."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def p_value(difference: np.ndarray) -> float:
    """Two-sided, of flipping signs: `z = Σd / √(Σd²)`, which for right and wrong is McNemar's `(b − c) / √(b + c)`."""
    size = np.square(difference).sum() ** 0.5
    return math.erfc(abs(difference.sum()) / size / 2**0.5) if size else 1.0


def paired_differences(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Their differences image by image, as far as both were made."""
    count = min(len(values), len(others))
    return values[:count] - others[:count]


def control(rows: Rows, row: str, kind: str) -> np.ndarray | None:
    """Both right, per image, had this row's evaluations gone into more of `kind`; None where nothing is comparable.

    Between the costs of two rows of that kind (the plain one costs nothing) it is the mixture that costs the same: so
    many images the dearer way, the rest the cheaper.
    """
    extra = rows[row][0, 3]
    chain = [values for name, values in rows.items() if name == "plain" or re.fullmatch(kind, name)]
    chain.sort(key=lambda values: values[0, 3])
    if not extra or re.fullmatch(kind, row):
        return None
    for cheap, dear in pairwise(chain):
        low, high = cheap[0, 3], dear[0, 3]
        if low < extra <= high:
            return cheap[: len(dear), 1] + (extra - low) / (high - low) * paired_differences(dear[:, 1], cheap[:, 1])
    return None


CONTROLS = ("plain", "more steps", "best of N", "CFG 5")
STEPS_ROW = r"\d+ steps"


def against(rows: Rows, row: str) -> dict[str, np.ndarray]:
    """The differences of both right, image by image, to the plain row and to its controls, as far as there are any."""
    judge = "by the checker" if row.endswith("by the checker") else "by the model"
    controls: dict[str, np.ndarray | None] = {
        "plain": rows["plain"][:, 1],
        "more steps": control(rows, row, STEPS_ROW),
        "best of N": control(rows, row, rf"Best of \d+ finished, {judge}"),
        "CFG 5": rows["CFG 5"][:, 1] if "CFG 5" in rows and row != "CFG 5" and not rows["CFG 5"][0, 3] else None,
    }
    return {
        name: paired_differences(rows[row][:, 1], values) for name, values in controls.items() if values is not None
    }


def headline(options: argparse.Namespace) -> None:
    """Make what is not in the store yet, then print a table per model."""
    if options.processes:
        tasks = {
            path: (part, *model, *batch, options.bfloat16, path)
            for part in options.parts
            for model in model_settings(options)
            for path, batch in store_files(options, part, *model).items()
        }
        make(make_part, tasks, options.processes)
    tables = {
        f"{name}, {steps} steps, CFG {cfg:g}": rows
        for name, cfg, steps in model_settings(options)
        if "plain" in (rows := load_rows(options, name, cfg, steps))
    }
    tell(tables)


def tell(tables: dict[str, Rows]) -> None:
    """Print a table per model, each row beside its controls, corrected for all of them."""
    comparisons = {
        (table, row, other): difference
        for table, rows in tables.items()
        for row in rows
        if row != "plain"
        for other, difference in against(rows, row).items()
    }
    p_values = dict(zip(comparisons, holm([p_value(difference) for difference in comparisons.values()]), strict=True))
    print(f"{len(comparisons)} comparisons; bold: p < 0.05 after Holm's correction for all of them.")
    for table, rows in tables.items():
        objects, both, score, _ = rows["plain"].mean(axis=0)
        print(f"\n### {table}\n")
        print(f"Plain: objects {objects:.3f}, both {both:.3f}, score {score:.3f}, N = {len(rows['plain'])}\n")
        columns = [other for other in CONTROLS if any((table, row, other) in comparisons for row in rows)]
        heads = ["row", "N", "extra evaluations", "Δ both", *(f"against {other}" for other in columns[1:])]
        print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        for row, values in sorted(rows.items(), key=lambda item: item[1][0, 3]):
            if row != "plain":
                cells = [row, f"{len(values)}", f"{values[0, 3]:.0f}"]
                for key in ((table, row, other) for other in columns):
                    cells.append(interval(comparisons[key], p_values[key] < 0.05) if key in comparisons else "")
                print(f"| {' | '.join(cells)} |")



def variants(options: argparse.Namespace) -> None:
    """A table of every variant, per model and CFG scale."""
    for name in options.models:
        model = PlaygroundModel.load(name)
        for cfg, steps in product(options.cfg, options.steps):
            start = time.monotonic()
            arguments = (options.count, options.seed, cfg, steps)
            plain, _ = run(model, NoiseOrderConfig(), *arguments)
            means = ", ".join(
                f"{column} {value:.3f}" for column, value in zip(COLUMNS, plain.mean(axis=0), strict=True)
            )
            print(f"\n### {name}, CFG {cfg:g}, {steps} steps, N = {options.count}\n\nPlain: {means}\n")
            print("| variant | extra evaluations | Δ objects | Δ objects and relation | Δ score | noise std | cosine |")
            print("|---|---|---|---|---|---|---|")
            for variant, config in VARIANTS.items():
                scores, reports = run(model, config, *arguments)
                cells = [interval(scores[:, column] - plain[:, column]) for column in range(3)]
                std = np.mean([value for report in reports for value in report.std_after])
                cosine = np.mean([value for report in reports for value in report.cosine])
                row = [variant, str(reports[0].evaluations), *cells, f"{std:.3f}", f"{cosine:.3f}"]
                print(f"| {' | '.join(row)} |", flush=True)
            print(f"\n({time.monotonic() - start:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="variants", choices=["variants", "headline"])
    parser.add_argument("--count", type=int, help="prompts: 512, headline 1024")
    parser.add_argument("--seed", type=int, help="of the first prompt: 5000, headline 600000")
    parser.add_argument("--steps", nargs="+", type=int, help="10, headline 20")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="unet dit, headline all")
    parser.add_argument("--cfg", nargs="+", type=float, help="1 1.5 3, headline 3")
    parser.add_argument("--processes", type=int, default=2, help="headline only; 0 tells what the store has")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=HEADLINE, help="headline only")
    half = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    parser.add_argument(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        default=half,
        help=f"headline only; twice as fast where the processor has it, which this one does{'' if half else ' not'}",
    )
    parser.add_argument("--store", type=Path, default=Path("results/headline"), help="headline only")
    options = parser.parse_args()
    whole = options.part == "headline"
    options.count = options.count or (1024 if whole else 512)
    options.seed = options.seed or (600_000 if whole else 5000)
    options.steps = options.steps or [20 if whole else 10]
    options.cfg = options.cfg or ([3.0] if whole else [1.0, 1.5, 3.0])
    options.models = options.models or (list(MODELS) if whole else ["unet", "dit"])
    (headline if whole else variants)(options)


if __name__ == "__main__":
    main()

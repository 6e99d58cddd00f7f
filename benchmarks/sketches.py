"""What choosing noises by sketches brings: candidates run a coarser schedule of the same sampler, and are ended early.

    python benchmarks/sketches.py tuning [--count 128] [--seed 4000000] [--models unet dit] [--cfg 3]
    python benchmarks/sketches.py fresh [--count 1024] [--seed 4100000] [--models unet dit] [--cfg 3]
    python benchmarks/sketches.py lengths [--count 128] [--seed 4000000] [--models unet dit] [--cfg 3]
    python benchmarks/sketches.py critics [--count 1024] [--seed 4100000] [--models unet dit] [--cfg 3]

Images have 20 steps. Each prompt has four candidates (Erase n = 4, nothing injected, variants 0 to 3), all of them
finished, so that any choice can be told; "4 of 7" is the x̂0 of the fourth of 7 steps. Every row is compared prompt by
prompt with the mean of the four, which is an image as it comes. The tuning tells what sketch and which level of the
critic to take, fresh seeds what that brings, beside what the same evaluations bring elsewhere, and what other critics
see in the sketches; lengths tells how like images of other numbers of steps they are. Prints Markdown tables. Keeps
what it has made in --store and goes on there.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from audition import Candidates, correlation, per_step, pick  # noqa: E402
from ideas import consistency, scores, wish, words  # noqa: E402
from quality import Rows, interval, join_files, keep, make, paired_differences, store_files, tell  # noqa: E402

from lib_noiseorder.core import Modulation, modulate, self_consistency  # noqa: E402
from lib_noiseorder.playground.host import PlaygroundDenoiser  # noqa: E402
from lib_noiseorder.playground.models import MODELS  # noqa: E402

Look = tuple[int, int]
"""So many steps of a run of so many: (4, 7) is a sketch of an image of 20 steps, (7, 20) its own beginning."""
Critic = Callable[[Tensor, PlaygroundDenoiser], Sequence[float]]

COUNT, STEPS = 4, 20
TODAY = (7, STEPS)
SKETCH = (4, 7)
OTHERS = [(4, 8), (5, 8), (5, 10)]
DRAFT, WHOLE = (10, 10), (STEPS, STEPS)
TRIED = [(3, 5), (3, 6), (4, 6), (4, 7), (4, 8), (5, 8), (4, 9), (4, 10), (5, 10), (6, STEPS), TODAY]
LEVELS = (0.6, 0.5, 0.4)
LENGTHS = (10, 12, 15, 20, 30, 50)
BESIDE = [SKETCH, (4, 10), (5, 10), (8, 18), TODAY]


def name_of(look: Look) -> str:
    return "{} of {}".format(*look)


class _Reached(Exception):
    """The last step that is looked at."""


def look(batch: Candidates, noise: Tensor, steps: int, at: Sequence[int]) -> dict[Look, Tensor]:
    """The x̂0 after these steps of a run of `steps`, which ends at the last of them."""
    seen: dict[Look, Tensor] = {}

    def watch(step: int, total: int, denoised: Tensor) -> None:
        if step + 1 in at:
            seen[step + 1, steps] = denoised
        if step + 1 == max(at):
            raise _Reached

    with contextlib.suppress(_Reached):
        batch.model.sample(noise, batch.tokens, batch.uncond, batch.cfg, steps, watch)
    return seen


def candidates(batch: Candidates, looks: Sequence[Look], critics: dict[str, Critic]) -> Rows:
    """Per prompt and candidate of each look what the checker thinks of it, and each critic; where the finished image is
    among them, what was found in it, and each look's correlation with it."""
    results: dict[str, list[Any]] = {}
    for variant in range(COUNT):
        noise, _ = modulate(batch.host.fresh_noise(batch.seeds), Modulation(erase=4.0, variant=variant), batch.host)
        seen: dict[Look, Tensor] = {}
        for steps in {steps for _, steps in looks}:
            seen |= look(batch, noise, steps, [at for at, of in looks if of == steps])
        told: dict[str, Any] = {}
        for each, shown in seen.items():
            checks, name = batch.check(shown), name_of(each)
            told[f"{name}, checker"] = [check.both + check.score for check in checks]
            told |= {f"{name}, {critic}": by(shown, batch.host) for critic, by in critics.items()}
            if WHOLE in seen:
                told[f"{name}, like"] = correlation(shown, seen[WHOLE]).float().numpy()
            if each == WHOLE:
                told["found"] = [(check.objects, check.both, check.score) for check in checks]
        for key, values in told.items():
            results.setdefault(key, []).append(values)
    return {key: np.stack(values, axis=1).astype(float) for key, values in results.items()}


def tuning(batch: Candidates) -> Rows:
    return candidates(
        batch, [*TRIED, WHOLE], {f"{level:g}": partial(consistency, fractions=(level,)) for level in LEVELS}
    )


def fresh(batch: Candidates) -> Rows:
    return candidates(batch, [SKETCH, TODAY, WHOLE], {"model": self_consistency})


def others(batch: Candidates) -> Rows:
    """Sketches that were nearly taken."""
    return candidates(batch, OTHERS, {"model": self_consistency})


def drafts(batch: Candidates) -> Rows:
    """What people do by hand: everything with half the steps; the best one is made again with all of them."""
    return candidates(batch, [DRAFT], {"model": self_consistency})


def lengths(batch: Candidates) -> Rows:
    """The correlation of looks with images of other numbers of steps, of the first candidate: (n, LENGTHS)."""
    noise, _ = modulate(batch.host.fresh_noise(batch.seeds), Modulation(erase=4.0, variant=0), batch.host)
    images = [look(batch, noise, steps, [steps])[steps, steps] for steps in LENGTHS]
    results = {}
    for at, of in BESIDE:
        shown = look(batch, noise, of, [at])[at, of]
        results[f"{name_of((at, of))}, lengths"] = (
            torch.stack([correlation(shown, x) for x in images], 1).float().numpy()
        )
    return results


def critics(batch: Candidates) -> Rows:
    """Other critics of the sketches, per prompt and candidate."""
    before, coarser = (SKETCH[0] - 1, SKETCH[1]), (3, 5)
    results: dict[str, list[Any]] = {}
    for variant in range(COUNT):
        noise, _ = modulate(batch.host.fresh_noise(batch.seeds), Modulation(erase=4.0, variant=variant), batch.host)
        seen = look(batch, noise, SKETCH[1], [before[0], SKETCH[0]]) | look(batch, noise, coarser[1], [coarser[0]])
        shown = seen[SKETCH]
        told = {
            "last step": scores((shown - seen[before]).square()),
            "second sketch": scores((shown - seen[coarser]).square()),
            "consistency 0.35": consistency(shown, batch.host, (0.35,)),
            "wish 0.35": wish(shown, batch.host, 0.35),
            "wish 0.6": wish(shown, batch.host, 0.6),
            "words 0.6": words(shown, batch.host, 0.6),
        }
        for key, values in told.items():
            results.setdefault(key, []).append(values)
    return {key: np.stack(values, axis=1).astype(float) for key, values in results.items()}


def longer(cfg: float) -> int:
    """As many steps as the sketches and the critic pay for."""
    return STEPS + math.ceil(COUNT * (per_step(cfg) * SKETCH[0] + 1) / per_step(cfg))


def more_steps(batch: Candidates) -> Rows:
    """The first candidate with more steps."""
    images = batch.image(0, longer(batch.cfg))
    return {"more steps": np.array([(each.objects, each.both, each.score) for each in batch.check(images)], float)}


PARTS: dict[str, Callable[[Candidates], Rows]] = {
    "tuning": tuning,
    "fresh": fresh,
    "others": others,
    "drafts": drafts,
    "more": more_steps,
    "critics": critics,
    "lengths": lengths,
}
"""What is made, and kept, together."""
COMMANDS = {
    "tuning": ["tuning"],
    "fresh": ["fresh", "others", "drafts", "more"],
    "critics": ["fresh", "critics"],
    "lengths": ["lengths"],
}


def make_part(part: str, name: str, cfg: float, steps: int, seed: int, count: int, half: bool, path: Path) -> None:
    """Make one part of one batch of prompts and write it, in a process of its own."""
    torch.set_num_threads(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        keep(path, PARTS[part](Candidates(name, cfg, steps, seed, count)))


def gain(results: Rows, by: str) -> np.ndarray:
    """Both right, of the candidate that stands highest by these scores, over the mean of the four, (n,)."""
    right = results["found"][..., 1]
    return pick(right, results[by]) - right.mean(axis=1)


def pooled(gains: Sequence[np.ndarray]) -> str:
    """The mean of the models' means, with its 95 % interval."""
    half = 1.96 * sum(each.var() / len(each) for each in gains) ** 0.5 / len(gains)
    return f"{np.mean([each.mean() for each in gains]):+.3f} ± {half:.3f}"


def tell_tuning(all_results: dict[str, Rows], cfg: float) -> None:
    """Print what choosing by each look brings, on each model and as the mean of all."""
    print("Δ both against the mean of the four candidates; the critic with its level.\n")
    heads = ["judge", "look", "evaluations", *(f"{name}, N = {len(x['found'])}" for name, x in all_results.items())]
    heads += ["mean of the models", f"mean against {name_of(TODAY)}"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for judge in ("checker", *(f"{level:g}" for level in LEVELS)):
        for seen in TRIED:
            gains = [gain(results, f"{name_of(seen)}, {judge}") for results in all_results.values()]
            # Of every level against the one of today.
            today = f"{name_of(TODAY)}, {judge if judge == 'checker' else f'{LEVELS[0]:g}'}"
            others = [gain(results, today) for results in all_results.values()]
            cells = [judge, name_of(seen), f"{seen[0] * per_step(cfg) + (judge != 'checker')}"]
            cells += [f"{each.mean():+.3f}" for each in gains]
            cells += [pooled(gains), pooled([each - other for each, other in zip(gains, others, strict=True)])]
            print(f"| {' | '.join(cells)} |")
    print(f"\n| correlation with the image: median, lowest tenth | {' | '.join(all_results)} |")
    print("|---" * (len(all_results) + 1) + "|")
    for seen in TRIED:
        likes = [results[f"{name_of(seen)}, like"] for results in all_results.values()]
        print(f"| {name_of(seen)} | {' | '.join(f'{np.median(x):.2f}, {np.quantile(x, 0.1):.2f}' for x in likes)} |")


def tell_lengths(all_results: dict[str, Rows]) -> None:
    """Print how like images of each length the looks are, median and lowest tenth."""
    print(f"| model | look | {' | '.join(f'{steps} steps' for steps in LENGTHS)} |\n{'|---' * (2 + len(LENGTHS))}|")
    for name, results in all_results.items():
        for seen in BESIDE:
            likes = results[f"{name_of(seen)}, lengths"].T
            cells = [f"{np.median(x):.2f}, {np.quantile(x, 0.1):.2f}" for x in likes]
            print(f"| {' | '.join([f'{name}, N = {likes.shape[1]}', name_of(seen), *cells])} |")


def rows_of(results: Rows, cfg: float) -> Rows:
    """The rows of one model as `quality.tell` has them; the plain one is the mean of the four candidates."""
    found, each = results["found"], per_step(cfg)
    plain = found.mean(axis=1)
    rows = {"plain": np.column_stack([plain, np.zeros(len(plain))])}

    def row(name: str, values: np.ndarray, extra: int) -> None:
        rows[name] = np.column_stack([values, np.full(len(values), extra)])

    for judge, question in (("model", 1), ("checker", 0)):
        for seen in (SKETCH, TODAY, *OTHERS):
            if (by := results.get(f"{name_of(seen)}, {judge}")) is not None:
                name = f"Audition of {COUNT} after {seen[0]} of {seen[1]} steps, by the {judge}"
                row(name, pick(found[: len(by)], by), COUNT * (seen[0] * each + question))
        for count in range(2, COUNT + 1):
            some = found[:, :count]
            by = results[f"{STEPS} of {STEPS}, {judge}"][:, :count]
            row(
                f"Best of {count} finished, by the {judge}",
                pick(some, by),
                (count - 1) * STEPS * each + count * question,
            )
            if (draft := results.get(f"{name_of(DRAFT)}, {judge}")) is not None:
                made = len(draft)
                name = f"Best of {count} at {DRAFT[1]} steps, made again with {STEPS}, by the {judge}"
                row(name, pick(some[:made], draft[:, :count]), count * (DRAFT[0] * each + question))
    if (more := results.get("more steps")) is not None:
        # Its difference is to the first candidate alone, which it begins as.
        long = longer(cfg)
        row(f"{long} steps", plain[: len(more)] + more - found[: len(more), 0], (long - STEPS) * each)
    return rows


def tell_sketch(tables: dict[str, Rows]) -> None:
    """Print the sketch against each other way to choose, of the same judge, beside what both cost."""
    print("\n### The sketch against other ways to choose: Δ both\n")
    print(f"| judge | against | evaluations, the sketch's | {' | '.join(tables)} | mean of the models |")
    print("|---" * (len(tables) + 4) + "|")
    for judge in ("model", "checker"):
        ours = f"Audition of {COUNT} after {SKETCH[0]} of {SKETCH[1]} steps, by the {judge}"
        first, *rest = tables.values()
        rows_of_judge = {name: row for name, row in first.items() if name.endswith(judge) and name != ours}
        for name, values in rows_of_judge.items():
            # Those that were made of every model.
            if not all(name in rows for rows in rest):
                continue
            differences = [paired_differences(rows[ours][:, 1], rows[name][:, 1]) for rows in tables.values()]
            cost = f"{values[0, 3]:.0f}, {first[ours][0, 3]:.0f}"
            cells = [judge, name, cost, *(interval(each, bold=False) for each in differences), pooled(differences)]
            print(f"| {' | '.join(cells)} |")


def ranks(values: np.ndarray) -> np.ndarray:
    """Of each candidate among those of its prompt, 0 for the lowest, (n, M)."""
    return values.argsort(axis=1).argsort(axis=1)


def tell_critics(all_results: dict[str, Rows], cfg: float) -> None:
    """Print what choosing by each critic of the sketches brings, beside the built-in one and the checker."""
    built_in = f"{name_of(SKETCH)}, model"
    extra = {"last step": 0, "second sketch": 3 * per_step(cfg), "consistency 0.35": 1, "wish 0.35": 2, "wish 0.6": 2}

    def judged(results: Rows) -> dict[str, tuple[np.ndarray, str]]:
        """Per critic its scores, and what it asks of the model for a candidate."""
        own, low = results[built_in], results["wish 0.35"]
        return {
            "the checker": (results[f"{name_of(SKETCH)}, checker"], "–"),
            "built in: consistency 0.6": (own, "1"),
            **{name: (results[name], str(asks)) for name, asks in extra.items()},
            "words 0.6": (results["words 0.6"], "a word each, and 1"),
            "consistency 0.6 + wish 0.35": (own + low, "3"),
            "consistency 0.6 + wish 0.35, by ranks": (ranks(own) + ranks(low) + 1e-6 * ranks(own), "3"),
            "consistency 0.6 + last step, by ranks": (
                ranks(own) + ranks(results["last step"]) + 1e-6 * ranks(own),
                "1",
            ),
            "consistency 0.6 + consistency 0.35": (own + results["consistency 0.35"], "2"),
            "wish 0.35 + wish 0.6": (low + results["wish 0.6"], "4"),
        }

    def gains(results: Rows, critic: str) -> np.ndarray:
        return gain(results | {critic: judged(results)[critic][0]}, critic)

    all_results = {
        name: {key: values[: len(results["last step"])] for key, values in results.items()}
        for name, results in all_results.items()
        if "last step" in results
    }
    heads = ["critic", "evaluations", *(f"{name}, N = {len(x['found'])}" for name, x in all_results.items())]
    heads += ["mean of the models", "mean against the built-in one"]
    print(f"Δ both against the mean of the four candidates, after {name_of(SKETCH)} steps.\n")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for critic, (_, asks) in judged(next(iter(all_results.values()))).items():
        each = [gains(results, critic) for results in all_results.values()]
        others = [gains(results, "built in: consistency 0.6") for results in all_results.values()]
        cells = [critic, asks, *(f"{values.mean():+.3f}" for values in each), pooled(each)]
        cells.append(pooled([values - other for values, other in zip(each, others, strict=True)]))
        print(f"| {' | '.join(cells)} |")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--count", type=int, help="prompts: tuning and lengths 128, else 1024")
    parser.add_argument("--seed", type=int, help="of the first prompt: tuning and lengths 4000000, else 4100000")
    parser.add_argument("--cfg", type=float, default=3.0)
    ordinary = [name for name, about in MODELS.items() if not about.distilled]
    parser.add_argument("--models", nargs="+", choices=ordinary, default=ordinary)
    parser.add_argument("--processes", type=int, default=2, help="0 tells what the store has")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    parser.add_argument("--store", type=Path, default=Path("results/sketches"))
    options = parser.parse_args(arguments)
    tunes = options.command in ("tuning", "lengths")
    options.count = options.count or (128 if tunes else 1024)
    options.seed = options.seed or (4_000_000 if tunes else 4_100_000)
    files = {
        (part, name): store_files(options, part, name, options.cfg, STEPS)
        for part in COMMANDS[options.command]
        for name in options.models
    }
    if options.processes:
        tasks = {
            path: (*which, options.cfg, STEPS, *batch, options.bfloat16, path)
            for which, paths in files.items()
            for path, batch in paths.items()
        }
        # The same prompts of every model and part first.
        make(make_part, dict(sorted(tasks.items(), key=lambda task: task[1][4])), options.processes)
    all_results: dict[str, Rows] = {}
    for (_, name), paths in files.items():
        all_results.setdefault(name, {}).update(join_files(paths))
    if options.command == "lengths":
        tell_lengths({name: results for name, results in all_results.items() if results})
        return
    all_results = {name: results for name, results in all_results.items() if "found" in results}
    if options.command == "tuning":
        tell_tuning(all_results, options.cfg)
        return
    if options.command == "critics":
        tell_critics(all_results, options.cfg)
        return
    tables = {
        f"{name}, {STEPS} steps, CFG {options.cfg:g}": rows_of(results, options.cfg)
        for name, results in all_results.items()
    }
    tell(tables)
    tell_sketch(tables)


if __name__ == "__main__":
    main()

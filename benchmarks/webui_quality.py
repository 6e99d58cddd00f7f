"""What Noise Order does to the images of your own checkpoint: any WebUI with this extension, by its API.

    python benchmarks/webui_quality.py --prompts FILE --out FOLDER [--url http://127.0.0.1:7860] [--seeds 2]
        [--rows Self-correction 'mine={"erase": 1, "inject": 0.1}'] [--controls '24 steps={"steps": 24}']
        [--request '{"steps": 20, "cfg_scale": 5}'] [--scorers PACKAGE.MODULE:FUNCTION ...]

Start the WebUI with --api. Every prompt (a line of FILE) is made with the same seeds plain, with each row's settings
(a preset's name, or a name and settings) and with each control's changes of the request, so that what the same time
brings elsewhere stands beside. Images are kept in FOLDER: stopped and started again, it goes on, and scored again, also
with another Python, nothing is made again. Prints Markdown tables of the paired differences to plain with 95 %
bootstrap intervals over the prompts, and writes FOLDER/scores.csv and FOLDER/sheet.png.

Three measures need nothing installed: sharpness, residue (noise left in the image), colourfulness. They say in what
the images differ, not which is better. A scorer of yours is a function of a list of PIL images and the list of their
prompts that returns as many numbers, higher for better; benchmarks/README.md has an example.
"""

from __future__ import annotations

import argparse
import base64
import csv
import dataclasses
import importlib
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from quality import bar, holm, interval, p_value  # noqa: E402

from lib_noiseorder.config import BY_NAME, SettingError, parse, quote  # noqa: E402
from lib_noiseorder.presets import PRESETS, TWO_STEP  # noqa: E402

PLAIN = "plain"
MARKER = BY_NAME["enabled"].infotext
TIMEOUT = 3600
"""Seconds for one image."""
CHUNK = 8
"""Images given to a scorer at once."""
CELL = 192
"""Pixels of an image on the sheet."""
Scorer = Callable[[list[Image.Image], list[str]], Sequence[float]]


class Task(NamedTuple):
    """One image: of which prompt and seed, its file, and the request that makes it."""

    prompt: int
    seed: int
    path: Path
    body: dict[str, Any]


Pair = dict[str, tuple[Task, dict[str, Any]]]
"""Per row one image and what is kept beside it; of the same prompt and seed."""


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=float)


def sharpness(image: Image.Image) -> float:
    """Mean size of the grey levels' gradient, of 255."""
    down, across = np.gradient(grey(image))
    return float(np.hypot(down, across).mean())


def residue(image: Image.Image) -> float:
    """Standard deviation of the noise, Immerkær's estimate `√(π/2)/6 · mean |I * M|`, M blind to planes and edges."""
    x = grey(image)
    twice = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
    return float((np.pi / 2) ** 0.5 / 6 * np.abs(twice[:-2] - 2 * twice[1:-1] + twice[2:]).mean())


def colourfulness(image: Image.Image) -> float:
    """Hasler and Süsstrunk's: `√(σ_rg² + σ_yb²) + 0.3 √(μ_rg² + μ_yb²)`, rg = R − G, yb = (R + G)/2 − B."""
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=float), 2, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


MEASURES: dict[str, Callable[[Image.Image], float]] = {
    "sharpness": sharpness,
    "residue": residue,
    "colourfulness": colourfulness,
}


def scorer(name: str) -> Scorer:
    """A measure by its name, or a function by its path."""
    if name in MEASURES:
        measure = MEASURES[name]
        return lambda images, prompts: [measure(image) for image in images]
    module, _, function = name.partition(":")
    if not function:
        raise SystemExit(f"--scorers {name}: must be one of {', '.join(MEASURES)}, or PACKAGE.MODULE:FUNCTION")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"--scorers {name}: {error}; run this with the Python that has it, see PYTHONPATH") from None


def json_object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise SystemExit(f'{option} {text}: must be a JSON object, as {{"steps": 24}}')
    return value


def parse_named(text: str, option: str) -> tuple[str, dict[str, Any]]:
    """`NAME={...}`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise SystemExit(f"{option} {text}: must be NAME={{...}}")
    return name, json_object(value, option)


def settings(text: str) -> tuple[str, dict[str, Any]]:
    """A row's name and its settings, checked; a preset's name is enough."""
    if text in PRESETS:
        return text, dataclasses.asdict(PRESETS[text])
    if "=" not in text:
        raise SystemExit(f"--rows {text}: must be one of {', '.join(PRESETS)}, or NAME={{...}} with settings")
    name, values = parse_named(text, "--rows")
    try:
        config = parse([values])
    except SettingError as error:
        raise SystemExit(f"--rows {name}: {error}") from None
    if not config.active or config.comparisons:
        raise SystemExit(f"--rows {text}: must change the noise, and make nothing beside the image")
    return name, values


def rows_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Per row what it changes of the plain request."""

    def script(*arguments: object) -> dict[str, Any]:
        return {"alwayson_scripts": {"noise order": {"args": list(arguments)}}}

    off = script(False)
    rows = [(PLAIN, off)]
    rows += [(name, script(values)) for name, values in map(settings, options.rows)]
    rows += [
        (name, {**changes, **off}) for name, changes in (parse_named(text, "--controls") for text in options.controls)
    ]
    if len({folder(name) for name, _ in rows}) < len(rows):
        raise SystemExit(f"{', '.join(name for name, _ in rows)}: the names of rows and controls must differ")
    return dict(rows)


def folder(row: str) -> str:
    return re.sub(r"\W+", "-", row).strip("-").lower()


def prompts_of(files: Sequence[Path]) -> list[str]:
    """The lines that are not empty."""
    try:
        lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"--prompts: {error}") from None
    prompts = [line for line in lines if line]
    if len(prompts) < 2:
        raise SystemExit(f"--prompts: {len(prompts)} prompts, a line each; an interval needs two or more")
    return prompts


def plan_row(options: argparse.Namespace, prompts: Sequence[str], row: str, changes: dict[str, Any]) -> list[Task]:
    """The images of a row, prompt by prompt and seed by seed."""
    common = {"save_images": False, "send_images": True, **json_object(options.request, "--request"), **changes}
    tasks = []
    for index, prompt in enumerate(prompts):
        for seed in range(options.seed + index * options.seeds, options.seed + (index + 1) * options.seeds):
            body = {**common, "prompt": prompt, "seed": seed}
            tasks.append(Task(index, seed, options.out / folder(row) / f"{index + 1:04d}-{seed}.png", body))
    return tasks


def load_record(image: Task) -> dict[str, Any] | None:
    """What is kept beside an image; None where it is not made yet."""
    if not image.path.exists():
        return None
    beside = json.loads(image.path.with_suffix(".json").read_text(encoding="utf-8"))
    if beside["request"] != json.loads(json.dumps(image.body)):
        keys = sorted({*beside["request"], *image.body})
        other = ", ".join(key for key in keys if beside["request"].get(key) != image.body.get(key))
        raise SystemExit(f"{image.path} was made with another {other}: choose another --out, or another name")
    return beside


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The WebUI's answer to a request for an image."""
    request = urllib.request.Request(
        f"{url.rstrip('/')}/sdapi/v1/txt2img", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        message = " ".join(error.read().decode(errors="replace").split())[:400]
        hint = "; start the WebUI with --api" if error.code == 404 else ""
        raise SystemExit(f"\n{url} answers HTTP {error.code}: {message}{hint}") from None
    except (OSError, ValueError) as error:
        raise SystemExit(f"\n{url}: {error}; is the WebUI running, with --api? Started again, this goes on") from None


def make(url: str, image: Task, modulated: bool) -> dict[str, Any]:
    """Have one image made and keep it; SystemExit where the WebUI did not do what was asked."""
    start = time.perf_counter()
    answer = ask(url, image.body)
    seconds = time.perf_counter() - start
    text = json.loads(answer["info"])["infotexts"][0]
    claims = text.strip().rpartition("\n")[2]
    if error := re.search(rf"{MARKER} error: (.*)", claims):
        raise SystemExit(f"\nNoise Order left the noise of {image.path} as it was: {error[1]}")
    if (f"{MARKER}: " in claims) != modulated:
        raise SystemExit(
            f"\n{image.path} came with Noise Order {'off' if modulated else 'on'}, its infotext is: {text}"
        )
    beside = {"request": image.body, "seconds": seconds, "infotext": text}
    image.path.parent.mkdir(parents=True, exist_ok=True)
    image.path.with_suffix(".json").write_text(json.dumps(beside, indent=1), encoding="utf-8")
    partial = image.path.with_suffix(".partial")
    partial.write_bytes(base64.b64decode(answer["images"][0].rpartition(",")[2]))
    partial.replace(image.path)
    return beside


def model(beside: dict[str, Any]) -> str:
    """The checkpoint an image was made with, as its infotext names it."""
    match = re.search(r"Model hash: \w+|Model: [^,\n]+", beside["infotext"])
    return match[0] if match else "no name of a model"


def complete(options: argparse.Namespace, plan: dict[str, list[Task]], modulated: set[str]) -> Iterator[Pair]:
    """Per prompt and seed the images of all rows, made where they are not there yet; all with one checkpoint."""
    total = sum(map(len, plan.values()))
    done = earlier = sum(load_record(image) is not None for row in plan.values() for image in row)
    start, first = time.monotonic(), ""
    for images in zip(*plan.values(), strict=True):
        pair = {}
        for row, image in zip(plan, images, strict=True):
            beside = load_record(image)
            if beside is None and not options.score_only:
                beside = make(options.url, image, row in modulated)
                done += 1
                bar(done, total, start, earlier)
            if beside is None:
                break
            first = first or model(beside)
            if model(beside) != first:
                which = f"{image.path} was made with {model(beside)}, others with {first}"
                raise SystemExit(f"\n{which}: choose an --out for each checkpoint")
            pair[row] = image, beside
        else:
            yield pair
    print(file=sys.stderr)


def score(function: Scorer, name: str, files: Sequence[Path], prompts: list[str]) -> np.ndarray:
    """What a scorer says of each image."""
    values: list[float] = []
    for start in range(0, len(files), CHUNK):
        part = slice(start, start + CHUNK)
        images = []
        for path in files[part]:
            with Image.open(path) as file:
                images.append(file.convert("RGB"))
        part_scores = [float(value) for value in function(images, prompts[part])]
        if len(part_scores) != len(images) or not np.isfinite(part_scores).all():
            raise SystemExit(
                f"--scorers {name}: {quote(part_scores)} for {len(images)} images; must be a finite number each"
            )
        values += part_scores
    return np.array(values)


def sheet(path: Path, pairs: Sequence[dict[str, Path]], prompts: Sequence[str]) -> None:
    """The pairs, one a line under its prompt, every row in its column."""
    rows, line = list(pairs[0]), 16
    canvas = Image.new("RGB", (CELL * len(rows), line + (CELL + line) * len(pairs)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, row in enumerate(rows):
        draw.text((CELL * column + 3, 2), row, "black")
    for index, (pair, prompt) in enumerate(zip(pairs, prompts, strict=True)):
        top = line + (CELL + line) * index
        draw.text((3, top + 2), prompt, "black")
        for column, file in enumerate(pair.values()):
            with Image.open(file) as image:
                canvas.paste(image.convert("RGB").resize((CELL, CELL)), (CELL * column, top + line))
    canvas.save(path)


def report(options: argparse.Namespace, image_pairs: list[Pair], prompts: list[str]) -> None:
    """Score the images and print a table per scorer."""
    rows = list(image_pairs[0])
    index = np.array([pair[PLAIN][0].prompt for pair in image_pairs])
    image_prompts = [prompts[prompt] for prompt in index]
    scores = {
        (name, row): score(function, name, [pair[row][0].path for pair in image_pairs], image_prompts)
        for name, function in ((name, scorer(name)) for name in options.scorers)
        for row in rows
    }
    seconds = {row: np.array([pair[row][1]["seconds"] for pair in image_pairs]) for row in rows}
    pairs = {key: values - scores[key[0], PLAIN] for key, values in scores.items() if key[1] != PLAIN}
    # The seeds of one prompt are no prompts more.
    means = {key: np.array([each[index == k].mean() for k in np.unique(index)]) for key, each in pairs.items()}
    p_values = dict(zip(means, holm([p_value(each) for each in means.values()]), strict=True))
    print(f"{len(np.unique(index))} prompts, {len(image_pairs)} images a row, {model(image_pairs[0][PLAIN][1])}.")
    print(f"{len(means)} comparisons; bold: p < 0.05 after Holm's correction for all of them.")
    for name in options.scorers:
        about = ", which says nothing of quality" if name in MEASURES else ""
        print(f"\n### {name}{about}\n\nPlain: {scores[name, PLAIN].mean():.3f}\n")
        print("| row | Δ | higher than plain | time, of plain's: median |\n|---|---|---|---|")
        for row in rows[1:]:
            key = name, row
            higher = (np.sign(pairs[key]).mean() + 1) / 2
            time_ratio = np.median(seconds[row] / seconds[PLAIN])
            cells = [row, interval(means[key], p_values[key] < 0.05), f"{higher:.0%}", f"{time_ratio:.2f}"]
            print(f"| {' | '.join(cells)} |")
    with (options.out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["row", "prompt", "seed", "seconds", *options.scorers])
        for row in rows:
            for k, pair in enumerate(image_pairs):
                values = [scores[name, row][k] for name in options.scorers]
                table.writerow([row, image_prompts[k], pair[row][0].seed, pair[row][1]["seconds"], *values])
    some = np.unique(np.linspace(0, len(image_pairs) - 1, options.sheet).round().astype(int))
    files = [{row: image.path for row, (image, _) in image_pairs[k].items()} for k in some]
    sheet(options.out / "sheet.png", files, [image_prompts[k] for k in some])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--prompts", type=Path, nargs="+", required=True, help="text files, a prompt a line")
    parser.add_argument("--out", type=Path, required=True, help="where the images are kept")
    parser.add_argument("--rows", nargs="+", default=[TWO_STEP], help="presets, or NAME={...} with settings")
    parser.add_argument("--controls", nargs="+", default=[], help="NAME={...} with changes of the request")
    parser.add_argument("--request", default='{"steps": 20}', help="what else txt2img is asked for, a JSON object")
    parser.add_argument("--seeds", type=int, default=2, help="images of each prompt")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--scorers", nargs="+", default=list(MEASURES), help="measures, or PACKAGE.MODULE:FUNCTION")
    parser.add_argument("--score-only", action="store_true", help="make nothing; of what is there, whole pairs count")
    parser.add_argument("--sheet", type=int, default=8, help="pairs on the contact sheet")
    options = parser.parse_args()
    for name in options.scorers:
        scorer(name)  # before hours are spent on images
    prompts, rows = prompts_of(options.prompts), rows_of(options)
    plan = {row: plan_row(options, prompts, row, changes) for row, changes in rows.items()}
    modulated = {name for name, _ in map(settings, options.rows)}
    image_pairs = list(complete(options, plan, modulated))
    if not image_pairs:
        raise SystemExit(f"{options.out}: no pair is complete yet")
    report(options, image_pairs, prompts)


if __name__ == "__main__":
    main()

"""What choosing noises brings in a real WebUI, with the latent world's checkpoint: by the critic, and by the checker.

    python benchmarks/latent/auditions.py > prompts.txt          the prompts, for benchmarks/webui_quality.py
    python benchmarks/latent/auditions.py --out FOLDER [--url http://127.0.0.1:7860] [--count 256]
        [--request '{"sampler_name": "Euler", "cfg_scale": 7}'] [--looks sketch "first steps"]

Start the WebUI with --api and latent-world.safetensors loaded (checkpoint.py; quick/ makes it quicker). Each prompt has
four candidates (Erase n = 4, nothing injected, variants 0 to 3), all of them finished, so that any choice can be told:
what an audition goes on with is the image of that variant alone, to the last bit (tests/live/test_audition.py). They
are looked at as the extension does by default ("sketch", which it only is where the sampler draws no noise), as the
image's own first steps, and two of them at their last steps, for what the critic says of finished images. Every row is
compared prompt by prompt with the mean of the four. Keeps what it has made in FOLDER and goes on there; prints Markdown
tables.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from quality import holm, interval, p_value
from tables import Row, measured, row, write

from latent import world

COUNT, SEED = 4, 6_000_000
SETTINGS = {"erase": 4.0, "inject": 0.0}
REQUEST = {"steps": 20, "width": world.SIZE, "height": world.SIZE, "save_images": False}
LOOKS: dict[str, tuple[int, dict[str, Any]]] = {
    "sketch": (COUNT, {}),
    "first steps": (COUNT, {"override_settings": {"noiseorder_sketches": False}}),
    "last steps": (2, {"depth": 0.05, "override_settings": {"noiseorder_sketches": False}}),
}
"""How the candidates are looked at: how many of them, and what is asked for."""


def scenes_of(count: int) -> list[tuple[world.Scene, str]]:
    """The scenes and their prompts, each in one of its wordings."""
    scenes = world.random_scenes(count, torch.Generator().manual_seed(SEED))
    captions = [world.captions(scene) for scene in scenes]
    return [(scene, words[k % len(words)]) for k, (scene, words) in enumerate(zip(scenes, captions, strict=True))]


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def with_settings(body: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {**body, "alwayson_scripts": {"noise order": {"args": [{**SETTINGS, **settings}]}}}


def make(url: str, body: dict[str, Any], looks: Sequence[str], folder: Path) -> None:
    """The finished candidates of a prompt, and how they look before, as files; told.json is the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    for variant in range(COUNT):
        answer = post(url, "/sdapi/v1/txt2img", with_settings(body, variant=variant))
        infotext = json.loads(answer["info"])["infotexts"][0]
        if f"Noise Order variant: {variant}" not in infotext or "Noise Order error" in infotext:
            raise SystemExit(f"{folder}: the noise was left as it is: {infotext}")
        save(answer["images"][0], folder / f"finished-{variant}.png")
    told = {}
    for look in looks:
        count, changes = LOOKS[look]
        overrides = body.get("override_settings", {}) | changes.get("override_settings", {})
        request = {**body, **changes, "override_settings": overrides, "candidates": count}
        answer = post(url, "/noiseorder/v1/audition", with_settings(request))
        previews = answer["previews"]
        if [preview["variant"] for preview in previews] != list(range(count)) or answer["notes"]:
            raise SystemExit(f"{folder}: the audition of {look} says {answer['notes']}")
        for preview in previews:
            save(preview["picture"], folder / f"{look.replace(' ', '-')}-{preview['variant']}.png")
        scores = [preview["score"] for preview in previews]
        told[look] = {"told": answer["told"], "cost": answer["cost"], "scores": scores}
    (folder / "told.json").write_text(json.dumps({"request": body, **told}), encoding="utf-8")


def save(picture: str, path: Path) -> None:
    with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2] or picture))) as image:
        image.convert("RGB").save(path)


def evaluations(request: dict[str, Any]) -> tuple[float, float]:
    """The evaluations of an image without its hires pass, and with it, whose evaluations count by their pixels."""
    each = 1 if request["cfg_scale"] == 1 else 2
    second = request["hr_second_pass_steps"] * request["hr_scale"] ** 2 if request.get("enable_hr") else 0.0
    return request["steps"] * each, (request["steps"] + second) * each


def pick(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The values of the candidates that have the highest scores, (n,)."""
    return values[np.arange(len(values)), scores.argmax(axis=1)]


def read(folders: Sequence[Path], scenes: Sequence[world.Scene], name: str, count: int) -> dict[str, np.ndarray]:
    """What the checker reads in these pictures, and their pixels, each (n, candidates, ...)."""
    found: dict[str, list[Any]] = {key: [] for key in ("right", "objects", "score", "pixels")}
    for variant in range(count):
        pictures = []
        for folder in folders:
            with Image.open(folder / f"{name}-{variant}.png") as image:
                pictures.append(image.convert("RGB"))
        readings = world.check(world.tensor_of(pictures), scenes)
        found["right"].append([float(reading.right) for reading in readings])
        found["objects"].append([float(reading.objects) for reading in readings])
        found["score"].append([reading.score for reading in readings])
        found["pixels"].append([np.asarray(p.resize((world.SIZE, world.SIZE)), np.float32).ravel() for p in pictures])
    return {key: np.stack(values, axis=1) for key, values in found.items()}


def auc(scores: np.ndarray, failed: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Per prompt that has both, how often a right candidate stands above a failed one."""
    values = []
    for score, lost, won in zip(scores, failed, right, strict=True):
        differences = score[won][:, None] - score[lost][None]
        if differences.size:
            values.append(((differences > 0) + (differences == 0) / 2).mean())
    return np.array(values)


def looks_of(record: dict[str, Any]) -> dict[str, str]:
    """The looks there are, and what the sheet says they are: "step 4 of a sketch of 7 steps", or "7 of 20 steps"."""
    return {look: record[look]["told"].split(" at ")[1].split(":")[0] for look in LOOKS if look in record}


def tell(folders: Sequence[Path], scenes: Sequence[world.Scene], about: Row) -> list[Row]:
    """Print what the choices bring, how like the previews are, what the critic sees; return it as rows of results."""
    records = [json.loads((folder / "told.json").read_text(encoding="utf-8")) for folder in folders]
    request = records[0]["request"]
    first_pass, whole = evaluations(request)
    finished = read(folders, scenes, "finished", COUNT)
    looks = looks_of(records[0])
    seen = {look: read(folders, scenes, look.replace(" ", "-"), LOOKS[look][0]) for look in looks}
    scores = {look: np.array([record[look]["scores"] for record in records], float) for look in looks}
    rows: dict[str, tuple[float, np.ndarray]] = {}

    def eye(reading: dict[str, np.ndarray]) -> np.ndarray:
        return reading["right"] + reading["score"]

    for look in [look for look in looks if look != "last steps"]:
        cost = records[0][look]["cost"] * first_pass
        rows[f"audition of {COUNT}, {looks[look]}, the model chooses"] = cost, scores[look]
        rows[f"audition of {COUNT}, {looks[look]}, the checker chooses"] = cost - COUNT, eye(seen[look])
    if "last steps" in looks:
        rows["2 finished, the model chooses"] = whole + 2, scores["last steps"]
    for count in range(2, COUNT + 1):
        rows[f"{count} finished, the checker chooses"] = (count - 1) * whole, eye(finished)[:, :count]

    def gain(name: str, metric: str) -> np.ndarray:
        scores_of, values = rows[name][1], finished[metric]
        return pick(values[:, : scores_of.shape[1]], scores_of) - values.mean(axis=1)

    p_values = dict(zip(rows, holm([p_value(gain(name, "right")) for name in rows]), strict=True))
    kept = []

    def keep(what: str, metric: str, cell: str, against: str = "", cost: float = 0, count: int = len(folders)) -> str:
        found = measured(cell, what=what, metric=metric, against=against, n=str(count), evaluations=f"{cost:.0f}")
        kept.append((found or row(what=what, metric=metric, n=str(count), evaluations="0", value=cell)) | about)
        return cell

    right, score = (keep("plain", metric, f"{finished[metric].mean():.3f}") for metric in ("right", "score"))
    print(f"N = {len(folders)}; plain, the mean of {COUNT} candidates: right {right}, score {score}.\n")
    print("| row | evaluations | right | score |\n|---|---|---|---|")
    for name, (cost, _) in rows.items():
        cells = [
            keep(name, metric, interval(gain(name, metric), bold), "plain", cost)
            for metric, bold in (("right", p_values[name] < 0.05), ("score", False))
        ]
        print(f"| {name} | {cost:.0f} | {' | '.join(cells)} |")
    first, *others = [name for name in rows if name.endswith("the model chooses")]
    print(f"\n| {first}, against | right |\n|---|---|")
    for name in others:
        difference = interval(gain(first, "right") - gain(name, "right"), bold=False)
        print(f"| {name} | {keep(first, 'right', difference, name, rows[first][0])} |")
    print("\n| look | correlation with the image: median, lowest tenth |\n|---|---|")
    for look, reading in seen.items():
        x, y = (
            values - values.mean(-1, keepdims=True)
            for values in (reading["pixels"], finished["pixels"][:, : reading["pixels"].shape[1]])
        )
        likes = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
        cells = [f"{np.quantile(likes, at):.3f}" for at in (0.5, 0.1)]
        for name, cell in zip(("median", "lowest tenth"), cells, strict=True):
            keep(looks[look], f"correlation with the image, {name}", cell)
        print(f"| {looks[look]} | {', '.join(cells)} |")
    print("\n| what the critic sees at | failed | prompts with both | AUC |\n|---|---|---|---|")
    won = finished["right"] > 0
    kinds = {
        "anything": ~won,
        "the objects": finished["objects"] == 0,
        "only their relation or ground": (finished["objects"] > 0) & ~won,
    }
    for look, where in looks.items():
        count = LOOKS[look][0]
        for kind, failed in kinds.items():
            values = auc(scores[look], failed[:, :count], won[:, :count])
            if len(values) > 1:
                cell = keep(
                    f"the critic at {where}", f"AUC, failed: {kind}", interval(values, bold=False), count=len(values)
                )
                print(f"| {where} | {kind} | {len(values)} | {cell} |")
    return kept


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, help="where what is made is kept; without it the prompts are printed")
    parser.add_argument("--count", type=int, default=256, help="prompts")
    parser.add_argument("--request", default="{}", help="what else txt2img is asked for, a JSON object")
    parser.add_argument("--looks", nargs="+", choices=list(LOOKS), default=list(LOOKS), help="how they are looked at")
    parser.add_argument("--name", default="", help="how the rows are called: of the WebUI and the sampler")
    parser.add_argument("--csv", type=Path, help="a file for the rows, with the columns of benchmarks/results")
    parser.add_argument("--tell-only", action="store_true", help="make nothing, tell what is there")
    options = parser.parse_args()
    request = {**REQUEST, "cfg_scale": 7.0, **json.loads(options.request)}
    scenes = scenes_of(options.count)
    if options.out is None:
        print("\n".join(prompt for _, prompt in scenes))
        return
    folders = [options.out / f"{k:04d}" for k in range(options.count)]
    for k, (folder, (_, prompt)) in enumerate(zip(folders, scenes, strict=True)):
        body = {**request, "prompt": prompt, "seed": SEED + k}
        path = folder / "told.json"
        if path.exists() and not options.tell_only:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["request"] != body or not set(options.looks) <= set(record):
                raise SystemExit(f"{folder} was made with another request or other looks: choose an --out for each")
        if not path.exists() and not options.tell_only:
            make(options.url, body, options.looks, folder)
            print(f"{k + 1} of {options.count}", file=sys.stderr)
    there = [k for k, folder in enumerate(folders) if (folder / "told.json").exists()]
    if not there:
        raise SystemExit(f"{options.out}: nothing is there yet")
    about = row(model=options.name, setting=f"{request['steps']} steps, CFG {request['cfg_scale']:g}")
    about = {name: value for name, value in about.items() if value}
    rows = tell([folders[k] for k in there], [scenes[k][0] for k in there], about)
    if options.csv:
        write(options.csv, rows)


if __name__ == "__main__":
    main()

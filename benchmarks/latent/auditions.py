"""What choosing noises brings in a real WebUI, with the latent world's checkpoint: by the critic, and by the checker.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from quality import holm, interval, p_value

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
        answer = post(url, "/noiseorder/v1/audition", with_settings({**body, **changes, "candidates": count}))
        previews = answer["previews"]
        if [preview["variant"] for preview in previews] != list(range(count)) or answer["notes"]:
            raise SystemExit(f"{folder}: the audition of {look} says {answer['notes']}")
        for preview in previews:
            save(preview["picture"], folder / f"{look.replace(' ', '-')}-{preview['variant']}.png")
        told[look] = {"told": answer["told"], "scores": [preview["score"] for preview in previews]}
    (folder / "told.json").write_text(json.dumps({"request": body, **told}), encoding="utf-8")


def save(picture: str, path: Path) -> None:
    with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2] or picture))) as image:
        image.convert("RGB").save(path)


def pick(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The values of the candidates that have the highest scores, (n,)."""
    return values[np.arange(len(values)), scores.argmax(axis=1)]


def read(folders: Sequence[Path], scenes: Sequence[world.Scene], name: str, count: int) -> dict[str, np.ndarray]:
    """What the checker reads in these pictures, and their pixels, each (n, candidates, ...)."""
    found: dict[str, list[Any]] = {key: [] for key in ("right", "objects", "said", "score", "pixels")}
    for variant in range(count):
        pictures = []
        for folder in folders:
            with Image.open(folder / f"{name}-{variant}.png") as image:
                pictures.append(image.convert("RGB"))
        readings = world.check(world.tensor_of(pictures), scenes)
        found["right"].append([float(reading.right) for reading in readings])
        found["objects"].append([float(reading.objects) for reading in readings])
        found["said"].append([float(reading.relation) for reading in readings])
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


def tell(folders: Sequence[Path], scenes: Sequence[world.Scene], cfg_scale: float) -> None:
    """Print what the choices bring, how like the previews are, and what the critic sees."""
    records = [json.loads((folder / "told.json").read_text(encoding="utf-8")) for folder in folders]
    each = 1 if cfg_scale == 1 else 2
    finished = read(folders, scenes, "finished", COUNT)
    looks = [look for look in LOOKS if look in records[0]]
    seen = {look: read(folders, scenes, look.replace(" ", "-"), LOOKS[look][0]) for look in looks}
    scores = {look: np.array([record[look]["scores"] for record in records], float) for look in looks}
    whole = records[0]["request"]["steps"] * each
    rows: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {}

    def eye(reading: dict[str, np.ndarray], count: int = COUNT) -> np.ndarray:
        return (reading["right"] + reading["score"])[:, :count]

    def row(name: str, evaluations: float, by: np.ndarray) -> None:
        rows[name] = evaluations, lambda values: pick(values[:, : by.shape[1]], by)

    for look in looks[:2]:
        calls = price(records, look)
        row(f"audition of {COUNT}, {look}, the model chooses", COUNT * (calls * each + 1), scores[look])
        row(f"audition of {COUNT}, {look}, the checker chooses", COUNT * calls * each, eye(seen[look]))
    if "last steps" in looks:
        row("two finished, the model chooses", whole + 2, scores["last steps"])
    for count in range(2, COUNT + 1):
        row(f"{count} finished, the checker chooses", (count - 1) * whole, eye(finished, count))
    values = {name: choose(finished["right"]) - finished["right"].mean(1) for name, (_, choose) in rows.items()}
    by_score = {name: choose(finished["score"]) - finished["score"].mean(1) for name, (_, choose) in rows.items()}
    p_values = dict(zip(rows, holm([p_value(values[name]) for name in rows]), strict=True))
    right, score = finished["right"].mean(), finished["score"].mean()
    print(f"N = {len(folders)}; {records[0]['sketch']['told']}; plain: right {right:.3f}, score {score:.3f}.\n")
    print("| row | evaluations | right | score |\n|---|---|---|---|")
    for name, (evaluations, _) in rows.items():
        bold = p_values[name] < 0.05
        cells = [interval(values[name], bold), interval(by_score[name], bold=False)]
        print(f"| {name} | {evaluations:.0f} | {' | '.join(cells)} |")
    difference = values[f"audition of {COUNT}, sketch, the model chooses"]
    print("\n| sketch, the model chooses, against | right |\n|---|---|")
    for name in [name for name in list(rows)[1:] if name.endswith("the model chooses")]:
        print(f"| {name} | {interval(difference - values[name], bold=False)} |")
    print("\n| look | correlation with the image: median, lowest tenth |\n|---|---|")
    for look, reading in seen.items():
        x, y = (
            values - values.mean(-1, keepdims=True)
            for values in (reading["pixels"], finished["pixels"][:, : reading["pixels"].shape[1]])
        )
        likes = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
        print(f"| {look} | {np.median(likes):.3f}, {np.quantile(likes, 0.1):.3f} |")
    print("\n| what the critic sees in a | failed at | prompts with both | AUC |\n|---|---|---|---|")
    won = finished["right"] > 0
    kinds = {
        "anything": ~won,
        "the objects": finished["objects"] == 0,
        "only their relation or ground": (finished["objects"] > 0) & ~won,
    }
    for look in looks:
        count = LOOKS[look][0]
        for kind, failed in kinds.items():
            values_of = auc(scores[look], failed[:, :count], won[:, :count])
            if len(values_of) > 1:
                print(f"| {look} | {kind} | {len(values_of)} | {interval(values_of, bold=False)} |")


def price(records: Sequence[dict[str, Any]], look: str) -> int:
    """Evaluations of a preview for each prompt, from what the sheet tells: "step 4 of …" or "7 of 20 steps"."""
    words = records[0][look]["told"].split(" at ")[1].split()
    return int(words[1] if words[0] == "step" else words[0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, required=True, help="where what is made is kept")
    parser.add_argument("--count", type=int, default=256, help="prompts")
    parser.add_argument("--request", default="{}", help="what else txt2img is asked for, a JSON object")
    parser.add_argument("--looks", nargs="+", choices=list(LOOKS), default=list(LOOKS), help="how they are looked at")
    parser.add_argument("--tell-only", action="store_true", help="make nothing, tell what is there")
    options = parser.parse_args()
    request = {**REQUEST, "cfg_scale": 7.0, **json.loads(options.request)}
    scenes = scenes_of(options.count)
    folders = [options.out / f"{k:04d}" for k in range(options.count)]
    for k, (folder, (_, prompt)) in enumerate(zip(folders, scenes, strict=True)):
        body = {**request, "prompt": prompt, "seed": SEED + k}
        path = folder / "told.json"
        if path.exists() and json.loads(path.read_text(encoding="utf-8"))["request"] != body:
            raise SystemExit(f"{folder} was made with another request: choose an --out for each")
        if not path.exists() and not options.tell_only:
            make(options.url, body, options.looks, folder)
            print(f"{k + 1} of {options.count}", file=sys.stderr)
    there = [k for k, folder in enumerate(folders) if (folder / "told.json").exists()]
    if not there:
        raise SystemExit(f"{options.out}: nothing is there yet")
    tell([folders[k] for k in there], [scenes[k][0] for k in there], request["cfg_scale"])


if __name__ == "__main__":
    main()

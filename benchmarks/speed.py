"""What Noise Order costs in a real WebUI: whole requests, with and without in turn.

    python benchmarks/speed.py --webui PATH [--webui-python PATH] [--runs 10] [--size 256] [--channels 32]
                               [--audition 9 | --calls]

Prints a Markdown table; with --audition that of an audition beside one picture, with --calls that of the model's calls
and their rows, which is counted and not timed. The checkpoint is a small one with
random weights, so the seconds say nothing of a real model; the ratio does, as far as the network takes most of the time
of a request: the wider, the more.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "live")]

from webui import WebUI, describe, host_of  # noqa: E402

from lib_noiseorder.config import FIELDS, NoiseOrderConfig  # noqa: E402
from lib_noiseorder.core.schedule import DEPTH  # noqa: E402

ROWS: dict[str, dict[str, object]] = {
    "Erase and inject: n = 4, guidance, K = 1": {"inject": 0.05},
    "n = 4, denoised (conditional only), K = 3": {"inject": 0.05, "direction": "denoised", "levels": 3},
    "n = 4, guidance, K = 3": {"inject": 0.05, "levels": 3},
    "Erase only, n = 4": {"inject": 0},
}


SAMPLERS = (("Euler", "Automatic"), ("DPM++ 2M", "Karras"))


def auditions(server: WebUI, kind: str, count: int, runs: int, request: dict[str, Any]) -> None:
    """An audition, as its button asks for it, beside pictures of the same settings.

    Pictures of all and of half the steps tell what a step takes, and what a picture takes beside: mostly its decoding.
    """
    print("| sampler | told | picture, s | of it steps | audition, s | ratio to the steps told | and decodings |")
    print("|---|---|---|---|---|---|---|")
    values = [getattr(NoiseOrderConfig(True, inject=0.0), field.name) for field in FIELDS]
    for sampler, scheduler in SAMPLERS:
        body = {**request, "sampler_name": sampler, "scheduler": scheduler}
        price_text = server.get(
            f"/noiseorder/v1/audition/cost?sampler={quote(sampler)}&scheduler={scheduler}&steps={request['steps']}"
            f"&candidates={count}"
        )["told"]
        steps = int(re.search(r"at (?:step )?(\d+) of", price_text)[1])
        half = request["steps"] // 2
        table = []
        for run in range(-1, runs):
            ticket = json.dumps({"id": f"{sampler} {run}", "candidates": count, "depth": DEPTH})
            order = [([], {}), ([], {"steps": half}), ([*values, ticket], {})]
            turn = run % 3
            order = order[turn:] + order[:turn]
            times = [
                seconds(server, kind, settings or [{"inject": 0.0}], **{**body, **changes})
                for settings, changes in order
            ]
            if run >= 0:  # the first is to warm up
                table.append(times[3 - turn :] + times[: 3 - turn])
        whole, part, all_of_them = (statistics.median(column) for column in zip(*table, strict=True))
        step = (whole - part) / (request["steps"] - half)
        beside = whole - request["steps"] * step
        counts = {"steps": count * steps / request["steps"] * whole, "all": count * (steps * step + beside)}
        ratios = {name: sorted(times[2] / counted for times in table) for name, counted in counts.items()}
        cells = [f"{statistics.median(each):.3f} ({each[0]:.3f} to {each[-1]:.3f})" for each in ratios.values()]
        share = request["steps"] * step / whole
        print(
            f"| {sampler}, {scheduler} | {price_text} | {whole:.3f} | {share:.0%} | {all_of_them:.3f} "
            f"| {' | '.join(cells)} |",
            flush=True,
        )


def calls(server: WebUI, kind: str, request: dict[str, object], only: str) -> None:
    """How often the model is called, and for how many rows, by the sampler and by us: counted inside the model."""
    print("| settings | calls | rows |")
    print("|---|---|---|")
    for name, settings in ((n, s) for n, s in ROWS.items() if only in n):
        counts = server.txt2img(kind, {"enabled": True, **settings}, **request).record
        cells = [f"{counts[each] - counts[f'own_{each}']} + {counts[f'own_{each}']}" for each in ("calls", "rows")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def seconds(server: WebUI, kind: str, settings: list[object], **request: object) -> float:
    """One whole request, as a client sees it."""
    start = time.perf_counter()
    server.txt2img(kind, *settings, **request)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webui", type=Path, required=True)
    parser.add_argument("--webui-python", type=Path)
    parser.add_argument("--kind", default="sd15")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--channels", type=int, default=32, help="width of AUTOMATIC1111's UNet (320 in SD1.5)")
    parser.add_argument("--audition", type=int, default=0, help="candidates; measure an audition of so many instead")
    parser.add_argument("--calls", action="store_true", help="count calls and rows instead of seconds")
    parser.add_argument("--only", default="", help="run the rows whose name holds this text")
    options = parser.parse_args()
    python = options.webui_python or options.webui / "venv" / "bin" / "python"
    request = {"steps": options.steps, "width": options.size, "height": options.size, "cfg_scale": 7}
    # Forge's generator takes the width that its configs ask for.
    channels = ["--channels", str(options.channels)] if host_of(options.webui) == "a1111" else []
    with tempfile.TemporaryDirectory() as data:
        server = WebUI(options.webui, python, Path(data))
        server.make_checkpoints([options.kind], *channels)
        with server.running(extension=True):
            print(
                f"{describe(options.webui)}, {options.kind} {' '.join(channels)}, "
                f"{options.size}x{options.size}, {options.steps} steps, CFG 7, CPU, median of {options.runs} pairs\n"
            )
            if options.audition:
                auditions(server, options.kind, options.audition, options.runs, request)
                return
            if options.calls:
                calls(server, options.kind, request, options.only)
                return
            print("| settings | evaluations | without, s | with, s | ratio of pairs: median (min to max) |")
            print("|---|---|---|---|---|")
            for name, settings in ((n, s) for n, s in ROWS.items() if options.only in n):
                on = [{"enabled": True, **settings}]
                server.txt2img(options.kind, *on, **request)
                pairs = []
                for run in range(options.runs):
                    # Each goes first as often as second: what warms the machine up favours neither.
                    order = [[], on] if run % 2 == 0 else [on, []]
                    times = [seconds(server, options.kind, arguments, **request) for arguments in order]
                    pairs.append(tuple(times if run % 2 == 0 else reversed(times)))
                ratios = sorted(b / a for a, b in pairs)
                rows = server.txt2img(options.kind, *on, **request).record["own_rows"]
                without, modulated = (statistics.median(column) for column in zip(*pairs, strict=True))
                print(
                    f"| {name} | {2 * options.steps} + {rows} | {without:.3f} | {modulated:.3f} "
                    f"| {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

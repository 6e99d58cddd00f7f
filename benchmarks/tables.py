"""The results of the benchmarks: kept as data, and made into what docs/ shows of them.

    python benchmarks/tables.py                    make the tables in docs/, and docs/gain.png
    python benchmarks/tables.py keep STUDY FILE    keep the tables that a benchmark has printed into FILE

A study is a file of benchmarks/results with the columns of COLUMNS; its command, seeds and what bold means stand in
studies.csv. Only the picture needs matplotlib.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"

COLUMNS = ("model", "setting", "what", "metric", "against", "n", "evaluations", "value", "low", "high", "bold")
"""Of a study. evaluations: beyond the plain image; value, low, high: as printed, the interval one of 95 %; bold: "yes"
where the study counts the value as different from 0."""
Row = dict[str, str]

# ---- Printed tables into rows

MEASURE = re.compile(r"(\*\*)?([+-]?[\d.]+) \[([+-]?[\d.]+), ([+-]?[\d.]+)\](?:\*\*)?")
AROUND = re.compile(r"([+-]?[\d.]+) ± ([\d.]+)")
PAIR = re.compile(r"([+-]?\d\.\d+)(?:, | / )([+-]?\d\.\d+)")
NUMBER = re.compile(r"[+-]?\d\.\d+")
MODEL_HEAD = re.compile(r"### (.+?), (\d+ steps, CFG [\d.]+)")
NAMES = {"Δ both": ("both", "plain")}
"""What a column of a printed table measures, and against what."""


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def column(head: str) -> tuple[str, str]:
    """The metric and what it is compared with, by the head of a column."""
    if head.startswith("against "):
        return "both", head.removeprefix("against ")
    return NAMES.get(head, (head, ""))


def row(**values: str) -> Row:
    return dict.fromkeys(COLUMNS, "") | values


def measured(cell: str, **values: str) -> Row | None:
    """The row of a cell with a value and its interval; None for any other cell."""
    if (found := MEASURE.match(cell)) is not None:
        value, low, high = (number.removeprefix("+") for number in found.groups()[1:])
        return row(value=value, low=low, high=high, bold="yes" if found[1] else "", **values)
    if (found := AROUND.fullmatch(cell)) is not None:
        middle, half, decimals = float(found[1]), float(found[2]), len(found[2].partition(".")[2])
        ends = {"value": middle, "low": middle - half, "high": middle + half}
        return row(**{name: f"{end:.{decimals}f}" for name, end in ends.items()}, **values)
    return None


def of_model(heads: Sequence[str], cells: Sequence[str], where: Row) -> list[Row]:
    """A line of a table under the heading of one model: its first cell says what was done, the others what that did."""
    counts = dict(zip(heads, cells, strict=True))
    about = {**where, "what": cells[0], "evaluations": counts.get("extra evaluations", "")}
    about["n"] = counts.get("N", where.get("n", ""))
    found = []
    for head, cell in zip(heads[1:], cells[1:], strict=True):
        metric, against = column(head)
        found.append(measured(cell, **about, metric=metric, against=against))
    return [each for each in found if each is not None]


def of_models(heads: Sequence[str], cells: Sequence[str], title: str) -> list[Row]:
    """A line of a table with a column for each model: its words say what was done, the title what was seen."""
    figures = [(head, cell) for head, cell in zip(heads, cells, strict=True) if is_figure(cell)]
    words = [cell for cell in cells if cell and not is_figure(cell)]
    rows = []
    for head, cell in figures:
        model, _, count = head.partition(", N = ")
        about = {"model": model, "what": ", ".join(words), "n": count}
        whole = measured(cell, **about, metric=title)
        pair = PAIR.fullmatch(cell)
        if whole is not None:
            rows.append(whole)
        elif pair is not None:
            rows += [row(**about, metric=f"{title}: {k}", value=pair[k]) for k in (1, 2)]
        else:
            rows.append(row(**about, metric=title, value=cell.removeprefix("+")))
    return rows


def is_figure(cell: str) -> bool:
    return any(pattern.fullmatch(cell) for pattern in (MEASURE, AROUND, PAIR, NUMBER))


def read_printed(text: str) -> list[Row]:
    """The rows of printed tables, of two kinds.

    With a model and a setting in the heading, a line of its plain images and rows of what was done, as `quality.py
    headline` prints them; or with a title, else a first head, and a column for each model.
    """
    rows: list[Row] = []
    where: Row = {}
    title = ""
    heads: list[str] = []
    for line in text.splitlines():
        if line.startswith("| ") and not heads:
            heads = cells_of(line)
        elif line.startswith("| "):
            cells = cells_of(line)
            rows += of_model(heads, cells, where) if where else of_models(heads, cells, title or heads[0])
        elif line.startswith("Plain: "):
            *shares, count = line.removeprefix("Plain: ").split(", ")
            where["n"] = count.removeprefix("N = ")
            for metric, value in map(str.split, shares):
                rows.append(row(**where, what="plain", metric=metric, evaluations="0", value=value))
        elif line and not line.startswith("|"):
            found = MODEL_HEAD.fullmatch(line)
            if line.startswith("### "):
                where = {"model": found[1], "setting": found[2]} if found else {}
            title = line.removeprefix("### ")
        elif heads and not line:
            heads, title = [], ""
    return rows


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def load(study: str) -> list[Row]:
    return read(RESULTS / f"{study}.csv")


def write(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


# ---- docs/evidence.md

MODELS = ("unet", "dit", "clutter-unet", "clutter-dit", "few")
FEW = "few"


class Shown(NamedTuple):
    """A line of the table: how it is called, and the study and the row it is from; few: the few-step model's row."""

    words: str
    study: str
    what: str
    few: str = ""


AUDITION = "Audition of 4 after {} steps, by the {}"
SHOWN = (
    Shown("Erase, n = 4", "headline", "Erase, n = 4"),
    Shown("Erase and inject", "headline", "Erase and inject: n = 4, guidance δ = 0.05"),
    Shown("the paper's formula as printed", "headline", "Paper, as printed"),
    Shown("Look-ahead", "headline", "Look-ahead, δ = 0.08"),
    Shown("Self-correction", "headline", "Self-correction, δ = 0.1"),
    Shown(
        "audition of 4, the model chooses", "headline", *(AUDITION.format(at, "model") for at in ("7 of 20", "1 of 4"))
    ),
    Shown(
        "audition of 4, the checker chooses",
        "headline",
        *(AUDITION.format(at, "checker") for at in ("7 of 20", "1 of 4")),
    ),
    Shown("audition by sketches, the model chooses", "sketches", "Audition of 4 after 4 of 7 steps, by the model"),
    Shown("two finished, the model chooses", "headline", "Best of 2 finished, by the model"),
    Shown("more steps: 50 of 20, 12 of 4", "headline", "50 steps", "12 steps"),
)


def find(rows: Sequence[Row], model: str, what: str) -> Row | None:
    """The row of this model against the plain image; None where it was not measured."""
    wanted = (model, what, "plain")
    return next((each for each in rows if (each["model"], each["what"], each["against"]) == wanted), None)


def cell(found: Row | None) -> str:
    if found is None:
        return ""
    value, low, high = (rounded(found[name]) for name in ("value", "low", "high"))
    text = f"{value} [{low}, {high}]"
    return f"**{text}**" if found["bold"] else text


def rounded(number: str) -> str:
    """To two decimals, with the sign that tells on which side of 0 it lies."""
    return f"{float(number):+.2f}".replace("-", "−")


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(["| " + " | ".join(each) + " |" for each in (heads, ["---"] * len(heads), *lines)])


def evidence() -> str:
    """What each setting brings on each model, beside what it costs."""
    lines = []
    for words, study, what, few in SHOWN:
        rows = load(study)
        found = [find(rows, model, (few or what) if model == FEW else what) for model in MODELS]
        costs = " / ".join(dict.fromkeys(each["evaluations"] for each in (found[0], found[-1]) if each is not None))
        lines.append([words, costs, *map(cell, found)])
    return table(["", "cost", *(f"`{model}`" for model in MODELS)], lines)


WEBUI = {
    "Erase, n = 4": "Erase only",
    "Erase and inject": "Erase and inject",
    "the paper's formula as printed": "Paper, as printed",
    "a link of n = 1.5": "Vary",
    "Self-correction": "Self-correction",
    "audition of 4, the model chooses": "audition of 4, .*, the model chooses",
    "audition of 4, the checker chooses": "audition of 4, .*, the checker chooses",
    "two finished, the checker chooses": "2 finished, the checker chooses",
    "38 steps": "38 steps",
}
"""Lines of the table of what was measured in WebUIs, each with a pattern of its rows; of several the first."""


def in_webuis() -> str:
    """What each setting brings to the latent world's images in each WebUI."""
    rows = [each for each in load("webui") if each["metric"] == "right"]
    models = dict.fromkeys((each["model"], each["setting"]) for each in rows)
    lines = []
    for words, pattern in WEBUI.items():
        own = [each for each in rows if each["against"] == "plain" and re.fullmatch(pattern, each["what"])]
        first = {(each["model"], each["setting"]): each for each in reversed(own)}
        found = [first.get(model) for model in models]
        cost = " / ".join(dict.fromkeys(each["evaluations"] for each in found if each is not None))
        lines.append([words, cost, *map(cell, found)])
    heads = [f"{model}, CFG {setting.rpartition(' ')[2]}" for model, setting in models]
    return table(["", "cost", *heads], lines)


# ---- docs/compatibility.md

HOSTS = ("AUTOMATIC1111", "Forge", "reForge", "Forge Neo", "ersatzForge")


def compatibility() -> str:
    """How many live tests passed by checkpoint and WebUI, each with the version they were of; other trees below."""
    records = read(DOCS / "compatibility.csv")
    checkpoints = dict.fromkeys(each["checkpoint"] for each in records if each["host"] in HOSTS)
    matrix = [
        [checkpoint, *("<br>".join(run(each) for each in records if of(each) == (host, checkpoint)) for host in HOSTS)]
        for checkpoint in checkpoints
    ]
    trees = [
        [each["host"], each["commit"], each["checkpoint"], run(each)] for each in records if each["host"] not in HOSTS
    ]
    others = table(["another tree", "commit", "checkpoint", "live tests passed"], trees)
    return table(["checkpoint", *HOSTS], matrix) + "\n\n" + others


def of(record: Row) -> tuple[str, str]:
    return record["host"], record["checkpoint"]


def run(record: Row) -> str:
    passed, failed = int(record["passed"]), int(record["failed"])
    count = f"{passed} of {passed + failed}" if failed else f"{passed}"
    note = f" [^{record['note']}]" if record["note"] else ""
    return f"{record['tests']} ({record['version']}): {count}{note}"


# ---- The pages

PAGES = {"evidence.md": 2, "compatibility.md": 1}
"""Pages of docs/ with tables, and how many."""
TABLES = {"evidence.md": evidence, "webui": in_webuis, "compatibility.md": compatibility}
MARK = re.compile(r"(<!-- made by benchmarks/tables.py(?:: (\w+))? -->\n\n)(?:.*?\n\n)?(<!-- end -->)", re.DOTALL)
"""Around a table, with its name where a page has two."""


def filled(page: str) -> str:
    """The text of a page of docs/ with its table as the data say."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return MARK.sub(lambda found: found[1] + TABLES[found[2] or page]() + "\n\n" + found[3], text)


KINDS = {
    "self-correction": (r"Self-correction.*", "black", "*"),
    "noise modulated": (r"(Inject|Look-ahead|Paper|Erase).*", "tab:blue", "o"),
    "more steps": (r"\d+ steps", "tab:grey", "s"),
    "other CFG": (r"CFG .*", "tab:brown", "D"),
    "audition, by the model": (r"Audition .* by the model", "tab:red", "^"),
    "audition, by the checker": (r"Audition .* by the checker", "tab:orange", "^"),
    "best of N finished, by the model": (r"Best .* by the model", "tab:purple", "v"),
    "best of N finished, by the checker": (r"Best .* by the checker", "tab:green", "v"),
}
"""In the picture: which rows, their colour and marker."""


def draw(rows: Sequence[Row], path: Path) -> None:
    """Gain against cost, a panel per model: the difference of both right over evaluations beyond the plain image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="tight")
    panels = figure.subplots(2, 3, sharey=True).flat
    models = list(dict.fromkeys(each["model"] for each in rows))
    for panel, model in zip(panels, models, strict=False):
        own = [each for each in rows if each["model"] == model]
        against = [each for each in own if each["against"] == "plain"]
        plain = next(each for each in own if (each["what"], each["metric"]) == ("plain", "both"))
        panel.axhline(0, color="black", linewidth=0.8)
        for label, (pattern, colour, marker) in KINDS.items():
            series = [each for each in against if re.fullmatch(pattern, each["what"])]
            cost, value, low, high = (
                [float(each[name]) for each in series] for name in ("evaluations", "value", "low", "high")
            )
            below = [middle - end for middle, end in zip(value, low, strict=True)]
            above = [end - middle for middle, end in zip(value, high, strict=True)]
            panel.errorbar(
                cost,
                value,
                [below, above],
                color=colour,
                marker=marker,
                markersize=5,
                linestyle="-" if label.startswith(("more", "best")) else "",
                linewidth=1,
                capsize=2,
                label=label,
            )
        panel.set_title(f"{model}, {plain['setting']}: {float(plain['value']):.2f} right", fontsize=10)
        panel.set_xlabel("evaluations beyond the plain image", fontsize=8)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=8)
    *_, legend = figure.axes
    for left in (figure.axes[0], figure.axes[3]):
        left.set_ylabel("Δ objects and relation right", fontsize=8)
    legend.axis("off")
    legend.legend(*figure.axes[0].get_legend_handles_labels(), loc="center", fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keep", nargs="*", metavar="keep STUDY FILE")
    words = parser.parse_args().keep
    if words and (len(words) != 3 or words[0] != "keep"):
        parser.error("say nothing, or keep, the name of a study, and a file of printed tables")
    if words:
        rows = read_printed(Path(words[2]).read_text(encoding="utf-8"))
        if not rows:
            parser.error(f"{words[2]} holds no table")
        write(RESULTS / f"{words[1]}.csv", rows)
        return
    for page in PAGES:
        (DOCS / page).write_text(filled(page), encoding="utf-8")
    draw(load("headline"), DOCS / "gain.png")


if __name__ == "__main__":
    main()

"""The documentation: links that lead somewhere, images that are small, tables that are what was measured."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import tables  # noqa: E402

LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
PAGES = [ROOT / name for name in LISTED.split()] or sorted(
    page for page in ROOT.rglob("*.md") if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
IMAGES = sorted(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".webp"))
STUDIES = sorted(path.stem for path in tables.RESULTS.glob("*.csv") if path.stem != "studies")


def read(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    plain = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    heads = [
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#{1,6} +(.+)$", plain, re.MULTILINE)
    ]
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def test_anchors_are_named_as_github_does():
    text = "# Noise Order\n## The method, as implemented\n### [Erase](a.md) (NLN): `n`\n```\n# no heading\n```\n"
    assert anchors(text) == {"noise-order", "the-method-as-implemented", "erase-nln-n"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text, lost = read(page), []
    for target in [first or second for first, second in LINK.findall(text)]:
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(read(file))):
            lost.append(target)
    notes = set(re.findall(r"\[\^([\w-]+)\](?!:)", text)) ^ set(re.findall(r"^\[\^([\w-]+)\]:", text, re.MULTILINE))
    assert not lost
    assert not notes, "a footnote without its text, or the other way round"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    # Paths from the root, as commands have them.
    named = set(re.findall(r"\b((?:benchmarks|tests|docs|lib_noiseorder|scripts)/[\w/.-]*\w)", read(page)))
    assert not {name for name in named if not (ROOT / name).exists() and not (page.parent / name).exists()}


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_images_are_small(image):
    assert image.stat().st_size <= 300 * 1024


def test_the_readme_is_read_in_a_minute():
    text = read("README.md")
    assert len(text.split()) <= 350
    assert "    make playground\n" in text
    assert "    make test\n" in text


def test_one_description_everywhere():
    description = "See what several noises of a seed will become, choose one, refine it, generate exactly that image."
    assert read("README.md").split("\n\n")[1] == description
    assert re.findall(r'^description = "(.*)"$', read("pyproject.toml"), re.MULTILINE) == [description]
    assert json.loads(read("docs/index-entry.json"))["description"] == description


@pytest.mark.parametrize(("page", "count"), tables.PAGES.items())
def test_tables_are_what_the_data_say(page, count):
    """Else run `python benchmarks/tables.py`."""
    assert len(tables.MARK.findall(read(f"docs/{page}"))) == count
    assert tables.filled(page) == read(f"docs/{page}")


def test_the_evidence_is_two_tables_of_ten_rows_at_most():
    rows = re.compile(r"(?:^\| .*\n)+", re.MULTILINE)
    text = read("docs/evidence.md")
    assert [len(table.splitlines()) - 2 <= 10 for table in rows.findall(text)] == [True, True]
    assert len(rows.sub("", text).split()) <= 1200


def test_every_study_says_how_it_was_made():
    described = tables.read(tables.RESULTS / "studies.csv")
    assert sorted(each["study"] for each in described) == STUDIES
    assert all(each["command"] and each["bold"] for each in described)


@pytest.mark.parametrize("study", STUDIES)
def test_studies_have_one_schema(study):
    rows = tables.load(study)
    assert rows
    for row in rows:
        assert tuple(row) == tables.COLUMNS
        assert row["what"]
        assert row["metric"]
        assert row["bold"] in ("", "yes")
        if row["low"]:
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
        assert math.isfinite(float(row["value"]))


PRINTED = """
### unet, 20 steps, CFG 3

Plain: objects 0.817, both 0.806, score 0.973, N = 1024

| row | N | extra evaluations | Δ both | against more steps |
|---|---|---|---|---|
| CFG 5 | 512 | 0 | **-0.122 [-0.147, -0.099]** |  |
| Self-correction | 1024 | 4 | +0.096 [+0.067, +0.123] | +0.100 [+0.073, +0.127] |

### What a box keeps: correlation outside / inside

| box, n | dit, N = 256 |
|---|---|
| a quarter, 4 | 0.96 / 0.41 |

| judge | look | mean of the models |
|---|---|---|
| checker | 4 of 7 | +0.150 ± 0.012 |
"""


def test_what_a_benchmark_prints_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    tables.write(tables.RESULTS / "new.csv", tables.read_printed(PRINTED))
    rows = tables.load("new")
    names = ("model", "what", "metric", "against", "n", "evaluations", "value", "low", "high", "bold")
    assert [tuple(each[name] for name in names) for each in rows] == [
        ("unet", "plain", "objects", "", "1024", "0", "0.817", "", "", ""),
        ("unet", "plain", "both", "", "1024", "0", "0.806", "", "", ""),
        ("unet", "plain", "score", "", "1024", "0", "0.973", "", "", ""),
        ("unet", "CFG 5", "both", "plain", "512", "0", "-0.122", "-0.147", "-0.099", "yes"),
        ("unet", "Self-correction", "both", "plain", "1024", "4", "0.096", "0.067", "0.123", ""),
        ("unet", "Self-correction", "both", "more steps", "1024", "4", "0.100", "0.073", "0.127", ""),
        ("dit", "a quarter, 4", "What a box keeps: correlation outside / inside: 1", "", "256", "", "0.96", "", "", ""),
        ("dit", "a quarter, 4", "What a box keeps: correlation outside / inside: 2", "", "256", "", "0.41", "", "", ""),
        ("mean of the models", "checker, 4 of 7", "judge", "", "", "", "0.150", "0.138", "0.162", ""),
    ]


def test_the_picture_is_drawn(tmp_path):
    tables.draw(tables.load("headline"), tmp_path / "gain.png")
    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")

"""What was done to the noise in the last generation of each tab, in one line for the panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core import Report

STRONGER = 1.1
"""From here on the noise is stronger by what was done to it ("as printed"), and not by chance."""


def summary(passes: Mapping[str, Sequence[Report]], refusals: Sequence[str], batches: int) -> str:
    """The reports of all batches, pass by pass, and why the noise of some was left as it is."""
    lines = [f"{name.capitalize()} pass: {describe(reports)}" for name, reports in passes.items()]
    if len(lines) == 1:
        lines = [text[0].upper() + text[1:] for text in map(describe, passes.values())]
    if refusals:
        some = f" in {len(refusals)} of {batches} batches" if len(refusals) < batches else ""
        lines.append(f"Noise left as it is{some}: {'; '.join(dict.fromkeys(refusals))}")
    return ". ".join(lines)


def describe(reports: Sequence[Report]) -> str:
    """Means over all images of one pass."""

    def mean(name: str) -> float:
        values = [value for report in reports for value in getattr(report, name)]
        return sum(values) / len(values)

    parts = [f"{share(mean('cosine'))} of this seed's noise kept"]
    if any(report.angle for report in reports):
        count = max(report.evaluations for report in reports)
        parts.append(
            f"turned by {mean('angle'):.1f}° by Inject, {count} model evaluation{'' if count == 1 else 's'} per image"
        )
    else:
        parts.append("nothing injected")
    strength = mean("std_after") / mean("std_before")
    if strength > STRONGER:
        parts.append(f"made {strength:.2f} times as strong")
    return "; ".join((*parts, *dict.fromkeys(note for report in reports for note in report.notes)))


def share(cosine: float) -> str:
    """How much of the seed's own noise there is in the new one, in words where there are some."""
    percent = round(100 * cosine)
    if abs(percent - 50) <= 5:
        return "half"
    return "all" if percent >= 100 else f"{percent} %"

"""What was done to the noise in the last generation of each tab, in one line for the panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core import Report


def summary(passes: Mapping[str, Sequence[Report]], refusals: Sequence[str], batches: int) -> str:
    """The reports of all batches, pass by pass, and why the noise of some was left as it is."""
    lines = [f"{name.capitalize()} pass: {describe(reports)}" for name, reports in passes.items()]
    if len(lines) == 1:
        lines = [f"Noise: {describe(reports)}" for reports in passes.values()]
    if refusals:
        some = f" in {len(refusals)} of {batches} batches" if len(refusals) < batches else ""
        lines.append(f"Noise left as it is{some}: {'; '.join(dict.fromkeys(refusals))}")
    return ". ".join(lines)


def describe(reports: Sequence[Report]) -> str:
    """Means over all images of one pass."""

    def mean(name: str) -> float:
        values = [value for report in reports for value in getattr(report, name)]
        return sum(values) / len(values)

    count = max(report.evaluations for report in reports)
    parts = [f"{100 * mean('cosine'):.0f} % of the seed's own kept"]
    if any(report.angle for report in reports):
        parts.append(f"turned by {mean('angle'):.1f}°")
    parts.append(f"standard deviation {mean('std_before'):.2f} → {mean('std_after'):.2f}")
    parts.append(f"{count} model evaluation{'' if count == 1 else 's'} per image")
    return ", ".join((*parts, *dict.fromkeys(note for report in reports for note in report.notes)))

"""The chain of erasures behind the first one, as a text that people read and write. Standard library only.

`1.2 v7; 64 v2 @ 0.5 0.1 0.95 0.6` are two links: n = 1.2 with variant 7, then n = 64 with variant 2 inside a box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST = 16
"""Links a chain can have."""
DECIMALS = 4
HIGHEST_N, HIGHEST_VARIANT = 64.0, 9999
LINK = (
    f"n above 1 and up to {HIGHEST_N:g}, a variant from v0 to v{HIGHEST_VARIANT}, and for a part of the image @ with "
    "left, top, right and bottom from 0 to 1"
)
EXAMPLE = "1.2 v7; 64 v2 @ 0.5 0.1 0.95 0.6"
NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
PATTERN = re.compile(rf"{NUMBER}(?:\s*v(\d{{1,6}}))?(?:\s*@\s*{NUMBER}\s+{NUMBER}\s+{NUMBER}\s+{NUMBER})?", re.ASCII)
KEYS = ("n", "variant", "box")


class ChainError(ValueError):
    """A chain that cannot be used; its text names the link and what is allowed."""


class Link(NamedTuple):
    """One further erasure: of how many draws, with which family of fresh ones, and inside which box.

    box: left, top, right and bottom in fractions of the image; None is everywhere.
    """

    n: float
    variant: int = 0
    box: tuple[float, float, float, float] | None = None

    def __str__(self) -> str:
        box = f" @ {' '.join(map(number, self.box))}" if self.box else ""
        return f"{number(self.n)} v{self.variant}{box}"


def number(value: float) -> str:
    """As short as it can be read back exactly: numbers of a chain have at most DECIMALS decimals."""
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")


def read_chain(value: object) -> tuple[Link, ...]:
    """The links of a text, or of a list of objects with n, variant and box.

    Raises ChainError, and TypeError for what is neither.
    """
    if isinstance(value, str):
        # A line break, and a trailing separator, are no link.
        parts: Sequence[Any] = [part for part in (each.strip() for each in re.split(r"[;\n]", value)) if part]
    elif isinstance(value, (list, tuple)):
        parts = value
    else:
        raise TypeError(f"a chain is a text or a list, not {type(value).__name__}")
    if len(parts) > MOST:
        raise ChainError(f"must have at most {MOST} links, and has {len(parts)}: start from another Variant of Erase")
    return tuple(link(k, part) for k, part in enumerate(parts, 1))


def link(place: int, part: Any) -> Link:
    """One link of the chain, counted from 1. Raises ChainError."""
    try:
        result = of_text(part) if isinstance(part, str) else of_mapping(part)
        if result is not None and is_possible(result):
            rounded = Link(short(result.n), int(result.variant), result.box and (*map(short, result.box),))  # type: ignore[arg-type]
            if is_possible(rounded):
                return rounded
    except (TypeError, ValueError, OverflowError):  # an object of another type may do anything
        pass
    text = " ".join(repr(part).split())
    shown = text if len(text) <= 60 else text[:57] + "..."
    raise ChainError(f'link {place}, {shown}, must be {LINK}, as in "{EXAMPLE}"')


def short(value: float) -> float:
    return round(float(value), DECIMALS)


def of_text(text: str) -> Link | None:
    found = PATTERN.fullmatch(text)
    if found is None:
        return None
    box = tuple(float(side) for side in found.groups()[2:] if side)
    return Link(float(found[1]), int(found[2] or 0), box or None)  # type: ignore[arg-type]


def of_mapping(part: Any) -> Link | None:
    if isinstance(part, Link):
        return part
    if not isinstance(part, Mapping) or "n" not in part or not set(part) <= set(KEYS):
        return None
    box = part.get("box")
    return Link(part["n"], part.get("variant", 0), None if box is None else tuple(box))


def is_possible(link: Link) -> bool:
    """Whether all numbers of a link are numbers and in their ranges."""
    box = link.box if link.box is not None else (0, 0, 1, 1)
    values = (link.n, link.variant, *box)
    if len(box) != 4 or not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        return False
    left, top, right, bottom = box
    return (
        1 < link.n <= HIGHEST_N
        and 0 <= link.variant <= HIGHEST_VARIANT
        and link.variant == int(link.variant)
        and 0 <= left < right <= 1
        and 0 <= top < bottom <= 1
    )


def write_chain(links: Sequence[Link]) -> str:
    """The text of these links; empty where there are none."""
    return "; ".join(map(str, links))


def with_variant(links: Sequence[Link], variant: int) -> tuple[Link, ...]:
    """The chain whose last link has this variant."""
    return (*links[:-1], links[-1]._replace(variant=variant))

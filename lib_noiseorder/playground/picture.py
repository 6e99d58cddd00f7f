"""A comparison as one picture: the seeds side by side, without above with, what was asked for besides between them."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from .comparison import Comparison

_MARGIN, _LINE = 8, 15
_INK, _PAPER, _RIGHT, _WRONG = (30, 30, 30), (255, 255, 255), (20, 120, 50), (170, 40, 30)


def grid(comparison: Comparison, title: str, columns: int = 8) -> Image.Image:
    """The picture; the checker's words under each image, green where objects and relation are right."""
    side = comparison.without.pictures.shape[1]
    count = len(comparison.seeds)
    columns = min(columns, count)
    rows = -(-count // columns)
    cell = max(side, 132) + _MARGIN
    block = _LINE + rows * (side + 3 * _LINE + _MARGIN)
    parts = {
        "Without": comparison.without,
        **{name.capitalize(): side for name, side in comparison.between.items()},
        "With Noise Order": comparison.modulated,
    }
    sheet = Image.new("RGB", (2 * _MARGIN + columns * cell, 2 * _MARGIN + _LINE + len(parts) * block), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    draw.text((_MARGIN, _MARGIN), title, _INK, font)
    for index, (name, part) in enumerate(parts.items()):
        top = _MARGIN + _LINE + index * block
        draw.text((_MARGIN, top), f"{name}: {part.tally()}", _INK, font)
        for k, (seed, found) in enumerate(zip(comparison.seeds, part.found, strict=True)):
            x = _MARGIN + k % columns * cell
            y = top + _LINE + k // columns * (side + 3 * _LINE + _MARGIN)
            sheet.paste(Image.fromarray(part.pictures[k]), (x, y))
            colour = _RIGHT if found.both else _WRONG
            for line, words in enumerate([f"seed {seed}", *found.words.split("; ")][:3]):
                draw.text((x, y + side + 2 + line * (_LINE - 2)), words, colour if line else _INK, font)
    return sheet

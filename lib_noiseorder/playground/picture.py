"""A comparison as one image: without above with, what was asked for besides between them; an audition: its sheet."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from .audition import Candidates
from .comparison import Comparison

MARGIN, LINE, FONT = 8, 16, 12
INK, PAPER, RIGHT, WRONG = (30, 30, 30), (255, 255, 255), (20, 120, 50), (170, 40, 30)
FRAME = (235, 140, 0)


def grid(comparison: Comparison, title: str, columns: int = 8) -> Image.Image:
    """The whole image; the checker's words under each image, green where objects and relation are right."""
    side = comparison.without.images.shape[1]
    count = len(comparison.seeds)
    columns = min(columns, count)
    rows = -(-count // columns)
    cell = max(side, 132) + MARGIN
    block = LINE + rows * (side + 3 * LINE + MARGIN)
    parts = {
        "Without": comparison.without,
        **{name.capitalize(): side for name, side in comparison.between.items()},
        "With Noise Order": comparison.modulated,
    }
    sheet = Image.new("RGB", (2 * MARGIN + columns * cell, 2 * MARGIN + LINE + len(parts) * block), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    draw.text((MARGIN, MARGIN), title, INK, font)
    for index, (name, part) in enumerate(parts.items()):
        top = MARGIN + LINE + index * block
        draw.text((MARGIN, top), f"{name}: {part.tally()}", INK, font)
        for k, (seed, result) in enumerate(zip(comparison.seeds, part.results, strict=True)):
            x = MARGIN + k % columns * cell
            y = top + LINE + k // columns * (side + 3 * LINE + MARGIN)
            sheet.paste(Image.fromarray(part.images[k]), (x, y))
            colour = RIGHT if result.both else WRONG
            for line, words in enumerate([f"seed {seed}", *result.words.split("; ")][:3]):
                draw.text((x, y + side + 2 + line * (LINE - 2)), words, colour if line else INK, font)
    return sheet


def contact_sheet(sheet: Candidates, title: str) -> Image.Image:
    """The previews, labelled; the checker's words under each, and a frame around the one the model chooses."""
    side, count = sheet.images.shape[1], len(sheet.variants)
    cell, left = max(side, 144) + MARGIN, 60
    block = side + 3 * LINE + MARGIN
    lines = [title, *f"{sheet.tally()}. Framed: what the model chooses.".split(". ", 1)]
    font = ImageFont.load_default(FONT)
    width = max(left + count * cell, *(MARGIN + round(font.getlength(line)) for line in lines)) + MARGIN
    head = MARGIN + (len(lines) + 1) * LINE + MARGIN
    canvas = Image.new("RGB", (width, head + LINE + len(sheet.seeds) * block), PAPER)
    draw = ImageDraw.Draw(canvas)
    for line, words in enumerate(lines):
        draw.text((MARGIN, MARGIN + line * LINE), words, INK, font)
    for column, variant in enumerate(sheet.variants):
        draw.text((left + column * cell, head - LINE), f"variant {variant}", INK, font)
    for row, seed in enumerate(sheet.seeds):
        y = head + 4 + row * block
        draw.text((MARGIN, y), f"seed {seed}", INK, font)
        for column in range(count):
            x, k = left + column * cell, row * count + column
            canvas.paste(Image.fromarray(sheet.images[k]), (x, y))
            if column == sheet.best(row):
                draw.rectangle((x - 4, y - 4, x + side + 3, y + side + 3), outline=FRAME, width=4)
            result = sheet.results[k]
            for line, words in enumerate(["right" if result.both else "wrong", *result.words.split("; ")][:3]):
                draw.text((x, y + side + 4 + line * (LINE - 2)), words, RIGHT if result.both else WRONG, font)
    return canvas

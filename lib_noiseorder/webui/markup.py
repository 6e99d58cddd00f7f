"""Text as HTML that a WebUI can translate."""

from __future__ import annotations

import html
import re

NUMBER = re.compile(r"((?<![\w.])\d+(?:\.\d+)?(?!\w))")


def words(text: str) -> str:
    """Text as an HTML component shows it: a preset's name may look like HTML, or like Markdown with an image.

    Numbers stand by themselves, as a WebUI translates whole pieces of text.
    """
    parts = NUMBER.split(html.escape(text))
    return f"<p>{''.join(f'<span>{part}</span>' if k % 2 else part for k, part in enumerate(parts))}</p>"

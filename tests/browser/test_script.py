"""What the browser runs can be read by one, before any page is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "javascript").glob("*.js"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_is_javascript(browser, path):
    page = browser.new_page()
    page.evaluate("text => { new Function(text); }", path.read_text(encoding="utf-8"))
    page.close()

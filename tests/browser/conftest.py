from __future__ import annotations

import pytest
from handling import open_tab


@pytest.fixture(scope="module")
def tab(browser):
    """One for all tests of a file: what it has loaded once it need not load for the next."""
    tab = open_tab(browser)
    yield tab
    tab.close()

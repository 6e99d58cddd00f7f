from __future__ import annotations

import dataclasses

import pytest

from lib_noiseorder.webui import options


def test_nothing_stored_is_the_defaults():
    assert options.read({}) == options.Options("Default", "switch off", "continue", "one line per batch", False)


def test_what_is_stored_is_read_under_these_keys():
    stored = {
        "noiseorder_default_preset": "Mine",
        "noiseorder_paste": "leave alone",
        "noiseorder_on_failure": "stop",
        "noiseorder_console": "everything",
        "noiseorder_inspector": True,
        "noiseorder_adetailer": True,
        "other": 1,
    }
    assert dataclasses.astuple(options.read(stored)) == ("Mine", "leave alone", "stop", "everything", True, True)


@pytest.mark.parametrize("junk", [None, 3, "no such choice", [], {}])
@pytest.mark.parametrize("key", ["paste", "on_failure", "console", "inspector"])
def test_junk_counts_as_the_default(key, junk):
    assert options.read({f"noiseorder_{key}": junk}) == options.Options()

from __future__ import annotations

import dataclasses

import pytest

from lib_noiseorder.config import SettingError
from lib_noiseorder.webui import options


def test_nothing_stored_is_the_defaults():
    assert options.read({}) == options.Options("Default", "switch off", "continue", "one line per batch", False)


def test_what_is_stored_is_read_under_these_keys():
    data = {
        "noiseorder_default_preset": "Mine",
        "noiseorder_paste": "leave alone",
        "noiseorder_on_failure": "stop",
        "noiseorder_console": "everything",
        "noiseorder_inspector": True,
        "noiseorder_adetailer": True,
        "noiseorder_sketches": False,
        "noiseorder_preview_quality": "as the live preview",
        "noiseorder_previews_in_gallery": False,
        "other": 1,
    }
    read = dataclasses.astuple(options.read(data))
    assert read == ("Mine", "leave alone", "stop", "everything", True, True, False, "as the live preview", False)


@pytest.mark.parametrize("junk", [None, 3, "no such choice", [], {}])
@pytest.mark.parametrize("key", ["paste", "on_failure", "console", "inspector", "preview_quality"])
def test_junk_counts_as_the_default(key, junk):
    assert options.read({f"noiseorder_{key}": junk}) == options.Options()


class Opts:
    """As the hosts' `shared.opts` does it."""

    def __init__(self, fault=None, silent=False):
        self.data, self.saves, self.fault, self.silent = {"noiseorder_inspector": False}, [], fault, silent

    def set(self, key, value):
        if not self.silent:
            self.data[key] = value

    def save(self, file):
        if self.fault:
            raise self.fault
        self.saves.append((file, dict(self.data)))


def test_an_option_is_set_and_saved():
    opts = Opts()
    options.write(opts, "inspector", True, "config.json")
    assert opts.saves == [("config.json", {"noiseorder_inspector": True})]
    assert options.read(opts.data).inspector


@pytest.mark.parametrize("fault", [AssertionError("is disabled"), RuntimeError("is disabled"), OSError("is disabled")])
def test_why_an_option_cannot_be_saved_is_told(fault):
    with pytest.raises(SettingError, match="“Keep what the noise inspector shows” cannot be set or saved: is disabled"):
        options.write(Opts(fault), "inspector", True, "config.json")


def test_an_option_that_the_host_leaves_as_it_was_is_told():
    with pytest.raises(SettingError, match="does not allow it"):
        options.write(Opts(silent=True), "inspector", True, "config.json")

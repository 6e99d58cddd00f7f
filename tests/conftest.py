from __future__ import annotations

import os
import shutil
import sys
import tempfile

import pytest

# Every fake WebUI loads the modules that are bound to it anew: compiled once, whatever the environment says.
sys.dont_write_bytecode = False
sys.pycache_prefix = tempfile.gettempdir() + "/noiseorder-pycache"
# The processes are as many as the cores. With threads besides, they wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Gradio looks for a free port and then takes it: two processes that look at once would be given one, and a page would
# be the other's. Each has a hundred of its own.
os.environ["GRADIO_SERVER_PORT"] = str(10_000 + os.getpid() % 220 * 100)

# Nothing outside this machine is asked for: a page must work without a network, and a test must not wait for one.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium: the system's own, else the one Playwright installed."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()

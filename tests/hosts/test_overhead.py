"""What Noise Order takes where it is not used: of the host's start, and of every generation while it is off."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import multicond

IMPORTED = 0.150
"""Seconds of the processor for importing the script on top of what every host has imported itself, from sources."""
OFF = 50e-6
"""Seconds of the processor for one hook."""

START = """
import sys, time
import torch, gradio, numpy, PIL.Image, PIL.ImageDraw, fastapi, safetensors, pytest, fakes
import importlib.util as util
original, began = util.spec_from_file_location, []
def spec(*args, **kwargs):
    began.append(time.process_time())
    return original(*args, **kwargs)
util.spec_from_file_location = spec
getattr(fakes, sys.argv[1])(pytest.MonkeyPatch())
print(time.process_time() - began[0])
"""


@pytest.mark.parametrize("fake", ["A1111", "Forge", "Neo"])
@pytest.mark.slow
def test_the_script_is_imported_quickly(fake):
    here = Path(__file__).parent
    code = f"import sys; sys.path[:0] = {[str(here.parents[1]), str(here)]!r}; sys.dont_write_bytecode = True\n{START}"
    times = []
    for _ in range(3):
        process = subprocess.run([sys.executable, "-c", code, fake], capture_output=True, text=True, check=True)
        times.append(float(process.stdout.split()[-1]))
    assert min(times) < IMPORTED, times


def hooks(host, p, settings):
    """Every hook in the host's order, switched off."""
    script, noise = host.script, host.draw(host.shape, p.seeds)
    arguments = {"x": noise, "noise": noise, "c": multicond(p.prompts), "uc": host.uncond(p)}
    return {
        "before_process": lambda: script.before_process(p, *settings),
        "process": lambda: script.process(p, *settings),
        "process_batch": lambda: script.process_batch(p, *settings, batch_number=0),
        "process_before_every_sampling": lambda: script.process_before_every_sampling(p, *settings, **arguments),
        "post_sample": lambda: script.post_sample(p, None, *settings),
        "postprocess": lambda: script.postprocess(p, None, *settings),
    }


@pytest.mark.parametrize("settings", [(False,), ({"enabled": False},)])
def test_every_hook_is_quick_while_it_is_off(host, settings):
    p = host.processing(["a cat"], [""], [1])
    p.script_args = (0, *settings)
    p.sd_model = host.model(p)
    for name, hook in hooks(host, p, settings).items():
        hook()
        best = min(measure(hook) for _ in range(5))
        assert best < OFF, f"{name}: {best * 1e6:.0f} µs"


def measure(hook, count=200):
    start = time.process_time()
    for _ in range(count):
        hook()
    return (time.process_time() - start) / count

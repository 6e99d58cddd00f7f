"""The noise the sampler begins with, against the method in float64, in whatever precision the model computes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from reference import erased, turned
from webui import at_once

VARIANT, ERASE, INJECT, WEIGHTS = 3, 2.5, 0.3, (1.0, 0.5)
SETTINGS = {
    "enabled": True,
    "erase": ERASE,
    "inject": INJECT,
    "levels": len(WEIGHTS),
    "last_level": 0.5,
    "layout": WEIGHTS[0],
    "detail": WEIGHTS[1],
    "variant": VARIANT,
}
CLOSE = 1e-5
"""Of the largest value."""


def draw(seed, shape):
    """As the hosts draw on a CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double().numpy()


def draw_fresh(seed, index, shape):
    key = hashlib.blake2b(f"noiseorder/{VARIANT}/{seed}/{index}".encode(), digest_size=8).digest()
    return draw(int.from_bytes(key, "little") >> 1, shape)


def close(values, expected):
    return np.abs(values - expected).max() <= CLOSE * np.abs(expected).max()


def at_unit(values):
    """Each image at rms 1: the hosts give the network the noise in scales of their own."""
    return np.array([image / np.sqrt(np.mean(image**2)) for image in values])


def collect_answers(calls, images):
    """For each level what the model was asked, and what it answered to the prompt and to the negative prompt."""
    levels = {}
    for call in calls:
        level = levels.setdefault(call["level"], {"x": [], "outputs": []})
        count = len(call["x"]) // images
        x, outputs = (np.split(np.array(call[name], dtype=np.float64), count) for name in ("x", "out"))
        # AUTOMATIC1111 is asked for the prompt first.
        order = call["parts"] or range(len(level["outputs"]), len(level["outputs"]) + count)
        level["x"] += x
        level["outputs"] += zip(order, outputs, strict=True)
    return [(level["x"], dict(level["outputs"])) for level in levels.values()]


@pytest.mark.parametrize("direction", ["guidance", "denoised"])
def test_the_noise_is_what_float64_makes_of_the_models_answers(server, kind, direction):
    count = at_once(kind, 2)
    server.probe(whole=True)
    answer = server.txt2img(kind, {**SETTINGS, "direction": direction}, batch_size=count)
    server.probe()
    assert "error" not in answer.infotext
    (hook,), record = answer.record["hooks"], answer.record
    shape = hook["shape"][1:]
    own = np.array([draw(seed, shape) for seed in hook["seeds"]])
    draws = [own, *(np.array([draw_fresh(seed, i, shape) for seed in hook["seeds"]]) for i in (2, 3))]
    z = erased(draws, ERASE)
    answers = collect_answers(record["asked"], count)
    assert len(answers) == len(WEIGHTS)
    directions = []
    for inputs, outputs in answers:
        assert all(close(at_unit(x), at_unit(z)) for x in inputs)
        toward = outputs[0] - outputs[1] if direction == "guidance" else outputs[0]
        # AUTOMATIC1111's own models answer with ε or v, which point away from x̂0; all others with x̂0.
        directions.append(-toward if server.host == "a1111" and kind != "sd3" else toward)
    assert close(np.array(hook["whole"]), turned(z, directions, list(WEIGHTS), INJECT))
    assert record["computed"] == server.computed
    assert max(record["stored"], key=record["stored"].get) == server.stored


@pytest.mark.only("forge", "reforge", "neo", "ersatz")
def test_self_correction_is_what_float64_makes_of_the_models_answers(server, kind):
    """Where the model answers with x̂0: the walk, the fresh noise on its end, and the turn toward what changes there."""
    count = at_once(kind, 2)
    server.probe(whole=True)
    settings = {**SETTINGS, "erase": 1, "direction": "self-correction", "first_level": 1.0}
    answer = server.txt2img(kind, settings, batch_size=count)
    server.probe()
    assert "error" not in answer.infotext
    (hook,), record = answer.record["hooks"], answer.record
    shape = hook["shape"][1:]
    z = np.array([draw(seed, shape) for seed in hook["seeds"]])
    first, last, again = (float(level) for level in dict.fromkeys(call["level"] for call in record["asked"]))
    (inputs, outputs), (end, previews), (noised, changed) = collect_answers(record["asked"], count)
    assert close(at_unit(inputs[0]), at_unit(z))
    assert close(end[0], outputs[0] + last / first * (inputs[0] - outputs[0]))
    keys = [f"noiseorder/0/{seed}/1//self-correction" for seed in hook["seeds"]]
    digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
    fresh = np.array([draw(int.from_bytes(digest, "little") >> 1, shape) for digest in digests])
    # A flow model's levels end at 1.
    share = 1 - again if first <= 1 else 1
    assert close(noised[0], share * previews[0] + again * fresh)
    assert close(np.array(hook["whole"]), turned(z, [changed[0] - previews[0]], [1.0], INJECT))

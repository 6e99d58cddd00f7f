"""Many mixed requests of three clients: no error of ours, no memory kept, plain images as at the beginning."""

from __future__ import annotations

import json
import random
import re
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests
from test_passes import make_image, make_upscale
from test_xyz import plot_body

CLIENTS = 3
SAME_MODEL = 25
"""So many requests in a row are for one checkpoint: to load it takes much longer than an image."""
TENTHS = {0: "interrupted", 5: "failing"}
"""What becomes of the requests whose number ends so."""
JOBS = ("txt2img", "img2img", "inpainting", "hires", "batch size 2", "batch count 2", "X/Y/Z", "compare", "off")
HOSTILE = [
    ({"erase": 0.5}, "erase"),
    ({"erase": "4"}, "erase"),
    ({"erase": 10**400}, "erase"),
    ({"inject": 1e6}, "inject"),
    ({"levels": 0}, "levels"),
    ({"levels": 2.5}, "levels"),
    ({"layout": 0, "structure": 0, "detail": 0}, "layout"),
    ({"direction": "up"}, "direction"),
    ({"direction": ["noise"]}, "direction"),
    ({"variant": None}, "variant"),
    ({"passes": "hires"}, "hires fix is off"),
    ({"enabled": "true"}, "enabled"),
    ({"strength": 3}, "strength"),
]
"""Settings that cannot work and what has to be told of them."""
ERROR = re.compile(r'Noise Order error: ("(?:[^"\\]|\\.)*"|[^,\n]*)')
OF_INTERRUPTION = ("interrupted during a model evaluation", "pass did not run")
OURS = re.compile(r'File "[^"]*(?:/lib_noiseorder/|/scripts/noiseorder\.py)[^"]*".*')
LARGEST_GROWTH = 0.03
"""Of the resident memory once what is free was given back, from the end of the third fifth of the requests to that of
the last, with one and the same checkpoint loaded. There 0.1 MB kept by each request would be seen; what is smaller is
looked for among the tensors."""
MOST_TENSORS = 0.05
"""More than before, for each request: what one kind of job keeps, once each time, is more."""


def settings_of(rng, job):
    """Some that can work."""
    settings = {
        "enabled": True,
        "erase": rng.choice([1, 1.5, 2, 4, 8]),
        "inject": rng.choice([0, 0.05, -0.1, 0.3]),
        "direction": rng.choice(["guidance", "look-ahead", "denoised", "noise", "self-correction"]),
        "levels": rng.choice([1, 1, 2, 3]),
        "normalisation": rng.choice(["orthonormal", "as printed"]),
        "variant": rng.randrange(3),
    }
    if settings["erase"] == 1:
        settings["inject"] = 0.05  # or nothing would be done, and nothing told
    if job == "hires":
        settings["passes"] = rng.choice(["first", "hires", "both"])
    if job == "inpainting":
        settings["region"] = rng.choice(["everywhere", "inside", "outside"])
    if job == "compare":
        settings |= {"compare_original": True, "compare_erased": rng.random() < 0.5}
    return settings


class Request:
    """One of the requests by its number: the same number is always the same request."""

    def __init__(self, server, number):
        rng = random.Random(number)
        self.fate = TENTHS.get(number % 10, "")
        self.kind = server.kinds[number // SAME_MODEL % len(server.kinds)]
        self.job, self.reason = rng.choice(JOBS), None
        if self.fate == "failing":
            self.job = "txt2img"
            settings, self.reason = rng.choice(HOSTILE)
            settings = {"enabled": True, **settings}
        else:
            settings = settings_of(rng, self.job)
        self.moment, self.button = rng.random(), rng.choice(["interrupt", "skip"])
        changes = {
            "seed": rng.choice([-1, rng.randrange(2**32)]),
            "sampler_name": rng.choice(["Euler", "Euler a", "DPM++ 2M", "DDIM"]),
            "override_settings": {"sd_model_checkpoint": server.file(self.kind)},
            # A model is not loaded back after every request.
            "override_settings_restore_afterwards": False,
        }
        if self.job in ("batch size 2", "batch count 2"):
            changes["batch_size" if self.job == "batch size 2" else "n_iter"] = 2
        if self.job in ("img2img", "inpainting"):
            changes |= {"init_images": [make_image((90, 120, 60))], "denoising_strength": 0.7}
        if self.job == "inpainting":
            changes |= {"mask": make_image("black", (16, 16, 48, 48)), "inpainting_fill": 1}
        if self.job == "hires":
            changes |= make_upscale(server, self.kind)
        self.path = "img2img" if "init_images" in changes else "txt2img"
        if self.job == "X/Y/Z":
            self.body = plot_body(server, self.kind, "Erase", "2,4", x_args=[settings], **changes)
        else:
            scripts = {} if self.job == "off" else {"noise order": {"args": [settings]}}
            self.body = server.request(self.kind, alwayson_scripts=scripts, **changes)

    def complaint(self, body):
        """What is wrong with the answer, if anything is."""
        # The cells of a plot that was ended have none.
        texts = "\n".join(text or "" for text in json.loads(body["info"])["infotexts"])
        errors = ERROR.findall(texts)
        if f"Model: tiny-{self.kind}" not in texts:
            return f"made with another checkpoint than {self.kind}: {texts}"
        if self.job == "off":
            return f"claims: {texts}" if "Noise Order" in texts else ""
        if self.reason:
            return "" if errors and all(self.reason in error for error in errors) else f"not refused as such: {texts}"
        # The button of one client ends whatever is being made, also for another.
        if any(not any(cause in error for cause in OF_INTERRUPTION) for error in errors):
            return f"refused: {errors}"
        return "" if "Noise Order: 1" in texts or errors else f"claims nothing: {texts}"


class Soak:
    """Sends the requests and keeps what came of them."""

    def __init__(self, server):
        self.server = server
        self.durations, self.failures, self.complaints = [], [], []
        self.fates = Counter()

    def send(self, number):
        request = Request(self.server, number)
        url, begin = self.server.url + "/sdapi/v1/", time.monotonic()
        if request.fate == "interrupted":
            wait = request.moment * statistics.median(self.durations[-30:] or [1.0])
            threading.Timer(wait, requests.post, [f"{url}{request.button}"], {"json": {}, "timeout": 300}).start()
        response = requests.post(url + request.path, json=request.body, timeout=600)
        self.durations.append(time.monotonic() - begin)
        self.fates[request.fate or "left alone"] += 1
        if not response.ok:
            body = response.json()
            self.failures.append(f"{response.status_code} {body.get('error')}: {body.get('errors')}, {request.job}")
        elif complaint := request.complaint(response.json()):
            self.complaints.append(f"request {number}, {request.job}, {request.kind}: {complaint}")


def test_soak(server, soak, capsys):
    def plain():
        """The plain image of each checkpoint, loaded anew: the requests have loaded others."""
        server.loaded = ""
        server.probe()
        digests = {kind: server.txt2img(kind).digest for kind in server.kinds}
        return digests, server.get("/noiseorder-probe/tensors")

    assert len(server.kinds) == 2, "--checkpoints: two of them"
    before, tensors = plain()
    assert before == server.baselines
    run, memory = Soak(server), []
    with ThreadPoolExecutor(CLIENTS) as clients:
        for fifth in range(5):
            begin = time.monotonic()
            list(clients.map(run.send, range(fifth * soak // 5, (fifth + 1) * soak // 5)))
            minutes = (time.monotonic() - begin) / 60
            server.loaded = ""
            server.load(server.kinds[0])
            memory.append(server.get("/noiseorder-probe/memory"))
            with capsys.disabled():
                print(f"\n{len(run.durations)} requests, the last fifth in {minutes:.1f} min: {memory[-1]:.0f} MB")
    after, more = plain()
    more -= tensors
    ours = OURS.findall(server.log.read_text(errors="replace"))
    with capsys.disabled():
        print(f"{dict(run.fates)}; HTTP errors: {dict(Counter(run.failures))}; lines of ours in them: {ours}")
        print(f"tensors alive: {tensors} before, {more} more afterwards")
    assert not run.complaints, "\n".join(run.complaints)
    # The hosts answer so where not one image was made.
    assert len(run.failures) <= run.fates["interrupted"], run.failures
    assert not ours
    assert after == before
    assert memory[-1] <= memory[2] * (1 + LARGEST_GROWTH)
    assert more <= soak * MOST_TENSORS

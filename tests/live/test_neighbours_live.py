"""Other extensions make the same image with us beside them, as long as we change no number of the noise.

Every built-in script of the host, and what `--extensions` names: folders of extensions that lie outside the project.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import requests
from beside import DISTILLED
from test_passes import hires
from webui import REQUEST_SECONDS, Answer

SMALL = 1e-30
"""An Inject that no number of the noise is changed by."""
ASKING = [
    {"direction": "guidance"},
    {"direction": "denoised", "first_level": 1.0},
    {"direction": "denoised", "levels": 3, "first_level": 1.0, "last_level": 0.5},
    {"direction": "look-ahead", "levels": 2, "first_level": 1.0, "last_level": 0.8},
    {"direction": "self-correction", "levels": 2, "first_level": 1.0},
]


RANDOM = ("demofusion",)
"""Draw from Python's own random numbers, which no seed of the WebUI sets: two runs alone differ."""
LARGE = ("random resolution",)
"""reForge's, which make images too large for a test."""


def make_settings(settings):
    return {"enabled": True, "erase": 1, "inject": SMALL, **settings}


def ask(server, kind, scripts, settings=None, **changes):
    """The answer to a request with these scripts' arguments, and ours where settings are given."""
    server.load(kind)
    scripts = {name: {"args": args} for name, args in scripts.items()}
    if settings is not None:
        scripts["noise order"] = {"args": [make_settings(settings)]}
    body = server.request(kind, **{"steps": 8, **changes}, alwayson_scripts=scripts, do_not_save_grid=True)
    response = requests.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=REQUEST_SECONDS)
    if not response.ok:
        return None
    return Answer(response.json(), server.get("/noiseorder-probe"))


def difference(one, other):
    """The largest between the images of two answers, of 255."""
    if len(one.pixels) != len(other.pixels):
        return 255
    pairs = zip(one.pixels, other.pixels, strict=True)
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_neighbour_does_not_notice_us(server, neighbour, batch_size):
    _, kind, scripts = neighbour
    changes = {"batch_size": batch_size, "cfg_scale": 1 if kind in DISTILLED else 5}
    plain, again = (ask(server, kind, scripts, **changes) for _ in range(2))
    assert plain.digest != ask(server, kind, {}, **changes).digest
    for settings in ASKING:
        with_us = ask(server, kind, scripts, settings, **changes)
        assert "Noise Order: 1" in with_us.infotext
        assert with_us.record["own_rows"] > 0
        assert difference(with_us, plain) <= difference(again, plain)


def sheet_of(server, kind, scripts, first, count, **changes):
    """Pictures (coarse) and scores (exact) of so many candidates from a variant on, after all steps."""
    body = server.request(kind, **changes, candidates=count, depth=0.05)
    ours = {"noise order": {"args": [{"erase": 4.0, "inject": 0.0, "variant": first}]}}
    body["alwayson_scripts"] = {name: {"args": args} for name, args in scripts.items()} | ours
    return [(each["picture"], each["score"]) for each in server.post("/noiseorder/v1/audition", body)["previews"]]


def test_a_neighbour_is_the_same_for_every_candidate(server, neighbour):
    """A cache of steps counts from nought for each of them, and for the image after the sheet."""
    _, kind, scripts = neighbour
    # Of a distilled model's 8 steps a preview runs one, where nothing can be cached. TeaCache is told the steps.
    changes = {"steps": 10, "cfg_scale": 1 if kind in DISTILLED else 5}
    scripts = {name: [*args[:2], 10] if name == "teacache" else args for name, args in scripts.items()}
    before = ask(server, kind, scripts, **changes)
    three = sheet_of(server, kind, scripts, 0, 3, **changes)
    assert difference(before, ask(server, kind, scripts, **changes)) == 0
    assert sheet_of(server, kind, scripts, 2, 2, **changes)[0] == three[2]
    assert len(set(three)) == 3
    # It has a say in them.
    assert three != sheet_of(server, kind, {}, 0, 3, **changes)


def switched_on(entry):
    """A script's default arguments with its first box ticked; None for one that has no box."""
    args = [arg["value"] for arg in entry["args"]]
    box = next((k for k, arg in enumerate(args) if arg is False), None)
    if box is None:
        return None
    args[box] = True
    return args


def test_every_script_of_the_host(server, kind):
    """Also those that do nothing for this kind of model; what fails by itself is told."""
    report = {"no box": [], "fails by itself": [], "changes the image": [], "does not": []}
    differing = []
    plain = ask(server, kind, {})
    for entry in server.get("/sdapi/v1/script-info"):
        name = entry["name"]
        if not entry["is_alwayson"] or entry["is_img2img"] or name.startswith("noise order"):
            continue
        if name in LARGE or name in RANDOM:
            report.setdefault("not tried", []).append(name)
            continue
        args = switched_on(entry)
        if args is None:
            report["no box"].append(name)
            continue
        alone = ask(server, kind, {name: args})
        if alone is None:
            report["fails by itself"].append(name)
            continue
        again = ask(server, kind, {name: args})
        report["changes the image" if difference(alone, plain) else "does not"].append(name)
        for settings in ASKING[:3]:
            with_us = ask(server, kind, {name: args}, settings)
            if with_us is None or difference(with_us, alone) > difference(again, alone):
                differing.append((name, settings["direction"], settings.get("levels", 1)))
            elif "Noise Order: 1" not in with_us.infotext:
                report.setdefault("refused", []).append((name, with_us.infotext.partition("Noise Order error")[2][:90]))
    print(f"\n{kind}: {report}")
    assert differing == []
    assert difference(ask(server, kind, {}), plain) == 0


def defaults(server, name):
    """The default arguments of a script, its first box ticked."""
    return next(switched_on(entry) for entry in server.get("/sdapi/v1/script-info") if entry["name"] == name)


@pytest.mark.only("a1111")
@pytest.mark.beside("sd-webui-deepcache-standalone")
@pytest.mark.parametrize("where", ["second pass", "both passes"])
@pytest.mark.parametrize("passes", ["first", "hires", "both"])
def test_deepcache_does_not_notice_us(server, sd15, where, passes):
    cache = {"override_settings": {"deepcache_enable_pass": where}, "steps": 8}
    plain, again = (hires(server, sd15, **cache) for _ in range(2))
    assert plain.digest == again.digest != hires(server, sd15, steps=8).digest
    for settings in ASKING:
        with_us = hires(server, sd15, {**make_settings(settings), "passes": passes}, **cache)
        assert "Noise Order: 1" in with_us.infotext
        assert with_us.digest == plain.digest


@pytest.mark.only("a1111")
@pytest.mark.beside("multidiffusion-upscaler-for-automatic1111")
@pytest.mark.parametrize("method", ["MultiDiffusion", "Mixture of Diffusers"])
@pytest.mark.parametrize("sampler_name", ["Euler", "DPM++ 2M"])
def test_tiled_diffusion_keeps_its_tiles(server, sd15, method, sampler_name):
    args = defaults(server, "tiled diffusion")
    args[1], args[6:10] = method, [16, 16, 8, 1]
    tiled = {"width": 192, "height": 192, "sampler_name": sampler_name}
    plain = ask(server, sd15, {"tiled diffusion": args}, **tiled)
    assert plain.digest != ask(server, sd15, {}, **tiled).digest
    for settings in ASKING:
        with_us = ask(server, sd15, {"tiled diffusion": args}, settings, **tiled)
        assert "Noise Order: 1" in with_us.infotext
        assert with_us.digest == plain.digest
    erased = ask(server, sd15, {"tiled diffusion": args}, {"erase": 4, "inject": 0}, **tiled)
    assert "Noise Order: 1" in erased.infotext
    assert erased.digest != plain.digest
    assert ask(server, sd15, {"tiled diffusion": args}, **tiled).digest == plain.digest


@pytest.mark.only("a1111")
@pytest.mark.beside("sd-webui-negpip")
def test_negpip_is_refused_by_name(server, sd15):
    prompt = {"prompt": "a red cat, (blue:-1.5)"}
    args = [True]
    plain = ask(server, sd15, {"negpip": args}, **prompt)
    assert plain.digest != ask(server, sd15, {}, **prompt).digest
    for settings in ASKING:
        answer = ask(server, sd15, {"negpip": args}, settings, **prompt)
        assert "NegPiP, which reads the negative weights in the prompt, cannot be asked" in answer.infotext
        assert answer.digest == plain.digest
    erased = ask(server, sd15, {"negpip": args}, {"inject": 0, "erase": 4}, **prompt)
    assert "Noise Order: 1" in erased.infotext
    assert erased.digest != plain.digest
    # Without a negative weight it does nothing.
    assert "Noise Order: 1" in ask(server, sd15, {"negpip": args}, ASKING[0]).infotext


@pytest.mark.only("a1111")
@pytest.mark.beside("sd-dynamic-prompts")
def test_variants_follow_dynamic_prompts(server, sd15):
    info = next(e for e in server.get("/sdapi/v1/script-info") if e["name"].startswith("dynamic prompts"))
    args = [arg["value"] for arg in info["args"]]
    args[:2] = [True, True]  # enabled, combinatorial
    changes = {"prompt": "a {red|blue|green} cat", "save_images": False}
    answer = ask(server, sd15, {info["name"]: args}, {"inject": 0.05, "erase": 4, "compare_original": True}, **changes)
    prompts = [text.splitlines()[0] for text in answer.infotexts if "Noise Order compare: original" in text]
    assert prompts == ["a red cat", "a blue cat", "a green cat"]
    plain = ask(server, sd15, {info["name"]: args}, **changes)
    originals = [
        pixels
        for pixels, text in zip(answer.pixels, answer.infotexts, strict=True)
        if "Noise Order compare: original" in text
    ]
    assert all((a == b).all() for a, b in zip(originals, plain.pixels[-3:], strict=True))


@pytest.mark.beside("sd-dynamic-prompts")
def test_candidates_of_prompts_drawn_at_random_choose_for_no_image(server, sd15):
    info = next(e for e in server.get("/sdapi/v1/script-info") if e["name"].startswith("dynamic prompts"))
    args = [arg["value"] for arg in info["args"]]
    args[:2] = [True, False]  # enabled, at random
    settings = {"erase": 4, "inject": 0, "audition": 4}
    answer = ask(server, sd15, {info["name"]: args}, settings, prompt="a {red|blue|green|black} cat", batch_size=4)
    for pixels, text in zip(answer.pixels, answer.infotexts, strict=True):
        assert "auditioned" not in text
        prompt, seed = text.splitlines()[0], int(re.search(r"Seed: (\d+)", text)[1])
        (alone,) = ask(server, sd15, {}, {**settings, "audition": 0}, prompt=prompt, seed=seed).pixels
        assert np.abs(alone.astype(int) - pixels).max() <= 1
    written = ask(server, sd15, {info["name"]: args}, settings, prompt="a red cat", batch_size=2)
    assert all("Noise Order auditioned: 4" in text for text in written.infotexts)


@pytest.mark.only("forge")
def test_a_window_of_another_job_has_no_say(server, sd15):
    """FreeU's end lies before the last step of the job before, or behind it."""

    def freeu(end, settings=None):
        return ask(server, sd15, {FREEU: [True, 1.5, 1.6, 0.9, 0.2, 0.0, end, 0]}, settings, steps=4)

    settings = {"inject": 0.3, "erase": 1}
    digests = set()
    for end in (1.0, 0.1):
        freeu(end)
        digests.add(freeu(1.0, settings).digest)
    assert len(digests) == 1


FREEU = "freeu integrated (sd 1.x, sd 2.x, sdxl)"

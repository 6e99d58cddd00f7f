"""Other extensions make the same picture with us beside them, as long as we change no number of the noise.

Every built-in script of the host, and what `--extensions` names: folders of extensions that lie outside the project.
"""

from __future__ import annotations

import numpy as np
import pytest
import requests
from webui import REQUEST_SECONDS, Answer

SMALL = 1e-30
"""An Inject that no number of the noise is changed by."""
ASKING = [
    {"direction": "guidance"},
    {"direction": "denoised", "first_level": 1.0},
    {"direction": "denoised", "levels": 3, "first_level": 1.0, "last_level": 0.5},
    {"direction": "look-ahead", "levels": 2, "first_level": 1.0, "last_level": 0.8},
]
CASES = {
    # folder: what a request has of it, and the kinds of checkpoints it is for
    "sd-forge-blockcache": {
        "forge": ("flux", "sd15", "sd35", "chroma"),
        "requests": [
            {"first block cache / teacache": [True, method, 1, 0.1, 0, False]}
            for method in ("First Block Cache", "TeaCache")
        ],
    },
    "sd-forge-teacache": {"forge": ("flux",), "requests": [{"teacache": [True, 0.4, 25]}]},
    "sd-webui-forge-spectrum": {
        "forge": ("sd15", "flux"),
        "neo": ("sd15", "zimage"),
        "requests": [{"calibrated spectrum": [True, 0.25, 6, 0.5, 2, 0.0, 2, 0.9, True, 0.5]}],
    },
}


def asking(settings):
    return {"enabled": True, "erase": 1, "inject": SMALL, **settings}


def made(server, kind, scripts, settings=None, **changes):
    """The answer to a request with these scripts' arguments, and ours where settings are given."""
    server.load(kind)
    scripts = {name: {"args": args} for name, args in scripts.items()}
    if settings is not None:
        scripts["noise order"] = {"args": [asking(settings)]}
    body = server.request(kind, steps=8, alwayson_scripts=scripts, do_not_save_grid=True, **changes)
    response = requests.post(f"{server.url}/sdapi/v1/txt2img", json=body, timeout=REQUEST_SECONDS)
    if not response.ok:
        return None
    return Answer(response.json(), server.get("/noiseorder-probe"))


def difference(one, other):
    """The largest between the images of two answers, of 255."""
    pairs = zip(one.pixels, other.pixels, strict=True)
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)


def cases(host, kinds, there):
    """Name, checkpoint and request of every neighbour that is there and can be had on this host."""
    return [
        (name, kind, scripts)
        for name, case in CASES.items()
        if name in there
        for kind in case.get(host, ())
        if kind in kinds
        for scripts in case["requests"]
    ]


@pytest.mark.parametrize("settings", ASKING, ids=lambda settings: f"{settings['direction']}{settings.get('levels', 1)}")
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("cfg_scale", [1, 5])
def test_a_neighbour_does_not_notice_us(server, neighbour, settings, batch_size, cfg_scale):
    _, kind, scripts = neighbour
    changes = {"batch_size": batch_size, "cfg_scale": cfg_scale}
    plain = made(server, kind, scripts, **changes)
    assert plain is not None
    again = made(server, kind, scripts, **changes)
    with_us = made(server, kind, scripts, settings, **changes)
    assert "Noise Order: 1" in with_us.infotext
    assert with_us.seen["own_rows"] > 0
    assert difference(with_us, plain) <= difference(again, plain)


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
    told = {"no box": [], "fails by itself": [], "changes the picture": [], "does not": []}
    differing = []
    plain = made(server, kind, {})
    for entry in server.get("/sdapi/v1/script-info"):
        name = entry["name"]
        if not entry["is_alwayson"] or entry["is_img2img"] or name.startswith("noise order"):
            continue
        args = switched_on(entry)
        if args is None:
            told["no box"].append(name)
            continue
        alone = made(server, kind, {name: args})
        if alone is None:
            told["fails by itself"].append(name)
            continue
        again = made(server, kind, {name: args})
        told["changes the picture" if difference(alone, plain) else "does not"].append(name)
        for settings in ASKING[:3]:
            with_us = made(server, kind, {name: args}, settings)
            if with_us is None or difference(with_us, alone) > difference(again, alone):
                differing.append((name, settings["direction"], settings.get("levels", 1)))
            elif "Noise Order: 1" not in with_us.infotext:
                told.setdefault("refused", []).append((name, with_us.infotext.partition("Noise Order error")[2][:90]))
    print(kind, told)
    assert differing == []
    assert difference(made(server, kind, {}), plain) == 0

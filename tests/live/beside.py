"""Other extensions to try beside, told by the names of their folders: `--extensions`."""

from __future__ import annotations

DISTILLED = ("flux", "schnell", "zimage")
"""Run at CFG 1."""
CASES = {
    # folder: what a request has of it, and the kinds of checkpoints it is for
    "sd-forge-blockcache": {
        "forge": ("flux", "sd15", "sd35", "chroma"),
        "requests": [
            {"first block cache / teacache": [True, method, 1, 0.1, 0, False]}
            for method in ("First Block Cache", "TeaCache")
        ],
    },
    # It counts on from one job to the next unless its steps are those of the request.
    "sd-forge-teacache": {"forge": ("flux",), "requests": [{"teacache": [True, 0.4, 8]}]},
    "sd-webui-forge-spectrum": {
        "forge": ("sd15", "flux"),
        "neo": ("sd15", "zimage"),
        "requests": [{"calibrated spectrum": [True, 0.25, 6, 0.5, 2, 0.0, 2, 0.9, True, 0.5]}],
    },
}


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

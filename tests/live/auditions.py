"""What the live tests of auditions ask, and what all of them look at."""

from __future__ import annotations

import base64
import io

import numpy as np
import requests
from PIL import Image

SETTINGS = {"erase": 2.0, "inject": 0.0}
AUTOMATIC = {**SETTINGS, "audition": 3}


def get_variant(text):
    return int(text.partition("Noise Order variant: ")[2].partition(",")[0])


def audition(server, kind, *settings, **changes):
    """The answer of the audition's own route."""
    server.load(kind)
    body = server.request(kind, **{"candidates": 3, **changes})
    body["alwayson_scripts"] = {"noise order": {"args": list(settings or [SETTINGS])}}
    return requests.post(f"{server.url}/noiseorder/v1/audition", json=body, timeout=300)


def decode(preview):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(preview["picture"]))).convert("RGB"))


def assert_winner_is_the_variant_alone(server, generate):
    answer = generate(AUTOMATIC)
    first = answer.info["index_of_first_image"]
    for k, text in enumerate(answer.infotexts[first:]):
        assert "Noise Order auditioned: 3" in text
        assert "Noise Order audition:" not in text
        alone = generate({**SETTINGS, "variant": get_variant(text)})
        assert (answer.pixels[first + k] == alone.pixels[first + k]).all(), f"image {k + 1}"
    return answer

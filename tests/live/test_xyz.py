"""The X/Y/Z plot of the real WebUI over our settings."""

from __future__ import annotations

import pytest
import requests
from webui import Answer


def plot_info(server):
    """What the API tells of the plot in txt2img."""
    entries = server.get("/sdapi/v1/script-info")
    return next(entry for entry in entries if entry["name"] == "x/y/z plot" and not entry["is_img2img"])


def plot_body(server, kind, axis, values, dropdown=(), x_args=(), **changes):
    """A request for the plot over one of our axes on X."""
    options = plot_info(server)["args"]
    choices = options[0]["choices"]
    names = [choice[0] if isinstance(choice, list) else choice for choice in choices]
    nothing = [0, "", []]
    arguments = [
        names.index(axis if axis.startswith("[") else f"[Noise Order] {axis}"),
        values,
        list(dropdown),
        *nothing,
        *nothing,
    ]
    # The options after the three axes are not the same everywhere: reForge has three more, Neo one.
    overrides = {"Draw legend": False, "Include Sub Images": True}
    arguments += [overrides.get(option["label"], option["value"]) for option in options[len(arguments) :]]
    body = server.request(kind, script_name="x/y/z plot", script_args=arguments, **changes)
    if x_args:
        body["alwayson_scripts"] = {"noise order": {"args": list(x_args)}}
    return body


def plot(server, kind, *axis, **changes):
    """Run the plot; returns the HTTP response."""
    server.load(kind)
    return requests.post(f"{server.url}/sdapi/v1/txt2img", json=plot_body(server, kind, *axis, **changes), timeout=300)


@pytest.fixture
def kind_one(server):
    return server.kinds[0]


def test_every_setting_is_listed(server):
    from lib_noiseorder.config import FIELDS

    listed = [str(choice) for choice in plot_info(server)["args"][0]["choices"]]
    for label in ["Preset", "Enabled", *(field.label for field in FIELDS[1:])]:
        assert sum(f"[Noise Order] {label}" in choice for choice in listed) == 1


def test_sweeping_erase_makes_each_cell_as_if_alone(server, kind_one):
    answer = Answer(plot(server, kind_one, "Erase", "1,2,4").json(), {})
    cells = answer.pixels[-3:]
    for n, pixels in zip((1.0, 2.0, 4.0), cells, strict=True):
        alone = server.txt2img(kind_one, {"erase": n})
        assert (pixels == alone.pixels[0]).all(), n


def test_an_off_cell_claims_nothing(server, kind_one):
    answer = Answer(plot(server, kind_one, "Enabled", "", ["True", "False"], [False, 4.0]).json(), {})
    on, off = answer.infotexts[-2:]
    assert "Noise Order: 1" in on
    assert "Noise Order" not in off


def test_a_bad_value_is_refused_before_anything_is_generated(server, kind_one):
    server.txt2img(kind_one)
    server.probe()
    response = plot(server, kind_one, "Erase", "1,0.5")
    assert server.get("/noiseorder-probe")["rows"] == 0
    assert response.status_code == 500
    assert "from 1 to 64" in server.log.read_text(errors="replace")

"""What the hosts do with infotext fields besides pasting: the list of fields to ignore, and "Send to"."""

from __future__ import annotations

import gradio as gr
import pytest

from lib_noiseorder.config import BY_NAME, FIELDS

NAMES = [field.infotext for field in FIELDS]


@pytest.fixture(params=[False, True], ids=["txt2img", "img2img"])
def script(a1111, request):
    """The script once its tab is built; it is the same in every host."""
    a1111.script.is_img2img = request.param
    with gr.Blocks():
        a1111.script.ui(request.param)
    return a1111.script


def test_all_of_our_keys_can_be_ignored_in_pasting(script):
    """AUTOMATIC1111's `get_infotext_names` lists what is text."""
    assert [name for _, name in script.infotext_fields if isinstance(name, str)] == NAMES


def test_send_to_carries_all_of_our_settings(script):
    """AUTOMATIC1111's `connect_paste_params_buttons` compares the fields with `paste_field_names`, of both tabs."""
    assert script.paste_field_names == NAMES
    assert [name for _, name in script.infotext_fields if name in script.paste_field_names] == NAMES


def test_pasting_still_calls_the_reader(script):
    """A host that asked for the text alone would put "1" into the switch."""
    params = {"Noise Order": "1", "Noise Order erase": "9"}
    (_, enabled), (_, erase) = [script.infotext_fields[list(BY_NAME).index(name)] for name in ("enabled", "erase")]
    assert callable(enabled)
    assert (enabled(params), erase(params)) == (True, 9)

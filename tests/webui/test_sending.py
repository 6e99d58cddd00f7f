"""What the hosts do with infotext fields besides pasting: the list of fields to ignore, and "Send to"."""

from __future__ import annotations

from lib_noiseorder.config import BY_NAME, FIELDS
from lib_noiseorder.webui import infotext


def fields():
    """As scripts/noiseorder.py hands them to the host, for either tab."""
    return [(f"control of {field.name}", infotext.reader(field)) for field in FIELDS]


def test_all_of_our_keys_can_be_ignored_in_pasting():
    """AUTOMATIC1111's `get_infotext_names` lists what is text."""
    assert [name for _, name in fields() if isinstance(name, str)] == [field.infotext for field in FIELDS]


def test_send_to_carries_all_of_our_settings():
    """AUTOMATIC1111's `connect_paste_params_buttons` compares the fields with `paste_field_names`."""
    names = [field.infotext for field in FIELDS]
    assert len([control for control, name in fields() if name in names]) == len(FIELDS)


def test_pasting_still_calls_the_reader():
    """A host that asked for the text alone would put "1" into the switch."""
    params = {"Noise Order": "1", "Noise Order erase": "9"}
    (_, enabled), (_, erase) = [fields()[list(BY_NAME).index(name)] for name in ("enabled", "erase")]
    assert callable(enabled)
    assert (enabled(params), erase(params)) == (True, 9)

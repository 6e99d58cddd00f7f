from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from lib_noiseorder.config import FIELDS, NoiseOrderConfig
from lib_noiseorder.webui import infotext

# How the hosts read an infotext's last line (A1111 and Forge alike).
PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def strategy(field):
    if field.name == "enabled":
        return st.just(True)
    if isinstance(field.default, bool):
        return st.booleans()
    if field.choices:
        return st.sampled_from(field.choices)
    if isinstance(field.default, int):
        return st.integers(field.minimum, field.maximum)
    return st.floats(field.minimum, field.maximum)


def can_audition(c):
    return c["audition"] > 1 and c["erase"] > 1 and c["variant"] + c["audition"] <= 10_000


configs = st.fixed_dictionaries({field.name: strategy(field) for field in FIELDS}).filter(
    lambda c: c["layout"] + c["detail"] > 0 and (c["audition"] == 0 or can_audition(c))
)


def paste(text):
    """What the controls hold after pasting, beginning with other values than the defaults."""
    params = dict(PARAM.findall(text))
    return {field.name: infotext.reader(field)(params) for field in FIELDS}


@given(configs)
def test_what_is_written_makes_the_same_picture(settings):
    config = NoiseOrderConfig(**settings)
    written = ", ".join(f"{key}: {value}" for key, value in infotext.write(config).items())
    pasted = paste(f"Steps: 20, {written}, Version: v1")
    assert pasted["enabled"] is config.active
    if not config.active:
        return
    back = NoiseOrderConfig(**pasted)
    # Settings that had no say may differ; what is done may not.
    assert infotext.write(back) == infotext.write(config)
    assert back.evaluations == config.evaluations
    assert back.asked == config.asked
    if config.inject:
        assert (back.erase, back.inject, back.direction, back.normalisation) == (
            config.erase,
            config.inject,
            config.direction,
            config.normalisation,
        )
    if config.inject and config.levels > 1:
        assert back.last_level == config.last_level
        assert config.direction == "look-ahead" or back.weights == config.weights


def test_every_key_and_value_survives_the_hosts_format():
    config = NoiseOrderConfig(
        True, 2.5, -0.07, "denoised", 3, 1.0, 0.5, 0.5, 1.5, 0.25, "as printed", 7, "both", "inside", True, True, True
    )
    written = infotext.write(config)
    text = "Steps: 20, " + ", ".join(f"{key}: {value}" for key, value in written.items())
    assert dict(PARAM.findall(text)) == {"Steps": "20", **written}
    assert NoiseOrderConfig(**paste(text)) == config
    assert set(written) == {field.infotext for field in FIELDS if field.name != "audition"}


def test_an_audition_is_not_paid_again():
    """What came of it is the variant; pasting makes that picture."""
    written = infotext.write(NoiseOrderConfig(True, variant=5, audition=4))
    assert written["Noise Order variant"] == "5"
    assert paste(", ".join(f"{key}: {value}" for key, value in written.items()))["audition"] == 0


def test_a_value_for_each_image_wherever_the_host_begins_to_count():
    variants = infotext.PerImage(["3", "8"])
    assert isinstance(variants, list)
    assert [variants[k] for k in range(6)] == ["3", "8"] * 3


def test_an_image_made_without_us_switches_us_off_and_touches_nothing_else():
    assert paste("Steps: 20, Seed: 1") == {"enabled": False, **{field.name: None for field in FIELDS[1:]}}


def test_an_image_made_without_us_can_be_told_to_leave_us_alone():
    enabled = infotext.reader(FIELDS[0], switch_off=lambda: False)
    assert enabled({"Steps": "20"}) is None
    assert enabled({infotext.MARKER: "1"}) is True


def test_an_image_where_we_failed_is_one_made_without_us():
    assert paste(f"Steps: 20, {infotext.ERROR}: no")["enabled"] is False


def test_settings_that_had_no_say_are_read_as_their_defaults():
    read = paste("Noise Order: 1, Noise Order erase: 2, Noise Order inject: 0")
    assert read["erase"] == 2
    assert read["inject"] == 0
    assert read["levels"] == 1


def test_nonsense_leaves_the_control_alone():
    read = paste("Noise Order: 1, Noise Order erase: many, Noise Order inject: 1e9, Noise Order direction: up")
    assert (read["erase"], read["inject"], read["direction"]) == (None, None, None)
    assert read["enabled"] is True


def test_types_are_those_of_the_controls():
    read = paste("Noise Order: 1, Noise Order erase: 4, Noise Order levels: 2")
    assert [type(read[field.name]) for field in FIELDS] == [type(field.default) for field in FIELDS]


def test_clear_takes_only_ours():
    params = {"Steps": 4, **infotext.write(NoiseOrderConfig(True)), infotext.ERROR: "x"}
    infotext.clear(params)
    assert params == {"Steps": 4}

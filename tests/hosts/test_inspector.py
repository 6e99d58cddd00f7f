"""The inspector in the hosts: what it sees, and that it is not to be seen in the image."""

from __future__ import annotations

import pytest
import torch
from test_compare import ALL, generate


@pytest.fixture
def inspections(host):
    """What is kept of the last generation."""
    host.opts.data["noiseorder_inspector"] = True
    return host.loaded.session.inspections


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"inject": 0.05, "erase": 1},
        {"inject": 0},
        {"inject": 0.05, "direction": "look-ahead", "levels": 3},
        {"inject": 0.05, "direction": "self-correction"},
    ],
)
def test_the_noise_is_the_same_and_nothing_else_differs(host, settings):
    results = {}
    for on in (False, True):
        host.opts.data["noiseorder_inspector"] = on
        torch.manual_seed(0)
        # As token merging does.
        host.network.before = lambda: torch.rand(1)
        result = host.txt2img({**settings}, seeds=[1, 2], prompts=["a", "b"], negative=["", ""])
        results[on] = (result.noise, torch.get_rng_state())
        assert result.errors == []
        assert "inspect" not in str(result.infotext)
        assert host.state.textinfo == "before"
    assert all(torch.equal(a, b) for a, b in zip(results[False], results[True], strict=True))


@pytest.mark.parametrize("erase", [1.0, 2.0])
def test_sees_the_noise_before_erased_and_after(host, inspections, erase):
    batch = {"seeds": [1, 2], "prompts": ["a", "b"], "negative": ["", ""]}
    erased = host.txt2img({"erase": erase, "inject": 0}, **batch)
    result = host.txt2img({"inject": 0.05, "erase": erase}, **batch)
    assert len(inspections.last[None].images) == 2
    for k, image in enumerate(inspections.last[None].images):
        assert image.seed == k + 1
        assert torch.equal(image.noises["before"], result.untouched[k].float())
        assert torch.equal(image.noises["erased"], erased.noise[k].float())
        assert torch.equal(image.noises["after"], result.noise[k].float())


@pytest.mark.parametrize("settings", [{"inject": 0.05, "levels": 3}, {"inject": 0, "levels": 3}])
def test_asks_for_both_noises_at_each_key_level(host, inspections, settings):
    host.opts.data["noiseorder_inspector"] = False
    host.txt2img({**settings})
    own = host.network.rows
    host.opts.data["noiseorder_inspector"] = True
    host.txt2img({**settings})
    assert host.network.rows == 2 * own + 2 * 3
    assert inspections.last[None].evaluations == 6
    image = inspections.last[None].images[0]
    assert [level for level, *_ in image.previews] == pytest.approx([0.9, 0.8, 0.7])
    assert all(before.tobytes() != after.tobytes() for _, _, before, after in image.previews)


def test_off_keeps_nothing_and_asks_nothing(host, inspections):
    host.txt2img(True, 4.0, 0.05)
    host.opts.data["noiseorder_inspector"] = False
    rows = host.network.rows
    host.txt2img({"inject": 0})
    assert host.network.rows == rows
    assert inspections.last == {}


@pytest.mark.parametrize("args", [(False,), ({"inject": 0.05, "erase": 0.5},)])
def test_a_generation_without_us_leaves_nothing_to_show(host, inspections, args):
    host.txt2img(True, 4.0, 0.05)
    assert None in inspections.last
    host.txt2img(*args)
    assert inspections.last == {}


def test_passes_and_batches_are_kept_side_by_side(host, inspections):
    host.txt2img({"inject": 0.05, "passes": "both"}, hires=True)
    assert [image.stage for image in inspections.last[None].images] == ["", "hires"]
    assert inspections.last[None].images[1].noises["after"].shape[-1] == 16
    generate(host, True, 4.0, 0.05, batch_size=3, n_iter=2)
    assert [image.seed for image in inspections.last[None].images] == [1, 2, 3, 4]


def test_each_user_s_last_generation_is_kept(host, inspections):
    """With a login the hosts write its name on the processing object."""
    for user, seed in (("ann", 1), ("bob", 2), ("bob", 3), ("", 4)):
        host.txt2img({"inject": 0.05}, seeds=[seed], user=user)
    seeds = {user: [image.seed for image in record.images] for user, record in inspections.last.items()}
    assert seeds == {"ann": [1], "bob": [3], None: [4]}
    host.txt2img(False, user="ann")
    assert inspections.last.keys() == {"bob", None}


def test_with_a_login_it_is_on_for_whom_who_switched_it_on(host, inspections):
    """Nobody's generation costs more because another wants to look."""
    inspections.switched.update(ann=True, eve=False)
    for option in (False, True):
        host.opts.data["noiseorder_inspector"] = option
        looks = {}
        for user in ("ann", "bob", "eve", None):
            rows = host.network.rows
            host.txt2img({"inject": 0}, user=user)
            looks[user] = host.network.rows > rows
        assert looks == {"ann": True, "bob": option, "eve": False, None: option}
        assert inspections.last.keys() == {user for user, kept in looks.items() if kept}
        assert [host.loaded.session.rates().inspects(user) for user in looks] == list(looks.values())


def test_no_model_is_asked_for_images_beyond_those_kept(host, inspections):
    generate(host, {"inject": 0}, batch_size=4, n_iter=3)
    assert host.network.rows == 2 * 4


def test_what_is_made_beside_the_image_is_not_looked_at(host, inspections):
    generate(host, ALL)
    assert len(inspections.last[None].images) == 1
    assert inspections.last[None].config.compare_original
    assert inspections.last[None].config.erase == 4


@pytest.mark.parametrize("call", [1, 2])
def test_a_failing_look_leaves_the_image_and_the_numbers(host, inspections, call):
    plain = host.txt2img({"inject": 0.05, "direction": "denoised"})
    host.network.calls = 0

    def fail():
        if host.network.calls == call:
            raise RuntimeError("out of memory")

    host.network.before = fail
    result = host.txt2img({"inject": 0.05, "direction": "denoised"})
    assert torch.equal(result.noise, plain.noise)
    assert result.infotext["Noise Order"] == "1"
    assert (result.errors, result.comments) == ([], [])
    assert inspections.last[None].images[0].previews == []
    assert torch.equal(inspections.last[None].images[0].noises["after"], result.noise[0].float())


def test_interrupted_while_looking(host, inspections):
    def interrupt():
        if host.network.calls == 1:
            host.state.interrupted = True

    host.network.before = interrupt
    result = host.txt2img({"inject": 0.05, "direction": "denoised"})
    assert host.network.calls == 2
    assert result.errors == []
    assert result.infotext["Noise Order"] == "1"

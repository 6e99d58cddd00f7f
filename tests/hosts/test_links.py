"""The chain in whole generations: from the infotext, in batches, in an audition, beside the image."""

from __future__ import annotations

import re

import pytest
from test_audition import sheets, ticket
from test_compare import generate, same

CHAIN = "1.2 v7; 64 v2 @ 0.5 0.1 0.95 0.6"


def chain_of(text):
    return (re.findall(r"Noise Order chain: ([^,\n]*)", text) or [None])[0]


def test_a_chain_is_told_and_makes_its_image_again(host):
    first = generate(host, {"erase": 2.0, "variant": 3, "chain": CHAIN})
    assert chain_of(first.infotexts[0]) == CHAIN
    assert same(generate(host, {"erase": 2.0, "variant": 3, "chain": CHAIN}).images, first.images)
    objects = [{"n": 1.2, "variant": 7}, {"n": 64, "variant": 2, "box": [0.5, 0.1, 0.95, 0.6]}]
    assert same(generate(host, {"erase": 2.0, "variant": 3, "chain": objects}).images, first.images)
    for other in ("", "1.2 v7", "1.2 v6; 64 v2 @ 0.5 0.1 0.95 0.6", "1.2 v7; 64 v2"):
        assert not same(generate(host, {"erase": 2.0, "variant": 3, "chain": other}).images, first.images), other


def test_a_chain_alone_is_something_to_do(host):
    plain = generate(host, {"enabled": False})
    chained = generate(host, {"erase": 1.0, "chain": "2 v1"})
    assert not same(plain.images, chained.images)
    assert "Noise Order erase: 1," in chained.infotexts[0]
    assert "Noise Order variant" not in chained.infotexts[0]


def test_images_of_a_batch_are_those_made_alone(host):
    together = generate(host, {"chain": CHAIN}, batch_size=2, n_iter=2, do_not_save_grid=True)
    alone = [generate(host, {"chain": CHAIN}, seed=seed).images[0] for seed in (1, 2, 3, 4)]
    assert same(together.images, alone)


def test_each_pass_draws_its_own(host):
    first = host.txt2img({"erase": 1.0, "chain": "4 v1", "passes": "first"}, hires=True)
    both = host.txt2img({"erase": 1.0, "chain": "4 v1", "passes": "both"}, hires=True)
    assert (first.noise == both.noise).all()
    assert not (first.hires_noise == both.hires_noise).all()


@pytest.mark.parametrize("erase", [1.0, 4.0])
def test_an_audition_varies_the_last_link(host, erase):
    settings = {"erase": erase, "chain": "1.5 v3; 2 v4"}
    chosen = generate(host, {**settings, "audition": 3}, batch_size=2, do_not_save_grid=True)
    chains = [chain_of(text) for text in chosen.infotexts]
    assert {chain.rpartition(" v")[0] for chain in chains} == {"1.5 v3; 2"}
    assert all(4 <= int(chain.rpartition(" v")[2]) <= 6 for chain in chains)
    assert all("Noise Order auditioned: 3" in text for text in chosen.infotexts)
    for k, chain in enumerate(chains):
        alone = generate(host, {"erase": erase, "chain": chain}, seed=1 + k)
        assert same(alone.images, [chosen.images[k]])


def test_a_sheet_varies_the_chain_of_its_request(host):
    args = ticket(host)
    args[-1] = args[-1].replace("}", ', "settings": {"variant": 5, "chain": "1.2 v0"}}')
    result = generate(host, *args)
    sheet = sheets(host)["a"]
    assert [each.settings for each in sheet.previews] == [{"chain": f"1.2 v{k}"} for k in range(3)]
    assert [chain_of(text) for text in result.infotexts] == [f"1.2 v{k}" for k in range(3)]
    assert all("Noise Order variant: 5," in text for text in result.infotexts)
    assert sheet.variants == (0, 1, 2)


def test_without_a_chain_previews_tell_their_variant(host):
    generate(host, *ticket(host))
    assert [each.settings for each in sheets(host)["a"].previews] == [{"variant": k} for k in range(3)]


def test_what_cannot_be_asked_of_a_request_is_said(host):
    args = ticket(host)
    args[-1] = args[-1].replace("}", ', "settings": {"chain": "1.2 v9998"}}')
    generate(host, *args)
    (note,) = sheets(host)["a"].notes
    assert "the last link's variant of Chain (chain) = 1.2 v9998 is too high; at most 9997" in note


def test_beside_the_image(host):
    """Original and injected have no chain; erased has."""
    names = ("original", "erased", "injected")
    beside = {f"compare_{name}": True for name in names}
    result = generate(host, {"erase": 1.0, "inject": 0.05, "chain": "2 v1", **beside}, do_not_save_grid=True)
    erased, original = generate(host, {"erase": 1.0, "chain": "2 v1"}), generate(host, {"enabled": False})
    injected = generate(host, {"erase": 1.0, "inject": 0.05})
    own, *others = result.images[-4:]
    assert same(others, [original.images[0], erased.images[0], injected.images[0]])
    assert not same([own], erased.images)

"""The line that tells, after a generation, what was done to its noise, around whole generations of the fakes."""

from __future__ import annotations

import re

import pytest
from test_audition import with_scores
from test_compare import ALL, generate


def read_outcome(host):
    return host.loaded.session.outcomes.get(("img2img" if host.script.is_img2img else "txt2img", None))


def test_what_was_done(host):
    generate(host, {"erase": 1.0, "inject": 0.05})
    told = "All of this seed's noise kept; turned by 2.9° by Inject, 2 model evaluations per image"
    assert read_outcome(host) == told


def test_half_of_the_seed(host):
    generate(host, {"inject": 0.0}, batch_size=2, n_iter=2)
    assert read_outcome(host) == "Half of this seed's noise kept; nothing injected"


def test_a_quarter_of_the_seed(host):
    generate(host, {"inject": 0.0, "erase": 16.0}, batch_size=2, n_iter=2)
    match = re.fullmatch(r"(\d+) % of this seed's noise kept; nothing injected", read_outcome(host))
    assert abs(int(match[1]) - 25) < 12, "of four images with 256 numbers each"


def test_what_makes_the_noise_stronger_says_so(host):
    generate(host, {"erase": 1.0, "inject": 1.0, "direction": "noise", "normalisation": "as printed"})
    times = re.search(r"1 model evaluation per image; made (\S+) times as strong$", read_outcome(host))
    assert float(times[1]) > 1.1


def test_nothing_is_told_of_a_generation_without(host):
    generate(host, True, 4.0, 0.05)
    assert read_outcome(host)
    generate(host, False)
    assert read_outcome(host) is None
    generate(host, {"erase": 1.0, "inject": 0.0})
    assert read_outcome(host) is None


def test_both_passes(host):
    generations = []
    result = host.txt2img({"inject": 0.05, "passes": "both"}, hires=True, before_hook=generations.append)
    assert not result.errors
    host.script.postprocess(generations[0], None)
    assert re.match(r"First pass: .* per image\. Hires pass: .* per image$", read_outcome(host))


@pytest.mark.parametrize(("fails_at", "some"), [((0, 1), ""), ((1,), " in 1 of 2 batches")])
def test_why_not(host, fails_at, some):
    batches = iter(range(2))

    def fail():
        if next(batches) in fails_at:
            raise RuntimeError("once")

    host.network.before = fail
    generate(host, {"inject": 0.05, "direction": "denoised"}, n_iter=2)
    assert read_outcome(host).endswith(f"Noise left as it is{some}: RuntimeError: once")
    assert read_outcome(host).startswith("Noise left") is not bool(some)


def test_settings_that_cannot_be_used(host):
    generate(host, {"inject": 0.05, "erase": 99}, n_iter=2)
    assert read_outcome(host) == "Noise left as it is: Erase (erase) = 99: must be a number from 1 to 64"


def test_what_is_made_beside_it_is_not_told(host):
    generate(host, {**ALL, "inject": 0.05})
    assert "turned by 2.9°" in read_outcome(host), "and not the injected or the erased one"


def test_an_audition(host):
    with_scores(host, [0.0, 1.0, 0.0])
    generate(host, {"inject": 0.05, "audition": 3, "variant": 4})
    assert read_outcome(host).endswith("Went on with variant 5, best of 3")


def test_the_page_asks_for_it(host):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    host.app_started[0](None, app)
    ask = TestClient(app).get
    assert ask("/noiseorder/v1/outcome?tab=txt2img").json() == {"told": ""}
    generate(host, True, 4.0, 0.05)
    assert ask("/noiseorder/v1/outcome?tab=txt2img").json()["told"] == read_outcome(host)
    assert ask("/noiseorder/v1/outcome?tab=img2img").json() == {"told": ""}


@pytest.mark.parametrize(
    ("checkpoint", "direction", "name"), [("a", "guidance", "Erase and inject"), ("b-lcm", "denoised", "Few steps")]
)
def test_auto_follows_the_model_of_each_generation(a1111, checkpoint, direction, name):
    host = a1111
    generate(host, {"inject": 0.05, "direction": "auto"})
    host.checkpoint = f"{checkpoint}.safetensors"
    host.model_data.sd_model = host.model(host.processing([], [], []))
    followed = generate(host, {"inject": 0.05, "direction": "auto", "erase": 2.0})
    assert f"Noise Order direction: {direction}" in followed.infotexts[0]
    assert f"Noise Order auto: {name}" in followed.infotexts[0]
    assert read_outcome(host).endswith(f"Auto: “{name}”")
    alone = generate(host, {"inject": 0.05, "direction": direction, "erase": 2.0})
    assert followed.images[0].tobytes() == alone.images[0].tobytes()
    assert "Noise Order auto" not in alone.infotexts[0]
    assert "Noise Order auto" not in generate(host, {"direction": "auto", "inject": 0}).infotexts[0]


def test_each_user_is_told_of_their_own_generation(host):
    """With a login the hosts write its name on the processing object."""
    for user in ("ann", "bob", None):
        generate(host, {"inject": 0.0, "erase": 2.0}, user=user)
    assert list(host.loaded.session.outcomes) == [("txt2img", "ann"), ("txt2img", "bob"), ("txt2img", None)]

"""The line that tells the cost, against the evaluations counted in whole generations of the fakes."""

from __future__ import annotations

import json

import pytest
from test_compare import ALL, generate

from lib_noiseorder.config import NoiseOrderConfig
from lib_noiseorder.job import Job, Plan, read
from lib_noiseorder.webui.cost import Rates, evaluations, line


def load(host):
    """Only with a model is the sampler's schedule known."""
    host.model_data.sd_model = host.model(host.processing([], [], []))


def estimate(host, settings, cfg=5.0, steps=10, **job):
    rates = host.loaded.session.rates()
    plain, added = evaluations(NoiseOrderConfig(True, **settings), Job(steps=steps, cfg=cfg, **job), rates)
    return plain + sum(added.values()), added


def count(host, settings, parts, cfg=5.0, **changes):
    """Evaluations for each image: those of the noise, and the sampler's, which cost the fakes nothing."""
    host.network.rows, host.steps_run[:] = 0, []
    changes = {"sampler_name": "Euler", **changes}
    result = generate(host, settings, cfg_scale=cfg, do_not_save_grid=True, **changes)
    assert "Noise Order error" not in result.infotexts[0]
    images = changes.get("batch_size", 1) * changes.get("n_iter", 1)
    # As the samplers of the hosts do it, A1111's always.
    negative = cfg != 1 or type(host).__name__.startswith("A1111")
    assert host.loaded.session.adapter.negative_at_cfg_1[0] is type(host).__name__.startswith("A1111")
    steps = sum(host.steps_run) * changes.get("batch_size", 1)
    return (host.network.rows + steps * (parts + negative)) / images


SETTINGS = {
    "nothing beside": {},
    "inject 0": {"inject": 0.0},
    "denoised": {"inject": 0.05, "direction": "denoised", "levels": 3},
    "look-ahead": {"inject": 0.05, "direction": "look-ahead", "levels": 2},
    "self-correction": {"inject": 0.05, "direction": "self-correction", "levels": 2},
    "also make": ALL,
    "also make the same": {**ALL, "erase": 1.0},
    "audition": {"inject": 0.05, "audition": 3},
    "everything": {**ALL, "audition": 2, "levels": 3},
}


@pytest.mark.parametrize("sampler", ["Euler", "Euler a"])
def test_an_audition_costs_what_is_told(host, sampler):
    """A sketch where the sampler is deterministic, the image's own first steps where it draws noise."""
    load(host)
    settings = {"audition": 3}
    total, added = estimate(host, settings, steps=20, sampler=sampler)
    assert count(host, settings, 1, sampler_name=sampler, steps=20) == total, added
    assert added["Audition"] == 3 * ({"Euler": 4, "Euler a": 6}[sampler] * 2 + 1)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_line_counts_what_is_evaluated(host, settings):
    load(host)
    for prompt, inspects, changes in (
        ("a cat", False, {}),
        ("a cat", True, {}),
        ("a cat AND a dog :0.5", False, {"n_iter": 2}),
        ("a cat AND a dog :0.5", True, {"batch_size": 2}),
    ):
        host.opts.data["noiseorder_inspector"] = inspects
        parts = prompt.count("AND") + 1
        total, added = estimate(host, settings, parts=parts)
        assert count(host, settings, parts, prompt=prompt, **changes) == total, (prompt, inspects, added)
        assert ("Noise inspector" in added) is inspects


@pytest.mark.parametrize("direction", ["guidance", "look-ahead", "self-correction"])
def test_at_cfg_1(host, direction):
    settings = {"inject": 0.05, "direction": direction, "levels": 2, "audition": 2}
    load(host)
    total, added = estimate(host, settings, cfg=1.0)
    assert count(host, settings, 1, cfg=1.0) == total, added


@pytest.mark.parametrize("passes", ["first", "hires", "both"])
def test_the_hires_pass(host, passes):
    settings = {"inject": 0.05, "passes": passes, "levels": 2}
    host.opts.data["noiseorder_inspector"] = True
    _, added = estimate(host, settings, hires=True)
    assert not host.txt2img(settings, hires=True).errors
    assert host.network.rows == sum(added.values()) == (16 if passes == "both" else 8)


def cost_of(settings, job, rates=None):
    return evaluations(NoiseOrderConfig(True, **settings), job, rates or Rates())


@pytest.mark.parametrize(
    ("sampler", "hires_sampler", "calls"),
    [
        ("Euler", "Heun", 10 + 19),
        ("Heun", "Euler", 19 + 10),
        ("Heun", "Heun", 19 + 19),
        ("Heun", "Use same sampler", 19 + 19),
        ("Heun", "", 19 + 19),
        ("Euler", "Automatic", 10 + 10),
    ],
)
def test_the_hires_pass_has_a_sampler_of_its_own(sampler, hires_sampler, calls):
    """ "Automatic" is what the page's script says where a list is missing."""
    orders = {"Euler": 1, "Heun": 2}

    def plan(job, depth):
        if job.sampler not in orders:
            return None
        return Plan(3, job.steps, image_calls=orders[job.sampler] * (job.steps - 1) + 1)

    job = Job(steps=10, hires=True, sampler=sampler, hires_sampler=hires_sampler)
    assert cost_of({}, job, Rates(plan))[0] == 2 * calls


def test_passes_of_the_sampler():
    plan = {"plan": lambda job, depth: Plan(6, job.steps, (1, 3, 5, 7, 9, 11), 39)}
    assert cost_of({}, Job())[0] == 40
    assert cost_of({}, Job(hires=True, hires_steps=5))[0] == 50
    assert cost_of({}, Job(hires=True, hires_cfg=1.0, parts=2, hires_parts=1))[0] == 60 + 20
    assert cost_of({}, Job(img2img=True, strength=0.5))[0] == 2 * 11
    assert cost_of({"inject": 0.05, "audition": 2}, Job(), Rates(**plan)) == (
        2 * 39,
        {"Inject": 2, "Audition": 2 * (22 + 2 + 1)},
    )


def test_words():
    def describe(job=None, inspects=False, **settings):
        rates = Rates(inspects=lambda user: inspects)
        return line(NoiseOrderConfig(**{"enabled": True, "inject": 0.05, **settings}), job or Job(), rates)

    assert describe() == "Cost: +2 model evaluations per image, +5 % of 40 (20 steps, CFG 7)"
    assert describe(direction="denoised", job=Job(steps=60)) == (
        "Cost: +1 model evaluation per image, +less than 1 % of 120 (60 steps, CFG 7)"
    )
    assert describe(job=Job(steps=4, hires=True, hires_steps=2), inspects=True, **ALL) == (
        "Cost: +42 model evaluations per image, +350 % of 12 (4 + 2 steps, CFG 7): "
        "Inject 2, Also make 38, Noise inspector 2"
    )
    assert describe(job=Job(img2img=True, strength=0.5), passes="hires").endswith(
        "+9 % of 22 (20 steps, denoising 0.5, CFG 7)"
    )
    assert describe(inject=0.0) == "Costs nothing."
    assert describe(inject=0.0, erase=1.0) == "Nothing is changed: Erase is 1 and Inject is 0."


@pytest.mark.parametrize(
    "text", [None, "", "no", "[]", "3", json.dumps({"steps": "20", "cfg": None, "hires": 1, "other": 2})]
)
def test_a_page_that_tells_nothing_usable(text):
    assert read(text) in (Job(), Job(hires=True))


def test_what_the_page_tells():
    assert read('{"steps": 4, "cfg": 1, "hires": true}') == Job(steps=4, cfg=1, hires=True)
    assert read('{"steps": 100000000}').steps == 1000

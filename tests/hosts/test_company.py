"""Candidates and comparisons beside other extensions: nothing of theirs is eaten."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import sys
import types

import pytest
import torch
from fakes import Network
from test_audition import ticket
from test_compare import ALL, generate, processing, same
from test_neighbours import extension

SETTINGS = {"erase": 2.0, "inject": 0.05}
AUDITION = {**SETTINGS, "audition": 3}


@pytest.fixture
def sharpener(host):
    module = extension("sharpener")
    module.CACHE.clear()
    module.Sharpener.runs = 0
    runner = types.SimpleNamespace(alwayson_scripts=[module.Sharpener()], selectable_scripts=[])
    return types.SimpleNamespace(module=module, runner=runner)


@pytest.mark.parametrize("settings", [SETTINGS, AUDITION, {**SETTINGS, **ALL}, {**AUDITION, **ALL}])
def test_a_cells_value_of_another_extension_is_everybodys(host, sharpener, settings):
    """Its first `process` takes the value; candidates and comparisons have it as well, and the next job has not."""
    sharpener.module.CACHE["strength"] = 0.5
    result = generate(host, settings, scripts=sharpener.runner)
    assert ["Sharpener: 0.5" in text for text in result.infotexts] == [True] * len(result.infotexts)
    assert sharpener.module.CACHE == {}
    assert "Sharpener: 0.9" in generate(host, settings, scripts=sharpener.runner).infotexts[0]


@pytest.mark.parametrize("args", [[AUDITION], None])
def test_candidates_run_no_process_of_others(host, sharpener, args):
    generate(host, *(args or ticket(host)), scripts=sharpener.runner)
    assert sharpener.module.Sharpener.runs == 1


def test_comparisons_leave_no_trace_in_what_others_count(host, sharpener):
    kind = sharpener.module.Sharpener

    def sampled(p):
        kind.last = p._noiseorder.comparison or "the image"

    host.sampled = sampled
    generate(host, {**SETTINGS, **ALL}, scripts=sharpener.runner)
    assert (kind.runs, kind.last) == (1, "the image")


def test_a_step_cache_sees_the_image_as_without_candidates(host, monkeypatch):
    """What it counts and keeps, on its class and in the network, is put back after each candidate."""
    cache = extension("step-cache")
    monkeypatch.setattr(Network, "forward", cache.cached(Network.forward))
    seen = []
    evaluate = host.sampled

    def sampled(p):
        # A sampler's own call, through the extension, with a counter in the network as TeaCache has.
        host.network.steps_seen = getattr(host.network, "steps_seen", 0) + 1
        sigma = torch.ones(1)
        host.network(torch.zeros(1, *host.shape), sigma, torch.ones(1, 1))
        seen.append((cache.StepCache.calls, host.network.steps_seen))
        evaluate(p)

    host.sampled = sampled
    generate(host, {**AUDITION, "inject": 0.0})
    assert seen == [seen[0]] * 4
    assert (cache.StepCache.calls, host.network.steps_seen) == seen[0], "the image's own are kept"


def test_the_numbers_of_the_network_are_left_alone_without_extensions(host):
    def sampled(p):
        host.network.steps_seen = getattr(host.network, "steps_seen", 0) + 1

    host.sampled = sampled
    generate(host, AUDITION)
    assert host.network.steps_seen == 4


@pytest.mark.parametrize("args", [[False], [SETTINGS], [AUDITION], [{**AUDITION, **ALL}], None], ids=str)
@pytest.mark.parametrize("hires", [False, True])
def test_one_attribute_on_the_processing_object(host, args, hires):
    p = processing(host, *(args or ticket(host)), enable_hr=hires)
    before = set(vars(p))
    host.process_images(p)
    hosts = {"host", "main_prompt", "extra_result_images", "all_negative_prompts", "all_subseeds", "negative", "sample"}
    assert set(vars(p)) - before - (hosts - {"sample"}) == {"_noiseorder"}
    # A cell of an X/Y/Z plot is a copy, with a generation of its own.
    cell = copy.copy(p)
    assert host.loaded.session.generation(cell) is not p._noiseorder


def test_no_module_keeps_state_outside_the_session(host):
    """Constants are upper case and stay what they are; what is lower case is code, or the session. Of the adapters that
    of this WebUI is looked at: the others cannot be imported beside it."""
    import lib_noiseorder

    def walk():
        names = [module.name for module in pkgutil.walk_packages(lib_noiseorder.__path__, "lib_noiseorder.")]
        adapters = {"a1111", "ersatz", "forge", "neo", "patcher", "reforge"}
        for name in names:
            if "playground" not in name and (name.rpartition(".")[2] not in adapters or name in sys.modules):
                yield importlib.import_module(name)

    def constants():
        modules = list(walk())
        classes = [
            value
            for module in modules
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__
        ]
        return {
            (holder, name): repr(value)
            for holder in (*modules, *classes)
            for name, value in vars(holder).items()
            if isinstance(value, (dict, list, set)) and not name.startswith("__")
        }

    lower = [
        f"{module.__name__}.{name}"
        for module in walk()
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name == name.lower()
        and not isinstance(
            value, (types.ModuleType, types.FunctionType, types.MethodType, type, str, int, float, tuple)
        )
        and not hasattr(value, "__wrapped__")  # decorated functions
        and getattr(value, "__module__", "") != "typing"
        and type(value).__name__ not in ("_Feature", "Logger", "builtin_function_or_method", "partial")
    ]
    assert set(lower) <= {"lib_noiseorder.session.session"}
    before = constants()
    assert host.loaded.session.adapter.__module__ in sys.modules
    assert all(name == name.upper() or name[0].isupper() for holder, name in before if not isinstance(holder, type))
    host.engine = "Unheard"
    generate(host, {**AUDITION, **ALL})
    generate(host, *ticket(host))
    assert constants() == before


def test_a_comparison_begins_with_the_images_prompts_whatever_others_draw(host, sharpener):
    result = generate(host, {**AUDITION, **ALL}, scripts=sharpener.runner)
    alone = generate(host, {**AUDITION, **ALL})
    assert same(result.images[1:], alone.images[1:])

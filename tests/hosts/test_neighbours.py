"""Other extensions on the model: they do not notice our questions, and do not answer them."""

from __future__ import annotations

import importlib.util
import math
import sys

import pytest
import torch
from fakes import ROOT, Network

ON = {"enabled": True, "inject": 0.05, "erase": 1, "levels": 3}
DENOISED = {**ON, "direction": "denoised"}


def extension(name):
    """The module of an extension, loaded as the hosts load scripts: by its path, and not into sys.modules."""
    path = ROOT / "tests" / "hosts" / "extensions" / name / "scripts" / f"{name.replace('-', '_')}.py"
    spec = importlib.util.spec_from_file_location(path.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def step_cache():
    return extension("step-cache")


@pytest.mark.parametrize("place", ["class", "instance"])
def test_a_step_cache_is_not_asked_and_does_not_count(host, step_cache, place, monkeypatch):
    expected = host.txt2img(DENOISED)
    replaced = step_cache.cached(Network.forward)
    if place == "class":
        monkeypatch.setattr(Network, "forward", replaced)
    else:
        host.network.forward = replaced.__get__(host.network)
    step_cache.StepCache.answers.append(torch.zeros(1))
    result = host.txt2img(DENOISED)
    assert torch.equal(result.noise, expected.noise)
    assert step_cache.StepCache.calls == next(step_cache.COUNTER) == 0
    assert host.network.rows == 6
    # Afterwards it is where it was.
    method = vars(host.network if place == "instance" else Network)["forward"]
    assert getattr(method, "__func__", method) is replaced


class Outer:
    class Inner(torch.nn.Module):
        def forward(self, x, *, times=2):
            return x * times


def test_the_networks_own_method_is_as_its_file_has_it(host, step_cache, monkeypatch):
    """Of a class in a class, with arguments by name."""
    from lib_noiseorder.hosts.isolation import own_methods

    monkeypatch.setattr(Outer.Inner, "forward", step_cache.cached(Outer.Inner.forward))
    network = Outer.Inner()
    with own_methods(network):
        assert network(torch.ones(1)) == 2


def test_sets_are_remembered_and_lead_nowhere(host):
    from lib_noiseorder.hosts.isolation import Memory

    memory, numbers = Memory.__new__(Memory), {1, 2}
    memory.restorers = []
    assert memory.remember(numbers) == []
    numbers.add(3)
    for restore in memory.restorers:
        restore()
    assert numbers == {1, 2}


def test_lists_are_put_back_as_they_are(host):
    from lib_noiseorder.hosts.isolation import put_back_list

    first = []
    for state in ([[]], [first, 1], []):
        put_back_list(state, [first])
        assert len(state) == 1
        assert state[0] is first, "the same object, not an equal one"


def test_dicts_are_put_back_key_by_key(host):
    from lib_noiseorder.hosts.isolation import put_back

    original = []
    state = {"changed": 2, "new": 3, "equal": []}
    put_back(state, {"changed": 1, "gone": 0, "equal": original})
    assert state == {"changed": 1, "gone": 0, "equal": []}
    assert state["equal"] is original, "the same object, not an equal one"


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_others_on_the_network_are_set_aside(host, step_cache, register):
    expected = host.txt2img(DENOISED)
    getattr(host.network, register)(step_cache.hook)
    assert torch.equal(host.txt2img(DENOISED).noise, expected.noise)
    assert step_cache.StepCache.calls == next(step_cache.COUNTER) == 0
    assert len(host.network._forward_hooks) + len(host.network._forward_pre_hooks) == 1


def test_a_step_cache_is_put_back_after_a_failure(host, step_cache, monkeypatch):
    replaced = step_cache.cached(Network.forward)
    monkeypatch.setattr(Network, "forward", replaced)
    host.network.before = lambda: (_ for _ in ()).throw(RuntimeError("broken"))
    assert "broken" in host.txt2img(DENOISED).infotext["Noise Order error"]
    assert Network.forward is replaced


def test_the_hosts_own_hijacks_stay(a1111, monkeypatch):
    """AUTOMATIC1111 replaces methods of its networks itself."""
    original, calls = Network.forward, []

    def forward(self, *args):
        calls.append(args)
        return original(self, *args)

    monkeypatch.setattr(Network, "forward", forward)
    a1111.txt2img(DENOISED)
    assert len(calls) == 3


@pytest.mark.parametrize("place", ["class", "instance"])
def test_controlnet_stays_on_the_network(a1111, monkeypatch, place):
    """The user asked for it."""
    from lib_noiseorder.hosts import isolation

    cache = extension("step-cache")
    monkeypatch.setattr(isolation, "EXEMPT", ("step",))
    replaced = cache.cached(Network.forward)
    if place == "class":
        monkeypatch.setattr(Network, "forward", replaced)
    else:
        a1111.network.forward = replaced.__get__(a1111.network)
    cache.StepCache.calls = 7
    a1111.txt2img({**DENOISED, "levels": 1})
    assert a1111.network.rows == 1
    assert (cache.StepCache.calls, cache.StepCache.answers) == (7, []), "and what it remembers is put back"


def test_a_forecast_does_not_notice(patcher_host):
    expected = patcher_host.txt2img(DENOISED)
    wrapper, read_counts = extension("forecast").forecast(warmup=1)
    patcher_host.options["model_function_wrapper"] = wrapper
    # Each question is its first: it never comes to forecast.
    assert torch.equal(patcher_host.txt2img(DENOISED).noise, expected.noise)
    assert read_counts() == (0, 0, 0)
    assert patcher_host.options["model_function_wrapper"] is wrapper


def test_a_forecast_is_no_answer(patcher_host):
    module = extension("forecast")
    wrapper, read_counts = module.forecast(warmup=0)
    history = next(cell.cell_contents for cell in wrapper.__closure__ if isinstance(cell.cell_contents, dict))
    history["forecasters"][0].history.append(torch.zeros(1, *patcher_host.shape))
    patcher_host.options["model_function_wrapper"] = wrapper
    result = patcher_host.txt2img(DENOISED)
    assert torch.equal(result.noise, result.untouched)
    assert '"forecast" answers in the place of the model: switch it off' in result.infotext["Noise Order error"]
    assert read_counts()[0] == 0


def test_the_host_s_own_step_cache_has_no_say(neo, monkeypatch):
    """First Block Cache of newer trees, which its scripts switch on before ours."""
    expected = neo.txt2img(DENOISED)
    seen, apply = [], neo.apply
    monkeypatch.setattr(
        neo, "apply", lambda options, *rest: (seen.append(options["transformer_options"]), apply(options, *rest))[1]
    )
    inner = {"fbcache": {"threshold": 0.1, "max_consecutive": 3}, "patches": {}}
    neo.options["transformer_options"] = dict(inner)
    assert torch.equal(neo.txt2img(DENOISED).noise, expected.noise)
    assert seen
    assert all(options == {"patches": {}} for options in seen)
    assert neo.options["transformer_options"] == inner, "the sampler has it"


def test_what_answers_without_a_name_is_another_extension(patcher_host):
    patcher_host.options["model_function_wrapper"] = lambda apply_model, args: args["input"]
    result = patcher_host.txt2img(DENOISED)
    assert result.infotext["Noise Order error"].startswith('"another extension" answers in the place of the model')


@pytest.mark.parametrize("left_open", [True, False])
def test_a_window_is_as_in_the_first_step(patcher_host, left_open):
    """Not as the previous job left it; and afterwards it is as that left it."""
    module = extension("window")
    window = module.Window()
    entries = [window.on_step, module.unrelated]
    patcher_host.denoiser_callbacks += [type("Entry", (), {"callback": staticmethod(entry)}) for entry in entries[:1]]
    patcher_host.options["transformer_options"] = {"patches": {"output_block_patch": [module.patch]}}
    module.Window.is_open = True
    module.Window.end = 1.0
    always = patcher_host.txt2img(DENOISED)
    module.Window.end = 0.5
    module.Window.is_open = left_open
    result = patcher_host.txt2img(DENOISED)
    assert torch.equal(result.noise, always.noise), "open in the first step"
    assert module.Window.is_open is left_open
    assert window.steps == []


def test_a_window_is_given_the_samplers_own_denoiser(patcher_host):
    module = extension("window")
    calls, conds, window = [], [], module.Window()

    def look(self, params):
        calls.append((params.denoiser, params.sampling_step))
        conds.append((params.text_cond, params.text_uncond))

    denoiser = type("Denoiser", (), {"look": look})()
    entry = type("Entry", (), {"callback": staticmethod(window.on_step)})
    patcher_host.denoiser_callbacks.append(entry)
    patcher_host.options["transformer_options"] = {"patches": {"output_block_patch": [module.patch]}}

    def give(p):
        p.sampler.model_wrap_cfg = denoiser

    patcher_host.txt2img(DENOISED, before_hook=give)
    assert set(calls) == {(denoiser, 0)}
    assert {tuple(type(cond) for cond in both) for both in conds} == {(torch.Tensor, torch.Tensor)}
    assert all(cond.shape == uncond.shape for cond, uncond in conds), "of one prompt and its negative one"


def test_callbacks_that_have_nothing_on_the_model_are_not_called(patcher_host):
    module = extension("window")
    patcher_host.denoiser_callbacks.append(type("Entry", (), {"callback": staticmethod(module.unrelated)}))
    assert patcher_host.txt2img(DENOISED).errors == []


def test_a_failing_callback_is_passed_over_as_the_hosts_do(patcher_host, capsys):
    """With one step FreeU divides by zero there."""
    module = extension("window")
    patcher_host.denoiser_callbacks.append(type("Entry", (), {"callback": staticmethod(module.Window().on_step)}))
    patcher_host.options["transformer_options"] = {"patches": {"output_block_patch": [module.patch]}}
    result = patcher_host.txt2img({**DENOISED, "levels": 1}, steps=1)
    assert "Noise Order error" not in result.infotext
    assert "window: ZeroDivisionError" in capsys.readouterr().out


def test_what_fails_in_another_extension_is_named(host, monkeypatch):
    module = extension("needs-callback")
    from lib_noiseorder.hosts import isolation

    monkeypatch.setattr(isolation, "EXEMPT", ("needs-callback",))
    monkeypatch.setattr(Network, "forward", module.forward(Network.forward))
    result = host.txt2img(DENOISED)
    assert torch.equal(result.noise, result.untouched)
    reason = result.infotext["Noise Order error"]
    assert 'the extension "needs-callback" fails when the model is asked before sampling' in reason
    assert "TypeError: object of type 'NoneType' has no len()" in reason
    assert "switch it off, or set Inject to 0" in reason


def test_with_erase_alone_the_model_is_not_touched(host, monkeypatch):
    def touched(*args, **kwargs):
        raise AssertionError("the model was touched")

    host.network.before = touched
    for name in ("k_diffusion.external", "backend.sampling.sampling_function", "modules_forge.forge_sampler"):
        module = sys.modules.get(name)
        for key in [key for key, value in vars(module).items() if callable(value)] if module else ():
            monkeypatch.setattr(module, key, touched)
    result = host.txt2img({"enabled": True, "inject": 0}, before_process=lambda p: setattr(p, "sd_model", None))
    assert result.errors == []
    assert not torch.equal(result.noise, result.untouched)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("call", [0, 1, 2])
def test_out_of_memory_at_any_question(host, times, call):
    """Once the host frees memory and the question is asked again; a second time it is refused."""
    expected = host.txt2img(DENOISED)
    failures = times
    host.network.calls = 0

    def fail():
        nonlocal failures
        if host.network.calls == call and failures:
            failures -= 1
            raise RuntimeError("MPS backend out of memory")

    host.network.before = fail
    result = host.txt2img(DENOISED)
    assert host.collected == 1
    if times == 1:
        assert torch.equal(result.noise, expected.noise)
    else:
        assert torch.equal(result.noise, result.untouched)
        assert "make the batch or the image smaller" in result.infotext["Noise Order error"]


@pytest.mark.parametrize("register", ["forward", "register_forward_hook"])
def test_what_hangs_deeper_stays_and_forgets_our_questions(host, register):
    """Attention patches and the like belong to the model; a cache of a block's output among them does not notice."""
    cache = extension("step-cache")
    part = host.network.part = torch.nn.Identity()

    if register == "forward":
        part.forward = cache.counting
    else:
        part.register_forward_hook(cache.hook)
    host.network.before = lambda: part(torch.zeros(1))
    result = host.txt2img(DENOISED)
    assert "Noise Order error" not in result.infotext
    assert host.network.rows == 3
    assert (cache.StepCache.calls, cache.StepCache.answers) == (0, [])


def test_what_counts_the_samplers_own_calls_is_refused_by_name(host, monkeypatch):
    from lib_noiseorder.hosts import isolation

    monkeypatch.setattr(isolation, "UNREACHABLE", {"step": "Step cache, which counts"})
    host.network.part = torch.nn.Identity()
    assert "Noise Order error" not in host.txt2img(DENOISED).infotext
    host.network.part.forward = extension("step-cache").counting
    result = host.txt2img(DENOISED)
    assert torch.equal(result.noise, result.untouched)
    assert result.infotext["Noise Order error"].startswith("Step cache, which counts, cannot be asked before sampling")
    assert "Noise Order error" not in host.txt2img({**DENOISED, "inject": 0, "erase": 4}).infotext


def test_what_was_reached_lives_while_others_are_told_apart_by_their_ids():
    """Else a new object in the place of one that is gone would count as seen, with all behind it."""
    from lib_noiseorder.hosts.isolation import Memory

    class Long(Memory):
        reached = 0

        def remember(self, value):
            self.reached += 1
            return [object()] if self.reached < 50 else []

    assert Long([object()]).reached == 50


def test_what_was_written_into_the_network_is_put_back(a1111):
    """TeaCache counts there."""
    from lib_noiseorder.hosts.isolation import Memory

    class Cached(torch.nn.Module):
        calls = 1

    network, memory = Cached(), Memory([])
    network.count, network.previous = 5, None
    memory.add_numbers(network)
    network.count, network.previous, network.more, Cached.calls = 9, torch.ones(1), 1, 2
    memory.restore()
    assert (network.count, network.previous, Cached.calls) == (5, None, 1)
    assert not hasattr(network, "more")


def test_a_module_leads_on_where_it_is_an_extension_s(step_cache):
    from lib_noiseorder.hosts.isolation import Memory

    memory = Memory([])
    assert memory.remember(step_cache) == [vars(step_cache)]
    assert memory.remember(math) == []
    assert memory.remember(torch) == []

"""Other extensions beside us: set aside while we evaluate the model, and unchanged by what we run.

Set aside during an evaluation (`isolated`): functions of extensions in the place of the network's outermost methods and
hooks. Called: their callbacks of the sampler's step, so that their windows are as in that step. Put back, after an
evaluation, a candidate (`preserved`) and a comparison: what can be reached from their functions and scripts (closures,
globals of their modules, their classes and objects), and plain attributes of a network they hang on. Refused by name:
who answers in the model's place at its first question, and who counts calls inside the network. Left alone: what hangs
deeper in the network (LoRA, attention patches, ControlNet): it belongs to the model the user chose. Not seen: what an
extension keeps in the host's own modules, in files, or in C; tensors are put back as objects, not copied.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules import script_callbacks
from modules.paths_internal import extensions_builtin_dir, extensions_dir
from torch import Tensor, nn

from .. import log
from ..core import Unsupported

FOLDERS = tuple(Path(folder).absolute() for folder in (extensions_dir, extensions_builtin_dir))
OURS = Path(__file__).absolute()
EXEMPT = ("controlnet",)
"""In the names of extensions whose forward stays on the network, being what the user asked for (AUTOMATIC1111's
ControlNet); what it remembers is put back."""
UNREACHABLE = {"negpip": "NegPiP, which reads the negative weights in the prompt"}
"""In the names of extensions inside the network that count the sampler's own calls, and what they are."""


@functools.lru_cache(maxsize=4096)
def extension(path: str) -> str:
    """The folder name of the extension that a source file belongs to; empty for the host's own files and for ours."""
    source = Path(path).absolute()
    for folder in FOLDERS:
        if source.is_relative_to(folder) and source != folder:
            name = source.relative_to(folder).parts[0]
            return "" if OURS.is_relative_to(folder / name) else name
    return ""


def function_of(value: Any) -> types.FunctionType | None:
    """The plain function behind a callable: of a partial, a bound method, a decorated function or an object's call."""
    while isinstance(value, functools.partial):
        value = value.func
    if not callable(value) or isinstance(value, type):
        return None
    value = getattr(value, "__func__", value)
    if not isinstance(value, types.FunctionType):
        value = type(value).__call__
    value = inspect.unwrap(value)
    return value if isinstance(value, types.FunctionType) else None


def owner(value: Any) -> str:
    """The extension that defines a callable; empty for what is the host's own or no function."""
    function = function_of(value)
    return "" if function is None else extension(function.__code__.co_filename)


def failing_extension(error: BaseException) -> str:
    """The extension in whose code an exception was raised; empty if it was not in one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else extension(trace.tb_frame.f_code.co_filename)


@contextmanager
def own_methods(network: nn.Module) -> Iterator[list[Any]]:
    """The network's outermost methods and hooks without those of extensions; gives those that stay nevertheless.

    Step caches replace `forward`, or what it calls, on the network or on its class.
    """
    exempt: list[Any] = []

    def foreign(value: Any) -> bool:
        name = owner(value)
        if any(word in name.lower() for word in EXEMPT):
            exempt.append(value)
            return False
        return bool(name)

    places: list[dict[Any, Any]] = [vars(network), network._forward_hooks, network._forward_pre_hooks]
    removals: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
    methods: list[tuple[type, str, Any]] = []
    try:
        for place in places:
            values = {key: value for key, value in place.items() if foreign(value)}
            removals.append((place, values))
            for key in values:
                del place[key]
        for kind in type(network).__mro__:
            for name, value in list(vars(kind).items()):
                if isinstance(value, types.FunctionType) and foreign(value) and name in (own := original_methods(kind)):
                    methods.append((kind, name, value))
                    setattr(kind, name, own[name])
        yield exempt
    finally:
        for place, values in removals:
            place.update(values)
        for kind, name, value in methods:
            setattr(kind, name, value)


@functools.lru_cache(maxsize=8)
def original_methods(kind: type) -> dict[str, types.FunctionType]:
    """A class's functions as its source file has them, working on the module that is loaded."""
    module = sys.modules[kind.__module__]
    spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    source: Any = fresh
    for name in kind.__qualname__.split("."):
        source = getattr(source, name)

    def rebound(function: types.FunctionType) -> types.FunctionType:
        # `super()` finds the class in a cell.
        cells = tuple(
            types.CellType(kind) if name == "__class__" else cell
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        )
        copy = types.FunctionType(
            function.__code__, vars(module), function.__name__, function.__defaults__, cells or None
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        return copy

    return {name: rebound(value) for name, value in vars(source).items() if isinstance(value, types.FunctionType)}


class Memory:
    """What the extensions remember whose functions hang somewhere: everything that can be reached from those.

    roots: functions, or containers of them. Reached are closures, the globals of their modules, and the classes and
    objects of extensions. Tensors are not copied.
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        self.modules: dict[int, dict[str, Any]] = {}
        self.restorers: list[Callable[[], None]] = []
        visited: set[int] = set()
        self.alive: list[Any] = []  # an id is only told apart while its object lives
        stack: list[Any] = list(roots)
        while stack:
            value = stack.pop()
            if id(value) in visited or isinstance(value, (str, bytes, int, float, Tensor)):
                continue
            visited.add(id(value))
            self.alive.append(value)
            stack += self.remember(value)

    def remember(self, value: Any) -> list[Any]:
        """Note how one value can be put back, and tell what it leads to."""
        if isinstance(value, dict):
            self.restorers.append(functools.partial(put_back, value, dict(value)))
            return list(value.values())
        if isinstance(value, (list, deque)):
            self.restorers.append(functools.partial(put_back_list, value, list(value)))
            return list(value)
        if isinstance(value, set):
            self.restorers.append(functools.partial(put_back_set, value, set(value)))
            return []
        if isinstance(value, tuple):
            return list(value)
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, types.CellType):
            try:
                content = value.cell_contents
            except ValueError:  # not yet assigned
                return []
            self.restorers.append(lambda: setattr(value, "cell_contents", content))
            return [content]
        if isinstance(value, type):
            return self.of_class(value) if self.is_foreign(value) else []
        if isinstance(value, types.ModuleType):
            return [vars(value)] if extension(getattr(value, "__file__", None) or "") else []
        leads: list[Any] = []
        if owner(value):
            function = function_of(value)
            assert function is not None
            self.modules[id(function.__globals__)] = function.__globals__
            leads = [function.__globals__, *(function.__closure__ or ()), getattr(value, "__self__", None)]
        if not isinstance(value, types.FunctionType) and self.is_foreign(type(value)) and hasattr(value, "__dict__"):
            leads += [vars(value), type(value)]
        return leads

    def add_numbers(self, network: nn.Module) -> None:
        """Remember what extensions have written into the network: its plain attributes, and those of its class."""
        for holder in (network, type(network)):
            plain = {name: value for name, value in vars(holder).items() if is_plain(name, value)}

            def restore(holder: Any = holder, plain: dict[str, Any] = plain) -> None:
                for name in [name for name, value in vars(holder).items() if is_plain(name, value)]:
                    if name not in plain:
                        delattr(holder, name)
                for name, value in plain.items():
                    if vars(holder).get(name) is not value:
                        setattr(holder, name, value)

            self.restorers.append(restore)

    def is_foreign(self, kind: type) -> bool:
        """Whether a class is an extension's; the module of a script is not in sys.modules."""
        if any(module.get("__name__") == kind.__module__ for module in self.modules.values()):
            return True
        return bool(extension(getattr(sys.modules.get(kind.__module__), "__file__", None) or ""))

    def of_class(self, kind: type) -> list[Any]:
        def data() -> dict[str, Any]:
            return {name: value for name, value in vars(kind).items() if not hasattr(value, "__get__")}

        before = data()

        def restore() -> None:
            for name in data().keys() - before.keys():
                delattr(kind, name)
            for name, value in before.items():
                if vars(kind).get(name) is not value:
                    setattr(kind, name, value)

        self.restorers.append(restore)
        return list(before.values())

    def restore(self) -> None:
        for restore in reversed(self.restorers):
            restore()


def is_plain(name: str, value: Any) -> bool:
    """Whether an attribute of a network is a number, a tensor or a list that somebody keeps there."""
    kinds = (bool, int, float, str, list, tuple, dict, Tensor, type(None))
    return not name.startswith("_") and isinstance(value, kinds) and not isinstance(value, nn.Parameter)


def put_back(target: dict[Any, Any], before: dict[Any, Any]) -> None:
    """Never empties a dict on the way: it may be a module that another thread is running."""
    for key in [key for key in target if key not in before]:
        del target[key]
    for key, value in before.items():
        if key not in target or target[key] is not value:
            target[key] = value


def put_back_list(target: list[Any] | deque[Any], before: list[Any]) -> None:
    if len(target) != len(before) or any(a is not b for a, b in zip(target, before, strict=True)):
        target.clear()
        target.extend(before)


def put_back_set(target: set[Any], before: set[Any]) -> None:
    target &= before
    target |= before


@contextmanager
def isolated(network: nn.Module, options: Any, begin: Callable[[], Any]) -> Iterator[None]:
    """One question to the model that no other extension notices and none answers.

    network: the network itself; options: where the host keeps what hangs on it, None where it has no such place.
    begin: makes the host's CFGDenoiserParams of the sampler's first step. What extensions set by it and look at inside
    the model (FreeU's window on Forge) would else be as the previous job left it.
    """
    with own_methods(network) as exempt:
        inside = inner_functions(network)
        refuse_unreachable(inside)
        memory = Memory([options, exempt, inside])
        try:
            for entry in script_callbacks.callback_map.get("callbacks_cfg_denoiser", ()) if memory.modules else ():
                function = function_of(entry.callback)
                if function is not None and id(function.__globals__) in memory.modules:
                    # An object's own memory as well, which the functions on the model need not lead to.
                    own = Memory([entry.callback])
                    memory.restorers += own.restorers
                    switch(entry.callback, begin())
            yield
        finally:
            memory.restore()


@contextmanager
def preserved(p: Any, adapter: Any) -> Iterator[None]:
    """A run of the sampler after which what other extensions remember is as before.

    Theirs are the functions on the model and what the host calls in every step; TeaCache counts in the network itself.
    """
    network, options = adapter.network_of(p.sd_model), adapter.options_of(p.sd_model)
    own = {name: value for name, value in vars(network).items() if owner(value)}
    methods = [value for kind in type(network).__mro__ for value in vars(kind).values() if owner(value)]
    callbacks = [
        entry.callback
        for name, entries in script_callbacks.callback_map.items()
        if name.startswith("callbacks_cfg")
        for entry in entries
    ]
    inside = inner_functions(network)
    memory = Memory([options, own, methods, inside, callbacks, extensions_of(p)])
    if own or methods or inside:
        memory.add_numbers(network)
    try:
        yield
    finally:
        memory.restore()


def extensions_of(p: Any) -> list[Any]:
    """What the other extensions' scripts of a generation remember hangs on these."""
    scripts = getattr(getattr(p, "scripts", None), "alwayson_scripts", [])
    return [script.process for script in scripts if owner(getattr(script, "process", None))]


def inner_functions(network: nn.Module) -> list[Any]:
    """What extensions put in the place of a part's own `forward`, or hooked to it: it stays, as LoRA does."""
    return [
        value
        for part in network.modules()
        for value in (
            vars(part).get("forward"),
            *part._forward_hooks.values(),
            *part._forward_pre_hooks.values(),
        )
        if owner(value)
    ]


def refuse_unreachable(inside: Sequence[Any]) -> None:
    """Raise Unsupported for what would answer otherwise than in the sampler."""
    for name in {owner(value).lower() for value in inside}:
        for word, description in UNREACHABLE.items():
            if word in name:
                raise Unsupported(f"{description}, cannot be asked before sampling: switch it off, or set Inject to 0")


def switch(callback: Callable[[Any], Any], params: Any) -> None:
    """As the hosts call it: what fails there is reported and passed over, and will be once more in the first step."""
    try:
        callback(params)
    except Exception as error:
        log.warn(f"{owner(callback)}: {type(error).__name__}: {error}")


def require_model(wrapper: Any) -> Any:
    """A `model_function_wrapper` that raises Unsupported where it answers in the model's place, from a forecast."""

    def call(apply_model: Callable[..., Any], args: dict[str, Any]) -> Any:
        rows = 0

        def count_rows(x: Tensor, *rest: Any, **named: Any) -> Any:
            nonlocal rows
            rows += len(x)
            return apply_model(x, *rest, **named)

        result = wrapper(count_rows, args)
        if rows < len(args["input"]):
            name = owner(wrapper) or "another extension"
            raise Unsupported(f'"{name}" answers in the place of the model: switch it off, or set Inject to 0')
        return result

    return call

"""Whether the tests notice: single small changes of the code, one at a time, each with the tests that run through it.

    python benchmarks/mutants.py [--share 0.25] [--seed 0] [--patience 120] [MODULE ...]

MODULE is a path in lib_noiseorder, or its beginning ("core", "hosts/base.py"). Changes: comparisons, `and` and `or`,
arithmetic, `not`, signs, conditions, numbers, True and False, short strings, what is returned, statements left
out. A mutant is killed when a test fails or hangs, and lives in the memory of a process of its own: no file is changed.
The live suite, tests in a browser, slow tests and tests of time have no part. Which tests run through which lines is
found out first. What was found lies in .mutants and is taken from there as long as it holds: a killed mutant until its
module changes, a survivor until any test does. One that the first so many seconds of tests of a folder (--patience; as
traced, which is several times as long as untraced) have not killed counts as a survivor, too: run those once more with
more patience. Mutants that cannot be noticed are listed in mutants.txt, with the reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import gc
import hashlib
import importlib.machinery
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "lib_noiseorder"
EQUIVALENT = ROOT / "benchmarks" / "mutants.txt"
STORE = ROOT / ".mutants"
TESTS = ROOT / "tests"
TIMED = TESTS / "hosts" / "test_overhead.py"
"""Traced, nothing is quick."""
# The folder of a module's own tests comes first: that is where it is noticed soonest.
WHERE = {
    "core": ("core", "hosts", "webui"),
    "generation": ("hosts", "webui"),
    "hosts": ("hosts",),
    "config.py": ("webui", "core", "hosts"),
    "presets.py": ("webui", "core", "hosts"),
    "chain.py": ("core", "webui", "hosts"),
    "job.py": ("hosts", "webui"),
    "session.py": ("hosts", "webui"),
    "webui/infotext.py": ("webui", "hosts"),
    "webui/userpresets.py": ("webui", "hosts"),
    "webui/api.py": ("webui", "hosts"),
    "webui/sheet.py": ("webui", "hosts"),
    "webui/xyz.py": ("webui", "hosts"),
}
LONGEST = 10.0
MEMORY = 12 << 30
"""Bytes of address space."""
NAME = 30
"""Characters of a string that is a name or a key; longer ones are sentences, whose words no test pins."""

COMPARISONS = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Mutant:
    """One change. number: its place among those of the module; lines: of its statement, none if that runs at import."""

    module: str
    number: int
    line: int
    text: str
    change: str
    lines: frozenset[int]

    @property
    def key(self) -> str:
        return f"{self.module}\t{self.change}\t{self.text}"


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """What can stand in a node's place."""
    match node:
        case ast.Compare(left, operators, others):
            for k, operator in enumerate(operators):
                swapped = COMPARISONS[type(operator)]()
                yield ast.Compare(left, [*operators[:k], swapped, *operators[k + 1 :]], others)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.And() if isinstance(operator, ast.Or) else ast.Or(), values)
        case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(operator)](), right)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            near = (value + 1, value - 1) if value == int(value) else (value * 2, value / 2)
            yield from map(ast.Constant, near)
        case ast.Constant(str(value)) if len(value) <= NAME:
            yield ast.Constant(value + "x")
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript() | ast.Tuple([ast.Attribute(), *_])]):
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()


def conditions(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.If(test) | ast.While(test) | ast.IfExp(test):
            return [test]
        case ast.comprehension(ifs=tests):
            return tests
    return []


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt, bool, bool, Callable[[ast.AST], None]]]:
    """Every node that is run, its statement, whether that is in a function, whether it is a condition, and what puts
    another in its place."""

    def walk(node: ast.AST, statement: ast.stmt | None, inside: bool) -> Iterator[Any]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "format_spec"):
                continue
            within = inside or (name == "body" and isinstance(node, ast.FunctionDef))
            for k, child in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(child, ast.AST):
                    continue
                if isinstance(child, ast.Constant) and isinstance(node, (ast.JoinedStr, ast.Expr)):
                    continue  # words between what is told, and docstrings

                def set_node(new: ast.AST, name: str = name, k: int = k, value: Any = value) -> None:
                    if isinstance(value, list):
                        value[k] = new
                    else:
                        setattr(node, name, new)

                own = child if isinstance(child, ast.stmt) else statement
                yield child, own, within, any(child is test for test in conditions(node)), set_node
                yield from walk(child, own, within)

    yield from walk(tree, None, False)


def changes(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.stmt, bool, ast.AST, Callable[[ast.AST], None]]]:
    """Every mutant of a module, in an order that is always the same."""
    for node, statement, inside, is_condition, set_node in places(tree):
        new_nodes = list(replacements(node))
        if is_condition and not new_nodes:
            new_nodes = [ast.UnaryOp(ast.Not(), node)]
        for new in new_nodes:
            yield node, statement, inside, new, set_node


def span(statement: ast.stmt) -> frozenset[int]:
    """Its lines, of one that holds others those before them."""
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body and body[0].lineno > statement.lineno else statement.end_lineno
    return frozenset(range(statement.lineno, end + 1))


def mutants(module: str) -> list[Mutant]:
    source = (LIBRARY / module).read_text(encoding="utf-8")
    lines, results, counts = source.splitlines(), [], {}
    for number, (node, statement, inside, new, _) in enumerate(changes(ast.parse(source))):
        line = node.lineno if hasattr(node, "lineno") else statement.lineno
        change = " ".join(f"{ast.unparse(node)} → {ast.unparse(ast.fix_missing_locations(copy.deepcopy(new)))}".split())
        # The same change of the same text again.
        text = lines[line - 1].strip()
        count = counts[text, change] = counts.get((text, change), 0) + 1
        change += f" ({count})" if count > 1 else ""
        results.append(Mutant(module, number, line, text, change, span(statement) if inside else frozenset()))
    return results


def mutate(mutant: Mutant) -> Any:
    """The code of its module with the change made."""
    path = LIBRARY / mutant.module
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node, statement, _, new, set_node = list(changes(tree))[mutant.number]
    set_node(ast.copy_location(new, node if hasattr(node, "lineno") else statement))
    return compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)


class Selection:
    """Pytest plugin: only these tests, in this order; all of them where none are named."""

    def __init__(self, order: list[str] | None = None) -> None:
        self.rank = None if order is None else {name: k for k, name in enumerate(order)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if "browser" not in item.fixturenames]
        if self.rank is not None:
            items[:] = sorted((i for i in items if i.nodeid in self.rank), key=lambda item: self.rank[item.nodeid])


class Trace(Selection):
    """Pytest plugin: which lines of the library each test runs through, and how long it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.tests: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, set[int]] = {}

    def enter(self, frame: Any, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(f"{LIBRARY}{os.sep}"):
            return None
        lines = self.lines.setdefault(Path(name).relative_to(LIBRARY).as_posix(), set())

        def local(frame: Any, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return local

        return local(frame, event, argument)

    def pytest_runtest_protocol(self, item: Any) -> None:
        self.lines = {}
        self.start = time.process_time()
        sys.settrace(self.enter)
        threading.settrace(self.enter)  # the routes of a FastAPI run in others

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        threading.settrace(None)
        lines = {module: sorted(numbers) for module, numbers in self.lines.items()}
        self.tests[nodeid] = {"seconds": time.process_time() - self.start, "lines": lines}


def fork(work: Callable[[], int], seconds: float) -> int | None:
    """What work returns in a process of its own with so much time of the processor; None where it hangs."""
    child = os.fork()
    if child == 0:
        code = 70
        resource.setrlimit(resource.RLIMIT_CPU, (round(seconds), round(seconds)))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # a change can make a loop that collects for ever
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + 20 * seconds
    try:
        while time.monotonic() < end:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                child = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def run(arguments: Sequence[str], plugin: Selection) -> int:
    import pytest

    # As `make test` does: without what is slow, and each time in the same order.
    options = ["-q", "-x", "-m", "not slow", "-p", "no:randomly"]
    return int(pytest.main([*options, *arguments], plugins=[plugin]))


def replace(path: Path, contents: Any) -> None:
    """Write it as a whole: whenever this is stopped, the old one or the new one is there."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(contents), encoding="utf-8")
    fresh.replace(path)


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


@functools.cache
def trace(folder: str) -> dict[str, dict[str, Any]]:
    """The tests of a folder, each with its time and the lines it runs through; found out anew for what has changed."""
    library, store = sorted(LIBRARY.rglob("*.py")), STORE / f"{folder}.json"
    cache = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    helpers = [path for path in sorted((TESTS / folder).glob("*.py")) if not path.name.startswith("test_")]
    tests = {}
    for path in sorted({*(TESTS / folder).glob("test_*.py")} - {TIMED}):
        name, state = path.relative_to(ROOT).as_posix(), digest(path, *helpers, *library)
        if cache.get(name, {}).get("digest") != state:
            print(f"which lines {name} runs through", flush=True)

            def work(name: str = name, state: str = state) -> int:
                plugin = Trace()
                code = run([name], plugin)
                replace(store, {**cache, name: {"digest": state, "tests": plugin.tests}})
                # A file with tests in a browser alone has none left.
                return 0 if code == 5 else code

            if fork(work, 3600) != 0:
                raise SystemExit(f"{name} fails without any change: mend it first")
            cache.update(json.loads(store.read_text(encoding="utf-8")))
        tests.update(cache[name]["tests"])
    return tests


def is_killed(mutant: Mutant, patience: float) -> bool:
    code = mutate(mutant)
    original = importlib.machinery.SourceFileLoader.get_code
    path = str(LIBRARY / mutant.module)
    for folder in next(folders for beginning, folders in WHERE.items() if mutant.module.startswith(beginning)):
        times, counts = {}, {}
        for name, test in trace(folder).items():
            if test["seconds"] > LONGEST:
                continue
            if mutant.lines and mutant.lines.isdisjoint(test["lines"].get(mutant.module, ())):
                continue
            # One of each first, then the same with other hosts and values; the quick ones before the slow.
            stem = name.partition("[")[0]
            counts[stem] = counts.get(stem, 0) + 1
            times[name] = (counts[stem], test["seconds"])
        if not times:
            continue
        order, seconds = [], 0.0
        for name in sorted(times, key=times.__getitem__):
            seconds += times[name][1]
            if order and seconds > patience:
                break
            order.append(name)

        def work(order: list[str] = order) -> int:
            def get_code(loader: Any, name: str) -> Any:
                return code if loader.path == path else original(loader, name)

            importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
            return run(sorted({name.partition("::")[0] for name in order}), Selection(order))

        status = fork(work, 60 + patience)
        if status in (1, 2, None, -signal.SIGXCPU):  # a test failed, one could not be imported, it hung
            return True
        if status != 0:
            raise SystemExit(f"pytest ended with {status} at {mutant.key}")
    return False


def read_excuses() -> dict[str, str]:
    """The mutants that cannot be noticed, and why: a line that begins with # is the reason for those below it."""
    reasons, reason = {}, ""
    for line in EQUIVALENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line:
            reasons[line] = reason
    return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="all of them where none is named")
    parser.add_argument("--share", type=float, default=1, help="how many of them, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=120)
    parser.add_argument("--list", action="store_true", help="only tell what there is, and what was found")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))

    modules = [path.relative_to(LIBRARY).as_posix() for path in sorted(LIBRARY.rglob("*.py"))]
    modules = [m for m in modules if m.startswith(tuple(WHERE)) and not m.endswith("__init__.py")]
    selected = [m for m in modules if m.startswith(tuple(arguments.modules or ("",)))]
    excuses, there = read_excuses(), [mutant for module in modules for mutant in mutants(module)]
    gone = set(excuses) - {mutant.key for mutant in there}
    if gone:
        raise SystemExit("\n".join(["mutants.txt holds what is no mutant any more:", *sorted(gone)]))

    def place(mutant: Mutant) -> float:
        """Drawn for each by itself: a larger share holds the smaller ones, and what is excused moves no other."""
        return random.Random(f"{arguments.seed} {mutant.key}").random()

    remaining = [mutant for mutant in there if mutant.module in selected and mutant.key not in excuses]
    remaining = sorted((mutant for mutant in remaining if place(mutant) < arguments.share), key=place)

    STORE.mkdir(exist_ok=True)
    store = STORE / "results.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    now = digest(*(path for folder in ("core", "hosts", "webui") for path in sorted((TESTS / folder).glob("*.py"))))
    states = {module: digest(LIBRARY / module) for module in selected}

    def verdict(mutant: Mutant) -> bool | None:
        """Whether it is killed; None where it must be run."""
        result = results.get(mutant.key)
        if result is None or result["module"] != states[mutant.module]:
            return None
        holds = result["killed"] or (result["tests"] == now and result.get("patience", 0) >= arguments.patience)
        return result["killed"] if holds else None

    open_, started = [mutant for mutant in remaining if verdict(mutant) is None], time.monotonic()
    if open_ and not arguments.list:
        import gradio  # noqa: F401  # once, and not in every process
        import hypothesis
        import torch

        torch.set_num_threads(1)
        sys.dont_write_bytecode = False  # else every process compiles all tests anew
        # The same examples for every mutant, and no search for the smallest one.
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("mutants", database=None, derandomize=True, deadline=None, phases=phases)
        hypothesis.settings.load_profile("mutants")
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        os.chdir(ROOT)
        gc.collect()
        gc.freeze()  # four times as fast: what is there already is not searched again in every process
        for number, mutant in enumerate(open_, 1):
            killed, state = is_killed(mutant, arguments.patience), states[mutant.module]
            results[mutant.key] = {"killed": killed, "module": state, "tests": now, "patience": arguments.patience}
            replace(store, results)
            if not killed:
                print(f"survived  {mutant.module}:{mutant.line}  {mutant.change}  |  {mutant.text}", flush=True)
            if number % 20 == 0 or number == len(open_):
                minutes = (time.monotonic() - started) / 60
                print(f"{number} of {len(open_)} run in {minutes:.0f} minutes", flush=True)

    survivors = [mutant for mutant in remaining if verdict(mutant) is False]
    if arguments.list:
        for mutant in survivors:
            print(f"{mutant.key}")
    print("\n| module | mutants | cannot be noticed | run | killed | survived |\n|---|---|---|---|---|---|")
    total = [0] * 5
    for module in selected:
        mine = [mutant for mutant in remaining if mutant.module == module]
        verdicts = [verdict(mutant) for mutant in mine]
        everything = sum(mutant.module == module for mutant in there)
        skipped = sum(mutant.module == module and mutant.key in excuses for mutant in there)
        row = [everything, skipped, len(verdicts) - verdicts.count(None), verdicts.count(True), verdicts.count(False)]
        total = [a + b for a, b in zip(total, row, strict=True)]
        print(f"| `{module}` | {' | '.join(map(str, row))} |")
    print(f"| all | {' | '.join(map(str, total))} |")
    print(f"\n{total[3]} of {total[2]} killed: {100 * total[3] / max(total[2], 1):.1f} %")


if __name__ == "__main__":
    main()

"""Runs of pytest that try mutants.

One run collects the tests of a folder and then forks for each mutant: the child gives the live functions the mutant's
code and runs the tests that reach the mutant's statement, the quickest first. No test runs in the parent, so every
child begins with a session in which nothing happened. A mutant that acts at import needs a run of its own.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType
from typing import TypeVar

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from mutation.children import NoResult, in_child, limit_cpu
from mutation.mutants import Mutant, compile_mutant
from mutation.reached_lines import ReachedLines

_OPTIONS = "-q -n 0 -p no:cacheprovider --no-header --disable-warnings --timeout 0 -o tmp_path_retention_policy=none"
_MEASURED_EXAMPLES = 10
_EXAMPLES = 30
"""For each property. The suite has a hundred; with fewer, a mutant may survive that the suite would notice."""
_MEASURING_IDLE_SECONDS = 600
_IMPORT_CPU_SECONDS = 60
_SPARE_IDLE_SECONDS = 10
_SPARE_CPU_SECONDS = 3
_SLOWER = 20
"""A mutant may use this many times the CPU time that a test used when it was measured, with fewer examples."""
_TRIED_CPU_SECONDS = 20
"""The quickest tests that need this much together are tried with a mutant."""
_QUICK_SECONDS = 0.5


T = TypeVar("T")


class Outcome(Enum):
    """What the tests noticed of a mutant."""

    KILLED = "a test failed"
    SURVIVED = "no test failed"
    TIMED_OUT = "a test did not end"


@dataclass
class MeasuredTest:
    """What a test does without a fault: its CPU time and its waiting, that for a processor included, and its lines."""

    cpu_seconds: float
    idle_seconds: float
    lines: frozenset[int]


@dataclass
class Baseline:
    """What the tests of a folder do without a fault, by their names; the lines that importing the program reaches."""

    folder: str
    tests: dict[str, MeasuredTest] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    at_import: frozenset[int] = frozenset()
    libraries: list[str] = field(default_factory=list)

    def tests_of(self, mutant: Mutant, lines: ReachedLines) -> list[str]:
        """The tests that reach the mutant's statement. If it acts at import, those that reach its file, and quick ones.

        The quickest come first, and no more of them than can be tried.
        """
        at_import = self.acts_at_import(mutant, lines)
        wanted = lines.of_file(mutant) if at_import else lines.of_statement(mutant)
        reaching = {name for name, test in self.tests.items() if not test.lines.isdisjoint(wanted)}
        quick = {name for name, test in self.tests.items() if at_import and test.cpu_seconds < _QUICK_SECONDS}
        names = sorted(reaching | quick, key=lambda name: (name not in reaching, self.tests[name].cpu_seconds))
        used = accumulate(self.tests[name].cpu_seconds for name in names)
        return [name for name, seconds in zip(names, used, strict=True) if seconds < _TRIED_CPU_SECONDS]

    def acts_at_import(self, mutant: Mutant, lines: ReachedLines) -> bool:
        """Whether the mutant's statement is executed when its file is imported, and so before functions are swapped."""
        return mutant.function is None or not self.at_import.isdisjoint(lines.of_statement(mutant))


def measured(folder: str, paths: Iterable[str], root: Path) -> Baseline | NoResult:
    """Run every test of a folder once, without a fault. `paths` are the files whose mutants the tests are for."""

    def work() -> Baseline:
        lines = ReachedLines(root)
        lines.begin()
        for path in paths:
            importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        baseline = Baseline(folder, at_import=lines.take())
        _pytest_run(folder, lambda items: _measure(items, lines, baseline), _MEASURED_EXAMPLES)
        return baseline

    return in_child(work, _MEASURING_IDLE_SECONDS)


def _measure(items: dict[str, pytest.Item], lines: ReachedLines, baseline: Baseline) -> None:
    _fork_commands_from_here()
    lines.take()
    installed = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
    modules = [(name, getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    baseline.libraries = [name for name, file in modules if file and file.startswith(installed)]
    for item, following in _pairs(list(items.values())):
        began, began_cpu = time.monotonic(), time.process_time()
        passed = _passes(item, following)
        cpu = time.process_time() - began_cpu
        reached = lines.take()
        if passed:
            baseline.tests[item.nodeid] = MeasuredTest(cpu, time.monotonic() - began - cpu, reached)
        else:
            baseline.failed.append(item.nodeid)


def import_libraries(baseline: Baseline) -> None:
    """Import what the tests of a folder import from elsewhere, for every process that is forked from this one."""
    for name in baseline.libraries:
        with suppress(Exception):
            importlib.import_module(name)


def try_live(
    mutants: Sequence[Mutant], baseline: Baseline, root: Path, keep: Callable[[Mutant, Outcome], None]
) -> None:
    """Try mutants in live functions, one after the other, in one run of pytest; not those that act at import."""
    lines = ReachedLines(root)

    def use(items: dict[str, pytest.Item]) -> None:
        if commands := sys.modules.get("forked_commands"):
            commands.import_everything()
        functions = _live_functions()
        gc.collect()
        gc.freeze()
        for mutant in mutants:
            if baseline.acts_at_import(mutant, lines):
                continue
            names = baseline.tests_of(mutant, lines)
            work = partial(_try_swapped, mutant, functions[str(root / mutant.path)], root, names, items, baseline)
            outcome = in_child(work, _idle_limit(names, baseline)) if names else Outcome.SURVIVED
            if outcome is not None:
                keep(mutant, _outcome(outcome))

    _pytest_run(baseline.folder, use)


def _try_swapped(
    mutant: Mutant,
    functions: Sequence[FunctionType],
    root: Path,
    names: Sequence[str],
    items: dict[str, pytest.Item],
    baseline: Baseline,
) -> Outcome | None:
    if not swap_code(functions, compile_mutant(mutant, root), mutant):
        return None
    return _first_failure(names, items, baseline)


def try_at_import(mutant: Mutant, baseline: Baseline, root: Path) -> Outcome:
    """Try a mutant that acts at import: with the file of tests that is named like its own, then with the folder's."""
    names = baseline.tests_of(mutant, ReachedLines(root))
    mirrored = Path(baseline.folder, f"test_{Path(mutant.path).name}")
    places = [str(mirrored), baseline.folder] if mirrored.is_file() else [baseline.folder]
    outcomes: list[Outcome] = []

    def use(items: dict[str, pytest.Item]) -> None:
        outcomes.append(_first_failure([name for name in names if name in items], items, baseline))

    def work() -> Outcome:
        limit_cpu(_IMPORT_CPU_SECONDS)
        _replace_at_import(mutant, root)
        for place in places:
            outcomes.clear()
            _pytest_run(place, use)
            if outcomes != [Outcome.SURVIVED]:
                return Outcome.KILLED  # also if nothing was collected: an import failed
        return Outcome.SURVIVED

    return _outcome(in_child(work, _idle_limit(names, baseline)))


def _outcome(result: Outcome | NoResult) -> Outcome:
    match result:
        case NoResult.TIMED_OUT:
            return Outcome.TIMED_OUT
        case NoResult.DIED:
            return Outcome.KILLED
        case _:
            return result


def _idle_limit(names: Sequence[str], baseline: Baseline) -> float:
    return _SPARE_IDLE_SECONDS + 2 * sum(baseline.tests[name].idle_seconds for name in names)


class _Session:
    """A plugin for pytest: `use` gets the collected tests, by their names, in place of pytest's own loop."""

    def __init__(self, use: Callable[[dict[str, pytest.Item]], None], examples: int) -> None:
        self._use = use
        self._examples = examples

    def pytest_configure(self) -> None:
        """A failing example is enough: nobody reads it, so it need not be made smaller."""
        hypothesis.settings.register_profile(
            "mutation",
            max_examples=self._examples,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
            derandomize=True,
            database=None,
        )
        hypothesis.settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Hand the tests over; true, so that pytest runs none itself."""
        if not session.testsfailed:
            self._use({item.nodeid: item for item in session.items})
        return True


def _pytest_run(place: str, use: Callable[[dict[str, pytest.Item]], None], examples: int = _EXAMPLES) -> None:
    """Collect the tests of a folder or file and let `use` have them, unless some can't be imported."""
    pytest.main([*_OPTIONS.split(), place], plugins=[_Session(use, examples)])


def _first_failure(names: Sequence[str], items: dict[str, pytest.Item], baseline: Baseline) -> Outcome:
    """`KILLED` as soon as a test fails. A test that uses up its limit of CPU time ends the process."""
    _fork_commands_from_here()
    for name, following in _pairs(names):
        limit_cpu(_SPARE_CPU_SECONDS + _SLOWER * baseline.tests[name].cpu_seconds)
        if not _passes(items[name], items[following] if following else None):
            return Outcome.KILLED
    return Outcome.SURVIVED


def _fork_commands_from_here() -> None:
    """Let the commands that the tests start reach lines that are noted, and have the mutant's code."""
    if commands := sys.modules.get("forked_commands"):
        commands.fork_commands_from_here()


def _live_functions() -> dict[str, list[FunctionType]]:
    """Every function that is alive, by its file."""
    functions: defaultdict[str, list[FunctionType]] = defaultdict(list)
    gc.unfreeze()  # frozen objects are not listed
    for found in gc.get_objects():
        if isinstance(found, FunctionType):
            functions[found.__code__.co_filename].append(found)
    return functions


def swap_code(functions: Sequence[FunctionType], module: CodeType, mutant: Mutant) -> bool:
    """Give the live functions of a file the code of its mutant. False if the mutant's own function has none."""
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes_in(module)}
    swapped = False
    for function in functions:
        old = function.__code__
        new = codes.get((old.co_qualname, old.co_firstlineno))
        if new and old.co_name != "<lambda>" and old.co_freevars == new.co_freevars:
            function.__code__ = new
            swapped = swapped or str(mutant.function).startswith(old.co_qualname)
    return swapped


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_in(constant)


def _replace_at_import(mutant: Mutant, root: Path) -> None:
    """Let the mutant's file have the mutant's code when it is imported."""
    file, code = str(root / mutant.path), compile_mutant(mutant, root)
    get_code = importlib.machinery.SourceFileLoader.get_code

    def mutated(loader: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        return code if loader.path == file else get_code(loader, fullname)

    importlib.machinery.SourceFileLoader.get_code = mutated  # type: ignore[method-assign, assignment]


def _passes(item: pytest.Item, following: pytest.Item | None) -> bool:
    try:
        return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))
    except (KeyboardInterrupt, pytest.exit.Exception):
        return False


def _pairs(items: Sequence[T]) -> Iterator[tuple[T, T | None]]:
    return zip(items, [*items[1:], None], strict=True)

"""`make mutate`: which faults it puts into a file, and that a fault acts in the functions that are in use."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from types import ModuleType

import pytest

from mutation.children import NoResult, in_child, limit_cpu
from mutation.mutants import Mutant, compile_mutant, mutants_of
from mutation.report import Equivalent, report
from mutation.sessions import Outcome, swap_code

SOURCE = '''"""Not mutated: a docstring."""

from dataclasses import dataclass

LIMIT = 3


@dataclass(frozen=True)
class Door:
    name: str = "front"

    @property
    def is_wide(self) -> bool:
        return len(self.name) > LIMIT and not self.name.startswith("x")


def opened(names: list[str], **more: object) -> list[str]:
    for name in names:
        if name == "back":
            raise ValueError("not this one")
    return sorted([name for name in names if name], key=len)
'''


LOOP = """def waits(door):
    if (
        door.name == "back"
    ):
        while True:
            door.ring()
"""


def faults(source: str) -> set[tuple[str, str]]:
    return {(mutant.before, mutant.after) for mutant in mutants_of("door.py", source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b < c", {("b < c", "b <= c"), ("b < c", "b >= c")}),
        ("a = b and not c", {("b and (not c)", "b or not c"), ("not c", "c")}),
        ("a = 3", {("3", "4")}),
        ('a = "one two three"', {("'one two three'", "'XXone two three'")}),
        ('a = "a sentence of many words"', set()),
        ("a: 3 = b", set()),
        ("assert a > b", set()),
        ("f(a, b=c)", {("f(a, b=c)", "pass"), ("f(a, b=c)", "f(a)")}),
        ("a = b if c else d", {("b if c else d", "b if True else d"), ("b if c else d", "b if False else d")}),
        ("match a:\n case 1: b\n case _: c", {("case 1:", "case 1 if False:"), ("1", "2")}),
    ],
)
def test_each_decision_of_a_file_has_its_faults(source: str, expected: set[tuple[str, str]]) -> None:
    assert faults(source) == expected


@pytest.fixture
def door(tmp_path: Path) -> ModuleType:
    file = tmp_path / "door.py"
    file.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("door", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutant(before: str, after: str) -> Mutant:
    (found,) = [one for one in mutants_of("door.py", SOURCE) if (one.before, one.after) == (before, after)]
    return found


def test_a_fault_acts_in_live_functions_also_in_those_of_properties(door: ModuleType, tmp_path: Path) -> None:
    wide = door.Door("front")
    assert wide.is_wide
    fault = mutant("len(self.name) > LIMIT", "len(self.name) <= LIMIT")
    assert fault.function == "Door.is_wide"
    functions = [door.Door.is_wide.fget, door.opened]
    assert swap_code(functions, compile_mutant(fault, tmp_path), fault)
    assert not wide.is_wide


def test_a_fault_at_import_is_of_no_function() -> None:
    assert {mutant("3", "4").function, mutant("'front'", "'XXfront'").function} == {None}


def test_a_fault_knows_the_lines_of_its_statement_without_the_statements_in_it() -> None:
    lines = {(one.before, one.first_line, one.last_line) for one in mutants_of("loop.py", LOOP)}
    assert lines >= {("'back'", 2, 4), ("while True:", 5, 5), ("door.ring()", 6, 6)}


def _use_a_processor() -> None:
    limit_cpu(0.1)
    while True:
        pass


def test_a_child_gives_a_result_or_says_why_there_is_none() -> None:
    assert in_child(lambda: Outcome.KILLED, 60) is Outcome.KILLED
    assert in_child(lambda: os._exit(0), 60) is NoResult.DIED
    assert in_child(_use_a_processor, 60) is NoResult.TIMED_OUT
    assert in_child(threading.Event().wait, 0) is NoResult.TIMED_OUT
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        in_child(lambda: 1 / 0, 60)


def test_the_report_counts_neither_time_outs_as_killed_nor_equivalents_at_all() -> None:
    killed, survived, slow, same, untried = mutants_of("domain/door.py", "a = 1, 2, 3, 4, 5")
    outcomes = {killed: Outcome.KILLED, survived: Outcome.SURVIVED, slow: Outcome.TIMED_OUT, same: Outcome.SURVIVED}
    known = [Equivalent("domain/door.py", "", "4", "5", because="nobody reads it")]
    text, score = report({"domain": [killed, survived, slow, same, untried]}, outcomes, known)
    assert score == pytest.approx(1 / 3)
    assert text.splitlines()[1].split() == ["domain", "0.333", "1", "1", "1", "1", "1"]
    assert text.count("domain/door.py:1:") == 3
    assert "nobody reads it" in text

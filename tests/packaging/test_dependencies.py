"""What the program imports is declared, and an audit says what it could not look up."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from dependency_audit import locked_versions, oldest_versions, report
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"adapters/practice": "practice", "infrastructure/store": "postgres"}
"""The folders whose imports an extra may declare."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def declared(path: Path) -> set[str]:
    extras = [extra for folder, extra in EXTRAS.items() if path.is_relative_to(ROOT / folder)]
    texts = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    requirements = [Requirement(text) for text in texts]
    # psycopg[pool] declares the distribution psycopg-pool.
    names = [name for one in requirements for name in (one.name, *(f"{one.name}-{extra}" for extra in one.extras))]
    return {canonicalize_name(name) for name in names}


def test_each_package_that_the_program_imports_is_declared() -> None:
    ours = {"domain", "infrastructure", "adapters"}
    known = sys.stdlib_module_names | ours | {"_typeshed"}  # the last is for type checkers alone
    distributions = packages_distributions()
    files = [path for room in ours for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 200
    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in imports(path)
        if module not in known
        and not declared(path) & {canonicalize_name(name) for name in distributions.get(module, [])}
    }
    assert undeclared == set()


def test_a_requirement_is_no_older_than_its_lower_bound_says() -> None:
    assert oldest_versions(["aiohttp>=3.14,<4", "psycopg[binary,pool]>=3.2", "rich", "uvloop~=0.21"]) == [
        "aiohttp==3.14",
        "psycopg==3.2",
        "uvloop==0.21",
    ]
    assert all(Requirement(text).specifier for text in PROJECT["dependencies"])


def test_every_pin_of_the_lock_is_looked_up() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = locked_versions(lock)
    assert len(pins) == lock.count("==") > 80
    assert {canonicalize_name(Requirement(pin).name) for pin in pins} >= declared(ROOT / "domain")


CLEAN = {"name": "rich", "version": "15", "vulns": []}
UNKNOWN = {"name": "segno", "skip_reason": "Dependency not found on PyPI and could not be audited: segno (1)"}
HOLED = {"name": "jinja2", "version": "3.1.5", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.6"]}]}


@pytest.mark.parametrize("answer", [None, [], [UNKNOWN]])
def test_a_list_that_nobody_could_look_up_is_said_to_be_left_out(answer: list[dict[str, object]] | None) -> None:
    assert list(report("locked", answer)) == [
        ("locked: left out, as the vulnerability service can't be asked or knows none of them", False)
    ]


def test_a_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    assert list(report("locked", [CLEAN, HOLED, UNKNOWN])) == [
        ("jinja2 3.1.5: PYSEC-1, mended in 3.1.6", True),
        (
            "locked: 2 looked up, vulnerabilities: 1; left out, as the service does not know them: segno",
            False,
        ),
    ]

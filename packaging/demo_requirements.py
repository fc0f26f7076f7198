"""Prints the part of requirements.lock that `make demo` needs: the program, its practice servers, and what installs it.

Each package of the lock says in its `# via` lines which packages want it, so the part is everything that leads to a
dependency of pyproject.toml that is no development tool.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^([A-Za-z0-9._-]+)==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_EXTRA = "practice"
_INSTALLERS = ("hatchling", "editables")


def _name(requirement: str) -> str:
    """The normalised name in a requirement."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def _wanted_by(block: str) -> set[str]:
    """The packages that want the one of this block."""
    lines = re.findall(r"^ +#(?: via)? +([A-Za-z0-9._-]+)", block, re.MULTILINE)
    return {_name(line) for line in lines if line != "via"}


def demo_requirements(lock: str, pyproject: str) -> str:
    """The blocks of `lock` that the demo needs."""
    project = tomllib.loads(pyproject)["project"]
    needed = {_name(one) for one in (*_INSTALLERS, *project["dependencies"], *project["optional-dependencies"][_EXTRA])}
    blocks = {_name(found[1]): found[0] for found in _BLOCK.finditer(lock)}
    while more := {name for name, block in blocks.items() if name not in needed and needed & _wanted_by(block)}:
        needed |= more
    return "".join(block for name, block in blocks.items() if name in needed)


if __name__ == "__main__":
    texts = ((_ROOT / name).read_text() for name in ("requirements.lock", "pyproject.toml"))
    sys.stdout.write(demo_requirements(*texts))

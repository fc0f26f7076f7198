"""`make audit`: ask whether a version that we install or allow has a published vulnerability.

Two lists go to pip-audit: the locked versions, and the oldest versions that `pyproject.toml` allows. pip-audit says
"no known vulnerabilities" also of a list that it could not look up, which is said here to be left out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

_ROOT = Path(__file__).parents[1]
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+==[^\s;\\]+)", re.MULTILINE)


def main() -> int:
    """Print a line for each vulnerability; the exit status is 1 if there is one."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    lists = {
        "locked versions": locked_versions((_ROOT / "requirements.lock").read_text()),
        "oldest allowed versions": oldest_versions(_declared(project)),
    }
    found = False
    for name, versions in lists.items():
        for line, is_vulnerability in report(name, _ask(versions)):
            sys.stdout.write(f"{line}\n")
            found |= is_vulnerability
    return 1 if found else 0


def locked_versions(lock: str) -> list[str]:
    """The pins (`name==version`) of a lock file."""
    return _LOCKED.findall(lock)


def oldest_versions(requirements: Iterable[str]) -> list[str]:
    """A pin for the lower bound of each requirement that has one."""
    pins: set[str] = set()
    for text in requirements:
        requirement = Requirement(text)
        floors = [one.version for one in requirement.specifier if one.operator in (">=", "==", "~=")]
        pins.update(f"{requirement.name}=={floor}" for floor in floors)
    return sorted(pins)


def report(name: str, answer: Sequence[dict[str, Any]] | None) -> Iterator[tuple[str, bool]]:
    """A line for each vulnerability, True beside it, then a line on the whole list, False beside it.

    `answer` are the dependencies in pip-audit's JSON; None if it gave none.
    """
    known = [one for one in answer or () if "vulns" in one]
    if not known:
        yield f"{name}: left out, as the vulnerability service can't be asked or knows none of them", False
        return
    vulnerabilities = [(one, vulnerability) for one in known for vulnerability in one["vulns"]]
    for one, vulnerability in vulnerabilities:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        yield f"{one['name']} {one['version']}: {vulnerability['id']}, mended in {fixed}", True
    unknown = [one["name"] for one in answer or () if "vulns" not in one]
    left_out = f"; left out, as the service does not know them: {', '.join(unknown)}" if unknown else ""
    yield f"{name}: {len(known)} looked up, vulnerabilities: {len(vulnerabilities)}{left_out}", False


def _declared(project: dict[str, Any]) -> list[str]:
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in extras.values() for one in extra)]


def _ask(versions: Sequence[str]) -> list[dict[str, Any]] | None:
    """pip-audit's answer on these versions; None if it could not ask."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off",
         "--requirement=/dev/stdin"],
        input="\n".join(versions),
        check=False,
        capture_output=True,
        text=True,
    )  # fmt: skip
    try:
        dependencies: list[dict[str, Any]] = json.loads(asked.stdout)["dependencies"]
    except ValueError:
        sys.stderr.write(asked.stderr[-1000:])
        return None
    return dependencies


if __name__ == "__main__":
    sys.exit(main())

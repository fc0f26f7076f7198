"""The machines that an operator or auditor is limited to, by patterns of their names.

A pattern is a machine's name in which `*` stands for any characters. A scope looks at the name that a machine has at
the instant that is asked about. An administrator is never limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from domain.errors import InvalidValue

LIMITED_ROLES = ("operator", "auditor")
"""The roles that can be limited to machines."""
_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,64}")


@dataclass(frozen=True)
class Scope:
    """Machines by patterns of their names; without patterns (None) every machine."""

    patterns: tuple[str, ...] | None = None

    @property
    def is_all(self) -> bool:
        """Whether it has every machine."""
        return self.patterns is None

    def has_machine(self, name: str) -> bool:
        """Whether it has the machine of this name."""
        return self.patterns is None or any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def has_machines(self, names: Iterable[str]) -> bool:
        """Whether it has all of these machines, and there is one."""
        listed = list(names)
        return bool(listed) and all(map(self.has_machine, listed))

    def has_profile(self, name: str) -> bool:
        """Whether it has the machine of the setting `machine/setting`."""
        return self.has_machine(name.partition("/")[0])

    def __or__(self, other: Scope) -> Scope:
        """The machines of both."""
        if self.patterns is None or other.patterns is None:
            return EVERY_MACHINE
        return Scope(tuple(dict.fromkeys((*self.patterns, *other.patterns))))


EVERY_MACHINE = Scope()
NO_MACHINE = Scope(())


def valid_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns, each once, in their order.

    Raises:
        InvalidValue: one of them is no pattern of a machine's name.
    """
    kept = tuple(dict.fromkeys(patterns))
    for pattern in kept:
        if not _PATTERN.fullmatch(pattern):
            raise InvalidValue("machines", "not_a_pattern", value=pattern)
    return kept


def check_limitable(roles: Iterable[str], patterns: Iterable[str]) -> None:
    """Check that somebody with these roles can be limited to these patterns.

    Raises:
        InvalidValue: an administrator would be limited.
    """
    if "administrator" in roles and tuple(patterns):
        raise InvalidValue("machines", "administrator_limited")


def scopes_of(sources: Iterable[tuple[Iterable[str], Iterable[str]]]) -> Mapping[str, Scope]:
    """The scope of each limited role, from the sources that give roles, each with its patterns.

    A source without patterns gives its roles for every machine.
    """
    scopes: dict[str, Scope] = {}
    for roles, patterns in sources:
        scope = Scope(tuple(patterns) or None)
        for role in roles:
            if role in LIMITED_ROLES:
                scopes[role] = scopes.get(role, NO_MACHINE) | scope
    return {role: scope for role, scope in scopes.items() if not scope.is_all}

"""What a person selects of the list of machines: by words, state, provider, account, tag, cause or group, in an order.

The pages, the API and the command line all read their texts here, so that the same words select the same machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from domain.errors import InvalidValue
from domain.lifecycle import TokenStatus
from domain.scope import Scope
from infrastructure.store.query import plain_for_like

ANY_CAUSE = "any"
"""Selects machines that need a person for whatever cause."""
MOST_WORDS = 10


class Sort(StrEnum):
    """The orders of the list: by name, worst state first, by account, newest mail first, or nearest end first."""

    NAME = "name"
    STATE = "state"
    ACCOUNT = "account"
    MAIL = "mail"
    END = "end"


@dataclass(frozen=True)
class MachineFilter:
    """Selects machines by all of its parts that are not None.

    `q` has words that all must be somewhere in the machine: its name, model, tags, settings, accounts and servers.
    `state` is the worst state of the machine's settings. `cause` is a code of attention, or `ANY_CAUSE`. `names` is a
    choice of machines by name.
    """

    q: str | None = None
    state: TokenStatus | None = None
    provider: str | None = None
    account: str | None = None
    tag: str | None = None
    cause: str | None = None
    group: str | None = None
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> MachineFilter:
        """The filter that these texts ask for; an empty text asks for nothing.

        Raises:
            InvalidValue: no state is called so.
        """
        given: dict[str, Any] = {one.name: texts.get(one.name, "").strip() or None for one in fields(cls)}
        given["names"] = None
        if given["state"] is not None and given["state"] not in {state.value for state in TokenStatus}:
            raise InvalidValue("state", "not_a_choice", value=given["state"], choices=", ".join(TokenStatus))
        return cls(**{**given, "state": given["state"] and TokenStatus(given["state"])})

    def among(self, names: Iterable[str] | None) -> MachineFilter:
        """The same filter over a choice of machines; None is no choice."""
        return self if names is None else replace(self, names=tuple(names))

    def within(self, scope: Scope, names: Callable[[], Iterable[str]]) -> MachineFilter:
        """The filter for somebody who sees the machines of this scope alone; `names` gives those of all machines."""
        if scope.is_all:
            return self
        inside = names() if self.names is None else self.names
        return replace(self, names=tuple(filter(scope.has_machine, inside)))

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the search."""
        return tuple((self.q or "").casefold().split()[:MOST_WORDS])

    @property
    def is_all(self) -> bool:
        """Whether it selects every machine."""
        return self == MachineFilter()

    def as_texts(self) -> dict[str, str]:
        """The texts that `of` reads, without those that are empty."""
        return {name: str(value) for name, value in asdict(self).items() if value and name != "names"}

    def conditions(self) -> Iterator[tuple[str, list[Any]]]:
        """The SQL conditions on a row of the list, and their parameters; all but those of state, cause and names."""
        for word in self.words:
            yield "listed.words LIKE ? ESCAPE '\\'", [f"%{plain_for_like(word)}%"]
        for column, text in (("tags", self.tag), ("providers", self.provider), ("accounts", self.account)):
            if text:
                word = text if column == "providers" else text.casefold()
                yield f"' ' || listed.{column} || ' ' LIKE ? ESCAPE '\\'", [f"% {plain_for_like(word)} %"]
        if self.group:
            of_group = (
                "SELECT profile.machine_id FROM smtp_group JOIN profile ON profile.group_id = smtp_group.id"
                " WHERE smtp_group.name = ?"
            )
            yield f"listed.machine_id IN ({of_group})", [self.group]


@dataclass(frozen=True)
class Place:
    """A place in the list: `key` is the value that it is sorted by, `name` a machine's name.

    What comes behind it is wanted; with `backwards`, what comes before it.
    """

    key: str
    name: str
    backwards: bool = False

    @classmethod
    def of(cls, text: str, sort: Sort, *, backwards: bool = False) -> Place:
        """The place of a text; sorted by name, the text is a name alone."""
        if sort is Sort.NAME:
            return cls("", text, backwards)
        key, _, name = text.rpartition(" ")
        return cls(key, name, backwards)

    def text(self, sort: Sort) -> str:
        """The text that `of` reads."""
        return self.name if sort is Sort.NAME else f"{self.key} {self.name}"

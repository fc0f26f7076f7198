"""The rows of the list of machines: one for each machine, by which the store searches, filters, sorts and counts.

A row follows from the rows of the machine, its settings and their tokens, and changes in the transaction of theirs; a
renewal changes none. The rows give nobody a right, and a rebuild makes them anew. What a page of the list shows is read
from the rows of the settings and tokens themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from domain.lifecycle import TokenStatus
from domain.machine import Machine
from domain.profile import Profile
from domain.token import Token

if TYPE_CHECKING:
    from infrastructure.store.query import Query

RANKS: Mapping[TokenStatus, int] = MappingProxyType(
    {TokenStatus.INVALID: 0, TokenStatus.WAITING: 1, TokenStatus.NOT_RETRIEVED: 2, TokenStatus.RETRIEVED: 3}
)
"""The states from the worst to the best."""
UNUSED = 4
"""The rank of a setting that nobody has filled in, and of a machine with no others: Not Retrieved, and no worse."""

_RANK = " ".join(f"WHEN token.status = '{status.value}' THEN {rank}" for status, rank in RANKS.items())
_AT_ONCE = 200


@dataclass(frozen=True)
class Listed:
    """What a unit of work changes that the list shows: machines that are there or gone, and tokens, by their ids."""

    machines: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()


def listed(changed: Sequence[Any]) -> Listed:
    """What the new events of these aggregates change in the list."""
    machines, gone, tokens = set[str](), set[str](), set[str]()
    for one in changed:
        match one:
            case Machine():
                (gone if one.state.removed else machines).add(str(one.id))
            case Profile():
                machines.add(str(one.state.machine_id))
            case Token() if any(_changes_status(one, event) for event in one.pending_events):
                tokens.add(str(one.id))
    return Listed(frozenset(machines - gone), frozenset(gone), frozenset(tokens))


def _changes_status(token: Token, event: Any) -> bool:
    return not isinstance(event, Token.Renewed) or token.state.since == event.timestamp


def write_machine_list(query: Query, changed: Listed) -> None:
    """Bring the rows up to what the rows of machines, settings and tokens are in this transaction."""
    for ids in _portions(changed.gone):
        query.run(f"DELETE FROM machine_list WHERE machine_id IN ({_marks(ids)})", ids)  # noqa: S608
    for ids in _portions(changed.machines):
        _refresh(query, f"machine.id IN ({_marks(ids)})", ids)
    for ids in _portions(changed.tokens):
        of_tokens = f"SELECT machine_id FROM profile WHERE token_id IN ({_marks(ids)})"  # noqa: S608
        _refresh(query, f"machine.id IN ({of_tokens})", ids)


def rebuild_machine_list(query: Query) -> None:
    """Make every row anew, with the last day of mail from the counts."""
    query.run("DELETE FROM machine_list")
    _refresh(query, "machine.id IS NOT NULL", ())
    last = (
        "SELECT max(mail_count.day) FROM profile JOIN mail_count ON mail_count.profile = profile.name"
        " WHERE profile.machine_id = machine_list.machine_id AND mail_count.messages > 0"
    )
    query.run(f"UPDATE machine_list SET mail_day = ({last})")  # noqa: S608


NOTE_MAIL = (
    "UPDATE machine_list SET mail_day = ? WHERE machine_id = (SELECT machine_id FROM profile WHERE name = ?)"
    " AND (mail_day IS NULL OR mail_day < ?)"
)
"""Notes the day of a setting's mail, whose parameters are the day, the name of the setting, and the day again."""


def _refresh(query: Query, which: str, parameters: Sequence[str]) -> None:
    words = query.joined("profile.words")
    query.run(
        f"""
        INSERT INTO machine_list (machine_id, name, catalogue, tags, rank, account, accounts, providers, words)
        SELECT machine.id, machine.name, machine.catalogue, machine.tags,
               min(CASE WHEN profile.id IS NULL THEN {UNUSED}
                        WHEN token.status = '{TokenStatus.NOT_RETRIEVED.value}' AND profile.provider IS NULL
                        THEN {UNUSED} {_RANK} ELSE {UNUSED} END),
               coalesce(min(profile.account), ''), coalesce({query.joined("profile.account")}, ''),
               coalesce({query.joined("profile.provider")}, ''), machine.words || ' ' || coalesce({words}, '')
        FROM machine LEFT JOIN profile ON profile.machine_id = machine.id LEFT JOIN token ON token.id = profile.token_id
        WHERE {which}
        GROUP BY machine.id, machine.name, machine.catalogue, machine.tags, machine.words
        ON CONFLICT (machine_id) DO UPDATE SET name = excluded.name, tags = excluded.tags, rank = excluded.rank,
            account = excluded.account, accounts = excluded.accounts, providers = excluded.providers,
            words = excluded.words
        """,  # noqa: S608 - our own words
        parameters,
    )


def _portions(ids: frozenset[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for begin in range(0, len(ordered), _AT_ONCE):
        yield ordered[begin : begin + _AT_ONCE]


def _marks(ids: Sequence[UUID | str]) -> str:
    return ", ".join("?" * len(ids))

"""The tables `session` and `one_time`: working rows of which the log knows the begin and the end.

A row is found by the hash of a secret. Half of the hash is the id of its session or link in the log, so that the secret
alone finds both.
"""

from __future__ import annotations

from uuid import UUID

_ID_LENGTH = 32

SESSION_ID = f"substr(session.hash, 1, {_ID_LENGTH})"
LINK_ID = f"substr(one_time.hash, 1, {_ID_LENGTH})"
"""The SQL expressions for the id of a row's session or link."""

SET_UP_LINK = "set-up link"
"""The kind of the rows in `one_time` that are links. The others are marks that a secret was used."""

EVENTS_OF_OPEN = 1
"""The number of events of a session that has not ended, and of a link that is not over."""


def id_text(hashed: object) -> str:
    """The part of a row's hash that is the id of its session or link, whatever the hash is."""
    return str(hashed)[:_ID_LENGTH]


def id_of(hashed: str) -> UUID:
    """The id of a row's session or link.

    Raises:
        ValueError: the hash is none.
    """
    return UUID(hashed[:_ID_LENGTH])

"""The end of the log, which one indexed read compares with another's memory of it."""

from __future__ import annotations

from domain.api_client import ApiClient
from domain.log_hold import LogHead
from domain.relay_user import RelayUser
from infrastructure.store.query import Query

_RIGHTS = tuple(
    event.TOPIC
    for event in (
        ApiClient.KeyIssued,
        ApiClient.Revoked,
        ApiClient.Removed,
        RelayUser.Mapped,
        RelayUser.Unmapped,
        RelayUser.NetworksChanged,
        RelayUser.PasswordChanged,
        RelayUser.Removed,
    )
)
"""The topics of the events with which a client or relay user may lose a key, a password, a network or a setting."""


def read_log_head(query: Query) -> LogHead:
    """The number of the last event and the link of the hash chain there; number 0 if the log is empty."""
    rows = query.rows("SELECT number, link FROM chain ORDER BY number DESC LIMIT 1")
    return LogHead(rows[0]["number"], bytes(rows[0]["link"]).hex()) if rows else LogHead(0, "")


def read_link(query: Query, number: int) -> str | None:
    """The link of the hash chain at this event; None if the log is shorter."""
    rows = query.rows("SELECT link FROM chain WHERE number = ?", (number,))
    return bytes(rows[0]["link"]).hex() if rows else None


def read_last_right(query: Query, after: int) -> LogHead:
    """The last event behind the event `after` with which a client may have lost a right; number 0 if there is none."""
    rows = query.rows("SELECT position FROM chain WHERE number = ?", (after,))
    position = query.last_of(_RIGHTS, rows[0]["position"] if rows else 0)
    rows = query.rows("SELECT number, link FROM chain WHERE number > ? AND position = ?", (after, position))
    return LogHead(rows[0]["number"], bytes(rows[0]["link"]).hex()) if rows else LogHead(0, "")

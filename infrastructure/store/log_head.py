"""The end of the log, which one indexed read compares with another's memory of it."""

from __future__ import annotations

from domain.log_hold import LogHead
from infrastructure.store.query import Query


def read_log_head(query: Query) -> LogHead:
    """The number of the last event and the link of the hash chain there; number 0 if the log is empty."""
    rows = query.rows("SELECT number, link FROM chain ORDER BY number DESC LIMIT 1")
    return LogHead(rows[0]["number"], bytes(rows[0]["link"]).hex()) if rows else LogHead(0, "")


def read_link(query: Query, number: int) -> str | None:
    """The link of the hash chain at this event; None if the log is shorter."""
    rows = query.rows("SELECT link FROM chain WHERE number = ?", (number,))
    return bytes(rows[0]["link"]).hex() if rows else None

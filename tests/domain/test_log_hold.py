"""A hold of the log begins with a restore and lasts until an administrator lifts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.errors import Refused
from domain.log_hold import LogHold, LogHoldState

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
YESTERDAY, LATER = NOW - timedelta(days=1), NOW + timedelta(hours=1)
HOLD = UUID(int=1)


def test_a_restored_store_is_on_hold_since_the_restore() -> None:
    hold = LogHold.after_restore(HOLD, backup_made_at=YESTERDAY, events=7, by="bob", now=NOW)
    (event,) = hold.pending_events
    assert isinstance(event, LogHold.Created)
    assert (event.backup_made_at, event.events, event.by, event.timestamp) == (YESTERDAY, 7, "bob", NOW)
    assert hold.state == LogHoldState("restored", NOW, YESTERDAY)
    assert not hold.state.lifted


@pytest.mark.parametrize("because", ["the old service is gone", None])
def test_a_hold_is_lifted_once_for_a_reason_or_none(because: str | None) -> None:
    hold = LogHold.after_restore(HOLD, backup_made_at=YESTERDAY, events=7, by="bob", now=NOW)
    hold.collect_events()
    hold.resume(because, by="anna", now=LATER)
    (event,) = hold.pending_events
    assert isinstance(event, LogHold.Resumed)
    assert (event.because, event.by, event.timestamp) == (because, "anna", LATER)
    assert hold.state == LogHoldState("restored", NOW, YESTERDAY, lifted=True)
    with pytest.raises(Refused, match=r"^not_on_hold$"):
        hold.resume(None, by="anna", now=LATER)

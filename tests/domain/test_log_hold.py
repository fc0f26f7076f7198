"""A hold of the log begins with a restore and lasts until an administrator lifts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.errors import InvalidValue, Refused
from domain.log_hold import LogHead, LogHold, LogHoldState
from domain.store_attention import StoreAttention

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


KNOWN = LogHead(40, "5f" * 32)


def of_other_log(*, differs: bool) -> LogHold:
    hold = LogHold.of_other_log(HOLD, known=KNOWN, number=33, as_of=YESTERDAY, differs=differs, by="worker", now=NOW)
    hold.collect_events()
    return hold


def test_a_shorter_log_is_on_hold_and_lifted_without_a_reason_and_the_event_names_what_is_given_up() -> None:
    hold = of_other_log(differs=False)
    assert hold.state == LogHoldState("behind", NOW, YESTERDAY, known=KNOWN)
    assert hold.state.attention is StoreAttention.LOG_BEHIND
    hold.resume(None, by="anna", now=LATER)
    (event,) = hold.pending_events
    assert isinstance(event, LogHold.Resumed)
    assert (event.given_up_number, event.given_up_link) == (KNOWN.number, KNOWN.link)


@pytest.mark.parametrize("because", [None, "", " "])
def test_a_log_that_differs_is_used_only_for_a_reason(because: str | None) -> None:
    hold = of_other_log(differs=True)
    assert hold.state.attention is StoreAttention.LOG_DIFFERS
    with pytest.raises(InvalidValue, match="reason_wanted"):
        hold.resume(because, by="anna", now=LATER)
    assert not hold.pending_events
    hold.resume("the other copy was a rehearsal", by="anna", now=LATER)
    assert hold.state.lifted


def test_the_end_of_a_restored_hold_names_what_a_node_gives_up() -> None:
    hold = LogHold.after_restore(HOLD, backup_made_at=YESTERDAY, events=7, by="bob", now=NOW)
    hold.collect_events()
    hold.resume(None, given_up=KNOWN, by="anna", now=LATER)
    (event,) = hold.pending_events
    assert isinstance(event, LogHold.Resumed)
    assert (event.given_up_number, event.given_up_link) == (KNOWN.number, KNOWN.link)

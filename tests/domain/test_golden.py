"""Each event has a golden file with the bytes it is stored as, kept for ever."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_examples import EVENTS, mapper
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import StoredEvent

import domain.administrator
import domain.api_client
import domain.disclosure
import domain.log_hold
import domain.machine
import domain.one_time_link
import domain.profile
import domain.rebuild
import domain.relay_user
import domain.session
import domain.smtp_group
import domain.stored_provider
import domain.token
from domain.aggregate import Event

GOLDEN = Path(__file__).parent / "golden"


def topic_of(event: Event[Any]) -> str:
    return type(event).TOPIC


def golden(topic: str) -> bytes:
    return (GOLDEN / f"{topic}.json").read_bytes()


each_event = pytest.mark.parametrize("event", EVENTS, ids=topic_of)


@each_event
def test_an_event_is_stored_as_its_golden_file_says(event: Event[Any]) -> None:
    stored = mapper().to_stored_event(event)
    assert (stored.topic, stored.state) == (topic_of(event), golden(topic_of(event)))


@each_event
def test_a_golden_file_reads_back_as_the_event_it_was(event: Event[Any]) -> None:
    topic = topic_of(event)
    stored = StoredEvent(event.originator_id, event.originator_version, topic, golden(topic))
    assert mapper().to_domain_event(stored) == event


def topics() -> Iterator[str]:
    """The topic of every event class in the domain."""
    for module in (
        domain.administrator,
        domain.api_client,
        domain.log_hold,
        domain.machine,
        domain.one_time_link,
        domain.profile,
        domain.disclosure,
        domain.rebuild,
        domain.relay_user,
        domain.session,
        domain.smtp_group,
        domain.stored_provider,
        domain.token,
    ):
        for _, aggregate in inspect.getmembers(module, inspect.isclass):
            if issubclass(aggregate, Aggregate) and aggregate.__module__ == module.__name__:
                for _, event in inspect.getmembers(aggregate, inspect.isclass):
                    if issubclass(event, Event) and "TOPIC" in vars(event):
                        yield vars(event)["TOPIC"]


def test_every_event_has_one_golden_file_and_every_golden_file_an_event() -> None:
    known = sorted(topics())
    assert len(known) == len(set(known)) == 67
    assert sorted(path.name for path in GOLDEN.iterdir()) == [f"{topic}.json" for topic in known]
    assert sorted(topic_of(event) for event in EVENTS) == known

"""The parser of the service's event stream (WHATWG HTML section 9.2.6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest

from adapters.relay import change_feed
from adapters.relay.admission import AdmissionChange
from adapters.relay.change_feed import ServerSentEvent, follow_changes, parse_events

CHANGED = ServerSentEvent("7", "changed", '{"users": [], "profiles": []}')


def parsed(stream: bytes) -> list[ServerSentEvent]:
    async def lines() -> AsyncIterator[bytes]:
        for line in stream.splitlines(keepends=True):
            yield line

    async def collect() -> list[ServerSentEvent]:
        return [event async for event in parse_events(lines())]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    "stream",
    [
        b'id: 7\nevent: changed\ndata: {"users": [], "profiles": []}\n\n',
        b'data: {"users": [], "profiles": []}\r\nevent: changed\r\nid: 7\r\n\r\n',
        b'id:7\nevent:changed\ndata:{"users": [], "profiles": []}\n\n',
    ],
)
def test_the_order_of_fields_the_line_ends_and_a_blank_after_the_colon_do_not_matter(stream: bytes) -> None:
    assert parsed(stream) == [CHANGED]


def test_comments_and_events_without_data_or_without_an_end_are_left_out() -> None:
    assert parsed(b": nothing new\n\nevent: ready\n\nid: 8\ndata: x") == []


def test_data_on_several_lines_is_joined() -> None:
    assert parsed(b"data: one\ndata: two\n\n") == [ServerSentEvent("", "", "one\ntwo")]


@pytest.mark.parametrize("data", ["[" * 30_000, "{}", "[]", "null", "no JSON"], ids=lambda data: data[:7])
def test_no_event_ends_the_feed(monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    asked: list[str] = []

    async def events(_: object, last_id: str) -> AsyncIterator[ServerSentEvent]:
        asked.append(last_id)
        yield CHANGED if len(asked) > 1 else ServerSentEvent("6", "changed", data)

    monkeypatch.setattr(change_feed, "_events", events)
    monkeypatch.setattr(change_feed, "_RETRY_SECONDS", 0)

    async def first_change() -> AdmissionChange:
        changed: asyncio.Future[AdmissionChange] = asyncio.get_running_loop().create_future()

        def keep(change: AdmissionChange) -> None:
            if not changed.done():
                changed.set_result(change)

        following = asyncio.create_task(follow_changes(cast("aiohttp.ClientSession", object()), keep))
        try:
            return await asyncio.wait_for(changed, 30)
        finally:
            following.cancel()

    assert asyncio.run(first_change()) == AdmissionChange(users=[], profiles=[], position=7)
    assert asked[:2] == ["", ""]

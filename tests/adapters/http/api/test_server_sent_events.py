"""Status changes as they happen: each once, in the order of the log, and nothing missed by who comes back."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest
from fastapi.sse import ServerSentEvent
from served import ADMIN, IMAP, POP, SMTP
from served_api import Api, principal_with

from adapters.http.api.server_sent_events import Follower
from infrastructure.queries.changes import StatusChanges
from infrastructure.service import Service

EVENTS = "/api/v1/events"


class Stream:
    """The events of one connection."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.answer = answer

    def next(self) -> dict[str, Any]:
        """The next event; comments are passed over."""
        event: dict[str, Any] = {}
        while line := self.answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                event[name] = value
            elif "event" in event:
                return {**event, "id": int(event["id"]), "data": json.loads(event["data"])}
        raise EOFError

    def next_status(self) -> tuple[str, dict[str, str]]:
        """What happened, and the label of each setting in which it shows."""
        event = self.next()
        assert event["event"] == "status", event
        return event["data"]["event"], {one["profile"]: one["token"] for one in event["data"]["statuses"]}


@contextmanager
def listening_to(api: Api, last_event_id: int | None = None) -> Iterator[Stream]:
    connection = http.client.HTTPConnection(*api.address, timeout=60)
    connection.request("GET", EVENTS, headers={} if last_event_id is None else {"Last-Event-ID": str(last_event_id)})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    try:
        yield Stream(answer)
    finally:
        connection.close()


def test_a_change_is_told_with_the_settings_as_they_are_now(http: Api, installation: Service) -> None:
    with listening_to(http) as stream:
        ready = stream.next()
        assert (ready["event"], ready["id"]) == ("ready", http.get("/api/v1/audit/log")[-1]["position"])
        installation.tokens.renew(SMTP, ADMIN)
        assert stream.next_status() == ("Token.Renewed", {SMTP: "Retrieved"})
        installation.tokens.delete(SMTP, ADMIN)
        assert stream.next_status() == ("Token.Deleted", {SMTP: "Not Retrieved"})
        assert stream.next_status() == ("Profile.TokenDeleted", {SMTP: "Not Retrieved"})


def test_who_is_limited_to_machines_hears_of_these_alone(http: Api, installation: Service) -> None:
    installation.settings.add_machine("hamburg-1", "generic", ADMIN)
    http.principal = principal_with("operator", machines="hamburg-*")
    with listening_to(http) as stream:
        stream.next()
        installation.tokens.renew(SMTP, ADMIN)
        installation.settings.set_profile("hamburg-1/smtp", {"account": "scan@contoso.com"}, ADMIN)
        assert stream.next_status() == ("Profile.Configured", {"hamburg-1/smtp": "Not Retrieved"})
        installation.settings.remove_machine("hamburg-1", ADMIN)
        removed = stream.next()["data"]
        assert removed["removed"][0].startswith("hamburg-1/")


def test_a_change_shows_in_every_setting_that_shares_the_token(http: Api, installation: Service) -> None:
    installation.settings.add_machine("desk", "generic", ADMIN)
    installation.settings.link("scanners", [SMTP.replace("press", "desk")], ADMIN)
    installation.settings.set_profile("desk/smtp", {"provider": "contoso", "account": "x@contoso.com"}, ADMIN)
    installation.settings.add_machine("hall", "generic", ADMIN)
    installation.settings.link("scanners", ["hall/smtp"], ADMIN)
    with listening_to(http) as stream:
        stream.next()
        installation.tokens.request("desk/smtp", None, ADMIN)
        waiting = dict.fromkeys(("desk/smtp", "hall/smtp"), "Waiting for authorisation")
        assert stream.next_status() == ("Token.AuthorizationRequested", waiting)


def test_what_is_removed_is_named(http: Api, installation: Service) -> None:
    with listening_to(http) as stream:
        stream.next()
        installation.settings.remove_profile(IMAP, ADMIN)
        assert [stream.next()["data"] for _ in range(2)][-1]["removed"] == [IMAP]


def test_who_comes_back_with_the_last_id_misses_nothing_and_hears_nothing_twice(
    http: Api, installation: Service
) -> None:
    with listening_to(http) as stream:
        stream.next()
        installation.tokens.renew(SMTP, ADMIN)
        seen = stream.next()["id"]
    installation.tokens.renew(POP, ADMIN)
    installation.tokens.renew(SMTP, ADMIN)
    with listening_to(http, seen) as stream:
        told = [stream.next_status() for _ in range(2)]
        installation.tokens.renew(POP, ADMIN)
        told.append(stream.next_status())
    renewed = "Token.Renewed"
    assert told == [(renewed, {POP: "Retrieved"}), (renewed, {SMTP: "Retrieved"}), (renewed, {POP: "Retrieved"})]


def test_the_ids_are_positions_of_the_log(http: Api, installation: Service) -> None:
    with listening_to(http, 0) as stream:
        events = [stream.next() for _ in range(6)]
    log = {one["position"]: one for one in http.get("/api/v1/audit/log")}
    for event in events:
        record = log[event["id"]]
        assert (event["data"]["event"], event["data"]["at"]) == (
            f"{record['aggregate']}.{record['event']}",
            record["at"],
        )


def test_an_id_the_log_has_not_is_told_to_read_everything_again(http: Api, installation: Service) -> None:
    with listening_to(http, 10**6) as stream:
        assert stream.next()["event"] == "reset"
        installation.tokens.renew(SMTP, ADMIN)
        assert stream.next_status()[0] == "Token.Renewed"


@pytest.mark.parametrize("id", ["-1", "x"])
def test_what_is_no_id_is_refused(http: Api, id: str) -> None:
    assert http.ask("GET", EVENTS, Last_Event_ID=id).status == 422


def test_many_listen_and_each_hears_it(http: Api, installation: Service) -> None:
    installation.tokens.delete(SMTP, ADMIN)
    opened = [listening_to(http) for _ in range(20)]
    streams = [one.__enter__() for one in opened]
    for stream in streams:
        assert stream.next()["event"] == "ready"
    installation.tokens.request(SMTP, None, ADMIN)
    assert {stream.next_status()[0] for stream in streams} == {"Token.AuthorizationRequested"}
    for one in opened:
        one.__exit__(None, None, None)


def test_listeners_are_let_go_when_the_service_ends(http: Api, installation: Service) -> None:
    with listening_to(http) as stream:
        stream.next()
        for follower in http.app.state.followers:
            follower.close()
        assert stream.answer.read() == b"", "the answer ends as a whole one does"


def test_silence_is_broken_by_a_comment(http: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.01)
    with listening_to(http) as stream:
        stream.next()
        assert [stream.answer.readline() for _ in range(4)] == [b": ping\n", b"\n"] * 2


# The follower itself


async def _events_of(listening: AsyncIterator[ServerSentEvent], number: int) -> list[str | None]:
    return [(await anext(listening)).event for _ in range(number)]


def test_who_is_too_slow_is_told_to_read_everything_again(installation: Service) -> None:
    async def told() -> list[str | None]:
        follower = Follower(StatusChanges(installation.events, installation.attention), kept=3)
        async with aclosing(follower.listen(None)) as slow, aclosing(follower.listen(None)) as other:
            first = await _events_of(slow, 1)
            await _events_of(other, 1)
            for _ in range(5):
                await asyncio.to_thread(installation.tokens.renew, SMTP, ADMIN)
                await _events_of(other, 1)
            return first + await _events_of(slow, 1)

    assert asyncio.run(told()) == ["ready", "reset"]


def test_an_answer_ends_so_that_who_listens_is_asked_again_who_they_are(installation: Service) -> None:
    async def told() -> list[str | None]:
        follower = Follower(StatusChanges(installation.events, installation.attention), longest_seconds=0.05)
        return [event.event async for event in follower.listen(None)]

    assert asyncio.run(told()) == ["ready"]


def test_the_log_is_read_only_while_somebody_listens(installation: Service) -> None:
    async def tasks() -> tuple[int, int]:
        follower = Follower(StatusChanges(installation.events, installation.attention))
        async with aclosing(follower.listen(None)) as listening:
            await anext(listening)
            during = len(asyncio.all_tasks())
        await asyncio.sleep(0)
        return during, len(asyncio.all_tasks())

    assert asyncio.run(tasks()) == (2, 1)

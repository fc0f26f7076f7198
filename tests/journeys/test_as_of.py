"""`--as-of` says what was read live then: through the service, through the command, and without the service."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

from practice_faults.provider import FaultyProvider
from service_process import INVALID, NOT_RETRIEVED, RETRIEVED, SCAN, WAITING, Json, ServiceProcess
from waiting import wait_until

from infrastructure.clock import SystemClock, instant_text, read_instant

# What only the running service knows, of now and not of then.
_OF_NOW = {"attention", "forecast", "provider_reply"}


def by_command(service: ServiceProcess, *arguments: str) -> list[Json]:
    statuses: list[Json] = json.loads(service.done("status", "--json", *arguments))
    return statuses


def comparable(statuses: list[Json]) -> list[Json]:
    return [{name: value for name, value in one.items() if name not in _OF_NOW} for one in statuses]


def test_as_of_says_what_the_service_said_then(
    make_service: Callable[..., ServiceProcess], practice: FaultyProvider, store_url: str | None
) -> None:
    service = make_service(url=store_url)
    live: dict[str, list[Json]] = {}

    def note(label: str) -> None:
        service.wait_for(label)
        statuses = service.statuses()
        live[instant_text(SystemClock().now())] = comparable(statuses)

    service.add_printer()
    note(NOT_RETRIEVED)
    started = service.request()
    note(WAITING)
    service.decline(started)
    note(NOT_RETRIEVED)
    service.get_token()
    note(RETRIEVED)
    service.ask("POST", "/api/v1/machines", {"name": "server", "catalogue": "generic"})
    note(RETRIEVED)
    service.ask("POST", "/api/v1/groups/office-mfp/profiles", {"profiles": ["server/smtp"]})
    note(RETRIEVED)
    assert service.renew().status == 200
    note(RETRIEVED)
    practice.revoke_account(SCAN)
    assert service.renew().status == 424
    note(INVALID)
    service.request()
    note(WAITING)
    assert service.cancel().status == 200
    note(INVALID)
    assert service.delete().status == 200
    note(NOT_RETRIEVED)

    wait_until(
        lambda: SystemClock().now() >= read_instant(max(live)) + timedelta(seconds=1), "the last second to be past"
    )
    assert len({json.dumps(statuses) for statuses in live.values()}) >= 10
    for instant, statuses in live.items():
        assert comparable(service.statuses(as_of=instant)) == statuses
    for instant in [*live][3::4]:
        assert comparable(by_command(service, "--as-of", instant)) == live[instant]
    service.kill()
    for instant in [*live][4::4]:
        assert comparable(by_command(service, "--offline", "--as-of", instant)) == live[instant]

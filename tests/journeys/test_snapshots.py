"""Snapshots while one token for fifty settings of fourteen machines comes and goes: they never disagree."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from effort import amount
from invariants import assert_agree, assert_whole
from service_process import FAX, INVALID, NOT_RETRIEVED, RETRIEVED, SCAN, WAITING, Json, ServiceProcess
from waiting import DEADLINE_SECONDS, in_background

MakeService = Callable[..., ServiceProcess]

SNAPSHOTS = amount(100, of=1000)
BY_COMMAND = amount(3, of=12)
ROUNDS = amount(1, of=5)


def fleet(service: ServiceProcess) -> list[str]:
    """Fifty SMTP settings of twelve printers and two servers, linked into one group; one printer has POP as well."""
    linked = []
    for number in range(14):
        catalogue = "sharp-bp" if number < 12 else "generic"
        made = service.ask("POST", "/api/v1/machines", {"name": f"m{number:02}", "catalogue": catalogue})
        for name in made["profiles"]:
            if name.split("/")[1].startswith("smtp"):
                linked.append(name)
            elif number:
                service.ask("DELETE", f"/api/v1/profiles/{name}")
    service.ask("POST", "/api/v1/groups/fleet/profiles", {"profiles": linked})
    service.fill_in(linked[0])
    assert len(linked) == 50
    return linked


class Administrator:
    """Gets, loses, renews and deletes the fleet's token, through whichever setting comes first to hand."""

    def __init__(self, service: ServiceProcess, linked: list[str]) -> None:
        self.rounds = 0
        self._service = service
        self._linked = linked
        self._random = random.Random(50)
        self._enough = threading.Event()

    def work(self) -> None:
        while not self._enough.is_set() or self.rounds < ROUNDS:
            self._round()
            self.rounds += 1

    def stop(self) -> None:
        self._enough.set()

    def _any(self) -> str:
        return self._random.choice(self._linked)

    def _round(self) -> None:
        service = self._service
        self._declined()
        service.request(self._linked[0])
        assert service.cancel(self._any()).status == 200
        self._sign_in(SCAN, RETRIEVED)
        assert service.renew(self._any()).status == 200
        # Make before break: a re-authorization that fails takes nothing away.
        service.request(self._any())
        assert service.cancel(self._any()).status == 200
        service.provider.revoke_account(SCAN)
        assert service.renew(self._any()).status == 424
        self._sign_in(FAX, INVALID)
        self._sign_in(SCAN, RETRIEVED)
        assert service.delete(self._any()).status == 200

    def _sign_in(self, account: str, label: str) -> None:
        profile = self._linked[0] if label == RETRIEVED else self._any()
        _, poll = self._service.approved_but_unpolled(profile, account)
        poll.release()
        self._service.wait_for(label, self._any())

    def _declined(self) -> None:
        self._service.decline(self._service.request(self._linked[0]))
        self._service.wait_for(NOT_RETRIEVED, self._any())


def by_command(service: ServiceProcess) -> list[Json]:
    statuses: list[Json] = json.loads(service.done("status", "--json"))
    return statuses


def test_linked_settings_never_disagree(make_service: MakeService, store_url: str | None) -> None:
    service = make_service(url=store_url)
    linked = fleet(service)
    everyone = {one["profile"] for one in service.statuses()}
    administrator = Administrator(service, linked)
    seen: list[Json] = []

    def look(snapshot: list[Json]) -> None:
        assert {one["profile"] for one in snapshot} == everyone
        seen.append(assert_agree(snapshot, linked))
        assert {one["token"] for one in snapshot if one["profile"] not in linked} == {NOT_RETRIEVED}

    working = in_background(administrator.work)
    commands = in_background(lambda: [assert_agree(by_command(service), linked) for _ in range(BY_COMMAND)])

    def enough() -> bool:
        return len(seen) >= SNAPSHOTS and administrator.rounds >= ROUNDS and commands.done()

    try:
        while not enough() and not working.done():
            look(service.statuses())
    finally:
        administrator.stop()
    working.result(DEADLINE_SECONDS)
    assert len(commands.result(DEADLINE_SECONDS)) == BY_COMMAND

    # They did overlap.
    assert len(seen) >= SNAPSHOTS
    labels = Counter(one["token"] for one in seen)
    assert set(labels) == {NOT_RETRIEVED, WAITING, RETRIEVED, INVALID}
    assert {one["attention"] for one in seen} == {None, "invalid_grant"}
    assert {one["reason"] for one in seen} >= {"invalid_grant", "wrong_account"}
    moments = [(one["token"], one["since"], one["reason"], one["attempt_id"], one["retrieved_by"]) for one in seen]
    changes = sum(one != other for one, other in pairwise(moments))
    assert changes > 5 * ROUNDS, f"only {changes} changes were seen"
    assert_whole(service, linked)

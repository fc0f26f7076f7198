"""What the relay offers depends on what its mail servers offer; the relay asks them for as long as it runs."""

from __future__ import annotations

import asyncio

import pytest
from sending_relay import ManyUserAdmissionClient

from adapters.mail.dialer import Dialer
from adapters.mail.server_address import MailServerAddress
from adapters.relay import capabilities
from adapters.relay.capabilities import Capabilities


def test_no_answer_ends_the_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_LOOK_AGAIN_SECONDS", 0)

    class Service(ManyUserAdmissionClient):
        times_asked = 0

        async def servers(self) -> list[MailServerAddress]:
            self.times_asked += 1
            raise RecursionError

    async def look_for_a_while() -> int:
        service = Service()
        looking = asyncio.create_task(Capabilities(1).keep_looking(Dialer(None), service))
        async with asyncio.timeout(30):
            while service.times_asked < 3:
                await asyncio.sleep(0)
        looking.cancel()
        return service.times_asked

    assert asyncio.run(look_for_a_while()) >= 3

"""SIGTERM and SIGINT at any moment of the server's life end it in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fakes import FakeClock, FakeProvider
from served import a_service

from adapters.http.server import unix_socket
from adapters.http.server.unix_socket import SocketServer, listening_socket

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of the test process are those of before afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_uvicorn_has_its_handlers_ends_the_server_in_order(
    tmp_path: Path,
    clock: FakeClock,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    serve, arrived = unix_socket._serve, False

    async def arrive_first(*arguments: Any) -> None:
        nonlocal arrived
        Thread(target=os.kill, args=(os.getpid(), number)).start()
        await asyncio.sleep(0.5)
        arrived = True
        await serve(*arguments)

    monkeypatch.setattr(unix_socket, "_serve", arrive_first)
    with a_service(tmp_path, clock, provider) as service, listening_socket(service.config) as listener:
        server = SocketServer(service, listener)
        with pytest.raises(SystemExit) as ended:
            server.run()
    assert (ended.value.code, arrived) == (0, True)

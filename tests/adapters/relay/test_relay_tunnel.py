"""Two connections made one: everything arrives, in order, no faster than it is taken, and the end is passed on."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import uvloop
from simulated_loop import run_in_simulated_time

from adapters.mail.line_connection import LineConnection
from adapters.relay.tunnel import CLOSED, IDLE, REVOKED, Moment, run_tunnel

PATIENCE_SECONDS = 60
MANY = 20 * 1024 * 1024


def words(moment: Moment, why: str) -> bytes:
    return f"[{why}, owing {moment.is_owing}, after {moment.tail[-3:]!r}]".encode()


@dataclass
class Ends:
    """Our ends of the two connections, and the session between."""

    client: socket.socket
    server: socket.socket
    session: asyncio.Task[None]

    async def hear_out(self, end: socket.socket) -> bytes:
        heard = bytearray()
        while data := await asyncio.get_running_loop().sock_recv(end, 1 << 20):
            heard += data
        return bytes(heard)


@asynccontextmanager
async def running_tunnel(idle_seconds: float = 60, read: bytes = b"") -> AsyncIterator[Ends]:
    """A session between two socket pairs; `read` is what was read of the client before it began."""
    (ours, theirs), (server, upstream) = socket.socketpair(), socket.socketpair()
    for one in (ours, server):
        one.setblocking(False)
    wires = []
    for sock in (theirs, upstream):
        _, connection = await asyncio.get_running_loop().connect_accepted_socket(LineConnection, sock)
        wires.append(connection)
    wires[0].put_back(read)
    session = asyncio.create_task(run_tunnel(wires[0], wires[1], idle_seconds, words))
    try:
        yield Ends(ours, server, session)
    finally:
        ours.close()
        server.close()
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    """Run a test in the loop that the relay has."""

    def run() -> None:
        async def with_patience() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await test()

        uvloop.run(with_patience())

    run.__name__ = test.__name__
    return run


@in_a_loop
async def test_what_either_side_sends_arrives_whole_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    up, down = random.Random(1).randbytes(MANY), random.Random(2).randbytes(MANY)
    async with running_tunnel(read=b"read before") as ends:

        async def send(end: socket.socket, data: bytes) -> None:
            await loop.sock_sendall(end, data)

        async def take(end: socket.socket, count: int) -> bytes:
            taken = bytearray()
            while len(taken) < count:
                taken += await loop.sock_recv(end, 1 << 20)
            return bytes(taken)

        sent = [asyncio.create_task(send(ends.client, up)), asyncio.create_task(send(ends.server, down))]
        assert await take(ends.client, MANY) == down
        assert await take(ends.server, MANY + 11) == b"read before" + up
        await asyncio.gather(*sent)


@pytest.mark.parametrize("reader", ["client", "server"])
def test_a_side_that_takes_nothing_makes_the_other_wait(reader: str) -> None:
    async def scenario() -> None:
        async with running_tunnel() as ends:
            slow, fast = (ends.client, ends.server) if reader == "client" else (ends.server, ends.client)
            sent = await _send_until_full(fast)
            assert sent < 8 * 1024 * 1024
            taken = 0
            while taken < sent:
                taken += len(await asyncio.get_running_loop().sock_recv(slow, 1 << 20))
            assert taken == sent

    in_a_loop(scenario)()


async def _send_until_full(end: socket.socket) -> int:
    """Send until nothing more is taken for many turns of the loop; how much was."""
    sent = refused = 0
    while refused < 200:
        try:
            sent += end.send(bytes(65536))
            refused = 0
        except BlockingIOError:
            refused += 1
            await asyncio.sleep(0.001)
    return sent


@in_a_loop
async def test_a_client_that_goes_ends_the_session_with_the_mail_server() -> None:
    async with running_tunnel() as ends:
        ends.client.close()
        assert await ends.hear_out(ends.server) == b""
        await ends.session


@in_a_loop
async def test_a_client_that_says_no_more_hears_the_rest() -> None:
    async with running_tunnel() as ends:
        await asyncio.get_running_loop().sock_sendall(ends.client, b"QUIT\r\n")
        ends.client.shutdown(socket.SHUT_WR)
        assert await ends.hear_out(ends.server) == b"QUIT\r\n"
        await asyncio.get_running_loop().sock_sendall(ends.server, b"+OK bye\r\n")
        ends.server.close()
        assert (await ends.hear_out(ends.client)).startswith(b"+OK bye\r\n")
        await ends.session


@in_a_loop
async def test_a_mail_server_that_goes_is_told_in_words_of_the_protocol() -> None:
    async with running_tunnel() as ends:
        await asyncio.get_running_loop().sock_sendall(ends.server, b"abc")
        assert await asyncio.get_running_loop().sock_recv(ends.client, 3) == b"abc"
        ends.server.close()
        said = words(Moment(b"abc", False), CLOSED)
        assert await ends.hear_out(ends.client) == said
        await ends.session


@in_a_loop
async def test_a_mail_server_that_is_gone_before_the_session_begins_is_told_as_well() -> None:
    ours, theirs = socket.socketpair()
    server, upstream = socket.socketpair()
    ours.setblocking(False)
    server.close()
    loop = asyncio.get_running_loop()
    _, client = await loop.connect_accepted_socket(LineConnection, theirs)
    _, gone = await loop.connect_accepted_socket(LineConnection, upstream)
    with pytest.raises(ConnectionError):
        await gone.line(100, 5)
    await run_tunnel(client, gone, 60, words)
    assert await loop.sock_recv(ours, 1000) == words(Moment(b"", False), CLOSED)
    ours.close()


@pytest.mark.parametrize("gone", ["client", "upstream", "both"])
def test_a_session_whose_connections_are_lost_before_it_begins_is_over(gone: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ends, wires = [], {}
        for name in ("client", "upstream"):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            ends.append(ours)
            _, wires[name] = await loop.connect_accepted_socket(LineConnection, theirs)
            wires[name].put_back(b"left over")
            if gone in (name, "both"):
                wires[name].abort()
        while not all(connection.is_lost for name, connection in wires.items() if gone in (name, "both")):
            await asyncio.sleep(0)
        await run_tunnel(wires["client"], wires["upstream"], 60, words)
        for end in ends:
            end.close()

    in_a_loop(scenario)()


@in_a_loop
async def test_a_session_in_which_nothing_is_said_ends() -> None:
    async with running_tunnel(idle_seconds=0.05) as ends:
        assert await ends.hear_out(ends.client) == words(Moment(b"", False), IDLE)
        assert await ends.hear_out(ends.server) == b""
        await ends.session


class _InMemory(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._is_closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


def test_a_session_ends_after_the_idle_time_counted_from_the_last_octet_of_either_side() -> None:
    async def scenario() -> None:
        (client, server), (ours, theirs) = (_InMemory(), _InMemory()), (LineConnection(), LineConnection())
        ours.connection_made(client)
        theirs.connection_made(server)
        session = asyncio.create_task(run_tunnel(ours, theirs, 60, words))
        await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(59)
            client.protocol.data_received(b"NOOP\r\n")
            await asyncio.sleep(59)
            server.protocol.data_received(b"+OK\r\n")
        await asyncio.sleep(59.9)
        assert (server.written, client.written, session.done()) == (b"NOOP\r\n" * 3, b"+OK\r\n" * 3, False)
        await asyncio.sleep(0.1)
        await session
        assert client.written == b"+OK\r\n" * 3 + words(Moment(b"K\r\n", False), IDLE)

    run_in_simulated_time(scenario())


@in_a_loop
async def test_a_relay_that_stops_takes_leave() -> None:
    async with running_tunnel() as ends:
        await asyncio.get_running_loop().sock_sendall(ends.client, b"b1 IDLE\r\n")
        assert await asyncio.get_running_loop().sock_recv(ends.server, 100) == b"b1 IDLE\r\n"
        ends.session.cancel()
        assert await ends.hear_out(ends.client) == words(Moment(b"", True), REVOKED)
        assert await ends.hear_out(ends.server) == b""

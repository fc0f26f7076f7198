"""The pool of SMTP sessions in simulated time, with mail servers that are objects in the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

import pytest
from fakes import FakeClock
from line_client import admission
from simulated_loop import run_in_simulated_time

from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import LineConnection
from adapters.mail.report import ConversationFailed, Steps
from adapters.mail.server_address import MailServerAddress
from adapters.relay.admission import Admission
from adapters.relay.capabilities import Capabilities
from adapters.relay.connection_pool import Lease, Pool
from adapters.relay.mailbox_limits import MailboxQueues, QuotaTimeout
from domain.catalogue import Protocol
from domain.secret import Secret
from infrastructure.config.tables import MailboxLimitsTable

REPLIES = {
    "EHLO": "250-localhost\r\n250 AUTH XOAUTH2",
    "AUTH": "235 2.7.0 Authentication successful",
    "RSET": "250 2.0.0 Reset",
    "NOOP": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
}


class Peer(asyncio.Transport):
    """The transport of a connection to a mail server that answers each command at once; "" is no answer."""

    def __init__(self, connection: LineConnection, replies: dict[str, str]) -> None:
        super().__init__({"peername": ("127.0.0.1", 25), "sockname": ("127.0.0.1", 1025)})
        self.commands: list[str] = []
        self.replies = replies
        self._connection = connection

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def say(self, line: str) -> None:
        asyncio.get_running_loop().call_soon(self._connection.data_received, f"{line}\r\n".encode())

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for line in bytes(data).decode().splitlines():
            verb = line.partition(" ")[0]
            self.commands.append(verb)
            if reply := self.replies[verb]:
                self.say(reply)

    def is_closing(self) -> bool:
        return self._connection.is_lost

    def close(self) -> None:
        self._connection.connection_lost(None)

    abort = close

    @property
    def is_open(self) -> bool:
        return not self._connection.is_lost


class Peers(Dialer):
    """A dialer whose connections lead to peers; `replies` are what the next ones answer."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.replies = dict(REPLIES)

    async def connect(
        self, server: MailServerAddress, steps: Steps, *, timeout_seconds: float, deadline: float = 0
    ) -> LineConnection:
        connection = LineConnection()
        connection.deadline = deadline
        peer = Peer(connection, dict(self.replies))
        connection.connection_made(peer)
        self.peers.append(peer)
        peer.say("220 localhost ready")
        return connection

    def keep_session(self, connection: LineConnection) -> None:
        pass


class Renewing:
    """An admission client that renews every admission it is asked for."""

    def __init__(self, clock: FakeClock) -> None:
        self.renewed_generations: list[int] = []
        self._clock = clock

    async def renewed(self, admission: Admission) -> Admission:
        self.renewed_generations.append(admission.generation)
        return replace(
            admission, generation=admission.generation + 1, expires_at=self._clock.now() + timedelta(hours=1)
        )


class Site:
    """A pool and what is around it."""

    def __init__(self, **limits: int) -> None:
        self.clock = FakeClock()
        self.dialer = Peers()
        self.service = Renewing(self.clock)
        queues = MailboxQueues(lambda _: MailboxLimitsTable(**limits))
        client: Any = self.service
        self.pool = Pool(self.dialer, client, queues, Capabilities(1), self.clock, keeps_sessions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    @property
    def peers(self) -> list[Peer]:
        return self.dialer.peers

    def admission(self, **different: Any) -> Admission:
        usual: dict[str, Any] = {"tls": "none", "expires_at": self.clock.now() + timedelta(hours=1)}
        return admission(Protocol.SMTP, 25, **usual | different)

    async def lend(self, client: str = "printer", **different: Any) -> Lease:
        return await self.pool.lease(self.admission(**different), client)

    async def use(self, **different: Any) -> Peer:
        """Lend a session and take it back; the peer that was lent."""
        lease = await self.lend(**different)
        self.pool.release(lease)
        peer = lease.session.connection.transport
        assert isinstance(peer, Peer)
        return peer


Test = Callable[[], Coroutine[Any, Any, None]]


def in_simulated_time(test: Test) -> Callable[[], None]:
    def run() -> None:
        run_in_simulated_time(test())

    run.__name__ = test.__name__
    return run


@in_simulated_time
async def test_a_session_is_lent_again_after_its_reset() -> None:
    async with Site() as site:
        first = await site.use()
        await asyncio.sleep(2)
        assert await site.use() is first
        assert first.commands == ["EHLO", "AUTH", "RSET", "RSET"]


@in_simulated_time
async def test_a_session_that_was_idle_for_more_than_two_seconds_is_tested_before_it_is_lent() -> None:
    async with Site() as site:
        first = await site.use()
        await asyncio.sleep(2.1)
        assert await site.use() is first
        assert first.commands == ["EHLO", "AUTH", "RSET", "NOOP", "RSET"]


@in_simulated_time
async def test_a_session_whose_test_fails_is_not_lent() -> None:
    async with Site() as site:
        first = await site.use()
        first.replies["NOOP"] = "421 4.3.2 closing"
        await asyncio.sleep(2.1)
        assert await site.use() is not first
        assert not first.is_open


@in_simulated_time
async def test_a_session_that_does_not_answer_its_reset_within_five_seconds_is_not_lent() -> None:
    async with Site() as site:
        site.dialer.replies["RSET"] = ""
        first = await site.use()
        began = asyncio.get_running_loop().time()
        second = await site.lend()
        assert len(site.peers) == 2
        assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.5)
        site.pool.discard(second)
        assert not first.is_open


@in_simulated_time
async def test_a_session_is_swept_once_it_was_idle_for_ten_seconds() -> None:
    async with Site() as site:
        first = await site.use()
        await asyncio.sleep(9.9)
        assert first.is_open
        await asyncio.sleep(2)
        assert not first.is_open
        assert first.commands[-1] == "QUIT"
        assert await site.use() is not first


@in_simulated_time
async def test_each_sweep_ends_what_is_old_and_leaves_what_is_not() -> None:
    async with Site() as site:
        first, second = await site.lend("a"), await site.lend("b")
        site.pool.release(first)
        await asyncio.sleep(6)
        site.pool.release(second)
        await asyncio.sleep(6)
        assert [peer.is_open for peer in site.peers] == [False, True]
        await asyncio.sleep(6)
        assert [peer.is_open for peer in site.peers] == [False, False]


@in_simulated_time
async def test_a_session_that_the_mail_server_has_ended_is_swept_at_once() -> None:
    async with Site() as site:
        first = await site.use()
        await asyncio.sleep(0)
        first.close()
        await asyncio.sleep(1.5)
        assert site.pool._idle == {}


@in_simulated_time
async def test_a_session_whose_token_has_expired_is_not_lent() -> None:
    async with Site() as site:
        first = await site.use()
        site.clock.step(hours=1)
        assert await site.use() is not first
        await asyncio.sleep(0.1)
        assert first.commands[-1] == "QUIT"


@in_simulated_time
async def test_a_session_with_an_older_token_is_not_lent_and_one_with_a_newer_token_is() -> None:
    async with Site() as site:
        second = await site.use(generation=2)
        assert await site.use(generation=1) is second
        assert await site.use(generation=2) is second
        assert await site.use(generation=3) is not second


@pytest.mark.parametrize(
    "different",
    [{"mailbox": "fax@contoso.com"}, {"profile": "fax/smtp"}, {"server": "127.0.0.1"}],
    ids=lambda different: next(iter(different)),
)
def test_a_session_is_not_lent_for_another(different: dict[str, str]) -> None:
    async def scenario() -> None:
        async with Site() as site:
            first = await site.use()
            assert await site.use(**different) is not first
            assert await site.use() is first

    run_in_simulated_time(scenario())


@in_simulated_time
async def test_a_mailbox_makes_room_with_its_own_idle_session_and_not_with_another_s() -> None:
    async with Site(connections=1) as site:
        others = await site.use(mailbox="fax@contoso.com")
        own = await site.use()
        await site.use(profile="fax/smtp")
        assert (others.is_open, own.is_open) == (True, False)


@in_simulated_time
async def test_a_sign_in_that_fails_does_not_count_as_a_session() -> None:
    async with Site(connections=2) as site:
        site.dialer.replies["AUTH"] = "454 4.7.0 later"
        with pytest.raises(ConversationFailed):
            await site.lend()
        site.dialer.replies["AUTH"] = REPLIES["AUTH"]
        first = await site.use()
        await site.use(profile="fax/smtp")
        assert first.is_open


@pytest.mark.parametrize(("seconds", "renewals"), [(30, []), (29, [1])])
def test_a_token_with_less_than_thirty_seconds_left_is_renewed_before_the_sign_in(
    seconds: int, renewals: list[int]
) -> None:
    async def scenario() -> None:
        async with Site() as site:
            lease = await site.lend(expires_at=site.clock.now() + timedelta(seconds=seconds))
            assert site.service.renewed_generations == renewals
            assert lease.admission.generation == 1 + len(renewals)
            site.pool.discard(lease)

    run_in_simulated_time(scenario())


@in_simulated_time
async def test_a_432_at_sign_in_pauses_the_mailbox_and_then_the_sign_in_is_tried_again() -> None:
    async with Site(connections=1, pause=20, wait=60) as site:
        site.dialer.replies["AUTH"] = "432 4.3.2 concurrent connections limit exceeded"
        waiting = asyncio.create_task(site.lend())
        await asyncio.sleep(19)
        assert len(site.peers) == 1
        site.dialer.replies["AUTH"] = REPLIES["AUTH"]
        lease = await waiting
        assert asyncio.get_running_loop().time() == pytest.approx(20)
        assert len(site.peers) == 2
        site.pool.discard(lease)


@in_simulated_time
async def test_a_432_at_sign_in_is_passed_on_if_the_pause_is_longer_than_the_wait() -> None:
    async with Site(connections=1, pause=60, wait=60) as site:
        site.dialer.replies["AUTH"] = "432 4.3.2 concurrent connections limit exceeded"
        with pytest.raises(ConversationFailed):
            await site.lend()
        assert asyncio.get_running_loop().time() == 0


@pytest.mark.parametrize("reply", ["535 5.7.8 no", "454 4.7.0 later", "432 4.3.2 busy", ""])
def test_a_sign_in_that_fails_gives_its_turn_back(reply: str) -> None:
    async def scenario() -> None:
        async with Site(connections=1, wait=10, pause=5) as site:
            site.dialer.replies["AUTH"] = reply
            with pytest.raises((ConversationFailed, QuotaTimeout)):
                await site.lend()
            await asyncio.sleep(10)
            site.dialer.replies["AUTH"] = REPLIES["AUTH"]
            began = asyncio.get_running_loop().time()
            site.pool.release(await site.lend("another"))
            assert asyncio.get_running_loop().time() == began
            assert not any(peer.is_open for peer in site.peers[:-1])

    run_in_simulated_time(scenario())


@in_simulated_time
async def test_a_client_that_gives_up_during_its_sign_in_gives_its_turn_back() -> None:
    async with Site(connections=1, wait=10) as site:
        site.dialer.replies["AUTH"] = ""
        leaving = asyncio.create_task(site.lend())
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        site.dialer.replies["AUTH"] = REPLIES["AUTH"]
        site.pool.release(await site.lend("another"))


@in_simulated_time
async def test_the_mail_server_s_word_for_a_token_holds_for_a_minute() -> None:
    async with Site() as site:
        admitted = site.admission()
        assert not site.pool.vouches_for(admitted)
        site.pool.discard(await site.pool.lease(admitted, "printer"))
        await asyncio.sleep(59.9)
        assert site.pool.vouches_for(admitted)
        assert not site.pool.vouches_for(replace(admitted, generation=2))
        assert not site.pool.vouches_for(site.admission(mailbox="fax@contoso.com"))
        assert not site.pool.vouches_for(site.admission(access_token=Secret("other"), profile="fax/smtp"))
        await asyncio.sleep(0.1)
        assert not site.pool.vouches_for(admitted)


@in_simulated_time
async def test_a_refused_sign_in_ends_the_mail_server_s_word_for_the_token() -> None:
    async with Site() as site:
        admitted = site.admission()
        site.pool.discard(await site.pool.lease(admitted, "printer"))
        site.dialer.replies["AUTH"] = "454 4.7.0 later"
        with pytest.raises(ConversationFailed):
            await site.pool.lease(admitted, "scanner")
        assert not site.pool.vouches_for(admitted)

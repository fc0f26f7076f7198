"""The pool of SMTP sessions with mail servers, within the limits of each mailbox.

With the pool a session stays signed in for some seconds after a message and is lent again. It is lent only for the same
profile, never with an older token than the client's, and only after RSET has shown that the session still replies. A
session that has reached the mailbox's limit of age or of messages is not lent again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from adapters.mail.dialer import Dialer
from adapters.mail.line_connection import ProtocolError
from adapters.mail.server_address import MailboxLogin
from adapters.mail.smtp_client import SMTPRefused, SMTPReply, SMTPSession
from adapters.relay.admission import Admission, AdmissionClient, sign_in_with_renewal
from adapters.relay.capabilities import Capabilities
from adapters.relay.mailbox_limits import MailboxQueue, MailboxQueues
from domain.ports import Clock

log = structlog.get_logger("mailtoken")

# The limit for a whole sign-in: each step may take its full time-out.
_SIGN_IN_SECONDS = 60.0
_KEPT_SECONDS = 10.0
# A session that was idle for longer is tested with a command before it is lent.
_QUIET_SECONDS = 2.0
_ALIVE_SECONDS = 5.0
_VOUCHED_SECONDS = 60.0
_SWEEP_SECONDS = 1.0
_LIFE_LEFT = timedelta(seconds=30)


@dataclass(eq=False)
class Lease:
    """A signed-in session that is lent to one client.

    `is_kept`: the session was used before this message, so the mail server may end it at any command. `signed_in_at` is
    in seconds of the event loop's clock, `messages` the number of messages that the session has begun.
    """

    session: SMTPSession
    admission: Admission
    queue: MailboxQueue
    signed_in_at: float
    messages: int = 0
    is_kept: bool = False


@dataclass(eq=False)
class _Idle:
    lease: Lease
    since: float

    @property
    def session(self) -> SMTPSession:
        return self.lease.session

    @property
    def admission(self) -> Admission:
        return self.lease.admission


def _profile(admission: Admission) -> Hashable:
    """The key of the clients that may share a session."""
    return admission.profile, admission.login.address, admission.login.mailbox


def _mailbox(admission: Admission) -> tuple[str, str]:
    return admission.login.address.server.casefold(), admission.login.mailbox.casefold()


class Pool:
    """All SMTP sessions with mail servers. Without `keeps_sessions` a session ends with the session of its client."""

    def __init__(
        self,
        dialer: Dialer,
        admission_client: AdmissionClient,
        mailbox_queues: MailboxQueues,
        capabilities: Capabilities,
        clock: Clock,
        *,
        keeps_sessions: bool,
    ) -> None:
        self.keeps_sessions = keeps_sessions
        self._dialer = dialer
        self._admission_client = admission_client
        self._mailbox_queues = mailbox_queues
        self._capabilities = capabilities
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Hashable, list[_Idle]] = {}
        self._open: dict[tuple[str, str], int] = {}
        self._vouched: dict[Hashable, tuple[int, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def vouches_for(self, admission: Admission) -> bool:
        """Whether the mail server has accepted this token within the last minute."""
        generation, until = self._vouched.get(_profile(admission), (-1, 0.0))
        return self.keeps_sessions and generation == admission.generation and self._loop.time() < until

    async def lease(self, admission: Admission, client: Hashable) -> Lease:
        """Lend a session once it is the client's turn; the caller has to `release` or `discard` it.

        After a reply that the mail server is busy (432, 421), the pool pauses before it asks again.

        Raises:
            QuotaTimeout: the client's turn did not come in time.
            Unreachable: the token can't be renewed now.
            NotPermitted, Refused: the service has no token for the client any more.
            ConversationFailed: the mail server can't be reached, or does not take the token.
        """
        queue = self._mailbox_queues.of(admission.login.address.server, admission.login.mailbox)
        return await self._in_turn(admission, client, queue, self._session)

    async def replace(self, lease: Lease, client: Hashable) -> None:
        """Put a fresh session in place of one that the mail server has ended; the client keeps its turn.

        Raises:
            as `lease`; the lease is over then.
        """
        lease.session.connection.abort()
        self._closed(lease.admission)
        fresh = await self._in_turn(lease.admission, client, lease.queue, self._fresh_session, has_turn=True)
        lease.session, lease.admission, lease.signed_in_at = fresh.session, fresh.admission, fresh.signed_in_at
        lease.messages, lease.is_kept = 1, False

    async def _in_turn(
        self,
        admission: Admission,
        client: Hashable,
        queue: MailboxQueue,
        session: Callable[[Admission, MailboxQueue], Awaitable[Lease]],
        *,
        has_turn: bool = False,
    ) -> Lease:
        """The lease that `session` returns once it is the client's turn, which `has_turn` says it is already."""
        until = self._loop.time() + queue.wait_seconds
        while True:
            if not has_turn:
                await queue.connection(client, until - self._loop.time())
            has_turn = False
            try:
                return await session(admission, queue)
            except SMTPRefused as refusal:
                if refusal.is_busy:
                    queue.pause()
                queue.release_connection()
                if not refusal.is_busy or self._loop.time() + queue.pause_seconds >= until:
                    raise
            except BaseException:
                queue.release_connection()
                raise

    def release(self, lease: Lease) -> None:
        """Take back a session that is not in the middle of a message."""
        if not self.keeps_sessions or self._is_used_up(lease) or lease.session.connection.has_input:
            self.discard(lease)
            return
        # The reply is read before the session is lent again, so no client waits for it here.
        lease.session.connection.write(b"RSET\r\n")
        lease.session.connection.flush()
        lease.is_kept = True
        self._idle.setdefault(_profile(lease.admission), []).append(_Idle(lease, self._loop.time()))
        lease.queue.release_connection()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def discard(self, lease: Lease, *, abort: bool = False) -> None:
        """End a session: with QUIT, or at once if a message is half sent."""

        async def end() -> None:
            try:
                if abort:
                    lease.session.connection.abort()
                else:
                    await lease.session.close()
            finally:
                self._closed(lease.admission)
                lease.queue.release_connection()

        self._in_background(end())

    def heed(self, lease: Lease, reply: SMTPReply) -> None:
        """Pause the mailbox if the reply says that the mail server is busy; 421 from a kept session only ends it."""
        if reply.is_busy and not (reply.code == 421 and lease.is_kept):
            lease.queue.pause()

    async def close(self) -> None:
        """End the idle sessions."""
        self.keeps_sessions = False
        for kept in self._idle.values():
            for idle in kept:
                self._in_background(self._end(idle))
        self._idle.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._leaving:
            await asyncio.wait(self._leaving)

    async def _session(self, admission: Admission, queue: MailboxQueue) -> Lease:
        while (idle := self._take(admission)) is not None:
            if await self._revive(idle):
                return idle.lease
        return await self._fresh_session(admission, queue)

    async def _fresh_session(self, admission: Admission, queue: MailboxQueue) -> Lease:
        """A session that has just signed in."""
        if admission.expires_at - self._clock.now() < _LIFE_LEFT:
            admission = await self._admission_client.renewed(admission)
        await self._make_room(admission, queue)
        return await self._open_one(admission, queue)

    async def _revive(self, idle: _Idle) -> bool:
        """Whether an idle session replies to its RSET; a session that does not is ended."""
        is_alive = False
        try:
            is_alive = await _is_alive(idle, self._loop.time())
        finally:
            if not is_alive:
                idle.session.connection.abort()
                self._closed(idle.admission)
        return is_alive

    async def _open_one(self, admission: Admission, queue: MailboxQueue) -> Lease:
        self._opened(admission)
        try:
            signed_in, session = await sign_in_with_renewal(admission, self._admission_client, self._sign_in)
        except BaseException:
            self._closed(admission)
            self._vouched.pop(_profile(admission), None)
            raise
        # A renewal also brings the settings of now: the mailbox may be another one.
        self._opened(signed_in)
        self._closed(admission)
        admission = signed_in
        self._vouched[_profile(admission)] = (admission.generation, self._loop.time() + _VOUCHED_SECONDS)
        self._capabilities.learn(admission.login.address, session.extensions)
        return Lease(session, admission, queue, self._loop.time())

    async def _sign_in(self, login: MailboxLogin) -> SMTPSession:
        deadline_seconds = max(_SIGN_IN_SECONDS, login.timeout_seconds)
        session = await SMTPSession.sign_in(self._dialer, login, deadline_seconds=deadline_seconds)
        # From here on each command has its own time-out.
        session.connection.deadline = math.inf
        return session

    def _take(self, admission: Admission) -> _Idle | None:
        """The idle session that was used last, with this token or a newer one."""
        kept = self._idle.get(_profile(admission), [])
        while kept:
            idle = kept.pop()
            is_valid = (
                idle.admission.generation >= admission.generation and idle.admission.expires_at > self._clock.now()
            )
            if is_valid and not self._is_used_up(idle.lease):
                return idle
            self._in_background(self._end(idle))
        return None

    async def _make_room(self, admission: Admission, queue: MailboxQueue) -> None:
        """End idle sessions as long as the mailbox has as many connections as its server allows."""
        key = _mailbox(admission)
        while queue.connection_limit is not None and self._open.get(key, 0) >= queue.connection_limit:
            idle = self._oldest_idle(key)
            if idle is None:
                return
            await self._end(idle)

    def _oldest_idle(self, key: tuple[str, str]) -> _Idle | None:
        for kept in self._idle.values():
            if kept and _mailbox(kept[0].admission) == key:
                return kept.pop(0)
        return None

    async def _end(self, idle: _Idle) -> None:
        with suppress(OSError, ProtocolError):
            await idle.session.reply(_ALIVE_SECONDS)
        await idle.session.close()
        self._closed(idle.admission)

    def _is_used_up(self, lease: Lease) -> bool:
        return lease.queue.is_used_up(lease.messages, self._loop.time() - lease.signed_in_at)

    def _opened(self, admission: Admission) -> None:
        key = _mailbox(admission)
        self._open[key] = self._open.get(key, 0) + 1

    def _closed(self, admission: Admission) -> None:
        key = _mailbox(admission)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def _sweep(self) -> None:
        """End sessions that were idle for long; runs each second while there are idle sessions."""
        now, self._sweeper = self._loop.time(), None
        for profile, kept in list(self._idle.items()):
            while kept and (now - kept[0].since > _KEPT_SECONDS or kept[0].session.connection.is_lost):
                self._in_background(self._end(kept.pop(0)))
            if not kept:
                del self._idle[profile]
        self._vouched = {profile: vouched for profile, vouched in self._vouched.items() if vouched[1] > now}
        if self._idle:
            self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _is_alive(idle: _Idle, now: float) -> bool:
    try:
        if not (await idle.session.reply(_ALIVE_SECONDS)).is_positive:
            return False
        if now - idle.since > _QUIET_SECONDS:
            return (await idle.session.command(b"NOOP", _ALIVE_SECONDS)).is_positive
    except (OSError, ProtocolError):
        return False
    return not idle.session.connection.has_input

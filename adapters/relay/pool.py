"""Sessions with mail servers, within what each allows for a mailbox: opened, lent to one client at a time, kept.

With the pool a session stays signed in after a message and is lent again: only for the same profile, never with an
older token than the client's, reset before and found alive, and for some seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from adapters.mail.connection import Garbled
from adapters.relay.budget import Budgets, Turns
from adapters.relay.capabilities import Capabilities
from adapters.relay.door import Admission, Door
from adapters.relay.smtp_upstream import Refusal, Reply, SMTPUpstream
from adapters.relay.upstream import Dialer, signed_in
from domain.ports import Clock

log = structlog.get_logger("mailtoken")

_KEPT_SECONDS = 10.0
# A connection that was quiet for so long is asked whether it still is one.
_QUIET_SECONDS = 2.0
_ALIVE_SECONDS = 5.0
_VOUCHED_SECONDS = 60.0
_SWEEP_SECONDS = 1.0
_LIFE_LEFT = timedelta(seconds=30)
_BUSY = (421, 432)


@dataclass(eq=False)
class Lease:
    """A session that is signed in, for one client. One that lay idle may have ended without our knowing."""

    session: SMTPUpstream
    admission: Admission
    turns: Turns
    may_be_stale: bool = False


@dataclass(eq=False)
class _Idle:
    session: SMTPUpstream
    admission: Admission
    since: float


def _profile(admission: Admission) -> Hashable:
    """Whose session it is: nobody else's, and no other server's."""
    return admission.profile, admission.server, admission.port, admission.tls, admission.mailbox


def _mailbox(admission: Admission) -> tuple[str, str]:
    return admission.server.casefold(), admission.mailbox.casefold()


class Pool:
    """All sessions with mail servers. Without `keeps_sessions` each ends with its client's."""

    def __init__(
        self,
        dialer: Dialer,
        door: Door,
        budgets: Budgets,
        capabilities: Capabilities,
        clock: Clock,
        *,
        keeps_sessions: bool,
    ) -> None:
        self.keeps_sessions = keeps_sessions
        self._dialer = dialer
        self._door = door
        self._budgets = budgets
        self._capabilities = capabilities
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Hashable, list[_Idle]] = {}
        self._open: dict[tuple[str, str], int] = {}
        self._vouched: dict[Hashable, tuple[int, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def vouches_for(self, admission: Admission) -> bool:
        """Whether the mail server has taken this very token a moment ago, so that nobody has to ask it again."""
        generation, until = self._vouched.get(_profile(admission), (-1, 0.0))
        return self.keeps_sessions and generation == admission.generation and self._loop.time() < until

    async def lease(self, admission: Admission, client: Hashable) -> Lease:
        """A session for a client, once it is its turn; `release` or `discard` it.

        A mail server that says it is busy (432, 421) is left alone for a while and asked again.

        Raises:
            Crowded: its turn did not come in time.
            Unreachable: the token can't be renewed now.
            NotPermitted, Refused: the door has no token for it any more.
            Ended: the mail server can't be reached, or does not take the token.
        """
        turns = self._budgets.of(admission.server, admission.mailbox)
        until = self._loop.time() + turns.wait_seconds
        while True:
            await turns.connection(client, until - self._loop.time())
            try:
                return await self._session(admission, turns)
            except Refusal as refusal:
                is_busy = refusal.code in _BUSY
                if is_busy:
                    turns.pause()
                turns.give_back()
                if not is_busy or self._loop.time() + turns.pause_seconds >= until:
                    raise
            except BaseException:
                turns.give_back()
                raise

    def release(self, lease: Lease) -> None:
        """The client is done with it, and no message is half sent."""
        if not self.keeps_sessions or lease.session.wire.has_input:
            self.discard(lease)
            return
        # The answer is read before the session is lent again: nobody waits for it now.
        lease.session.wire.write(b"RSET\r\n")
        lease.session.wire.flush()
        idle = _Idle(lease.session, lease.admission, self._loop.time())
        self._idle.setdefault(_profile(lease.admission), []).append(idle)
        lease.turns.give_back()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def discard(self, lease: Lease, *, abort: bool = False) -> None:
        """End the session: with QUIT, or at once so that nothing half sent can count."""

        async def end() -> None:
            if abort:
                lease.session.wire.abort()
            else:
                await lease.session.quit()
            self._closed(lease.admission)
            lease.turns.give_back()

        self._in_background(end())

    def heed(self, lease: Lease, reply: Reply) -> None:
        """Leave a mail server alone that says it is busy."""
        if reply.code in _BUSY:
            lease.turns.pause()

    async def close(self) -> None:
        """End what is idle."""
        self.keeps_sessions = False
        for kept in self._idle.values():
            for idle in kept:
                self._in_background(self._end(idle))
        self._idle.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._leaving:
            await asyncio.wait(self._leaving)

    async def _session(self, admission: Admission, turns: Turns) -> Lease:
        while (idle := self._take(admission)) is not None:
            if await self._revive(idle):
                return Lease(idle.session, idle.admission, turns, may_be_stale=True)
        if admission.expires_at - self._clock.now() < _LIFE_LEFT:
            admission = await self._door.renewed(admission)
        await self._make_room(admission, turns)
        return await self._open_one(admission, turns)

    async def _revive(self, idle: _Idle) -> bool:
        """Whether a session has been reset and still answers; else it ends."""
        is_alive = False
        try:
            is_alive = await _is_alive(idle, self._loop.time())
        finally:
            if not is_alive:
                idle.session.wire.abort()
                self._closed(idle.admission)
        return is_alive

    async def _open_one(self, admission: Admission, turns: Turns) -> Lease:
        key = _mailbox(admission)
        self._open[key] = self._open.get(key, 0) + 1
        try:
            admission, session = await signed_in(
                admission, self._door, lambda current: SMTPUpstream.sign_in(self._dialer, current)
            )
        except BaseException:
            self._closed(admission)
            self._vouched.pop(_profile(admission), None)
            raise
        self._vouched[_profile(admission)] = (admission.generation, self._loop.time() + _VOUCHED_SECONDS)
        self._capabilities.learn(admission, session.extensions)
        return Lease(session, admission, turns)

    def _take(self, admission: Admission) -> _Idle | None:
        """The session that was used last, with this token or a newer one."""
        kept = self._idle.get(_profile(admission), [])
        while kept:
            idle = kept.pop()
            if idle.admission.generation >= admission.generation and idle.admission.expires_at > self._clock.now():
                return idle
            self._in_background(self._end(idle))
        return None

    async def _make_room(self, admission: Admission, turns: Turns) -> None:
        """End sessions that lie idle while others want the mailbox's connections."""
        key = _mailbox(admission)
        while turns.limit is not None and self._open.get(key, 0) >= turns.limit:
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
        with suppress(OSError, Garbled):
            await idle.session.reply(_ALIVE_SECONDS)
        await idle.session.quit()
        self._closed(idle.admission)

    def _closed(self, admission: Admission) -> None:
        key = _mailbox(admission)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def _sweep(self) -> None:
        """End what was idle for long, as long as something is idle at all."""
        now, self._sweeper = self._loop.time(), None
        for profile, kept in list(self._idle.items()):
            while kept and (now - kept[0].since > _KEPT_SECONDS or kept[0].session.wire.is_lost):
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
    except (OSError, Garbled):
        return False
    return not idle.session.wire.has_input

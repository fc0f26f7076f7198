"""The hold of the log, which keeps this service from asking any provider until an administrator lifts it.

A node notes the end of the log after each exchange with a provider. Before each one, and when it starts, it looks
whether the log still has that end. If not, an older copy of the store was put back, and the log is put on hold.

On hold a client is served only if no right of a client can have ended in the part of the log that is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from uuid import UUID, uuid4

import structlog
from eventsourcing.persistence import PersistenceError

from domain.api_client import ApiClient
from domain.errors import NotFound, Refused
from domain.log_hold import DIFFERS, LogHold, LogHoldState
from domain.ports import Clock
from domain.relay_user import RelayUser
from infrastructure.clock import instant_text
from infrastructure.queries.store_state import read_hold
from infrastructure.store.event_log import AnyAggregate, EventLog, instant_in
from infrastructure.store.hash_chain import last_position
from infrastructure.store.log_head import read_last_right, read_log_head
from infrastructure.store.query import Query
from infrastructure.store.row_macs import AlteredRow
from infrastructure.tokens.log_memory import KnownHead, LogMemory, difference, proves_clients

log = structlog.get_logger("mailtoken")

_BY = "worker"


class LogHolds:
    """Begins a hold, reads it and lifts it. The hold is a row of the store, so every node sees the same."""

    def __init__(self, events: EventLog, clock: Clock, memory: LogMemory) -> None:
        self._events = events
        self._clock = clock
        self._memory = memory
        self._lock = threading.Lock()
        self._refuses_clients = False
        events.listeners.append(self._remember_rights)

    def is_on(self) -> bool:
        """Whether the store is on hold. The log is compared with this node's memory first."""
        return self.code() is not None

    def code(self) -> str | None:
        """The code of the reason why the store is on hold; None if it is not."""
        hold = self._hold()
        return hold.attention.value if hold else None

    def check(self) -> None:
        """Check that a provider may be asked.

        Raises:
            Refused: the store is on hold.
        """
        hold = self._hold()
        if hold:
            since, made_at = instant_text(hold.since), instant_text(hold.backup_made_at)
            raise Refused(hold.attention.value, since=since, backup_made_at=made_at)

    def check_clients(self) -> None:
        """Check that clients may be given tokens in hand, as of the last look at the hold, without a look of its own.

        Raises:
            Refused: the store is on hold, and a right of a client may have ended in the part of the log that it lacks.
        """
        if self._refuses_clients:
            raise Refused("clients_not_proven")

    def look(self) -> None:
        """Look for a hold, as a node does when it starts; log that this node has no memory of the log, if so."""
        self._hold()
        if self._memory.known is None:
            log.info("log_not_compared", why="this node has not seen this log before: nothing to compare with")

    def remember(self) -> None:
        """Note the end of the log on stable storage, after the commit of an exchange or a deletion.

        The memory of a log that was put back meanwhile is kept, so that the next look finds the difference.

        Raises:
            OSError: the storage fails.
            PersistenceError: the store can't be read.
        """
        with self._events.store.reading() as query:
            own = read_log_head(query)
        with self._lock:
            known = self._memory.known
            if known and known.head.number >= own.number:
                return  # another thread has noted this commit with its own, or the next look finds a difference
            with self._events.store.reading() as query:
                if known and difference(query, known.head):
                    return
                head = read_log_head(query)
                right = read_last_right(query, known.head.number if known and known.last_right else 0)
            if right.number == 0 and known and known.last_right:
                right = known.last_right
            self._memory.write(KnownHead(head, self._clock.now(), right))

    def note(self) -> None:
        """Note the end of the log; if that fails, the note before stays, which is about the same log."""
        try:
            self.remember()
        except (OSError, PersistenceError) as error:
            log.error("log_head_not_noted", error=str(error))

    def _remember_rights(self, changed: Sequence[AnyAggregate]) -> None:
        """Note a change of a client's rights at once: otherwise an older copy would give them back unnoticed."""
        if any(isinstance(one, ApiClient | RelayUser) for one in changed):
            self.note()

    def resume(self, because: str | None, by: str) -> None:
        """Lift the hold, so that tokens are renewed again, and note the end of the log that is there.

        Raises:
            Refused: the store is not on hold.
            InvalidValue: the log differs from the one that a node has seen, and no reason is given.
            Conflict: another administrator lifted it at the same moment.
        """
        with self._events.store.reading() as query:
            ids = [UUID(row["id"]) for row in query.rows("SELECT id FROM log_hold")]
            known = self._memory.known
            given_up = known.head if known and difference(query, known.head) else None
        if not ids:
            raise Refused("not_on_hold")
        try:
            holds = [self._events.load(LogHold, id) for id in ids]
        except NotFound as unknown:
            raise AlteredRow("log_hold", str(unknown.fields["id"]), None).refusal() from None
        for hold in holds:
            hold.resume(because, given_up=given_up, by=by, now=self._clock.now())
        self._events.save(*holds)
        with self._lock:
            self._take_as_it_is()
        self._refuses_clients = False

    def _hold(self) -> LogHoldState | None:
        known = self._memory.known
        with self._events.store.reading() as query:
            hold = read_hold(query)
            is_other = known is not None and difference(query, known.head) is not None
            proves = known is None or proves_clients(query, known)
        if is_other and not hold:
            hold = self._begin()
        self._refuses_clients = hold is not None and not proves
        return hold

    def _begin(self) -> LogHoldState | None:
        """Put the log on hold, unless another thread or node has, or an administrator has given up what is known."""
        with self._lock:
            known = self._memory.known
            with self._events.store.reading() as query:
                hold, reason = read_hold(query), difference(query, known.head) if known else None
                if hold or known is None or reason is None:
                    return hold
                is_given_up = self._is_given_up(query, known)
                head = read_log_head(query)
                last = query.events(last_position(query) - 1, 1)
            if is_given_up:
                self._take_as_it_is()
                return None
            now = self._clock.now()
            begun = LogHold.of_other_log(
                uuid4(),
                known=known.head,
                number=head.number,
                as_of=self._events.instant_of(last[0][1]) if last else now,
                differs=reason == DIFFERS,
                by=_BY,
                now=now,
            )
            self._events.save(begun)
            log.error("log_put_on_hold", why=begun.state.attention.value, known=known.head.number, events=head.number)
            return begun.state

    def _is_given_up(self, query: Query, known: KnownHead) -> bool:
        """Whether a hold was lifted after this node saw the end that it knows; another node may have begun it.

        The whole log is looked through, which is slow, and happens only where the log differs from the memory.
        """
        rows = query.rows("SELECT state FROM stored_events WHERE topic = ?", (LogHold.Resumed.TOPIC,))
        return any(instant_in(bytes(row["state"])) > known.at for row in rows)

    def _take_as_it_is(self) -> None:
        with self._events.store.reading() as query:
            head, right = read_log_head(query), read_last_right(query, 0)
        try:
            self._memory.write(KnownHead(head, self._clock.now(), right))
        except OSError as error:
            # The memory before stays. The hold that was lifted is later than it, so it begins no other.
            log.error("log_head_not_noted", error=error.strerror or type(error).__name__)

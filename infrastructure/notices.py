"""Tells people when a token needs somebody, is about to end, or has recovered.

What was told is a row for each token or provider and channel, written once the channel has taken the notice. A crash
in between delivers it once more, under the same key; nothing is left out. Of several nodes one tells: it has a claim,
as for a request to a provider, which is taken over if it dies.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID, uuid4, uuid5

import structlog

from domain.errors import MailtokenError, Unreachable
from domain.notice import Notice, Told, occasion
from domain.ports import Clock
from infrastructure.attention import OF_PROVIDERS, Attended, Attention
from infrastructure.claims import Claims
from infrastructure.clock import instant_text, read_instant
from infrastructure.escrow import Work
from infrastructure.store import Query, Store

log = structlog.get_logger("mailtoken")

_LOOK_EVERY_SECONDS = 30.0
_PROVIDERS = UUID("8e0d2d4f-6b0c-4c8e-9d0a-3c6f5d0b7a11")
"""The namespace of the ids that providers have among what people are told about."""


class Channel(Protocol):
    """A way to tell people. `name` is stored: it tells one channel's rows from another's."""

    name: str

    def tell(self, notice: Notice) -> None:
        """Deliver the notice, or raise whatever is in the way: it is tried again.

        Raises:
            Unreachable: nothing can be delivered now; the others are not tried.
        """
        ...


@dataclass(frozen=True)
class _Subject:
    """A token or a provider, with the settings concerned."""

    id: UUID
    attention: str | None
    members: Sequence[Attended]

    def notice(self, told: Told | None, now: datetime) -> Notice | None:
        """What to tell people now, if anything."""
        tokens = [member.status.token for member in self.members]
        renewed_at = max((token.credential.issued_at for token in tokens if token.credential), default=None)
        works = any(member.works for member in self.members)
        why = occasion(self.attention, works=works, renewed_at=renewed_at, told=told, now=now)
        if why is None:
            return None
        names = tuple(member.status.profile.name for member in self.members)
        account, provider = _shared(token.account for token in tokens), _shared(token.provider for token in tokens)
        return Notice(self.id, why, self.attention, names, account, provider, now, told)


class Notifier:
    """A thread that looks what people don't know yet."""

    def __init__(
        self,
        store: Store,
        claims: Claims,
        clock: Clock,
        attention: Attention,
        channels: Iterable[Channel],
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._attention = attention
        self._channels = tuple(channels)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Begin, if there is anybody to tell."""
        if self._channels:
            self._thread.start()

    def stop(self) -> None:
        """Finish what is being told and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell_what_is_new(self) -> int:
        """Look once; returns how many notices were delivered."""
        # Before the statuses: what another node tells from now on it has seen later than we have.
        with self._store.reading() as query:
            told = {channel.name: _read_told(query, channel.name) for channel in self._channels}
        subjects = _subjects(self._attention.statuses())
        return sum(self._tell_through(channel, subjects, told[channel.name]) for channel in self._channels)

    def _tell_through(self, channel: Channel, subjects: Iterable[_Subject], told: Mapping[UUID, Told]) -> int:
        delivered = 0
        for subject in subjects:
            notice = subject.notice(told.get(subject.id), self._clock.now())
            if notice is None or self._stop.is_set():
                continue
            with self._claimed(channel, notice) as is_ours:
                if not is_ours:
                    continue
                try:
                    channel.tell(notice)
                except Unreachable as unreachable:
                    log.warning("notice_not_delivered", why=channel.name, error=str(unreachable))
                    break
                except Exception as error:
                    # Our own errors hold no secret; the text of any other may have an address or a command line in it.
                    why = str(error) if isinstance(error, MailtokenError) else type(error).__name__
                    log.warning("notice_not_delivered", why=channel.name, error=why)
                    continue
                with self._store.writing() as query:
                    _write_told(query, channel.name, notice)
                delivered += 1
        return delivered

    @contextmanager
    def _claimed(self, channel: Channel, notice: Notice) -> Iterator[bool]:
        """Whether this notice is ours to tell: nobody else is at it, or has told people something since we looked."""
        work = Work(f"notice {channel.name}", notice.subject_id, uuid4().hex, 0)
        if not self._claims.take(work):
            yield False
            return
        try:
            with self._store.reading() as query:
                told = _read_told(query, channel.name, notice.subject_id)
            yield told.get(notice.subject_id) == notice.before
        finally:
            self._claims.release(work)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tell_what_is_new()
            except Exception:
                # Whatever it was, the next look may find it gone; the thread must not die of it.
                log.exception("notices_failed")
            self._stop.wait(_LOOK_EVERY_SECONDS)


def _subjects(statuses: Iterable[Attended]) -> list[_Subject]:
    """What notices are about: each token, and each provider where the trouble is the provider's and all share it."""
    tokens: dict[UUID, list[Attended]] = {}
    providers: dict[str, list[Attended]] = {}
    for one in statuses:
        tokens.setdefault(one.status.profile.token_id, []).append(one)
        if one.status.token.provider:
            providers.setdefault(one.status.token.provider, []).append(one)
    # While its provider is in trouble, nothing is said about a token: it is neither well nor to blame.
    subjects = [_Subject(id, m[0].attention, m) for id, m in tokens.items() if m[0].attention not in OF_PROVIDERS]
    for name, members in providers.items():
        troubled = [one for one in members if one.attention in OF_PROVIDERS]
        code = min((str(one.attention) for one in troubled), default=None)
        subjects.append(_Subject(uuid5(_PROVIDERS, name), code, troubled or members))
    return subjects


def _shared(values: Iterable[str | None]) -> str | None:
    """The value, if all have the same."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _read_told(query: Query, channel: str, subject_id: UUID | None = None) -> dict[UUID, Told]:
    """What people were told last, of each subject or of one."""
    rows: list[Mapping[str, Any]] = (
        query.rows("SELECT * FROM notice WHERE channel = ? AND token_id = ?", (channel, str(subject_id)))
        if subject_id
        else query.rows("SELECT * FROM notice WHERE channel = ?", (channel,))
    )
    return {
        UUID(row["token_id"]): Told(row["attention"], read_instant(row["told_at"]), row["reminders"]) for row in rows
    }


def _write_told(query: Query, channel: str, notice: Notice) -> None:
    told = notice.told
    query.run(
        "INSERT INTO notice VALUES (?, ?, ?, ?, ?) ON CONFLICT (token_id, channel) DO UPDATE SET "
        "attention = excluded.attention, told_at = excluded.told_at, reminders = excluded.reminders",
        (str(notice.subject_id), channel, told.attention, instant_text(told.at), told.reminders),
    )

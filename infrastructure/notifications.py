"""Notifies people when a token or the installation needs a person, is about to end, or has recovered.

The last notification of each subject and channel is a row, written after the channel has delivered the notification. A
crash in between causes a second delivery under the same key; no notification is lost. Before a delivery a node claims
the notification, as it claims a request to a provider, and another node takes over the claim of a node that dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID, uuid4, uuid5

import structlog

from domain.errors import MailtokenError, Unreachable
from domain.notification import LastNotification, Notification, Topic, trigger_of
from domain.ports import Clock
from domain.store_attention import HOLDS, CertificateExpiry, StoreAttention
from infrastructure.clock import instant_text, read_instant
from infrastructure.queries.attention import OF_PROVIDERS, Attention, StatusWithAttention
from infrastructure.queries.store_state import StoreState, StoreStateQuery, read_hold
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.query import Query
from infrastructure.store.store import Store
from infrastructure.ticker import Ticker
from infrastructure.tokens.claims import Claims

log = structlog.get_logger("mailtoken")

_LOOK_EVERY_SECONDS = 30.0
_PROVIDERS = UUID("8e0d2d4f-6b0c-4c8e-9d0a-3c6f5d0b7a11")
"""The namespace for the subject ids of providers, which are derived from their names."""
_STORE = UUID("b0c3a1f4-52d7-4d0e-8a43-7f0f9a5be2d6")
"""The namespace for the subject ids of the installation's parts, which are derived from their topics and tables."""


class Channel(Protocol):
    """A way to reach people. `name` is stored with the last notification of each channel."""

    name: str

    def deliver(self, notification: Notification) -> None:
        """Deliver the notification. After any exception the delivery is repeated at the next look.

        Raises:
            Unreachable: the channel can't deliver now, so no other notification is tried at this look.
        """
        ...


@dataclass(frozen=True)
class _Subject:
    """What people are notified about."""

    id: UUID
    attention: str | None

    def notification(self, last: LastNotification | None, now: datetime) -> Notification | None:
        """The notification to deliver now; None if there is none."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Tokens(_Subject):
    """A token or a provider, with the settings concerned."""

    members: Sequence[StatusWithAttention]

    def notification(self, last: LastNotification | None, now: datetime) -> Notification | None:
        tokens = [member.status.token for member in self.members]
        renewed_at = max((token.credential.issued_at for token in tokens if token.credential), default=None)
        works = any(member.works for member in self.members)
        why = trigger_of(self.attention, works=works, renewed_at=renewed_at, last=last, now=now)
        if why is None:
            return None
        names = tuple(member.status.profile.name for member in self.members)
        account, provider = _shared(token.account for token in tokens), _shared(token.provider for token in tokens)
        return Notification(self.id, why, self.attention, names, account, provider, now, last)


@dataclass(frozen=True)
class _Installation(_Subject):
    """A part of the installation: its hold, its backups, or one of its certificates."""

    topic: Topic
    certificate: CertificateExpiry | None = None

    def notification(self, last: LastNotification | None, now: datetime) -> Notification | None:
        works = self.attention in {None, StoreAttention.CERTIFICATE_ENDS}
        why = trigger_of(self.attention, works=works, renewed_at=None, last=last, now=now)
        if why is None:
            return None
        of_no_token = ((), None, None)
        return Notification(self.id, why, self.attention, *of_no_token, now, last, self.topic, self.certificate)


class Notifier:
    """A thread that looks every half minute for conditions of which people have not been notified."""

    def __init__(
        self,
        store: Store,
        claims: Claims,
        clock: Clock,
        attention: Attention,
        channels: Iterable[Channel],
        store_state: StoreStateQuery,
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._attention = attention
        self._store_state = store_state
        self._channels = tuple(channels)
        self._ticker = Ticker("notifications", self.send_new, lambda: _LOOK_EVERY_SECONDS)
        self.tickers = (self._ticker,)

    def start(self) -> None:
        """Start the thread if a channel is configured."""
        if self._channels:
            self._ticker.start()

    def stop(self) -> None:
        """Finish the delivery under way and stop."""
        self._ticker.stop()

    def send_new(self) -> int:
        """Look once and deliver what is new; returns the number of delivered notifications.

        On hold there is none about a token: the service that was backed up may run and notify people.
        """
        # The last notifications are read before the statuses. A delivery by another node in between is missing here,
        # but the check under the claim finds it, so nothing is delivered twice.
        with self._store.reading() as query:
            on_hold = read_hold(query) is not None
            last = {channel.name: _read_last(query, channel.name) for channel in self._channels}
        subjects = [*_installation(self._store_state.now()), *([] if on_hold else _tokens(self._attention.statuses()))]
        return sum(self._send_through(channel, subjects, last[channel.name]) for channel in self._channels)

    def _send_through(
        self, channel: Channel, subjects: Iterable[_Subject], last: Mapping[UUID, LastNotification]
    ) -> int:
        delivered = 0
        for subject in subjects:
            notification = subject.notification(last.get(subject.id), self._clock.now())
            if notification is None or self._ticker.is_stopping:
                continue
            with self._claimed(channel, notification) as is_ours:
                if not is_ours:
                    continue
                try:
                    channel.deliver(notification)
                except Unreachable as unreachable:
                    log.warning("notification_not_delivered", why=channel.name, error=str(unreachable))
                    break
                except Exception as error:
                    # A `MailtokenError` contains no secret; the text of any other may contain an address or command.
                    why = str(error) if isinstance(error, MailtokenError) else type(error).__name__
                    log.warning("notification_not_delivered", why=channel.name, error=why)
                    continue
                with self._store.writing() as query:
                    _write_last(query, channel.name, notification)
                delivered += 1
        return delivered

    @contextmanager
    def _claimed(self, channel: Channel, notification: Notification) -> Iterator[bool]:
        """Claim a notification; False if another node is delivering it, or has delivered one since this node's look."""
        claim_key = ClaimKey(f"notice {channel.name}", notification.subject_id, uuid4().hex, 0)
        if not self._claims.take(claim_key):
            yield False
            return
        try:
            with self._store.reading() as query:
                last = _read_last(query, channel.name, notification.subject_id)
            yield last.get(notification.subject_id) == notification.previous
        finally:
            self._claims.release(claim_key)


def _installation(state: StoreState) -> Iterator[_Subject]:
    """The parts of the installation, whether or not they need a person."""
    parts = {Topic.HOLD: HOLDS, Topic.BACKUPS: (StoreAttention.BACKUP_OLD,), Topic.ROWS: (StoreAttention.ROW_ALTERED,)}
    for topic, codes in parts.items():
        yield _Installation(
            uuid5(_STORE, topic), next((code for code in codes if code in state.attention), None), topic
        )
    for one in state.certificates:
        id = uuid5(_STORE, f"{Topic.CERTIFICATE} {one.table}")
        yield _Installation(id, one.attention(state.at), Topic.CERTIFICATE, one)


def _tokens(statuses: Iterable[StatusWithAttention]) -> list[_Subject]:
    """The subjects about tokens: each token, and each provider that causes its tokens' need for attention."""
    tokens: dict[UUID, list[StatusWithAttention]] = {}
    providers: dict[str, list[StatusWithAttention]] = {}
    for one in statuses:
        tokens.setdefault(one.status.profile.token_id, []).append(one)
        if one.status.token.provider:
            providers.setdefault(one.status.token.provider, []).append(one)
    # While a provider is the cause, there is no notification about its tokens, neither of a fault nor of a recovery.
    subjects: list[_Subject] = [
        _Tokens(id, m[0].attention, m) for id, m in tokens.items() if m[0].attention not in OF_PROVIDERS
    ]
    for name, members in providers.items():
        troubled = [one for one in members if one.attention in OF_PROVIDERS]
        code = min((str(one.attention) for one in troubled), default=None)
        subjects.append(_Tokens(uuid5(_PROVIDERS, name), code, troubled or members))
    return subjects


def _shared(values: Iterable[str | None]) -> str | None:
    """The value that all have in common; None if they differ."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _read_last(query: Query, channel: str, subject_id: UUID | None = None) -> dict[UUID, LastNotification]:
    """The last notifications through a channel, of all subjects or of the given subject."""
    rows: list[Mapping[str, Any]] = (
        query.rows("SELECT * FROM notice WHERE channel = ? AND subject_id = ?", (channel, str(subject_id)))
        if subject_id
        else query.rows("SELECT * FROM notice WHERE channel = ?", (channel,))
    )
    return {
        UUID(row["subject_id"]): LastNotification(row["attention"], read_instant(row["told_at"]), row["reminders"])
        for row in rows
    }


def _write_last(query: Query, channel: str, notification: Notification) -> None:
    last = notification.as_last
    query.run(
        "INSERT INTO notice (subject_id, channel, attention, told_at, reminders) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (subject_id, channel) DO UPDATE SET attention = excluded.attention, "
        "told_at = excluded.told_at, reminders = excluded.reminders",
        (str(notification.subject_id), channel, last.attention, instant_text(last.at), last.reminders),
    )

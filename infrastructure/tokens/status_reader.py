"""The present status of settings, for the use cases that act on their tokens."""

from __future__ import annotations

from uuid import UUID

from domain.ports import Clock
from infrastructure.queries.setting_status import (
    SettingStatus,
    read_believed_status,
    read_status,
    read_statuses,
    read_statuses_about,
)
from infrastructure.store.row_macs import UNREADABLE
from infrastructure.store.store import Store


class StatusReader:
    """Reads the status of settings. Each call is one consistent snapshot."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def all(self, after: str = "", limit: int | None = None) -> list[SettingStatus]:
        """Every setting in the order of names, or the next `limit` after the name `after`."""
        with self._store.reading() as query:
            return read_statuses(query, self._clock.now(), after, limit)

    def of(self, name: str) -> SettingStatus:
        """The setting of this name.

        Raises:
            NotFound: no such profile.
            Refused: its row or that of its token was altered, so that nothing can be read from it.
        """
        try:
            with self._store.reading() as query:
                return read_status(query, name, self._clock.now())
        except UNREADABLE:
            return self.believed(name)

    def believed(self, name: str) -> SettingStatus:
        """The setting of this name, for the use of its token.

        Raises:
            NotFound: no such profile.
            Refused: its row or that of its token was altered.
        """
        with self._store.reading() as query:
            return read_believed_status(query, self._store.row_checks, name, self._clock.now())

    def of_token(self, token_id: UUID) -> list[SettingStatus]:
        """Every setting that uses this token, in the order of names."""
        with self._store.reading() as query:
            return read_statuses_about(query, token_id, self._clock.now())

"""What became of one authorization: it waits, it brought the token, or it is over without one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from adapters import texts
from adapters.web.shown import ShownToken
from adapters.web.texts import text
from domain.lifecycle import TokenStatus


@dataclass(frozen=True)
class AttemptState:
    """How an attempt stands. `ends_at` is when it runs out, `sentence` why there is no token of it."""

    id: str
    outcome: Literal["waiting", "retrieved", "over"]
    label: TokenStatus
    ends_at: datetime | None = None
    sentence: str | None = None

    @property
    def waiting(self) -> bool:
        """Whether the person can still sign in."""
        return self.outcome == "waiting"

    @property
    def key(self) -> str:
        """What changes when something else is to be shown."""
        return f"{self.outcome}.{self.label.name}"


def attempt_state(shown: ShownToken, attempt_id: str) -> AttemptState:
    """How the attempt of this id stands, from the token it was begun for."""
    token, label = shown.status.token, shown.label
    if token.attempt and token.attempt.id == attempt_id:
        return AttemptState(attempt_id, "waiting", label, token.attempt.expires_at)
    if token.credential and token.credential.granted_by == attempt_id:
        return AttemptState(attempt_id, "retrieved", label)
    sentence = texts.why({**shown.attended.as_json(), "attention": None})
    if token.attempt:
        sentence = text("attempt.another")
    elif sentence is None:
        sentence = text("attempt.unknown_end", label=label)
    return AttemptState(attempt_id, "over", label, None, sentence)

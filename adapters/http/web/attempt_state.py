"""The state of an authorization attempt as a page shows it: waiting, token retrieved, or over without one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from adapters.http.web.texts import text
from adapters.http.web.view_models import TokenView
from adapters.texts.reasons import provider_said, why
from adapters.texts.wording import Surface
from domain.lifecycle import TokenStatus


@dataclass(frozen=True)
class AttemptState:
    """The state of an attempt. `ends_at` is its deadline.

    `sentence` is the reason why it brought no token, or what goes wrong while it waits, whose code is `attention`;
    `provider_said` has the provider's own words about it.
    """

    id: str
    outcome: Literal["waiting", "retrieved", "over"]
    label: TokenStatus
    ends_at: datetime | None = None
    sentence: str | None = None
    attention: str | None = None
    provider_said: str | None = None

    @property
    def waiting(self) -> bool:
        """Whether the person can still sign in."""
        return self.outcome == "waiting"

    @property
    def key(self) -> str:
        """A value that changes whenever the page has to change."""
        return f"{self.outcome}.{self.label.name}.{self.attention or ''}"


def attempt_state(token_view: TokenView, attempt_id: str) -> AttemptState:
    """The state of the attempt with this id, read from the token it was begun for."""
    token, label = token_view.status.token, token_view.label
    if token.attempt and token.attempt.id == attempt_id:
        attention = token_view.status_with_attention.attention
        sentence, said = (token_view.sentence, token_view.provider_said) if attention else (None, None)
        return AttemptState(attempt_id, "waiting", label, token.attempt.expires_at, sentence, attention, said)
    if token.credential and token.credential.granted_by == attempt_id:
        return AttemptState(attempt_id, "retrieved", label)
    if token.attempt:
        return AttemptState(attempt_id, "over", label, sentence=text("attempt.another"))
    ended = {**token_view.status_with_attention.as_json(), "attention": None}
    sentence = why(ended, Surface.PAGE) or text("attempt.unknown_end", label=label)
    return AttemptState(attempt_id, "over", label, sentence=sentence, provider_said=provider_said(ended))

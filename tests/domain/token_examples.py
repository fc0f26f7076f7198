"""Given events, when command, then events: what the token's tests say it with.

`given` tells a token its history; every event is dated in minutes after `START` and has a version by its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.aggregate import Event
from domain.outcomes import Credential, Granted, Identity, Reason
from domain.secret import Secret
from domain.token import Token
from domain.token_state import TokenState

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TOKEN_ID = UUID("6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
ADMIN = "administrator"
WORKER = "worker"
ACCOUNT = "scan@contoso.com"
SUBJECT = "00000000-0000-0000-66f3-3332eca7ea81"
TENANT = "9122040d-6c67-4c5b-b112-36a304b66dad"
SCOPE = "https://outlook.office.com/SMTP.Send offline_access"
PERSON = Identity(ACCOUNT, SUBJECT, TENANT)

# What an access token or a refresh token looks like here, so that a leak can be looked for.
ACCESS_MARK = "access-token-in-clear"
REFRESH_MARK = "refresh-token-in-clear"

Happening = Callable[[int], Token.Event]


def at(minutes: float, seconds: float = 0) -> datetime:
    """The instant so long after the start of the example."""
    return START + timedelta(minutes=minutes, seconds=seconds)


def _happening(event_class: type[Token.Event], when: datetime, **fields: Any) -> Happening:
    def event(version: int) -> Token.Event:
        return event_class(originator_id=TOKEN_ID, originator_version=version, timestamp=when, **fields)

    return event


def created(when: datetime = START) -> Happening:
    return _happening(Token.Created, when, originator_topic=Token.TOPIC, by=ADMIN)


def requested(
    attempt: str = "a1",
    ordinal: int = 1,
    *,
    when: datetime | None = None,
    until: datetime | None = None,
    account: str = ACCOUNT,
    by: str = ADMIN,
) -> Happening:
    """An attempt has begun; its code lasts 15 minutes unless `until` says otherwise."""
    when = when or at(1)
    return _happening(
        Token.AuthorizationRequested,
        when,
        attempt_id=attempt,
        ordinal=ordinal,
        flow="device",
        profile="office-mfp/smtp-service",
        provider="contoso",
        account=account,
        expires_at=until or when + timedelta(minutes=15),
        by=by,
    )


def ended(
    attempt: str = "a1",
    reason: Reason = Reason.ACCESS_DENIED,
    *,
    when: datetime | None = None,
    code: str | None = None,
    signed_in_as: str | None = None,
    by: str = WORKER,
) -> Happening:
    when = when or at(5)
    return _happening(
        Token.AuthorizationEnded,
        when,
        attempt_id=attempt,
        reason=reason.value,
        code=code,
        signed_in_as=signed_in_as,
        by=by,
    )


def retrieved(
    attempt: str = "a1",
    generation: int = 1,
    *,
    when: datetime | None = None,
    until: datetime | None = None,
    renewable: bool = True,
    subject: str = SUBJECT,
    grant_until: datetime | None = None,
    by: str = WORKER,
) -> Happening:
    """The token was obtained; its access token lasts an hour unless `until` says otherwise."""
    when = when or at(2)
    return _happening(
        Token.Retrieved,
        when,
        attempt_id=attempt,
        generation=generation,
        flow="device",
        provider="contoso",
        account=ACCOUNT,
        subject=subject,
        tenant=TENANT,
        scope=SCOPE,
        issued_at=when,
        expires_at=until or when + timedelta(minutes=60),
        renewable=renewable,
        grant_expires_at=grant_until,
        by=by,
    )


def renewed(
    attempt: str = "r1",
    generation: int = 2,
    *,
    when: datetime | None = None,
    issued_at: datetime | None = None,
    until: datetime | None = None,
    renewable: bool = True,
    grant_until: datetime | None = None,
    by: str = WORKER,
) -> Happening:
    when = when or at(30)
    issued_at = issued_at or when
    return _happening(
        Token.Renewed,
        when,
        attempt_id=attempt,
        generation=generation,
        scope=SCOPE,
        issued_at=issued_at,
        expires_at=until or issued_at + timedelta(minutes=60),
        renewable=renewable,
        grant_expires_at=grant_until,
        by=by,
    )


def withheld(attempt: str, signed_in_as: str, *, when: datetime, by: str = WORKER) -> Happening:
    return _happening(Token.RenewalWithheld, when, attempt_id=attempt, signed_in_as=signed_in_as, by=by)


def found_dead(
    generation: int = 1,
    reason: Reason = Reason.INVALID_GRANT,
    *,
    when: datetime | None = None,
    code: str | None = "AADSTS700082",
    by: str = WORKER,
) -> Happening:
    when = when or at(20)
    return _happening(Token.GrantFoundDead, when, generation=generation, reason=reason.value, code=code, by=by)


def deleted(*, when: datetime | None = None, by: str = ADMIN) -> Happening:
    when = when or at(40)
    return _happening(Token.Deleted, when, by=by)


def discarded(attempt: str, *, when: datetime | None = None, by: str = WORKER) -> Happening:
    when = when or at(40)
    return _happening(Token.LateReplyDiscarded, when, attempt_id=attempt, by=by)


def retired(*, when: datetime | None = None, by: str = ADMIN) -> Happening:
    when = when or at(40)
    return _happening(Token.Retired, when, by=by)


def history(*happenings: Happening) -> list[Token.Event]:
    """The events a token's log holds after its creation and `happenings`."""
    return [happening(version) for version, happening in enumerate((created(), *happenings), start=1)]


def replay(events: Iterable[Event[TokenState]]) -> Token:
    """The token those events add up to."""
    token: Token | None = None
    for event in events:
        token = event.mutate(token)
    assert token is not None
    return token


def given(*happenings: Happening) -> Token:
    """A token with this history and nothing pending."""
    return replay(history(*happenings))


def then(token: Token, *happenings: Happening) -> None:
    """Exactly these events were triggered by what has happened since `given`."""
    pending = list(token.pending_events)
    first = token.version - len(pending) + 1
    assert pending == [happening(version) for version, happening in enumerate(happenings, start=first)]


def granted(
    *,
    issued_at: datetime,
    until: datetime | None = None,
    renewable: bool = True,
    identity: Identity | None = PERSON,
    mark: str = "",
) -> Granted:
    """A token endpoint's reply with a credential; its access token lasts an hour unless `until` says otherwise."""
    return Granted(
        Credential(
            Secret(ACCESS_MARK + mark),
            Secret(REFRESH_MARK + mark) if renewable else None,
            SCOPE,
            issued_at,
            until or issued_at + timedelta(minutes=60),
        ),
        identity,
    )


def request(token: Token, attempt: str, *, now: datetime, until: datetime | None = None) -> None:
    """Get Token, with the fields that don't matter filled in."""
    token.request(
        attempt,
        flow="device",
        profile="office-mfp/smtp-service",
        provider="contoso",
        account=ACCOUNT,
        expires_at=until or now + timedelta(minutes=15),
        by=ADMIN,
        now=now,
    )

"""What wants a person's attention, and what will end a token."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from fakes import GARBAGE, START, Answer, FakeClock, FakeProvider, Services, error
from store_examples import change

from domain.errors import Unreachable, VaultDamaged
from domain.expiry_forecast import Cause, Expiry
from domain.log_hold import LogHold
from domain.renewal import GrantLimits
from infrastructure.queries.attention import Attention, StatusWithAttention

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


@pytest.fixture
def name(service: Services) -> str:
    """A setting with a token that was just obtained."""
    name = service.add_machine()[0]
    service.get_token(name)
    return name


def with_attention(service: Services, name: str, secret_expires_at: datetime | None = None) -> StatusWithAttention:
    attention = Attention(service.store, service.tokens.alarms, service.clock, LIMITS, {"contoso": secret_expires_at})
    (one,) = (one for one in attention.statuses() if one.status.profile.name == name)
    assert attention.of(service.tokens.status(name)) == one
    assert attention.statuses_in_need() == [one for one in attention.statuses() if one.attention]
    return one


def test_a_token_that_was_just_obtained_wants_nobody_and_its_end_is_known(service: Services, name: str) -> None:
    one = with_attention(service, name)
    assert (one.attention, one.works) == (None, True)
    assert one.expiry == Expiry(Cause.GRANT_ENDS, START + timedelta(days=90), START)
    shown = one.as_json()
    assert shown["attention"] is None
    assert shown["forecast"] == {"cause": "grant_ends", "at": "2026-05-31T08:00:00.000000+00:00"}


def test_a_setting_without_a_token_wants_nobody_and_nothing_ends(service: Services) -> None:
    one = with_attention(service, service.add_machine()[0])
    assert (one.attention, one.expiry, one.works, one.as_json()["forecast"]) == (None, None, False, None)


def test_a_grant_that_was_not_renewed_for_long_is_about_to_end(service: Services, clock: FakeClock, name: str) -> None:
    clock.step(days=71)
    assert with_attention(service, name).attention is None
    clock.step(days=2)
    assert (with_attention(service, name).attention, with_attention(service, name).works) == ("grant_ends", True)
    service.tokens.renew(name, "administrator")
    assert with_attention(service, name).attention is None


def test_a_client_secret_that_expires_soon_wants_a_person(service: Services, name: str) -> None:
    assert with_attention(service, name, START + timedelta(days=31)).attention is None
    one = with_attention(service, name, START + timedelta(days=29))
    assert one.attention == "client_secret_expires"
    assert one.expiry == Expiry(Cause.CLIENT_SECRET_EXPIRES, START + timedelta(days=29))


def test_an_invalid_token_wants_a_person_for_the_reason_in_the_log(
    service: Services, provider: FakeProvider, name: str
) -> None:
    provider.kill_grants()
    with pytest.raises(Exception, match="token_update_failed"):
        service.tokens.renew(name, "administrator")
    one = with_attention(service, name, START)
    assert (one.attention, one.works, one.expiry) == ("invalid_grant", False, None)


@pytest.mark.parametrize(
    ("answer", "code"), [(GARBAGE, "reply_in_doubt"), (error("invalid_client", 401), "client_registration")]
)
def test_an_alarm_wants_a_person_while_the_token_still_works(
    service: Services, provider: FakeProvider, name: str, answer: Answer, code: str
) -> None:
    provider.answers(answer)
    with pytest.raises(Unreachable):
        service.tokens.renew(name, "administrator")
    assert (with_attention(service, name).attention, with_attention(service, name).works) == (code, True)
    service.tokens.renew(name, "administrator")
    assert with_attention(service, name).attention is None


def test_a_credential_that_does_not_open_does_not_work(service: Services, name: str) -> None:
    change(service.store, "UPDATE vault SET wrapped = body")
    with pytest.raises(VaultDamaged):
        service.access_token(name)
    assert (with_attention(service, name).attention, with_attention(service, name).works) == ("vault_damaged", False)


@pytest.mark.parametrize(("configured", "code"), [([], "provider_left"), (["contoso"], None), (None, None)])
def test_a_live_token_whose_provider_has_left_the_configuration_wants_a_person_at_once(
    service: Services, name: str, configured: list[str] | None, code: str | None
) -> None:
    attention = Attention(service.store, {}, service.clock, LIMITS, {}, providers=configured)
    status = service.tokens.status(name)
    assert attention.of(status).attention == code
    assert attention.of_token(status.profile.token_id, status.token) == code
    with service.store.reading() as query:
        seen = {one.id: one.attention for one in attention.soon(query, service.clock.now())}
    assert seen.get(str(status.profile.token_id)) == code
    assert attention.statuses_in_need() == [one for one in attention.statuses() if one.attention]


def test_every_setting_with_a_token_wants_a_person_while_the_log_is_on_hold(service: Services, name: str) -> None:
    now = service.clock.now()
    service.events.save(LogHold.after_restore(uuid4(), backup_made_at=now, events=1, by="administrator", now=now))
    attention = Attention(service.store, service.tokens.alarms, service.clock, LIMITS, {})
    in_need = attention.statuses_in_need()
    assert in_need == [one for one in attention.statuses() if one.attention]
    assert {one.attention for one in in_need} == {"on_hold"}
    assert name in [one.status.profile.name for one in in_need]


def test_a_setting_without_a_token_wants_nobody_when_its_provider_leaves(service: Services) -> None:
    attention = Attention(service.store, {}, service.clock, LIMITS, {}, providers=[])
    assert attention.of(service.tokens.status(service.add_machine()[0])).attention is None


def test_linked_settings_want_the_same(service: Services, clock: FakeClock, name: str) -> None:
    clock.step(days=80)
    attention = Attention(service.store, service.tokens.alarms, clock, LIMITS, {})
    assert attention.statuses_in_need() == [one for one in attention.statuses() if one.attention]
    wanted = {one.status.profile.name: one.attention for one in attention.statuses()}
    linked = {one for one in wanted if "/smtp" in one}
    assert {wanted[one] for one in linked} == {"grant_ends"}
    assert {wanted[one] for one in wanted.keys() - linked} == {None}

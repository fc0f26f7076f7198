"""What wants a person's attention, and what will end a token."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from fakes import GARBAGE, START, FakeClock, FakeProvider, Services, error
from store_examples import change

from domain.errors import Unreachable, VaultDamaged
from domain.forecast import Cause, Ending
from domain.renewal import GrantLimits
from infrastructure.attention import Attended, Attention

LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


@pytest.fixture
def name(service: Services) -> str:
    """A setting with a token that was just obtained."""
    name = service.add_machine()[0]
    service.get_token(name)
    return name


def attended(service: Services, name: str, secret_expires_at: datetime | None = None) -> Attended:
    attention = Attention(service.tokens, service.clock, LIMITS, {"contoso": secret_expires_at})
    (one,) = (one for one in attention.statuses() if one.status.profile.name == name)
    assert attention.of(service.tokens.status(name)) == one
    return one


def test_a_token_that_was_just_obtained_wants_nobody_and_its_end_is_known(service: Services, name: str) -> None:
    one = attended(service, name)
    assert (one.attention, one.works) == (None, True)
    assert one.ending == Ending(Cause.GRANT_ENDS, START + timedelta(days=90), START)
    shown = one.as_json()
    assert shown["attention"] is None
    assert shown["forecast"] == {"cause": "grant_ends", "at": "2026-05-31T08:00:00.000000+00:00"}


def test_a_setting_without_a_token_wants_nobody_and_nothing_ends(service: Services) -> None:
    one = attended(service, service.add_machine()[0])
    assert (one.attention, one.ending, one.works, one.as_json()["forecast"]) == (None, None, False, None)


def test_a_grant_that_was_not_renewed_for_long_is_about_to_end(service: Services, clock: FakeClock, name: str) -> None:
    clock.step(days=71)
    assert attended(service, name).attention is None
    clock.step(days=2)
    assert (attended(service, name).attention, attended(service, name).works) == ("grant_ends", True)
    service.tokens.renew(name, "administrator")
    assert attended(service, name).attention is None


def test_a_client_secret_that_expires_soon_wants_a_person(service: Services, name: str) -> None:
    assert attended(service, name, START + timedelta(days=31)).attention is None
    one = attended(service, name, START + timedelta(days=29))
    assert one.attention == "client_secret_expires"
    assert one.ending == Ending(Cause.CLIENT_SECRET_EXPIRES, START + timedelta(days=29))


def test_an_invalid_token_wants_a_person_for_the_reason_in_the_log(
    service: Services, provider: FakeProvider, name: str
) -> None:
    provider.kill_grants()
    with pytest.raises(Exception, match="Token update failed"):
        service.tokens.renew(name, "administrator")
    one = attended(service, name, START)
    assert (one.attention, one.works, one.ending) == ("invalid_grant", False, None)


@pytest.mark.parametrize(
    ("answer", "code"), [(GARBAGE, "reply_in_doubt"), (error("invalid_client", 401), "client_registration")]
)
def test_an_alarm_wants_a_person_while_the_token_still_works(
    service: Services, provider: FakeProvider, name: str, answer, code: str
) -> None:
    provider.answers(answer)
    with pytest.raises(Unreachable):
        service.tokens.renew(name, "administrator")
    assert (attended(service, name).attention, attended(service, name).works) == (code, True)
    service.tokens.renew(name, "administrator")
    assert attended(service, name).attention is None


def test_a_credential_that_does_not_open_does_not_work(service: Services, name: str) -> None:
    change(service.store, "UPDATE vault SET wrapped = body")
    with pytest.raises(VaultDamaged):
        service.access_token(name)
    assert (attended(service, name).attention, attended(service, name).works) == ("vault_damaged", False)


def test_linked_settings_want_the_same(service: Services, clock: FakeClock, name: str) -> None:
    clock.step(days=80)
    attention = Attention(service.tokens, clock, LIMITS, {})
    wanted = {one.status.profile.name: one.attention for one in attention.statuses()}
    linked = {one for one in wanted if "/smtp" in one}
    assert {wanted[one] for one in linked} == {"grant_ends"}
    assert {wanted[one] for one in wanted.keys() - linked} == {None}

"""The page Attention: what wants a person, in the order in which it does, and what will."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from fakes import FakeClock, FakeProvider, Services

from adapters.web.fleet_pages import needs, outlook
from domain.renewal import GrantLimits
from infrastructure.attention import Attention


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def secrets_end() -> dict[str, datetime | None]:
    return {}


@pytest.fixture
def attention(service: Services, clock: FakeClock, secrets_end: dict[str, datetime | None]) -> Attention:
    return Attention(service.tokens, clock, {"contoso": GrantLimits(timedelta(days=90))}, secrets_end)


def test_a_token_of_linked_settings_is_told_once_and_invalid_ones_come_first(
    service: Services, clock: FakeClock, provider: FakeProvider, attention: Attention
) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/pop-email-print")
    service.get_token("mfp-1/smtp-service")
    clock.step(days=80)
    provider.kill_grants()
    with pytest.raises(Exception, match="Token update failed"):
        service.tokens.renew("mfp-1/smtp-service", "operator")
    found = needs(attention.statuses())
    assert [(need.token.label.value, len(need.settings)) for need in found] == [("Invalid", 4), ("Retrieved", 1)]
    assert [need.token.ends_at is None for need in found] == [True, False]
    assert found[0].token.sentence == "The provider does not accept this authorization any more: get the token again."


def test_what_is_wrong_with_a_provider_names_it(
    service: Services, clock: FakeClock, attention: Attention, secrets_end: dict[str, datetime | None]
) -> None:
    service.add_machine("mfp-1", "generic")
    service.get_token("mfp-1/smtp")
    secrets_end["contoso"] = clock.now() + timedelta(days=3)
    found = needs(attention.statuses())
    assert [(need.provider, need.token.ends_at) for need in found] == [("contoso", secrets_end["contoso"])]


def test_what_ends_within_thirty_days_is_told_by_reason_and_day(
    service: Services, clock: FakeClock, attention: Attention
) -> None:
    service.add_machine("mfp-1", "generic")
    service.get_token("mfp-1/smtp")
    service.get_token("mfp-1/pop")
    clock.step(days=1)
    service.get_token("mfp-1/imap")
    assert outlook(attention.statuses(), clock.now()) == []
    clock.step(days=61)
    found = outlook(attention.statuses(), clock.now())
    assert [one.settings for one in found] == [("mfp-1/pop", "mfp-1/smtp"), ("mfp-1/imap",)]
    assert found[0].ending.at < found[1].ending.at
    clock.step(days=20)
    assert outlook(attention.statuses(), clock.now()) == []
    assert len(needs(attention.statuses())) == 3

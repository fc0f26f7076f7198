"""A machine or a provider gets another name: tokens, grants and relay users follow, and nothing is half renamed."""

from __future__ import annotations

import pytest
from fakes import SCANNER, START, FakeClock, FakeProvider, Services
from store_examples import everything

from domain.errors import InvalidValue, NotFound, Refused
from domain.secret import Secret
from infrastructure.queries.attention import Attention
from infrastructure.queries.attention_page import AttentionQuery
from infrastructure.queries.changes import RelayChanges
from infrastructure.queries.store_state import read_providers_left

ADMIN = "administrator:root"
SMTP, POP = "office-mfp/smtp-service", "office-mfp/pop-internet-fax"


@pytest.fixture
def used(service: Services) -> Services:
    """A machine with a token, a relay user and a client; a second machine without."""
    service.add_machine()
    service.get_token(SMTP)
    service.add_machine("press", "generic")
    service.relay_users.add("scanner", [SMTP], [], Secret("a-password-in-clear"), ADMIN)
    service.clients.add("reader", [SMTP], None, ADMIN)
    return service


def with_provider(service: Services, *names: str) -> Services:
    """The service after a restart with these providers, which are the same one."""
    provider = next(iter(service.providers.values()))
    service.providers = dict.fromkeys(names, provider)
    return service.restart()


# A machine


def test_a_renamed_machine_keeps_its_tokens_grants_and_relay_users(used: Services) -> None:
    before = used.access_token(SMTP).credential
    renamed = used.settings.rename_machine("office-mfp", "lobby-mfp", ADMIN)
    assert all(name.startswith("lobby-mfp/") for name in renamed)
    assert used.access_token("lobby-mfp/smtp-service").credential == before
    assert {group.name for group in used.settings.groups()} == {"lobby-mfp"}
    assert [user.profiles["smtp"] for user in used.relay_users.users()] == ["lobby-mfp/smtp-service"]  # type: ignore[index]
    assert [client.profiles for client in used.clients.clients()] == [("lobby-mfp/smtp-service",)]
    with pytest.raises(NotFound):
        used.access_token(SMTP)
    assert used.audit.verify().findings == ()
    used.audit.rebuild(by="worker", now=START)
    assert used.access_token("lobby-mfp/smtp-service").credential == before
    used.add_machine()  # the name is free again


def test_the_relay_is_told_both_names_of_a_renamed_setting(used: Services) -> None:
    changes = RelayChanges(used.events)
    position = changes.position()
    used.settings.rename_machine("office-mfp", "lobby-mfp", ADMIN)
    told = {name for change in changes.behind(position).changes for name in change.as_json()["profiles"]}
    assert {SMTP, "lobby-mfp/smtp-service"} <= told


@pytest.mark.parametrize("taken", ["press", "office-mfp", "scanners"])
def test_a_name_in_use_is_refused_and_nothing_changes(used: Services, taken: str) -> None:
    used.settings.link("scanners", ["press/smtp"], ADMIN)
    before = everything(used.store)
    with pytest.raises(Refused, match="name_taken"):
        used.settings.rename_machine("office-mfp", taken, ADMIN)
    assert everything(used.store) == before


def test_a_machine_is_not_renamed_while_a_sign_in_waits_or_to_no_name_or_if_there_is_none(used: Services) -> None:
    used.tokens.request(POP, None, ADMIN)
    before = everything(used.store)
    with pytest.raises(Refused, match="token_waiting"):
        used.settings.rename_machine("office-mfp", "lobby-mfp", ADMIN)
    with pytest.raises(InvalidValue):
        used.settings.rename_machine("press", "no name/at all", ADMIN)
    with pytest.raises(NotFound):
        used.settings.rename_machine("nothing", "lobby-mfp", ADMIN)
    assert everything(used.store) == before


# A provider


def test_a_renamed_provider_keeps_its_tokens_and_they_renew(used: Services, clock: FakeClock) -> None:
    again = with_provider(used, "entra")
    renamed = again.settings.rename_provider("contoso", "entra", ADMIN)
    assert SMTP in renamed
    clock.step(minutes=59)
    assert again.access_token(SMTP).generation == 2
    status = again.tokens.status(SMTP)
    assert (status.token.provider, status.profile.settings.provider) == ("entra", "entra")
    assert again.audit.verify().findings == ()


def test_a_provider_s_new_name_is_in_the_configuration_and_not_in_use(used: Services) -> None:
    with pytest.raises(NotFound, match="provider_not_configured"):
        used.settings.rename_provider("contoso", "entra", ADMIN)
    both = with_provider(used, "contoso", "entra")
    with pytest.raises(NotFound, match="provider_without_settings"):
        both.settings.rename_provider("fabrikam", "entra", ADMIN)
    both.settings.set_profile("press/smtp", {"provider": "entra"}, ADMIN)
    before = everything(both.store)
    for name in ("entra", "contoso"):
        with pytest.raises(Refused, match="provider_in_use"):
            both.settings.rename_provider("contoso", name, ADMIN)
    assert everything(both.store) == before


def test_a_provider_is_not_renamed_while_a_sign_in_waits(used: Services) -> None:
    used.tokens.request(POP, None, ADMIN)
    both = with_provider(used, "contoso", "entra")
    before = everything(both.store)
    with pytest.raises(Refused, match="token_waiting"):
        both.settings.rename_provider("contoso", "entra", ADMIN)
    assert everything(both.store) == before


def test_a_renewal_that_is_under_way_during_the_rename_is_stored(
    used: Services, clock: FakeClock, provider: FakeProvider
) -> None:
    both = with_provider(used, "contoso", "entra")
    provider.meanwhile(lambda: both.settings.rename_provider("contoso", "entra", ADMIN))
    clock.step(minutes=59)
    assert both.access_token(SMTP).generation == 2
    assert both.tokens.status(SMTP).token.provider == "entra"
    assert both.audit.verify().findings == ()


# A provider that left the configuration


def test_a_provider_that_left_the_configuration_is_attention_of_its_tokens_at_once(
    used: Services, clock: FakeClock
) -> None:
    def seen(*providers: str) -> tuple[set[str | None], list[tuple[str | None, int]]]:
        attention = Attention(used.store, {}, clock, {}, {}, providers=providers)
        page = AttentionQuery(used.store, clock, attention, used.audit).page(1)
        codes = {one.attention for one in attention.statuses() if one.status.token.account == SCANNER}
        return codes, [(item.provider, len(item.settings)) for item in page.items]

    assert seen("contoso") == ({None}, [])
    assert seen("entra") == seen() == ({"provider_left"}, [("contoso", 4)])
    with used.store.reading() as query:
        assert read_providers_left(query, ["entra"]) == {"contoso": 4}
        assert read_providers_left(query, ["contoso"]) == {}

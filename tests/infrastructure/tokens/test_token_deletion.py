"""Delete is for good: nothing of the credential is left in any file, and the provider is told where that is safe."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from fakes import FAX, GARBAGE, SCANNER, START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change, everything, files_with

from domain.errors import Refused
from domain.ports import Reply
from domain.token import Token
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.store import Store

SERVICE, ALERT = "office-mfp/smtp-service", "office-mfp/smtp-alert"
POP = "office-mfp/pop-internet-fax"
LINKED = (ALERT, "office-mfp/smtp-initial", "office-mfp/smtp-quick", SERVICE)


@pytest.fixture
def installation(service: Services) -> Services:
    """The services with the manual's machine, provider and account filled in."""
    service.add_machine()
    return service


def token_of(service: Services, name: str = SERVICE) -> UUID:
    return service.tokens.status(name).profile.token_id


def label_and_reason(service: Services, name: str = SERVICE) -> tuple[str, str | None]:
    token = service.tokens.status(name).token
    return token.status.value, token.reason


def sealed_bytes(store: Store) -> list[bytes]:
    """What is in the vault, in pieces that are found wherever a page begins."""
    rows = everything(store)["vault"]
    return [piece for row in rows for piece in (row["wrapped"][:24], row["body"][:24], row["body"][-24:])]


def escrowed(service: Services) -> list[Path]:
    return sorted((service.directory / "escrow").iterdir())


# For good


def test_a_deleted_token_is_not_retrieved_for_every_linked_setting(installation: Services) -> None:
    installation.get_token(SERVICE)
    deletion = installation.tokens.delete(ALERT, ADMIN)
    assert deletion.profiles == LINKED
    assert {label_and_reason(installation, name) for name in LINKED} == {("Not Retrieved", None)}
    for name in LINKED:
        with pytest.raises(Refused):
            installation.access_token(name)
        installation.settings.set_profile(name, {"account": FAX}, ADMIN)


def test_nothing_of_a_deleted_credential_is_left_in_any_file(installation: Services, clock: FakeClock) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=55)
    earlier = sealed_bytes(installation.store)
    installation.access_token(SERVICE)
    installation.tokens.request(SERVICE, None, ADMIN)
    sealed = [*earlier, *sealed_bytes(installation.store)]
    on_disk = not installation.store.shared_by_nodes
    assert bool(files_with(installation.directory, *sealed)) == on_disk
    doubtful = installation.escrow.reserve(ClaimKey("renewal", token_of(installation), "doubtful", 2))
    doubtful.keep(Reply(200, (), GARBAGE.body, START))
    installation.escrow.set_aside(doubtful)
    installation.tokens.delete(SERVICE, ADMIN)
    assert everything(installation.store)["vault"] == []
    assert escrowed(installation) == []
    assert files_with(installation.directory, *sealed, "in-clear", "CODE-0001") == []
    history = [record.name for record in installation.history.records(SERVICE) if record.aggregate == "Token"]
    assert history[-1] == "Deleted"
    assert installation.audit.verify().findings == ()


def test_a_reader_in_the_way_only_delays_that_the_database_forgets(installation: Services) -> None:
    installation.get_token(SERVICE)
    sealed = sealed_bytes(installation.store)
    with installation.store.reading() as query:
        query.rows("SELECT * FROM vault")
        installation.tokens.delete(SERVICE, ADMIN)
        assert everything(installation.store)["vault"] == []
    installation.tokens.forget()
    assert files_with(installation.directory, *sealed) == []


def test_a_deletion_by_an_earlier_run_that_was_not_forgotten_is_forgotten_by_the_next(installation: Services) -> None:
    installation.get_token(SERVICE)
    sealed = sealed_bytes(installation.store)
    with installation.store.reading() as query:
        query.rows("SELECT * FROM vault")
        installation.tokens.delete(SERVICE, ADMIN)
    installation.restart().tokens.forget()
    assert files_with(installation.directory, *sealed) == []


def test_what_is_renewed_or_used_up_is_not_kept_either(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    used_up = sealed_bytes(installation.store)
    provider.approve()
    installation.tokens.poll(token_of(installation))
    used_up += sealed_bytes(installation.store)
    clock.step(minutes=55)
    installation.access_token(SERVICE)
    assert [(row["kind"], row["generation"]) for row in everything(installation.store)["vault"]] == [("credential", 2)]
    installation.store.forget()
    assert files_with(installation.directory, *used_up) == []


def test_a_token_that_is_not_there_cant_be_deleted(installation: Services) -> None:
    before = everything(installation.store)
    with pytest.raises(Refused) as refused:
        installation.tokens.delete(SERVICE, ADMIN)
    assert str(refused.value) == f"nothing_to_delete status='Not Retrieved' profile='{SERVICE}'"
    assert everything(installation.store) == before


def test_a_setting_that_is_linked_during_the_deletion_loses_the_token_with_the_others(
    installation: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.settings.unlink(ALERT, ADMIN)
    installation.get_token(SERVICE)
    exchange = installation.tokens.deletions._exchange
    linked = exchange.linked

    def linked_before_a_change(token: Token) -> object:
        monkeypatch.setattr(exchange, "linked", linked)
        found = linked(token)
        installation.settings.link("office-mfp", [ALERT], ADMIN)
        return found

    monkeypatch.setattr(exchange, "linked", linked_before_a_change)
    assert installation.tokens.delete(SERVICE, ADMIN).profiles == LINKED
    assert {label_and_reason(installation, name) for name in LINKED} == {("Not Retrieved", None)}
    assert installation.audit.verify().findings == ()


def test_deleting_while_somebody_signs_in_ends_the_attempt_and_its_late_reply_is_wiped(
    installation: Services, provider: FakeProvider
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    provider.approve()
    provider.meanwhile(lambda: installation.tokens.delete(SERVICE, ADMIN))
    assert installation.tokens.poll(token_of(installation)) is None
    assert label_and_reason(installation) == ("Not Retrieved", None)
    assert everything(installation.store)["vault"] == []
    assert escrowed(installation) == []
    assert len(provider.revoked) == 1
    names = [record.name for record in installation.history.records(SERVICE) if record.aggregate == "Token"]
    assert names[-2:] == ["Deleted", "LateReplyDiscarded"]


def test_a_renewal_that_comes_back_after_the_deletion_is_wiped_and_revoked(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    provider.meanwhile(lambda: installation.tokens.delete(SERVICE, ADMIN))
    with pytest.raises(Refused):
        _renew_and_serve(installation)
    assert everything(installation.store)["vault"] == []
    assert provider.revoked == ["refresh-token-in-clear-2", "refresh-token-in-clear-3"]
    assert files_with(installation.directory, "in-clear") == []


def _renew_and_serve(service: Services) -> None:
    service.tokens.renew(SERVICE, ADMIN)
    service.access_token(SERVICE)


def test_a_token_whose_row_is_damaged_can_be_deleted(installation: Services) -> None:
    installation.get_token(SERVICE)
    change(installation.store, "UPDATE vault SET body = ?", b"damaged")
    deletion = installation.tokens.delete(SERVICE, ADMIN)
    assert (deletion.profiles, deletion.revoked) == (LINKED, False)
    assert everything(installation.store)["vault"] == []
    assert installation.tokens.alarms == {}
    assert installation.audit.verify().findings == ()


# Telling the provider


def test_the_provider_is_told_to_forget_the_grant(installation: Services, provider: FakeProvider) -> None:
    installation.get_token(SERVICE)
    assert installation.tokens.delete(SERVICE, ADMIN).revoked
    assert provider.revoked == ["refresh-token-in-clear-2"]


@pytest.mark.parametrize(
    ("other", "revoked"),
    [({"account": SCANNER}, False), ({"account": SCANNER.upper()}, False), ({"account": FAX}, True)],
)
def test_a_grant_is_not_revoked_while_another_token_of_that_account_could_die_with_it(
    installation: Services, other: dict[str, str], revoked: bool
) -> None:
    installation.settings.set_profile(POP, other, ADMIN)
    installation.get_token(POP, other["account"])
    installation.get_token(SERVICE)
    assert installation.tokens.delete(SERVICE, ADMIN).revoked is revoked
    assert installation.access_token(POP).account == other["account"]
    assert installation.tokens.delete(POP, ADMIN).revoked


def test_the_same_account_at_another_provider_is_another_grant(installation: Services, provider: FakeProvider) -> None:
    other = FakeProvider("fabrikam")
    installation.providers = {**installation.providers, "fabrikam": other}
    both = installation.restart()
    both.settings.set_profile(POP, {"provider": "fabrikam"}, ADMIN)
    both.get_token(POP)
    both.get_token(SERVICE)
    assert both.tokens.delete(SERVICE, ADMIN).revoked
    assert (len(provider.revoked), other.revoked) == (1, [])


def test_a_dead_token_of_that_account_is_no_reason_not_to_revoke(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(POP)
    provider.kill_grants()
    with pytest.raises(Exception, match="invalid_grant"):
        installation.tokens.renew(POP, ADMIN)
    installation.get_token(SERVICE)
    assert installation.tokens.delete(SERVICE, ADMIN).revoked


@pytest.mark.parametrize("trouble", ["unreachable", "not configured"])
def test_a_provider_that_cant_be_told_does_not_keep_the_token_from_being_deleted(
    installation: Services, provider: FakeProvider, trouble: str
) -> None:
    installation.get_token(SERVICE)
    if trouble == "unreachable":
        provider.reachable = False
    else:
        installation.providers = {}
    deletion = installation.restart().tokens.delete(SERVICE, ADMIN)
    assert (deletion.profiles, deletion.revoked) == (LINKED, False)
    assert everything(installation.store)["vault"] == []


def test_a_grant_whose_reply_is_still_in_the_escrow_is_revoked_with_the_deletion(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    entry = installation.escrow.reserve(ClaimKey("renewal", token_of(installation), "renewal-1", 1))
    entry.keep(Reply(200, (), provider.grant(SCANNER).body, START))
    installation.escrow.leave(entry)
    assert installation.tokens.delete(SERVICE, ADMIN).revoked
    assert provider.revoked == ["refresh-token-in-clear-3"]
    assert escrowed(installation) == []

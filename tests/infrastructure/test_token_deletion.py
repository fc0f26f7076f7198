"""Delete is for good: nothing of the credential is left in any file, and the provider is told where that is safe."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from fakes import FAX, GARBAGE, SCANNER, START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change, everything, files_with

from domain.errors import Refused
from domain.ports import Reply
from infrastructure.escrow import Work
from infrastructure.store import Store

SERVICE, ALERT = "office-mfp/smtp-service", "office-mfp/smtp-alert"
POP = "office-mfp/pop-internet-fax"
LINKED = (ALERT, "office-mfp/smtp-initial", "office-mfp/smtp-quick", SERVICE)


@pytest.fixture
def office(service: Services) -> Services:
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


def test_a_deleted_token_is_not_retrieved_for_every_linked_setting(office: Services) -> None:
    office.get_token(SERVICE)
    deletion = office.tokens.delete(ALERT, ADMIN)
    assert deletion.profiles == LINKED
    assert {label_and_reason(office, name) for name in LINKED} == {("Not Retrieved", None)}
    for name in LINKED:
        with pytest.raises(Refused):
            office.access_token(name)
        office.settings.set_profile(name, {"account": FAX}, ADMIN)


def test_nothing_of_a_deleted_credential_is_left_in_any_file(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    clock.step(minutes=55)
    earlier = sealed_bytes(office.store)
    office.access_token(SERVICE)
    office.tokens.request(SERVICE, None, ADMIN)
    sealed = [*earlier, *sealed_bytes(office.store)]
    on_disk = not office.store.shared_by_nodes
    assert bool(files_with(office.directory, *sealed)) == on_disk
    doubtful = office.escrow.reserve(Work("renewal", token_of(office), "doubtful", 2))
    doubtful.keep(Reply(200, (), GARBAGE.body, START))
    office.escrow.set_aside(doubtful)
    office.tokens.delete(SERVICE, ADMIN)
    assert everything(office.store)["vault"] == []
    assert escrowed(office) == []
    assert files_with(office.directory, *sealed, "in-clear", "CODE-0001") == []
    history = [record.name for record in office.audit.records(SERVICE) if record.aggregate == "Token"]
    assert history[-1] == "Deleted"
    assert office.audit.verify().findings == ()


def test_a_reader_in_the_way_only_delays_that_the_database_forgets(office: Services) -> None:
    office.get_token(SERVICE)
    sealed = sealed_bytes(office.store)
    with office.store.reading() as query:
        query.rows("SELECT * FROM vault")
        office.tokens.delete(SERVICE, ADMIN)
        assert everything(office.store)["vault"] == []
    office.tokens.forget()
    assert files_with(office.directory, *sealed) == []


def test_a_deletion_by_an_earlier_run_that_was_not_forgotten_is_forgotten_by_the_next(office: Services) -> None:
    office.get_token(SERVICE)
    sealed = sealed_bytes(office.store)
    with office.store.reading() as query:
        query.rows("SELECT * FROM vault")
        office.tokens.delete(SERVICE, ADMIN)
    office.restart().tokens.forget()
    assert files_with(office.directory, *sealed) == []


def test_what_is_renewed_or_used_up_is_not_kept_either(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.tokens.request(SERVICE, None, ADMIN)
    used_up = sealed_bytes(office.store)
    provider.approve()
    office.tokens.poll(token_of(office))
    used_up += sealed_bytes(office.store)
    clock.step(minutes=55)
    office.access_token(SERVICE)
    assert [(row["kind"], row["generation"]) for row in everything(office.store)["vault"]] == [("credential", 2)]
    office.store.forget()
    assert files_with(office.directory, *used_up) == []


def test_a_token_that_is_not_there_cant_be_deleted(office: Services) -> None:
    before = everything(office.store)
    with pytest.raises(Refused) as refused:
        office.tokens.delete(SERVICE, ADMIN)
    assert str(refused.value) == f"{SERVICE}: the token is Not Retrieved: there is nothing to delete"
    assert everything(office.store) == before


def test_deleting_while_somebody_signs_in_ends_the_attempt_and_its_late_reply_is_wiped(
    office: Services, provider: FakeProvider
) -> None:
    office.tokens.request(SERVICE, None, ADMIN)
    provider.approve()
    provider.meanwhile(lambda: office.tokens.delete(SERVICE, ADMIN))
    assert office.tokens.poll(token_of(office)) is None
    assert label_and_reason(office) == ("Not Retrieved", None)
    assert everything(office.store)["vault"] == []
    assert escrowed(office) == []
    assert len(provider.revoked) == 1
    names = [record.name for record in office.audit.records(SERVICE) if record.aggregate == "Token"]
    assert names[-2:] == ["Deleted", "LateReplyDiscarded"]


def test_a_renewal_that_comes_back_after_the_deletion_is_wiped_and_revoked(
    office: Services, provider: FakeProvider
) -> None:
    office.get_token(SERVICE)
    provider.meanwhile(lambda: office.tokens.delete(SERVICE, ADMIN))
    with pytest.raises(Refused):
        _renew_and_serve(office)
    assert everything(office.store)["vault"] == []
    assert provider.revoked == ["refresh-token-in-clear-2", "refresh-token-in-clear-3"]
    assert files_with(office.directory, "in-clear") == []


def _renew_and_serve(service: Services) -> None:
    service.tokens.renew(SERVICE, ADMIN)
    service.access_token(SERVICE)


def test_a_token_whose_row_is_damaged_can_be_deleted(office: Services, provider: FakeProvider) -> None:
    office.get_token(SERVICE)
    change(office.store, "UPDATE vault SET body = ?", b"damaged")
    deletion = office.tokens.delete(SERVICE, ADMIN)
    assert (deletion.profiles, deletion.revoked) == (LINKED, False)
    assert everything(office.store)["vault"] == []
    assert office.tokens.alarms == {}
    assert office.audit.verify().findings == ()


# Telling the provider


def test_the_provider_is_told_to_forget_the_grant(office: Services, provider: FakeProvider) -> None:
    office.get_token(SERVICE)
    assert office.tokens.delete(SERVICE, ADMIN).revoked
    assert provider.revoked == ["refresh-token-in-clear-2"]


@pytest.mark.parametrize(
    ("other", "revoked"),
    [({"account": SCANNER}, False), ({"account": SCANNER.upper()}, False), ({"account": FAX}, True)],
)
def test_a_grant_is_not_revoked_while_another_token_of_that_account_could_die_with_it(
    office: Services, provider: FakeProvider, other: dict[str, str], revoked: bool
) -> None:
    office.settings.set_profile(POP, other, ADMIN)
    office.get_token(POP, other["account"])
    office.get_token(SERVICE)
    assert office.tokens.delete(SERVICE, ADMIN).revoked is revoked
    assert office.access_token(POP).account == other["account"]
    assert office.tokens.delete(POP, ADMIN).revoked


def test_the_same_account_at_another_provider_is_another_grant(office: Services, provider: FakeProvider) -> None:
    other = FakeProvider("fabrikam")
    office.providers = {**office.providers, "fabrikam": other}
    both = office.restart()
    both.settings.set_profile(POP, {"provider": "fabrikam"}, ADMIN)
    both.get_token(POP)
    both.get_token(SERVICE)
    assert both.tokens.delete(SERVICE, ADMIN).revoked
    assert (len(provider.revoked), other.revoked) == (1, [])


def test_a_dead_token_of_that_account_is_no_reason_not_to_revoke(office: Services, provider: FakeProvider) -> None:
    office.get_token(POP)
    provider.kill_grants()
    with pytest.raises(Exception, match="invalid_grant"):
        office.tokens.renew(POP, ADMIN)
    office.get_token(SERVICE)
    assert office.tokens.delete(SERVICE, ADMIN).revoked


@pytest.mark.parametrize("trouble", ["unreachable", "not configured"])
def test_a_provider_that_cant_be_told_does_not_keep_the_token_from_being_deleted(
    office: Services, provider: FakeProvider, trouble: str
) -> None:
    office.get_token(SERVICE)
    if trouble == "unreachable":
        provider.reachable = False
    else:
        office.providers = {}
    deletion = office.restart().tokens.delete(SERVICE, ADMIN)
    assert (deletion.profiles, deletion.revoked) == (LINKED, False)
    assert everything(office.store)["vault"] == []


def test_a_grant_whose_reply_is_still_in_the_escrow_is_revoked_with_the_deletion(
    office: Services, provider: FakeProvider
) -> None:
    office.get_token(SERVICE)
    slot = office.escrow.reserve(Work("renewal", token_of(office), "renewal-1", 1))
    slot.keep(Reply(200, (), provider.grant(SCANNER).body, START))
    office.escrow.leave(slot)
    assert office.tokens.delete(SERVICE, ADMIN).revoked
    assert provider.revoked == ["refresh-token-in-clear-3"]
    assert escrowed(office) == []

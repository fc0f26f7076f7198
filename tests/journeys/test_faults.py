"""What is left of the list of faults; each test says which one it is. What a reply brought is not asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError, PersistenceError
from fakes import SCANNER, Answer, FakeClock, FakeProvider, Services, error

from domain.errors import Failed, Unreachable
from domain.outcomes import AcquisitionOutcome, BrowserAuthorization, Transient
from domain.ports import Exchange
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import Store, UnitOfWork
from infrastructure.tokens import renewal
from infrastructure.tokens.claims import STALE_AFTER_SECONDS
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.token_service import TokenService

ADMIN = "administrator"
SERVICE, FAXES = "office-mfp/smtp-service", "office-mfp/pop-internet-fax"
BACK = "https://mailtoken.contoso.com/back"


@pytest.fixture
def installation(service: Services) -> Services:
    """The manual's machine with a token for its linked settings."""
    service.add_machine()
    service.get_token(SERVICE)
    return service


@pytest.fixture
def branch(installation: Services, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Another node: the same store and an escrow of its own. It does not wait for what can't happen meanwhile."""
    monkeypatch.setattr(renewal, "_WAIT_FOR_OTHER_SECONDS", 0.0)
    return replace(installation, directory=installation.directory / "branch")


def change(store: Store, statement: str, *parameters: Any) -> None:
    with store.writing() as query:
        query.run(statement, parameters)


def fails_from_now_on(store: Store) -> None:
    change(store, "ALTER TABLE chain RENAME TO elsewhere")


def works_again(store: Store) -> None:
    change(store, "ALTER TABLE elsewhere RENAME TO chain")


def in_escrow(node: Services) -> list[str]:
    return sorted(path.suffix for path in (node.directory / "escrow").iterdir())


def claims(store: Store) -> list[Any]:
    with store.reading() as query:
        return query.rows("SELECT * FROM claim")


def whole(*nodes: Services) -> None:
    assert [in_escrow(node) for node in nodes] == [[]] * len(nodes)
    assert claims(nodes[0].store) == []
    assert nodes[0].audit.verify().findings == ()


class ForgettingLog(EventLog):
    """A store that commits and can't say so."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.forgets = True

    def save(self, *aggregates: Any, unit_of_work: UnitOfWork | None = None) -> None:
        super().save(*aggregates, unit_of_work=unit_of_work)
        if self.forgets:
            raise OperationalError("disk I/O error")


def test_fault_6_a_store_that_fails_after_it_has_stored_is_believed_by_what_it_has(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    """An error does not mean "not committed"."""
    clock.step(minutes=55)
    troubled = installation.restart()
    log = ForgettingLog(installation.store)
    troubled.tokens = TokenService(
        TokenExchange(log, troubled.vault, troubled.escrow, troubled.claims, troubled.providers, troubled.clock)
    )
    with pytest.raises(PersistenceError):
        troubled.tokens.renew(SERVICE, ADMIN)
    assert in_escrow(troubled) == [".reply"]
    log.forgets = False
    assert troubled.access_token(SERVICE).credential.issued_at == clock.now()
    assert troubled.tokens.recover() == 1
    assert provider.requests.count("refresh") == 1
    assert troubled.tokens.status(SERVICE).token.generations == 2
    whole(troubled)


def test_fault_6_a_reply_that_did_not_get_to_the_disk_whole_holds_nothing_up(
    installation: Services, branch: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    clock.step(minutes=55)
    # The grant is lost: it can be had again only because this provider does not mind.
    provider.answers(provider.grant(SCANNER))
    provider.meanwhile(lambda: fails_from_now_on(installation.store))
    with pytest.raises(PersistenceError):
        installation.tokens.renew(SERVICE, ADMIN)
    works_again(installation.store)
    [torn] = (installation.directory / "escrow").iterdir()
    with torn.open("r+b") as file:
        file.truncate(torn.stat().st_size // 1000)
    assert installation.tokens.recover() == 0
    assert branch.access_token(SERVICE).credential.issued_at == clock.now()
    assert provider.requests.count("refresh") == 2
    assert in_escrow(installation) == [".lost"]
    installation.tokens.renew(SERVICE, ADMIN)
    whole(installation, branch)


def test_fault_9_a_renewal_that_one_node_could_not_store_is_not_asked_for_by_another(
    installation: Services, branch: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    """The refresh token is spent: a provider of the strict kind would end the grant at its second use."""
    clock.step(minutes=55)
    provider.meanwhile(lambda: fails_from_now_on(installation.store))
    with pytest.raises(PersistenceError):
        installation.tokens.renew(SERVICE, ADMIN)
    works_again(installation.store)
    with pytest.raises(Unreachable, match="other_renewal_unfinished"):
        branch.tokens.renew(SERVICE, ADMIN)
    assert branch.access_token(SERVICE).credential.issued_at < clock.now()
    assert installation.tokens.recover() == 1
    assert branch.access_token(SERVICE).credential.issued_at == clock.now()
    assert provider.requests.count("refresh") == 1
    whole(installation, branch)


def test_fault_9_a_sign_in_that_one_node_could_not_store_is_not_ended_by_another(
    installation: Services, branch: Services, provider: FakeProvider
) -> None:
    """Its device code is spent: asked again, the provider would say so, and the attempt would be over."""
    installation.tokens.request(FAXES, None, ADMIN)
    provider.approve()
    provider.meanwhile(lambda: fails_from_now_on(installation.store))
    token_id = installation.tokens.status(FAXES).profile.token_id
    with pytest.raises(PersistenceError):
        installation.tokens.poll(token_id)
    works_again(installation.store)
    asked = list(provider.requests)
    assert branch.tokens.poll(token_id)
    assert branch.label(FAXES) == "Waiting for authorisation"
    assert installation.tokens.poll(token_id) is None
    assert branch.label(FAXES) == "Retrieved"
    assert provider.requests == asked
    whole(installation, branch)


def test_fault_9_as_long_as_a_reply_waits_to_be_stored_its_claim_does_not_go_stale(
    installation: Services, branch: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    clock.step(minutes=55)
    provider.meanwhile(lambda: fails_from_now_on(installation.store))
    with pytest.raises(PersistenceError):
        installation.tokens.renew(SERVICE, ADMIN)
    for run in (installation, installation.restart()):
        change(installation.store, "UPDATE claim SET taken_at = taken_at - ?", STALE_AFTER_SECONDS + 1)
        assert run.tokens.recover() == 1
        with pytest.raises(Unreachable, match="other_renewal_unfinished"):
            branch.tokens.renew(SERVICE, ADMIN)
    works_again(installation.store)
    assert run.tokens.recover() == 1
    assert provider.requests.count("refresh") == 1
    assert branch.access_token(SERVICE).credential.issued_at == clock.now()
    whole(run, branch)


class ProviderWithoutKeys(FakeProvider):
    """Its token endpoint answers; the keys that its ID tokens are signed with can't be fetched for now."""

    has_keys = False

    def redeem_code(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange, now: Any
    ) -> AcquisitionOutcome:
        outcome = super().redeem_code(pending, redirected_to, exchange, now)
        return outcome if self.has_keys else Transient("no keys to check the ID token with")


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> FakeProvider:
    kind: Callable[[], FakeProvider] = getattr(request, "param", FakeProvider)
    return kind()


@pytest.mark.parametrize("provider", [ProviderWithoutKeys], indirect=True)
def test_fault_9_a_code_whose_reply_cant_be_read_yet_is_not_redeemed_again(
    installation: Services, provider: ProviderWithoutKeys
) -> None:
    """A person who goes back and sends the redirect again would spend nothing and lose everything."""
    uri = installation.tokens.request(FAXES, "browser", ADMIN, BACK).authorization_uri
    assert uri
    redirect = f"{BACK}?code=1&state={uri.partition('state=')[2]}"
    provider.approve()
    for _ in range(3):
        with pytest.raises(Unreachable):
            installation.tokens.complete(FAXES, redirect)
    assert provider.requests.count("code") == 1
    assert installation.label(FAXES) == "Waiting for authorisation"
    provider.has_keys = True
    installation.tokens.complete(FAXES, redirect)
    assert installation.label(FAXES) == "Retrieved"
    assert provider.requests.count("code") == 1
    whole(installation)


@pytest.mark.parametrize(
    "answer", [error("invalid_grant"), Answer(400, b'{"error": "invalid_grant", "suberror": "bad_token"}')]
)
def test_fault_15_a_verdict_that_could_not_be_stored_is_asked_for_again_and_stored_once(
    installation: Services, provider: FakeProvider, answer: Answer
) -> None:
    """What is refused can be asked again: such a reply is worth no room and no waiting."""
    provider.kill_grants()
    provider.answers(answer)
    provider.meanwhile(lambda: fails_from_now_on(installation.store))
    with pytest.raises(PersistenceError):
        installation.tokens.renew(SERVICE, ADMIN)
    works_again(installation.store)
    assert installation.label(SERVICE) == "Retrieved"
    for _ in range(2):
        with pytest.raises(Failed, match="invalid_grant"):
            installation.tokens.renew(SERVICE, ADMIN)
    assert [one.name for one in installation.history.records() if one.name == "GrantFoundDead"] == ["GrantFoundDead"]
    assert installation.tokens.status(SERVICE).token.account == SCANNER
    whole(installation)

"""Thirty minutes in which the provider fails in one way: nothing is lost, and nobody has to do anything about it.

Time is simulated: the practice provider, on loopback over TLS, and the service share a clock that is stepped.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import SCANNER, FakeClock, Services
from practice_faults.provider import FaultyProvider

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Refused, Unreachable
from domain.ports import Provider
from domain.renewal import GrantLimits
from infrastructure.encryption.envelope import Sealer
from infrastructure.queries.attention import Attention
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.tokens.renewal_worker import RenewalWorker

SETTINGS = ("office/smtp", "office/pop", "office/imap")
LIMITS = {"contoso": GrantLimits(timedelta(days=90))}
OUTAGE = timedelta(minutes=30)
STEP = timedelta(seconds=15)
RETRIEVED, INVALID = "Retrieved", "Invalid"


class Installation:
    """The service with a token for each setting, which mail clients ask for every quarter of a minute."""

    def __init__(self, services: Services, practice: FaultyProvider, clock: FakeClock) -> None:
        self.services = services
        self.practice = practice
        self.clock = clock
        self.worker = RenewalWorker(services.events, services.tokens, clock, LIMITS)

    def get_tokens(self) -> None:
        for name in SETTINGS:
            started = self.services.tokens.request(name, None, "administrator")
            assert started.verification_uri
            assert started.user_code
            browser_user.approve(started.verification_uri, started.user_code, SCANNER, self.practice.ca_file)
            self.services.tokens.poll(self.services.tokens.status(name).profile.token_id)
            self.services.access_token(name)
        assert self.labels() == {RETRIEVED}

    def step(self, span: timedelta = STEP) -> None:
        """Time goes on, and the worker looks."""
        self.clock.instant += span
        for begun in self.worker.renew_what_is_due():
            begun.result(60)

    def labels(self) -> set[str]:
        return {self.services.label(name) for name in SETTINGS}

    def serve(self) -> list[tuple[str, datetime] | None]:
        """What the clients get: an access token and its end, or that they should try again."""
        served: list[tuple[str, datetime] | None] = []
        for name in SETTINGS:
            try:
                credential = self.services.access_token(name).credential
                served.append((credential.access_token.reveal(), credential.expires_at))
            except Unreachable:
                served.append(None)
        return served

    def generations(self) -> list[int]:
        statuses = [self.services.tokens.status(name) for name in SETTINGS]
        return [status.token.credential.number for status in statuses if status.token.credential]

    @contextmanager
    def in_a_hurry(self) -> Iterator[None]:
        """Whoever hangs is given up at once."""
        assert isinstance(self.services.providers, dict)
        patient = self.services.providers["contoso"]
        self.services.providers["contoso"] = build(self.practice, self.clock, timeout_seconds=0.25)
        yield
        self.services.providers["contoso"] = patient

    def renewal_requests(self) -> int:
        return self.practice.grant_counts["refresh_token"]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def practice(ca: PracticeCA, clock: FakeClock) -> Iterator[FaultyProvider]:
    # As Microsoft does it: a refresh token that was replaced is not revoked, so a lost answer loses nothing.
    with FaultyProvider(
        ca, now=clock.now, access_token_length=64, refresh="grace", refresh_grace_seconds=7 * 24 * 3600
    ) as practice:
        yield practice


def build(practice: FaultyProvider, clock: FakeClock, timeout_seconds: float = 30) -> Provider:
    """The practice provider as the service sees it."""
    settings = ProviderSettings(
        "contoso",
        "oidc",
        practice.client_id,
        issuer=practice.issuer,
        ca_file=practice.ca_file,
        timeout_seconds=timeout_seconds,
    )
    return build_provider(settings, clock)


# Outages


@contextmanager
def with_fault(mode: str, installation: Installation, **details: Any) -> Iterator[None]:
    with installation.practice.inject_fault(mode, times=None, **details):
        yield


@contextmanager
def hang(installation: Installation) -> Iterator[None]:
    with with_fault("hang", installation), installation.in_a_hurry():
        yield


@contextmanager
def connection_refused(installation: Installation) -> Iterator[None]:
    installation.practice.close()
    yield
    installation.practice.start()


@contextmanager
def no_such_host(_: Installation) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        yield


Outage = Callable[[Installation], AbstractContextManager[None]]
OUTAGES: dict[str, Outage] = {
    "connection refused": connection_refused,
    "no such host": no_such_host,
    "hang": hang,
    "500": partial(with_fault, "server_error"),
    "503, Retry-After 120": partial(with_fault, "temporarily_unavailable", retry_after=120),
    "429, Retry-After 30": partial(with_fault, "rate_limited", retry_after=30),
    "garbage": partial(with_fault, "garbage"),
    "truncated": partial(with_fault, "truncated"),
    "redirect": partial(with_fault, "redirect", location="https://login.example.com/"),
    "the answer is lost": partial(with_fault, "answer_lost"),
    "our client is refused": partial(with_fault, "invalid_client"),
}


@pytest.fixture(params=OUTAGES)
def outage(request: pytest.FixtureRequest) -> Outage:
    return OUTAGES[request.param]


@pytest.fixture
def installation(practice: FaultyProvider, clock: FakeClock, tmp_path: Path, sealer: Sealer) -> Iterator[Installation]:
    """The house, at the minute before the first renewal is due."""
    store = SqliteStore(tmp_path / "mailtoken.db")
    store_id = create_store(store, sealer)
    providers = {"contoso": build(practice, clock)}
    installation = Installation(Services(store, sealer, store_id, tmp_path, clock, providers), practice, clock)
    installation.services.add_machine("office", "generic")
    installation.get_tokens()
    for _ in range(39):
        installation.step(timedelta(minutes=1))
    installation.serve()
    assert installation.generations() == [1, 1, 1]
    yield installation
    installation.worker.stop()
    store.close()


def test_half_an_hour_of_it_costs_no_token_and_what_is_in_hand_is_served_until_it_expires(
    installation: Installation, outage: Outage
) -> None:
    in_hand = installation.serve()
    ends_at = installation.clock.instant + OUTAGE
    refusals = 0
    with outage(installation):
        while installation.clock.instant < ends_at:
            installation.step()
            assert installation.labels() == {RETRIEVED}
            # Once its token has expired, clients' requests are tried: here they ask every two minutes from then on.
            expired = installation.clock.instant >= min(one[1] for one in in_hand if one)
            if expired and (installation.clock.instant - ends_at) % timedelta(minutes=2):
                continue
            served = installation.serve()
            assert served == ([None, None, None] if expired else in_hand)
            refusals += expired
        assert refusals > 0, "the outage is longer than what was in hand"
    # By the worker alone, without a restart, an administrator or a client.
    back_at = installation.clock.instant
    while 1 in installation.generations():
        installation.step()
        assert installation.clock.instant - back_at < timedelta(minutes=20)
    assert installation.labels() == {RETRIEVED}
    assert all(one and one[1] > installation.clock.instant for one in installation.serve())
    services = installation.services
    attention = Attention(services.store, services.tokens.alarms, installation.clock, LIMITS, {})
    assert {one.attention for one in attention.statuses()} == {None}
    assert installation.services.audit.verify().findings == ()


def test_a_client_that_asks_when_it_is_over_does_not_wait_for_the_worker(
    installation: Installation, outage: Outage
) -> None:
    with outage(installation):
        for _ in range(30):
            installation.step(timedelta(minutes=1))
    assert installation.labels() == {RETRIEVED}
    # Not sooner than the provider asked for, if it did.
    installation.clock.step(minutes=2)
    assert all(installation.serve())
    assert 1 not in installation.generations()


def test_clients_whose_token_has_expired_do_not_hammer_a_provider_that_fails(installation: Installation) -> None:
    installation.clock.step(minutes=30)
    before = installation.renewal_requests()
    with installation.practice.inject_fault("server_error", times=None):
        for _ in range(600):
            assert installation.serve() == [None, None, None]
            installation.clock.step(seconds=0.1)
    # One try in five seconds, whichever of the three tokens it is for.
    assert 10 <= installation.renewal_requests() - before <= 13
    installation.clock.step(seconds=5)
    assert all(installation.serve())


def test_retry_after_is_honoured_even_if_nothing_is_left_to_serve(installation: Installation) -> None:
    installation.clock.step(minutes=30)
    before = installation.renewal_requests()
    with installation.practice.inject_fault("temporarily_unavailable", times=None, retry_after=120):
        for _ in range(118):
            assert installation.serve() == [None, None, None]
            installation.clock.step(seconds=1)
    assert installation.renewal_requests() - before == 1
    installation.clock.step(seconds=5)
    assert all(installation.serve())


@pytest.mark.parametrize("mode", ["server_error", "temporarily_unavailable", "garbage"])
def test_a_provider_that_fails_is_not_hammered(installation: Installation, mode: str) -> None:
    before = installation.renewal_requests()
    with installation.practice.inject_fault(mode, times=None):
        for _ in range(OUTAGE // STEP):
            installation.step()
    # Five to open the circuit, and then one in each wait of up to five minutes: 120 looks, three tokens.
    assert installation.renewal_requests() - before <= 5 + 15


def test_retry_after_is_honoured(installation: Installation) -> None:
    with installation.practice.inject_fault("temporarily_unavailable", times=None, retry_after=1200):
        for _ in range(20):
            installation.step()
            installation.step(timedelta(minutes=1))
    asked = [record.at for record in installation.practice.requests if record.outcome == "temporarily_unavailable"]
    assert asked
    # Those that were under way together were all told so; nobody asked again before it was over.
    assert max(asked) - min(asked) in {timedelta(0), *(timedelta(seconds=s) for s in range(1200, 1500))}


# What is no outage


def test_an_account_that_is_enabled_again_has_its_token_back_without_a_person(installation: Installation) -> None:
    installation.practice.disable_account(SCANNER)
    for _ in range(10):
        installation.step(timedelta(minutes=1))
    assert installation.labels() == {INVALID}
    codes = {installation.services.tokens.status(name).token.code for name in SETTINGS}
    assert codes == {"AADSTS50057"}
    asked = installation.renewal_requests()
    for _ in range(3 * 24):
        installation.step(timedelta(hours=1))
    assert installation.renewal_requests() - asked == 3 * 3, "once a day for each"
    assert installation.labels() == {INVALID}
    with pytest.raises(Refused):
        installation.services.access_token(SETTINGS[0])
    installation.practice.enable_account(SCANNER)
    for _ in range(25):
        installation.step(timedelta(hours=1))
    assert installation.labels() == {RETRIEVED}
    assert installation.generations() == [2, 2, 2]
    found_dead = [one for one in installation.services.history.records() if one.name == "GrantFoundDead"]
    assert len(found_dead) == 3, "the same answer is not recorded again"


def test_a_grant_that_the_provider_ended_is_left_to_a_person(installation: Installation) -> None:
    installation.practice.revoke_account(SCANNER)
    for _ in range(10):
        installation.step(timedelta(minutes=1))
    assert installation.labels() == {INVALID}
    asked = installation.renewal_requests()
    for _ in range(100):
        installation.step(timedelta(days=1))
    assert installation.renewal_requests() == asked

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

import pytest
from fakes import SCANNER, FakeClock, Services

from adapters.practice import person
from adapters.practice.ca import PracticeCA
from adapters.practice.provider import PracticeProvider
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Refused, Unreachable
from domain.ports import Provider
from domain.renewal import GrantLimits
from infrastructure.attention import Attention
from infrastructure.opening import create_store
from infrastructure.renewals import RenewalWorker
from infrastructure.sealing import Sealer
from infrastructure.sqlite import SqliteStore

SETTINGS = ("office/smtp", "office/pop", "office/imap")
LIMITS = {"contoso": GrantLimits(timedelta(days=90))}
OUTAGE = timedelta(minutes=30)
STEP = timedelta(seconds=15)
RETRIEVED, INVALID = "Retrieved", "Invalid"


class House:
    """The service with a token for each setting, which mail clients ask for every quarter of a minute."""

    def __init__(self, services: Services, practice: PracticeProvider, clock: FakeClock) -> None:
        self.services = services
        self.practice = practice
        self.clock = clock
        self.worker = RenewalWorker(services.events, services.tokens, clock, LIMITS)

    def get_tokens(self) -> None:
        for name in SETTINGS:
            started = self.services.tokens.request(name, None, "administrator")
            person.approve(started.verification_uri, started.user_code, SCANNER, self.practice.ca_file)
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
def practice(ca: PracticeCA, clock: FakeClock) -> Iterator[PracticeProvider]:
    # As Microsoft does it: a refresh token that was replaced is not revoked, so a lost answer loses nothing.
    with PracticeProvider(
        ca, now=clock.now, access_token_length=64, refresh="grace", refresh_grace_seconds=7 * 24 * 3600
    ) as practice:
        yield practice


def build(practice: PracticeProvider, clock: FakeClock, timeout_seconds: float = 30) -> Provider:
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
def misbehaving(mode: str, house: House, **details: object) -> Iterator[None]:
    with house.practice.misbehave(mode, times=None, **details):
        yield


@contextmanager
def hang(house: House) -> Iterator[None]:
    with misbehaving("hang", house), house.in_a_hurry():
        yield


@contextmanager
def connection_refused(house: House) -> Iterator[None]:
    house.practice.close()
    yield
    house.practice.start()


@contextmanager
def no_such_host(_: House) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        yield


Outage = Callable[[House], AbstractContextManager[None]]
OUTAGES: dict[str, Outage] = {
    "connection refused": connection_refused,
    "no such host": no_such_host,
    "hang": hang,
    "500": partial(misbehaving, "server_error"),
    "503, Retry-After 120": partial(misbehaving, "temporarily_unavailable", retry_after=120),
    "429, Retry-After 30": partial(misbehaving, "rate_limited", retry_after=30),
    "garbage": partial(misbehaving, "garbage"),
    "truncated": partial(misbehaving, "truncated"),
    "redirect": partial(misbehaving, "redirect", location="https://login.example.com/"),
    "the answer is lost": partial(misbehaving, "answer_lost"),
    "our client is refused": partial(misbehaving, "invalid_client"),
}


@pytest.fixture(params=OUTAGES)
def outage(request: pytest.FixtureRequest) -> Outage:
    return OUTAGES[request.param]


@pytest.fixture
def house(practice: PracticeProvider, clock: FakeClock, tmp_path: Path, sealer: Sealer) -> Iterator[House]:
    """The house, at the minute before the first renewal is due."""
    store = SqliteStore(tmp_path / "mailtoken.db")
    store_id = create_store(store, sealer)
    providers = {"contoso": build(practice, clock)}
    house = House(Services(store, sealer, store_id, tmp_path, clock, providers), practice, clock)
    house.services.add_machine("office", "generic")
    house.get_tokens()
    for _ in range(39):
        house.step(timedelta(minutes=1))
    house.serve()
    assert house.generations() == [1, 1, 1]
    yield house
    house.worker.stop()
    store.close()


def test_half_an_hour_of_it_costs_no_token_and_what_is_in_hand_is_served_until_it_expires(
    house: House, outage: Outage
) -> None:
    in_hand = house.serve()
    ends_at = house.clock.instant + OUTAGE
    refusals = 0
    with outage(house):
        while house.clock.instant < ends_at:
            house.step()
            assert house.labels() == {RETRIEVED}
            # Once its token has expired, clients' requests are tried: here they ask every two minutes from then on.
            expired = house.clock.instant >= min(one[1] for one in in_hand if one)
            if expired and (house.clock.instant - ends_at) % timedelta(minutes=2):
                continue
            served = house.serve()
            assert served == ([None, None, None] if expired else in_hand)
            refusals += expired
        assert refusals > 0, "the outage is longer than what was in hand"
    # By the worker alone, without a restart, an administrator or a client.
    back_at = house.clock.instant
    while 1 in house.generations():
        house.step()
        assert house.clock.instant - back_at < timedelta(minutes=20)
    assert house.labels() == {RETRIEVED}
    assert all(one and one[1] > house.clock.instant for one in house.serve())
    assert {one.attention for one in Attention(house.services.tokens, house.clock, LIMITS, {}).statuses()} == {None}
    assert house.services.audit.verify().findings == ()


def test_a_client_that_asks_when_it_is_over_does_not_wait_for_the_worker(house: House, outage: Outage) -> None:
    with outage(house):
        for _ in range(30):
            house.step(timedelta(minutes=1))
    assert house.labels() == {RETRIEVED}
    # Not sooner than the provider asked for, if it did.
    house.clock.step(minutes=2)
    assert all(house.serve())
    assert 1 not in house.generations()


def test_clients_whose_token_has_expired_do_not_hammer_a_provider_that_fails(house: House) -> None:
    house.clock.step(minutes=30)
    before = house.renewal_requests()
    with house.practice.misbehave("server_error", times=None):
        for _ in range(600):
            assert house.serve() == [None, None, None]
            house.clock.step(seconds=0.1)
    # One try in five seconds, whichever of the three tokens it is for.
    assert 10 <= house.renewal_requests() - before <= 13
    house.clock.step(seconds=5)
    assert all(house.serve())


def test_retry_after_is_honoured_even_if_nothing_is_left_to_serve(house: House) -> None:
    house.clock.step(minutes=30)
    before = house.renewal_requests()
    with house.practice.misbehave("temporarily_unavailable", times=None, retry_after=120):
        for _ in range(118):
            assert house.serve() == [None, None, None]
            house.clock.step(seconds=1)
    assert house.renewal_requests() - before == 1
    house.clock.step(seconds=5)
    assert all(house.serve())


@pytest.mark.parametrize("mode", ["server_error", "temporarily_unavailable", "garbage"])
def test_a_provider_that_fails_is_not_hammered(house: House, mode: str) -> None:
    before = house.renewal_requests()
    with house.practice.misbehave(mode, times=None):
        for _ in range(OUTAGE // STEP):
            house.step()
    # Five to open the circuit, and then one in each wait of up to five minutes: 120 looks, three tokens.
    assert house.renewal_requests() - before <= 5 + 15


def test_retry_after_is_honoured(house: House) -> None:
    with house.practice.misbehave("temporarily_unavailable", times=None, retry_after=1200):
        for _ in range(20):
            house.step()
            house.step(timedelta(minutes=1))
    asked = [record.at for record in house.practice.requests if record.outcome == "temporarily_unavailable"]
    assert asked
    # Those that were under way together were all told so; nobody asked again before it was over.
    assert max(asked) - min(asked) in {timedelta(0), *(timedelta(seconds=s) for s in range(1200, 1500))}


# What is no outage


def test_an_account_that_is_enabled_again_has_its_token_back_without_a_person(house: House) -> None:
    house.practice.disable_account(SCANNER)
    for _ in range(10):
        house.step(timedelta(minutes=1))
    assert house.labels() == {INVALID}
    codes = {house.services.tokens.status(name).token.code for name in SETTINGS}
    assert codes == {"AADSTS50057"}
    asked = house.renewal_requests()
    for _ in range(3 * 24):
        house.step(timedelta(hours=1))
    assert house.renewal_requests() - asked == 3 * 3, "once a day for each"
    assert house.labels() == {INVALID}
    with pytest.raises(Refused):
        house.services.access_token(SETTINGS[0])
    house.practice.enable_account(SCANNER)
    for _ in range(25):
        house.step(timedelta(hours=1))
    assert house.labels() == {RETRIEVED}
    assert house.generations() == [2, 2, 2]
    found_dead = [one for one in house.services.audit.records() if one.name == "GrantFoundDead"]
    assert len(found_dead) == 3, "the same answer is not recorded again"


def test_a_grant_that_the_provider_ended_is_left_to_a_person(house: House) -> None:
    house.practice.revoke_account(SCANNER)
    for _ in range(10):
        house.step(timedelta(minutes=1))
    assert house.labels() == {INVALID}
    asked = house.renewal_requests()
    for _ in range(100):
        house.step(timedelta(days=1))
    assert house.renewal_requests() == asked

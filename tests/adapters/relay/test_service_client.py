"""The relay's client of the service against a real service: right sign-ins are quick, wrong ones reveal nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from effort import amount
from fakes import START, FakeClock, FakeProvider
from line_client import admission
from listeners import serve_unix_socket
from served import ADMIN, IMAP, POP, SMTP, SimulatedTime, a_service, all_that_lasts

from adapters.mail.server_address import MailboxLogin, MailServerAddress
from adapters.relay.admission import Admission, AdmissionChange
from adapters.relay.admission_cache import AdmissionCache
from adapters.relay.login_throttle import SourceThrottle
from adapters.relay.service_client import ServiceClient
from domain.catalogue import Protocol
from domain.errors import MailtokenError, NotPermitted, Refused, Unreachable
from domain.secret import Secret
from infrastructure.mail_counters import MailCount
from infrastructure.queries.changes import RelayChanges, Stretch
from infrastructure.service import Service
from infrastructure.store.hash_chain import last_position

PASSWORD, OTHER = Secret("a-password-in-clear"), Secret("another-password-in-clear")
HERE, THERE = "192.0.2.1", "192.0.2.2"
FLOOR = "10.20.30.7"
DEADLINE_SECONDS = 60
GUESSES = amount(600, of=10_000)
WRONG_CREDENTIALS = "wrong_user_password_or_network"


@pytest.fixture
def time(clock: FakeClock) -> SimulatedTime:
    return SimulatedTime(clock)


@pytest.fixture
def service(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    """A service with a relay user of each kind; the one with a password has no IMAP token."""
    with a_service(tmp_path, clock, provider) as service:
        service.relay_users.add("printers", [SMTP, IMAP], [], PASSWORD, ADMIN)
        service.relay_users.add("floor", [SMTP, POP], ["10.20.30.0/24"], OTHER, ADMIN)
        yield service


@pytest.fixture
def socket(service: Service) -> Iterator[Path]:
    with serve_unix_socket(service) as path:
        yield path


class AdmitCalls:
    """Counts what is asked of the service's own use cases."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.admissions = 0
        admit = service.relay_users.admit

        def counted(*sign_in: object) -> object:
            self.admissions += 1
            return admit(*sign_in)  # type: ignore[arg-type]

        monkeypatch.setattr(service.relay_users, "admit", counted)


@pytest.fixture
def admit_calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> AdmitCalls:
    return AdmitCalls(service, monkeypatch)


class ObservedCache(AdmissionCache):
    """Says when the service has told that something has changed."""

    def __init__(self, time: SimulatedTime) -> None:
        super().__init__(time.clock, time.monotonic)
        self._heard = threading.Event()

    def forget(self, change: AdmissionChange) -> None:
        super().forget(change)
        self._heard.set()

    def wait_for_change(self) -> None:
        """Wait for the next time that something was told."""
        assert self._heard.wait(DEADLINE_SECONDS)
        self._heard.clear()


@pytest.fixture
def cache(time: SimulatedTime) -> ObservedCache:
    return ObservedCache(time)


Story = Callable[[ServiceClient], Awaitable[None]]
RunStory = Callable[[Story], None]


@pytest.fixture
def run_story(socket: Path, cache: ObservedCache, time: SimulatedTime) -> RunStory:
    """Run a story with a service client that receives changes; time passes when a task sleeps."""

    def run(story: Story) -> None:
        async def at_the_door() -> None:
            async with ServiceClient(socket, cache, SourceThrottle(time.monotonic, time.skip)) as service_client:
                await asyncio.to_thread(cache.wait_for_change)
                await story(service_client)

        asyncio.run(at_the_door())

    return run


def sign_in(
    service_client: ServiceClient, password: Secret = PASSWORD, user: str = "printers", address: str = HERE
) -> Awaitable[Admission]:
    return service_client.admit(Protocol.SMTP, address, user, password)


def come(service_client: ServiceClient, address: str = FLOOR) -> Awaitable[Admission]:
    return service_client.admit(Protocol.SMTP, address, None, None)


async def outcome(attempt: Awaitable[Admission]) -> str:
    try:
        return f"generation {(await attempt).generation}"
    except MailtokenError as error:
        return f"{type(error).__name__}: {error}"


# What the service client returns and raises


def test_an_admission_has_all_that_is_needed_to_sign_in_upstream(run_story: RunStory, service: Service) -> None:
    token = service.tokens.access_token(SMTP, None, "client").credential.access_token

    async def story(service_client: ServiceClient) -> None:
        admission = await sign_in(service_client)
        address = MailServerAddress("smtp.contoso.com", 587, "starttls", Protocol.SMTP)
        login = MailboxLogin(address, "scan@contoso.com", token, 20)
        with service.events.store.reading() as query:
            position = last_position(query)
        assert admission == Admission("printers", SMTP, login, START + timedelta(hours=1), 1, position)
        assert token.reveal() not in repr(admission)
        assert (await come(service_client)).user == "floor"
        assert await service_client.servers() == [
            MailServerAddress("imap.contoso.com", 143, "starttls", Protocol.IMAP),
            MailServerAddress("pop.contoso.com", 110, "starttls", Protocol.POP),
            MailServerAddress("smtp.contoso.com", 587, "starttls", Protocol.SMTP),
        ]

    run_story(story)


def test_each_refusal_is_an_error_of_its_own(
    run_story: RunStory, service: Service, provider: FakeProvider, clock: FakeClock
) -> None:
    async def story(service_client: ServiceClient) -> None:
        for wrong in (
            sign_in(service_client, OTHER),
            sign_in(service_client, user="ghost"),
            sign_in(service_client, Secret("\udcff\udcfe")),
            sign_in(service_client, user="\udcff"),
            come(service_client, HERE),
            service_client.admit(Protocol.POP, FLOOR, None, None),
        ):
            assert await outcome(wrong) == f"NotPermitted: {WRONG_CREDENTIALS}"
        not_retrieved = await outcome(service_client.admit(Protocol.IMAP, HERE, "printers", PASSWORD))
        assert not_retrieved.startswith("Refused: ")
        assert f"profile='{IMAP}'" in not_retrieved
        no_profile = await outcome(service_client.admit(Protocol.IMAP, FLOOR, "floor", OTHER))
        assert no_profile == "Refused: relay_user_without_profile user='floor' protocol='imap'"
        clock.step(hours=2)
        provider.reachable = False
        expired = await outcome(sign_in(service_client))
        assert expired.startswith("Unreachable: ")
        assert SMTP in expired

    run_story(story)


def test_counts_of_mail_reach_the_store(run_story: RunStory, service: Service) -> None:
    count = MailCount(SMTP, START.date(), 2, 3000, 1)

    async def story(service_client: ServiceClient) -> None:
        for _ in range(2):
            await service_client.put_mail_counts("run-1", [count])

    run_story(story)
    assert service.mail_counts.by_day(since=START.date(), until=START.date()) == [count]


def test_without_a_service_it_is_unreachable_and_the_error_names_the_socket(tmp_path: Path) -> None:
    async def story() -> None:
        async with ServiceClient(tmp_path / "nobody.sock") as service_client:
            for attempt in (sign_in(service_client), service_client.servers()):
                with pytest.raises(Unreachable) as refused:
                    await attempt
                assert refused.value.code == "service_not_running"
                assert refused.value.fields == {"socket": str(tmp_path / "nobody.sock")}

    asyncio.run(story())


def test_a_service_that_answers_with_something_else_is_of_another_version(tmp_path: Path) -> None:
    async def story() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
            writer.close()

        async with (
            await asyncio.start_unix_server(answer, tmp_path / "s"),
            ServiceClient(tmp_path / "s") as service_client,
        ):
            with pytest.raises(Unreachable, match="service_reply_unreadable"):
                await service_client.servers()

    asyncio.run(story())


def test_a_service_that_was_started_again_is_asked_again(service: Service, clock: FakeClock) -> None:
    async def story() -> None:
        with serve_unix_socket(service) as path:
            service_client = await ServiceClient(path, AdmissionCache(clock)).__aenter__()
            await come(service_client)
        assert (await outcome(sign_in(service_client))).startswith("Unreachable: service_not_running")
        with serve_unix_socket(service):
            assert await outcome(sign_in(service_client)) == "generation 1"
        await service_client.__aexit__()

    asyncio.run(story())


def test_a_socket_whose_path_is_too_long_for_the_kernel_is_reached(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    directory = tmp_path / ("d" * 120)
    with a_service(directory, clock, provider) as service, serve_unix_socket(service) as path:

        async def story() -> None:
            async with ServiceClient(path) as service_client:
                assert await service_client.servers() == []

        asyncio.run(story())


# Right passwords are cached


def test_a_right_sign_in_is_asked_for_once_a_minute(
    run_story: RunStory, admit_calls: AdmitCalls, time: SimulatedTime
) -> None:
    async def story(service_client: ServiceClient) -> None:
        first = await sign_in(service_client)
        await come(service_client)
        time.step(59)
        assert await sign_in(service_client) == first
        assert await sign_in(service_client, address=THERE) == first
        await come(service_client)
        assert admit_calls.admissions == 2
        time.step(2)
        await sign_in(service_client)
        await come(service_client)
        assert admit_calls.admissions == 4

    run_story(story)


def test_only_what_was_right_is_remembered_and_for_that_alone(run_story: RunStory, admit_calls: AdmitCalls) -> None:
    async def story(service_client: ServiceClient) -> None:
        await sign_in(service_client)
        for _ in range(2):
            assert await outcome(sign_in(service_client, OTHER)) == f"NotPermitted: {WRONG_CREDENTIALS}"
            assert await outcome(sign_in(service_client, user="floor")) == f"NotPermitted: {WRONG_CREDENTIALS}"
            assert (await outcome(service_client.admit(Protocol.IMAP, HERE, "printers", PASSWORD))).startswith(
                "Refused"
            )
        assert admit_calls.admissions == 7
        await come(service_client)
        assert await outcome(come(service_client, HERE)) == f"NotPermitted: {WRONG_CREDENTIALS}"
        assert await outcome(come(service_client, "10.20.31.7")) == f"NotPermitted: {WRONG_CREDENTIALS}"

    run_story(story)


def test_a_token_that_is_soon_to_be_renewed_is_asked_for_each_time(
    run_story: RunStory, admit_calls: AdmitCalls, clock: FakeClock, time: SimulatedTime
) -> None:
    async def story(service_client: ServiceClient) -> None:
        clock.step(minutes=49, seconds=30)
        assert (await sign_in(service_client)).generation == 1
        time.step(29)
        assert (await sign_in(service_client)).generation == 1
        assert admit_calls.admissions == 1
        time.step(2)
        assert (await sign_in(service_client)).generation == 2
        assert admit_calls.admissions == 2

    run_story(story)


def test_a_token_that_lives_for_seconds_is_never_remembered(
    run_story: RunStory, admit_calls: AdmitCalls, service: Service, provider: FakeProvider
) -> None:
    provider.lifetime_seconds = 5
    service.tokens.renew(SMTP, ADMIN)

    async def story(service_client: ServiceClient) -> None:
        await sign_in(service_client)
        await sign_in(service_client)
        assert admit_calls.admissions == 2

    run_story(story)


def test_what_has_changed_counts_at_once(
    run_story: RunStory, service: Service, cache: ObservedCache, admit_calls: AdmitCalls
) -> None:
    async def story(service_client: ServiceClient) -> None:
        await sign_in(service_client)
        await come(service_client)
        service.relay_users.set_password("printers", OTHER, ADMIN)
        await asyncio.to_thread(cache.wait_for_change)
        assert await outcome(sign_in(service_client)) == f"NotPermitted: {WRONG_CREDENTIALS}"
        assert await outcome(sign_in(service_client, OTHER)) == "generation 1"
        assert admit_calls.admissions == 4
        await come(service_client)
        assert admit_calls.admissions == 4, "whom it does not concern is remembered"
        service.tokens.delete(SMTP, ADMIN)
        await asyncio.to_thread(cache.wait_for_change)
        assert (await outcome(sign_in(service_client, OTHER))).startswith("Refused")
        assert (await outcome(come(service_client))).startswith("Refused")

    run_story(story)


def test_a_change_that_is_reported_late_ends_no_admission_that_came_after_it(
    run_story: RunStory,
    service: Service,
    cache: ObservedCache,
    admit_calls: AdmitCalls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind, has_signed_in = RelayChanges.behind, threading.Event()

    def late(changes: RelayChanges, position: int) -> Stretch:
        stretch = behind(changes, position)
        if stretch.changes:
            assert has_signed_in.wait(DEADLINE_SECONDS)
        return stretch

    async def story(service_client: ServiceClient) -> None:
        monkeypatch.setattr(RelayChanges, "behind", late)
        ended: list[AdmissionChange] = []
        service.relay_users.set_password("printers", OTHER, ADMIN)
        admission = await sign_in(service_client, OTHER)
        service_client.change_callbacks.append(lambda change: ended.extend([change] * change.concerns(admission)))
        has_signed_in.set()
        await asyncio.to_thread(cache.wait_for_change)
        await sign_in(service_client, OTHER)
        assert (ended, admit_calls.admissions) == ([], 1)

    run_story(story)


def test_a_renewal_changes_nothing(
    run_story: RunStory, service: Service, cache: ObservedCache, admit_calls: AdmitCalls
) -> None:
    async def story(service_client: ServiceClient) -> None:
        await sign_in(service_client)
        service.tokens.renew(SMTP, ADMIN)
        service.relay_users.map("floor", [SMTP], ADMIN)
        await asyncio.to_thread(cache.wait_for_change)
        assert await outcome(sign_in(service_client)) == "generation 1"
        assert admit_calls.admissions == 1

    run_story(story)


def test_an_answer_from_before_a_change_does_not_count(
    run_story: RunStory, service: Service, cache: ObservedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = service.relay_users.admit

    def slow(*sign_in: object) -> object:
        admitted = admit(*sign_in)  # type: ignore[arg-type]
        monkeypatch.setattr(service.relay_users, "admit", admit)
        service.relay_users.remove("printers", ADMIN)
        cache.wait_for_change()
        return admitted

    monkeypatch.setattr(service.relay_users, "admit", slow)

    async def story(service_client: ServiceClient) -> None:
        assert await outcome(sign_in(service_client)) == f"NotPermitted: {WRONG_CREDENTIALS}"

    run_story(story)


def test_while_the_service_is_away_a_right_sign_in_is_good_for_a_minute(
    service: Service, cache: ObservedCache, time: SimulatedTime
) -> None:
    async def story() -> None:
        with serve_unix_socket(service) as path:
            service_client = await ServiceClient(path, cache).__aenter__()
            await asyncio.to_thread(cache.wait_for_change)
            await sign_in(service_client)
        assert await outcome(sign_in(service_client)) == "generation 1"
        time.step(61)
        assert (await outcome(sign_in(service_client))).startswith("Unreachable")
        await service_client.__aexit__()

    asyncio.run(story())


def test_what_has_changed_while_the_service_was_away_is_told_when_it_is_back(
    service: Service, cache: ObservedCache
) -> None:
    async def story() -> None:
        with serve_unix_socket(service) as path:
            service_client = await ServiceClient(path, cache).__aenter__()
            await asyncio.to_thread(cache.wait_for_change)
            await sign_in(service_client)
            await come(service_client)
        heard: list[AdmissionChange] = []
        service_client.change_callbacks.append(heard.append)
        service.relay_users.set_password("printers", OTHER, ADMIN)
        with serve_unix_socket(service):
            await asyncio.to_thread(cache.wait_for_change)
            assert await outcome(sign_in(service_client)) == f"NotPermitted: {WRONG_CREDENTIALS}"
        with service.events.store.reading() as query:
            assert heard == [AdmissionChange(["printers"], [], last_position(query))]
        await service_client.__aexit__()

    asyncio.run(story())


def test_a_service_that_tells_of_no_changes_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.service_client._FEED_SECONDS", 0.05)

    async def story() -> None:
        async with ServiceClient(tmp_path / "nobody.sock") as service_client:
            with pytest.raises(Unreachable, match="change_feed_silent"):
                await service_client.wait_until_following()

    asyncio.run(story())


def test_equal_sign_ins_at_once_are_one_and_who_leaves_takes_nobody_along(
    run_story: RunStory, admit_calls: AdmitCalls
) -> None:
    async def story(service_client: ServiceClient) -> None:
        attempts = [asyncio.ensure_future(sign_in(service_client, address=f"192.0.2.{n % 3}")) for n in range(60)]
        await asyncio.sleep(0)
        attempts[0].cancel()
        admissions = await asyncio.gather(*attempts[1:])
        assert {admission.generation for admission in admissions} == {1}
        assert admit_calls.admissions == 1

    run_story(story)


def test_no_password_is_kept_in_the_cache(run_story: RunStory) -> None:
    async def story(service_client: ServiceClient) -> None:
        await sign_in(service_client)
        kept = repr(dict(service_client._cache._entries))
        assert "printers" in kept
        assert "in-clear" not in kept

    run_story(story)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch, time: SimulatedTime) -> None:
    monkeypatch.setattr("adapters.relay.admission_cache._ENTRIES", 10)
    cache = AdmissionCache(time.clock, time.monotonic)
    kept = admission(Protocol.SMTP, 25, expires_at=START + timedelta(hours=1))
    for number in range(50):
        cache.put(str(number).encode(), kept)
    assert len(cache._entries) == 10
    assert cache.get(b"49") == kept
    assert cache.get(b"39") is None


# A token the mail server rejected


def test_a_rejected_token_is_renewed_and_the_newer_one_remembered(
    run_story: RunStory, admit_calls: AdmitCalls, provider: FakeProvider
) -> None:
    async def story(service_client: ServiceClient) -> None:
        rejected = await sign_in(service_client)
        newer = await asyncio.gather(*(service_client.renewed(rejected) for _ in range(10)))
        assert {one.generation for one in newer} == {2}
        assert newer[0].login.access_token != rejected.login.access_token
        assert await sign_in(service_client) == newer[0]
        assert admit_calls.admissions == 1
        assert (await service_client.renewed(rejected)).login == newer[0].login
        assert provider.requests.count("refresh") == 1

    run_story(story)


def test_what_cant_be_renewed_is_forgotten_and_says_why(
    run_story: RunStory, admit_calls: AdmitCalls, provider: FakeProvider
) -> None:
    async def story(service_client: ServiceClient) -> None:
        rejected = await sign_in(service_client)
        provider.kill_grants()
        with pytest.raises(Refused, match=f"invalid.* profile='{SMTP}'"):
            await service_client.renewed(rejected)
        assert admit_calls.admissions == 1
        assert (await outcome(sign_in(service_client))).startswith("Refused: ")
        assert admit_calls.admissions == 2, "the admission was not kept"
        with pytest.raises(NotPermitted):
            await service_client.renewed(replace(rejected, profile=POP))

    run_story(story)


def test_an_admission_whose_renewal_failed_is_asked_for_again(
    run_story: RunStory, admit_calls: AdmitCalls, provider: FakeProvider
) -> None:
    async def story(service_client: ServiceClient) -> None:
        rejected = await sign_in(service_client)
        provider.reachable = False
        with pytest.raises(Unreachable):
            await service_client.renewed(rejected)
        await outcome(sign_in(service_client))
        assert admit_calls.admissions == 2

    run_story(story)


# Guessing


def test_thousands_of_wrong_passwords_slow_their_source_alone_and_change_nothing(
    run_story: RunStory, service: Service, time: SimulatedTime
) -> None:
    before = all_that_lasts(service)

    async def story(service_client: ServiceClient) -> None:
        for number in range(GUESSES):
            assert (
                await outcome(sign_in(service_client, Secret(f"guess number {number}")))
                == f"NotPermitted: {WRONG_CREDENTIALS}"
            )
            if number % 500 == 0:
                slept = len(time.slept)
                assert await outcome(sign_in(service_client, address=THERE)) == "generation 1"
                assert await outcome(come(service_client)) == "generation 1"
                assert len(time.slept) == slept
        assert time.slept[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
        assert len(time.slept) == GUESSES - 5
        assert sum(time.slept) > GUESSES * 7

    # The service's own clock stands still: its token is not to run out while the guesser waits for a day.
    time.clock = FakeClock()
    run_story(story)
    assert all_that_lasts(service) == before


def test_a_guessing_source_is_refused_at_once_when_enough_of_its_attempts_wait(
    socket: Path, time: SimulatedTime, admit_calls: AdmitCalls
) -> None:
    async def story() -> None:
        throttle = SourceThrottle(time.monotonic, time.sleep)
        async with ServiceClient(socket, AdmissionCache(time.clock, time.monotonic), throttle) as service_client:
            for number in range(5):
                await outcome(sign_in(service_client, Secret(f"guess number {number}")))
            waiting = [
                asyncio.create_task(outcome(sign_in(service_client, Secret(f"more guess {n}")))) for n in range(4)
            ]
            while len(time.slept) < len(waiting):
                await asyncio.sleep(0)
            before = admit_calls.admissions
            refused = f"Unreachable: too_many_wrong_passwords_from address='{HERE}'"
            assert await outcome(sign_in(service_client, Secret("one more guess"))) == refused
            assert await outcome(sign_in(service_client)) == refused
            assert admit_calls.admissions == before
            assert await outcome(sign_in(service_client, address=THERE)) == "generation 1"
            await time.advance(0.5)
            assert set(await asyncio.gather(*waiting)) == {f"NotPermitted: {WRONG_CREDENTIALS}"}

    asyncio.run(story())


def test_a_right_password_that_is_remembered_does_not_wait_beside_a_guesser(
    run_story: RunStory, time: SimulatedTime
) -> None:
    async def story(service_client: ServiceClient) -> None:
        await sign_in(service_client)
        for number in range(6):
            await outcome(sign_in(service_client, Secret(f"guess number {number}")))
        slept = len(time.slept)
        time.step(5)
        assert await outcome(sign_in(service_client)) == "generation 1"
        assert len(time.slept) == slept

    run_story(story)


def test_a_network_that_is_not_let_in_is_no_guess(run_story: RunStory, time: SimulatedTime) -> None:
    async def story(service_client: ServiceClient) -> None:
        for _ in range(50):
            assert await outcome(come(service_client, HERE)) == f"NotPermitted: {WRONG_CREDENTIALS}"
        assert await outcome(sign_in(service_client)) == "generation 1"
        assert time.slept == []

    run_story(story)

"""The relay's door against a real service on its socket: right sign-ins are quick, wrong ones teach nobody anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import START, FakeClock, FakeProvider
from served import ADMIN, IMAP, POP, SMTP, SimulatedTime, a_service, all_that_lasts, listening

from adapters.bootstrap import Service
from adapters.relay.changes import Change
from adapters.relay.door import Admission, MailServerAddress, ServiceDoor
from adapters.relay.guesses import Guesses
from adapters.relay.right_passwords import RightPasswords
from domain.catalogue import Protocol
from domain.errors import MailtokenError, NotPermitted, Refused, Unreachable
from domain.secret import Secret

PASSWORD, OTHER = Secret("a-password-in-clear"), Secret("another-password-in-clear")
HERE, THERE = "192.0.2.1", "192.0.2.2"
FLOOR = "10.20.30.7"
DEADLINE_SECONDS = 30
WRONG = "wrong user, password or network"


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
    with listening(service) as path:
        yield path


class Asked:
    """Counts what is asked of the service's own use cases."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.admissions = 0
        admit = service.relay_users.admit

        def counted(*sign_in: object) -> object:
            self.admissions += 1
            return admit(*sign_in)  # type: ignore[arg-type]

        monkeypatch.setattr(service.relay_users, "admit", counted)


@pytest.fixture
def asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(service, monkeypatch)


class Memory(RightPasswords):
    """Says when the service has told that something has changed."""

    def __init__(self, time: SimulatedTime) -> None:
        super().__init__(time.clock, time.monotonic)
        self._told = threading.Event()

    def forget(self, change: Change) -> None:
        super().forget(change)
        self._told.set()

    def wait_until_told(self) -> None:
        """Wait for the next time that something was told."""
        assert self._told.wait(DEADLINE_SECONDS)
        self._told.clear()


@pytest.fixture
def memory(time: SimulatedTime) -> Memory:
    return Memory(time)


Story = Callable[[ServiceDoor], Awaitable[None]]
Tell = Callable[[Story], None]


@pytest.fixture
def tell(socket: Path, memory: Memory, time: SimulatedTime) -> Tell:
    """Run a story at a door that hears of changes; time passes when somebody sleeps."""

    def run(story: Story) -> None:
        async def at_the_door() -> None:
            async with ServiceDoor(socket, memory, Guesses(time.monotonic, time.skip)) as door:
                await asyncio.to_thread(memory.wait_until_told)
                await story(door)

        asyncio.run(at_the_door())

    return run


def sign_in(
    door: ServiceDoor, password: Secret = PASSWORD, user: str = "printers", address: str = HERE
) -> Awaitable[Admission]:
    return door.admit(Protocol.SMTP, address, user, password)


def come(door: ServiceDoor, address: str = FLOOR) -> Awaitable[Admission]:
    return door.admit(Protocol.SMTP, address, None, None)


async def outcome(attempt: Awaitable[Admission]) -> str:
    try:
        return f"generation {(await attempt).generation}"
    except MailtokenError as error:
        return f"{type(error).__name__}: {error}"


# What the door says


def test_an_admission_has_all_that_is_needed_to_sign_in_upstream(tell: Tell, service: Service) -> None:
    token = service.tokens.access_token(SMTP, None, "client").credential.access_token

    async def story(door: ServiceDoor) -> None:
        admission = await sign_in(door)
        assert admission == Admission(
            "printers",
            SMTP,
            Protocol.SMTP,
            "smtp.contoso.com",
            587,
            "starttls",
            20,
            "scan@contoso.com",
            None,
            token,
            START + timedelta(hours=1),
            1,
        )
        assert token.reveal() not in repr(admission)
        assert (await come(door)).user == "floor"
        assert await door.servers() == [
            MailServerAddress("imap.contoso.com", 143, "starttls", Protocol.IMAP),
            MailServerAddress("pop.contoso.com", 110, "starttls", Protocol.POP),
            MailServerAddress("smtp.contoso.com", 587, "starttls", Protocol.SMTP),
        ]

    tell(story)


def test_each_refusal_is_an_error_of_its_own(
    tell: Tell, service: Service, provider: FakeProvider, clock: FakeClock
) -> None:
    async def story(door: ServiceDoor) -> None:
        for wrong in (sign_in(door, OTHER), sign_in(door, user="ghost"), sign_in(door, Secret("\udcff\udcfe")),
                      sign_in(door, user="\udcff"), come(door, HERE),
                      door.admit(Protocol.POP, FLOOR, None, None)):  # fmt: skip
            assert await outcome(wrong) == f"NotPermitted: {WRONG}"
        not_retrieved = await outcome(door.admit(Protocol.IMAP, HERE, "printers", PASSWORD))
        assert not_retrieved == f"Refused: {IMAP}: the token is Not Retrieved: get a token first (mailtoken token get)"
        no_profile = await outcome(door.admit(Protocol.IMAP, FLOOR, "floor", OTHER))
        assert no_profile.startswith("Refused: relay user floor has no imap profile")
        clock.step(hours=2)
        provider.reachable = False
        assert (await outcome(sign_in(door))).startswith(f"Unreachable: {SMTP}: the access token has expired")

    tell(story)


def test_without_a_service_it_is_unreachable_and_says_what_to_do(tmp_path: Path) -> None:
    async def story() -> None:
        async with ServiceDoor(tmp_path / "nobody.sock") as door:
            for attempt in (sign_in(door), door.servers()):
                with pytest.raises(Unreachable) as refused:
                    await attempt
                assert str(refused.value) == (
                    f"the service is not running (no answer at {tmp_path / 'nobody.sock'}): "
                    "start it with mailtoken serve"
                )

    asyncio.run(story())


def test_a_service_that_answers_with_something_else_is_of_another_version(tmp_path: Path) -> None:
    async def story() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
            writer.close()

        async with await asyncio.start_unix_server(answer, tmp_path / "s"), ServiceDoor(tmp_path / "s") as door:
            with pytest.raises(Unreachable, match="something that is no JSON: is it of this version"):
                await door.servers()

    asyncio.run(story())


def test_a_service_that_was_started_again_is_asked_again(service: Service, clock: FakeClock) -> None:
    async def story() -> None:
        with listening(service) as path:
            door = await ServiceDoor(path, RightPasswords(clock)).__aenter__()
            await come(door)
        assert (await outcome(sign_in(door))).startswith("Unreachable: the service is not running")
        with listening(service):
            assert await outcome(sign_in(door)) == "generation 1"
        await door.__aexit__()

    asyncio.run(story())


def test_a_socket_whose_path_is_too_long_for_the_kernel_is_reached(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    directory = tmp_path / ("d" * 120)
    with a_service(directory, clock, provider) as service, listening(service) as path:

        async def story() -> None:
            async with ServiceDoor(path) as door:
                assert await door.servers() == []

        asyncio.run(story())


# Right passwords are remembered


def test_a_right_sign_in_is_asked_for_once_a_minute(tell: Tell, asked: Asked, time: SimulatedTime) -> None:
    async def story(door: ServiceDoor) -> None:
        first = await sign_in(door)
        await come(door)
        time.step(59)
        assert await sign_in(door) == first
        assert await sign_in(door, address=THERE) == first
        await come(door)
        assert asked.admissions == 2
        time.step(2)
        await sign_in(door)
        await come(door)
        assert asked.admissions == 4

    tell(story)


def test_only_what_was_right_is_remembered_and_for_that_alone(tell: Tell, asked: Asked) -> None:
    async def story(door: ServiceDoor) -> None:
        await sign_in(door)
        for _ in range(2):
            assert await outcome(sign_in(door, OTHER)) == f"NotPermitted: {WRONG}"
            assert await outcome(sign_in(door, user="floor")) == f"NotPermitted: {WRONG}"
            assert (await outcome(door.admit(Protocol.IMAP, HERE, "printers", PASSWORD))).startswith("Refused")
        assert asked.admissions == 7
        await come(door)
        assert await outcome(come(door, HERE)) == f"NotPermitted: {WRONG}"
        assert await outcome(come(door, "10.20.31.7")) == f"NotPermitted: {WRONG}"

    tell(story)


def test_a_token_that_is_soon_to_be_renewed_is_asked_for_each_time(
    tell: Tell, asked: Asked, clock: FakeClock, time: SimulatedTime
) -> None:
    async def story(door: ServiceDoor) -> None:
        clock.step(minutes=49, seconds=30)
        assert (await sign_in(door)).generation == 1
        time.step(29)
        assert (await sign_in(door)).generation == 1
        assert asked.admissions == 1
        time.step(2)
        assert (await sign_in(door)).generation == 2
        assert asked.admissions == 2

    tell(story)


def test_a_token_that_lives_for_seconds_is_never_remembered(
    tell: Tell, asked: Asked, service: Service, provider: FakeProvider
) -> None:
    provider.lifetime_seconds = 5
    service.tokens.renew(SMTP, ADMIN)

    async def story(door: ServiceDoor) -> None:
        await sign_in(door)
        await sign_in(door)
        assert asked.admissions == 2

    tell(story)


def test_what_has_changed_counts_at_once(tell: Tell, service: Service, memory: Memory, asked: Asked) -> None:
    async def story(door: ServiceDoor) -> None:
        await sign_in(door)
        await come(door)
        service.relay_users.set_password("printers", OTHER, ADMIN)
        await asyncio.to_thread(memory.wait_until_told)
        assert await outcome(sign_in(door)) == f"NotPermitted: {WRONG}"
        assert await outcome(sign_in(door, OTHER)) == "generation 1"
        assert asked.admissions == 4
        await come(door)
        assert asked.admissions == 4, "whom it does not concern is remembered"
        service.tokens.delete(SMTP, ADMIN)
        await asyncio.to_thread(memory.wait_until_told)
        assert (await outcome(sign_in(door, OTHER))).startswith("Refused")
        assert (await outcome(come(door))).startswith("Refused")

    tell(story)


def test_a_renewal_changes_nothing(tell: Tell, service: Service, memory: Memory, asked: Asked) -> None:
    async def story(door: ServiceDoor) -> None:
        await sign_in(door)
        service.tokens.renew(SMTP, ADMIN)
        service.relay_users.map("floor", [SMTP], ADMIN)
        await asyncio.to_thread(memory.wait_until_told)
        assert await outcome(sign_in(door)) == "generation 1"
        assert asked.admissions == 1

    tell(story)


def test_an_answer_from_before_a_change_does_not_count(
    tell: Tell, service: Service, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = service.relay_users.admit

    def slow(*sign_in: object) -> object:
        admitted = admit(*sign_in)  # type: ignore[arg-type]
        monkeypatch.setattr(service.relay_users, "admit", admit)
        service.relay_users.remove("printers", ADMIN)
        memory.wait_until_told()
        return admitted

    monkeypatch.setattr(service.relay_users, "admit", slow)

    async def story(door: ServiceDoor) -> None:
        assert await outcome(sign_in(door)) == f"NotPermitted: {WRONG}"

    tell(story)


def test_while_the_service_is_away_a_right_sign_in_is_good_for_a_minute(
    service: Service, memory: Memory, time: SimulatedTime
) -> None:
    async def story() -> None:
        with listening(service) as path:
            door = await ServiceDoor(path, memory).__aenter__()
            await asyncio.to_thread(memory.wait_until_told)
            await sign_in(door)
        assert await outcome(sign_in(door)) == "generation 1"
        time.step(61)
        assert (await outcome(sign_in(door))).startswith("Unreachable")
        await door.__aexit__()

    asyncio.run(story())


def test_what_has_changed_while_the_service_was_away_is_told_when_it_is_back(service: Service, memory: Memory) -> None:
    async def story() -> None:
        with listening(service) as path:
            door = await ServiceDoor(path, memory).__aenter__()
            await asyncio.to_thread(memory.wait_until_told)
            await sign_in(door)
            await come(door)
        heard: list[Change] = []
        door.listeners.append(heard.append)
        service.relay_users.set_password("printers", OTHER, ADMIN)
        with listening(service):
            await asyncio.to_thread(memory.wait_until_told)
            assert await outcome(sign_in(door)) == f"NotPermitted: {WRONG}"
        assert heard == [Change(["printers"], [])]
        await door.__aexit__()

    asyncio.run(story())


def test_a_service_that_tells_of_no_changes_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.door._HEARING_SECONDS", 0.05)

    async def story() -> None:
        async with ServiceDoor(tmp_path / "nobody.sock") as door:
            with pytest.raises(Unreachable, match="tells of no changes"):
                await door.hears()

    asyncio.run(story())


def test_equal_sign_ins_at_once_are_one_and_who_leaves_takes_nobody_along(tell: Tell, asked: Asked) -> None:
    async def story(door: ServiceDoor) -> None:
        attempts = [asyncio.ensure_future(sign_in(door, address=f"192.0.2.{n % 3}")) for n in range(60)]
        await asyncio.sleep(0)
        attempts[0].cancel()
        admissions = await asyncio.gather(*attempts[1:])
        assert {admission.generation for admission in admissions} == {1}
        assert asked.admissions == 1

    tell(story)


def test_no_password_is_kept_in_the_memory(tell: Tell) -> None:
    async def story(door: ServiceDoor) -> None:
        await sign_in(door)
        kept = repr({proof: vars(one) for proof, one in door._memory._remembered.items()})
        assert "printers" in kept
        assert "in-clear" not in kept

    tell(story)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, time: SimulatedTime, tell: Tell) -> None:
    monkeypatch.setattr("adapters.relay.right_passwords._MOST", 10)

    async def story(door: ServiceDoor) -> None:
        admission = await sign_in(door)
        for number in range(50):
            door._memory.remember(str(number).encode(), admission)
        assert len(door._memory._remembered) == 10
        assert door._memory.get(b"49") == admission
        assert door._memory.get(b"39") is None

    tell(story)


# A token the mail server rejected


def test_a_rejected_token_is_renewed_and_the_newer_one_remembered(
    tell: Tell, asked: Asked, provider: FakeProvider
) -> None:
    async def story(door: ServiceDoor) -> None:
        rejected = await sign_in(door)
        newer = await asyncio.gather(*(door.renewed(rejected) for _ in range(10)))
        assert {one.generation for one in newer} == {2}
        assert newer[0].access_token != rejected.access_token
        assert await sign_in(door) == newer[0]
        assert asked.admissions == 1
        assert await door.renewed(rejected) == newer[0]
        assert provider.requests.count("refresh") == 1

    tell(story)


def test_what_cant_be_renewed_is_forgotten_and_says_why(tell: Tell, asked: Asked, provider: FakeProvider) -> None:
    async def story(door: ServiceDoor) -> None:
        rejected = await sign_in(door)
        provider.kill_grants()
        with pytest.raises(Refused, match=f"{SMTP}: the token is Invalid"):
            await door.renewed(rejected)
        assert (await outcome(sign_in(door))).startswith(f"Refused: {SMTP}: the token is Invalid")
        with pytest.raises(NotPermitted):
            await door.renewed(replace(rejected, profile=POP))

    tell(story)


# Guessing


def test_ten_thousand_wrong_passwords_slow_their_source_alone_and_change_nothing(
    tell: Tell, service: Service, time: SimulatedTime, asked: Asked
) -> None:
    before = all_that_lasts(service)

    async def story(door: ServiceDoor) -> None:
        for number in range(10_000):
            assert await outcome(sign_in(door, Secret(f"guess number {number}"))) == f"NotPermitted: {WRONG}"
            if number % 500 == 0:
                slept = len(time.slept)
                assert await outcome(sign_in(door, address=THERE)) == "generation 1"
                assert await outcome(come(door)) == "generation 1"
                assert len(time.slept) == slept
        assert time.slept[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
        assert len(time.slept) == 10_000 - 5
        assert sum(time.slept) > 10_000 * 7

    # The service's own clock stands still: its token is not to run out while the guesser waits for a day.
    time.clock = FakeClock()
    tell(story)
    assert all_that_lasts(service) == before


def test_a_guessing_source_is_refused_at_once_when_enough_of_its_attempts_wait(
    socket: Path, time: SimulatedTime, asked: Asked
) -> None:
    async def story() -> None:
        guesses = Guesses(time.monotonic, time.sleep)
        async with ServiceDoor(socket, RightPasswords(time.clock, time.monotonic), guesses) as door:
            for number in range(5):
                await outcome(sign_in(door, Secret(f"guess number {number}")))
            waiting = [asyncio.create_task(outcome(sign_in(door, Secret(f"more guess {n}")))) for n in range(4)]
            await asyncio.sleep(0.01)
            before = asked.admissions
            crowded = f"Unreachable: too many wrong passwords came from {HERE}: wait a little"
            assert await outcome(sign_in(door, Secret("one more guess"))) == crowded
            assert await outcome(sign_in(door)) == crowded
            assert asked.admissions == before
            assert await outcome(sign_in(door, address=THERE)) == "generation 1"
            await time.advance(0.5)
            assert set(await asyncio.gather(*waiting)) == {f"NotPermitted: {WRONG}"}

    asyncio.run(story())


def test_a_right_password_that_is_remembered_does_not_wait_beside_a_guesser(tell: Tell, time: SimulatedTime) -> None:
    async def story(door: ServiceDoor) -> None:
        await sign_in(door)
        for number in range(6):
            await outcome(sign_in(door, Secret(f"guess number {number}")))
        slept = len(time.slept)
        time.step(5)
        assert await outcome(sign_in(door)) == "generation 1"
        assert len(time.slept) == slept

    tell(story)


def test_a_network_that_is_not_let_in_is_no_guess(tell: Tell, time: SimulatedTime) -> None:
    async def story(door: ServiceDoor) -> None:
        for _ in range(50):
            assert await outcome(come(door, HERE)) == f"NotPermitted: {WRONG}"
        assert await outcome(sign_in(door)) == "generation 1"
        assert time.slept == []

    tell(story)

"""Telling people: once for each event and channel, again after a crash under the same key, and nothing secret."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fakes import SCANNER, START, FakeClock, FakeProvider, Services, error
from store_examples import as_text, change, everything
from structlog.testing import capture_logs

from domain.errors import Failed, MailtokenError, Unreachable
from domain.notice import Notice, Occasion
from domain.renewal import GrantLimits
from infrastructure.attention import Attention
from infrastructure.claims import STALE_AFTER_SECONDS
from infrastructure.escrow import Work
from infrastructure.notices import Channel, Notifier
from infrastructure.sealing import Sealer
from infrastructure.store import Store

SECRET = "https://hooks.example.com/T0/secret-in-the-address"
LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


class Pigeon:
    """A channel that keeps what it was given; it fails while `trouble` is set, before or after that."""

    def __init__(self, name: str = "pigeon") -> None:
        self.name = name
        self.notices: list[Notice] = []
        self.trouble: BaseException | None = None
        self.after_delivery = False
        self.tried = 0

    def tell(self, notice: Notice) -> None:
        self.tried += 1
        if self.trouble and not self.after_delivery:
            raise self.trouble
        self.notices.append(notice)
        if self.trouble:
            raise self.trouble

    @property
    def told(self) -> list[tuple[Occasion, str | None]]:
        return [(notice.occasion, notice.attention) for notice in self.notices]


class Killed(BaseException):
    """What ends a process at this point."""


@pytest.fixture
def pigeon() -> Pigeon:
    return Pigeon()


@pytest.fixture
def name(service: Services) -> str:
    """A setting with a token that was just obtained."""
    name = service.add_machine()[0]
    service.get_token(name)
    return name


def notifier(service: Services, *channels: Channel, secret_expires_at: datetime | None = None) -> Notifier:
    attention = Attention(service.tokens, service.clock, LIMITS, {"contoso": secret_expires_at})
    return Notifier(service.store, service.claims, service.clock, attention, channels)


def invalidate(service: Services, provider: FakeProvider, name: str) -> None:
    provider.answers(error("invalid_grant"))
    with pytest.raises(Failed):
        service.tokens.renew(name, "administrator")


# Once


def test_people_are_told_once_that_a_token_needs_them_and_once_that_it_works_again(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    looking = notifier(service, pigeon)
    assert looking.tell_what_is_new() == 0
    invalidate(service, provider, name)
    clock.step(seconds=10)
    assert [looking.tell_what_is_new() for _ in range(3)] == [1, 0, 0]
    (notice,) = pigeon.notices
    assert (notice.occasion, notice.attention) == (Occasion.NEEDS_PERSON, "invalid_grant")
    assert (notice.account, notice.provider, notice.at) == (SCANNER, "contoso", clock.instant)
    assert set(notice.profiles) == {f"office-mfp/smtp-{one}" for one in ("service", "alert", "quick", "initial")}
    clock.step(minutes=1)
    service.tokens.renew(name, "administrator")
    assert [looking.tell_what_is_new() for _ in range(3)] == [1, 0, 0]
    assert pigeon.told[1:] == [(Occasion.RECOVERED, None)]
    assert len({notice.key for notice in pigeon.notices}) == 2


def test_people_are_told_of_each_token_and_through_each_channel(
    service: Services, clock: FakeClock, provider: FakeProvider, name: str
) -> None:
    pop = "office-mfp/pop-email-print"
    service.get_token(pop)
    invalidate(service, provider, name)
    invalidate(service, provider, pop)
    one, other = Pigeon("one"), Pigeon("other")
    assert notifier(service, one, other).tell_what_is_new() == 4
    assert {notice.profiles[0] for notice in one.notices} >= {pop}
    assert [notice.key for notice in one.notices] == [notice.key for notice in other.notices]


def test_a_restart_tells_nothing_again(service: Services, provider: FakeProvider, pigeon: Pigeon, name: str) -> None:
    invalidate(service, provider, name)
    notifier(service, pigeon).tell_what_is_new()
    assert notifier(service.restart(), pigeon).tell_what_is_new() == 0


@pytest.mark.parametrize("after_delivery", [False, True])
def test_killed_while_telling_it_tells_again_under_the_same_key(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str, after_delivery: bool
) -> None:
    invalidate(service, provider, name)
    pigeon.trouble, pigeon.after_delivery = Killed(), after_delivery
    with pytest.raises(Killed):
        notifier(service, pigeon).tell_what_is_new()
    pigeon.trouble = None
    clock.step(minutes=5)
    looking = notifier(service.restart(), pigeon)
    assert [looking.tell_what_is_new(), looking.tell_what_is_new()] == [1, 0]
    assert len(pigeon.notices) == 1 + after_delivery
    assert len({notice.key for notice in pigeon.notices}) == 1


# On several nodes


@pytest.fixture
def other_node(service: Services) -> Services:
    """The service of another node on the same store; its escrow is elsewhere."""
    return replace(service, directory=service.directory / "another-node")


def test_while_one_node_tells_no_other_does(
    service: Services, other_node: Services, provider: FakeProvider, name: str
) -> None:
    invalidate(service, provider, name)
    delivered: list[int] = []

    class Watched(Pigeon):
        def tell(self, notice: Notice) -> None:
            delivered.append(notifier(other_node, Pigeon()).tell_what_is_new())
            super().tell(notice)

    watched = Watched()
    assert notifier(service, watched).tell_what_is_new() == 1
    assert delivered == [0]
    assert notifier(other_node, Pigeon()).tell_what_is_new() == 0
    assert everything(service.store)["claim"] == []


def test_what_another_node_has_told_since_a_node_looked_is_not_told_again(
    service: Services, other_node: Services, provider: FakeProvider, clock: FakeClock, name: str
) -> None:
    invalidate(service, provider, name)
    one, other = Pigeon("one"), Pigeon("other")

    class Slow(Pigeon):
        def tell(self, notice: Notice) -> None:
            """Meanwhile another node tells through the other channel, also that all is well again."""
            elsewhere = notifier(other_node, other)
            elsewhere.tell_what_is_new()
            clock.step(minutes=1)
            service.tokens.renew(name, "administrator")
            elsewhere.tell_what_is_new()
            super().tell(notice)

    slow = Slow("one")
    assert notifier(service, slow, other).tell_what_is_new() == 1
    assert other.told == [(Occasion.NEEDS_PERSON, "invalid_grant"), (Occasion.RECOVERED, None)]
    assert notifier(service, one, other).tell_what_is_new() == 1
    assert one.told == [(Occasion.RECOVERED, None)]


@pytest.mark.parametrize(
    "death",
    [
        "UPDATE claim SET process = '999999999:1'",
        f"UPDATE claim SET node = 'elsewhere:', taken_at = taken_at - {STALE_AFTER_SECONDS + 1}",
    ],
)
def test_what_a_node_died_at_another_run_or_node_tells(
    service: Services, provider: FakeProvider, pigeon: Pigeon, name: str, death: str
) -> None:
    invalidate(service, provider, name)
    token_id = service.tokens.status(name).profile.token_id
    assert service.claims.take(Work("notice pigeon", token_id, "a-notice", 0))
    looking = notifier(service, pigeon)
    assert looking.tell_what_is_new() == 0
    change(service.store, death)
    assert looking.tell_what_is_new() == 1
    assert everything(service.store)["claim"] == []


def test_the_same_trouble_later_is_another_notice_under_another_key(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    looking = notifier(service, pigeon)
    for _ in range(3):
        invalidate(service, provider, name)
        clock.step(minutes=1)
        looking.tell_what_is_new()
        service.tokens.renew(name, "administrator")
        clock.step(minutes=1)
        looking.tell_what_is_new()
    assert pigeon.told == [(Occasion.NEEDS_PERSON, "invalid_grant"), (Occasion.RECOVERED, None)] * 3
    assert len({notice.key for notice in pigeon.notices}) == 6


def test_reminders_come_ever_more_rarely(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    invalidate(service, provider, name)
    for _ in range(65 * 4):
        notifier(service, pigeon).tell_what_is_new()
        clock.step(hours=6)
    days = [(notice.at - START) / timedelta(days=1) for notice in pigeon.notices]
    assert days == [0, 1, 3, 7, 15, 31, 47, 63]
    assert pigeon.told[1:] == [(Occasion.REMINDER, "invalid_grant")] * 7
    assert len({notice.key for notice in pigeon.notices}) == 8


# What is no recovery


def test_a_token_that_is_deleted_does_not_work_again_until_there_is_a_new_one(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    looking = notifier(service, pigeon)
    invalidate(service, provider, name)
    looking.tell_what_is_new()
    clock.step(minutes=1)
    service.tokens.delete(name, "administrator")
    clock.step(days=40)
    assert looking.tell_what_is_new() == 0
    service.get_token(name)
    assert looking.tell_what_is_new() == 1
    assert pigeon.told[1:] == [(Occasion.RECOVERED, None)]


def test_a_sign_in_that_has_begun_is_no_recovery(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    looking = notifier(service, pigeon)
    invalidate(service, provider, name)
    looking.tell_what_is_new()
    service.tokens.request(name, None, "administrator")
    clock.step(minutes=1)
    assert (service.label(name), looking.tell_what_is_new()) == ("Waiting for authorisation", 0)


def test_an_alarm_that_a_restart_forgot_is_no_recovery(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    provider.answers(error("invalid_client", 401))
    with pytest.raises(Unreachable):
        service.tokens.renew(name, "administrator")
    looking = notifier(service, pigeon)
    assert looking.tell_what_is_new() == 1
    again = service.restart()
    clock.step(minutes=1)
    assert notifier(again, pigeon).tell_what_is_new() == 0
    again.tokens.renew(name, "administrator")
    assert notifier(again, pigeon).tell_what_is_new() == 1
    assert pigeon.told == [(Occasion.ABOUT_TO_END, "client_registration"), (Occasion.RECOVERED, None)]


# Of a provider


def test_what_is_wrong_with_a_provider_is_told_once_and_not_for_each_of_its_tokens(
    service: Services, clock: FakeClock, provider: FakeProvider, pigeon: Pigeon, name: str
) -> None:
    pop = "office-mfp/pop-email-print"
    service.get_token(pop)
    soon = notifier(service, pigeon, secret_expires_at=START + timedelta(days=20))
    assert [soon.tell_what_is_new(), soon.tell_what_is_new()] == [1, 0]
    (notice,) = pigeon.notices
    assert (notice.occasion, notice.attention) == (Occasion.ABOUT_TO_END, "client_secret_expires")
    assert len(notice.profiles) == 5
    assert (notice.account, notice.provider) == (SCANNER, "contoso")
    invalidate(service, provider, pop)
    assert soon.tell_what_is_new() == 1
    assert (pigeon.notices[1].profiles, pigeon.notices[1].attention) == ((pop,), "invalid_grant")
    clock.step(hours=1)
    assert notifier(service, pigeon, secret_expires_at=START + timedelta(days=700)).tell_what_is_new() == 1
    assert pigeon.told[2:] == [(Occasion.RECOVERED, None)]


def test_a_token_that_was_to_end_did_not_recover_because_its_provider_is_in_trouble(
    service: Services, clock: FakeClock, pigeon: Pigeon, name: str
) -> None:
    clock.step(days=80)
    notifier(service, pigeon).tell_what_is_new()
    trouble = notifier(service, pigeon, secret_expires_at=clock.instant)
    assert trouble.tell_what_is_new() == 1
    assert [code for _, code in pigeon.told] == ["grant_ends", "client_secret_expires"]


# Trouble on the way


def test_a_notice_that_is_not_delivered_is_tried_again_and_not_by_the_other_channel(
    service: Services, provider: FakeProvider, name: str
) -> None:
    invalidate(service, provider, name)
    broken, fine = Pigeon("broken"), Pigeon("fine")
    broken.trouble = Unreachable("no wind")
    looking = notifier(service, broken, fine)
    assert looking.tell_what_is_new() == 1
    broken.trouble = None
    assert looking.tell_what_is_new() == 1
    assert (len(broken.notices), len(fine.notices)) == (1, 1)


@pytest.mark.parametrize(("trouble", "tried"), [(Unreachable("down"), 1), (Failed("bad"), 2), (KeyError("x"), 2)])
def test_a_channel_that_is_down_is_left_alone_and_one_that_chokes_gets_the_others(
    service: Services, provider: FakeProvider, pigeon: Pigeon, name: str, trouble: MailtokenError, tried: int
) -> None:
    pop = "office-mfp/pop-email-print"
    service.get_token(pop)
    invalidate(service, provider, name)
    invalidate(service, provider, pop)
    pigeon.trouble = trouble
    assert notifier(service, pigeon).tell_what_is_new() == 0
    assert pigeon.tried == tried


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        (ConnectionError(f"Max retries exceeded with url: {SECRET}"), "ConnectionError"),
        (ValueError(SECRET), "ValueError"),
        (Failed("the webhook answered 404"), "the webhook answered 404"),
        (Unreachable("the webhook can't be reached (SSLError)"), "the webhook can't be reached (SSLError)"),
    ],
)
def test_what_is_logged_of_the_trouble_holds_no_secret(
    service: Services, provider: FakeProvider, pigeon: Pigeon, name: str, trouble: Exception, line: str
) -> None:
    invalidate(service, provider, name)
    pigeon.trouble = trouble
    with capture_logs() as logs:
        notifier(service, pigeon).tell_what_is_new()
    assert logs == [{"event": "notice_not_delivered", "log_level": "warning", "why": "pigeon", "error": line}]


def test_a_notice_holds_no_secret(service: Services, provider: FakeProvider, pigeon: Pigeon, name: str) -> None:
    invalidate(service, provider, name)
    notifier(service, pigeon).tell_what_is_new()
    text = as_text([repr(pigeon.notices), pigeon.notices[0].key])
    assert "in-clear" not in text
    assert "CODE-" not in text


def test_the_thread_tells_and_stops_between_two_notices(
    store: Store, store_id: str, sealer: Sealer, tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    service = Services(store, sealer, store_id, tmp_path, clock, {provider.name: provider})
    for name in ("office-mfp/smtp-service", "office-mfp/pop-email-print"):
        if name.endswith("service"):
            service.add_machine()
        service.get_token(name)
        invalidate(service, provider, name)
    held, go_on = threading.Event(), threading.Event()

    class Slow(Pigeon):
        def tell(self, notice: Notice) -> None:
            held.set()
            assert go_on.wait(30)
            super().tell(notice)

    slow = Slow()
    looking = notifier(service, slow)
    looking.start()
    assert held.wait(30)
    stopping = threading.Thread(target=looking.stop)
    stopping.start()
    deadline = time.monotonic() + 30
    while not looking._stop.is_set():
        assert time.monotonic() < deadline
    go_on.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert len(slow.notices) == 1


def test_with_nobody_to_tell_there_is_no_thread(service: Services) -> None:
    looking = notifier(service)
    looking.start()
    looking.stop()
    assert looking.tell_what_is_new() == 0

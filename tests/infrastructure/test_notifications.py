"""Telling people: once for each event and channel, again after a crash under the same key, and nothing secret."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from fakes import SCANNER, START, FakeClock, FakeProvider, Services, error
from store_examples import as_text, change, everything
from structlog.testing import capture_logs
from waiting import wait_until

from domain.errors import Failed, MailtokenError, Unreachable
from domain.log_hold import LogHold
from domain.notification import Notification, Topic, Trigger
from domain.renewal import GrantLimits
from domain.store_attention import CertificateExpiry
from infrastructure.encryption.envelope import Sealer
from infrastructure.notifications import Channel, Notifier
from infrastructure.queries.attention import Attention
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.store import Store
from infrastructure.tokens.claims import STALE_AFTER_SECONDS
from infrastructure.upkeep.backup import note_backup

SECRET = "https://hooks.example.com/T0/secret-in-the-address"
ADMIN = "administrator:admin"
LIMITS = {"contoso": GrantLimits(timedelta(days=90))}


class RecordingChannel:
    """A channel that keeps what it was given; it fails while `trouble` is set, before or after that."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.notifications: list[Notification] = []
        self.trouble: BaseException | None = None
        self.after_delivery = False
        self.tried = 0

    def deliver(self, notification: Notification) -> None:
        self.tried += 1
        if self.trouble and not self.after_delivery:
            raise self.trouble
        self.notifications.append(notification)
        if self.trouble:
            raise self.trouble

    @property
    def sent(self) -> list[tuple[Trigger, str | None]]:
        return [(notification.trigger, notification.attention) for notification in self.notifications]


class Killed(BaseException):
    """What ends a process at this point."""


@pytest.fixture
def channel() -> RecordingChannel:
    return RecordingChannel()


@pytest.fixture
def name(service: Services) -> str:
    """A setting with a token that was just obtained."""
    name = service.add_machine()[0]
    service.get_token(name)
    return name


def a_notifier(
    service: Services,
    *channels: Channel,
    secret_expires_at: datetime | None = None,
    certificates: Sequence[CertificateExpiry] = (),
    providers: Sequence[str] = ("contoso",),
) -> Notifier:
    expiries = {"contoso": secret_expires_at}
    attention = Attention(service.store, service.tokens.alarms, service.clock, LIMITS, expiries, providers=providers)
    state = StoreStateQuery(service.store, service.clock, timedelta(days=2), lambda: certificates)
    return Notifier(service.store, service.claims, service.clock, attention, channels, state)


def invalidate(service: Services, provider: FakeProvider, name: str) -> None:
    provider.answers(error("invalid_grant"))
    with pytest.raises(Failed):
        service.tokens.renew(name, "administrator")


# Once


def test_people_are_told_once_that_a_token_needs_them_and_once_that_it_works_again(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    notifier = a_notifier(service, channel)
    assert notifier.send_new() == 0
    invalidate(service, provider, name)
    clock.step(seconds=10)
    assert [notifier.send_new() for _ in range(3)] == [1, 0, 0]
    (notification,) = channel.notifications
    assert (notification.trigger, notification.attention) == (Trigger.NEEDS_PERSON, "invalid_grant")
    assert (notification.account, notification.provider, notification.at) == (SCANNER, "contoso", clock.instant)
    assert set(notification.profiles) == {f"office-mfp/smtp-{one}" for one in ("service", "alert", "quick", "initial")}
    clock.step(minutes=1)
    service.tokens.renew(name, "administrator")
    assert [notifier.send_new() for _ in range(3)] == [1, 0, 0]
    assert channel.sent[1:] == [(Trigger.RECOVERED, None)]
    assert len({notification.key for notification in channel.notifications}) == 2


def test_people_are_told_of_each_token_and_through_each_channel(
    service: Services, provider: FakeProvider, name: str
) -> None:
    pop = "office-mfp/pop-email-print"
    service.get_token(pop)
    invalidate(service, provider, name)
    invalidate(service, provider, pop)
    one, other = RecordingChannel("one"), RecordingChannel("other")
    assert a_notifier(service, one, other).send_new() == 4
    assert {notification.profiles[0] for notification in one.notifications} >= {pop}
    assert [notification.key for notification in one.notifications] == [
        notification.key for notification in other.notifications
    ]


def test_a_restart_tells_nothing_again(
    service: Services, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    invalidate(service, provider, name)
    a_notifier(service, channel).send_new()
    assert a_notifier(service.restart(), channel).send_new() == 0


@pytest.mark.parametrize("after_delivery", [False, True])
def test_killed_while_telling_it_tells_again_under_the_same_key(
    service: Services,
    clock: FakeClock,
    provider: FakeProvider,
    channel: RecordingChannel,
    name: str,
    after_delivery: bool,
) -> None:
    invalidate(service, provider, name)
    channel.trouble, channel.after_delivery = Killed(), after_delivery
    with pytest.raises(Killed):
        a_notifier(service, channel).send_new()
    channel.trouble = None
    clock.step(minutes=5)
    notifier = a_notifier(service.restart(), channel)
    assert [notifier.send_new(), notifier.send_new()] == [1, 0]
    assert len(channel.notifications) == 1 + after_delivery
    assert len({notification.key for notification in channel.notifications}) == 1


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

    class Watched(RecordingChannel):
        def deliver(self, notification: Notification) -> None:
            delivered.append(a_notifier(other_node, RecordingChannel()).send_new())
            super().deliver(notification)

    watched = Watched()
    assert a_notifier(service, watched).send_new() == 1
    assert delivered == [0]
    assert a_notifier(other_node, RecordingChannel()).send_new() == 0
    assert everything(service.store)["claim"] == []


def test_what_another_node_has_told_since_a_node_looked_is_not_told_again(
    service: Services, other_node: Services, provider: FakeProvider, clock: FakeClock, name: str
) -> None:
    invalidate(service, provider, name)
    one, other = RecordingChannel("one"), RecordingChannel("other")

    class Slow(RecordingChannel):
        def deliver(self, notification: Notification) -> None:
            """Meanwhile another node tells through the other channel, also that all is well again."""
            elsewhere = a_notifier(other_node, other)
            elsewhere.send_new()
            clock.step(minutes=1)
            service.tokens.renew(name, "administrator")
            elsewhere.send_new()
            super().deliver(notification)

    slow = Slow("one")
    assert a_notifier(service, slow, other).send_new() == 1
    assert other.sent == [(Trigger.NEEDS_PERSON, "invalid_grant"), (Trigger.RECOVERED, None)]
    assert a_notifier(service, one, other).send_new() == 1
    assert one.sent == [(Trigger.RECOVERED, None)]


@pytest.mark.parametrize(
    "death",
    [
        "UPDATE claim SET process = '999999999:1'",
        f"UPDATE claim SET node = 'elsewhere:', taken_at = taken_at - {STALE_AFTER_SECONDS + 1}",
    ],
)
def test_what_a_node_died_at_another_run_or_node_tells(
    service: Services, provider: FakeProvider, channel: RecordingChannel, name: str, death: str
) -> None:
    invalidate(service, provider, name)
    token_id = service.tokens.status(name).profile.token_id
    assert service.claims.take(ClaimKey("notice recorder", token_id, "a-notice", 0))
    notifier = a_notifier(service, channel)
    assert notifier.send_new() == 0
    change(service.store, death)
    assert notifier.send_new() == 1
    assert everything(service.store)["claim"] == []


def test_the_same_trouble_later_is_another_notification_under_another_key(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    notifier = a_notifier(service, channel)
    for _ in range(3):
        invalidate(service, provider, name)
        clock.step(minutes=1)
        notifier.send_new()
        service.tokens.renew(name, "administrator")
        clock.step(minutes=1)
        notifier.send_new()
    assert channel.sent == [(Trigger.NEEDS_PERSON, "invalid_grant"), (Trigger.RECOVERED, None)] * 3
    assert len({notification.key for notification in channel.notifications}) == 6


def test_reminders_come_ever_more_rarely(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    invalidate(service, provider, name)
    for _ in range(65 * 4):
        a_notifier(service, channel).send_new()
        clock.step(hours=6)
    days = [(notification.at - START) / timedelta(days=1) for notification in channel.notifications]
    assert days == [0, 1, 3, 7, 15, 31, 47, 63]
    assert channel.sent[1:] == [(Trigger.REMINDER, "invalid_grant")] * 7
    assert len({notification.key for notification in channel.notifications}) == 8


# What is no recovery


def test_a_token_that_is_deleted_does_not_work_again_until_there_is_a_new_one(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    notifier = a_notifier(service, channel)
    invalidate(service, provider, name)
    notifier.send_new()
    clock.step(minutes=1)
    service.tokens.delete(name, "administrator")
    clock.step(days=40)
    assert notifier.send_new() == 0
    service.get_token(name)
    assert notifier.send_new() == 1
    assert channel.sent[1:] == [(Trigger.RECOVERED, None)]


def test_a_sign_in_that_has_begun_is_no_recovery(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    notifier = a_notifier(service, channel)
    invalidate(service, provider, name)
    notifier.send_new()
    service.tokens.request(name, None, "administrator")
    clock.step(minutes=1)
    assert (service.label(name), notifier.send_new()) == ("Waiting for authorisation", 0)


def test_an_alarm_that_a_restart_forgot_is_no_recovery(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    provider.answers(error("invalid_client", 401))
    with pytest.raises(Unreachable):
        service.tokens.renew(name, "administrator")
    notifier = a_notifier(service, channel)
    assert notifier.send_new() == 1
    again = service.restart()
    clock.step(minutes=1)
    assert a_notifier(again, channel).send_new() == 0
    again.tokens.renew(name, "administrator")
    assert a_notifier(again, channel).send_new() == 1
    assert channel.sent == [(Trigger.ABOUT_TO_END, "client_registration"), (Trigger.RECOVERED, None)]


# Of a provider


def test_what_is_wrong_with_a_provider_is_told_once_and_not_for_each_of_its_tokens(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    pop = "office-mfp/pop-email-print"
    service.get_token(pop)
    soon = a_notifier(service, channel, secret_expires_at=START + timedelta(days=20))
    assert [soon.send_new(), soon.send_new()] == [1, 0]
    (notification,) = channel.notifications
    assert (notification.trigger, notification.attention) == (Trigger.ABOUT_TO_END, "client_secret_expires")
    assert len(notification.profiles) == 5
    assert (notification.account, notification.provider) == (SCANNER, "contoso")
    invalidate(service, provider, pop)
    assert soon.send_new() == 1
    assert (channel.notifications[1].profiles, channel.notifications[1].attention) == ((pop,), "invalid_grant")
    clock.step(hours=1)
    assert a_notifier(service, channel, secret_expires_at=START + timedelta(days=700)).send_new() == 1
    assert channel.sent[2:] == [(Trigger.RECOVERED, None)]


def test_a_provider_that_left_the_configuration_is_told_once_with_all_its_settings(
    service: Services, channel: RecordingChannel, name: str
) -> None:
    service.get_token("office-mfp/pop-email-print")
    notifier = a_notifier(service, channel, providers=())
    assert [notifier.send_new() for _ in range(2)] == [1, 0]
    [notification] = channel.notifications
    assert (notification.attention, notification.provider) == ("provider_left", "contoso")
    assert {name, "office-mfp/pop-email-print"} <= set(notification.profiles)


def test_a_token_that_was_to_end_did_not_recover_because_its_provider_is_in_trouble(
    service: Services, clock: FakeClock, channel: RecordingChannel, name: str
) -> None:
    clock.step(days=80)
    a_notifier(service, channel).send_new()
    trouble = a_notifier(service, channel, secret_expires_at=clock.instant)
    assert trouble.send_new() == 1
    assert [code for _, code in channel.sent] == ["grant_ends", "client_secret_expires"]


# Trouble on the way


def test_a_notification_that_is_not_delivered_is_tried_again_and_not_by_the_other_channel(
    service: Services, provider: FakeProvider, name: str
) -> None:
    invalidate(service, provider, name)
    broken, fine = RecordingChannel("broken"), RecordingChannel("fine")
    broken.trouble = Unreachable("no wind")
    notifier = a_notifier(service, broken, fine)
    assert notifier.send_new() == 1
    broken.trouble = None
    assert notifier.send_new() == 1
    assert (len(broken.notifications), len(fine.notifications)) == (1, 1)


@pytest.mark.parametrize(("trouble", "tried"), [(Unreachable("down"), 1), (Failed("bad"), 2), (KeyError("x"), 2)])
def test_a_channel_that_is_down_is_left_alone_and_one_that_chokes_gets_the_others(
    service: Services, provider: FakeProvider, channel: RecordingChannel, name: str, trouble: MailtokenError, tried: int
) -> None:
    pop = "office-mfp/pop-email-print"
    service.get_token(pop)
    invalidate(service, provider, name)
    invalidate(service, provider, pop)
    channel.trouble = trouble
    assert a_notifier(service, channel).send_new() == 0
    assert channel.tried == tried


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        (ConnectionError(f"Max retries exceeded with url: {SECRET}"), "ConnectionError"),
        (ValueError(SECRET), "ValueError"),
        (Failed("the webhook answered 404"), "the webhook answered 404"),
        (Unreachable("webhook_unreachable", why="tls_failed"), "webhook_unreachable why='tls_failed'"),
    ],
)
def test_what_is_logged_of_the_trouble_holds_no_secret(
    service: Services, provider: FakeProvider, channel: RecordingChannel, name: str, trouble: Exception, line: str
) -> None:
    invalidate(service, provider, name)
    channel.trouble = trouble
    with capture_logs() as logs:
        a_notifier(service, channel).send_new()
    assert logs == [{"event": "notification_not_delivered", "log_level": "warning", "why": "recorder", "error": line}]


def test_a_notification_holds_no_secret(
    service: Services, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    invalidate(service, provider, name)
    a_notifier(service, channel).send_new()
    text = as_text([repr(channel.notifications), channel.notifications[0].key])
    assert "in-clear" not in text
    assert "CODE-" not in text


def test_the_thread_tells_and_stops_between_two_notifications(
    store: Store, store_id: str, sealer: Sealer, tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    service = Services(store, sealer, store_id, tmp_path, clock, {provider.name: provider})
    for name in ("office-mfp/smtp-service", "office-mfp/pop-email-print"):
        if name.endswith("service"):
            service.add_machine()
        service.get_token(name)
        invalidate(service, provider, name)
    held, go_on = threading.Event(), threading.Event()

    class Slow(RecordingChannel):
        def deliver(self, notification: Notification) -> None:
            held.set()
            assert go_on.wait(30)
            super().deliver(notification)

    slow = Slow()
    notifier = a_notifier(service, slow)
    notifier.start()
    assert held.wait(30)
    stopping = threading.Thread(target=notifier.stop)
    stopping.start()
    wait_until(lambda: notifier._ticker.is_stopping, "the notifier is stopping")
    go_on.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert len(slow.notifications) == 1


def test_with_nobody_to_tell_there_is_no_thread(service: Services) -> None:
    notifier = a_notifier(service)
    notifier.start()
    notifier.stop()
    assert notifier.send_new() == 0


# The installation as a whole


def test_people_are_told_that_the_last_backup_is_old_and_that_there_is_a_new_one(
    service: Services, clock: FakeClock, channel: RecordingChannel
) -> None:
    notifier = a_notifier(service, channel)
    note_backup(service.store, clock.now())
    assert notifier.send_new() == 0
    clock.step(days=2, seconds=1)
    assert [notifier.send_new() for _ in range(2)] == [1, 0]
    clock.step(days=1)
    assert notifier.send_new() == 1
    note_backup(service.store, clock.now())
    assert [notifier.send_new() for _ in range(2)] == [1, 0]
    old = "backup_old"
    assert channel.sent == [(Trigger.NEEDS_PERSON, old), (Trigger.REMINDER, old), (Trigger.RECOVERED, None)]
    assert {notification.topic for notification in channel.notifications} == {Topic.BACKUPS}


def test_people_are_told_of_each_certificate_before_its_end_at_its_end_and_when_there_is_another(
    service: Services, clock: FakeClock, channel: RecordingChannel
) -> None:
    certificates = [
        CertificateExpiry("[relay]", clock.now() + timedelta(days=29)),
        CertificateExpiry("[server]", clock.now() + timedelta(days=31)),
    ]
    notifier = a_notifier(service, channel, certificates=certificates)
    assert [notifier.send_new() for _ in range(2)] == [1, 0]
    clock.step(days=29)
    assert [notifier.send_new() for _ in range(2)] == [2, 0]
    certificates[0] = CertificateExpiry("[relay]", clock.now() + timedelta(days=90))
    assert [notifier.send_new() for _ in range(2)] == [1, 0]
    of_relay = [one for one in channel.notifications if one.certificate and one.certificate.table == "[relay]"]
    assert [(one.trigger, one.attention) for one in of_relay] == [
        (Trigger.ABOUT_TO_END, "certificate_ends"),
        (Trigger.NEEDS_PERSON, "certificate_over"),
        (Trigger.RECOVERED, None),
    ]
    assert len({one.subject_id for one in channel.notifications}) == 2


def test_on_hold_people_are_told_of_the_hold_and_of_no_token(
    service: Services, clock: FakeClock, provider: FakeProvider, channel: RecordingChannel, name: str
) -> None:
    notifier = a_notifier(service, channel)
    invalidate(service, provider, name)
    hold = LogHold.after_restore(uuid4(), backup_made_at=clock.now(), events=1, by=ADMIN, now=clock.now())
    service.events.save(hold)
    assert [notifier.send_new() for _ in range(2)] == [1, 0]
    service.tokens.holds.resume(None, ADMIN)
    assert [notifier.send_new() for _ in range(2)] == [2, 0]
    assert set(channel.sent) == {
        (Trigger.NEEDS_PERSON, "on_hold"),
        (Trigger.RECOVERED, None),
        (Trigger.NEEDS_PERSON, "invalid_grant"),
    }

"""A grant or renewal loses nothing: what a crash, or a store in trouble, leaves in the escrow is read later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import PersistenceError
from fakes import FAX, GARBAGE, SCANNER, SERVER_ERROR, START, Answer, FakeClock, FakeProvider, Services, error
from store_examples import ADMIN, change, everything, functions_running, some_claim_key
from waiting import wait_until

from domain.errors import Failed, Unreachable
from domain.outcomes import Credential, RenewalOutcome
from domain.ports import Exchange, Reply
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.store import Store
from infrastructure.tokens.renewal_worker import RenewalWorker

SERVICE, ALERT, POP = "office-mfp/smtp-service", "office-mfp/smtp-alert", "office-mfp/pop-internet-fax"


@pytest.fixture
def installation(service: Services) -> Services:
    """The services with the manual's machine, provider and account filled in."""
    service.add_machine()
    return service


def token_of(service: Services) -> UUID:
    return service.tokens.status(SERVICE).profile.token_id


def acquisition(service: Services) -> ClaimKey:
    """The work of the attempt that is under way."""
    status = service.tokens.status(SERVICE)
    attempt = status.token.attempt
    assert attempt
    return ClaimKey(
        "acquisition", status.profile.token_id, attempt.id, attempt.ordinal, attempt.provider, attempt.account
    )


def renewal(service: Services, parent: int = 1) -> ClaimKey:
    return ClaimKey("renewal", token_of(service), uuid4().hex, parent, "contoso", SCANNER)


def crash(service: Services, claim_key: ClaimKey, answer: Answer | None, received_at: datetime = START) -> Services:
    """What a process leaves that is killed with this answer in its hands; the next run, before it recovers."""
    entry = service.escrow.reserve(claim_key)
    if answer:
        entry.keep(Reply(answer.status, (), answer.body, received_at))
    assert service.claims.take(claim_key)
    change(service.store, "UPDATE claim SET process = '999999999:1'")
    return service.restart()


def shown(service: Services) -> tuple[str, str | None]:
    token = service.tokens.status(SERVICE).token
    return token.status.value, token.reason and token.reason.value


def events(service: Services) -> list[str]:
    return [record.name for record in service.history.records(SERVICE) if record.aggregate == "Token"][1:]


def escrowed(service: Services) -> list[str]:
    return sorted(path.suffix for path in (service.directory / "escrow").iterdir())


def generations(service: Services) -> list[int]:
    return [row["generation"] for row in everything(service.store)["vault"] if row["kind"] == "credential"]


def whole(service: Services) -> None:
    """Nothing is left to do, and the record is whole."""
    assert escrowed(service) == []
    assert everything(service.store)["claim"] == []
    assert service.audit.verify().findings == ()


# After a crash


def test_a_sign_in_whose_reply_was_kept_is_finished(installation: Services, provider: FakeProvider) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    after = crash(installation, acquisition(installation), provider.grant(SCANNER))
    assert after.tokens.recover() == 1
    assert shown(after) == ("Retrieved", None)
    assert after.access_token(ALERT).account == SCANNER
    assert provider.requests == ["device_code"]
    whole(after)


def test_a_reply_that_came_in_time_counts_however_late_it_is_read(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    after = crash(installation, acquisition(installation), provider.grant(SCANNER))
    clock.step(days=2)
    assert shown(after)[0] == "Not Retrieved"
    assert after.tokens.poll(token_of(after)) is None
    assert shown(after)[0] == "Retrieved"
    after.tokens.recover()
    assert after.access_token(SERVICE).credential.issued_at == clock.now()
    whole(after)


def test_a_renewal_whose_reply_was_kept_is_finished(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=55)
    after = crash(installation, renewal(installation), provider.grant(SCANNER), clock.now())
    assert after.tokens.recover() == 1
    assert generations(after) == [2]
    assert after.access_token(SERVICE).credential.issued_at == clock.now()
    assert "refresh" not in provider.requests
    whole(after)


def test_a_slow_down_that_was_kept_slows_the_next_run_down(installation: Services, provider: FakeProvider) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    after = crash(installation, acquisition(installation), error("slow_down"))
    assert after.tokens.recover() == 1
    assert after.tokens.seconds_between_polls(token_of(after)) == 10
    assert provider.requests == ["device_code"]
    whole(after)


def test_recovering_again_changes_nothing(installation: Services, provider: FakeProvider) -> None:
    installation.get_token(SERVICE)
    after = crash(installation, renewal(installation), provider.grant(SCANNER), START + timedelta(minutes=1))
    after.tokens.recover()
    before = everything(after.store)
    assert (after.tokens.recover(), after.restart().tokens.recover()) == (0, 0)
    assert everything(after.store) == before


def test_a_crash_between_the_transaction_and_the_escrow_is_no_second_token(
    installation: Services, provider: FakeProvider
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    claim_key, answer = acquisition(installation), provider.grant(SCANNER)
    crash(installation, claim_key, answer).tokens.recover()
    before = everything(installation.store)
    entry = installation.escrow.reserve(claim_key)
    entry.keep(Reply(200, (), answer.body, START))
    assert installation.restart().tokens.recover() == 1
    assert everything(installation.store) == before
    whole(installation)


def test_a_renewal_that_was_in_flight_is_asked_again_and_refused_by_a_strict_provider_it_is_invalid(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    after = crash(installation, renewal(installation), None)
    provider.kill_grants()
    assert after.tokens.recover() == 0
    assert (shown(after), escrowed(after)) == (("Retrieved", None), [".lost"])
    # Not even the next crash, or a provider in trouble, makes it forget why.
    again = after.restart()
    provider.answers(SERVER_ERROR)
    with pytest.raises(Unreachable):
        again.tokens.renew(SERVICE, ADMIN)
    with pytest.raises(Failed, match="invalid_grant"):
        again.tokens.renew(SERVICE, ADMIN)
    assert shown(again) == ("Invalid", "reply_lost")
    assert provider.requests.count("refresh") == 2
    again.get_token(SERVICE)
    assert (shown(again), escrowed(again)) == (("Retrieved", None), [])
    whole(again)


def test_a_request_for_what_was_deleted_meanwhile_leaves_nothing_behind(installation: Services) -> None:
    installation.get_token(SERVICE)
    installation.tokens.request(SERVICE, None, ADMIN)
    of_the_attempt, of_the_token = acquisition(installation), renewal(installation)
    installation.tokens.delete(SERVICE, ADMIN)
    for claim_key in (of_the_attempt, of_the_token):
        after = crash(installation, claim_key, None)
        assert after.tokens.recover() == 0
        assert (shown(after), escrowed(after)) == (("Not Retrieved", None), [])
    whole(after)


def test_a_renewal_that_was_in_flight_and_lost_nothing_says_nothing(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    after = crash(installation, renewal(installation), None)
    after.tokens.recover()
    after.tokens.renew(SERVICE, ADMIN)
    assert (shown(after), escrowed(after)) == (("Retrieved", None), [])
    provider.kill_grants()
    with pytest.raises(Failed):
        after.tokens.renew(SERVICE, ADMIN)
    assert shown(after) == ("Invalid", "invalid_grant")


def test_a_code_that_was_redeemed_in_a_crash_says_that_its_reply_was_lost(
    installation: Services, provider: FakeProvider
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    after = crash(installation, acquisition(installation), None)
    after.tokens.recover()
    provider.answers(error("invalid_grant"))
    after.tokens.poll(token_of(after))
    assert shown(after) == ("Not Retrieved", "reply_lost")
    whole(after)


def test_a_node_that_takes_over_from_one_that_is_gone_says_what_may_be_lost_with_it(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    assert installation.claims.take(renewal(installation))
    change(installation.store, "UPDATE claim SET node = 'another.example.com:/escrow', taken_at = 0")
    provider.kill_grants()
    with pytest.raises(Failed):
        installation.tokens.renew(SERVICE, ADMIN)
    assert shown(installation) == ("Invalid", "reply_lost")


def test_a_renewal_that_comes_back_after_its_grant_was_found_dead_is_kept_and_tried(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    claim_key = renewal(installation)
    grant = provider.grant(SCANNER)
    clock.step(minutes=20)
    provider.answers(error("invalid_grant"))
    with pytest.raises(Failed):
        installation.tokens.renew(SERVICE, ADMIN)
    after = crash(installation, claim_key, grant, START + timedelta(minutes=5))
    after.tokens.recover()
    assert (shown(after), after.tokens.unproven) == (("Retrieved", None), {token_of(after)})
    worker = RenewalWorker(after.events, after.tokens, clock, {})
    for begun in worker.renew_what_is_due():
        begun.result()
    assert (shown(after), generations(after), after.tokens.unproven) == (("Retrieved", None), [3], set())
    assert worker.due() == []
    worker.stop()
    whole(after)


@pytest.mark.parametrize(
    ("code", "label"), [("authorization_pending", "Waiting for authorisation"), ("access_denied", "Not Retrieved")]
)
def test_a_poll_whose_answer_was_kept_is_read(installation: Services, code: str, label: str) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    after = crash(installation, acquisition(installation), error(code))
    after.tokens.recover()
    assert shown(after)[0] == label
    whole(after)


def test_a_kept_word_about_the_grant_is_taken(installation: Services) -> None:
    installation.get_token(SERVICE)
    after = crash(installation, renewal(installation), error("invalid_grant"))
    after.tokens.recover()
    assert shown(after) == ("Invalid", "invalid_grant")
    whole(after)


def test_a_kept_reply_that_makes_no_sense_is_kept_aside(installation: Services) -> None:
    installation.get_token(SERVICE)
    after = crash(installation, renewal(installation), GARBAGE)
    after.tokens.recover()
    assert (shown(after), escrowed(after)) == (("Retrieved", None), [".doubt"])
    assert list(after.tokens.alarms.values()) == ["reply_in_doubt"]
    after.tokens.renew(SERVICE, ADMIN)
    whole(after)


def test_the_wrong_person_in_a_kept_reply_is_refused(installation: Services, provider: FakeProvider) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    after = crash(installation, acquisition(installation), provider.grant(FAX))
    after.tokens.recover()
    assert shown(after) == ("Not Retrieved", "wrong_account")
    assert len(provider.revoked) == 1
    whole(after)


def test_a_reply_to_a_token_that_is_gone_is_wiped(installation: Services, provider: FakeProvider) -> None:
    after = crash(installation, some_claim_key(), provider.grant(SCANNER))
    before = everything(after.store, but=("claim",))
    assert after.tokens.recover() == 1
    assert everything(after.store, but=("claim",)) == before
    whole(after)


# Late replies


def test_a_reply_to_a_token_that_was_deleted_meanwhile_is_wiped_and_said_so(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    claim_key = renewal(installation)
    installation.tokens.delete(SERVICE, ADMIN)
    after = crash(installation, claim_key, provider.grant(SCANNER))
    after.tokens.recover()
    assert shown(after) == ("Not Retrieved", None)
    assert len(provider.revoked) == 2, "the grant that was deleted, and the one that came after"
    assert events(after)[-2:] == ["Deleted", "LateReplyDiscarded"]
    assert everything(after.store)["vault"] == []
    whole(after)


def test_a_reply_to_an_attempt_that_was_cancelled_is_wiped_and_said_so(
    installation: Services, provider: FakeProvider
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    claim_key = acquisition(installation)
    installation.tokens.cancel(SERVICE, ADMIN)
    after = crash(installation, claim_key, provider.grant(SCANNER))
    after.tokens.recover()
    assert shown(after) == ("Not Retrieved", "cancelled")
    assert len(provider.revoked) == 1
    assert events(after)[-1] == "LateReplyDiscarded"
    whole(after)


@pytest.mark.parametrize(("minutes", "kept", "last_event"), [(50, [2], "LateReplyDiscarded"), (60, [3], "Renewed")])
def test_a_late_renewal_is_adopted_if_it_is_newer_else_wiped(
    installation: Services,
    provider: FakeProvider,
    clock: FakeClock,
    minutes: int,
    kept: list[int],
    last_event: str,
) -> None:
    installation.get_token(SERVICE)
    claim_key = renewal(installation)
    clock.step(minutes=55)
    installation.access_token(SERVICE)
    clock.step(minutes=10)
    after = crash(installation, claim_key, provider.grant(SCANNER), START + timedelta(minutes=minutes))
    after.tokens.recover()
    assert (generations(after), events(after)[-1]) == (kept, last_event)
    # The account's other grant is this one's: it is not revoked.
    assert provider.revoked == []
    whole(after)


def test_a_renewal_of_an_earlier_grant_is_wiped_after_a_new_sign_in(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    claim_key = renewal(installation)
    installation.get_token(SERVICE)
    after = crash(installation, claim_key, provider.grant(SCANNER), clock.step(minutes=5))
    after.tokens.recover()
    assert (generations(after), events(after)[-1]) == ([2], "LateReplyDiscarded")
    whole(after)


# A store in trouble


def test_a_sign_in_that_cant_be_stored_stays_in_the_escrow_until_it_can(
    installation: Services, provider: FakeProvider
) -> None:
    installation.tokens.request(SERVICE, None, ADMIN)
    provider.approve()
    token_id = token_of(installation)
    change(installation.store, "ALTER TABLE profile RENAME TO elsewhere")
    with pytest.raises(PersistenceError):
        installation.tokens.poll(token_id)
    assert escrowed(installation) == [".reply"]
    # Nothing gets better by trying again, and nothing is asked again.
    assert installation.tokens.recover() == 1
    with pytest.raises(PersistenceError):
        installation.tokens.poll(token_id)
    change(installation.store, "ALTER TABLE elsewhere RENAME TO profile")
    assert shown(installation)[0] == "Waiting for authorisation"
    assert installation.tokens.recover() == 1
    assert shown(installation) == ("Retrieved", None)
    assert provider.requests == ["device_code", "poll"]
    whole(installation)


def test_a_renewal_that_cant_be_stored_is_read_before_anything_is_asked_again(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=55)
    provider.meanwhile(lambda: change(installation.store, "ALTER TABLE chain RENAME TO elsewhere"))
    # What is in hand is served meanwhile.
    assert installation.access_token(SERVICE).credential.issued_at < clock.now()
    with pytest.raises(PersistenceError):
        installation.tokens.renew(SERVICE, ADMIN)
    change(installation.store, "ALTER TABLE elsewhere RENAME TO chain")
    assert escrowed(installation) == [".reply"]
    assert generations(installation) == [1]
    assert installation.access_token(ALERT).credential.issued_at == clock.now()
    assert provider.requests.count("refresh") == 1
    whole(installation)


def test_a_database_that_is_locked_with_the_reply_in_hand_loses_nothing(
    installation: Services,
    provider: FakeProvider,
    clock: FakeClock,
    open_again: Callable[[], Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=55)
    monkeypatch.setattr("infrastructure.store.sqlite._LOCK_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr("infrastructure.store.postgres._LOCK_TIMEOUT_SECONDS", 1)
    impatient = replace(installation, store=open_again())
    assert impatient.store.tables()
    with ExitStack() as locked:
        provider.meanwhile(lambda: locked.enter_context(installation.store.writing(alone=True)))
        with pytest.raises(PersistenceError, match="lock"):
            impatient.tokens.renew(SERVICE, ADMIN)
        assert escrowed(impatient) == [".reply"]
    assert impatient.tokens.recover() == 1
    assert impatient.access_token(SERVICE).credential.issued_at == clock.now()
    assert provider.requests.count("refresh") == 1
    whole(impatient)


def test_a_request_that_cant_be_stored_changes_nothing(installation: Services) -> None:
    before = everything(installation.store)
    change(installation.store, "ALTER TABLE vault RENAME TO elsewhere")
    with pytest.raises(PersistenceError):
        installation.tokens.request(SERVICE, None, ADMIN)
    change(installation.store, "ALTER TABLE elsewhere RENAME TO vault")
    assert everything(installation.store) == before


# Together


class PausingClock(FakeClock):
    """Stops whoever asks it in a thread of this name, until it may go on."""

    def __init__(self, thread: str) -> None:
        super().__init__()
        self.stopped, self.go_on = threading.Event(), threading.Event()
        self._thread = thread

    def now(self) -> datetime:
        if threading.current_thread().name.startswith(self._thread) and not self.go_on.is_set():
            self.stopped.set()
            assert self.go_on.wait(60)
        return super().now()


def test_a_reply_that_is_being_read_is_not_asked_for_again(installation: Services, provider: FakeProvider) -> None:
    installation.get_token(SERVICE)
    clock = PausingClock("reader")
    clock.instant = START + timedelta(minutes=55)
    installation.clock = clock
    after = crash(installation, renewal(installation), provider.grant(SCANNER), clock.instant)
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "server") as server:
        recovered = reader.submit(after.tokens.recover)
        assert clock.stopped.wait(60)
        served = server.submit(after.access_token, SERVICE)
        wait_until(lambda: "conclude" in functions_running(), "another thread concludes the attempt")
        clock.go_on.set()
        assert recovered.result() == 1
        assert served.result().credential.issued_at == clock.instant
    assert provider.requests.count("refresh") == 0
    assert generations(after) == [2]
    whole(after)


def test_a_reply_that_makes_its_reader_fail_keeps_no_other_reply_from_being_read_and_no_start_from_ending(
    installation: Services, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.get_token(SERVICE)
    installation.tokens.request(POP, None, "operator")
    other = installation.tokens.status(POP)
    assert other.token.attempt
    poison = provider.grant(SCANNER, scope="poison")
    entry = installation.escrow.reserve(renewal(installation))
    entry.keep(Reply(poison.status, (), poison.body, START))
    attempt = other.token.attempt
    good = installation.escrow.reserve(
        ClaimKey("acquisition", other.profile.token_id, attempt.id, attempt.ordinal, attempt.provider, attempt.account)
    )
    grant = provider.grant(SCANNER)
    good.keep(Reply(grant.status, (), grant.body, START))
    read = provider.refresh

    def refresh(credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        if exchange.reply and b"poison" in exchange.reply.body:
            raise RecursionError
        return read(credential, exchange, now)

    monkeypatch.setattr(provider, "refresh", refresh)
    after = installation.restart()
    assert after.tokens.recover() == 2
    assert after.tokens.status(POP).token.status.value == "Retrieved"
    assert after.tokens.alarms[token_of(after)] == "reply_in_doubt"
    assert ".doubt" in escrowed(after)
    after.tokens.access_token(SERVICE, None, "operator")
    after.tokens.renew(SERVICE, "operator")
    assert not after.tokens.alarms
    whole(after)

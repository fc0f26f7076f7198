"""Killed at the worst instants, each reached for certain: whatever reply had arrived is there after the restart."""

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from invariants import assert_agree, assert_whole
from practice_faults.fault_injection import InjectedFault
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from service_process import INVALID, NOT_RETRIEVED, POP, RETRIEVED, SCAN, SMTP, WAITING, ServiceProcess, granted
from waiting import in_background, wait_until

from infrastructure.clock import instant_text, read_instant

MakeService = Callable[..., ServiceProcess]

both_stores = pytest.mark.parametrize(
    ("engine", "kind"), [("sqlite", "microsoft"), pytest.param("postgresql", "oidc", marks=pytest.mark.thorough)]
)


@pytest.fixture
def service(make_service: MakeService, store_url: str | None, kind: str) -> ServiceProcess:
    service = make_service(url=store_url, kind=kind)
    service.add_printer()
    return service


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def kind() -> str:
    return "oidc"


def acquisition_with_its_reply_in_the_escrow(service: ServiceProcess) -> tuple[str, str, InjectedFault]:
    """The service has the reply and waits for the keys that sign ID tokens: its attempt, access token, and the wait."""
    keys = service.provider.hold(endpoint="jwks")
    started, poll = service.approved_but_unpolled()
    poll.release()
    keys.wait_until_held(60)
    [(claim_key, reply)] = service.kept_replies()
    assert claim_key.attempt_id == started["attempt_id"]
    return claim_key.attempt_id, granted(reply) or "", keys


def renewal_with_its_reply_in_the_escrow(service: ServiceProcess) -> tuple[str, str, InjectedFault]:
    """The same for a renewal; the token was there and the service has just started."""
    keys = service.provider.hold(endpoint="jwks")
    in_background(service.renew)
    keys.wait_until_held(60)
    [(claim_key, reply)] = service.kept_replies()
    return claim_key.attempt_id, granted(reply) or "", keys


def with_a_token_and_no_keys_in_memory(service: ServiceProcess) -> None:
    service.get_token()
    service.kill()
    service.start()


def assert_retrieved(service: ServiceProcess, attempt_id: str, access_token: str) -> None:
    shown = assert_agree(service.statuses())
    assert (shown["token"], shown["account"]) == (RETRIEVED, SCAN)
    assert service.brought_by() == attempt_id
    assert service.access_token().body["access_token"] == access_token
    assert not service.kept_replies()
    assert_whole(service)


# With the reply in the escrow


@both_stores
def test_an_acquisition_whose_reply_had_arrived_is_there_after_a_kill(service: ServiceProcess) -> None:
    attempt_id, access_token, keys = acquisition_with_its_reply_in_the_escrow(service)
    service.kill()
    keys.release()
    assert_whole(service)
    assert assert_agree(service.read_offline())["token"] == WAITING
    service.start()
    assert_retrieved(service, attempt_id, access_token)
    assert service.events() == ["Created", "AuthorizationRequested", "Retrieved"]


@both_stores
def test_a_renewal_whose_reply_had_arrived_is_there_after_a_kill(service: ServiceProcess) -> None:
    with_a_token_and_no_keys_in_memory(service)
    attempt_id, access_token, keys = renewal_with_its_reply_in_the_escrow(service)
    service.kill()
    keys.release()
    assert_whole(service)
    service.start()
    assert_retrieved(service, attempt_id, access_token)
    assert service.provider.grant_counts["refresh_token"] == 1


def test_a_reply_that_came_in_time_counts_even_if_the_service_was_down_through_the_deadline(
    service: ServiceProcess,
) -> None:
    attempt_id, access_token, keys = acquisition_with_its_reply_in_the_escrow(service)
    service.kill()
    keys.release()
    service.clock.step(minutes=16)
    assert assert_agree(service.read_offline())["token"] == NOT_RETRIEVED, "the deadline has passed"
    service.start()
    assert_retrieved(service, attempt_id, access_token)


def test_a_renewal_is_read_from_the_escrow_even_if_the_provider_is_down_by_then(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    with_a_token_and_no_keys_in_memory(service)
    attempt_id, access_token, _ = renewal_with_its_reply_in_the_escrow(service)
    service.kill()
    practice.close()
    service.start()
    assert_retrieved(service, attempt_id, access_token)


def test_an_acquisition_waits_in_the_escrow_until_the_provider_is_up_again(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    attempt_id, access_token, _ = acquisition_with_its_reply_in_the_escrow(service)
    service.kill()
    practice.close()
    service.start()
    assert assert_agree(service.statuses())["token"] == WAITING
    assert [claim_key.attempt_id for claim_key, _ in service.kept_replies()] == [attempt_id]
    practice.start()
    service.wait_for(RETRIEVED)
    wait_until(lambda: not service.kept_replies(), "the escrow is cleared")
    assert_retrieved(service, attempt_id, access_token)
    # The device code was spent by the first poll: it was never sent again.
    assert practice.grant_counts[DEVICE_CODE_GRANT] == 1


def test_killed_again_while_it_recovers_it_recovers_the_next_time(service: ServiceProcess) -> None:
    attempt_id, access_token, keys = acquisition_with_its_reply_in_the_escrow(service)
    for _ in range(2):
        service.kill()
        keys.release()
        keys = service.provider.hold(endpoint="jwks")
        service.launch()
        keys.wait_until_held(60)
    service.kill()
    keys.release()
    service.start()
    assert_retrieved(service, attempt_id, access_token)
    assert service.events() == ["Created", "AuthorizationRequested", "Retrieved"]


@both_stores
def test_a_reply_that_was_stored_and_not_yet_wiped_is_stored_once(service: ServiceProcess) -> None:
    attempt_id, access_token, keys = acquisition_with_its_reply_in_the_escrow(service)
    [file] = service.escrow.glob("*.reply")
    copy = service.directory / "copy"
    shutil.copyfile(file, copy)

    def put_back_and_start() -> None:
        shutil.copyfile(copy, file)
        service.start()
        wait_until(lambda: not file.exists(), "it is wiped again")

    keys.release()
    service.wait_for(RETRIEVED)
    wait_until(lambda: not file.exists(), "the reply is wiped")
    service.kill()
    put_back_and_start()
    assert_retrieved(service, attempt_id, access_token)
    assert service.events() == ["Created", "AuthorizationRequested", "Retrieved"]
    # It is not stored once more after the token was renewed, or deleted.
    assert service.renew().status == 200
    service.kill()
    put_back_and_start()
    assert service.access_token().body["access_token"] != access_token
    assert service.delete().status == 200
    service.kill()
    put_back_and_start()
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED
    assert service.events() == ["Created", "AuthorizationRequested", "Retrieved", "Renewed", "Deleted"]
    assert_whole(service)


@both_stores
def test_killed_while_it_waits_to_store_the_reply(service: ServiceProcess) -> None:
    attempt_id, access_token, keys = acquisition_with_its_reply_in_the_escrow(service)
    with service.nobody_writes():
        keys.release()
        wait_until(lambda: service.provider.requests[-1].outcome == "200", "the keys are there")
        service.stands_before_the_store()
        service.kill()
    assert_whole(service)
    service.start()
    assert_retrieved(service, attempt_id, access_token)


@pytest.mark.parametrize("engine", ["postgresql"])
def test_killed_in_the_middle_of_the_transaction(service: ServiceProcess, store_url: str) -> None:
    import psycopg

    attempt_id, access_token, keys = acquisition_with_its_reply_in_the_escrow(service)
    [(token_id, ordinal)] = service.rows("SELECT id, ordinal FROM token WHERE attempt_id IS NOT NULL")
    with closing(psycopg.connect(store_url)) as other:
        # The service's transaction has stored its events by the time it stands before this row.
        other.execute("SELECT 1 FROM vault WHERE subject_id = %s AND generation = %s FOR UPDATE", (token_id, ordinal))
        keys.release()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%vault%'"
        wait_until(lambda: service.rows(waiting) == [(1,)], "it stands before the row")
        service.kill()
    assert_whole(service)
    service.start()
    assert_retrieved(service, attempt_id, access_token)


# Without the reply


@both_stores
def test_killed_before_the_provider_gave_the_token_it_asks_again(service: ServiceProcess) -> None:
    poll = service.provider.inject_fault("hang", grant_type=DEVICE_CODE_GRANT)
    started = service.request()
    poll.wait_until_met(60)
    service.sign_in(started)
    service.kill()
    poll.release()
    assert_whole(service)
    service.start()
    assert service.wait_for(RETRIEVED)["retrieved_by"] == started["attempt_id"]
    assert_whole(service)


def test_an_acquisition_whose_reply_is_lost_on_its_way_ends_and_says_why(service: ServiceProcess) -> None:
    reply = service.provider.hold(grant_type=DEVICE_CODE_GRANT)
    started = service.request()
    service.sign_in(started)
    reply.wait_until_held(60)
    service.kill()
    reply.release()
    service.start()
    ended = wait_until(lambda: _not_waiting(service), "the attempt is over")
    assert (ended["token"], ended["reason"]) == (NOT_RETRIEVED, "reply_lost")
    assert_whole(service)
    assert service.get_token()["token"] == RETRIEVED


def test_a_request_that_never_came_to_an_end_changes_nothing(service: ServiceProcess) -> None:
    before = service.rows("SELECT count(*) FROM stored_events")
    code = service.provider.hold(endpoint="device_authorization")
    in_background(service.request)
    code.wait_until_held(60)
    service.kill()
    code.release()
    service.start()
    with service.nobody_writes():
        in_background(service.request)
        wait_until(lambda: len(service.provider.issued_user_codes) == 2, "the provider gave a second code")
        service.stands_before_the_store()
        service.kill()
    service.start()
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED
    assert service.rows("SELECT count(*) FROM stored_events") == before
    assert service.rows("SELECT * FROM vault") == []
    assert_whole(service)
    assert service.get_token()["token"] == RETRIEVED


@pytest.mark.parametrize(("refresh", "label"), [("grace", RETRIEVED), ("static", RETRIEVED), ("rotate", INVALID)])
def test_a_renewal_whose_reply_is_lost_on_its_way_is_tried_once_more(
    service: ServiceProcess, refresh: Any, label: str
) -> None:
    service.provider.rules.refresh = refresh
    service.get_token()
    reply = service.provider.hold(grant_type="refresh_token")
    in_background(service.renew)
    reply.wait_until_held(60)
    service.kill()
    reply.release()
    service.start()
    assert assert_agree(service.statuses())["token"] == RETRIEVED
    answer = service.renew()
    shown = assert_agree(service.statuses())
    assert (answer.status, shown["token"]) == (200 if label == RETRIEVED else 424, label)
    assert shown["reason"] == (None if label == RETRIEVED else "reply_lost")
    assert service.provider.grant_counts["refresh_token"] == 2
    assert_whole(service)


def test_a_renewal_that_the_provider_never_saw_is_done_again_with_the_same_refresh_token(
    service: ServiceProcess,
) -> None:
    before = service.get_token()
    request = service.provider.inject_fault("hang", grant_type="refresh_token")
    in_background(service.renew)
    request.wait_until_met(60)
    service.kill()
    request.release()
    assert_whole(service)
    service.start()
    assert service.brought_by() == before["retrieved_by"]
    assert service.renew().status == 200
    assert service.brought_by() != before["retrieved_by"]
    assert_whole(service)


# Delete


@both_stores
def test_a_delete_that_was_not_stored_deletes_nothing(service: ServiceProcess) -> None:
    before = service.get_token()
    access_token = service.access_token().body["access_token"]
    with service.nobody_writes():
        in_background(service.delete)
        service.stands_before_the_store()
        assert service.status()["token"] == RETRIEVED
        service.kill()
    service.start()
    assert_retrieved(service, before["retrieved_by"], access_token)
    assert service.provider.live_refresh_tokens(SCAN)


@both_stores
def test_a_delete_that_was_stored_holds_even_if_the_provider_was_never_told(service: ServiceProcess) -> None:
    service.get_token()
    revocation = service.provider.hold(endpoint="revocation", before_work=True)
    in_background(service.delete)
    revocation.wait_until_held(60)
    service.kill()
    revocation.release()
    assert assert_agree(service.read_offline())["token"] == NOT_RETRIEVED
    service.start()
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED
    assert service.rows("SELECT * FROM vault") == []
    assert_whole(service)
    assert service.get_token()["token"] == RETRIEVED


@both_stores
@pytest.mark.parametrize("killed", [False, True], ids=["", "and-it-is-killed"])
def test_a_reply_to_a_token_that_was_deleted_meanwhile_is_wiped_and_recorded(
    service: ServiceProcess, killed: bool
) -> None:
    *_, keys = acquisition_with_its_reply_in_the_escrow(service)
    assert service.delete().status == 200
    if killed:
        service.kill()
    keys.release()
    if killed:
        service.start()
    wait_until(lambda: not service.kept_replies(), "the reply is wiped")
    wait_until(lambda: service.events()[-1] == "LateReplyDiscarded", "it is recorded")
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED
    assert service.rows("SELECT * FROM vault") == []
    if not killed:
        wait_until(lambda: not service.provider.live_refresh_tokens(SCAN), "the grant is revoked")
    assert_whole(service)


def test_a_renewal_of_a_token_that_was_deleted_meanwhile_is_wiped_and_revoked(service: ServiceProcess) -> None:
    service.get_token()
    reply = service.provider.hold(grant_type="refresh_token")
    renewal = in_background(service.renew)
    reply.wait_until_held(60)
    assert service.delete().status == 200
    reply.release()
    renewal.result(60)
    assert service.events()[-1] == "LateReplyDiscarded"
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED
    assert not service.provider.live_refresh_tokens(SCAN)
    assert_whole(service)


# Waiting


@both_stores
@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_service_that_ends_while_waiting_goes_on_polling_after_the_restart(
    service: ServiceProcess, ending: str
) -> None:
    started = service.request()
    attempt_id = assert_agree(service.statuses())["attempt_id"]
    getattr(service, ending)()
    polls = service.provider.grant_counts[DEVICE_CODE_GRANT]
    shown = assert_agree(service.read_offline())
    assert (shown["token"], shown["attempt_id"]) == (WAITING, attempt_id)
    service.start()
    wait_until(lambda: service.provider.grant_counts[DEVICE_CODE_GRANT] > polls, "it polls")
    service.sign_in(started)
    assert service.wait_for(RETRIEVED)["retrieved_by"] == attempt_id
    assert_agree(service.statuses())
    assert_whole(service)


def test_told_to_stop_with_a_reply_on_its_way_it_stores_it_first(service: ServiceProcess) -> None:
    reply = service.provider.hold(grant_type=DEVICE_CODE_GRANT)
    service.sign_in(started := service.request())
    reply.wait_until_held(60)
    stopping = in_background(service.stop)
    wait_until(lambda: not (service.directory / "mailtoken.sock").exists(), "it stops serving")
    reply.release()
    assert stopping.result(60) == 0
    shown = assert_agree(service.read_offline())
    assert (shown["token"], shown["retrieved_by"]) == (RETRIEVED, started["attempt_id"])
    assert_whole(service)


@both_stores
def test_an_attempt_runs_out_at_its_deadline_even_if_nobody_polls(service: ServiceProcess) -> None:
    started = service.request()
    service.request(POP)
    service.kill()
    service.clock.step(minutes=16)
    assert assert_agree(service.read_offline())["token"] == NOT_RETRIEVED, "the deadline has passed"
    service.start()
    wait_until(lambda: service.events()[-1] == "AuthorizationEnded", "the worker records it")
    over = [event for event in service.history(SMTP) if event["event"] == "AuthorizationEnded"]
    assert over[0]["at"] > started["expires_at"], "it was recorded later than it happened"
    for statuses in (service.statuses(), service.read_offline(), service.statuses(as_of=started["expires_at"])):
        shown = assert_agree(statuses)
        assert (shown["token"], shown["since"], shown["reason"]) == (
            NOT_RETRIEVED,
            started["expires_at"],
            "expired_token",
        )
    before = read_instant(started["expires_at"]) - timedelta(microseconds=1)
    assert assert_agree(service.statuses(as_of=instant_text(before)))["token"] == WAITING
    wait_until(lambda: service.rows("SELECT * FROM vault") == [], "the device codes are gone")
    assert_whole(service)


def _not_waiting(service: ServiceProcess) -> dict[str, Any] | None:
    shown = assert_agree(service.statuses())
    return shown if shown["token"] != WAITING else None

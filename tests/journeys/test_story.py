"""The main story and what can go wrong in it: the real service, a real provider, a real mail server, real sockets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from engines import MOSTLY_SQLITE
from invariants import assert_agree, assert_whole
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from service_process import (
    FAX,
    INVALID,
    LINKED,
    NOT_RETRIEVED,
    POP,
    PRINTER,
    RETRIEVED,
    SCAN,
    SMTP,
    WAITING,
    Json,
    ServiceProcess,
)
from waiting import wait_until

from infrastructure.clock import read_instant

MakeService = Callable[..., ServiceProcess]
QUICK, ALERT = f"{PRINTER}/smtp-quick", f"{PRINTER}/smtp-alert"
MESSAGE = b"From: scan@contoso.com\r\nTo: admin@contoso.com\r\nSubject: scan\r\n\r\nOne page.\r\n"

both_kinds = pytest.mark.parametrize(
    ("engine", "kind"), [("sqlite", "microsoft"), pytest.param("postgresql", "oidc", marks=pytest.mark.thorough)]
)


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def kind() -> str:
    return "microsoft"


@pytest.fixture
def service(make_service: MakeService, store_url: str | None, kind: str) -> ServiceProcess:
    """A service with a printer; it gives up on the provider after two seconds."""
    service = make_service(url=store_url, kind=kind, timeout_seconds=2)
    service.add_printer()
    return service


def unchanged(service: ServiceProcess) -> Callable[[], bool]:
    """Whether log, vault and token states are still as they are now."""
    tables = ("stored_events", "vault", "token", "profile")
    before = [sorted(map(repr, service.rows(f"SELECT * FROM {table}"))) for table in tables]
    return lambda: before == [sorted(map(repr, service.rows(f"SELECT * FROM {table}"))) for table in tables]


@pytest.mark.parametrize("kind", ["microsoft", "oidc"])
@pytest.mark.parametrize("engine", MOSTLY_SQLITE)
def test_get_token_for_one_setting_send_with_another_and_delete(
    make_service: MakeService, practice: FaultyProvider, mail: FaultyMailServer, store_url: str | None, kind: str
) -> None:
    service = make_service(url=store_url, kind=kind, mail=mail)
    service.add_printer()
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED

    # Nothing to show and nothing to delete; a provider that is down changes nothing.
    is_unchanged = unchanged(service)
    assert service.access_token().status == 409
    assert service.delete().status == 409
    practice.close()
    assert service.call("POST", f"/api/v1/profiles/{SMTP}/token", {}).status == 503
    practice.start()
    assert is_unchanged()

    # Get Token: every linked setting waits, and a second Get Token is refused.
    started = service.request()
    shown = assert_agree(service.statuses())
    assert (shown["token"], shown["expires_at"]) == (WAITING, started["expires_at"])
    assert service.status(POP)["token"] == NOT_RETRIEVED
    is_unchanged = unchanged(service)
    for refused in (service.call("POST", f"/api/v1/profiles/{SMTP}/token", {}), service.access_token(ALERT)):
        assert (refused.status, WAITING in refused.body["detail"]) == (409, True)
    assert is_unchanged()

    # Updated in concert: also provider and account of settings that had neither.
    service.sign_in(started)
    service.wait_for(RETRIEVED, QUICK)
    shown = assert_agree(service.statuses())
    assert (shown["provider"], shown["account"], shown["retrieved_by"]) == ("contoso", SCAN, started["attempt_id"])
    assert service.access_token(QUICK).body["mailbox"] == SCAN
    in_concert = [one for one in service.history() if one["event"] in {"Retrieved", "TokenReceived"}]
    assert [one["by"] for one in in_concert] == ["worker"] * 5
    refused = service.call("PATCH", f"/api/v1/profiles/{ALERT}", {"account": FAX})
    assert (refused.status, assert_agree(service.statuses())["account"]) == (409, SCAN)

    # Mail goes out through a linked setting, and can be read with a token of its own.
    service.fill_in(ALERT)
    envelope = urlencode([("profile", ALERT), ("sender", SCAN), ("recipient", FAX)])
    assert service.ask("POST", f"/api/v1/send?{envelope}", MESSAGE.decode())["ok"]
    assert b"One page." in mail.wait_for_messages(FAX, timeout_seconds=60)[0]
    assert service.access_token(POP).status == 409
    service.get_token(POP)
    assert service.ask("POST", f"/api/v1/profiles/{POP}/test", {})["ok"]
    assert service.status(POP)["retrieved_by"] != started["attempt_id"]

    # Deleted through another linked setting. The provider is not told: the POP setting's credential would die with it.
    deletion = service.delete(ALERT)
    assert deletion.body == {"profiles": list(LINKED), "revoked": False}
    shown = assert_agree(service.statuses())
    assert (shown["token"], shown["reason"], shown["account"]) == (NOT_RETRIEVED, None, SCAN)
    assert service.renew(POP).status == 200
    deletion = service.delete(POP)
    assert deletion.body == {"profiles": [POP], "revoked": True}
    assert practice.live_refresh_tokens(SCAN)  # those of the token that nobody told it about
    assert service.rows("SELECT * FROM vault") == []
    assert service.events() == ["Created", "AuthorizationRequested", "Retrieved", "Deleted"]
    assert service.events(POP) == ["Created", "AuthorizationRequested", "Retrieved", "Renewed", "Deleted"]
    assert service.findings() == ()


# How a sign-in can end


@both_kinds
def test_a_sign_in_that_is_declined_ends_the_attempt_and_says_so(service: ServiceProcess) -> None:
    service.decline(service.request())
    ended = service.wait_for(NOT_RETRIEVED)
    assert (ended["reason"], ended["attention"]) == ("access_denied", None)
    assert_agree(service.statuses())
    assert service.rows("SELECT * FROM vault") == []
    assert service.get_token()["reason"] is None
    assert_whole(service)


@both_kinds
def test_the_wrong_person_is_refused_with_both_names_and_nothing_of_theirs_is_kept(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    _, poll = service.approved_but_unpolled(account=FAX)
    poll.release()
    ended = service.wait_for(NOT_RETRIEVED)
    assert (ended["reason"], ended["signed_in_as"], ended["account"]) == ("wrong_account", FAX, SCAN)
    wait_until(lambda: not practice.live_refresh_tokens(FAX), "their grant is revoked")
    wait_until(lambda: not service.kept_replies(), "their reply is wiped")
    assert service.rows("SELECT * FROM vault") == []
    assert_whole(service)


@pytest.mark.parametrize("ending", ["declined", "wrong person", "cancelled"])
def test_a_re_authorization_that_fails_takes_nothing_away(
    service: ServiceProcess, practice: FaultyProvider, ending: str
) -> None:
    before = service.get_token()
    access_token = service.access_token().body["access_token"]
    if ending == "wrong person":
        _, poll = service.approved_but_unpolled(QUICK, account=FAX)
        poll.release()
    else:
        started = service.request(QUICK)
        assert service.access_token().body["access_token"] == access_token, "it serves while Waiting"
        if ending == "declined":
            service.decline(started)
        else:
            assert service.cancel(ALERT).status == 200
    ended = wait_until(lambda: _ended(service), "the attempt is over")
    assert (ended["token"], ended["retrieved_by"]) == (RETRIEVED, before["retrieved_by"])
    assert ended["reason"] in {"access_denied", "wrong_account", "cancelled"}
    assert service.access_token().body["access_token"] == access_token
    assert service.renew().status == 200
    assert assert_agree(service.statuses())["reason"] is None
    assert practice.live_refresh_tokens(SCAN)
    assert_whole(service)


@pytest.mark.parametrize(
    ("mode", "details", "reason"),
    [
        ("expired_token", {}, "expired_token"),
        ("bad_verification_code", {}, "code_rejected"),
        ("invalid_grant", {}, "code_rejected"),
        ("error", {"error": "invalid_grant", "error_codes": (53003,)}, "policy"),
        ("error", {"error": "invalid_grant", "error_codes": (65001,)}, "consent_required"),
        ("error", {"error": "invalid_request", "error_codes": (70011,)}, "configuration"),
        ("id_token", {"forged": True}, "id_token_invalid"),
        ("id_token", {"claims": {"aud": "somebody-else"}}, "id_token_invalid"),
        ("no_id_token", {}, "id_token_invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_the_provider_says_for_good_ends_the_attempt(
    service: ServiceProcess, practice: FaultyProvider, mode: str, details: dict[str, Any], reason: str
) -> None:
    practice.inject_fault(mode, grant_type=DEVICE_CODE_GRANT, **details)
    _, poll = service.approved_but_unpolled()
    poll.release()
    ended = service.wait_for(NOT_RETRIEVED)
    assert ended["reason"] == reason
    assert service.rows("SELECT * FROM vault") == []
    assert_whole(service)


@both_kinds
def test_what_the_provider_does_not_say_for_good_leaves_the_attempt_waiting(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    modes: list[tuple[str, dict[str, Any]]] = [
        ("server_error", {}),
        ("rate_limited", {"retry_after": 1}),
        ("error", {"error": "never_heard_of"}),
        ("garbage", {}),
        ("hang", {}),
        ("redirect", {"location": f"{practice.issuer}/oauth2/elsewhere"}),
    ]
    armed = [practice.inject_fault(mode, grant_type=DEVICE_CODE_GRANT, **details) for mode, details in modes]
    started = service.request()
    for one in armed:
        one.wait_until_met(60)
        assert assert_agree(service.statuses())["attempt_id"] == started["attempt_id"]
    service.sign_in(started)
    assert service.wait_for(RETRIEVED)["retrieved_by"] == started["attempt_id"]
    wait_until(lambda: not service.status()["attention"], "the alarm is off")
    assert _files(service) == [], "what made no sense is wiped by the success"
    assert service.events() == ["Created", "AuthorizationRequested", "Retrieved"]
    assert_whole(service)


@pytest.mark.parametrize(
    ("mode", "status"),
    [("server_error", 503), ("garbage", 503), ("hang", 503), ("rate_limited", 503), ("invalid_client", 424)],
)
def test_a_provider_that_gives_no_code_changes_nothing(
    service: ServiceProcess, practice: FaultyProvider, mode: str, status: int
) -> None:
    is_unchanged = unchanged(service)
    with practice.inject_fault(mode, endpoint="device_authorization", times=None):
        assert service.call("POST", f"/api/v1/profiles/{SMTP}/token", {}).status == status
    assert is_unchanged()
    assert service.get_token()["token"] == RETRIEVED


# Renewal


def due(service: ServiceProcess, practice: FaultyProvider) -> str:
    """Get a token and let so much time pass that too little is left of it to be handed out; the access token."""
    service.get_token()
    access_token: str = service.access_token().body["access_token"]
    assert practice.grant_counts["refresh_token"] == 0
    service.clock.step(minutes=55)
    return access_token


@both_kinds
def test_sixteen_readers_of_a_token_that_is_due_send_one_renewal(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    first = due(service, practice)
    renewal = practice.hold(grant_type="refresh_token")
    settings = [LINKED[number % len(LINKED)] for number in range(16)]
    with ThreadPoolExecutor(16) as readers:
        reading = [readers.submit(service.access_token, setting) for setting in settings]
        renewal.wait_until_held(60)
        renewal.release()
        served = [one.result(60) for one in reading]
    assert {one.status for one in served} == {200}
    [second] = {one.body["access_token"] for one in served}
    assert second != first
    assert practice.grant_counts["refresh_token"] == 1
    assert service.events()[-2:] == ["Retrieved", "Renewed"]
    # A renewal is the token's own affair: no setting changes.
    assert len([one for one in service.history() if one["event"] == "TokenReceived"]) == len(LINKED)
    assert_whole(service)


@both_kinds
def test_while_the_provider_asks_for_patience_the_token_in_hand_is_served(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    access_token = due(service, practice)
    with practice.inject_fault("rate_limited", grant_type="refresh_token", times=None, retry_after=60):
        for _ in range(5):
            served = service.access_token()
            assert (served.status, served.body["access_token"]) == (200, access_token)
    assert practice.grant_counts["refresh_token"] == 1, "it asked again before Retry-After was over"
    # An administrator's word goes past that.
    assert service.renew().status == 200
    assert service.access_token().body["access_token"] != access_token


@pytest.mark.parametrize("kind", ["oidc"])
@pytest.mark.parametrize(
    ("mode", "details", "attention"),
    [
        ("server_error", {}, None),
        ("temporarily_unavailable", {"retry_after": 5}, None),
        ("rate_limited", {}, None),
        ("garbage", {}, "reply_in_doubt"),
        ("truncated", {}, "reply_in_doubt"),
        ("no_access_token", {}, "reply_in_doubt"),
        ("oversized", {"size_bytes": 600_000}, "reply_in_doubt"),
        ("redirect", {"location": "https://localhost/elsewhere"}, None),
        ("hang", {}, None),
        ("answer_lost", {}, None),
        ("error", {"error": "never_heard_of"}, "unknown_error"),
        ("error", {"error": "invalid_grant", "error_codes": (50196,)}, None),
        ("invalid_client", {}, "client_registration"),
        ("error", {"error": "invalid_client", "error_codes": (7000222,)}, "client_registration"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_the_provider_does_not_say_for_good_leaves_the_token_as_it_is(
    service: ServiceProcess, practice: FaultyProvider, mode: str, details: dict[str, Any], attention: str | None
) -> None:
    practice.rules.refresh = "grace"
    service.get_token()
    access_token = service.access_token().body["access_token"]
    is_unchanged = unchanged(service)
    with practice.inject_fault(mode, grant_type="refresh_token", **details) as fault:
        answer = service.renew()
        assert fault.met == 1
    assert answer.status == 503, answer.body
    assert is_unchanged()
    shown = assert_agree(service.statuses())
    assert (shown["token"], shown["reason"], shown["attention"]) == (RETRIEVED, None, attention)
    assert service.access_token().body["access_token"] == access_token
    assert bool(list(service.escrow.glob("*.doubt"))) is (attention == "reply_in_doubt")
    # It is over as soon as the provider comes to its senses.
    assert service.renew().status == 200
    shown = assert_agree(service.statuses())
    assert (shown["token"], shown["attention"]) == (RETRIEVED, None)
    assert _files(service) == []
    assert_whole(service)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"error": "invalid_grant"}, "invalid_grant"),
        ({"error": "invalid_grant", "error_codes": (700082,)}, "invalid_grant"),
        ({"error": "invalid_grant", "error_codes": (70043,)}, "sign_in_frequency"),
        ({"error": "interaction_required"}, "interaction_required"),
        ({"error": "invalid_grant", "error_codes": (50076,)}, "interaction_required"),
        ({"error": "invalid_grant", "error_codes": (53003,)}, "policy"),
        ({"error": "invalid_grant", "error_codes": (65001,)}, "consent_required"),
        ({"error": "invalid_grant", "error_codes": (50057,)}, "account_not_available"),
        ({"error": "invalid_grant", "suberror": "consent_required"}, "consent_required"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_what_the_provider_says_for_good_makes_the_token_invalid_with_its_reason(
    service: ServiceProcess, practice: FaultyProvider, details: dict[str, Any], reason: str
) -> None:
    service.get_token()
    practice.inject_fault("error", grant_type="refresh_token", **details)
    answer = service.renew(QUICK)
    assert (answer.status, "Token update failed" in answer.body["detail"]) == (424, True)
    shown = assert_agree(service.statuses())
    assert (shown["token"], shown["reason"], shown["attention"]) == (INVALID, reason, reason)
    refused = service.access_token(ALERT)
    assert (refused.status, INVALID in refused.body["detail"]) == (409, True)
    # What was said may be taken back: an administrator's renewal reinstates it.
    assert service.renew().status == 200
    assert assert_agree(service.statuses())["token"] == RETRIEVED
    assert service.access_token().status == 200
    assert_whole(service)


def test_a_strict_provider_refuses_the_refresh_token_whose_reply_was_lost(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    service.get_token()
    practice.inject_fault("answer_lost", grant_type="refresh_token")
    assert service.renew().status == 503
    assert assert_agree(service.statuses())["token"] == RETRIEVED
    assert service.renew().status == 424
    assert assert_agree(service.statuses())["reason"] == "reply_lost"
    # Invalid, deleted, obtained again: as the manual tells people to do.
    assert service.delete().status == 200
    assert service.get_token()["token"] == RETRIEVED
    assert_whole(service)


@pytest.mark.parametrize(
    ("mode", "details", "lifetime_seconds"),
    [
        ("no_refresh_token", {}, 3600),
        ("no_id_token", {}, 3600),
        ("id_token", {"forged": True}, 3600),
        ("no_expires_in", {}, 3600),
        ("expires_in", {"value": -5}, 3600),
        ("expires_in", {"value": "1800"}, 1800),
        ("expires_in", {"value": 10**12}, 3600),
        ("trickle", {"piece_bytes": 100}, 3600),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_renewal_with_an_odd_reply_that_says_enough_is_taken(
    service: ServiceProcess, practice: FaultyProvider, mode: str, details: dict[str, Any], lifetime_seconds: int
) -> None:
    practice.rules.refresh = "static" if mode == "no_refresh_token" else "rotate"
    service.get_token()
    practice.inject_fault(mode, grant_type="refresh_token", **details)
    assert service.renew().status == 200
    [*_, renewed] = [one["facts"] for one in service.history() if one["event"] == "Renewed"]
    life = read_instant(renewed["expires_at"]) - read_instant(renewed["issued_at"])
    assert life == timedelta(seconds=lifetime_seconds)
    assert renewed["renewable"]
    assert service.renew().status == 200
    assert_whole(service)


# Mail


def test_a_token_the_mail_server_rejects_is_renewed_once(
    make_service: MakeService, practice: FaultyProvider, mail: FaultyMailServer
) -> None:
    service = make_service(mail=mail)
    service.add_printer()
    service.get_token()
    practice.expire_access_tokens(SCAN)
    assert service.ask("POST", f"/api/v1/profiles/{SMTP}/test", {})["ok"]
    assert practice.grant_counts["refresh_token"] == 1
    # It is not the token's fault if the next one is rejected too.
    with mail.inject_fault("answer", times=None, reply="535 5.7.3 Authentication unsuccessful"):
        report = service.ask("POST", f"/api/v1/profiles/{SMTP}/test", {})
    assert (report["ok"], report["fault"]) == (False, "permission")
    assert practice.grant_counts["refresh_token"] == 2
    assert assert_agree(service.statuses())["token"] == RETRIEVED


def _ended(service: ServiceProcess) -> Json | None:
    shown = assert_agree(service.statuses())
    return None if shown["attempt_id"] else shown


def _files(service: ServiceProcess) -> list[str]:
    return [path.name for path in service.escrow.iterdir() if path.name != "lock"]

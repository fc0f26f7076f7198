"""Reading replies: whatever the body, an outcome and never an exception."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_fakes import NOON, reply_of

from adapters.http_client import BODY_LIMIT_BYTES, NoReply
from adapters.providers.discovery import WrongAuthority
from adapters.providers.id_tokens import InvalidIdToken
from adapters.providers.token_responses import (
    LONGEST_GRANT_SECONDS,
    lifetime_seconds,
    read_device_authorization,
    read_poll,
    read_renewal,
    retry_after_seconds,
)
from domain.errors import Failed, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    AttemptOver,
    ClientFault,
    Credential,
    DeviceAuthorization,
    GrantDead,
    Granted,
    Identity,
    InDoubt,
    Pending,
    Reason,
    RenewalOutcome,
    Transient,
)
from domain.ports import Reply
from domain.secret import Secret

SCANNER = Identity("scan@contoso.com", "sub-1", "tid-1")
PENDING = DeviceAuthorization(
    "ABCD-EFGH", "https://login.example.com/device", None, 5, NOON + timedelta(minutes=15), Secret("{}")
)
OLD = Credential(Secret("old access"), Secret("old refresh"), "mail", NOON - timedelta(hours=1), NOON)
GRANT = {"access_token": "new access", "refresh_token": "new refresh", "expires_in": 3600, "token_type": "Bearer"}


def identify(id_token: object, received_at: datetime, access_token: Secret | None) -> Identity:
    if id_token != "good":
        raise InvalidIdToken("aud")
    return SCANNER


def no_keys(id_token: object, received_at: datetime, access_token: Secret | None) -> Identity:
    raise NoReply("no connection")


def polled(reply: Reply) -> AcquisitionOutcome:
    return read_poll(reply, PENDING, "mail", identify)


def renewed(reply: Reply) -> RenewalOutcome:
    return read_renewal(reply, OLD, identify)


def granted(**changes: object) -> Granted:
    outcome = renewed(reply_of(json.dumps({**GRANT, **changes})))
    assert isinstance(outcome, Granted)
    return outcome


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3599, 3599),
        (1, 1),
        (3599.9, 3599),
        (28 * 3600, 28 * 3600),
        ("3599", 3599),
        (-1, 3600),
        (0, 3600),
        (None, 3600),
        ("soon", 3600),
        ("nan", 3600),
        ("inf", 3600),
        (True, 3600),
        ([3600], 3600),
        (10**6, 3600),
        (10**400, 3600),
        (1e308, 3600),
    ],
)
def test_expires_in_is_taken_clamped_or_replaced(expires_in: object, seconds: int) -> None:
    assert lifetime_seconds({"expires_in": expires_in})[0] == seconds


@pytest.mark.parametrize("expires_in", [-1, 0, "soon", "3600", 10**6, None])
def test_an_expires_in_that_is_not_taken_as_it_is_gives_a_warning(expires_in: object) -> None:
    assert granted(expires_in=expires_in).warning
    assert not granted(expires_in=3600).warning


def test_a_lifetime_counts_from_the_reply() -> None:
    credential = granted(expires_in=100).credential
    assert (credential.issued_at, credential.expires_at) == (NOON, NOON + timedelta(seconds=100))


@pytest.mark.parametrize("refresh_token", [None, "", 7, "with\r\nline break"])
def test_a_renewal_without_a_usable_new_refresh_token_keeps_the_old_one(refresh_token: object) -> None:
    assert granted(refresh_token=refresh_token).credential.refresh_token == OLD.refresh_token


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"refresh_token_expires_in": 604800}, 604800),
        ({"refresh_expires_in": 1800}, 1800),
        ({"refresh_expires_in": "1800"}, 1800),
        ({"refresh_token_expires_in": 604800, "refresh_expires_in": 1800}, 604800),
        ({"refresh_expires_in": 0}, None),
        ({"refresh_expires_in": -1}, None),
        ({"refresh_expires_in": "never"}, None),
        ({"refresh_token_expires_in": LONGEST_GRANT_SECONDS}, LONGEST_GRANT_SECONDS),
        ({"refresh_token_expires_in": LONGEST_GRANT_SECONDS + 1}, None),
        ({}, None),
    ],
)
def test_the_end_of_the_grant_is_what_google_and_keycloak_say_and_an_offline_grant_has_none(
    fields: dict[str, object], seconds: int | None
) -> None:
    ends_at = granted(**fields).credential.grant_expires_at
    assert ends_at == (seconds and NOON + timedelta(seconds=seconds))


def test_a_renewal_takes_the_new_refresh_token_and_scope() -> None:
    credential = granted(scope="mail openid").credential
    assert credential.refresh_token == Secret("new refresh")
    assert credential.scope == "mail openid"
    assert granted().credential.scope == "mail"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<!doctype html><title>Sign in to the network</title>",
        json.dumps(GRANT)[:40],
        "[]",
        '"text"',
        "null",
        b"\xff\xfe\x00",
        "[" * 200_000,
        json.dumps({"token_type": "Bearer"}),
        json.dumps({**GRANT, "access_token": ""}),
        json.dumps({**GRANT, "access_token": ["a"]}),
        json.dumps({**GRANT, "access_token": "a\r\nb"}),
        json.dumps({**GRANT, "token_type": "DPoP"}),
        json.dumps(GRANT).ljust(BODY_LIMIT_BYTES + 1),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_success_that_makes_no_sense_is_in_doubt(body: bytes | str) -> None:
    assert isinstance(renewed(reply_of(body)), InDoubt)
    assert isinstance(polled(reply_of(body)), InDoubt)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", ["", "<h1>no</h1>", '{"error": "invalid_grant", "error_codes": [50173]}'])
def test_a_status_of_trouble_is_transient_whatever_the_body(status: int, body: str) -> None:
    expected = Transient(f"HTTP {status}", 17)
    assert renewed(reply_of(body, status, retry_after="17")) == expected
    assert polled(reply_of(body, status, retry_after="17")) == expected


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 407])
def test_a_refusal_without_an_oauth_error_is_transient(status: int) -> None:
    assert isinstance(renewed(reply_of("<h1>blocked</h1>", status)), Transient)


@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_an_oauth_error_counts_with_whatever_status_it_comes(status: int) -> None:
    assert renewed(reply_of('{"error": "invalid_grant"}', status)) == GrantDead(Reason.INVALID_GRANT, "invalid_grant")


@pytest.mark.parametrize("status", [400, 403, 428, 429])
def test_slow_down_and_pending_count_with_googles_status_too(status: int) -> None:
    assert polled(reply_of('{"error": "slow_down"}', status)) == Pending(10)
    assert polled(reply_of('{"error": "authorization_pending"}', status)) == Pending(5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 1),
        ("999999", 3600),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 1),
        ("Mon, 02 Mar 2026 12:00:00 GMT", 3600),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, 3600),
        ("²", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_within_limits(text: str, seconds: int | None) -> None:
    assert retry_after_seconds(reply_of("", 503, retry_after=text)) == seconds


def test_without_retry_after_the_backoff_is_the_callers() -> None:
    assert renewed(reply_of("", 503)) == Transient("HTTP 503", None)


def test_an_acquisition_says_who_signed_in() -> None:
    outcome = polled(reply_of(json.dumps({**GRANT, "id_token": "good"})))
    assert isinstance(outcome, Granted)
    assert outcome.identity == SCANNER
    assert outcome.credential.scope == "mail"


@pytest.mark.parametrize("id_token", [None, "bad", 7])
def test_an_acquisition_without_a_valid_id_token_is_over(id_token: object) -> None:
    reply = reply_of(json.dumps({**GRANT, "id_token": id_token}))
    assert polled(reply) == AttemptOver(Reason.ID_TOKEN_INVALID, "aud")


def test_an_acquisition_whose_keys_cant_be_fetched_is_read_again_later() -> None:
    reply = reply_of(json.dumps({**GRANT, "id_token": "good"}))
    assert isinstance(read_poll(reply, PENDING, "mail", no_keys), Transient)


def test_an_acquisition_whose_authority_has_moved_is_read_again_later() -> None:
    def moved(id_token: object, received_at: datetime, access_token: Secret | None) -> Identity:
        raise WrongAuthority("HTTP 404", "issuer")

    reply = reply_of(json.dumps({**GRANT, "id_token": "good"}))
    assert isinstance(read_poll(reply, PENDING, "mail", moved), Transient)


@pytest.mark.parametrize("error", ["temporarily_unavailable", "something_new"])
def test_a_success_with_an_error_that_decides_nothing_is_in_doubt(error: str) -> None:
    expected = InDoubt("error_in_success_reply", error)
    assert renewed(reply_of(json.dumps({"error": error}))) == expected
    assert polled(reply_of(json.dumps({"error": error}))) == expected


def test_a_renewal_is_never_lost_over_its_id_token() -> None:
    reply = reply_of(json.dumps({**GRANT, "id_token": "bad"}))
    invalid, unknown = read_renewal(reply, OLD, identify), read_renewal(reply, OLD, no_keys)
    assert isinstance(invalid, Granted)
    assert isinstance(unknown, Granted)
    assert (invalid.identity, unknown.identity) == (None, None)
    assert invalid.warning == "renewal_id_token_invalid"
    assert unknown.credential == invalid.credential


@given(st.binary(max_size=200), st.integers(200, 599))
def test_no_body_makes_the_reader_raise(body: bytes, status: int) -> None:
    assert renewed(reply_of(body, status)) is not None
    assert polled(reply_of(body, status)) is not None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_fields = st.sampled_from(
    ["access_token", "refresh_token", "expires_in", "token_type", "scope", "id_token", "error", "error_codes"]
)


@given(st.dictionaries(_fields, _json), st.sampled_from([200, 400, 401, 429, 500]))
def test_no_field_makes_the_reader_raise(document: dict[str, object], status: int) -> None:
    reply = reply_of(json.dumps(document), status)
    assert renewed(reply) is not None
    assert polled(reply) is not None


CODE = {
    "device_code": "the secret code",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://login.example.com/device",
    "expires_in": 900,
    "interval": 5,
}


def device_authorization(status: int = 200, **changes: object) -> DeviceAuthorization:
    return read_device_authorization("contoso", reply_of(json.dumps({**CODE, **changes}), status), "mail")


def test_a_device_code_counts_from_the_reply_and_is_sealed_in_the_state() -> None:
    code = device_authorization()
    assert code.expires_at == NOON + timedelta(seconds=900)
    assert code.interval_seconds == 5
    assert json.loads(code.state.reveal()) == {"device_code": "the secret code", "scope": "mail"}
    assert "the secret code" not in repr(code)


@pytest.mark.parametrize(
    ("interval", "seconds"), [("7", 7), (None, 5), (0, 1), (-3, 5), ("often", 5), (10**9, 300), (2.5, 2)]
)
def test_the_interval_is_read_defaulted_or_clamped(interval: object, seconds: int) -> None:
    assert device_authorization(interval=interval).interval_seconds == seconds


def test_googles_name_for_the_verification_uri_is_understood() -> None:
    code = device_authorization(verification_uri=None, verification_url="https://www.google.com/device")
    assert code.verification_uri == "https://www.google.com/device"


@pytest.mark.parametrize(
    "changes",
    [
        {"device_code": None},
        {"user_code": ""},
        {"user_code": "AB\x1b[2JCD"},
        {"verification_uri": None},
        {"status": 500},
        {"status": 500, "error": "invalid_client"},
        {"status": 429, "error": "invalid_client"},
        {"status": 400, "error": "temporarily_unavailable"},
    ],
)
def test_no_device_code_for_now_means_try_again(changes: dict[str, object]) -> None:
    if "error" in changes or "status" in changes:
        changes = {**dict.fromkeys(CODE), **changes}
    with pytest.raises(Unreachable, match="contoso"):
        device_authorization(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "number", "code", "setting"),
    [
        ("invalid_client", None, "invalid_client", "client_id, client_secret_file or certificate_file"),
        ("unauthorized_client", 700016, "AADSTS700016", "client_id"),
        ("invalid_request", 90002, "AADSTS90002", "tenant"),
        ("invalid_scope", None, "invalid_scope", "scopes"),
        ("invalid_request", None, "invalid_request", "client_id and scopes"),
    ],
)
def test_a_refusal_to_give_a_device_code_names_the_setting(
    error: str, number: int | None, code: str, setting: str
) -> None:
    reply = reply_of(
        json.dumps({"error": error, "error_codes": [number], "error_description": "long story\r\n in lines"}), 400
    )
    with pytest.raises(Failed, match="device_code_refused") as refusal:
        read_device_authorization("contoso", reply, "mail")
    words = "long story in lines"
    assert refusal.value.fields == {
        "provider": "contoso",
        "error": code,
        "setting": setting,
        "provider_words": words,
    }


def test_a_client_fault_during_an_attempt_is_not_the_attempts() -> None:
    assert polled(reply_of('{"error": "invalid_client"}', 401)) == ClientFault(
        "invalid_client", "client_id, client_secret_file or certificate_file"
    )

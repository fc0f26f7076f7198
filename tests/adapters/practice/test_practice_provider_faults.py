"""Each fault of the practice provider, seen from a client."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msal
import pytest
import requests
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet
from practice_faults.provider import DEVICE_CODE_GRANT, Endpoint, FaultyProvider

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA

SCAN = "scan@contoso.com"
FAX = "fax@contoso.com"

SignIn = Callable[..., dict[str, Any]]
Refresh = Callable[..., requests.Response]


# Answers in place of the work


@pytest.mark.parametrize(
    ("mode", "details", "status", "body"),
    [
        ("slow_down", {}, 400, {"error": "slow_down"}),
        ("authorization_pending", {"status": 428}, 428, {"error": "authorization_pending"}),
        ("access_denied", {}, 400, {"error": "access_denied"}),
        ("expired_token", {}, 400, {"error": "expired_token"}),
        ("invalid_grant", {"error_codes": (50173,)}, 400, {"error": "invalid_grant", "error_codes": [50173]}),
        (
            "invalid_grant",
            {"error_codes": (50076,), "suberror": "basic_action"},
            400,
            {"error": "invalid_grant", "error_codes": [50076], "suberror": "basic_action"},
        ),
        ("invalid_client", {"status": 401}, 401, {"error": "invalid_client"}),
        ("error", {"error": "brand_new_error"}, 400, {"error": "brand_new_error"}),
        ("temporarily_unavailable", {}, 503, {"error": "temporarily_unavailable"}),
        ("rate_limited", {}, 429, {"error": "temporarily_unavailable"}),
    ],
)
def test_an_error_is_given_without_any_work(
    provider: FaultyProvider,
    sign_in: SignIn,
    refresh: Refresh,
    mode: str,
    details: dict[str, Any],
    status: int,
    body: dict[str, Any],
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.inject_fault(mode, **details)
    answer = refresh(provider, token)
    told = answer.json()
    assert told.pop("error_description")
    assert (answer.status_code, told) == (status, body)
    assert provider.requests[-1].outcome == body["error"]
    assert provider.live_refresh_tokens(SCAN) == [token]
    assert refresh(provider, token).ok


def test_an_unknown_mode_is_refused(provider: FaultyProvider) -> None:
    with pytest.raises(ValueError, match="garbge"):
        provider.inject_fault("garbge")


@pytest.mark.parametrize(
    ("mode", "details", "status", "headers"),
    [
        ("server_error", {}, 500, {}),
        ("garbage", {}, 200, {}),
        ("redirect", {"location": "http://169.254.169.254/"}, 302, {"Location": "http://169.254.169.254/"}),
    ],
)
def test_an_answer_may_not_be_json_at_all(
    provider: FaultyProvider,
    sign_in: SignIn,
    refresh: Refresh,
    mode: str,
    details: dict[str, Any],
    status: int,
    headers: dict[str, str],
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.inject_fault(mode, **details)
    answer = refresh(provider, token, allow_redirects=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert headers.items() <= answer.headers.items()
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert provider.live_refresh_tokens(SCAN) == [token]


@pytest.mark.parametrize("retry_after", [7, "Fri, 31 Dec 2027 23:59:59 GMT"])
@pytest.mark.parametrize("mode", ["rate_limited", "temporarily_unavailable"])
def test_a_client_is_told_when_to_come_again(
    provider: FaultyProvider, refresh: Refresh, mode: str, retry_after: int | str
) -> None:
    provider.inject_fault(mode, retry_after=retry_after)
    assert refresh(provider, "any").headers["Retry-After"] == str(retry_after)


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("discovery", "/.well-known/openid-configuration"),
        ("jwks", "/discovery/keys"),
        ("device_authorization", "/oauth2/devicecode"),
        ("revocation", "/oauth2/revoke"),
        ("introspection", "/oauth2/introspect"),
    ],
)
def test_every_endpoint_can_fail_and_the_others_go_on(
    provider: FaultyProvider, http: requests.Session, sign_in: SignIn, endpoint: Endpoint, path: str
) -> None:
    with provider.inject_fault("server_error", endpoint=endpoint) as fault:
        method = "GET" if endpoint in {"discovery", "jwks"} else "POST"
        assert http.request(method, provider.issuer + path, timeout=60).status_code == 500
        assert fault.met == 1
        assert sign_in(provider)["access_token"]
    assert [record.outcome for record in provider.requests].count("500") == 1


def test_hanging_ends_after_its_time_without_an_answer(provider: FaultyProvider, refresh: Refresh) -> None:
    provider.inject_fault("hang", seconds=0.05)
    with pytest.raises(requests.ConnectionError):
        refresh(provider, "any")
    assert provider.requests[-1].outcome == "no answer"


def test_a_client_that_hangs_gives_up_by_itself_and_others_are_served(
    provider: FaultyProvider, sign_in: SignIn, refresh: Refresh
) -> None:
    token = sign_in(provider)["refresh_token"]
    with provider.inject_fault("hang") as hang:
        with pytest.raises(requests.ReadTimeout):
            refresh(provider, token, timeout=0.2)
        hang.wait_until_met()
        assert provider.requests[-1].outcome is None
        assert refresh(provider, token).ok


def test_closing_lets_go_of_clients_that_hang(ca: PracticeCA, refresh: Refresh) -> None:
    with ThreadPoolExecutor(1) as pool, FaultyProvider(ca) as provider:
        hang = provider.inject_fault("hang")
        waiting = pool.submit(refresh, provider, "any", timeout=30)
        hang.wait_until_met()
        provider.close()
        with pytest.raises(requests.ConnectionError):
            waiting.result(timeout=60)


# Answers spoiled after the work


@pytest.mark.parametrize(
    ("mode", "details", "field", "value"),
    [
        ("no_refresh_token", {}, "refresh_token", None),
        ("no_access_token", {}, "access_token", None),
        ("no_id_token", {}, "id_token", None),
        ("no_expires_in", {}, "expires_in", None),
        ("expires_in", {"value": -1}, "expires_in", -1),
        ("expires_in", {"value": 10**12}, "expires_in", 10**12),
        ("expires_in", {"value": "3600"}, "expires_in", "3600"),
        ("edit", {"fields": {"refresh_in": 1800}}, "refresh_in", 1800),
        ("edit", {"without": ("scope",)}, "scope", None),
    ],
)
def test_a_reply_may_lack_a_field_or_hold_nonsense(
    provider: FaultyProvider,
    sign_in: SignIn,
    refresh: Refresh,
    mode: str,
    details: dict[str, Any],
    field: str,
    value: object,
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.inject_fault(mode, **details)
    reply = refresh(provider, token).json()
    assert reply.get(field) == value
    assert {"access_token", "refresh_token", "token_type"} - {field} <= reply.keys()
    assert provider.live_refresh_tokens(SCAN) != [token]


def test_a_truncated_reply_is_half_of_the_json_after_the_work(
    provider: FaultyProvider, sign_in: SignIn, refresh: Refresh
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.inject_fault("truncated")
    answer = refresh(provider, token)
    assert answer.status_code == 200
    assert answer.text.startswith('{"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)
    assert token not in provider.live_refresh_tokens(SCAN)


def test_a_lost_answer_is_that_of_a_rotation_which_happened(
    provider: FaultyProvider, sign_in: SignIn, refresh: Refresh
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.inject_fault("answer_lost")
    with pytest.raises(requests.ConnectionError):
        refresh(provider, token)
    assert provider.requests[-1].outcome == "no answer"
    (unknown_to_the_client,) = provider.live_refresh_tokens(SCAN)
    assert unknown_to_the_client != token


def test_a_trickling_answer_never_times_out_a_read_and_is_whole_in_the_end(
    provider: FaultyProvider, sign_in: SignIn, refresh: Refresh
) -> None:
    token = sign_in(provider)["refresh_token"]
    with ThreadPoolExecutor(1) as pool, provider.inject_fault("trickle", seconds_a_piece=0.05) as trickle:
        answer = pool.submit(refresh, provider, token, timeout=1)
        trickle.wait_until_met()
        assert not answer.done()
        trickle.release()
        assert answer.result(timeout=60).json()["refresh_token"] == provider.live_refresh_tokens(SCAN)[0]


def test_an_oversized_answer_is_as_long_as_asked_for(
    provider: FaultyProvider, sign_in: SignIn, refresh: Refresh
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.inject_fault("oversized", size_bytes=3_000_000)
    assert len(refresh(provider, token).content) == 3_000_000


def test_discovery_may_name_another_issuer(provider: FaultyProvider, http: requests.Session) -> None:
    provider.inject_fault("edit", endpoint="discovery", fields={"issuer": "https://evil.example/contoso"})
    with pytest.raises(ValueError, match=r"evil\.example"):
        msal.PublicClientApplication(provider.client_id, oidc_authority=provider.issuer, http_client=http)


def test_faults_of_an_answer_wait_for_a_request_that_succeeds(
    provider: FaultyProvider, ask_device: SignIn, poll: Refresh
) -> None:
    device = ask_device(provider)
    fault = provider.inject_fault("no_refresh_token")
    assert poll(provider, device).json()["error"] == "authorization_pending"
    assert fault.met == 0
    browser_user.approve(device["verification_uri"], device["user_code"], SCAN, provider.ca_file)
    assert "refresh_token" not in poll(provider, device).json()
    assert fault.met == 1


# Who signs in


def claims(provider: FaultyProvider, http: requests.Session, id_token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(http.get(f"{provider.issuer}/discovery/keys", timeout=60).json())
    return jwt.decode(id_token, keys, algorithms=["RS256"]).claims


@pytest.mark.parametrize(("details", "signed_in"), [({}, FAX), ({"account": "boss@contoso.com"}, "boss@contoso.com")])
def test_somebody_else_may_sign_in(
    provider: FaultyProvider, http: requests.Session, sign_in: SignIn, details: dict[str, Any], signed_in: str
) -> None:
    provider.inject_fault("wrong_account", **details)
    token = sign_in(provider, SCAN)
    assert claims(provider, http, token["id_token"])["preferred_username"] == signed_in
    assert provider.live_refresh_tokens(signed_in) == [token["refresh_token"]]
    assert provider.live_refresh_tokens(SCAN) == []


def test_an_id_token_may_be_for_another_audience(
    provider: FaultyProvider, http: requests.Session, sign_in: SignIn
) -> None:
    provider.inject_fault("id_token", claims={"aud": "another-client", "nonce": "stale"})
    told = claims(provider, http, sign_in(provider)["id_token"])
    assert (told["aud"], told["nonce"], told["iss"]) == ("another-client", "stale", provider.issuer)


def test_an_id_token_may_be_forged(provider: FaultyProvider, http: requests.Session, sign_in: SignIn) -> None:
    provider.inject_fault("id_token", forged=True)
    forged, real = sign_in(provider)["id_token"], sign_in(provider)["id_token"]
    with pytest.raises(BadSignatureError):
        claims(provider, http, forged)
    assert claims(provider, http, real)["preferred_username"] == SCAN


# For how long, and for whom


def test_a_fault_lasts_as_often_as_told_and_is_met_in_order(provider: FaultyProvider, refresh: Refresh) -> None:
    provider.inject_fault("server_error", times=2)
    provider.inject_fault("temporarily_unavailable")
    assert [refresh(provider, "unknown").status_code for _ in range(4)] == [500, 500, 503, 400]


def test_a_fault_without_a_limit_lasts_until_it_is_cleared(provider: FaultyProvider, refresh: Refresh) -> None:
    fault = provider.inject_fault("server_error", times=None)
    assert {refresh(provider, "unknown").status_code for _ in range(5)} == {500}
    provider.clear_faults()
    assert refresh(provider, "unknown").status_code == 400
    assert fault.met == 5


def test_a_fault_can_be_for_one_grant_type(provider: FaultyProvider, sign_in: SignIn, refresh: Refresh) -> None:
    provider.inject_fault("invalid_grant", grant_type="refresh_token")
    token = sign_in(provider)["refresh_token"]
    assert refresh(provider, token).json()["error"] == "invalid_grant"
    assert provider.grant_counts == {DEVICE_CODE_GRANT: 1, "refresh_token": 1}


# Holding a request


@pytest.mark.parametrize("before_work", [False, True])
def test_a_held_request_stops_at_its_point_until_it_is_released(
    provider: FaultyProvider, sign_in: SignIn, refresh: Refresh, before_work: bool
) -> None:
    token = sign_in(provider)["refresh_token"]
    with ThreadPoolExecutor(1) as pool, provider.hold(before_work=before_work) as hold:
        answer = pool.submit(refresh, provider, token)
        hold.wait_until_held()
        assert (provider.live_refresh_tokens(SCAN) == [token]) is before_work
        assert provider.requests[-1].outcome is None
        hold.release()
        assert answer.result(timeout=60).json()["refresh_token"] == provider.live_refresh_tokens(SCAN)[0]


def test_waiting_for_a_request_that_does_not_come_ends_in_time(provider: FaultyProvider) -> None:
    with pytest.raises(TimeoutError):
        provider.hold().wait_until_held(0.01)


def test_others_pass_a_held_request(provider: FaultyProvider, sign_in: SignIn, refresh: Refresh) -> None:
    mine, other = sign_in(provider, SCAN)["refresh_token"], sign_in(provider, FAX)["refresh_token"]
    with ThreadPoolExecutor(1) as pool, provider.hold() as hold:
        held = pool.submit(refresh, provider, mine)
        hold.wait_until_held()
        assert refresh(provider, other).ok
        assert not held.done()
        hold.release()
        assert held.result(timeout=60).ok

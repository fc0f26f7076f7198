"""The practice provider, seen from its clients: msal, Authlib and plain HTTP."""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msal
import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.discovery import OpenIDProviderMetadata
from freezegun import freeze_time
from joserfc import jwt
from joserfc.jwk import KeySet
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA

SCAN = "scan@contoso.com"
FAX = "fax@contoso.com"
MAIL_SCOPE = ["https://outlook.office.com/SMTP.Send"]
REDIRECT_URI = "http://127.0.0.1:8400/callback"


class Clock:
    """A clock that goes only when told to."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class StoppingClock(Clock):
    """A clock that keeps one of its callers waiting: the `stop_at`th from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.stop_at = 0
        self.stopped = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> datetime:
        self.stop_at -= 1
        if self.stop_at == 0:
            self.stopped.set()
            self.go_on.wait(60)
        return super().__call__()


def metadata(provider: FaultyProvider, http: requests.Session) -> dict[str, Any]:
    answer: dict[str, Any] = http.get(f"{provider.issuer}/.well-known/openid-configuration", timeout=60).json()
    return answer


def claims(provider: FaultyProvider, http: requests.Session, id_token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(http.get(metadata(provider, http)["jwks_uri"], timeout=60).json())
    return jwt.decode(id_token, keys, algorithms=["RS256"]).claims


def oauth2_session(provider: FaultyProvider, ca: PracticeCA, **options: Any) -> OAuth2Session:
    session = OAuth2Session(
        **{"client_id": provider.client_id, "token_endpoint_auth_method": "none", "scope": "openid mail", **options}
    )
    session.trust_env = False
    session.verify = str(ca.ca_file)
    return session


# msal


def test_msal_obtains_and_renews_a_token_by_a_device_code(provider: FaultyProvider, http: requests.Session) -> None:
    app = msal.PublicClientApplication(provider.client_id, oidc_authority=provider.issuer, http_client=http)
    flow = app.initiate_device_flow(MAIL_SCOPE)
    assert app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)["error"] == "authorization_pending"

    browser_user.approve(flow["verification_uri"], flow["user_code"], SCAN, provider.ca_file)
    first = app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
    assert first["id_token_claims"]["preferred_username"] == SCAN
    assert app.get_accounts()[0]["username"] == SCAN

    second = app.acquire_token_silent_with_error(MAIL_SCOPE, app.get_accounts()[0], force_refresh=True)
    assert second["access_token"] != first["access_token"]
    assert provider.live_access_tokens(SCAN) == [first["access_token"], second["access_token"]]
    assert len(provider.live_refresh_tokens(SCAN)) == 1


# Authlib, and the RFCs one by one


def test_the_metadata_is_valid_and_complete(provider: FaultyProvider, http: requests.Session) -> None:
    document = metadata(provider, http)
    OpenIDProviderMetadata(document).validate()
    assert document["issuer"] == provider.issuer
    assert document["introspection_endpoint"] == provider.introspection_endpoint


def test_authlib_obtains_renews_and_revokes_a_token_by_a_device_code(
    provider: FaultyProvider, ca: PracticeCA, http: requests.Session, ask_device: Callable[..., dict[str, Any]]
) -> None:
    endpoints, device = metadata(provider, http), ask_device(provider)
    browser_user.approve(device["verification_uri_complete"], device["user_code"], SCAN, ca.ca_file)
    with oauth2_session(provider, ca) as session:
        token = session.fetch_token(
            endpoints["token_endpoint"], grant_type=DEVICE_CODE_GRANT, device_code=device["device_code"]
        )
        renewed = session.refresh_token(endpoints["token_endpoint"], token["refresh_token"])
        assert renewed["refresh_token"] != token["refresh_token"]
        session.revoke_token(endpoints["revocation_endpoint"], renewed["refresh_token"], "refresh_token")
    assert provider.live_refresh_tokens(SCAN) == []
    assert provider.live_access_tokens(SCAN) == []


def test_the_id_token_says_who_signed_in_and_is_signed_by_a_published_key(
    provider: FaultyProvider, http: requests.Session, sign_in: Callable[..., dict[str, Any]]
) -> None:
    told = claims(provider, http, sign_in(provider, SCAN)["id_token"])
    assert told.pop("exp") - told.pop("iat") == 3600
    assert told == {
        "iss": provider.issuer,
        "aud": provider.client_id,
        "sub": provider.subject(SCAN),
        "tid": provider.tenant_id,
        "preferred_username": SCAN,
        "email": SCAN,
    }


@pytest.mark.parametrize("confidential", [False, True])
def test_an_authorization_code_needs_the_verifier_and_comes_with_the_issuer(
    provider: FaultyProvider, ca: PracticeCA, http: requests.Session, confidential: bool
) -> None:
    endpoints = metadata(provider, http)
    client = (
        {
            "client_id": provider.confidential_client_id,
            "client_secret": provider.client_secret,
            "token_endpoint_auth_method": "client_secret_post",
        }
        if confidential
        else {}
    )
    with oauth2_session(provider, ca, redirect_uri=REDIRECT_URI, code_challenge_method="S256", **client) as session:
        verifier = "v" * 43
        uri, state = session.create_authorization_url(
            endpoints["authorization_endpoint"], code_verifier=verifier, nonce="n1"
        )
        back = browser_user.sign_in(uri, FAX, ca.ca_file)
        sent = parse_qs(urlsplit(back).query)
        assert back.startswith(REDIRECT_URI)
        assert (sent["state"], sent["iss"]) == ([state], [provider.issuer])

        with pytest.raises(Exception, match="invalid_grant"):
            session.fetch_token(endpoints["token_endpoint"], authorization_response=back, code_verifier="w" * 43)
        token = session.fetch_token(endpoints["token_endpoint"], authorization_response=back, code_verifier=verifier)
        told = claims(provider, http, token["id_token"])
        assert (told["preferred_username"], told["nonce"]) == (FAX, "n1")
        with pytest.raises(Exception, match="invalid_grant"):
            session.fetch_token(endpoints["token_endpoint"], authorization_response=back, code_verifier=verifier)


def test_a_refused_authorization_goes_back_with_the_error_and_the_issuer(
    provider: FaultyProvider, ca: PracticeCA, http: requests.Session
) -> None:
    with oauth2_session(provider, ca, redirect_uri=REDIRECT_URI, code_challenge_method="S256") as session:
        uri, _ = session.create_authorization_url(
            metadata(provider, http)["authorization_endpoint"], code_verifier="v" * 43
        )
    sent = parse_qs(urlsplit(browser_user.refuse(uri, SCAN, ca.ca_file)).query)
    assert (sent["error"], sent["iss"]) == (["access_denied"], [provider.issuer])


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({"redirect_uri": "https://thief.example/"}, "invalid_request"),
        ({"client_id": "nobody"}, "invalid_client"),
    ],
)
def test_an_authorization_request_that_may_be_an_attack_is_answered_on_the_spot(
    provider: FaultyProvider, http: requests.Session, changed: dict[str, str], refused: str
) -> None:
    query = {"response_type": "code", "client_id": provider.client_id, "redirect_uri": REDIRECT_URI, **changed}
    answer = http.get(
        metadata(provider, http)["authorization_endpoint"], params=query, allow_redirects=False, timeout=60
    )
    assert answer.status_code == 400
    assert answer.json()["error"] == refused


def test_an_authorization_request_that_cannot_be_served_goes_back_with_the_error_and_the_issuer(
    provider: FaultyProvider, http: requests.Session
) -> None:
    query = {"response_type": "token", "client_id": provider.client_id, "redirect_uri": REDIRECT_URI, "state": "s1"}
    answer = http.get(
        metadata(provider, http)["authorization_endpoint"], params=query, allow_redirects=False, timeout=60
    )
    sent = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (sent["error"], sent["state"], sent["iss"]) == (["unsupported_response_type"], ["s1"], [provider.issuer])


def test_a_public_client_gets_nothing_for_a_code_without_pkce(
    provider: FaultyProvider, ca: PracticeCA, http: requests.Session
) -> None:
    endpoints = metadata(provider, http)
    with oauth2_session(provider, ca, redirect_uri=REDIRECT_URI) as session:
        back = browser_user.sign_in(
            session.create_authorization_url(endpoints["authorization_endpoint"])[0], FAX, ca.ca_file
        )
        with pytest.raises(Exception, match="code_verifier"):
            session.fetch_token(endpoints["token_endpoint"], authorization_response=back)


def test_client_credentials_give_an_access_token_of_the_client_itself(
    provider: FaultyProvider, http: requests.Session
) -> None:
    answer = http.post(
        f"{provider.issuer}/oauth2/token",
        data={"grant_type": "client_credentials", "scope": "https://outlook.office365.com/.default"},
        auth=(provider.confidential_client_id, provider.client_secret),
        timeout=60,
    ).json()
    assert "refresh_token" not in answer
    assert introspect(provider, http, answer["access_token"])["username"] == provider.confidential_client_id


def test_a_confidential_client_with_a_wrong_secret_is_an_invalid_client(
    provider: FaultyProvider, http: requests.Session
) -> None:
    answer = http.post(
        f"{provider.issuer}/oauth2/token",
        data={"grant_type": "client_credentials", "client_id": provider.confidential_client_id, "client_secret": "x"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def introspect(provider: FaultyProvider, http: requests.Session, token: str) -> dict[str, Any]:
    answer: dict[str, Any] = http.post(
        provider.introspection_endpoint,
        data={"token": token},
        auth=(provider.mail_server_client_id, provider.mail_server_client_secret),
        timeout=60,
    ).json()
    return answer


def test_introspection_describes_a_live_access_token_to_the_mail_server_alone(
    provider: FaultyProvider, http: requests.Session, sign_in: Callable[..., dict[str, Any]]
) -> None:
    token = sign_in(provider, SCAN)
    told = introspect(provider, http, token["access_token"])
    assert (told["active"], told["username"], told["client_id"]) == (True, SCAN, provider.client_id)
    assert introspect(provider, http, token["refresh_token"]) == {"active": False}
    others = http.post(
        provider.introspection_endpoint,
        data={"token": token["access_token"]},
        auth=(provider.confidential_client_id, provider.client_secret),
        timeout=60,
    )
    assert others.json() == {"active": False}


# Device codes


def test_a_denied_device_code_is_access_denied(
    provider: FaultyProvider, ask_device: Callable[..., dict[str, Any]], poll: Callable[..., requests.Response]
) -> None:
    device = ask_device(provider)
    browser_user.deny(device["verification_uri"], device["user_code"], SCAN, provider.ca_file)
    assert poll(provider, device).json()["error"] == "access_denied"


def test_a_device_code_expires_after_its_time(
    ca: PracticeCA, ask_device: Callable[..., dict[str, Any]], poll: Callable[..., requests.Response]
) -> None:
    clock = Clock()
    with FaultyProvider(ca, device_code_seconds=60, now=clock) as provider:
        device = ask_device(provider)
        assert device["expires_in"] == 60
        clock.advance(60)
        assert poll(provider, device).json()["error"] == "expired_token"
        with pytest.raises(browser_user.CouldNotSignIn):
            browser_user.approve(device["verification_uri"], device["user_code"], SCAN, ca.ca_file)


def test_a_device_code_is_redeemed_once(
    provider: FaultyProvider,
    ca: PracticeCA,
    ask_device: Callable[..., dict[str, Any]],
    poll: Callable[..., requests.Response],
) -> None:
    device = ask_device(provider)
    browser_user.approve(device["verification_uri"], device["user_code"], SCAN, ca.ca_file)
    assert poll(provider, device).ok
    assert poll(provider, device).json()["error"] == "invalid_grant"


def test_polling_too_fast_costs_five_seconds_for_good(
    ca: PracticeCA, ask_device: Callable[..., dict[str, Any]], poll: Callable[..., requests.Response]
) -> None:
    clock = Clock()
    with FaultyProvider(ca, interval=5, now=clock) as provider:
        device = ask_device(provider)
        assert poll(provider, device).json()["error"] == "authorization_pending"
        for seconds, error in [
            (2, "slow_down"),
            (10, "authorization_pending"),
            (5, "slow_down"),
            (15, "authorization_pending"),
        ]:
            clock.advance(seconds)
            assert poll(provider, device).json()["error"] == error


# Refresh tokens


def test_re_using_a_spent_refresh_token_kills_the_family_of_a_rotating_provider(
    provider: FaultyProvider, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    spent = sign_in(provider)["refresh_token"]
    live = refresh(provider, spent).json()["refresh_token"]
    assert provider.live_refresh_tokens(SCAN) == [live]
    assert refresh(provider, spent).json()["error"] == "invalid_grant"
    assert refresh(provider, live).json()["error"] == "invalid_grant"
    assert provider.live_refresh_tokens(SCAN) == []


def test_of_many_simultaneous_renewals_a_rotating_provider_grants_one(
    provider: FaultyProvider, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    token = sign_in(provider)["refresh_token"]
    together = threading.Barrier(8)

    def renew() -> int:
        together.wait()
        return refresh(provider, token).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(future.result() for future in [pool.submit(renew) for _ in range(8)])
    assert statuses == {200: 1, 400: 7}


def test_a_second_renewal_waits_until_the_first_is_done(
    ca: PracticeCA, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    clock = StoppingClock()
    with FaultyProvider(ca, now=clock) as provider, ThreadPoolExecutor(2) as pool:
        token = sign_in(provider)["refresh_token"]
        clock.stop_at = 2  # the request's arrival is the first call, its new tokens are the second
        first = pool.submit(refresh, provider, token)
        assert clock.stopped.wait(60)
        second = pool.submit(refresh, provider, token)
        wait([second], timeout=0.2)
        assert not second.done()
        clock.go_on.set()
        assert first.result(timeout=60).ok
        assert second.result(timeout=60).json()["error"] == "invalid_grant"


def test_a_spent_refresh_token_is_accepted_within_the_grace_and_not_after(
    ca: PracticeCA, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    clock = Clock()
    with FaultyProvider(ca, refresh="grace", refresh_grace_seconds=30, now=clock) as provider:
        spent = sign_in(provider)["refresh_token"]
        assert refresh(provider, spent).ok
        clock.advance(30)
        assert refresh(provider, spent).ok
        clock.advance(1)
        assert refresh(provider, spent).json()["error"] == "invalid_grant"
        assert provider.live_refresh_tokens(SCAN) == []


def test_a_static_refresh_token_stays_and_no_reply_has_a_new_one(
    ca: PracticeCA, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    with FaultyProvider(ca, refresh="static") as provider:
        token = sign_in(provider)["refresh_token"]
        for _ in range(2):
            reply = refresh(provider, token).json()
            assert reply["access_token"]
            assert "refresh_token" not in reply
        assert provider.live_refresh_tokens(SCAN) == [token]


# Accounts


def test_a_revoked_account_has_to_sign_in_again(
    provider: FaultyProvider, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    mine, other = sign_in(provider, SCAN), sign_in(provider, FAX)
    provider.revoke_account("SCAN@contoso.com")
    assert refresh(provider, mine["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(provider, other["refresh_token"]).ok
    assert refresh(provider, sign_in(provider, SCAN)["refresh_token"]).ok


def test_a_disabled_account_works_again_once_it_is_enabled(
    provider: FaultyProvider,
    http: requests.Session,
    sign_in: Callable[..., dict[str, Any]],
    refresh: Callable[..., requests.Response],
) -> None:
    token = sign_in(provider)
    provider.disable_account(SCAN)
    refused = refresh(provider, token["refresh_token"]).json()
    assert (refused["error"], refused["error_codes"]) == ("invalid_grant", [50057])
    assert introspect(provider, http, token["access_token"]) == {"active": False}
    provider.enable_account(SCAN)
    assert introspect(provider, http, token["access_token"])["active"]
    assert refresh(provider, token["refresh_token"]).ok


def test_somebody_else_can_spend_a_refresh_token_first(
    provider: FaultyProvider, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    token = sign_in(provider)["refresh_token"]
    provider.spend_refresh_tokens(SCAN)
    assert refresh(provider, token).json()["error"] == "invalid_grant"


def test_access_tokens_end_after_their_time_or_when_told_to(
    ca: PracticeCA, http: requests.Session, sign_in: Callable[..., dict[str, Any]]
) -> None:
    clock = Clock()
    with FaultyProvider(ca, access_token_seconds=600, now=clock) as provider:
        token = sign_in(provider)
        assert token["expires_in"] == 600
        assert provider.live_access_tokens(SCAN) == [token["access_token"]]
        clock.advance(600)
        assert provider.live_access_tokens(SCAN) == []
        again = sign_in(provider)["access_token"]
        provider.expire_access_tokens(SCAN)
        assert introspect(provider, http, again) == {"active": False}


# What a test can see


@pytest.mark.parametrize("length", [50, 1000, 2500, 8000])
def test_access_tokens_have_the_length_asked_for(
    ca: PracticeCA, sign_in: Callable[..., dict[str, Any]], length: int
) -> None:
    with FaultyProvider(ca, access_token_length=length) as provider:
        assert len(sign_in(provider)["access_token"]) == length


def test_every_secret_that_was_issued_is_known(
    provider: FaultyProvider,
    ca: PracticeCA,
    ask_device: Callable[..., dict[str, Any]],
    poll: Callable[..., requests.Response],
    refresh: Callable[..., requests.Response],
) -> None:
    device = ask_device(provider)
    browser_user.approve(device["verification_uri"], device["user_code"], SCAN, ca.ca_file)
    first = poll(provider, device).json()
    second = refresh(provider, first["refresh_token"]).json()
    issued = [
        device["device_code"],
        *(reply[kind] for reply in (first, second) for kind in ("access_token", "refresh_token")),
    ]
    assert set(provider.issued_secrets) == set(issued)
    assert provider.issued_user_codes == [device["user_code"]]


def test_every_request_is_recorded_with_its_outcome(
    provider: FaultyProvider, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    refresh(provider, sign_in(provider)["refresh_token"])
    refresh(provider, "unknown")
    assert [(record.endpoint, record.grant_type, record.outcome) for record in provider.requests] == [
        ("device_authorization", None, "200"),
        ("token", DEVICE_CODE_GRANT, "200"),
        ("token", "refresh_token", "200"),
        ("token", "refresh_token", "invalid_grant"),
    ]
    assert provider.grant_counts == {DEVICE_CODE_GRANT: 1, "refresh_token": 2}


# The server itself


def test_a_restarted_provider_keeps_its_port_and_its_memory(
    provider: FaultyProvider, sign_in: Callable[..., dict[str, Any]], refresh: Callable[..., requests.Response]
) -> None:
    token, issuer = sign_in(provider)["refresh_token"], provider.issuer
    provider.close()
    with pytest.raises(requests.ConnectionError):
        refresh(provider, token)
    provider.start()
    assert provider.issuer == issuer
    assert refresh(provider, token).ok


def test_a_client_that_hangs_in_its_handshake_holds_up_nobody(provider: FaultyProvider, http: requests.Session) -> None:
    with socket.create_connection(("127.0.0.1", provider.port)):
        assert metadata(provider, http)["issuer"] == provider.issuer


def test_a_connection_is_kept_for_the_next_request(provider: FaultyProvider, ca: PracticeCA) -> None:
    context = ssl.create_default_context(cafile=ca.ca_file)
    request = f"GET /{provider.tenant}/discovery/keys HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with (
        socket.create_connection(("127.0.0.1", provider.port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        for _ in range(2):
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            while not connection.recv(65536).rstrip().endswith(b"}"):
                pass


def test_a_tenant_may_have_several_path_segments(ca: PracticeCA, sign_in: Callable[..., dict[str, Any]]) -> None:
    with FaultyProvider(ca, tenant="realms/contoso") as provider:
        assert provider.issuer == f"https://localhost:{provider.port}/realms/contoso"
        assert sign_in(provider)["access_token"]


def test_time_travel_reaches_the_provider_s_threads(
    provider: FaultyProvider, http: requests.Session, sign_in: Callable[..., dict[str, Any]]
) -> None:
    token = sign_in(provider)["access_token"]
    assert introspect(provider, http, token)["active"]
    with freeze_time(datetime.now(UTC) + timedelta(seconds=provider.rules.access_token_seconds)):
        assert introspect(provider, http, token) == {"active": False}
        assert sign_in(provider)["access_token"]


# The pages


def test_the_pages_ask_nothing_of_others_and_run_no_script(
    provider: FaultyProvider, http: requests.Session, ask_device: Callable[..., dict[str, Any]]
) -> None:
    device = ask_device(provider)
    for uri in (device["verification_uri"], device["verification_uri_complete"]):
        page = http.get(uri, timeout=60)
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "<script" not in page.text
        assert "http://" not in page.text
        assert "https://" not in page.text
    assert device["user_code"] in page.text


def test_a_code_may_be_typed_in_lower_case_and_without_its_hyphen(
    provider: FaultyProvider, ca: PracticeCA, ask_device: Callable[..., dict[str, Any]]
) -> None:
    device = ask_device(provider)
    typed = device["user_code"].lower().replace("-", " ")
    browser_user.approve(device["verification_uri"], typed, SCAN, ca.ca_file)


def test_a_decision_without_the_csrf_token_is_refused(
    provider: FaultyProvider,
    http: requests.Session,
    ask_device: Callable[..., dict[str, Any]],
    poll: Callable[..., requests.Response],
) -> None:
    device = ask_device(provider)
    form = {"user_code": device["user_code"], "account": SCAN, "decision": "approve"}
    http.get(device["verification_uri_complete"], timeout=60)
    for csrf_token in ({}, {"csrf_token": ""}, {"csrf_token": "guessed"}):
        assert http.post(device["verification_uri"], data=form | csrf_token, timeout=60).status_code == 403
    assert poll(provider, device).json()["error"] == "authorization_pending"


def test_nobody_signs_in_with_an_unknown_code_or_as_an_unknown_account(
    provider: FaultyProvider, ca: PracticeCA, ask_device: Callable[..., dict[str, Any]]
) -> None:
    device = ask_device(provider)
    with pytest.raises(browser_user.CouldNotSignIn, match="404"):
        browser_user.approve(device["verification_uri"], "ZZZZ-ZZZZ", SCAN, ca.ca_file)
    with pytest.raises(browser_user.CouldNotSignIn, match="isn't offered"):
        browser_user.approve(device["verification_uri"], device["user_code"], "nobody@contoso.com", ca.ca_file)


def test_a_code_is_decided_once(
    provider: FaultyProvider, ca: PracticeCA, ask_device: Callable[..., dict[str, Any]]
) -> None:
    device = ask_device(provider)
    browser_user.deny(device["verification_uri"], device["user_code"], SCAN, ca.ca_file)
    with pytest.raises(browser_user.CouldNotSignIn):
        browser_user.approve(device["verification_uri"], device["user_code"], SCAN, ca.ca_file)

"""The contract of `domain.ports.Provider`, kept by each client library against a real authorization server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from joserfc.jwk import KeySet, RSAKey
from practice_faults.provider import FaultyProvider
from provider_fakes import NOON, FullDisk, HeldClock, KeptReply, connect_proxy, reply_of

from adapters.practice import browser_user
from domain.errors import Failed, MailtokenError, Unreachable
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
    Transient,
)
from domain.ports import Exchange, Provider
from domain.secret import Secret

SCANNER, FAX = "scan@contoso.com", "fax@contoso.com"
DEVICE_CODE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# Nobody listens there: port 9 is reserved for it.
NOWHERE = "https://localhost:9/contoso"


class Conversation:
    """A provider with the practice provider, the person and the clock it meets."""

    def __init__(self, provider: Provider, practice: FaultyProvider, clock: HeldClock) -> None:
        self.provider = provider
        self.practice = practice
        self.clock = clock

    def get_code(self) -> DeviceAuthorization:
        return self.provider.request_device_code(self.provider.scopes("smtp"), self.clock.now())

    def approve(self, code: DeviceAuthorization, account: str = SCANNER) -> None:
        browser_user.approve(code.verification_uri, code.user_code, account, self.practice.ca_file)

    def poll(self, code: DeviceAuthorization, exchange: Exchange | None = None) -> AcquisitionOutcome:
        self.clock.forward(seconds=code.interval_seconds)
        return self.provider.redeem_device_code(code, exchange or KeptReply(), self.clock.now())

    def acquire(self, exchange: Exchange | None = None) -> Granted:
        code = self.get_code()
        self.approve(code)
        outcome = self.poll(code, exchange)
        assert isinstance(outcome, Granted), outcome
        return outcome

    def refresh(self, credential: Credential, exchange: Exchange | None = None) -> Any:
        return self.provider.refresh(credential, exchange or KeptReply(), self.clock.now())

    @property
    def token_requests(self) -> int:
        return sum(record.endpoint == "token" for record in self.practice.requests)


@pytest.fixture(params=["public", "confidential"])
def conversation(
    request: pytest.FixtureRequest, build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> Conversation:
    if request.param == "confidential":
        secrets = (Secret(practice.client_secret),)
        provider = build(client_id=practice.confidential_client_id, client_secrets=secrets)
    else:
        provider = build()
    return Conversation(provider, practice, clock)


@pytest.fixture
def public(build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock) -> Conversation:
    """A conversation as a public client, where the difference plays no part."""
    return Conversation(build(), practice, clock)


# Acquisition


def test_a_token_is_obtained_once_the_person_has_approved(conversation: Conversation) -> None:
    code = conversation.get_code()
    assert conversation.poll(code) == Pending(5)
    conversation.approve(code)
    outcome = conversation.poll(code)
    assert isinstance(outcome, Granted)
    practice, credential, now = conversation.practice, outcome.credential, conversation.clock.now()
    assert outcome.identity == Identity(SCANNER, practice.subject(SCANNER), practice.tenant_id)
    assert credential.access_token.reveal() in practice.live_access_tokens(SCANNER)
    assert credential.refresh_token
    assert credential.refresh_token.reveal() in practice.live_refresh_tokens(SCANNER)
    assert (credential.issued_at, credential.expires_at) == (now, now + timedelta(hours=1))
    assert set(conversation.provider.scopes("smtp")) <= set(credential.scope.split())
    assert outcome.warning is None


def test_a_code_can_be_redeemed_after_a_restart_from_its_fields_alone(
    public: Conversation, build: Callable[..., Provider]
) -> None:
    code = public.get_code()
    public.approve(code)
    stored = {field.name: getattr(code, field.name) for field in fields(code)}
    stored["state"] = Secret(json.loads(json.dumps(stored["state"].reveal())))
    public.provider = build()
    assert isinstance(public.poll(DeviceAuthorization(**stored)), Granted)


def test_the_code_has_what_the_person_needs(public: Conversation) -> None:
    code = public.get_code()
    assert code.user_code in public.practice.issued_user_codes
    assert code.verification_uri.startswith("https://localhost:")
    assert code.verification_uri_complete
    assert code.user_code in code.verification_uri_complete
    assert code.expires_at == public.clock.now() + timedelta(minutes=15)


def test_slow_down_slows_down_for_good(public: Conversation) -> None:
    code = public.get_code()
    public.practice.inject_fault("slow_down", times=2)
    first = public.poll(code)
    assert first == Pending(10)
    code = replace(code, interval_seconds=10)
    assert public.poll(code) == Pending(15)
    assert public.poll(replace(code, interval_seconds=15)) == Pending(15)


def test_a_poll_that_comes_too_soon_slows_down(public: Conversation) -> None:
    code = public.get_code()
    public.provider.redeem_device_code(code, KeptReply(), public.clock.now())
    assert public.provider.redeem_device_code(code, KeptReply(), public.clock.now()) == Pending(10)


def test_a_person_who_denies_ends_the_attempt(conversation: Conversation) -> None:
    code = conversation.get_code()
    browser_user.deny(code.verification_uri, code.user_code, SCANNER, conversation.practice.ca_file)
    assert conversation.poll(code) == AttemptOver(Reason.ACCESS_DENIED, "access_denied")


def test_a_code_that_ran_out_ends_the_attempt(conversation: Conversation) -> None:
    code = conversation.get_code()
    conversation.clock.forward(minutes=16)
    assert conversation.poll(code) == AttemptOver(Reason.EXPIRED_TOKEN, "expired_token")


def test_a_code_that_was_redeemed_already_is_rejected(public: Conversation) -> None:
    code = public.get_code()
    public.approve(code)
    assert isinstance(public.poll(code), Granted)
    assert public.poll(code) == AttemptOver(Reason.CODE_REJECTED, "invalid_grant")


def test_another_account_is_visible_in_the_identity(public: Conversation) -> None:
    code = public.get_code()
    public.approve(code, FAX)
    outcome = public.poll(code)
    assert isinstance(outcome, Granted)
    assert outcome.identity
    assert (outcome.identity.account, outcome.identity.subject) == (FAX, public.practice.subject(FAX))


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"mode": "no_id_token"}, "id_token"),
        ({"mode": "id_token", "forged": True}, "signature"),
        ({"mode": "id_token", "claims": {"iss": "https://localhost/fabrikam"}}, "iss"),
        ({"mode": "id_token", "claims": {"aud": "another-client"}}, "aud"),
        ({"mode": "id_token", "claims": {"exp": int(NOON.timestamp()) - 86400}}, "exp"),
        ({"mode": "id_token", "claims": {"preferred_username": None, "email": None}}, "account_claims"),
    ],
)
def test_a_sign_in_that_cant_be_validated_ends_the_attempt(
    public: Conversation, fault: dict[str, Any], check: str
) -> None:
    code = public.get_code()
    public.approve(code)
    public.practice.inject_fault(**fault, grant_type=DEVICE_CODE_GRANT)
    assert public.poll(code) == AttemptOver(Reason.ID_TOKEN_INVALID, check)


def test_the_account_is_where_the_configuration_says(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    conversation = Conversation(build(account_claims=("sub",)), practice, clock)
    identity = conversation.acquire().identity
    assert identity
    assert identity.account == practice.subject(SCANNER)


def test_keys_are_fetched_again_for_an_unknown_key_and_only_then(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    conversation = Conversation(build(), practice, clock)

    def key_requests() -> int:
        return sum(record.endpoint == "jwks" for record in practice.requests)

    before = key_requests()
    retired = KeySet([RSAKey.generate_key(2048, {"kid": "retired"})]).as_dict(private=False)
    practice.inject_fault("garbage", endpoint="jwks", body=json.dumps(retired))
    credential = conversation.acquire().credential
    assert key_requests() - before == 2
    conversation.refresh(credential)
    assert key_requests() - before == 2


def test_a_grant_whose_keys_cant_be_fetched_is_read_again_from_what_was_kept(public: Conversation) -> None:
    code, exchange = public.get_code(), KeptReply()
    public.approve(code)
    public.practice.inject_fault("server_error", endpoint="jwks")
    assert isinstance(public.poll(code, exchange), Transient)
    requests = public.token_requests
    assert isinstance(public.poll(code, exchange), Granted)
    assert public.token_requests == requests


PORTAL_PAGES: list[dict[str, Any]] = [
    {"body": "<p>Sign in to the network"},
    {"body": '{"issuer": "https://guest.example.net"}'},
]


@pytest.mark.parametrize("page", PORTAL_PAGES)
def test_a_captive_portals_page_for_discovery_is_not_remembered(public: Conversation, page: dict[str, Any]) -> None:
    public.practice.inject_fault("garbage", endpoint="discovery", **page)
    with pytest.raises((Unreachable, Failed)):
        public.get_code()
    assert public.get_code().user_code


@pytest.mark.parametrize("page", PORTAL_PAGES)
def test_a_captive_portals_page_for_keys_is_not_remembered(public: Conversation, page: dict[str, Any]) -> None:
    code, exchange = public.get_code(), KeptReply()
    public.approve(code)
    public.practice.inject_fault("garbage", endpoint="jwks", **page)
    assert isinstance(public.poll(code, exchange), Transient)
    assert isinstance(public.poll(code, exchange), Granted)


# Asking for a code


@pytest.mark.parametrize("endpoint", ["discovery", "device_authorization"])
@pytest.mark.parametrize("mode", ["server_error", "garbage", "rate_limited", "hang"])
def test_a_provider_in_trouble_is_unreachable(
    build: Callable[..., Provider], practice: FaultyProvider, endpoint: Any, mode: str
) -> None:
    provider = build(timeout_seconds=0.5)
    practice.inject_fault(mode, endpoint=endpoint)
    with pytest.raises(Unreachable, match="provider='contoso'"):
        provider.request_device_code(provider.scopes("smtp"), NOON)


def test_a_provider_that_is_not_there_is_unreachable(build: Callable[..., Provider]) -> None:
    provider = build(issuer=NOWHERE)
    with pytest.raises(Unreachable, match="provider_unreachable provider='contoso' why='connection_failed'"):
        provider.request_device_code(provider.scopes("smtp"), NOON)
    assert isinstance(provider.refresh(credential(), KeptReply(), NOON), Transient)
    assert provider.revoke(credential()) is False


@pytest.mark.parametrize("changes", [{"client_id": "unknown"}, {"client_secrets": (Secret("wrong"),)}])
def test_a_client_that_is_refused_names_the_setting_to_correct(
    build: Callable[..., Provider], changes: dict[str, object]
) -> None:
    provider = build(**changes)
    with pytest.raises(Failed, match="device_code_refused") as refusal:
        provider.request_device_code(provider.scopes("smtp"), NOON)
    assert {**refusal.value.fields, "provider_words": ""} == {
        "provider": "contoso",
        "error": "invalid_client",
        "setting": "client_id, client_secret_file or certificate_file",
        "provider_words": "",
    }


def test_an_authority_that_is_not_there_names_the_setting_to_correct(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    provider = build(issuer=practice.issuer + "-of-somebody-else")
    with pytest.raises(Failed, match="authority_not_usable provider='contoso' why='HTTP 404' setting='issuer'"):
        provider.request_device_code(provider.scopes("smtp"), NOON)
    assert provider.refresh(credential(), KeptReply(), NOON) == ClientFault("HTTP 404", "issuer", Reason.CONFIGURATION)


@pytest.mark.parametrize("suffix", ["/", "x"])
def test_a_discovery_document_of_another_issuer_is_not_believed(public: Conversation, suffix: str) -> None:
    practice = public.practice
    practice.inject_fault("edit", endpoint="discovery", fields={"issuer": practice.issuer + suffix})
    with pytest.raises(Failed, match="why='another_issuer' setting='issuer'"):
        public.get_code()


@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri"])
def test_an_endpoint_without_tls_is_not_used(public: Conversation, name: str) -> None:
    public.practice.inject_fault("edit", endpoint="discovery", fields={name: "http://localhost:9/token"})
    with pytest.raises(Failed, match="why='endpoints_missing' setting='issuer'"):
        public.get_code()


def test_a_provider_without_the_device_code_flow_says_so(public: Conversation) -> None:
    public.practice.inject_fault("edit", endpoint="discovery", without=("device_authorization_endpoint",))
    with pytest.raises(Failed, match="flow_not_available provider='contoso' flow='device'"):
        public.get_code()


# Renewal


def credential(refresh_token: str = "a refresh token nobody issued") -> Credential:
    return Credential(Secret("access"), Secret(refresh_token), "mail", NOON, NOON + timedelta(hours=1))


def test_a_renewal_brings_a_new_access_token_and_the_rotated_refresh_token(conversation: Conversation) -> None:
    old = conversation.acquire().credential
    conversation.clock.forward(minutes=50)
    outcome = conversation.refresh(old)
    assert isinstance(outcome, Granted)
    new, now = outcome.credential, conversation.clock.now()
    assert new.access_token != old.access_token
    assert new.refresh_token
    assert new.refresh_token != old.refresh_token
    assert new.refresh_token.reveal() in conversation.practice.live_refresh_tokens(SCANNER)
    assert (new.issued_at, new.expires_at) == (now, now + timedelta(hours=1))
    assert set(new.scope.split()) == set(old.scope.split())
    assert outcome.identity
    assert outcome.identity.account == SCANNER


@pytest.mark.parametrize("how", ["the provider never rotates", "the reply has none"])
def test_a_renewal_without_a_new_refresh_token_keeps_the_old_one(public: Conversation, how: str) -> None:
    old = public.acquire().credential
    if how == "the provider never rotates":
        public.practice.rules.refresh = "static"
    else:
        public.practice.inject_fault("no_refresh_token")
    outcome = public.refresh(old)
    assert isinstance(outcome, Granted)
    assert outcome.credential.access_token != old.access_token
    assert outcome.credential.refresh_token == old.refresh_token


def test_a_renewal_needs_no_id_token(public: Conversation) -> None:
    old = public.acquire().credential
    public.practice.inject_fault("no_id_token")
    outcome = public.refresh(old)
    assert isinstance(outcome, Granted)
    assert outcome.identity is None


def test_a_revoked_grant_is_dead(public: Conversation) -> None:
    old = public.acquire().credential
    public.practice.revoke_account(SCANNER)
    assert public.refresh(old) == GrantDead(Reason.INVALID_GRANT, "invalid_grant")


def test_a_disabled_account_is_not_available(public: Conversation) -> None:
    old = public.acquire().credential
    public.practice.disable_account(SCANNER)
    try:
        assert public.refresh(old) == GrantDead(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057")
    finally:
        public.practice.enable_account(SCANNER)


def test_a_wrong_secret_is_not_the_tokens_fault(build: Callable[..., Provider], practice: FaultyProvider) -> None:
    provider = build(client_id=practice.confidential_client_id, client_secrets=(Secret("wrong"),))
    fault = ClientFault("invalid_client", "client_id, client_secret_file or certificate_file")
    assert provider.refresh(credential(), KeptReply(), NOON) == fault


MISBEHAVIOURS: list[tuple[dict[str, Any], object]] = [
    ({"mode": "server_error"}, Transient("HTTP 500")),
    ({"mode": "temporarily_unavailable", "retry_after": 7}, Transient("HTTP 503", 7)),
    ({"mode": "rate_limited", "retry_after": 30}, Transient("HTTP 429", 30)),
    ({"mode": "garbage"}, InDoubt("not_json")),
    ({"mode": "garbage", "status": 403}, Transient("HTTP 403")),
    ({"mode": "redirect", "location": NOWHERE}, Transient("HTTP 302")),
    ({"mode": "truncated"}, InDoubt("not_json")),
    ({"mode": "oversized"}, InDoubt("reply_too_large")),
    ({"mode": "no_access_token"}, InDoubt("no_access_token")),
    ({"mode": "hang", "seconds": 0}, Transient("connection_failed", may_have_arrived=True)),
    ({"mode": "answer_lost"}, Transient("connection_failed", may_have_arrived=True)),
    ({"mode": "error", "error": "something_new"}, Transient("something_new", is_known=False)),
    (
        {"mode": "invalid_client", "status": 401},
        ClientFault("invalid_client", "client_id, client_secret_file or certificate_file"),
    ),
]


@pytest.mark.parametrize(("fault", "outcome"), MISBEHAVIOURS, ids=[fault["mode"] for fault, _ in MISBEHAVIOURS])
def test_each_fault_has_its_outcome_and_none_is_a_dead_grant(
    public: Conversation, fault: dict[str, Any], outcome: object
) -> None:
    code = public.get_code()
    public.approve(code)
    public.practice.inject_fault(**fault, grant_type=DEVICE_CODE_GRANT)
    assert public.poll(code) == outcome
    granted = public.acquire()
    public.practice.inject_fault(**fault, grant_type="refresh_token")
    assert public.refresh(granted.credential) == outcome


@pytest.mark.parametrize("value", [-1, 10**9, "3600", None, "soon"])
def test_an_odd_expires_in_gives_a_warning_and_the_token(public: Conversation, value: object) -> None:
    old = public.acquire().credential
    public.practice.inject_fault("expires_in", value=value)
    outcome = public.refresh(old)
    assert isinstance(outcome, Granted)
    assert outcome.warning
    assert "expires_in" in outcome.warning
    assert timedelta(0) < outcome.credential.expires_at - outcome.credential.issued_at <= timedelta(days=7)


@pytest.mark.parametrize("mode", ["hang", "trickle"])
def test_a_provider_that_does_not_finish_is_left_within_the_total_time_out(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock, mode: str
) -> None:
    granted = Conversation(build(), practice, clock).acquire()
    impatient = build(timeout_seconds=1)
    practice.inject_fault(mode, grant_type="refresh_token")
    outcome = impatient.refresh(granted.credential, KeptReply(), clock.now())
    assert outcome == Transient("no_answer_in_time", may_have_arrived=True)


# The exchange


def test_the_raw_reply_is_kept_whatever_it_is(public: Conversation) -> None:
    granted, exchange = public.acquire(), KeptReply()
    public.practice.inject_fault("garbage", body="<p>\xe9 not JSON")
    assert isinstance(public.refresh(granted.credential, exchange), InDoubt)
    assert exchange.reply
    assert exchange.reply.body == "<p>\xe9 not JSON".encode()


def test_nothing_is_parsed_that_could_not_be_kept(public: Conversation) -> None:
    granted, disk = public.acquire(), FullDisk()
    public.practice.inject_fault("garbage")
    with pytest.raises(OSError, match="No space left on device"):
        public.refresh(granted.credential, disk)
    code = public.get_code()
    public.approve(code)
    with pytest.raises(OSError, match="No space left on device"):
        public.poll(code, disk)
    assert [reply.status for reply in disk.offered] == [200, 200]


def test_a_kept_reply_gives_the_same_outcome_again_and_asks_nobody(conversation: Conversation) -> None:
    code, first, second = conversation.get_code(), KeptReply(), KeptReply()
    conversation.approve(code)
    granted = conversation.poll(code, first)
    assert isinstance(granted, Granted)
    renewed = conversation.refresh(granted.credential, second)
    requests = conversation.token_requests
    conversation.clock.forward(days=1)
    assert conversation.poll(code, KeptReply(first.reply)) == granted
    assert conversation.refresh(granted.credential, KeptReply(second.reply)) == renewed
    assert conversation.token_requests == requests


def test_a_kept_renewal_is_read_without_a_network(public: Conversation, build: Callable[..., Provider]) -> None:
    granted, exchange = public.acquire(), KeptReply()
    renewed = public.refresh(granted.credential, exchange)
    cut_off = build(proxy="http://127.0.0.1:9")
    again = cut_off.refresh(granted.credential, KeptReply(exchange.reply), NOON)
    assert again == replace(renewed, identity=None)


def test_a_kept_renewal_is_read_even_if_the_authority_has_moved(
    public: Conversation, build: Callable[..., Provider]
) -> None:
    granted, exchange = public.acquire(), KeptReply()
    renewed = public.refresh(granted.credential, exchange)
    public.practice.inject_fault("garbage", endpoint="discovery", status=404)
    again = build().refresh(granted.credential, KeptReply(exchange.reply), NOON)
    assert again == replace(renewed, identity=None)


def test_a_kept_refusal_is_read_without_a_network(build: Callable[..., Provider]) -> None:
    cut_off = build(proxy="http://127.0.0.1:9")
    kept = KeptReply(reply_of('{"error": "invalid_grant", "error_codes": [50173]}', 400))
    assert cut_off.refresh(credential(), kept, NOON) == GrantDead(Reason.INVALID_GRANT, "AADSTS50173")


# Revocation


def test_a_grant_can_be_revoked(conversation: Conversation) -> None:
    granted = conversation.acquire()
    assert conversation.provider.revoke(granted.credential) is True
    assert conversation.refresh(granted.credential) == GrantDead(Reason.INVALID_GRANT, "invalid_grant")


@pytest.mark.parametrize(
    "fault", [{"mode": "server_error"}, {"mode": "hang", "seconds": 0}, {"mode": "garbage", "status": 400}]
)
def test_a_revocation_that_fails_says_so_and_raises_nothing(public: Conversation, fault: dict[str, Any]) -> None:
    public.practice.inject_fault(**fault, endpoint="revocation")
    assert public.provider.revoke(credential()) is False


def test_without_a_revocation_endpoint_nothing_is_revoked(public: Conversation) -> None:
    public.practice.inject_fault("edit", endpoint="discovery", without=("revocation_endpoint",))
    assert public.provider.revoke(credential()) is False


# Proxy and secrets


def test_a_whole_acquisition_goes_through_the_configured_proxy(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    with connect_proxy() as proxy:
        conversation = Conversation(build(proxy=proxy.url), practice, clock)
        conversation.refresh(conversation.acquire().credential)
        # Discovery, code, poll, keys, renewal; the person does not use it.
        assert proxy.asked_for == [f"localhost:{practice.port}"] * 5


def test_no_secret_is_in_a_log_an_exception_or_a_representation(
    conversation: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    practice, seen = conversation.practice, []
    for fault, _ in MISBEHAVIOURS:
        code = conversation.get_code()
        conversation.approve(code)
        granted = conversation.acquire()
        practice.inject_fault(**fault, times=2)
        seen += [code, granted, conversation.poll(code), conversation.refresh(granted.credential)]
        practice.clear_faults()
        for endpoint in ("device_authorization", "discovery"):
            practice.inject_fault(**fault, endpoint=endpoint)
            try:
                seen.append(conversation.get_code())
            except MailtokenError as error:
                seen += [error, error.__context__, error.__cause__]
            practice.clear_faults()
    # The practice provider runs in this process; what its own library logs is not ours.
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("authlib.oauth2.rfc")]
    text = "".join(logged) + "".join(map(repr, seen)) + repr(vars(conversation.provider))
    secrets = [*practice.issued_secrets, practice.client_secret]
    assert len(secrets) > 50
    assert [secret for secret in secrets if secret in text] == []


def test_many_threads_share_one_provider(public: Conversation) -> None:
    credentials = [public.acquire().credential for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(public.refresh, credentials))
    refresh_tokens = {outcome.credential.refresh_token.reveal() for outcome in outcomes}
    assert refresh_tokens <= set(public.practice.live_refresh_tokens(SCANNER))
    assert len(refresh_tokens) == 8

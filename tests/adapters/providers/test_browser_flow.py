"""The browser flow of `domain.ports.Provider`: authorization code, PKCE, state, nonce and `iss`."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import NOON, FullDisk, HeldClock, KeptReply, reply_of, said_by

from adapters.practice import browser_user
from domain.errors import Failed, InvalidValue, MailtokenError, Unreachable
from domain.outcomes import (
    AcquisitionOutcome,
    AttemptOver,
    BrowserAuthorization,
    ClientFault,
    GrantDead,
    Granted,
    Identity,
    InDoubt,
    Reason,
    Transient,
)
from domain.ports import Exchange, Provider
from domain.secret import Secret

# pytest undoes the filter that `adapters.providers.microsoft` sets.
pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")

SCANNER, FAX = "scan@contoso.com", "fax@contoso.com"
REDIRECT_URI = "http://localhost:8025/signed-in"


class SignInAtProvider:
    """A provider with the practice provider and the person in front of its pages."""

    def __init__(self, provider: Provider, practice: FaultyProvider, clock: HeldClock) -> None:
        self.provider = provider
        self.practice = practice
        self.clock = clock

    def begin(self) -> BrowserAuthorization:
        return self.provider.request_browser(self.provider.scopes("smtp"), REDIRECT_URI, SCANNER, self.clock.now())

    def sign_in(self, pending: BrowserAuthorization, account: str = SCANNER) -> str:
        return browser_user.sign_in(pending.authorization_uri, account, self.practice.ca_file)

    def redeem(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange | None = None
    ) -> AcquisitionOutcome:
        return self.provider.redeem_code(pending, redirected_to, exchange or KeptReply(), self.clock.now())

    @property
    def token_requests(self) -> int:
        return sum(record.endpoint == "token" for record in self.practice.requests)


def asked(pending: BrowserAuthorization) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(pending.authorization_uri).query).items()}


def redirect(pending: BrowserAuthorization, practice: FaultyProvider, **changes: str | None) -> str:
    """A redirect of this attempt with a code that nobody issued; a change to None leaves a parameter out."""
    values = {"code": "a code", "state": asked(pending)["state"], "iss": practice.issuer, **changes}
    return f"{REDIRECT_URI}?{urlencode({name: value for name, value in values.items() if value is not None})}"


@pytest.fixture
def at(build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock) -> SignInAtProvider:
    return SignInAtProvider(build(), practice, clock)


@pytest.fixture
def confidential(build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock) -> SignInAtProvider:
    secrets = (Secret(practice.client_secret),)
    return SignInAtProvider(build(client_id=practice.confidential_client_id, client_secrets=secrets), practice, clock)


@pytest.mark.parametrize("client", ["public", "confidential"])
def test_a_token_is_obtained_in_the_browser_and_renewed(
    at: SignInAtProvider, confidential: SignInAtProvider, client: str
) -> None:
    at = confidential if client == "confidential" else at
    pending = at.begin()
    granted = at.redeem(pending, at.sign_in(pending))
    assert isinstance(granted, Granted), granted
    credential, now = granted.credential, at.clock.now()
    assert granted.identity == Identity(SCANNER, at.practice.subject(SCANNER), at.practice.tenant_id)
    assert credential.access_token.reveal() in at.practice.live_access_tokens(SCANNER)
    assert credential.refresh_token
    assert credential.expires_at == now + timedelta(hours=1)
    assert set(at.provider.scopes("smtp")) <= set(credential.scope.split())
    assert isinstance(at.provider.refresh(credential, KeptReply(), now), Granted)


def test_the_sign_in_page_is_asked_for_with_all_that_protects_the_code(at: SignInAtProvider) -> None:
    pending = at.begin()
    parameters, sealed = asked(pending), json.loads(pending.state.reveal())
    digest = hashlib.sha256(sealed["code_verifier"].encode()).digest()
    assert parameters["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert parameters["code_challenge_method"] == "S256"
    assert parameters["response_type"] == "code"
    assert parameters["redirect_uri"] == sealed["redirect_uri"] == REDIRECT_URI
    assert parameters["login_hint"] == SCANNER
    assert parameters["client_id"] == at.practice.client_id
    assert (parameters["state"], parameters["nonce"]) == (sealed["state"], sealed["nonce"])
    assert {"openid", "offline_access"} <= set(parameters["scope"].split())
    assert len(parameters["state"]) >= 43
    assert pending.expires_at == at.clock.now() + timedelta(minutes=15)


def test_each_attempt_has_secrets_of_its_own(at: SignInAtProvider) -> None:
    one, other = (json.loads(at.begin().state.reveal()) for _ in range(2))
    assert all(one[name] != other[name] for name in ("state", "nonce", "code_verifier"))


def test_the_code_verifier_is_in_no_address_and_no_representation(at: SignInAtProvider) -> None:
    pending = at.begin()
    verifier = json.loads(pending.state.reveal())["code_verifier"]
    assert verifier not in pending.authorization_uri
    assert verifier not in repr(pending)


def test_a_code_is_redeemed_after_a_restart_from_what_was_sealed_alone(
    at: SignInAtProvider, build: Callable[..., Provider]
) -> None:
    pending = at.begin()
    redirected_to = at.sign_in(pending)
    sealed = Secret(json.loads(json.dumps(pending.state.reveal())))
    at.provider = build()
    assert isinstance(at.redeem(BrowserAuthorization("", pending.expires_at, sealed), redirected_to), Granted)


def test_another_person_is_visible_in_the_identity(at: SignInAtProvider) -> None:
    pending = at.begin()
    outcome = at.redeem(pending, at.sign_in(pending, FAX))
    assert isinstance(outcome, Granted)
    assert outcome.identity
    assert outcome.identity.account == FAX


def test_a_person_who_refuses_ends_the_attempt_and_nothing_is_sent(at: SignInAtProvider) -> None:
    pending = at.begin()
    back = browser_user.refuse(pending.authorization_uri, SCANNER, at.practice.ca_file)
    requests = at.token_requests
    assert at.redeem(pending, back) == AttemptOver(Reason.ACCESS_DENIED, "access_denied")
    assert at.token_requests == requests


# The redirect


@pytest.mark.parametrize(
    "changes",
    [
        {"state": None},
        {"state": ""},
        {"state": "another"},
        {"state": "\udcff\N{SNOWMAN}".encode(errors="replace").decode()},
        {"state": None, "error": "access_denied"},
        {"state": "another", "code": None, "error": "access_denied"},
        {"iss": None},
        {"iss": ""},
        {"iss": "https://login.example.com/contoso"},
        {"iss": "https://login.example.com/contoso", "code": None, "error": "access_denied"},
        {"code": None},
        {"code": ""},
        {"code": "a\r\ncode"},
    ],
)
def test_a_redirect_that_is_not_of_this_attempt_ends_nothing(
    at: SignInAtProvider, changes: dict[str, str | None]
) -> None:
    pending, requests = at.begin(), at.token_requests
    good = at.sign_in(pending)
    with pytest.raises(InvalidValue, match=r"^redirect: redirect_(of_another_|without_code)") as refusal:
        at.redeem(pending, redirect(pending, at.practice, **{"code": "SECRETCODE", **changes}))
    assert refusal.value.field == "redirect"
    assert "SECRETCODE" not in str(refusal.value)
    assert asked(pending)["state"] not in str(refusal.value)
    assert at.token_requests == requests
    assert isinstance(at.redeem(pending, good), Granted)


@pytest.mark.parametrize(
    "text", ["", "hello", "https://[half", "?" + "a=b&" * 1000, "state=x", "\x00", "http://a/?%ff"]
)
def test_what_is_no_redirect_at_all_is_refused_as_one(at: SignInAtProvider, text: str) -> None:
    with pytest.raises(InvalidValue, match=r"^redirect: "):
        at.redeem(at.begin(), text)


@pytest.mark.parametrize("name", ["state", "iss", "code"])
def test_a_parameter_that_is_there_twice_counts_for_nothing(at: SignInAtProvider, name: str) -> None:
    pending = at.begin()
    redirected_to = redirect(pending, at.practice)
    value = parse_qs(urlsplit(redirected_to).query)[name][0]
    with pytest.raises(InvalidValue, match=r"^redirect: "):
        at.redeem(pending, f"{redirected_to}&{urlencode({name: value})}")


def test_the_redirect_of_one_attempt_is_not_taken_for_another(at: SignInAtProvider) -> None:
    one, other = at.begin(), at.begin()
    back = at.sign_in(one)
    with pytest.raises(InvalidValue, match="redirect_of_another_sign_in"):
        at.redeem(other, back)
    assert isinstance(at.redeem(one, back), Granted)


def test_a_provider_that_does_not_announce_iss_may_leave_it_out_but_not_give_another(at: SignInAtProvider) -> None:
    at.practice.inject_fault("edit", endpoint="discovery", without=("authorization_response_iss_parameter_supported",))
    pending = at.begin()
    back = at.sign_in(pending)
    with pytest.raises(InvalidValue, match="redirect_of_another_provider"):
        at.redeem(pending, redirect(pending, at.practice, iss=at.practice.issuer + "x"))
    code = parse_qs(urlsplit(back).query)["code"][0]
    assert isinstance(at.redeem(pending, redirect(pending, at.practice, code=code, iss=None)), Granted)


def test_the_whole_address_or_its_path_is_accepted_with_blanks_around_it(at: SignInAtProvider) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    assert isinstance(at.redeem(pending, f"  {urlsplit(back).path}?{urlsplit(back).query}#_=_\n"), Granted)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("access_denied", AttemptOver(Reason.ACCESS_DENIED, "access_denied")),
        ("login_required", AttemptOver(Reason.INTERACTION_REQUIRED, "login_required")),
        ("interaction_required", AttemptOver(Reason.INTERACTION_REQUIRED, "interaction_required")),
        ("consent_required", AttemptOver(Reason.CONSENT_REQUIRED, "consent_required")),
        ("admin_policy_enforced", AttemptOver(Reason.CONSENT_REQUIRED, "admin_policy_enforced")),
        ("org_internal", AttemptOver(Reason.CONSENT_REQUIRED, "org_internal")),
        ("invalid_scope", AttemptOver(Reason.CONFIGURATION, "invalid_scope")),
        ("invalid_request", AttemptOver(Reason.CONFIGURATION, "invalid_request")),
        ("unauthorized_client", AttemptOver(Reason.CONFIGURATION, "unauthorized_client")),
        ("unsupported_response_type", AttemptOver(Reason.CONFIGURATION, "unsupported_response_type")),
        ("server_error", Transient("server_error")),
        ("temporarily_unavailable", Transient("temporarily_unavailable")),
        ("something_new", Transient("something_new", is_known=False)),
        ("<script>", Transient("unknown_error", is_known=False)),
    ],
)
def test_an_error_in_the_redirect_goes_by_the_table(
    at: SignInAtProvider, error: str, outcome: AcquisitionOutcome
) -> None:
    pending, requests = at.begin(), at.token_requests
    back = redirect(pending, at.practice, code=None, error=error, error_description="a long story")
    assert at.redeem(pending, back) == outcome
    assert at.token_requests == requests


@pytest.mark.parametrize(
    ("error", "description", "outcome"),
    [
        ("access_denied", "AADSTS65004: User declined to consent.", AttemptOver(Reason.ACCESS_DENIED, "AADSTS65004")),
        ("access_denied", "AADSTS53003: Blocked by a policy.", AttemptOver(Reason.POLICY, "AADSTS53003")),
        ("access_denied", "AADSTS50105: Not assigned.", AttemptOver(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50105")),
        ("invalid_client", "AADSTS650052: Needs a service.", AttemptOver(Reason.CONSENT_REQUIRED, "AADSTS650052")),
        ("invalid_resource", "AADSTS500011: Not found.", AttemptOver(Reason.CONFIGURATION, "AADSTS500011")),
        (
            "login_required",
            "AADSTS70002: No. AADSTS50058: ...",
            AttemptOver(Reason.INTERACTION_REQUIRED, "AADSTS50058"),
        ),
        ("server_error", "AADSTS90033: Try later.", Transient("AADSTS90033")),
        ("access_denied", "AADSTS123456: New.", AttemptOver(Reason.ACCESS_DENIED, "AADSTS123456")),
        ("access_denied", "XAADSTS53003 and AADSTS1", AttemptOver(Reason.ACCESS_DENIED, "access_denied")),
    ],
)
def test_an_aadsts_number_in_the_redirects_description_goes_by_the_table(
    at: SignInAtProvider, error: str, description: str, outcome: AcquisitionOutcome
) -> None:
    pending = at.begin()
    back = redirect(pending, at.practice, code=None, error=error, error_description=description)
    found = at.redeem(pending, back)
    assert found == outcome
    assert said_by(found).words == description


def test_an_operators_class_of_a_number_counts_in_a_redirect_too(
    build: Callable[..., Provider], at: SignInAtProvider
) -> None:
    pending = at.begin()
    back = redirect(pending, at.practice, code=None, error="access_denied", error_description="AADSTS123456: New.")
    provider = build(error_overrides={"AADSTS123456": "needs_admin_policy"})
    outcome = provider.redeem_code(pending, back, KeptReply(), NOON)
    assert outcome == AttemptOver(Reason.POLICY, "AADSTS123456")


# Redemption


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"mode": "no_id_token"}, "id_token"),
        ({"mode": "id_token", "forged": True}, "signature"),
        ({"mode": "id_token", "claims": {"nonce": "of another attempt"}}, "nonce"),
        ({"mode": "id_token", "claims": {"nonce": None}}, "nonce"),
        ({"mode": "id_token", "claims": {"nonce": ["a", "b"]}}, "nonce"),
        ({"mode": "id_token", "claims": {"aud": "another-client"}}, "aud"),
    ],
)
def test_a_sign_in_that_cant_be_validated_ends_the_attempt(
    at: SignInAtProvider, fault: dict[str, Any], check: str
) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    at.practice.inject_fault(**fault, grant_type="authorization_code")
    assert at.redeem(pending, back) == AttemptOver(Reason.ID_TOKEN_INVALID, check)


def test_a_code_that_was_redeemed_already_is_rejected(at: SignInAtProvider) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    assert isinstance(at.redeem(pending, back), Granted)
    assert at.redeem(pending, back) == AttemptOver(Reason.CODE_REJECTED, "invalid_grant")


def test_a_code_is_of_no_use_with_the_verifier_of_another_attempt(at: SignInAtProvider) -> None:
    victim, thief = at.begin(), at.begin()
    code = parse_qs(urlsplit(at.sign_in(victim)).query)["code"][0]
    outcome = at.redeem(thief, redirect(thief, at.practice, code=code))
    assert outcome == AttemptOver(Reason.CODE_REJECTED, "invalid_grant")


def test_a_code_that_is_too_old_is_rejected(at: SignInAtProvider) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    at.clock.forward(minutes=11)
    assert at.redeem(pending, back) == AttemptOver(Reason.CODE_REJECTED, "invalid_grant")


def test_a_disabled_account_is_not_available(at: SignInAtProvider) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    at.practice.disable_account(SCANNER)
    try:
        assert at.redeem(pending, back) == AttemptOver(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057")
    finally:
        at.practice.enable_account(SCANNER)


MISBEHAVIOURS: list[tuple[dict[str, Any], AcquisitionOutcome]] = [
    ({"mode": "server_error"}, Transient("HTTP 500")),
    ({"mode": "rate_limited", "retry_after": 30}, Transient("HTTP 429", 30)),
    ({"mode": "garbage"}, InDoubt("not_json")),
    ({"mode": "truncated"}, InDoubt("not_json")),
    ({"mode": "no_access_token"}, InDoubt("no_access_token")),
    ({"mode": "answer_lost"}, Transient("connection_failed", may_have_arrived=True)),
    ({"mode": "authorization_pending"}, Transient("authorization_pending")),
    ({"mode": "slow_down"}, Transient("slow_down")),
    ({"mode": "error", "error": "something_new"}, Transient("something_new", is_known=False)),
    ({"mode": "error", "error": "something_new", "status": 200}, InDoubt("error_in_success_reply", "something_new")),
    (
        {"mode": "invalid_client", "status": 401},
        ClientFault("invalid_client", "client_id, client_secret_file or certificate_file"),
    ),
]


@pytest.mark.parametrize(("fault", "outcome"), MISBEHAVIOURS)
def test_each_fault_has_its_outcome(at: SignInAtProvider, fault: dict[str, Any], outcome: AcquisitionOutcome) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    at.practice.inject_fault(**fault, grant_type="authorization_code")
    assert at.redeem(pending, back) == outcome


def test_after_trouble_the_same_redirect_can_be_redeemed(at: SignInAtProvider) -> None:
    pending = at.begin()
    back = at.sign_in(pending)
    at.practice.inject_fault("temporarily_unavailable", grant_type="authorization_code")
    assert isinstance(at.redeem(pending, back), Transient)
    at.practice.inject_fault("invalid_client", grant_type="authorization_code")
    assert isinstance(at.redeem(pending, back), ClientFault)
    assert isinstance(at.redeem(pending, back), Granted)


# The exchange


def test_a_kept_reply_gives_the_same_outcome_again_without_the_redirect_and_asks_nobody(at: SignInAtProvider) -> None:
    pending, exchange = at.begin(), KeptReply()
    granted = at.redeem(pending, at.sign_in(pending), exchange)
    assert isinstance(granted, Granted)
    requests = at.token_requests
    at.clock.forward(days=1)
    assert at.redeem(pending, None, KeptReply(exchange.reply)) == granted
    assert at.redeem(pending, "https://elsewhere.example.com", KeptReply(exchange.reply)) == granted
    assert at.token_requests == requests


def test_the_nonce_counts_for_a_kept_reply_too(at: SignInAtProvider) -> None:
    pending, exchange = at.begin(), KeptReply()
    assert isinstance(at.redeem(pending, at.sign_in(pending), exchange), Granted)
    assert at.redeem(at.begin(), None, exchange) == AttemptOver(Reason.ID_TOKEN_INVALID, "nonce")


def test_nothing_is_parsed_that_could_not_be_kept(at: SignInAtProvider) -> None:
    pending, disk = at.begin(), FullDisk()
    with pytest.raises(OSError, match="No space left on device"):
        at.redeem(pending, at.sign_in(pending), disk)
    assert [reply.status for reply in disk.offered] == [200]


def test_a_kept_refusal_is_read_without_a_network(at: SignInAtProvider, build: Callable[..., Provider]) -> None:
    pending = at.begin()
    at.provider = build(proxy="http://127.0.0.1:9")
    kept = KeptReply(reply_of('{"error": "invalid_grant", "error_codes": [50057]}', 400))
    assert at.redeem(pending, None, kept) == AttemptOver(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057")
    assert isinstance(at.redeem(pending, redirect(pending, at.practice)), Transient)


def test_a_grant_whose_keys_cant_be_fetched_is_read_again_from_what_was_kept(at: SignInAtProvider) -> None:
    pending, exchange = at.begin(), KeptReply()
    back = at.sign_in(pending)
    at.practice.inject_fault("server_error", endpoint="jwks")
    assert isinstance(at.redeem(pending, back, exchange), Transient)
    assert isinstance(at.redeem(pending, None, exchange), Granted)


# Asking for the page


@pytest.mark.parametrize("mode", ["server_error", "garbage", "hang"])
def test_a_provider_in_trouble_is_unreachable(
    build: Callable[..., Provider], practice: FaultyProvider, mode: str
) -> None:
    provider = build(timeout_seconds=0.5)
    practice.inject_fault(mode, endpoint="discovery")
    with pytest.raises(Unreachable, match="provider_unreachable provider='contoso'"):
        provider.request_browser(provider.scopes("smtp"), REDIRECT_URI, SCANNER, NOON)


def test_an_authority_that_is_not_there_names_the_setting_to_correct(
    build: Callable[..., Provider], practice: FaultyProvider, at: SignInAtProvider
) -> None:
    pending = at.begin()
    at.provider = build(issuer=practice.issuer + "-of-somebody-else")
    with pytest.raises(Failed, match="authority_not_usable provider='contoso' why='HTTP 404' setting='issuer'"):
        at.begin()
    assert at.redeem(pending, redirect(pending, practice)) == ClientFault("HTTP 404", "issuer", Reason.CONFIGURATION)


@pytest.mark.parametrize(
    "changes", [{"without": ("authorization_endpoint",)}, {"fields": {"authorization_endpoint": "http://a/"}}]
)
def test_a_provider_without_a_sign_in_page_names_the_other_flow(at: SignInAtProvider, changes: dict[str, Any]) -> None:
    at.practice.inject_fault("edit", endpoint="discovery", **changes)
    with pytest.raises(Failed, match=r"flow_not_available provider='contoso' flow='browser' others=\['device'"):
        at.begin()


def test_a_provider_without_device_codes_names_the_other_flows(at: SignInAtProvider) -> None:
    at.practice.inject_fault("edit", endpoint="discovery", without=("device_authorization_endpoint",))
    with pytest.raises(Failed, match=r"flow_not_available .* flow='device' others=\['browser'"):
        at.provider.request_device_code(at.provider.scopes("smtp"), at.clock.now())


def test_no_secret_is_in_a_log_an_exception_or_a_representation(
    confidential: SignInAtProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    at, seen, own_secrets = confidential, [], []
    for fault, _ in [*MISBEHAVIOURS, ({"mode": "no_refresh_token"}, None)]:
        pending = at.begin()
        back = at.sign_in(pending)
        at.practice.inject_fault(**fault, grant_type="authorization_code")
        with pytest.raises(MailtokenError) as refusal:
            at.redeem(pending, back.replace("state=", "state=x"))
        seen += [pending.state, refusal.value, refusal.value.__context__, at.redeem(pending, back)]
        own_secrets.append(json.loads(pending.state.reveal())["code_verifier"])
    # The practice provider runs in this process; what its own library logs is not ours.
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("authlib.oauth2.rfc")]
    text = "".join(logged) + "".join(map(repr, seen)) + repr(vars(at.provider))
    secrets = [*at.practice.issued_secrets, at.practice.client_secret, *own_secrets]
    assert [secret for secret in secrets if secret in text] == []


def test_a_revoked_browser_grant_is_dead(at: SignInAtProvider) -> None:
    pending = at.begin()
    granted = at.redeem(pending, at.sign_in(pending))
    assert isinstance(granted, Granted)
    assert at.provider.revoke(granted.credential) is True
    outcome = at.provider.refresh(replace(granted.credential), KeptReply(), at.clock.now())
    assert outcome == GrantDead(Reason.INVALID_GRANT, "invalid_grant")

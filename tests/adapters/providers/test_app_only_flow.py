"""The app-only flow of `domain.ports.Provider`: client credentials, asked for again when the token is renewed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import NOON, FullDisk, HeldClock, KeptReply, reply_of

from domain.outcomes import ClientFault, GrantDead, Granted, Identity, InDoubt, Reason, RenewalOutcome, Transient
from domain.ports import Exchange, Provider
from domain.secret import Secret

SCANNER = "scan@contoso.com"


@pytest.fixture
def app(build: Callable[..., Provider], practice: FaultyProvider) -> Provider:
    return build(client_id=practice.confidential_client_id, client_secrets=(Secret(practice.client_secret),))


def get(app: Provider, exchange: Exchange | None = None) -> RenewalOutcome:
    return app.request_app_token(app.scopes("smtp", "app"), SCANNER, exchange or KeptReply(), NOON)


def test_an_application_gets_a_token_of_its_own_for_the_account_that_was_configured(
    app: Provider, practice: FaultyProvider, clock: HeldClock
) -> None:
    outcome = get(app)
    assert isinstance(outcome, Granted)
    credential, now = outcome.credential, clock.now()
    assert outcome.identity == Identity(SCANNER, practice.confidential_client_id, None)
    assert credential.access_token.reveal() in practice.issued_secrets
    assert (credential.refresh_token, credential.grant_expires_at) == (None, None)
    assert (credential.issued_at, credential.expires_at) == (now, now + timedelta(hours=1))


def test_to_renew_is_to_ask_again(app: Provider, practice: FaultyProvider) -> None:
    first, second = get(app), get(app)
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert first.credential.access_token != second.credential.access_token
    assert first.identity == second.identity
    assert practice.requests[-1].grant_type == "client_credentials"


def test_a_refresh_token_nobody_asked_for_is_not_kept(app: Provider, practice: FaultyProvider) -> None:
    practice.inject_fault("edit", fields={"refresh_token": "a refresh token", "refresh_token_expires_in": 60})
    outcome = get(app)
    assert isinstance(outcome, Granted)
    assert (outcome.credential.refresh_token, outcome.credential.grant_expires_at) == (None, None)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"mode": "server_error"}, Transient("HTTP 500")),
        ({"mode": "rate_limited", "retry_after": 30}, Transient("HTTP 429", 30)),
        ({"mode": "garbage"}, InDoubt("not_json")),
        ({"mode": "no_access_token"}, InDoubt("no_access_token")),
        ({"mode": "answer_lost"}, Transient("connection_failed", may_have_arrived=True)),
        ({"mode": "error", "error": "something_new"}, Transient("something_new", is_known=False)),
        (
            {"mode": "invalid_client", "status": 401},
            ClientFault("invalid_client", "client_id, client_secret_file or certificate_file"),
        ),
        ({"mode": "unauthorized_client"}, ClientFault("unauthorized_client", "client_id")),
        (
            {"mode": "unauthorized_client", "error_codes": (700016,)},
            ClientFault("AADSTS700016", "client_id", Reason.CONFIGURATION),
        ),
        (
            {"mode": "invalid_scope", "error_codes": (70011,)},
            ClientFault("AADSTS70011", "scopes", Reason.CONFIGURATION),
        ),
        ({"mode": "invalid_grant", "error_codes": (53003,)}, GrantDead(Reason.POLICY, "AADSTS53003")),
        ({"mode": "invalid_grant", "error_codes": (650052,)}, GrantDead(Reason.CONSENT_REQUIRED, "AADSTS650052")),
        ({"mode": "invalid_grant", "error_codes": (50105,)}, GrantDead(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50105")),
    ],
)
def test_each_answer_has_its_outcome(
    app: Provider, practice: FaultyProvider, fault: dict[str, Any], outcome: RenewalOutcome
) -> None:
    practice.inject_fault(**fault, grant_type="client_credentials")
    assert get(app) == outcome


def test_a_kept_reply_is_read_without_a_network_and_even_without_the_secret(
    app: Provider, build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    exchange = KeptReply()
    granted = get(app, exchange)
    cut_off = build(client_id=practice.confidential_client_id, proxy="http://127.0.0.1:9")
    assert get(cut_off, KeptReply(exchange.reply)) == granted


def test_nothing_is_parsed_that_could_not_be_kept(app: Provider) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        get(app, FullDisk())


def test_a_provider_that_can_not_be_reached_is_transient(build: Callable[..., Provider]) -> None:
    app = build(client_secrets=(Secret("s3cret"),), proxy="http://127.0.0.1:9")
    assert get(app) == Transient("proxy_refused")


def test_an_authority_that_is_not_there_names_the_setting_to_correct(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    app = build(client_secrets=(Secret("s3cret"),), issuer=practice.issuer + "-of-somebody-else")
    assert get(app) == ClientFault("HTTP 404", "issuer", Reason.CONFIGURATION)


def test_a_public_client_has_no_such_flow_and_sends_nothing(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    public, requests = build(), len(practice.requests)
    assert public.flows == ("device", "browser")
    assert get(public) == ClientFault("no_client_secret", "client_secret_file")
    assert len(practice.requests) == requests


def test_a_confidential_client_has_all_flows_and_the_default_is_first(app: Provider) -> None:
    assert app.flows == ("device", "browser", "app")


def test_the_scope_stays_what_was_asked_for_if_the_reply_has_none(build: Callable[..., Provider]) -> None:
    app = build(client_secrets=(Secret("s3cret"),), app_scopes=("one", "two"))
    kept = KeptReply(reply_of(json.dumps({"access_token": "a token", "expires_in": 60})))
    outcome = get(app, kept)
    assert isinstance(outcome, Granted)
    assert outcome.credential.scope == "one two"


def test_microsofts_tenants_of_many_have_no_application(build: Callable[..., Provider]) -> None:
    changes = {"kind": "microsoft", "issuer": None, "client_secrets": (Secret("s3cret"),)}
    for tenant in ("common", "organizations", "consumers"):
        assert build(**changes, tenant=tenant).flows == ("device", "browser")
    assert build(**changes, tenant="contoso.com").flows == ("device", "browser", "app")


def test_an_application_asks_for_its_own_scopes(build: Callable[..., Provider]) -> None:
    default = ("https://outlook.office365.com/.default",)
    microsoft = build(kind="microsoft", scopes=("https://outlook.office.com/SMTP.Send",))
    assert microsoft.scopes("smtp", "app") == default
    assert microsoft.scopes("smtp", "browser") == microsoft.scopes("smtp")
    assert build(kind="microsoft", app_scopes=("mail",)).scopes("imap", "app") == ("mail",)
    oidc = build(kind="oidc", scopes=("mail.send",))
    assert oidc.scopes("pop", "app") == ("mail.send",)
    assert "mail.send" in oidc.scopes("pop", "browser")


def test_google_has_no_such_flow(build: Callable[..., Provider]) -> None:
    google = build(kind="google", client_secrets=(Secret("s3cret"),))
    assert get(google) == ClientFault("no_client_secret", "client_secret_file")

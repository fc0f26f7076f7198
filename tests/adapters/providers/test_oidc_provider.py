"""What is particular to a generic OpenID provider and to Google."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import HeldClock, KeptReply

from adapters.practice import browser_user
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Failed
from domain.outcomes import Granted, Pending
from domain.ports import Provider
from domain.secret import Secret


@pytest.fixture(params=["oidc"])
def settings(request: pytest.FixtureRequest, practice: FaultyProvider) -> ProviderSettings:
    return ProviderSettings(
        "corner",
        request.param,
        practice.client_id,
        issuer=practice.issuer,
        ca_file=practice.ca_file,
        timeout_seconds=10,
    )


@pytest.mark.parametrize("protocol", ["smtp", "pop", "imap"])
def test_configured_scopes_are_asked_for_besides_the_usual_and_once(
    build: Callable[..., Provider], protocol: str
) -> None:
    assert build().scopes(protocol) == ("openid", "email", "offline_access")
    assert build(scopes=("mail", "email")).scopes(protocol) == ("openid", "email", "offline_access", "mail")


def test_google_is_asked_for_the_mail_scope_and_never_for_offline_access(clock: HeldClock) -> None:
    google = build_provider(ProviderSettings("google", "google", "our-client"), clock)
    assert google.scopes("imap") == ("openid", "email", "https://mail.google.com/")


def test_google_has_the_browser_flow_alone_as_its_device_flow_refuses_the_mail_scope(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    google, requests = build(kind="google", client_secrets=(Secret("hunter2"),)), len(practice.requests)
    assert google.flows == ("browser",)
    with pytest.raises(Failed, match=r"^flow_not_available provider='corner' flow='device' others=\['browser'\]$"):
        google.request_device_code(google.scopes("smtp"), clock.now())
    assert len(practice.requests) == requests


@pytest.mark.parametrize(
    ("offered", "used"),
    [
        (["client_secret_basic", "client_secret_post"], "client_secret_basic"),
        (["client_secret_post", "private_key_jwt"], "client_secret_post"),
        (["private_key_jwt"], "client_secret_basic"),
        ([], "client_secret_basic"),
    ],
)
def test_a_secret_is_sent_in_the_way_the_provider_offers(
    build: Callable[..., Provider],
    practice: FaultyProvider,
    clock: HeldClock,
    caplog: pytest.LogCaptureFixture,
    offered: list[str],
    used: str,
) -> None:
    # The server's own library says how a client authenticated.
    caplog.set_level(logging.DEBUG, "authlib.oauth2.rfc6749.authenticate_client")
    practice.inject_fault("edit", endpoint="discovery", fields={"token_endpoint_auth_methods_supported": offered})
    provider = build(client_id=practice.confidential_client_id, client_secrets=(Secret(practice.client_secret),))
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    clock.forward(seconds=5)
    assert provider.redeem_device_code(code, KeptReply(), clock.now()) == Pending(5)
    # In this process other tests' services may be at work beside it, as other clients.
    ours = f"Authenticate {practice.confidential_client_id} via "
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith(ours)]
    assert [one for one in said if one.endswith("success")] == [f'{ours}"{used}" success'] * 2


def test_an_issuer_that_ends_in_a_slash_is_discovered_without_it(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    provider = build(issuer=practice.issuer + "/")
    practice.inject_fault("edit", endpoint="discovery", fields={"issuer": practice.issuer + "/"})
    assert provider.request_device_code(provider.scopes("smtp"), clock.now()).user_code


def test_a_renewal_asks_for_no_scope_and_gets_what_was_granted(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock
) -> None:
    provider = build(scopes=("mail.send",))
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    browser_user.approve(code.verification_uri, code.user_code, "scan@contoso.com", practice.ca_file)
    granted = provider.redeem_device_code(code, KeptReply(), clock.now())
    assert isinstance(granted, Granted)
    renewed = provider.refresh(granted.credential, KeptReply(), clock.now())
    assert isinstance(renewed, Granted)
    assert renewed.credential.scope == granted.credential.scope == "openid email offline_access mail.send"

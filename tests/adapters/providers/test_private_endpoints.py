"""Endpoints at private addresses in a discovery document: nothing is sent there unless the configuration permits it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from provider_fakes import NOON, HeldClock, KeptReply, connect_proxy

from adapters.practice import browser_user
from adapters.providers import ProviderSettings
from adapters.providers.registration_check import check_provider
from domain.errors import Failed
from domain.outcomes import ClientFault, Credential, Granted, Reason, Transient
from domain.ports import Provider
from domain.secret import Secret
from infrastructure.config.tables import ProviderTable

SCAN = "scan@contoso.com"
OLD = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON)
REFUSED = ClientFault("private_address", "allow_private", Reason.CONFIGURATION)
ELSEWHERE = [
    "https://10.1.2.3/token",
    "https://169.254.169.254/latest",
    "https://[fd00:ec2::254]/",
    "https://[::ffff:10.0.0.1]/",
    "https://0.0.0.0/",
    "https://rebound.example/token",
]


@pytest.fixture
def settings(practice: FaultyProvider) -> ProviderSettings:
    """One library is enough: every request goes through the same client."""
    return ProviderSettings(
        "contoso", "oidc", practice.client_id, issuer=practice.issuer, ca_file=practice.ca_file, timeout_seconds=10
    )


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The addresses of names that end in `.example`, and no request to any other host than this machine."""
    found, resolve = {"rebound.example": "10.9.8.7", "peer.example": "127.0.0.1"}, socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve(found.get(host, host), port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return found


def lead_to(practice: FaultyProvider, **endpoints: str) -> None:
    practice.inject_fault("edit", endpoint="discovery", fields=endpoints, times=None)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_nothing_is_sent_to_an_endpoint_at_a_private_address(
    build: Callable[..., Provider], practice: FaultyProvider, url: str
) -> None:
    lead_to(practice, token_endpoint=url, device_authorization_endpoint=url, revocation_endpoint=url)
    provider = build()
    assert provider.refresh(OLD, KeptReply(), NOON) == REFUSED
    fault = provider.request_app_token(("mail",), SCAN, KeptReply(), NOON)
    assert isinstance(fault, ClientFault)
    assert fault.code == "no_client_secret"
    with pytest.raises(Failed, match=r"authority_not_usable .* why='private_address' setting='allow_private'"):
        provider.request_device_code(("mail",), NOON)
    assert provider.revoke(OLD) is False


@pytest.mark.parametrize("field", ["jwks_uri", "userinfo_endpoint"])
def test_a_grant_whose_keys_or_userinfo_are_at_a_private_address_waits_for_the_configuration(
    build: Callable[..., Provider], practice: FaultyProvider, clock: HeldClock, field: str
) -> None:
    lead_to(practice, **{field: "https://10.1.2.3/"})
    provider = build()
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    browser_user.approve(code.verification_uri, code.user_code, SCAN, practice.ca_file)
    clock.forward(seconds=code.interval_seconds)
    claims = {"preferred_username": None, "email": None}
    practice.inject_fault("id_token", claims=claims, grant_type=DEVICE_CODE_GRANT)
    assert provider.redeem_device_code(code, KeptReply(), clock.now()) == Transient("private_address")


def test_a_name_is_judged_by_the_address_it_has_at_each_connection(
    build: Callable[..., Provider], practice: FaultyProvider, names: dict[str, str]
) -> None:
    port = practice.issuer.split(":")[2].partition("/")[0]
    lead_to(practice, token_endpoint=f"https://rebound.example:{port}/token")
    provider = build()
    names["rebound.example"] = "127.0.0.1"
    # On the network of the authority, which is this machine; its certificate has another name.
    assert provider.refresh(OLD, KeptReply(), NOON) == Transient("certificate_not_verified")
    names["rebound.example"] = "192.168.7.7"
    assert provider.refresh(OLD, KeptReply(), NOON) == REFUSED


def test_a_host_that_allow_private_names_is_asked(build: Callable[..., Provider], practice: FaultyProvider) -> None:
    port = int(practice.issuer.split(":")[2].partition("/")[0])
    lead_to(practice, token_endpoint="https://10.1.2.3/token")
    with connect_proxy({"10.1.2.3": port}) as proxy:
        provider = build(allow_private=("10.1.2.3",), proxy=proxy.url)
        assert provider.refresh(OLD, KeptReply(), NOON) == Transient("certificate_not_verified")
        assert "10.1.2.3:443" in proxy.asked_for


def test_a_proxy_is_not_asked_for_a_private_address_either(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    lead_to(practice, token_endpoint="https://169.254.169.254/token")
    with connect_proxy() as proxy:
        provider = build(proxy=proxy.url)
        assert provider.refresh(OLD, KeptReply(), NOON) == REFUSED
        assert [target for target in proxy.asked_for if not target.startswith("localhost:")] == []


def test_a_configured_issuer_on_this_machine_is_asked_at_each_of_its_endpoints(
    provider: Provider, practice: FaultyProvider, clock: HeldClock
) -> None:
    code = provider.request_device_code(provider.scopes("smtp"), clock.now())
    browser_user.approve(code.verification_uri, code.user_code, SCAN, practice.ca_file)
    clock.forward(seconds=code.interval_seconds)
    assert isinstance(provider.redeem_device_code(code, KeptReply(), clock.now()), Granted)


def test_the_check_of_a_registration_sends_nothing_there_either(
    settings: ProviderSettings, practice: FaultyProvider, clock: HeldClock
) -> None:
    lead_to(practice, jwks_uri="https://10.1.2.3/keys")
    report = check_provider(replace(settings, timeout_seconds=1), clock)
    [keys] = [item for item in report.items if item.subject == "signing_keys"]
    assert (keys.state, keys.fields["why"]) == ("failed", "private_address")


@pytest.mark.parametrize("host", ["https://10.1.2.3", "10.1.2.3/24", "", "a b"])
def test_what_allow_private_names_is_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="not_a_host"):
        ProviderTable(kind="oidc", client_id="us", issuer="https://login.contoso.com", allow_private=(host,))
    hosts = ("a.b", "::1", "[fd00::1]")
    table = ProviderTable(kind="oidc", client_id="us", issuer="https://i", allow_private=hosts)
    assert table.allow_private == hosts

"""The objects of stored providers: what they may reach, and the names of their faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from fakes import FakeClock

from adapters.private_addresses import AddressRule
from adapters.providers.kinds import KINDS, preset_of
from adapters.providers.preset import address_rule
from adapters.providers.stored import stored_provider_builder, stored_provider_settings
from domain.errors import InvalidValue
from domain.provider_fields import KINDS as KIND_NAMES
from domain.secret import Secret
from domain.stored_provider import StoredProviderState
from infrastructure.config.tables import Config, StoredProvidersTable

PRIVATE = "login.contoso.internal"


def config(*hosts: str) -> Config:
    return Config(directory=Path("/etc/mailtoken"), stored_providers=StoredProvidersTable(private_hosts=hosts))


def state(kind: str = "oidc", **fields: str) -> StoredProviderState:
    needed = {"oidc": {"issuer": f"https://{PRIVATE}"}, "microsoft": {"tenant": "contoso.com"}, "google": {}}[kind]
    return StoredProviderState("contoso", kind, {"client_id": "mailtoken", **needed, **fields})


def rule(kind: str, *hosts: str) -> AddressRule:
    settings = stored_provider_settings(config(*hosts), state(kind), {})
    return address_rule(settings, preset_of(settings).authority(settings))


def test_the_kinds_of_the_store_are_those_of_the_file() -> None:
    assert set(KIND_NAMES) == set(KINDS)


def test_its_own_issuer_is_at_a_public_address_too() -> None:
    found = rule("oidc")
    found.reached(PRIVATE, "10.0.0.1")
    assert found.permitted(PRIVATE, ["10.0.0.1", "127.0.0.1", "169.254.169.254", "20.190.159.1"]) == ["20.190.159.1"]
    assert found.permitted("keys.contoso.internal", ["10.0.0.1"]) == []


def test_the_file_may_permit_its_host_alone() -> None:
    found = rule("oidc", PRIVATE)
    found.reached(PRIVATE, "10.0.0.1")
    assert found.permitted(PRIVATE, ["10.0.0.1"]) == ["10.0.0.1"]
    assert found.permitted("keys.contoso.internal", ["10.0.0.1"]) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "idp.localhost"])
def test_an_issuer_that_is_a_private_address_is_refused_before_anything_is_sent(host: str) -> None:
    private = state(issuer=f"https://{host}:8443")
    with pytest.raises(InvalidValue) as invalid:
        stored_provider_builder(config(), FakeClock())(private, {})
    assert (invalid.value.field, invalid.value.code) == ("issuer", "private_issuer")
    stored_provider_builder(config(host), FakeClock())(private, {})


@pytest.mark.parametrize(
    ("kind", "secrets", "field", "code"),
    [
        ("oidc", {"client_secret": "a\tb"}, "client_secret", "not_printable_ascii"),
        ("microsoft", {"certificate": "no key"}, "certificate", "certificate_without_key"),
        ("google", {"client_secret": "a", "service_account": "{}"}, "service_account", "not_a_service_account"),
    ],
)
def test_a_fault_names_the_secret_that_was_uploaded(
    kind: str, secrets: Mapping[str, str], field: str, code: str
) -> None:
    uploaded = {name: Secret(text) for name, text in secrets.items()}
    with pytest.raises(InvalidValue) as invalid:
        stored_provider_builder(config(), FakeClock())(state(kind), uploaded)
    assert (invalid.value.field, invalid.value.code) == (field, code)
    assert all(text not in str(invalid.value) for text in secrets.values() if len(text) > 1)


def test_its_fields_become_the_settings_that_a_table_of_the_file_would_be() -> None:
    fields = {"scopes": "a b", "account_claims": "mail", "timeout": "9", "revokes_one_grant": "yes"}
    settings = stored_provider_settings(config(), state(**fields), {"client_secret": Secret("s")})
    assert (settings.scopes, settings.account_claims, settings.timeout_seconds) == (("a", "b"), ("mail",), 9)
    assert (settings.revokes_one_grant, settings.client_secrets, settings.proxy) == (True, (Secret("s"),), None)
    assert stored_provider_settings(config(), state(), {}).account_claims == ("preferred_username", "email", "upn")

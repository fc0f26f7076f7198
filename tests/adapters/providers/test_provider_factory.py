"""Settings that can't work are refused by name before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from provider_fakes import HeldClock

from adapters.providers import ProviderSettings, build_provider
from domain.errors import InvalidValue
from domain.secret import Secret

MICROSOFT = {"kind": "microsoft", "tenant": "contoso.com"}
OIDC = {"kind": "oidc", "issuer": "https://login.example.com"}


def build(**changes: Any) -> Any:
    return build_provider(ProviderSettings(**{"name": "contoso", "client_id": "our-client", **changes}), HeldClock())


@pytest.mark.parametrize(
    "settings",
    [
        MICROSOFT,
        {**MICROSOFT, "tenant": "organizations"},
        {"kind": "microsoft", "issuer": "https://localhost:8443/contoso"},
        OIDC,
        {**OIDC, "issuer": "https://tenant.auth0.com/"},
        {**OIDC, "client_secrets": (Secret("s3cret with spaces & ümlauts".replace("ü", "u")),)},
        {"kind": "google"},
    ],
)
def test_settings_that_can_work_make_a_provider_of_that_name(settings: dict[str, Any]) -> None:
    assert build(**settings).name == "contoso"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"kind": "microsoft"}, "tenant"),
        ({**MICROSOFT, "issuer": "https://localhost/contoso"}, "tenant"),
        ({**MICROSOFT, "tenant": "contoso.com/../fabrikam.com"}, "tenant"),
        ({**MICROSOFT, "tenant": ""}, "tenant"),
        ({"kind": "microsoft", "issuer": "https://localhost"}, "issuer"),
        ({"kind": "microsoft", "issuer": "https://localhost/contoso/"}, "issuer"),
        ({"kind": "oidc"}, "issuer"),
        ({**OIDC, "issuer": "http://login.example.com"}, "issuer"),
        ({**OIDC, "issuer": "https://login.example.com/?tenant=contoso"}, "issuer"),
        ({**OIDC, "client_id": ""}, "client_id"),
        ({**OIDC, "client_id": "our\nclient"}, "client_id"),
        ({**OIDC, "client_secrets": (Secret(""),)}, "client_secret_file"),
        ({**OIDC, "client_secrets": (Secret("hunter2\n"),)}, "client_secret_file"),
        ({**OIDC, "timeout_seconds": 0}, "timeout"),
        ({**OIDC, "timeout_seconds": float("nan")}, "timeout"),
        ({**OIDC, "ca_file": Path("/nowhere/ca.pem")}, "ca_file"),
        ({**OIDC, "ca_file": Path(__file__)}, "ca_file"),
    ],
)
def test_a_setting_that_cant_work_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        build(**settings)
    assert refusal.value.field == f"providers.contoso.{field}"
    assert "hunter2" not in str(refusal.value)


def test_settings_show_neither_the_secret_nor_the_proxys_password() -> None:
    settings = ProviderSettings(
        "c", "oidc", "id", client_secrets=(Secret("hunter2"),), proxy="http://user:hunter2@proxy.example.com"
    )
    assert "hunter2" not in repr(settings)

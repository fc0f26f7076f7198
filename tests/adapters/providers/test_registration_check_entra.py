"""What is particular to a check of Entra itself: a stand-in for login.microsoftonline.com, reached through a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from provider_fakes import connect_proxy
from werkzeug.wrappers import Request, Response

from adapters.practice.ca import PracticeCA
from adapters.practice.http_server import HTTPSServer
from adapters.providers import ProviderSettings
from adapters.providers.check_report import CheckItem
from adapters.providers.registration_check import check_provider
from domain.secret import Secret
from infrastructure.clock import SystemClock

HOST = "login.microsoftonline.com"
TENANT_ID = "259e6e7a-0fc2-5d40-a358-1991da9a1dee"
PENDING = {"error": "authorization_pending", "error_codes": [70016]}


class Entra:
    """Answers as Entra does to a client that has not signed in; `answers` are by the end of the path, to be changed."""

    def __init__(self, tenant: str) -> None:
        base = f"https://{HOST}/{tenant}"
        self.forms: list[dict[str, str]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            f"/{tenant}/v2.0/.well-known/openid-configuration": (
                200,
                {
                    "issuer": f"https://{HOST}/{'{tenantid}' if tenant == 'organizations' else TENANT_ID}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                    "jwks_uri": f"https://{HOST}/common/discovery/v2.0/keys",
                },
            ),
            "/keys": (200, {"keys": [RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True).as_dict(private=False)]}),
            "/devicecode": (
                200,
                {
                    "user_code": "ABCD1234",
                    "device_code": "the device code",
                    "verification_uri": "https://microsoft.com/devicelogin",
                    "expires_in": 900,
                    "interval": 5,
                },
            ),
            "device_code": (400, PENDING),
            "client_credentials": (
                200,
                {"token_type": "Bearer", "expires_in": 3599, "access_token": "the app's token"},
            ),
        }

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.forms.append(request.form.to_dict())
        place = request.form.get("grant_type", "").rpartition(":")[2] or request.path
        unknown = 400, {"error": "invalid_tenant", "error_codes": [90002]}
        status, body = next((answer for end, answer in self.answers.items() if place.endswith(end)), unknown)
        return Response(json.dumps(body), status, mimetype="application/json")(environ, start_response)


@pytest.fixture
def tenant() -> str:
    return "contoso.com"


@pytest.fixture
def entra(tenant: str) -> Entra:
    return Entra(tenant)


@pytest.fixture
def look(ca: PracticeCA, entra: Entra, tenant: str) -> Iterator[Callable[..., dict[str, CheckItem]]]:
    """Check the stand-in, with some settings changed: the items by subject."""
    server = HTTPSServer(entra, ca.issue(HOST).ssl_context())
    server.start()
    with connect_proxy({HOST: server.port}) as proxy:
        settings = ProviderSettings(
            "contoso", "microsoft", "our-client", tenant=tenant, ca_file=ca.ca_file, proxy=proxy.url
        )
        yield lambda **changes: {
            item.subject: item for item in check_provider(replace(settings, **changes), SystemClock()).items
        }
    server.close()


def test_what_entra_does_not_announce_is_not_held_against_it(look: Callable[..., dict[str, CheckItem]]) -> None:
    found = look()
    assert {item.state for item in found.values()} == {"ok", "not checked"}
    assert found["pkce"].code == "entra_takes_pkce"
    assert found["revocation_endpoint"].code == "entra_has_no_revocation"
    certificate = {"place": f"{HOST}:443", "names": HOST, "until": "2099-12-31"}
    assert certificate.items() <= found["tls_certificate"].fields.items()
    assert found["sign_in_policy"].code == "conditional_access_unseen"


def test_a_secret_is_tried_as_the_app_only_flow_does(look: Callable[..., dict[str, CheckItem]], entra: Entra) -> None:
    assert look(client_secrets=(Secret("s3cret"),))["client_credential"].state == "ok"
    [form] = [form for form in entra.forms if form.get("grant_type") == "client_credentials"]
    assert (form["scope"], form["client_secret"]) == ("https://outlook.office365.com/.default", "s3cret")


@pytest.mark.parametrize(
    ("number", "state", "remedy"),
    [
        (7000215, "failed", "entra_secret_wrong"),
        (7000222, "failed", "entra_secret_expired"),
        (700016, "failed", "entra_application_unknown"),
        (65001, "ok", None),
        (90033, "not checked", "try_again"),
    ],
)
def test_entras_answer_to_a_secret_is_read_by_its_number(
    look: Callable[..., dict[str, CheckItem]], entra: Entra, number: int, state: str, remedy: str | None
) -> None:
    entra.answers["client_credentials"] = (400, {"error": "invalid_client", "error_codes": [number]})
    found = look(client_secrets=(Secret("s3cret"),))["client_credential"]
    assert (found.state, found.remedy) == (state, remedy)


def test_a_flow_that_entra_does_not_allow_shows_when_the_code_is_polled(
    look: Callable[..., dict[str, CheckItem]], entra: Entra
) -> None:
    entra.answers["device_code"] = (401, {"error": "invalid_client", "error_codes": [7000218]})
    found = look()["device_flow"]
    assert (found.state, found.fields["error"]) == ("failed", "AADSTS7000218")
    assert found.remedy == "entra_allow_public_flows_or_secret"


def test_who_lacks_consent_is_given_the_link(look: Callable[..., dict[str, CheckItem]], entra: Entra) -> None:
    entra.answers["/devicecode"] = (400, {"error": "invalid_grant", "error_codes": [65001]})
    link = f"https://{HOST}/contoso.com/adminconsent?client_id=our-client"
    found = look()["device_flow"]
    assert (found.remedy, found.fields["consent"]) == ("consent", link)


def test_an_unknown_tenant_is_named_as_the_setting_to_correct(look: Callable[..., dict[str, CheckItem]]) -> None:
    found = look(tenant="contso.com")["discovery"]
    assert (found.state, found.code) == ("failed", "no_authority_with_error")
    assert (found.remedy, found.fields["setting"]) == ("correct_setting", "tenant")


@pytest.mark.parametrize("tenant", ["organizations"])
def test_a_multi_tenant_endpoint_has_no_tenant_for_an_application(look: Callable[..., dict[str, CheckItem]]) -> None:
    found = look(client_secrets=(Secret("s3cret"),))
    assert (found["discovery"].state, found["client_credential"].state) == ("ok", "not checked")

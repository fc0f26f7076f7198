"""Each row of the reference's error table, as a real reply to a poll, a code, a refresh and an application."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import NOON, HeldClock, KeptReply

from adapters.providers import ProviderSettings, build_provider
from adapters.providers.error_table import CLASSES, LOOP_SECONDS
from domain.errors import InvalidValue, Unreachable
from domain.outcomes import AttemptOver, ClientFault, Credential, GrantDead, Pending, Reason, Transient
from domain.ports import Provider
from domain.secret import Secret

# pytest undoes the filter that `adapters.providers.microsoft` sets.
pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")

SECRET = "client_secret_file"


def transient(code: str, seconds: int | None = None, *, is_known: bool = True) -> tuple[object, object, object]:
    return (Transient(code, seconds, is_known),) * 3


def over(code: str, reason: Reason) -> tuple[object, object, object]:
    """A grant can't be judged by what is said of an attempt."""
    return AttemptOver(reason, code), AttemptOver(reason, code), Transient(code)


def dead(code: str, reason: Reason) -> tuple[object, object, object]:
    of_code = Reason.CODE_REJECTED if reason is Reason.INVALID_GRANT else reason
    return AttemptOver(of_code, code), AttemptOver(of_code, code), GrantDead(reason, code)


def client(code: str, setting: str) -> tuple[object, object, object]:
    fault = ClientFault(code, setting)
    return fault, fault, fault


def configuration(code: str, setting: str | None) -> tuple[object, object, object]:
    ended = AttemptOver(Reason.CONFIGURATION, code)
    return ended, ended, ClientFault(code, setting, Reason.CONFIGURATION)


Row = tuple[dict[str, Any], tuple[object, object, object]]
ROWS: list[Row] = []


def row(make: Callable[..., tuple[object, object, object]], *errors: str | tuple[str, int], **more: Any) -> None:
    """One line for each error: what it makes of a poll, of a code and of a grant."""
    for error in errors:
        name, number = (error, None) if isinstance(error, str) else error
        reply = {"error": name, "error_codes": (number,) if number else ()}
        ROWS.append((reply, make(f"AADSTS{number}" if number else name, **more)))


def entra(error: str, *numbers: int) -> list[tuple[str, int]]:
    return [(error, number) for number in numbers]


ROWS.append(({"error": "authorization_pending"}, (Pending(5), *transient("authorization_pending")[1:])))
ROWS.append(
    (
        {"error": "authorization_pending", "error_codes": (70016,)},
        (Pending(5), *transient("AADSTS70016")[1:]),
    )
)
ROWS.append(
    (
        {"error": "authorization_pending", "status": 428},
        (Pending(5), *transient("authorization_pending")[1:]),
    )
)
ROWS.append(({"error": "slow_down", "status": 403}, (Pending(10), *transient("slow_down")[1:])))
row(over, "expired_token", ("expired_token", 70019), reason=Reason.EXPIRED_TOKEN)
row(over, "authorization_declined", "access_denied", reason=Reason.ACCESS_DENIED)
row(over, "bad_verification_code", ("invalid_grant", 70018), reason=Reason.CODE_REJECTED)
row(
    transient,
    "temporarily_unavailable",
    *entra("invalid_grant", 50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090),
    ("invalid_grant", 54005),
)
ROWS.append(({"error": "something_new"}, transient("something_new", is_known=False)))
ROWS.append(({"error": "something_new", "error_codes": (12345,)}, transient("AADSTS12345", is_known=False)))
for trouble in (408, 429, 500, 503):
    ROWS.append(({"error": "invalid_grant", "status": trouble}, transient(f"HTTP {trouble}")))
row(transient, ("invalid_grant", 50196), seconds=LOOP_SECONDS)
row(
    dead,
    "invalid_grant",
    *entra("invalid_grant", 70000, 70008, 700082, 700084, 50173, 50089, 50132, 50133),
    reason=Reason.INVALID_GRANT,
)
row(dead, ("invalid_grant", 70043), reason=Reason.SIGN_IN_FREQUENCY)
row(
    dead,
    "interaction_required",
    *entra("interaction_required", 50074, 50076, 50078, 50079, 50158),
    "invalid_rapt",
    reason=Reason.INTERACTION_REQUIRED,
)
row(dead, *entra("invalid_grant", 53000, 53001, 53002, 53003, 530032, 530035), reason=Reason.POLICY)
row(
    dead,
    *entra("invalid_grant", 65001, 90094, 90095, 650052),
    "admin_policy_enforced",
    "org_internal",
    reason=Reason.CONSENT_REQUIRED,
)
row(dead, *entra("invalid_grant", 50105, 50034, 50057, 50053, 50055, 50144), reason=Reason.ACCOUNT_NOT_AVAILABLE)
row(client, "invalid_client", setting="client_id, client_secret_file or certificate_file")
row(client, "unauthorized_client", setting="client_id")
row(client, *entra("invalid_client", 7000215, 7000222, 70002, 700027, 7000218), setting=SECRET)
row(configuration, ("invalid_client", 700025), setting=SECRET)
row(configuration, ("unauthorized_client", 700016), setting="client_id")
row(configuration, *entra("invalid_request", 90002, 50194, 9002332, 90038), setting="tenant")
row(configuration, *entra("invalid_scope", 70011, 28002, 700022), setting="scopes")
row(configuration, ("invalid_client", 50011), setting="redirect_uri")
row(configuration, ("invalid_grant", 501481), setting=None)


@pytest.fixture(params=["microsoft"])
def settings(request: pytest.FixtureRequest, practice: FaultyProvider) -> ProviderSettings:
    """One library is enough here: none of them ever sees a reply."""
    issuer = practice.issuer
    return ProviderSettings("contoso", request.param, practice.client_id, issuer=issuer, ca_file=practice.ca_file)


def name_of(reply: dict[str, Any]) -> str:
    return "-".join(str(part) for part in (reply["error"], *reply.get("error_codes", ()), reply.get("status", "")))


class Asked:
    """Gives one error to each kind of request."""

    def __init__(self, provider: Provider, practice: FaultyProvider, reply: dict[str, Any]) -> None:
        self.provider = provider
        self.practice = practice
        self.reply = reply

    def poll(self) -> object:
        code = self.provider.request_device_code(self.provider.scopes("smtp"), NOON)
        self.practice.inject_fault("error", **self.reply)
        return self.provider.redeem_device_code(code, KeptReply(), NOON)

    def redeem(self) -> object:
        scopes = self.provider.scopes("smtp", "browser")
        pending = self.provider.request_browser(scopes, "http://localhost/", "scan@contoso.com", NOON)
        [state] = parse_qs(urlsplit(pending.authorization_uri).query)["state"]
        back = "http://localhost/?" + urlencode({"code": "a code", "state": state, "iss": self.practice.issuer})
        self.practice.inject_fault("error", **self.reply)
        return self.provider.redeem_code(pending, back, KeptReply(), NOON)

    def refresh(self) -> object:
        credential = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON + timedelta(hours=1))
        self.practice.inject_fault("error", **self.reply)
        return self.provider.refresh(credential, KeptReply(), NOON)

    def as_app(self) -> object:
        self.practice.inject_fault("error", **self.reply)
        scopes = self.provider.scopes("smtp", "app")
        return self.provider.request_app_token(scopes, "scan@contoso.com", KeptReply(), NOON)


@pytest.mark.parametrize(("reply", "outcomes"), ROWS, ids=[name_of(reply) for reply, _ in ROWS])
def test_a_row_means_the_same_in_every_flow(
    build: Callable[..., Provider],
    practice: FaultyProvider,
    reply: dict[str, Any],
    outcomes: tuple[object, object, object],
) -> None:
    provider = build(client_id=practice.confidential_client_id, client_secrets=(Secret(practice.client_secret),))
    asked = Asked(provider, practice, reply)
    assert (asked.poll(), asked.redeem(), asked.refresh()) == outcomes
    assert asked.as_app() == outcomes[2]


# What an operator says


OVERRIDDEN: list[tuple[str, tuple[object, object, object]]] = [
    ("pending", (Pending(5), *transient("CODE")[1:])),
    ("attempt_over", over("CODE", Reason.CODE_REJECTED)),
    ("transient", transient("CODE")),
    ("grant_dead", dead("CODE", Reason.INVALID_GRANT)),
    ("sign_in_frequency", dead("CODE", Reason.SIGN_IN_FREQUENCY)),
    ("needs_user", dead("CODE", Reason.INTERACTION_REQUIRED)),
    ("needs_admin_policy", dead("CODE", Reason.POLICY)),
    ("needs_admin_consent", dead("CODE", Reason.CONSENT_REQUIRED)),
    ("account_not_available", dead("CODE", Reason.ACCOUNT_NOT_AVAILABLE)),
    ("client_registration", client("CODE", "client_id, client_secret_file or certificate_file")),
    ("configuration", configuration("CODE", None)),
]


@pytest.mark.parametrize(("name", "outcomes"), OVERRIDDEN)
def test_an_operator_puts_a_code_into_another_class(
    build: Callable[..., Provider], practice: FaultyProvider, name: str, outcomes: tuple[object, object, object]
) -> None:
    asked = Asked(build(error_overrides={"CODE": name}), practice, {"error": "CODE"})
    assert (asked.poll(), asked.redeem(), asked.refresh()) == outcomes


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("AADSTS12345", {"error": "something_new", "error_codes": (12345,)}),
        ("AADSTS50057", {"error": "invalid_grant", "error_codes": (50057,)}),
        ("invalid_grant", {"error": "invalid_grant"}),
        ("some_detail", {"error": "invalid_grant", "suberror": "some_detail"}),
    ],
)
def test_an_override_goes_before_the_tables_by_number_detail_or_error(
    build: Callable[..., Provider], practice: FaultyProvider, code: str, reply: dict[str, Any]
) -> None:
    asked = Asked(build(error_overrides={code: "sign_in_frequency"}), practice, reply)
    assert asked.refresh() == GrantDead(Reason.SIGN_IN_FREQUENCY, code)


def test_a_number_of_the_table_refines_an_error_that_was_overridden(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    reply = {"error": "invalid_grant", "error_codes": (50057,)}
    asked = Asked(build(error_overrides={"invalid_grant": "transient"}), practice, reply)
    assert asked.refresh() == GrantDead(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057")


def test_every_class_is_tried() -> None:
    assert {name for name, _ in OVERRIDDEN} == set(CLASSES)


def test_an_override_counts_where_a_device_code_is_refused_and_in_a_redirect(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    provider = build(error_overrides={"invalid_request": "needs_admin_policy", "invalid_scope": "transient"})
    practice.inject_fault("invalid_scope", endpoint="device_authorization")
    with pytest.raises(Unreachable, match="no_device_code"):
        provider.request_device_code(provider.scopes("smtp"), NOON)
    pending = provider.request_browser(provider.scopes("smtp"), "http://localhost/", "scan@contoso.com", NOON)
    [state] = parse_qs(urlsplit(pending.authorization_uri).query)["state"]
    back = f"http://localhost/?error=invalid_request&state={state}&iss={practice.issuer}"
    assert provider.redeem_code(pending, back, KeptReply(), NOON) == AttemptOver(Reason.POLICY, "invalid_request")


def overridden(**codes: str) -> Provider:
    settings = ProviderSettings(
        "contoso", "oidc", "our-client", issuer="https://login.example.com", error_overrides=codes
    )
    return build_provider(settings, HeldClock())


def test_a_class_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidValue) as refusal:
        overridden(AADSTS12345="transient", some_error="needs_luck")
    assert (refusal.value.field, refusal.value.code) == (
        "providers.contoso.error_overrides.some_error",
        "not_an_error_class",
    )
    assert refusal.value.fields == {"value": "needs_luck", "known": list(CLASSES)}


@pytest.mark.parametrize("code", ["", "two words", "x" * 65, "a\r\nb"])
def test_a_code_that_is_none_is_refused(code: str) -> None:
    with pytest.raises(InvalidValue, match="not_an_error_code"):
        overridden(**{code: "transient"})

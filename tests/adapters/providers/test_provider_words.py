"""A provider's own words about a refusal hold no secret, whatever the provider echoes of a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import NOON, KeptReply, reply_of, said_by

from adapters.providers.provider_words import safe_words, without_secrets
from domain.errors import Failed
from domain.outcomes import Credential, GrantDead, ProviderReply
from domain.ports import Provider
from domain.secret import Secret

# Each is shorter than what is taken for a secret by its length alone.
REFRESH_TOKEN, DEVICE_CODE, CODE, CLIENT_SECRET = (
    "1//0eXampleRefresh_Tok-en/42",
    "Gm-device~code.7781-ab",
    "code+with/signs=9f3a",
    "pa8Q~client.Secret",
)
REDIRECT_URI = "http://localhost:8400/"


def words_of(text: str, *secrets: str) -> str | None:
    reply = ProviderReply("invalid_grant", safe_words(text))
    return without_secrets(reply, [Secret(secret) for secret in secrets]).words


@pytest.mark.parametrize("secret", [REFRESH_TOKEN, DEVICE_CODE, CODE, CLIENT_SECRET])
@pytest.mark.parametrize(
    "echo",
    [
        lambda secret: secret,
        lambda secret: secret.upper(),
        lambda secret: quote(secret, safe=""),
        lambda secret: f"'{secret}'",
        lambda secret: f"token={secret}&x=1",
        lambda secret: secret[:-4],
        lambda secret: secret[3:],
        lambda secret: f"{secret[:9]}\r\n{secret[9:]}",
        lambda secret: f"{secret[:10]}...",
    ],
)
def test_a_secret_that_is_echoed_whole_or_in_part_is_left_out(secret: str, echo: Callable[[str], str]) -> None:
    said = words_of(f"AADSTS70000: the value {echo(secret)} is not acceptable.", REFRESH_TOKEN, secret)
    assert said
    assert said.startswith("AADSTS70000: the value ")
    assert "..." in said
    assert said.endswith("is not acceptable.")
    assert not any(secret[at : at + 8].casefold() in said.casefold() for at in range(len(secret) - 7))


def test_a_short_secret_is_left_out_as_a_whole() -> None:
    assert words_of("client any: any.", "any") == "client ...: ...."


def test_words_without_a_secret_stay_as_they_are() -> None:
    text = "AADSTS700082: The refresh token has expired. Trace ID: 1f0c6a1e-9b0d-4f5e-a3d1-c0a7a9be1e43"
    assert words_of(text, REFRESH_TOKEN, CLIENT_SECRET) == text


def refusal_that_echoes(secret: str, error: str = "invalid_grant") -> str:
    return json.dumps(
        {"error": error, "error_description": f"no: {secret}", "trace_id": secret, "correlation_id": "b7-21"}
    )


def test_an_outcome_holds_no_secret_of_its_request(build: Callable[..., Provider], practice: FaultyProvider) -> None:
    provider = build(client_secrets=(Secret(CLIENT_SECRET),))
    old = Credential(Secret("access"), Secret(REFRESH_TOKEN), "mail", NOON, NOON)
    for secret in (REFRESH_TOKEN, CLIENT_SECRET):
        practice.inject_fault("garbage", status=400, body=refusal_that_echoes(secret))
        outcome = provider.refresh(old, KeptReply(), NOON)
        assert isinstance(outcome, GrantDead)
        assert outcome.code == "invalid_grant"
        assert (said_by(outcome).words, said_by(outcome).correlation_id) == ("no: ...", "b7-21")
        practice.inject_fault("garbage", status=400, body=refusal_that_echoes(secret))
        at_the_app = provider.request_app_token(("mail",), "scan@contoso.com", KeptReply(), NOON)
        assert secret == REFRESH_TOKEN or said_by(at_the_app).words == "no: ..."


def test_a_device_code_that_is_echoed_is_left_out_also_as_the_error_itself(
    provider: Provider, practice: FaultyProvider
) -> None:
    pending = provider.request_device_code(provider.scopes("smtp"), NOON)
    device_code = json.loads(pending.state.reveal())["device_code"]
    for error, code in (("invalid_grant", "invalid_grant"), (device_code[:64], "unknown_error")):
        body = refusal_that_echoes(device_code, error)
        practice.inject_fault("garbage", status=400, body=body)
        outcome = provider.redeem_device_code(pending, KeptReply(), NOON)
        assert said_by(outcome).words == "no: ..."
        assert getattr(outcome, "code", None) == code or getattr(outcome, "why", None) == code


def test_a_code_that_is_echoed_is_left_out_and_all_words_once_the_code_is_not_known(
    provider: Provider, practice: FaultyProvider
) -> None:
    pending = provider.request_browser(provider.scopes("smtp"), REDIRECT_URI, "scan@contoso.com", NOON)
    query = urlsplit(pending.authorization_uri).query
    state = next(part for part in query.split("&") if part.startswith("state="))
    body = refusal_that_echoes(CODE)
    practice.inject_fault("garbage", status=400, body=body)
    redirected_to = f"{REDIRECT_URI}?code={quote(CODE, safe='')}&{state}&iss={quote(practice.issuer, safe='')}"
    assert said_by(provider.redeem_code(pending, redirected_to, KeptReply(), NOON)).words == "no: ..."
    outcome = provider.redeem_code(pending, None, KeptReply(reply_of(body, 400)), NOON)
    assert said_by(outcome).words is None
    assert CODE not in repr(outcome)


def test_a_refusal_to_give_a_device_code_holds_no_client_secret(
    build: Callable[..., Provider], practice: FaultyProvider
) -> None:
    provider = build(client_secrets=(Secret(CLIENT_SECRET),))
    practice.inject_fault(
        "garbage", endpoint="device_authorization", status=400, body=refusal_that_echoes(CLIENT_SECRET)
    )
    with pytest.raises(Failed, match="device_code_refused") as refused:
        provider.request_device_code(("mail",), NOON)
    assert refused.value.fields["provider_words"] == "no: ..."
    assert CLIENT_SECRET not in str(refused.value)

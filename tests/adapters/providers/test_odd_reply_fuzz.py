"""Mutated token replies, discovery documents, key sets and ID tokens: no exception leaves the provider's room.

A refresh token that works is judged by mutations of a success: none of them may be taken for the end of the grant.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet, RSAKey
from provider_fakes import NOON, reply_of

from adapters.http_client import NoReply, json_object
from adapters.providers.discovery import Authority, Discovery, WrongAuthority, _read_keys
from adapters.providers.id_tokens import InvalidIdToken, identity_of
from adapters.providers.token_responses import (
    read_app_grant,
    read_device_authorization,
    read_grant,
    read_poll,
    read_redemption,
    read_renewal,
)
from domain.errors import Failed, Unreachable
from domain.outcomes import Credential, DeviceAuthorization, GrantDead, Identity
from domain.ports import Reply
from domain.secret import Secret

ISSUER, CLIENT = "https://login.example.com/contoso", "our-client"
KEY = RSAKey.generate_key(2048, {"kid": "one"})
OLD = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON + timedelta(hours=1))
PENDING = DeviceAuthorization("CODE", "https://login.example.com/device", None, 5, NOON, Secret("{}"))
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "subject",
    "tid": "tenant",
    "email": "scan@contoso.com",
    "email_verified": True,
    "iat": int(NOON.timestamp()),
    "exp": int(NOON.timestamp()) + 3600,
}
GRANT: dict[str, Any] = {
    "access_token": "new access",
    "refresh_token": "new refresh",
    "expires_in": 3600,
    "token_type": "Bearer",
    "scope": "mail",
    "refresh_token_expires_in": 7200,
    "id_token": "",
}
CODE: dict[str, Any] = {
    "device_code": "secret",
    "user_code": "ABCD",
    "verification_uri": "https://login.example.com/device",
    "verification_uri_complete": "https://login.example.com/device?user_code=ABCD",
    "interval": 5,
    "expires_in": 900,
}
DISCOVERY: dict[str, Any] = {
    "issuer": ISSUER,
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
    "authorization_endpoint": f"{ISSUER}/authorize",
    "device_authorization_endpoint": f"{ISSUER}/device",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    "authorization_response_iss_parameter_supported": True,
}
ERROR: dict[str, Any] = {
    "error": "something_new",
    "error_codes": [12345],
    "suberror": "detail",
    "error_description": "words",
    "trace_id": "1",
    "correlation_id": "2",
}
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 10**30, 10**400, 1e308, float("inf"), float("nan"), "", " ", "\x00", "\ud800"),
    *(
        "\u202e",
        "x" * 5000,
        "9" * 5000,
        "https://[::1",
        "https://",
        "https://a:b/",
        "javascript:alert(1)",
        [],
        {},
        [[]],
    ),
    *(
        [None],
        {"a": {"b": []}},
        ["Bearer"],
        [10**30, True, -1, 70002],
        [[70002]],
        "invalid_scope",
        "NaN",
        "-5",
        "1e999",
    ),
)


class Mutator:
    """Makes mutations of a document, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def document(self, good: dict[str, Any]) -> dict[str, Any]:
        """The document with a few fields replaced, left out or moved."""
        document = dict(good)
        for _ in range(self.random.randint(1, 3)):
            name = self.random.choice(list(good))
            document[name] = self._nested() if self.random.random() < 0.1 else self.random.choice(ODD)
            if self.random.random() < 0.15:
                del document[name]
        return document

    def body(self, document: dict[str, Any]) -> bytes:
        """The document as JSON, sometimes damaged as text."""
        body = json.dumps(document).encode()
        match self.random.randrange(8):
            case 0:
                return body[: self.random.randrange(len(body))]
            case 1:
                at = self.random.randrange(len(body))
                return body[:at] + self.random.randbytes(2) + body[at + 1 :]
            case 2:
                return b"[" * 30_000 if self.random.random() < 0.02 else body[:-1] + b"," + body[1:]
            case _:
                return body

    def _nested(self) -> Any:
        value: Any = "x"
        for _ in range(self.random.choice((3, 100, 800))):
            value = [value] if self.random.random() < 0.5 else {"a": value}
        return value


class Documents:
    """A source of documents in memory: one discovery document."""

    def __init__(self, body: bytes) -> None:
        self.reply = reply_of(body)

    def get(self, url: str, *, newest: bool = False) -> Reply:
        return self.reply

    def forget(self, url: str) -> None:
        """Nothing is remembered."""


def id_token(mutator: Mutator) -> str:
    """An ID token with mutated claims, signed well, and sometimes damaged."""
    payload = mutator.body(mutator.document(CLAIMS))
    token = jws.serialize_compact({"alg": "RS256", "kid": "one"}, payload, KEY, ["RS256"])
    if mutator.random.random() < 0.3:
        at = mutator.random.randrange(len(token))
        token = token[:at] + mutator.random.choice(["", ".", "A", "\u00e9", "=="]) + token[at + 1 :]
    return token


def identify(token: object, received_at: Any, access_token: Secret | None) -> Identity:
    return identity_of(
        token,
        KeySet([KEY]),
        issuer=ISSUER,
        client_id=CLIENT,
        account_claims=("preferred_username", "email"),
        received_at=received_at,
    )


def try_token_reply(mutator: Mutator) -> None:
    good = mutator.random.choice((GRANT, GRANT, ERROR))
    document = mutator.document({**good, "id_token": id_token(mutator)} if mutator.random.random() < 0.2 else good)
    reply = reply_of(mutator.body(document), mutator.random.choice((200, 200, 400, 401, 403, 429, 500, 503)))
    renewal = read_renewal(reply, OLD, identify)
    read_poll(reply, PENDING, "mail", identify)
    read_redemption(reply, "mail", identify)
    read_app_grant(reply, "mail", Identity("scan@contoso.com", CLIENT, None))
    read_grant(reply)
    assert not isinstance(renewal, GrantDead), document


def try_device_authorization(mutator: Mutator) -> None:
    with contextlib.suppress(Failed, Unreachable):
        read_device_authorization("contoso", reply_of(mutator.body(mutator.document(CODE))), "mail")


def try_discovery_document(mutator: Mutator) -> None:
    documents: Any = Documents(mutator.body(mutator.document(DISCOVERY)))
    with contextlib.suppress(NoReply, WrongAuthority):
        Discovery(documents, Authority.exactly(ISSUER)).metadata()


def try_key_set(mutator: Mutator) -> None:
    good = KEY.as_dict(private=False)
    members = [mutator.document(good), good]
    mutator.random.shuffle(members)
    body = mutator.body({"keys": members})
    try:
        keys = _read_keys(reply_of(body))
    except NoReply:
        assert body != json.dumps({"keys": members}).encode(), "a good member must not be lost"
    else:
        assert json_object(body)
        assert isinstance(keys, KeySet)


def try_id_token(mutator: Mutator) -> None:
    with contextlib.suppress(InvalidIdToken):
        identify(id_token(mutator), NOON, None)


TRIES: tuple[tuple[Callable[[Mutator], None], int], ...] = (
    (try_token_reply, 3000),
    (try_device_authorization, 1000),
    (try_discovery_document, 1000),
    (try_key_set, 500),
    (try_id_token, 500),
)


@pytest.mark.parametrize(("attempt", "times"), TRIES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_no_exception_leaves_the_providers_room(attempt: Callable[[Mutator], None], times: int) -> None:
    for seed in range(times):
        attempt(Mutator(seed))


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("attempt", "times"), TRIES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_no_exception_leaves_the_providers_room_in_a_million_mutations(
    attempt: Callable[[Mutator], None], times: int
) -> None:
    total = sum(number for _, number in TRIES)
    for seed in range(times, times + 1_000_000 * times // total + 1):
        attempt(Mutator(seed))

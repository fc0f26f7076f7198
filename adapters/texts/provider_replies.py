"""Why a provider's reply is of no use, by code, in words that fit into a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_WHY: Mapping[str, str] = MappingProxyType(
    {
        # No reply
        "proxy_refused": "the proxy does not let us through",
        "certificate_not_verified": "TLS failed; if its certificate is of a private authority, set ca_file",
        "tls_failed": "TLS failed; if its certificate is of a private authority, set ca_file",
        "no_answer_in_time": "no answer in time",
        "name_unknown": "its name is not known here",
        "connection_failed": "the connection failed",
        "client_assertion_unreadable": "client_assertion_file can't be read now, or has no token",
        "incomplete_answer": "no complete answer",
        "not_an_address": "what is configured is no address",
        "private_address": "it names an endpoint at a private address, and nothing permits its host",
        # Documents
        "not_json": "what answers is no JSON document",
        "keys_unreadable": "no keys that can be read",
        "keys_fetched_just_now": "its keys were fetched only seconds ago",
        "userinfo_unavailable": "its UserInfo endpoint, which names the account, can't be reached now",
        "request_impossible": "its discovery document can't be used",
        "discovery_unusable": "its discovery document can't be used",
        "another_issuer": "what answers is another issuer",
        "endpoints_missing": "its discovery document has no token_endpoint or jwks_uri with https",
        # Replies of a token endpoint
        "id_token_keys_unavailable": "the keys that its ID token is checked with can't be had now",
        "reply_unreadable": "its reply can't be read",
        "reply_too_large": "its reply is too large",
        "no_access_token": "its reply has no access token",
        "not_a_bearer_token": "its access token is no bearer token",
        "error_in_success_reply": "its reply is an error that says it is a success",
        "no_client_secret": "no client secret is configured",
    }
)


def said_text(words: str | None, trace_id: str | None, correlation_id: str | None) -> str | None:
    """The provider's own words, with the ids for its support unless the words have them; None if it said nothing."""
    ids = {"trace": trace_id, "correlation": correlation_id}
    lacking = ", ".join(f"{name} {id}" for name, id in ids.items() if id and id not in (words or ""))
    said = " ".join(filter(None, [f'"{words}"' if words else "", f"({lacking})" if lacking else ""]))
    return f"The provider said: {said}" if said else None


def why_text(code: str) -> str:
    """The words for a code of ours; `HTTP 503` and a provider's own error code are words already."""
    return _WHY.get(code, code)

"""What a provider says about itself (OpenID Connect Discovery, RFC 8414), believed only from the issuer asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from adapters.providers.errors import read_error
from adapters.providers.http_client import HttpClient, NoReply, json_object
from domain.ports import Reply

T = TypeVar("T")
WELL_KNOWN = "/.well-known/openid-configuration"


class WrongAuthority(Exception):
    """What answers is not the authority in the configuration; `setting` is what to correct."""

    def __init__(self, code: str, setting: str) -> None:
        super().__init__(f"{code}: correct its {setting}")
        self.code = code
        self.setting = setting


@dataclass(frozen=True)
class Metadata:
    """The endpoints, all https, and what they accept. `issuer` may hold Entra's `{tenantid}`.

    `names_itself` says that every redirect from the authorization endpoint has `iss` (RFC 9207 section 3).
    """

    issuer: str
    token_endpoint: str
    jwks_uri: str
    authorization_endpoint: str | None
    device_authorization_endpoint: str | None
    revocation_endpoint: str | None
    token_endpoint_auth_methods: frozenset[str]
    names_itself: bool


class Discovery:
    """The metadata and keys of one authority; `setting` is where the configuration names it."""

    def __init__(self, http: HttpClient, authority: str, setting: str, is_issuer: Callable[[str], bool]) -> None:
        self._http = http
        self._url = authority.rstrip("/") + WELL_KNOWN  # an issuer may end in a slash (Discovery section 4.1)
        self._setting = setting
        self._is_issuer = is_issuer
        self._read: dict[str, tuple[Reply, Any]] = {}

    def metadata(self) -> Metadata:
        """Read the discovery document, which must come from the issuer asked for (Discovery section 4.3).

        Raises:
            NoReply: nothing usable for now.
            WrongAuthority: not this authority.
        """
        return self._believed(self._url, self._read_metadata)

    def keys(self, *, newest: bool = False) -> KeySet:
        """The keys that sign ID tokens; not from memory if the `newest` are asked for.

        Raises:
            NoReply: nothing usable for now.
            WrongAuthority: not this authority.
        """
        return self._believed(self.metadata().jwks_uri, _read_keys, newest=newest)

    def _believed(self, url: str, read: Callable[[Reply], T], *, newest: bool = False) -> T:
        """What a document says; as long as it is the same one it is not read again."""
        reply = self._http.get(url, newest=newest)
        remembered = self._read.get(url)
        if remembered and remembered[0] is reply:
            known: T = remembered[1]
            return known
        try:
            value = read(reply)
        except (NoReply, WrongAuthority):
            # A captive portal's page is not to be remembered for an hour.
            self._http.forget(url)
            raise
        self._read[url] = reply, value
        return value

    def _read_metadata(self, reply: Reply) -> Metadata:
        document = json_object(reply.body)
        if 400 <= reply.status < 500 and reply.status not in {408, 429}:
            error = read_error(document or {})
            raise WrongAuthority(error.code if error else f"HTTP {reply.status}", self._setting)
        if reply.status != 200 or document is None:
            raise NoReply(f"no discovery document (HTTP {reply.status})")
        issuer = document.get("issuer")
        if not (isinstance(issuer, str) and self._is_issuer(issuer)):
            raise WrongAuthority("another issuer", self._setting)
        token_endpoint, jwks_uri = _https(document, "token_endpoint"), _https(document, "jwks_uri")
        if token_endpoint is None or jwks_uri is None:
            raise WrongAuthority("no token_endpoint or jwks_uri with https", self._setting)
        methods = document.get("token_endpoint_auth_methods_supported")
        return Metadata(
            issuer=issuer,
            token_endpoint=token_endpoint,
            jwks_uri=jwks_uri,
            authorization_endpoint=_https(document, "authorization_endpoint"),
            device_authorization_endpoint=_https(document, "device_authorization_endpoint"),
            revocation_endpoint=_https(document, "revocation_endpoint"),
            token_endpoint_auth_methods=frozenset(map(str, methods)) if isinstance(methods, list) else frozenset(),
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        )


def _read_keys(reply: Reply) -> KeySet:
    document = json_object(reply.body)
    if reply.status != 200 or document is None:
        raise NoReply(f"no keys (HTTP {reply.status})")
    try:
        return KeySet.import_key_set({"keys": document["keys"]})
    except (JoseError, KeyError, TypeError, ValueError):
        raise NoReply("no keys that can be read") from None


def _https(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value.startswith("https://") else None

"""A provider's metadata and keys (OpenID Connect Discovery, RFC 8414), accepted only from the configured authority."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from joserfc.jwk import JWKRegistry, Key, KeySet

from adapters.http_client import HttpClient, NoReply, PrivateAddress, json_object
from adapters.providers.error_table import read_error
from adapters.providers.id_tokens import ALGORITHMS
from domain.outcomes import ProviderReply
from domain.ports import Reply
from domain.secret import Secret

T = TypeVar("T")
_KEYS_READ = 64
# The shortest time between two fetches of the key set for tokens that its keys did not sign.
_KEYS_AGAIN_SECONDS = 10
# The public parts of a key (RFC 7518 section 6, RFC 8037 section 2). What else a member says about its use is left out:
# one odd value would make the key unusable, and only the configured authority's own signatures are ever checked.
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class WrongAuthority(Exception):
    """The server is not the authority in the configuration; `why` is a code, and `setting` names what to correct.

    `reply` has the server's own words.
    """

    def __init__(self, why: str, setting: str, reply: ProviderReply | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.setting = setting
        self.reply = reply


@dataclass(frozen=True)
class Authority:
    """The authority that a provider's documents come from.

    `setting` is the setting that names the authority; `is_issuer` tells whether an issuer belongs to this authority.
    """

    url: str
    setting: str
    is_issuer: Callable[[str], bool]

    @classmethod
    def exactly(cls, issuer: str) -> Authority:
        """The authority with exactly this issuer (OpenID Connect Discovery section 4.3)."""
        return cls(issuer, "issuer", lambda found: found == issuer)

    @property
    def discovery_url(self) -> str:
        """The URL of the discovery document; an issuer may end in a slash (section 4.1)."""
        return self.url.rstrip("/") + "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Metadata:
    """The endpoints, all https, and the methods they accept. `issuer` may contain Entra's `{tenantid}`.

    `names_itself` is whether every redirect from the authorization endpoint has `iss` (RFC 9207 section 3).
    """

    issuer: str
    token_endpoint: str
    jwks_uri: str
    authorization_endpoint: str | None
    device_authorization_endpoint: str | None
    revocation_endpoint: str | None
    userinfo_endpoint: str | None
    token_endpoint_auth_methods: frozenset[str]
    names_itself: bool


class Discovery:
    """The metadata and keys of one authority."""

    def __init__(self, http: HttpClient, authority: Authority) -> None:
        self._http = http
        self._url = authority.discovery_url
        self._authority = authority
        self._read: dict[str, tuple[Reply, Any]] = {}
        self._fetched_again_at: datetime | None = None

    def metadata(self) -> Metadata:
        """Read the discovery document, which must name the expected issuer (Discovery section 4.3).

        Raises:
            NoReply: no usable reply came for now.
            WrongAuthority: the document is another authority's.
        """
        return self._believed(self._url, self._read_metadata)

    def keys(self, *, newest: bool = False) -> KeySet:
        """The keys that sign ID tokens; with `newest` they are fetched again instead of read from the cache.

        Raises:
            NoReply: no usable reply came for now, or the keys were fetched again only seconds ago.
            WrongAuthority: the metadata are another authority's.
        """
        if newest:
            self._limit_fetches()
        return self._believed(self.metadata().jwks_uri, _read_keys, newest=newest)

    def userinfo(self, access_token: Secret) -> Mapping[str, Any]:
        """The claims at the UserInfo endpoint (OpenID Connect Core section 5.3); none if the provider gives none.

        Raises:
            NoReply: no usable reply came for now.
            WrongAuthority: the metadata are another authority's.
        """
        url = self.metadata().userinfo_endpoint
        if url is None:
            return {}
        try:
            reply = self._http.get_as(url, access_token)
        except PrivateAddress as refused:
            raise WrongAuthority(refused.why, "allow_private") from None
        except NoReply:
            raise NoReply("userinfo_unavailable") from None
        if reply.status >= 500 or reply.status in {408, 429}:
            raise NoReply("userinfo_unavailable")
        return (json_object(reply.body) or {}) if reply.status == 200 else {}

    def _limit_fetches(self) -> None:
        now, last = self._http.clock.now(), self._fetched_again_at
        if last is not None and 0 <= (now - last).total_seconds() < _KEYS_AGAIN_SECONDS:
            raise NoReply("keys_fetched_just_now")
        self._fetched_again_at = now

    def _believed(self, url: str, read: Callable[[Reply], T], *, newest: bool = False) -> T:
        """The content of a document as `read` parses it; an unchanged document is not parsed again."""
        try:
            reply = self._http.get(url, newest=newest)
        except PrivateAddress as refused:
            raise WrongAuthority(refused.why, "allow_private") from None
        remembered = self._read.get(url)
        if remembered and remembered[0] is reply:
            known: T = remembered[1]
            return known
        try:
            value = read(reply)
        except (NoReply, WrongAuthority):
            # The page of a captive portal must not stay in the cache for an hour.
            self._http.forget(url)
            raise
        self._read[url] = reply, value
        return value

    def _read_metadata(self, reply: Reply) -> Metadata:
        document = json_object(reply.body)
        if 400 <= reply.status < 500 and reply.status not in {408, 429}:
            error = read_error(document or {})
            if error:
                raise WrongAuthority(error.code, self._authority.setting, error.reply)
            raise WrongAuthority(f"HTTP {reply.status}", self._authority.setting)
        if reply.status != 200 or document is None:
            raise NoReply("not_json" if reply.status == 200 else f"HTTP {reply.status}")
        issuer = document.get("issuer")
        if not (isinstance(issuer, str) and self._authority.is_issuer(issuer)):
            raise WrongAuthority("another_issuer", self._authority.setting)
        token_endpoint, jwks_uri = _https(document, "token_endpoint"), _https(document, "jwks_uri")
        if token_endpoint is None or jwks_uri is None:
            raise WrongAuthority("endpoints_missing", self._authority.setting)
        methods = document.get("token_endpoint_auth_methods_supported")
        return Metadata(
            issuer=issuer,
            token_endpoint=token_endpoint,
            jwks_uri=jwks_uri,
            authorization_endpoint=_https(document, "authorization_endpoint"),
            device_authorization_endpoint=_https(document, "device_authorization_endpoint"),
            revocation_endpoint=_https(document, "revocation_endpoint"),
            userinfo_endpoint=_https(document, "userinfo_endpoint"),
            token_endpoint_auth_methods=_texts(methods),
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        )


def _read_keys(reply: Reply) -> KeySet:
    document = json_object(reply.body)
    if reply.status != 200 or document is None:
        raise NoReply("not_json" if reply.status == 200 else f"HTTP {reply.status}")
    members = document.get("keys")
    if not isinstance(members, list):
        raise NoReply("keys_unreadable")
    signing = [member for member in members[:_KEYS_READ] if _may_sign(member)]
    keys = [key for member in signing if (key := _read_key(member)) is not None]
    if signing and not keys:
        raise NoReply("keys_unreadable")
    return KeySet(keys)


def _may_sign(member: object) -> bool:
    """Whether a member of a key set is not clearly for another purpose than an ID token's signature."""
    if not isinstance(member, dict):
        return True
    algorithm = member.get("alg")
    other_algorithm = isinstance(algorithm, str) and algorithm not in ALGORITHMS
    return member.get("use") != "enc" and member.get("kty") != "oct" and not other_algorithm


def _read_key(member: object) -> Key | None:
    """The public key in a member of a key set; None if it can't be read (RFC 7517 section 5)."""
    if not isinstance(member, dict):
        return None
    kind, kid = member.get("kty"), member.get("kid")
    if not isinstance(kind, str) or kind not in _PUBLIC:
        return None
    public: dict[str, Any] = {"kty": kind, **{name: member.get(name) for name in _PUBLIC[kind]}}
    if isinstance(kid, str) and kid:
        public["kid"] = kid
    try:
        key = JWKRegistry.import_key(public)
        # The library reads the numbers only now; a point that is not on its curve is an error.
        key.public_key  # noqa: B018
    except Exception:  # any value can be in a member
        return None
    return key


def _https(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and is_https(value) else None


def is_https(url: str) -> bool:
    """Whether the text is an https URL with a host, and a port from 1 if it has a port."""
    if not (url.isascii() and url.isprintable() and url.startswith("https://")) or "\\" in url or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False


def _texts(value: object) -> frozenset[str]:
    return frozenset(text for text in value if isinstance(text, str)) if isinstance(value, list) else frozenset()

"""`provider check`: all of a client registration that can be seen from outside, with the remedy for what is wrong.

Invariants: whatever a provider does is an item, never an exception; the report holds nothing secret; no credential
is kept, and none is asked for in a person's name: the one device code expires unused. Each request is over after
`STEP_SECONDS`, all of it after `TOTAL_SECONDS`; what is under way then is not waited for.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException, HTTPSConnection
from itertools import chain
from socket import gaierror
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from requests.utils import select_proxy
from urllib3.util import make_headers

from adapters.providers.client_credentials import Certificate, ClientCredential, client_credentials
from adapters.providers.discovery import WELL_KNOWN, Discovery, Metadata, WrongAuthority
from adapters.providers.errors import OAuthError, Verdict, read_error, read_overrides
from adapters.providers.factory import build_provider
from adapters.providers.http_client import HttpClient, NoReply, json_object
from adapters.providers.id_tokens import ALGORITHMS
from adapters.providers.microsoft import APP_SCOPES, LOGIN, MULTI_TENANT, Msal, is_entra
from adapters.providers.oidc import GOOGLE_ISSUER, Authlib
from adapters.providers.provider import ClientLibrary
from adapters.providers.registration import Registration
from adapters.providers.replies import read_device_authorization, retry_after_seconds
from adapters.providers.settings import ProviderSettings
from adapters.providers.setup_steps import MAIL_HOSTS, refusal_remedy, setup_steps
from domain.errors import Failed, Unreachable
from domain.ports import Clock, Reply
from domain.secret import Secret

STEP_SECONDS = 10
TOTAL_SECONDS = 45
SKEW_SECONDS = 60
# A public authority's certificates are renewed a month ahead: two weeks before the end nobody has done it.
SERVER_CERTIFICATE_DAYS = 14
CLIENT_CERTIFICATE_DAYS = 30
# What some say of a wrong secret and others of a grant type that the client may not use, such as Keycloak of both.
_EITHER = frozenset({"unauthorized_client", "unsupported_grant_type", "invalid_request"})

T = TypeVar("T")
State = Literal["ok", "warning", "failed", "not checked"]


@dataclass(frozen=True)
class CheckItem:
    """One thing looked at. `remedy` says what to do, also about what can't be seen from outside."""

    name: str
    state: State
    detail: str
    remedy: str | None = None


@dataclass(frozen=True)
class ProviderReport:
    """All that was looked at, how to set the registration up, and `host:port` for the firewall."""

    provider: str
    items: tuple[CheckItem, ...]
    steps: tuple[str, ...]
    hosts: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(item.state != "failed" for item in self.items)


def check_provider(
    settings: ProviderSettings,
    clock: Clock,
    accounts: Sequence[str] = (),
    *,
    redirect_uris: Sequence[str] = ("http://localhost",),
) -> ProviderReport:
    """Look at a registration from outside.

    `accounts` are the mailboxes and `redirect_uris` those of the browser flow, both for the set-up steps.

    Raises:
        InvalidValue: the settings can't work; see `build_provider`.
    """
    provider = build_provider(settings, clock)
    if _place(_authority(settings)) is None:
        raise settings.invalid("issuer", "write its host in ASCII, and its port as a number")
    scopes = tuple(dict.fromkeys(chain.from_iterable(map(provider.scopes, ("smtp", "pop", "imap")))))
    look = _Look(settings, clock, scopes)
    items, document = look.over_the_network()
    certificates = [
        _client_certificate(f"{name} expiry", credential, clock.now())
        for name, credential in client_credentials(settings).items()
        if isinstance(credential, Certificate)
    ]
    return ProviderReport(
        settings.name,
        (*items, *certificates, _policy(settings), _redirect(redirect_uris)),
        setup_steps(settings, accounts, redirect_uris, scopes),
        _hosts(settings, look.authority, document),
    )


class _Look:
    """Everything that is asked of one provider, through our own HTTP client and with the service's own requests."""

    def __init__(self, settings: ProviderSettings, clock: Clock, scopes: Sequence[str]) -> None:
        self.authority = _authority(settings)
        self._settings = settings
        self._clock = clock
        self._scopes = scopes
        self._http = HttpClient(
            clock,
            timeout_seconds=min(settings.timeout_seconds, STEP_SECONDS),
            ca_file=settings.ca_file,
            proxy=settings.proxy,
        )
        self._is_issuer: Callable[[str], bool] = lambda issuer: issuer == self.authority
        if settings.kind == "microsoft" and settings.issuer is None:
            self._is_issuer = is_entra
        self._overrides = read_overrides(settings)
        credentials: Mapping[str, ClientCredential | None] = client_credentials(settings) or {"": None}
        self._libraries = {name: _library(settings, credential) for name, credential in credentials.items()}

    def over_the_network(self) -> tuple[list[CheckItem], Mapping[str, Any]]:
        """The items in the order of the conversation, and the discovery document as far as there is one."""
        ends_at = time.monotonic() + TOTAL_SECONDS
        certificate = _start(self._server_certificate)
        first, document = self._discovery()
        metadata = self._believed(document)
        under_way = {
            "signing keys": _start(lambda: self._keys(metadata)),
            "device flow": _start(lambda: self._device_flow(metadata)),
            **{
                name: _start(partial(self._client_credential, name, library, metadata))
                for name, library in self._libraries.items()
                if name
            },
        }
        items = [
            _result("TLS certificate", certificate, self._http.timeout_seconds),
            *first,
            *self._endpoints(document),
            *(_result(name, future, ends_at - time.monotonic()) for name, future in under_way.items()),
        ]
        return items if any(self._libraries) else [*items, self._no_client_credential()], document

    def _server_certificate(self) -> CheckItem:
        name, place = "TLS certificate", _place(self.authority)
        try:
            certificate = _peer_certificate(self._http, self.authority)
        except ssl.SSLCertVerificationError as error:
            what, remedy = _VERIFICATION.get(error.verify_code, ("its certificate can't be verified", _ASK_THE_OWNER))
            return CheckItem(name, "failed", f"{place}: {what}", remedy)
        except ssl.SSLError as error:
            why = error.reason or type(error).__name__
            return CheckItem(name, "failed", f"{place}: no TLS connection ({why})", "look for a proxy that breaks TLS")
        except gaierror:
            return self._no_connection("its name is not known here")
        except (OSError, HTTPException, ValueError) as error:
            return self._no_connection(type(error).__name__)
        if certificate is None:
            return CheckItem(name, "not checked", "the proxy is not an http:// one", "look at it from elsewhere")
        ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
        names = ", ".join(str(value) for _, value in certificate.get("subjectAltName", ())[:5])
        until = f"{place}: for {_shown(names)}"
        return _expiry(name, until, ends_at, self._clock.now(), SERVER_CERTIFICATE_DAYS, _ASK_THE_OWNER)

    def _no_connection(self, why: str) -> CheckItem:
        place = _place(self.authority)
        return CheckItem("TLS certificate", "failed", f"{place}: no connection ({why})", self._let_through())

    def _let_through(self) -> str:
        return (
            f"let {_place(self.authority)} through the firewall, check the name service,"
            f" or set proxy of [providers.{self._settings.name}]"
        )

    def _discovery(self) -> tuple[list[CheckItem], Mapping[str, Any]]:
        """The items of the discovery document and of the clock; the document is empty if it is not to be believed."""
        name, setting = "discovery", "issuer" if self._settings.issuer or self._settings.kind == "google" else "tenant"
        remedy = f"correct {setting} of [providers.{self._settings.name}]"
        try:
            reply = self._http.get(self.authority.rstrip("/") + WELL_KNOWN)
        except NoReply as trouble:
            clock = CheckItem("clock", "not checked", "no reply to compare with")
            return [CheckItem(name, "failed", str(trouble), self._let_through()), clock], {}
        clock = _skew(dict(reply.headers).get("Date"), self._clock.now())
        document = json_object(reply.body) or {}
        error, issuer = read_error(document, self._overrides), document.get("issuer")
        if reply.status >= 500 or reply.status in {408, 429}:
            item = CheckItem(name, "failed", f"HTTP {reply.status}", "the provider is in trouble: try again")
        elif reply.status != 200:
            code = f" ({error.code})" if error else ""
            item = CheckItem(name, "failed", f"no such authority: HTTP {reply.status}{code}", remedy)
        elif not document:
            item = CheckItem(name, "failed", "what answers is no JSON document", "look for a proxy or portal between")
        elif not (isinstance(issuer, str) and self._is_issuer(issuer)):
            item = CheckItem(name, "failed", f"its issuer is {_shown(issuer)}, not {self.authority}", remedy)
        else:
            return [CheckItem(name, "ok", f"issuer {_shown(issuer)}"), clock], document
        return [item, clock], {}

    def _believed(self, document: Mapping[str, Any]) -> Metadata | None:
        """The metadata as the service reads them, from memory."""
        if not document:
            return None
        try:
            metadata = Discovery(self._http, self.authority, "issuer", self._is_issuer).metadata()
        except (NoReply, WrongAuthority):
            return None
        urls = (metadata.token_endpoint, metadata.jwks_uri, metadata.device_authorization_endpoint)
        return metadata if all(_place(url) for url in urls if url is not None) else None

    def _endpoints(self, document: Mapping[str, Any]) -> list[CheckItem]:
        if not document:
            names = (*(name for name, *_ in _ENDPOINTS), "PKCE")
            return [CheckItem(name, "not checked", "no discovery document") for name in names]
        return [*(self._endpoint(document, *row) for row in _ENDPOINTS), self._pkce(document)]

    def _endpoint(self, document: Mapping[str, Any], name: str, field: str, without: State, remedy: str) -> CheckItem:
        url = document.get(field)
        if url is None and field == "revocation_endpoint" and self._at_entra:
            return CheckItem(name, "ok", "Entra has none: a deleted token's grant ends unused, or with its sessions")
        if url is None:
            return CheckItem(name, without, "none is announced", remedy)
        if not isinstance(url, str) or _place(url) is None:
            return CheckItem(name, "failed", f"{_shown(url)} is not an https:// address", remedy)
        return CheckItem(name, "ok", _shown(url))

    def _pkce(self, document: Mapping[str, Any]) -> CheckItem:
        methods = document.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" in methods:
            return CheckItem("PKCE", "ok", "S256 is announced")
        if methods is None and self._at_entra:
            return CheckItem("PKCE", "ok", "Entra takes S256 and does not announce it")
        remedy = "ask the provider if it takes PKCE with S256; if not, use --flow device"
        if methods is None:
            return CheckItem("PKCE", "warning", "not announced", remedy)
        return CheckItem("PKCE", "failed", "announced without S256", remedy)

    @property
    def _at_entra(self) -> bool:
        return self._settings.kind == "microsoft" and self._settings.issuer is None

    def _keys(self, metadata: Metadata | None) -> CheckItem:
        name, remedy = "signing keys", "nobody's sign-in can be believed without: ask the provider's administrator"
        if metadata is None:
            return _no_metadata(name)
        discovery = Discovery(self._http, self.authority, "issuer", self._is_issuer)
        try:
            keys = [key.as_dict(private=False) for key in discovery.keys().keys]
        except (NoReply, WrongAuthority) as trouble:
            return CheckItem(name, "failed", str(trouble), remedy)
        usable = sum(map(_can_sign, keys))
        if not usable:
            return CheckItem(name, "failed", f"none of {len(keys)} keys can sign an ID token that we believe", remedy)
        return CheckItem(name, "ok", f"{usable} of {len(keys)} can sign ID tokens")

    def _device_flow(self, metadata: Metadata | None) -> CheckItem:
        """Ask for a device code, then once for its token, which is where some providers look at the client."""
        name, use_browser = "device flow", "use --flow browser"
        if metadata is None:
            return _no_metadata(name)
        if self._settings.kind == "google":
            return CheckItem(name, "not checked", "Google's device flow refuses the mail scope", use_browser)
        if metadata.device_authorization_endpoint is None:
            return CheckItem(name, "not checked", "the provider has no device authorization endpoint", use_browser)
        try:
            return self._ask_for_a_code(name, metadata)
        except NoReply as trouble:
            return CheckItem(name, "failed", str(trouble), self._let_through())
        except (Failed, Unreachable):
            return CheckItem(name, "failed", "the reply has no device code in it", "look for a proxy or portal between")

    def _ask_for_a_code(self, name: str, metadata: Metadata) -> CheckItem:
        registration = Registration(self._libraries, self._overrides)
        reply = registration.ask(
            lambda library: self._http.post(lambda to: library.request_device_code(to, metadata, self._scopes))
        )
        if (refused := self._refused(name, reply)) is not None:
            return refused
        pending = read_device_authorization(self._settings.name, reply, " ".join(self._scopes), self._overrides)
        code = Secret(json.loads(pending.state.reveal())["device_code"])
        reply = registration.ask(lambda library: self._http.post(lambda to: library.poll(to, metadata, code)))
        if (refused := self._refused(name, reply)) is not None:
            return refused
        return CheckItem(name, "ok", f"a device code was given for {' '.join(self._scopes)}; it expires unused")

    def _no_client_credential(self) -> CheckItem:
        if self._settings.kind == "google":
            remedy = "set client_secret_file: Google's Desktop app clients have a secret and have to send it"
            return CheckItem("client secret", "warning", "none is configured", remedy)
        return CheckItem("client secret", "not checked", "none is configured: a public client")

    def _client_credential(self, name: str, library: ClientLibrary, metadata: Metadata | None) -> CheckItem:
        """Authenticate: with a client credentials request, or with a refresh token that can't exist."""
        if metadata is None:
            return _no_metadata(name)
        if self._at_entra and self._settings.tenant in MULTI_TENANT:
            detail = f"{self._settings.tenant} is no tenant that an application could sign in to"
            return CheckItem(name, "not checked", detail, "set tenant to the registration's own for a moment")
        google = self._settings.kind == "google"
        try:
            reply = self._ask_in_vain(library, metadata) if google else self._ask_for_the_client(library, metadata)
            if not google and (error := self._error(reply)) is not None and error.code in _EITHER:
                reply = self._ask_in_vain(library, metadata)
        except NoReply as trouble:
            return CheckItem(name, "failed", str(trouble), self._let_through())
        return self._authenticated_by(name, reply)

    def _authenticated_by(self, name: str, reply: Reply) -> CheckItem:
        error, refused = self._error(reply), self._refused(name, reply)
        if refused is None:
            return CheckItem(name, "ok", "the provider accepts it; nobody says when it expires")
        if error is None or refused.state != "failed":
            return refused
        if error.code == "unauthorized_client":
            return replace(refused, remedy=refusal_remedy(self._settings, replace(error, code="invalid_client")))
        if _is_the_clients(error):
            return refused
        if error.rule.verdict is Verdict.UNKNOWN:
            return CheckItem(name, "not checked", f"the answer says nothing of it: {error.code}", refused.remedy)
        return CheckItem(name, "ok", f"the provider accepts it (and answers {error.code}); nobody says when it expires")

    def _ask_for_the_client(self, library: ClientLibrary, metadata: Metadata) -> Reply:
        """Ask as the app-only flow does (RFC 6749 section 4.4); a token that comes is dropped with the reply."""
        scopes = self._settings.app_scopes or (
            APP_SCOPES if self._settings.kind == "microsoft" else self._settings.scopes
        )
        return self._http.post(lambda to: library.request_app_token(to, metadata, scopes))

    def _ask_in_vain(self, library: ClientLibrary, metadata: Metadata) -> Reply:
        """The client authenticates first (RFC 6749 section 3.2.1); if that succeeds, the answer is `invalid_grant`."""
        nobodys, scope = Secret("mailtoken-check"), " ".join(self._scopes)
        return self._http.post(lambda to: library.refresh(to, metadata, nobodys, scope))

    def _error(self, reply: Reply) -> OAuthError | None:
        return read_error(json_object(reply.body) or {}, self._overrides)

    def _refused(self, name: str, reply: Reply) -> CheckItem | None:
        """What is wrong with the reply, if anything is: an error that asks for patience is what we expect."""
        error = self._error(reply)
        if error is not None and error.rule.verdict in {Verdict.PENDING, Verdict.SLOW_DOWN}:
            return None
        in_trouble = reply.status >= 500 or reply.status in {408, 429}
        if in_trouble or (error is not None and error.rule.verdict is Verdict.TRANSIENT):
            code = f" ({error.code})" if error else ""
            seconds = retry_after_seconds(reply)
            again = f"try again in {seconds} seconds" if seconds else "try again"
            return CheckItem(name, "not checked", f"the provider is in trouble: HTTP {reply.status}{code}", again)
        if error is not None:
            detail = f"the provider refuses: {error.code}"
            return CheckItem(name, "failed", detail, refusal_remedy(self._settings, error))
        if not 200 <= reply.status < 300 or json_object(reply.body) is None:
            detail = f"the reply is not OAuth's: HTTP {reply.status}"
            return CheckItem(name, "failed", detail, "look for a proxy or portal between")
        return None


# A name or an address; of an empty label or a longer one no library would make a request.
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?|[0-9a-f:.]*:[0-9a-f:.]*")
_ASK_THE_OWNER = "have the server's administrator renew its certificate"
# OpenSSL's verification results (openssl-verification-options(1)).
_VERIFICATION: Mapping[int, tuple[str, str]] = {
    9: ("its certificate is not valid yet", "set this machine's clock, or ask the server's administrator"),
    10: ("its certificate has expired", _ASK_THE_OWNER),
    18: ("its certificate is self-signed", "if the server is yours, set ca_file"),
    19: ("its authority is unknown", "if the authority is yours, or your proxy's, set ca_file"),
    20: ("its authority is unknown", "if the authority is yours, or your proxy's, set ca_file"),
    62: ("its certificate is for another name", "correct issuer to a name that the certificate has"),
    64: ("its certificate is not for this IP address", "correct issuer to a name that the certificate has"),
}
_ENDPOINTS: tuple[tuple[str, str, State, str], ...] = (
    ("token endpoint", "token_endpoint", "failed", "no token can be had: check that issuer is the right one"),
    (
        "device authorization endpoint",
        "device_authorization_endpoint",
        "warning",
        "use --flow browser, or have the device authorization grant enabled",
    ),
    ("authorization endpoint", "authorization_endpoint", "warning", "use --flow device: nobody can sign in by browser"),
    (
        "revocation endpoint",
        "revocation_endpoint",
        "warning",
        "end the grant of a deleted token at the provider itself",
    ),
)


def _authority(settings: ProviderSettings) -> str:
    if settings.issuer:
        return settings.issuer
    return GOOGLE_ISSUER if settings.kind == "google" else f"{LOGIN}/{settings.tenant}/v2.0"


def _library(settings: ProviderSettings, credential: ClientCredential | None) -> ClientLibrary:
    return Msal(settings, credential) if settings.kind == "microsoft" else Authlib(settings, credential)


def _start(work: Callable[[], T]) -> Future[T]:
    """Work in a thread that keeps nobody from leaving."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="provider check", daemon=True).start()
    return future


def _result(name: str, future: Future[CheckItem], seconds: float) -> CheckItem:
    try:
        return future.result(timeout=max(seconds, 0))
    except TimeoutError:
        return CheckItem(name, "not checked", "no answer in time", "try again; see if the name service is slow")


def _peer_certificate(http: HttpClient, url: str) -> Mapping[str, Any] | None:
    """The server's certificate, verified; None behind a proxy that we can't ask for a tunnel."""
    parts = urlsplit(url)
    assert parts.hostname
    host, port, timeout = parts.hostname, parts.port or 443, http.timeout_seconds
    proxy = select_proxy(url, dict(http.proxies(url)))
    if proxy is None:
        connection = HTTPSConnection(host, port, timeout=timeout, context=http.tls)
    else:
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if through.scheme != "http" or not through.hostname:
            return None
        connection = HTTPSConnection(through.hostname, through.port or 80, timeout=timeout, context=http.tls)
        user = f"{unquote(through.username or '')}:{unquote(through.password or '')}"
        connection.set_tunnel(host, port, make_headers(proxy_basic_auth=user) if through.username else None)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        return connection.sock.getpeercert() or {}
    finally:
        connection.close()


def _expiry(name: str, what: str, ends_at: datetime, now: datetime, days: int, remedy: str) -> CheckItem:
    left = ends_at - now
    detail = f"{what}, until {ends_at:%Y-%m-%d} ({left.days} days left)"
    if left <= timedelta(0):
        return CheckItem(name, "failed", f"{what}, expired on {ends_at:%Y-%m-%d}", remedy)
    return CheckItem(name, "warning", detail, remedy) if left.days < days else CheckItem(name, "ok", detail)


def _client_certificate(name: str, configured: Certificate, now: datetime) -> CheckItem:
    """How long the client's own certificate lasts; Entra shows the same thumbprint under Certificates & secrets."""
    certificate = x509.load_pem_x509_certificate(configured.certificate.encode())
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, not a proof
    if now < certificate.not_valid_before_utc:
        return CheckItem(name, "failed", f"{thumbprint} is not valid yet", "set this machine's clock")
    remedy = "make a new one, have it registered beside the old one, then configure it"
    return _expiry(name, thumbprint, certificate.not_valid_after_utc, now, CLIENT_CERTIFICATE_DAYS, remedy)


def _skew(date: str | None, now: datetime) -> CheckItem:
    """How far our clock is from the Date of a reply (RFC 9110 section 6.6.1), which has whole seconds."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return CheckItem("clock", "not checked", "the reply has no date")
    ahead = round((now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))).total_seconds())
    detail = f"{abs(ahead)} seconds {'ahead of' if ahead >= 0 else 'behind'} the provider's"
    if abs(ahead) <= SKEW_SECONDS:
        return CheckItem("clock", "ok", detail)
    return CheckItem("clock", "warning", detail, "have this machine's clock set by NTP")


def _can_sign(key: Mapping[str, Any]) -> bool:
    """If ID tokens that this key signed can be believed (RFC 7517 section 4)."""
    algorithm, use = key.get("alg"), key.get("use")
    return key.get("kty") in {"RSA", "EC", "OKP"} and algorithm in {None, *ALGORITHMS} and use in {None, "sig"}


def _is_the_clients(error: OAuthError) -> bool:
    """If the error is about the client itself; any other means that it has authenticated."""
    setting = error.rule.setting or ""
    return error.rule.verdict is Verdict.CLIENT_FAULT or setting.startswith(("client_", "tenant"))


def _no_metadata(name: str) -> CheckItem:
    return CheckItem(name, "not checked", "the service can't use this authority; see the items above")


def _policy(settings: ProviderSettings) -> CheckItem:
    name, detail = "sign-in policy", "what a policy answers shows only when somebody signs in"
    match settings.kind:
        case "microsoft":
            return CheckItem(
                name,
                "not checked",
                f"Conditional Access: {detail}, as does 'Allow public client flows'",
                "if a sign-in ends with AADSTS53003 or 530032, have this application exempted or use --flow browser;"
                " 'Sign-in logs' names the policy",
            )
        case "google":
            remedy = "if a sign-in ends with admin_policy_enforced, have the application trusted under API controls"
            return CheckItem(name, "not checked", f"Workspace's access control: {detail}", remedy)
        case "oidc":
            return CheckItem(name, "not checked", detail, "get a token once with an account of each kind")


def _redirect(redirect_uris: Sequence[str]) -> CheckItem:
    detail = "which ones are registered can't be seen from outside"
    return CheckItem(
        "redirect URI", "not checked", detail, f"register {' and '.join(redirect_uris)} for --flow browser"
    )


def _hosts(settings: ProviderSettings, authority: str, document: Mapping[str, Any]) -> tuple[str, ...]:
    """What this machine has to reach, as `host:port`, once each."""
    urls = [authority, document.get("jwks_uri"), *(document.get(field) for _, field, *_ in _ENDPOINTS)]
    places = [place for url in urls if isinstance(url, str) and (place := _place(url))]
    return tuple(dict.fromkeys((*places, *MAIL_HOSTS[settings.kind])))


def _place(url: str) -> str | None:
    """`host:port` of an https:// URL that can be asked; None if it is not one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        return None
    if parts.scheme != "https" or not (url.isascii() and url.isprintable() and _HOST.fullmatch(host)):
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(value: object) -> str:
    """A text of the provider's choice, cut and without anything that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "".join(character if character.isprintable() else "?" for character in text[:200])

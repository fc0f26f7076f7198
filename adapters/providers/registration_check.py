"""`provider check`: checks a client registration as far as it can be seen from outside, with a remedy for each fault.

Invariants: a provider's misbehaviour becomes an item, never an exception. The report holds no secret. No token is kept,
and no person's sign-in is requested: the device code expires unused. Each request ends after `STEP_SECONDS`, the
whole check after `TOTAL_SECONDS`; a request still under way then is not waited for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from adapters.http_client import HttpClient, NoReply, json_object
from adapters.providers.certificate_check import check_client_certificate, check_server_certificate
from adapters.providers.check_report import CheckItem, ProviderReport, State, host_and_port, printable
from adapters.providers.client_authentication import Certificate, client_credentials
from adapters.providers.client_library import ClientLibrary
from adapters.providers.credential_rotation import CredentialRotation
from adapters.providers.discovery import Discovery, Metadata, WrongAuthority
from adapters.providers.error_table import OAuthError, Verdict, read_error, read_overrides
from adapters.providers.factory import build_provider, client_libraries
from adapters.providers.kinds import preset_of
from adapters.providers.preset import PROTOCOLS, address_rule
from adapters.providers.settings import ProviderSettings
from adapters.providers.token_responses import read_device_authorization, retry_after_seconds
from domain.errors import Fact, Failed, Unreachable
from domain.outcomes import Reason
from domain.ports import Clock, Reply
from domain.secret import Secret

STEP_SECONDS = 10
TOTAL_SECONDS = 45
SKEW_SECONDS = 60
# Ambiguous errors: some providers send them for a wrong secret, others for a forbidden grant type, Keycloak for both.
_EITHER = frozenset({"unauthorized_client", "unsupported_grant_type", "invalid_request"})
# The remedy by the provider's error code, for any kind of provider.
_REMEDIES: Mapping[str, str] = {
    "unauthorized_client": "register_client_or_enable_flow",
    "unsupported_grant_type": "enable_flow",
    "invalid_client": "compare_client",
    "invalid_scope": "correct_scopes",
}

T = TypeVar("T")


class _Endpoint(NamedTuple):
    """An endpoint of the discovery document, and the state of its item if the document lacks the endpoint."""

    subject: str
    state: State
    remedy: str


# The endpoints, by their field in the discovery document.
_ENDPOINTS: Mapping[str, _Endpoint] = {
    "token_endpoint": _Endpoint("token_endpoint", "failed", "check_issuer"),
    "device_authorization_endpoint": _Endpoint("device_authorization_endpoint", "warning", "use_browser_or_enable"),
    "authorization_endpoint": _Endpoint("authorization_endpoint", "warning", "use_device"),
    "revocation_endpoint": _Endpoint("revocation_endpoint", "warning", "end_grants_at_provider"),
}


def check_provider(
    settings: ProviderSettings,
    clock: Clock,
    accounts: Sequence[str] = (),
    *,
    redirect_uris: Sequence[str] = ("http://localhost",),
) -> ProviderReport:
    """Check a registration from outside.

    `accounts` are the mailboxes and `redirect_uris` the URIs of the browser flow, both for the set-up steps.

    Raises:
        InvalidValue: a setting can't be used; see `build_provider`.
    """
    provider = build_provider(settings, clock)
    preset = preset_of(settings)
    if host_and_port(preset.authority(settings).url) is None:
        raise settings.invalid("issuer", "issuer_host_unreadable")
    scopes = tuple(dict.fromkeys(chain.from_iterable(map(provider.scopes, PROTOCOLS))))
    check = _Check(settings, clock, scopes)
    items, document = check.over_the_network()
    credentials = client_credentials(settings)
    certificates = [
        check_client_certificate(name, credential, clock.now())
        for name, credential in credentials.items()
        if isinstance(credential, Certificate)
    ]
    redirects = {"redirect_uris": " and ".join(redirect_uris)}
    unseen = (
        CheckItem("sign_in_policy", "not checked", preset.sign_in_policy, f"{preset.sign_in_policy}_remedy"),
        CheckItem("redirect_uri", "not checked", "redirects_unseen", "register_redirects", redirects),
    )
    steps = preset.setup_steps(settings, accounts, redirect_uris, is_public=not credentials)
    # What a secret is called depends on where the provider is.
    where = {"stored": True} if settings.is_stored else {}
    return ProviderReport(
        settings.name,
        tuple(replace(item, fields={**item.fields, **where}) for item in (*items, *certificates, *unseen)),
        tuple(replace(step, fields={**step.fields, **where}) for step in steps),
        _hosts(preset.authority(settings).url, document, preset.mail_hosts),
    )


class _Check:
    """The checks of one provider over the network, with the HTTP client and the requests that the service uses."""

    def __init__(self, settings: ProviderSettings, clock: Clock, scopes: Sequence[str]) -> None:
        self._settings = settings
        self._preset = preset_of(settings)
        self._authority = self._preset.authority(settings)
        self._clock = clock
        self._scopes = scopes
        self._http = HttpClient(
            clock,
            timeout_seconds=min(settings.timeout_seconds, STEP_SECONDS),
            ca_file=settings.ca_file,
            proxy=settings.proxy,
            address_rule=address_rule(settings, self._authority),
        )
        self._overrides = read_overrides(settings)
        self._libraries = client_libraries(settings, client_credentials(settings))
        self._place: dict[str, Fact] = {"place": host_and_port(self._authority.url), "provider": settings.name}

    def over_the_network(self) -> tuple[list[CheckItem], Mapping[str, Any]]:
        """The items in the order of the conversation, and the discovery document, empty if it can't be used."""
        ends_at = time.monotonic() + TOTAL_SECONDS
        server = CheckItem("tls_certificate", "not checked", "no_answer_in_time", "try_again_or_see_name_service")
        certificate = _start(self._server_certificate)
        first, document = self._discovery()
        metadata = self._believed(document)
        # Each check with the item that replaces its result if the time runs out.
        under_way = [
            (_start(partial(self._keys, metadata)), replace(server, subject="signing_keys")),
            (_start(partial(self._device_flow, metadata)), replace(server, subject="device_flow")),
            *(
                (
                    _start(partial(self._client_credential, name, library, metadata)),
                    replace(server, subject="client_credential", fields={"credential": name}),
                )
                for name, library in self._libraries.items()
                if name
            ),
        ]
        items = [
            _result(certificate, self._http.timeout_seconds, server),
            *first,
            *self._endpoints(document),
            *(_result(future, ends_at - time.monotonic(), late) for future, late in under_way),
        ]
        return items if any(self._libraries) else [*items, self._no_client_credential()], document

    def _server_certificate(self) -> CheckItem:
        return check_server_certificate(self._http, self._authority.url, self._settings.name, self._clock.now())

    def _no_reply(self, subject: str, trouble: NoReply, **fields: Fact) -> CheckItem:
        return CheckItem(subject, "failed", "no_reply", "let_through", {**self._place, "why": trouble.why, **fields})

    def _discovery(self) -> tuple[list[CheckItem], Mapping[str, Any]]:
        """The items of the discovery document and of the clock, and the document, empty if it is not accepted."""
        try:
            reply = self._http.get(self._authority.discovery_url)
        except NoReply as trouble:
            clock = CheckItem("clock", "not checked", "no_reply_to_compare_with")
            return [self._no_reply("discovery", trouble), clock], {}
        clock = _skew(dict(reply.headers).get("Date"), self._clock.now())
        document = json_object(reply.body) or {}
        item = self._judged(reply, document)
        return [item, clock], document if item.state == "ok" else {}

    def _judged(self, reply: Reply, document: Mapping[str, Any]) -> CheckItem:
        """The item of the discovery document; a faulty reply makes it a failed item with the fault."""
        subject = "discovery"
        fields: dict[str, Fact] = {"status": reply.status}
        correct: dict[str, Fact] = {"setting": self._authority.setting, "provider": self._settings.name, **fields}
        error, issuer = read_error(document, self._overrides), document.get("issuer")
        if _is_in_trouble(reply):
            return CheckItem(subject, "failed", "discovery_in_trouble", "provider_in_trouble", fields)
        if reply.status != 200 and error:
            correct["error"] = error.code
            return CheckItem(subject, "failed", "no_authority_with_error", "correct_setting", correct)
        if reply.status != 200:
            return CheckItem(subject, "failed", "no_authority", "correct_setting", correct)
        if not document:
            return CheckItem(subject, "failed", "no_reply", "look_for_proxy_or_portal", {"why": "not_json"})
        confirmed: dict[str, Fact] = {"issuer": printable(issuer), "authority": self._authority.url}
        if isinstance(issuer, str) and self._authority.is_issuer(issuer):
            return CheckItem(subject, "ok", "issuer_confirmed", None, confirmed)
        return CheckItem(subject, "failed", "another_issuer", "correct_setting", {**correct, **confirmed})

    def _believed(self, document: Mapping[str, Any]) -> Metadata | None:
        """The metadata as the service reads them, from the cached document."""
        if not document:
            return None
        try:
            metadata = Discovery(self._http, self._authority).metadata()
        except (NoReply, WrongAuthority):
            return None
        urls = (metadata.token_endpoint, metadata.jwks_uri, metadata.device_authorization_endpoint)
        return metadata if all(host_and_port(url) for url in urls if url is not None) else None

    def _endpoints(self, document: Mapping[str, Any]) -> list[CheckItem]:
        if not document:
            subjects = (*(endpoint.subject for endpoint in _ENDPOINTS.values()), "pkce")
            return [CheckItem(subject, "not checked", "no_discovery_document") for subject in subjects]
        return [*(self._endpoint(document, field) for field in _ENDPOINTS), self._pkce(document)]

    def _endpoint(self, document: Mapping[str, Any], field: str) -> CheckItem:
        subject, without, remedy = _ENDPOINTS[field]
        url, unannounced = document.get(field), self._preset.unannounced(self._settings)
        if url is None and field in unannounced:
            return CheckItem(subject, "ok", unannounced[field])
        if url is None:
            return CheckItem(subject, without, "not_announced", remedy)
        fields = {"url": printable(url)}
        if not isinstance(url, str) or host_and_port(url) is None:
            return CheckItem(subject, "failed", "not_https", remedy, fields)
        return CheckItem(subject, "ok", "announced", None, fields)

    def _pkce(self, document: Mapping[str, Any]) -> CheckItem:
        field = "code_challenge_methods_supported"
        methods, unannounced = document.get(field), self._preset.unannounced(self._settings)
        if isinstance(methods, list) and "S256" in methods:
            return CheckItem("pkce", "ok", "pkce_announced")
        if methods is None and field in unannounced:
            return CheckItem("pkce", "ok", unannounced[field])
        if methods is None:
            return CheckItem("pkce", "warning", "pkce_not_announced", "ask_about_pkce")
        return CheckItem("pkce", "failed", "pkce_without_s256", "ask_about_pkce")

    def _keys(self, metadata: Metadata | None) -> CheckItem:
        subject, remedy = "signing_keys", "ask_about_keys"
        if metadata is None:
            return _no_metadata(subject)
        try:
            usable = len(Discovery(self._http, self._authority).keys().keys)
            document = json_object(self._http.get(metadata.jwks_uri).body) or {}
        except (NoReply, WrongAuthority) as trouble:
            return CheckItem(subject, "failed", "no_reply", remedy, {"why": trouble.why})
        fields = {"usable": usable, "count": len(document.get("keys", ()))}
        if not usable:
            return CheckItem(subject, "failed", "no_signing_key", remedy, fields)
        return CheckItem(subject, "ok", "signing_keys", None, fields)

    def _device_flow(self, metadata: Metadata | None) -> CheckItem:
        """Request a device code, then once its token: some providers check the client only at the second request."""
        subject = "device_flow"
        if metadata is None:
            return _no_metadata(subject)
        if self._preset.device_flow_refusal:
            return CheckItem(subject, "not checked", self._preset.device_flow_refusal, "use_browser")
        if metadata.device_authorization_endpoint is None:
            return CheckItem(subject, "not checked", "no_device_endpoint", "use_browser")
        try:
            return self._ask_for_a_code(subject, metadata)
        except NoReply as trouble:
            return self._no_reply(subject, trouble)
        except (Failed, Unreachable):
            return CheckItem(subject, "failed", "no_device_code_in_reply", "look_for_proxy_or_portal")

    def _ask_for_a_code(self, subject: str, metadata: Metadata) -> CheckItem:
        rotation, scopes = CredentialRotation(self._libraries, self._overrides), " ".join(self._scopes)
        reply = rotation.ask(
            lambda library: self._http.post(lambda to: library.request_device_code(to, metadata, self._scopes))
        )
        if (refused := self._refused(subject, reply)) is not None:
            return refused
        pending = read_device_authorization(self._settings.name, reply, scopes, self._overrides)
        code = Secret(json.loads(pending.state.reveal())["device_code"])
        reply = rotation.ask(lambda library: self._http.post(lambda to: library.poll(to, metadata, code)))
        if (refused := self._refused(subject, reply)) is not None:
            return refused
        return CheckItem(subject, "ok", "device_code_given", None, {"scopes": scopes})

    def _no_client_credential(self) -> CheckItem:
        fields = {"credential": "client secret"}
        if self._preset.needs_secret:
            return CheckItem("client_credential", "warning", "no_secret", "set_needed_secret", fields)
        return CheckItem("client_credential", "not checked", "public_client", None, fields)

    def _client_credential(self, name: str, library: ClientLibrary, metadata: Metadata | None) -> CheckItem:
        """Test a credential with a client credentials request, or with a refresh token that can't exist."""
        subject, fields = "client_credential", {"credential": name}
        if metadata is None:
            return _no_metadata(subject, **fields)
        if self._preset.untestable_client(self._settings):
            tenant = {**fields, "tenant": self._settings.tenant}
            return CheckItem(subject, "not checked", "tenant_without_applications", "set_own_tenant", tenant)
        has_app_flow = "app" in self._preset.flows(self._settings, has_credential=True)
        try:
            reply = (
                self._ask_for_the_client(library, metadata) if has_app_flow else self._ask_in_vain(library, metadata)
            )
            if has_app_flow and (error := self._error(reply)) is not None and error.code in _EITHER:
                reply = self._ask_in_vain(library, metadata)
        except NoReply as trouble:
            return self._no_reply(subject, trouble, **fields)
        item = self._authenticated_by(subject, reply)
        return replace(item, fields={**item.fields, **fields})

    def _authenticated_by(self, subject: str, reply: Reply) -> CheckItem:
        error, refused = self._error(reply), self._refused(subject, reply)
        if refused is None:
            return CheckItem(subject, "ok", "credential_accepted")
        if error is None or refused.state != "failed":
            return refused
        if error.code == "unauthorized_client":
            # The error is about the credential itself, so the remedy is that of `invalid_client`.
            remedy, fields = refusal_remedy(self._settings, replace(error, code="invalid_client"))
            return replace(refused, remedy=remedy, fields={**fields, **refused.fields})
        if _is_the_clients(error):
            return refused
        fields = {"error": error.code}
        if error.rule.verdict is Verdict.UNKNOWN:
            return replace(refused, state="not checked", code="answer_about_something_else")
        return CheckItem(subject, "ok", "credential_accepted_with_error", None, fields)

    def _ask_for_the_client(self, library: ClientLibrary, metadata: Metadata) -> Reply:
        """Send the request of the app-only flow (RFC 6749 section 4.4); a granted token is dropped with the reply."""
        scopes = self._preset.app_scopes(self._settings)
        return self._http.post(lambda to: library.request_app_token(to, metadata, scopes, account=""))

    def _ask_in_vain(self, library: ClientLibrary, metadata: Metadata) -> Reply:
        """Send an impossible refresh token: an authenticated client gets `invalid_grant` (RFC 6749 section 3.2.1)."""
        nobodys, scope = Secret("mailtoken-check"), " ".join(self._scopes)
        return self._http.post(lambda to: library.refresh(to, metadata, nobodys, scope))

    def _error(self, reply: Reply) -> OAuthError | None:
        return read_error(json_object(reply.body) or {}, self._overrides)

    def _refused(self, subject: str, reply: Reply) -> CheckItem | None:
        """The item for a reply with a fault, else None. `authorization_pending` and `slow_down` are no faults here."""
        error = self._error(reply)
        if error is not None and error.rule.verdict in {Verdict.PENDING, Verdict.SLOW_DOWN}:
            return None
        if _is_in_trouble(reply) or (error is not None and error.rule.verdict is Verdict.TRANSIENT):
            return _in_trouble(subject, reply, error)
        if error is not None:
            remedy, fields = refusal_remedy(self._settings, error)
            return CheckItem(subject, "failed", "refused", remedy, fields)
        if not 200 <= reply.status < 300 or json_object(reply.body) is None:
            fields = {"status": reply.status}
            return CheckItem(subject, "failed", "not_oauth", "look_for_proxy_or_portal", fields)
        return None


def _in_trouble(subject: str, reply: Reply, error: OAuthError | None) -> CheckItem:
    seconds = retry_after_seconds(reply)
    code = "provider_in_trouble_with_error" if error else "provider_in_trouble"
    fields: dict[str, Fact] = {"status": reply.status, "seconds": seconds, "error": error.code if error else None}
    return CheckItem(subject, "not checked", code, "try_again_in" if seconds else "try_again", fields)


def _result(future: Future[CheckItem], seconds: float, late: CheckItem) -> CheckItem:
    """The item of a check, or `late` if the check takes longer than `seconds`."""
    try:
        return future.result(timeout=max(seconds, 0))
    except TimeoutError:
        return late


def refusal_remedy(settings: ProviderSettings, error: OAuthError) -> tuple[str, Mapping[str, Fact]]:
    """The remedy for a provider's error: a code, and the values in its text."""
    preset, rule = preset_of(settings), error.rule
    consent = preset.consent_link(settings)
    fields: dict[str, Fact] = {
        "authority": settings.tenant or settings.issuer,
        "consent": consent,
        "error": error.code,
        "provider": settings.name,
        "setting": rule.setting,
    }
    known = preset.remedies.get(error.code) or _REMEDIES.get(error.code)
    if known is not None:
        return known, fields
    if rule.reason is Reason.CONSENT_REQUIRED:
        return "consent" if consent else "consent_at_provider", fields
    if rule.reason is Reason.POLICY:
        return "policy", fields
    if rule.setting is not None:
        return "correct_setting", fields
    return "look_up_error" if rule.verdict is Verdict.UNKNOWN else "compare_client_and_scopes", fields


def _start(work: Callable[[], T]) -> Future[T]:
    """Run `work` in a daemon thread, which does not keep the process from exiting."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="provider check", daemon=True).start()
    return future


def _skew(date: str | None, now: datetime) -> CheckItem:
    """Check this machine's clock against the Date of a reply (RFC 9110 section 6.6.1), which has whole seconds."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return CheckItem("clock", "not checked", "no_date")
    ahead = round((now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))).total_seconds())
    code, fields = "clock_ahead" if ahead >= 0 else "clock_behind", {"seconds": abs(ahead)}
    if abs(ahead) <= SKEW_SECONDS:
        return CheckItem("clock", "ok", code, None, fields)
    return CheckItem("clock", "warning", code, "set_clock", fields)


def _is_the_clients(error: OAuthError) -> bool:
    """Whether the error is about the client itself; any other error means that the client has authenticated."""
    setting = error.rule.setting or ""
    return error.rule.verdict is Verdict.CLIENT_FAULT or setting.startswith(("client_", "tenant"))


def _no_metadata(subject: str, **fields: Fact) -> CheckItem:
    return CheckItem(subject, "not checked", "authority_not_usable", None, fields)


def _is_in_trouble(reply: Reply) -> bool:
    return reply.status >= 500 or reply.status in {408, 429}


def _hosts(authority: str, document: Mapping[str, Any], mail_hosts: Sequence[str]) -> tuple[str, ...]:
    """The servers that this machine has to reach, each `host:port` once."""
    urls = [authority, document.get("jwks_uri"), *(document.get(field) for field in _ENDPOINTS)]
    places = [place for url in urls if isinstance(url, str) and (place := host_and_port(url))]
    return tuple(dict.fromkeys((*places, *mail_hosts)))

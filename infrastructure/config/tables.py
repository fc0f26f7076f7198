"""The tables of the configuration file with every key, its type and its default. An unknown key is an error."""

from __future__ import annotations

import codecs
import ipaddress
import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from domain.errors import Fact, InvalidValue
from domain.profile_fields import is_loopback
from domain.renewal import GrantLimits
from domain.scope import Scope, check_limitable, scopes_of, valid_patterns
from infrastructure.config.paths import SOCKET_NAME


class NotAcceptable(ValueError):
    """The fault of a value, as a code and facts. Being a ValueError, it passes through pydantic."""

    def __init__(self, code: str, **fields: Fact) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreTable(_Table):
    """`[store]`: the SQLite file `path`, or the `url` of PostgreSQL. Paths are relative to the configuration file.

    Once a backup was made, a last backup that is older than `backup_age_days` needs attention.
    """

    path: str = "mailtoken.db"
    url: str | None = None
    password_file: str | None = None
    key_file: str = "mailtoken.key"
    escrow: str = "escrow"
    backup_age_days: Annotated[int, Field(ge=1)] = 2

    @property
    def backup_age(self) -> timedelta:
        """The age from which the last backup needs attention."""
        return timedelta(days=self.backup_age_days)


class CallbackTable(_Table):
    """`[server.callback]`: the redirect URI for browsers on other machines than the service's.

    `url` is registered at the provider. The service itself answers there, over TLS, at `host` and `port`.
    """

    url: str
    certificate_file: str
    key_file: str
    host: str = "0.0.0.0"  # noqa: S104 - browsers are on other machines
    port: Annotated[int, Field(ge=1, le=65535)] = 8443

    @field_validator("url")
    @classmethod
    def _url_is_https(cls, url: str) -> str:
        if not url.startswith("https://"):
            raise NotAcceptable("callback_not_https")
        return url


class SignInTable(_Table):
    """`[server.sign_in]`: administrators sign in at the organisation's OpenID provider.

    `provider` is one of [providers]; without it `issuer`, `client_id` and `client_secret_file` are our registration.
    `groups` has the roles of each group that the claim `groups_claim` may list. A session keeps its
    roles for `session_hours`. `machines` has the patterns of the machines that a group's roles are limited to.
    """

    groups: dict[str, tuple[Literal["administrator", "operator", "auditor"], ...]]
    machines: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    groups_claim: str = "groups"
    provider: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    client_secret_file: str | None = None
    ca_file: str | None = None
    proxy: str | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn")
    session_hours: Annotated[int, Field(ge=1, le=12)] = 12

    @model_validator(mode="after")
    def _has_one_registration(self) -> SignInTable:
        if bool(self.provider) == bool(self.issuer and self.client_id):
            raise NotAcceptable("sign_in_without_registration")
        if unknown := self.machines.keys() - self.groups.keys():
            raise NotAcceptable("limit_of_no_group", group=min(unknown))
        for group, patterns in self.machines.items():
            _check_limit(self.groups[group], patterns)
        return self

    def limits(self, groups: Collection[str]) -> Mapping[str, Scope]:
        """The machines that a member of these groups is limited to, by role."""
        known = [group for group in groups if group in self.groups]
        return scopes_of((self.groups[group], self.machines.get(group, ())) for group in known)


def _check_limit(roles: Collection[str], patterns: Collection[str]) -> None:
    if not patterns:
        raise NotAcceptable("limit_without_pattern")
    try:
        valid_patterns(patterns)
        check_limitable(roles, patterns)
    except InvalidValue as error:
        raise NotAcceptable(error.code, **error.fields) from None


_SERVER_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")


class ServerTable(_Table):
    """`[server]`: the service listens at its Unix socket, and at `listen` for browsers and programs elsewhere.

    `url` is the address that browsers use. The service believes the forwarding headers of proxies
    in `trusted_proxies` only. /metrics may be read without a session from the networks in `metrics_from`. An address
    other than a trusted proxy's has at most `connections_per_address` connections. With `second_factor = "required"` an
    administrator without a second factor can do nothing but enrol one.
    """

    socket: str = SOCKET_NAME
    callback: CallbackTable | None = None
    listen: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    metrics_from: tuple[str, ...] = ()
    connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 250
    second_factor: Literal["optional", "required"] = "optional"
    sign_in: SignInTable | None = None

    @field_validator("trusted_proxies", "metrics_from")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks

    @field_validator("url")
    @classmethod
    def _url_has_no_path(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise NotAcceptable("not_an_origin")
        return url

    @model_validator(mode="after")
    def _listens_safely(self) -> ServerTable:
        if bool(self.certificate_file) != bool(self.key_file):
            raise NotAcceptable("certificate_or_key_missing")
        if self.listen is None:
            return self
        match = _SERVER_LISTEN.fullmatch(self.listen)
        if not match or int(match["port"]) > 65535:
            raise NotAcceptable("not_an_address_to_listen_at", value=self.listen)
        if not self.certificate_file and not is_loopback(self.address[0]):
            raise NotAcceptable("listens_without_tls")
        return self

    @property
    def members_for(self) -> timedelta:
        """How long a session of a member of the organisation lasts; zero without `sign_in`."""
        return timedelta(hours=self.sign_in.session_hours) if self.sign_in else timedelta(0)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of `listen`."""
        match = _SERVER_LISTEN.fullmatch(self.listen or "")
        assert match
        return match["v6"] or match["host"], int(match["port"])


class Grant(_Table):
    """`[[socket.grants]]`: the roles over the Unix socket of a uid of this machine, besides root and the service's.

    `profiles` limits the role client; `machines` has the patterns of the machines that an operator or auditor is
    limited to.
    """

    uid: Annotated[int, Field(ge=0)]
    roles: tuple[Literal["administrator", "operator", "auditor", "client", "relay"], ...]
    profiles: tuple[str, ...] = ()
    machines: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _limits_no_administrator(self) -> Grant:
        if self.machines is not None:
            _check_limit(self.roles, self.machines)
        return self


class SocketTable(_Table):
    """`[socket]`: the grants of uids other than root and the service's own. The group `group` owns the socket."""

    grants: tuple[Grant, ...] = ()
    group: str | None = None


ProviderKind = Literal["microsoft", "google", "oidc"]
# Microsoft ends a grant after 90 days without use, Google after six months, Keycloak an offline token after a month.
INACTIVITY_DAYS: Mapping[str, int] = {"microsoft": 90, "google": 180, "oidc": 30}


_HOST = re.compile(r"[A-Za-z0-9.-]+|\[?[0-9A-Fa-f:.]+\]?")


class ProviderTable(_Table):
    """`[providers.NAME]`: an authorization server and our client registration there.

    A grant that is not used for `inactivity_days` ends. The default is the time that the kind's documentation states.
    `revokes_one_grant`: a revocation ends one grant. By default it may end every grant of the account for this client,
    as Google's and Keycloak's do. `client_assertion_file` has a JSON Web Token that another program writes and renews,
    and that authenticates the client (RFC 7523 section 2.2). `service_account_file` has the key of a Google service
    account with domain-wide delegation. `allow_private` has the hosts that may be at private addresses, besides that of
    the issuer, when a discovery document names them.
    """

    kind: ProviderKind
    client_id: Annotated[str, Field(min_length=1)]
    client_secret_file: str | tuple[str, ...] = ()
    certificate_file: str | tuple[str, ...] = ()
    certificate_password_file: str | None = None
    client_assertion_file: str | None = None
    service_account_file: str | None = None
    client_secret_expires: datetime | date | None = None
    inactivity_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    tenant: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    app_scopes: tuple[str, ...] = ()
    errors: dict[str, str] = Field(default_factory=dict)
    revokes_one_grant: bool = False
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn")
    ca_file: str | None = None
    proxy: str | None = None
    allow_private: tuple[str, ...] = ()
    timeout: Annotated[int, Field(ge=1, le=120)] = 30

    @field_validator("issuer")
    @classmethod
    def _issuer_is_https(cls, issuer: str | None) -> str | None:
        if issuer is not None and not issuer.startswith("https://"):
            raise NotAcceptable("issuer_not_https")
        return issuer

    @field_validator("allow_private")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return _hosts(hosts)

    @model_validator(mode="after")
    def _has_an_authority(self) -> ProviderTable:
        if self.kind == "oidc" and not self.issuer:
            raise NotAcceptable("oidc_without_issuer")
        if self.service_account_file and self.kind != "google":
            raise NotAcceptable("service_account_not_google")
        if self.client_assertion_file and self.kind == "google":
            raise NotAcceptable("client_assertion_for_google")
        if self.kind == "microsoft" and bool(self.issuer) == bool(self.tenant):
            raise NotAcceptable("microsoft_without_tenant")
        return self

    @property
    def client_secret_files(self) -> tuple[str, ...]:
        """The client secrets, in the order to try them."""
        return _several(self.client_secret_file)

    @property
    def certificate_files(self) -> tuple[str, ...]:
        """The certificates with their private keys, in the order to try them."""
        return _several(self.certificate_file)

    @property
    def limits(self) -> GrantLimits:
        """The limits of this provider's grants."""
        return GrantLimits(timedelta(days=self.inactivity_days or INACTIVITY_DAYS[self.kind]))

    @property
    def client_secret_expires_at(self) -> datetime | None:
        """When the client secret expires. A date without a time means midnight UTC, when that day begins."""
        expires = self.client_secret_expires
        if expires is None:
            return None
        moment = expires if isinstance(expires, datetime) else datetime.combine(expires, datetime.min.time())
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class StoredProvidersTable(_Table):
    """`[stored_providers]`: what the providers in the store may reach, which only the operator of this host can say.

    `private_hosts` may be at private addresses, such as the organisation's own authorization server; every other
    host of a stored provider is at a public address. `ca_file` has the CA certificates of private servers.
    """

    private_hosts: tuple[str, ...] = ()
    ca_file: str | None = None

    @field_validator("private_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return _hosts(hosts)


def _hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise NotAcceptable("not_a_host", value=host)
    return hosts


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


class MailTable(_Table):
    """`[mail]`: `ca_file` has the CA certificates of private mail servers."""

    ca_file: str | None = None


class SendTable(_Table):
    """`[send]`: defaults of `mailtoken send` for messages like cron's, whose sender has no setting.

    Such messages go out through `profile`. Mail to a user of this machine goes to the addresses in `local_mail_to`.
    """

    profile: str | None = None
    local_mail_to: tuple[str, ...] = ()


class NotifyTable(_Table):
    """`[notify]`: the channels of notifications, sent when a token needs a person, will expire, or works again."""

    webhook: str | None = None
    webhook_ca_file: str | None = None
    command: tuple[str, ...] = ()
    mail_profile: str | None = None
    mail_to: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _mail_has_both(self) -> NotifyTable:
        if bool(self.mail_profile) != bool(self.mail_to):
            raise NotAcceptable("mail_profile_or_mail_to_missing")
        return self


_EVERY = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class AuditTable(_Table):
    """`[audit]`: a checkpoint of the log is made `every` so often, such as "1h" (s, m, h or d).

    The journal names it, and the file `checkpoint_file` has the last one.
    """

    every: str = "1h"
    checkpoint_file: str | None = None

    @field_validator("every")
    @classmethod
    def _every_is_a_time(cls, every: str) -> str:
        if not _EVERY.fullmatch(every):
            raise NotAcceptable("not_a_time", value=every)
        return every

    @property
    def interval(self) -> timedelta:
        """The time from one checkpoint to the next."""
        match = _EVERY.fullmatch(self.every)
        assert match
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


class MailboxLimitsTable(_Table):
    """`[relay.budgets."HOST"]`: what the mail server HOST allows for one mailbox. A number left out means no limit.

    The relay's clients that share a mailbox wait for their turn up to `wait` seconds. After a reply of 432 or 421 the
    relay sends nothing from that mailbox for `pause` seconds. A session with the mail server is used for at most
    `session_messages` messages, and begins none later than `session_age` seconds after its sign-in.
    """

    connections: Annotated[int, Field(ge=1)] | None = None
    messages_per_minute: Annotated[int, Field(ge=1)] | None = None
    wait: Annotated[int, Field(ge=1, le=600)] = 60
    pause: Annotated[int, Field(ge=1, le=600)] = 10
    session_messages: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    session_age: Annotated[int, Field(ge=1, le=86_400)] = 900


# "Exchange Online limits": three connections and thirty messages a minute for a mailbox.
_EXCHANGE = MailboxLimitsTable(connections=3, messages_per_minute=30)
_MAILBOX_LIMITS = {"smtp.office365.com": _EXCHANGE, "smtp-mail.outlook.com": _EXCHANGE}
_LISTEN = re.compile(r"(?:smtp|pop3|imap)s?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


Ciphers = Literal["modern", "legacy"]
"""The ciphers of TLS 1.2 at a listener. Those of TLS 1.3 are the same at every listener."""


DEFAULT_LISTEN = ("smtp://127.0.0.1:2587", "pop3://127.0.0.1:2110", "imap://127.0.0.1:2143")
"""The addresses at which a relay listens that no configuration and no service manager tells."""


class ListenerTable(_Table):
    """An entry of `[[relay.listeners]]`: one more address at which the relay listens, with ciphers of its own."""

    listen: str
    ciphers: Ciphers = "modern"

    @field_validator("listen")
    @classmethod
    def _listens_at_a_url(cls, listen: str) -> str:
        return _url_to_listen_at(listen)


class RelayTable(_Table):
    """`[relay]`: the addresses at which the relay listens, its certificate, and the limits for its clients.

    Clients in `plain_networks` may sign in without TLS, as clients on the same machine may. Times are in seconds, sizes
    in octets.
    """

    listen: tuple[str, ...] | None = None
    listeners: tuple[ListenerTable, ...] = ()
    certificate_file: str | None = None
    key_file: str | None = None
    plain_networks: tuple[str, ...] = ()
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 250
    idle_timeout: Annotated[int, Field(ge=1, le=86_400)] = 300
    message_size: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    pool: bool = True
    budgets: dict[str, MailboxLimitsTable] = Field(default_factory=dict)

    @field_validator("listen")
    @classmethod
    def _listens_at_urls(cls, listen: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for url in listen or ():
            _url_to_listen_at(url)
        return listen

    @field_validator("plain_networks")
    @classmethod
    def _networks_are_such(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks

    @model_validator(mode="after")
    def _certificate_has_both(self) -> RelayTable:
        if bool(self.certificate_file) != bool(self.key_file):
            raise NotAcceptable("certificate_or_key_missing")
        if not self.certificate_file and any(listener.ciphers == "legacy" for listener in self.listeners):
            raise NotAcceptable("ciphers_need_certificate")
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """The URLs at which the relay listens, unless the service manager passes it sockets."""
        return (*(DEFAULT_LISTEN if self.listen is None else self.listen), *(one.listen for one in self.listeners))

    def mailbox_limits(self, host: str) -> MailboxLimitsTable:
        """What the mail server `host` allows for one mailbox."""
        return {**_MAILBOX_LIMITS, **self.budgets}.get(host, MailboxLimitsTable())


def _url_to_listen_at(url: str) -> str:
    match = _LISTEN.fullmatch(url)
    if not match or int(match["port"]) > 65535:
        raise NotAcceptable("not_a_url_to_listen_at", value=url)
    return url


class Config(_Table):
    """The whole configuration. Relative paths start at `directory`, the directory of the configuration file."""

    directory: Path
    store: StoreTable = StoreTable()
    server: ServerTable = ServerTable()
    socket: SocketTable = SocketTable()
    providers: dict[str, ProviderTable] = Field(default_factory=dict)
    stored_providers: StoredProvidersTable = StoredProvidersTable()
    mail: MailTable = MailTable()
    send: SendTable = SendTable()
    notify: NotifyTable = NotifyTable()
    audit: AuditTable | None = None
    relay: RelayTable = RelayTable()

    def path(self, name: str) -> Path:
        """A path of the configuration, resolved against the file's directory."""
        return self.directory / name

    def secret(self, key: str, name: str) -> str:
        """The text of the secret file that `key` names.

        UTF-8 and, with its byte order mark, UTF-16 are read.

        Raises:
            InvalidValue: the file can't be read, or is not such text.
        """
        content = self.secret_bytes(key, name)
        encoding = "utf-16" if content[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8-sig"
        try:
            return content.decode(encoding).strip()
        except UnicodeDecodeError:
            raise InvalidValue(key, "file_not_text", file=str(self.path(name))) from None

    def secret_bytes(self, key: str, name: str) -> bytes:
        """The content of the secret file that `key` names.

        Raises:
            InvalidValue: the file can't be read.
        """
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise InvalidValue(key, "file_unreadable", file=str(self.path(name)), reason=error.strerror) from None

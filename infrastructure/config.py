"""The configuration file: every key it knows, checked before anything starts; an unknown key is refused by name."""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domain.errors import InvalidValue
from domain.profile import is_loopback
from domain.renewal import GrantLimits
from infrastructure.locate import SOCKET_NAME, read_toml


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreTable(_Table):
    """`[store]`: a file, or `url` for PostgreSQL; paths are relative to the configuration file."""

    path: str = "mailtoken.db"
    url: str | None = None
    password_file: str | None = None
    key_file: str = "mailtoken.key"
    escrow: str = "escrow"


class CallbackTable(_Table):
    """`[server.callback]`: where browsers come back to when the service is on another machine than they are.

    `url` is what is registered at the provider; the service answers there itself, over TLS, at `host` and `port`.
    """

    url: str
    certificate_file: str
    key_file: str
    host: str = "0.0.0.0"  # noqa: S104 - browsers come from elsewhere; that is what it is for
    port: Annotated[int, Field(ge=1, le=65535)] = 8443

    @field_validator("url")
    @classmethod
    def _url_is_https(cls, url: str) -> str:
        if not url.startswith("https://"):
            raise ValueError("a callback is an https:// address")
        return url


class SignInTable(_Table):
    """`[server.sign_in]`: administrators sign in at the organisation's OpenID provider.

    `provider` is one of [providers], else `issuer`, `client_id` and `client_secret_file` are our registration there.
    `groups` are the roles of each group in the claim `groups_claim`. Whoever signed in keeps them for `session_hours`.
    """

    groups: dict[str, tuple[Literal["administrator", "operator", "auditor"], ...]]
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
            raise ValueError("sign-in needs provider, or issuer and client_id")
        return self


_SERVER_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")


class ServerTable(_Table):
    """`[server]`: where the service listens: at its Unix socket, and at `listen` for browsers and programs elsewhere.

    `url` is what they call it there. Who forwards to it from `trusted_proxies` is believed about whom it forwards for.
    Who asks for /metrics from `metrics_from` need not say who they are.
    """

    socket: str = SOCKET_NAME
    callback: CallbackTable | None = None
    listen: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    metrics_from: tuple[str, ...] = ()
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
            raise ValueError("it is an address like https://mailtoken.contoso.com, without a path")
        return url

    @model_validator(mode="after")
    def _listens_safely(self) -> ServerTable:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("TLS needs certificate_file and key_file")
        if self.listen is None:
            return self
        match = _SERVER_LISTEN.fullmatch(self.listen)
        if not match or int(match["port"]) > 65535:
            raise ValueError(f"listen: {self.listen!r} is not like 127.0.0.1:8480")
        if not self.certificate_file and not is_loopback(self.address[0]):
            raise ValueError("listen: without certificate_file and key_file it must be a loopback address")
        return self

    @property
    def members_for(self) -> timedelta:
        """How long somebody of the organisation stays signed in; not at all if they can't sign in here any more."""
        return timedelta(hours=self.sign_in.session_hours) if self.sign_in else timedelta(0)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of `listen`."""
        match = _SERVER_LISTEN.fullmatch(self.listen or "")
        assert match
        return match["v6"] or match["host"], int(match["port"])


class Grant(_Table):
    """`[[socket.grants]]`: what one more uid of this machine may do over the socket."""

    uid: Annotated[int, Field(ge=0)]
    roles: tuple[Literal["administrator", "operator", "auditor", "client", "relay"], ...]
    profiles: tuple[str, ...] = ()


class SocketTable(_Table):
    """`[socket]`: who else may use it; root and the service's own uid always may. `group` owns the socket's file."""

    grants: tuple[Grant, ...] = ()
    group: str | None = None


# Microsoft: 90 days unused; Google: six months. Others set their own; a month is what Keycloak's offline tokens have.
_INACTIVITY_DAYS = {"microsoft": 90, "google": 180, "oidc": 30}


class ProviderTable(_Table):
    """`[providers.NAME]`: an authorization server and our client registration there.

    A grant that is not used for `inactivity_days` ends, by default as the kind's documentation says.
    """

    kind: Literal["microsoft", "google", "oidc"]
    client_id: Annotated[str, Field(min_length=1)]
    client_secret_file: str | tuple[str, ...] = ()
    certificate_file: str | tuple[str, ...] = ()
    client_secret_expires: datetime | date | None = None
    inactivity_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    tenant: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    app_scopes: tuple[str, ...] = ()
    errors: dict[str, str] = Field(default_factory=dict)
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn")
    ca_file: str | None = None
    proxy: str | None = None
    timeout: Annotated[int, Field(ge=1, le=120)] = 30

    @field_validator("issuer")
    @classmethod
    def _issuer_is_https(cls, issuer: str | None) -> str | None:
        if issuer is not None and not issuer.startswith("https://"):
            raise ValueError("an issuer is an https:// address")
        return issuer

    @model_validator(mode="after")
    def _has_an_authority(self) -> ProviderTable:
        if self.kind == "oidc" and not self.issuer:
            raise ValueError("kind oidc needs issuer")
        if self.kind == "microsoft" and bool(self.issuer) == bool(self.tenant):
            raise ValueError("kind microsoft needs tenant, or issuer for a private authority")
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
        """What ends a grant of this provider."""
        return GrantLimits(timedelta(days=self.inactivity_days or _INACTIVITY_DAYS[self.kind]))

    @property
    def client_secret_expires_at(self) -> datetime | None:
        """When the client secret expires, as the configuration says; a day without a time from its first moment."""
        expires = self.client_secret_expires
        if expires is None:
            return None
        moment = expires if isinstance(expires, datetime) else datetime.combine(expires, datetime.min.time())
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


class MailTable(_Table):
    """`[mail]`: how mail servers are trusted; `ca_file` for private ones."""

    ca_file: str | None = None


class SendTable(_Table):
    """`[send]`: what `mailtoken send` does where a message names no setting's address, as cron's do not.

    It goes out through `profile`; mail to a user of this machine goes to the addresses in `local_mail_to`.
    """

    profile: str | None = None
    local_mail_to: tuple[str, ...] = ()


class NotifyTable(_Table):
    """`[notify]`: who is told when a token needs a person, will stop working, or works again."""

    webhook: str | None = None
    webhook_ca_file: str | None = None
    command: tuple[str, ...] = ()
    mail_profile: str | None = None
    mail_to: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _mail_has_both(self) -> NotifyTable:
        if bool(self.mail_profile) != bool(self.mail_to):
            raise ValueError("mail needs mail_profile and mail_to")
        return self


class BudgetTable(_Table):
    """`[relay.budgets."HOST"]`: what a mail server allows for one mailbox; without a number, as much as one likes.

    A client that shares the mailbox waits for its turn up to `wait` seconds. After the server has said 432 or 421, it
    is left alone for `pause` seconds.
    """

    connections: Annotated[int, Field(ge=1)] | None = None
    messages_per_minute: Annotated[int, Field(ge=1)] | None = None
    wait: Annotated[int, Field(ge=1, le=600)] = 60
    pause: Annotated[int, Field(ge=1, le=600)] = 10


# "Exchange Online limits": three connections and thirty messages a minute for a mailbox.
_EXCHANGE = BudgetTable(connections=3, messages_per_minute=30)
_BUDGETS = {"smtp.office365.com": _EXCHANGE, "smtp-mail.outlook.com": _EXCHANGE}
_LISTEN = re.compile(r"(?:smtp|pop3|imap)s?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


class RelayTable(_Table):
    """`[relay]`: where programs that know only passwords come in, and how much of each thing they may use.

    `plain_networks` may sign in without TLS, as this machine itself may. Times are in seconds, sizes in octets.
    """

    listen: tuple[str, ...] | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    plain_networks: tuple[str, ...] = ()
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 250
    idle_timeout: Annotated[int, Field(ge=1, le=86_400)] = 300
    message_size: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    pool: bool = True
    budgets: dict[str, BudgetTable] = Field(default_factory=dict)

    @field_validator("listen")
    @classmethod
    def _listens_at_urls(cls, listen: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for url in listen or ():
            match = _LISTEN.fullmatch(url)
            if not match or int(match["port"]) > 65535:
                raise ValueError(
                    f"{url!r} is not like smtp://127.0.0.1:2587; there are smtp, pop3, imap, each also with s"
                )
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
            raise ValueError("TLS needs certificate_file and key_file")
        return self

    def budget(self, host: str) -> BudgetTable:
        """What the server at `host` allows for one mailbox."""
        return {**_BUDGETS, **self.budgets}.get(host, BudgetTable())


class Config(_Table):
    """The whole configuration. `directory` is where the file is; relative paths start there."""

    directory: Path
    store: StoreTable = StoreTable()
    server: ServerTable = ServerTable()
    socket: SocketTable = SocketTable()
    providers: dict[str, ProviderTable] = Field(default_factory=dict)
    mail: MailTable = MailTable()
    send: SendTable = SendTable()
    notify: NotifyTable = NotifyTable()
    relay: RelayTable = RelayTable()

    def path(self, name: str) -> Path:
        """A path of the configuration, made absolute."""
        return self.directory / name

    def secret(self, key: str, name: str) -> str:
        """The text of the secret file that `key` names.

        Raises:
            InvalidValue: it can't be read.
        """
        try:
            return self.path(name).read_text().strip()
        except OSError as error:
            raise InvalidValue(key, f"{self.path(name)} can't be read ({error.strerror})") from None


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        InvalidValue: says the file, the key and what is accepted.
    """
    try:
        tables = read_toml(path)
    except OSError as error:
        raise InvalidValue(str(path), f"can't be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(str(path), f"not TOML: {error}") from None
    try:
        return Config(**{**tables, "directory": path.parent})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidValue(f"{path}: {_key(first['loc'])}", _problem(first)) from None


def _key(location: tuple[int | str, ...]) -> str:
    *tables, key = [str(part) for part in location]
    return f"[{'.'.join(tables)}] {key}" if tables else f"[{key}]"


def _problem(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        text = str(error["msg"])
        return text.removeprefix("Value error, ")
    known = _known_keys(error["loc"])
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    return f"unknown key; {hint}"


def _server_table(location: tuple[int | str, ...]) -> type[BaseModel]:
    if "callback" in location:
        return CallbackTable
    return SignInTable if "sign_in" in location else ServerTable


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "store": StoreTable,
        "server": _server_table(location),
        "socket": Grant if "grants" in location else SocketTable,
        "providers": ProviderTable,
        "mail": MailTable,
        "send": SendTable,
        "notify": NotifyTable,
        "relay": BudgetTable if "budgets" in location else RelayTable,
    }
    if len(location) == 1:
        return list(tables)
    return list(tables[str(location[0])].model_fields)


CONFIG_TEXT = """\
# Mailtoken. Paths are relative to this file.

[store]
path = "mailtoken.db"
key_file = "mailtoken.key"        # without it nothing in the store opens: keep a copy elsewhere
# url = "postgresql://mailtoken@db.example.com/mailtoken"   # instead of path, for several nodes
# password_file = "db-password"
# escrow = "escrow"               # replies of providers, sealed, until they are stored; local to this machine

[server]
socket = "mailtoken.sock"
# listen = "127.0.0.1:8480"       # the admin pages and the API; elsewhere than on this machine with TLS:
# certificate_file = "mailtoken.crt"        # read again when it is renewed
# key_file = "mailtoken.crt.key"
# url = "https://mailtoken.contoso.com"     # what browsers call it
# trusted_proxies = ["10.0.0.5"]  # whose X-Forwarded-For and X-Forwarded-Proto are believed
# metrics_from = ["127.0.0.1"]    # who may read /metrics without a session; a proxy that is not trusted counts itself

# Administrators sign in at the organisation's provider; register URL/sign-in/oidc/callback there.
# [server.sign_in]
# provider = "contoso"            # one of [providers]; or issuer, client_id and client_secret_file
# groups = { "mail-admins" = ["administrator", "operator", "auditor"], "help-desk" = ["operator"] }
# groups_claim = "groups"
# session_hours = 12              # who leaves a group keeps its roles for so long; 1 has everybody sign in each hour

# Where browsers come back to, if they are on another machine than the service.
# [server.callback]
# url = "https://mailtoken.contoso.com:8443/callback"       # register it at the provider
# certificate_file = "mailtoken.crt"
# key_file = "mailtoken.crt.key"
# port = 8443

# Root and the service's own uid may do everything over the socket; others only what is granted here.
# [[socket.grants]]
# uid = 1000
# roles = ["client"]              # administrator, operator, auditor, client, relay
# profiles = ["office-mfp/smtp-service"]

# [providers.contoso]
# kind = "microsoft"              # or google, or oidc with issuer = "https://..."
# tenant = "contoso.com"
# client_id = "00000000-0000-0000-0000-000000000000"
# client_secret_file = "contoso-secret"     # or several, in the order to try them: ["new", "old"]
# certificate_file = "contoso.pem"          # private key and certificate in one file, instead of a secret
# client_secret_expires = 2028-11-30   # to be told in time
# inactivity_days = 90            # a grant nobody uses ends after so long; by default as the kind says
# scopes = ["https://outlook.office.com/SMTP.Send"]
# errors = { AADSTS12345 = "needs_user" }   # what an error of this provider means, where the table does not know it
# account_claims = ["preferred_username", "email", "upn"]
# ca_file = "private-ca.pem"
# proxy = "http://proxy.contoso.com:3128"
# timeout = 30                    # seconds for a whole request

# [mail]
# ca_file = "private-ca.pem"

# What cron and scripts send through sendmail (mailtoken send), where it names nobody else.
# [send]
# profile = "office-mfp/smtp-service"       # for senders that no setting sends for, such as root
# local_mail_to = ["admin@contoso.com"]     # who gets the mail to root and other users of this machine

# Told when a token needs a person, will stop working, or works again.
# [notify]
# command = ["/usr/local/bin/page-me"]      # a JSON object on its standard input
# webhook = "https://hooks.example.com/mailtoken"
# mail_profile = "office-mfp/smtp-service"
# mail_to = ["admin@contoso.com"]

# mailtoken relay: SMTP, POP3 and IMAP for programs that know only passwords.
# [relay]
# listen = ["smtp://127.0.0.1:2587", "smtps://0.0.0.0:2465", "pop3://127.0.0.1:2110", "imap://127.0.0.1:2143"]
# certificate_file = "relay.crt"  # for STARTTLS and the schemes with s; read again when it is renewed
# key_file = "relay.key"
# plain_networks = ["192.168.7.0/24"]       # may sign in without TLS, as this machine itself may
# connections = 10000
# connections_per_address = 250
# idle_timeout = 300              # seconds without a command
# message_size = 268435456        # octets
# pool = true                     # keep connections to mail servers signed in between messages
# [relay.budgets."smtp.office365.com"]      # what one mailbox may have there; who shares it waits
# connections = 3
# messages_per_minute = 30
# wait = 60                       # seconds, then the client is told to try again
# pause = 10                      # seconds without a try after the server has said 432 or 421
"""


def write_config(path: Path, url: str | None = None) -> None:
    """Write a new configuration file; with `url` its store is in PostgreSQL.

    Raises:
        FileExistsError: there is one; it is left as it is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(CONFIG_TEXT.replace('path = "mailtoken.db"', f"url = {json.dumps(url)}", 1) if url else CONFIG_TEXT)

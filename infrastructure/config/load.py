"""Reads the configuration file into its tables, and writes the first configuration file."""

from __future__ import annotations

import difflib
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from domain.errors import Fact, InvalidValue
from infrastructure.config.paths import read_toml
from infrastructure.config.store_url import split_password
from infrastructure.config.tables import (
    CallbackTable,
    Config,
    Grant,
    ListenerTable,
    MailboxLimitsTable,
    MailTable,
    NotAcceptable,
    NotifyTable,
    ProviderTable,
    RelayTable,
    SendTable,
    ServerTable,
    SignInTable,
    SocketTable,
    StoredProvidersTable,
    StoreTable,
)

DATABASE_PASSWORD_FILE = "db-password"  # noqa: S105 - a name
"""The file for the database's password that `write_config` makes."""


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        InvalidValue: with the file, the table and the key as facts; the file is the field if it can't be read at all.
    """
    sound = load_sound_tables(path)
    if sound.faults:
        raise sound.faults[0]
    return sound.config


@dataclass(frozen=True)
class SoundTables:
    """The configuration of the tables and providers without a fault, and the faults of the tables in `left_out`."""

    config: Config
    faults: Sequence[InvalidValue]
    left_out: Set[str]


def load_sound_tables(path: Path) -> SoundTables:
    """Read a configuration file as far as it has no fault.

    Raises:
        InvalidValue: the file can't be read, or is not TOML.
    """
    tables, faults = _tables(path), list[InvalidValue]()
    left_out = set[str]()
    while True:
        try:
            config = Config(**{**tables, "directory": path.parent})
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
        else:
            if not left_out & {"store", "server"}:
                faults += _paths_named_twice(path, config)
            if "store" not in left_out:
                faults += _passwords_open_to_others(path, config)
            return SoundTables(config, faults, left_out)
        faults += [_invalid(path, one) for one in found]
        for one in found:
            left_out.add(str(one["loc"][0]))
            _leave_out(tables, one["loc"])


def _leave_out(tables: dict[str, Any], location: tuple[int | str, ...]) -> None:
    """Remove the provider, else the table, in which a fault is."""
    table = str(location[0])
    if table == "providers" and len(location) > 1 and isinstance(tables[table], dict):
        tables[table].pop(location[1], None)
    else:
        tables.pop(table, None)


def _paths_named_twice(file: Path, config: Config) -> Iterator[InvalidValue]:
    """The faults of paths that the service creates, replaces or removes, and that are another file's too."""
    names = {"[store] key_file": config.store.key_file, "[store] escrow": config.store.escrow}
    if not config.store.url:
        names["[store] path"] = config.store.path
    names["[server] socket"] = config.server.socket
    if config.audit and config.audit.checkpoint_file:
        names["[audit] checkpoint_file"] = config.audit.checkpoint_file
    keys = {file.resolve(): "this file"}
    for key, name in names.items():
        other = keys.setdefault(config.path(name).resolve(), key)
        if other != key:
            yield InvalidValue(key, "path_of_another", configuration_file=str(file), path=name, other=other)


def _passwords_open_to_others(file: Path, config: Config) -> Iterator[InvalidValue]:
    """The fault of a password of the database in a file that every user of this machine can read."""
    table = config.store
    places = {"[store] url": file} if table.url and split_password(table.url)[1] else {}
    if table.password_file:
        places["[store] password_file"] = config.path(table.password_file)
    for key, place in places.items():
        if place.exists() and place.stat().st_mode & stat.S_IROTH:
            yield InvalidValue(key, "password_readable_by_others", configuration_file=str(file), path=str(place))


def _tables(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as error:
        raise InvalidValue(str(path), "configuration_unreadable", reason=error.strerror) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(str(path), "not_toml", reason=str(error)) from None


def _invalid(path: Path, error: Any) -> InvalidValue:
    """The error for one of pydantic's findings, an `ErrorDetails`."""
    *tables, key = [str(part) for part in error["loc"]]
    table = ".".join(tables)
    code, problem = _problem(error)
    facts = {**problem, "configuration_file": str(path), "table": table or None, "key": key}
    return InvalidValue(f"[{table}] {key}" if table else f"[{key}]", code, **facts)


def _problem(error: Any) -> tuple[str, Mapping[str, Fact]]:
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return ("key_misspelt", {"close": close[0]}) if close else ("unknown_key", {"known": known})
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, NotAcceptable):
        return cause.code, cause.fields
    return "value_not_accepted", {"reason": str(error["msg"]).removeprefix("Value error, ")}


def _server_table(location: tuple[int | str, ...]) -> type[BaseModel]:
    if "callback" in location:
        return CallbackTable
    return SignInTable if "sign_in" in location else ServerTable


def _relay_table(location: tuple[int | str, ...]) -> type[BaseModel]:
    if "budgets" in location:
        return MailboxLimitsTable
    return ListenerTable if "listeners" in location else RelayTable


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "store": StoreTable,
        "server": _server_table(location),
        "socket": Grant if "grants" in location else SocketTable,
        "providers": ProviderTable,
        "stored_providers": StoredProvidersTable,
        "mail": MailTable,
        "send": SendTable,
        "notify": NotifyTable,
        "relay": _relay_table(location),
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
# backup_age_days = 2             # an older last backup needs attention

[server]
socket = "mailtoken.sock"
# listen = "127.0.0.1:8480"       # the admin pages and the API; elsewhere than on this machine with TLS:
# certificate_file = "mailtoken.crt"        # read again when it is renewed
# key_file = "mailtoken.crt.key"
# url = "https://mailtoken.contoso.com"     # what browsers call it
# trusted_proxies = ["10.0.0.5"]  # whose X-Forwarded-For and X-Forwarded-Proto are believed
# connections_per_address = 250   # at most; a trusted proxy's has no limit
# second_factor = "required"      # whoever has a password sets up an authenticator app before anything else
# metrics_from = ["127.0.0.1"]    # who may read /metrics without a session; a proxy that is not trusted counts itself

# Administrators sign in at the organisation's provider; register URL/sign-in/oidc/callback there.
# [server.sign_in]
# provider = "contoso"            # one of [providers]; or issuer, client_id and client_secret_file
# groups = { "mail-admins" = ["administrator", "operator", "auditor"], "help-desk" = ["operator"] }
# machines = { "help-desk" = ["hamburg-*"] }          # limits operators and auditors of a group to these
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
# profiles = ["office-mfp/smtp-service"]    # for the role client
# machines = ["hamburg-*"]        # for operators and auditors; without it, all

# [providers.contoso]
# kind = "microsoft"              # or google, or oidc with issuer = "https://..."
# tenant = "contoso.com"
# client_id = "00000000-0000-0000-0000-000000000000"
# client_secret_file = "contoso-secret"     # or several, in the order to try them: ["new", "old"]
# certificate_file = "contoso.pem"          # private key and certificate in one file (PEM or PKCS#12), not a secret
# certificate_password_file = "contoso-pfx-password"        # of a PKCS#12 file
# client_secret_expires = 2028-11-30   # to be told in time
# inactivity_days = 90            # a grant nobody uses ends after so long; by default as the kind says
# scopes = ["https://outlook.office.com/SMTP.Send"]
# errors = { AADSTS12345 = "needs_user" }   # what an error of this provider means, where the table does not know it
# account_claims = ["preferred_username", "email", "upn"]
# ca_file = "private-ca.pem"
# proxy = "http://proxy.contoso.com:3128"
# timeout = 30                    # seconds for a whole request

# What the providers that administrators add in the pages may reach. They are at public addresses, but for these hosts.
# [stored_providers]
# private_hosts = ["login.contoso.internal"]
# ca_file = "private-ca.pem"

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

# Signed checkpoints of the log, for somebody who keeps them elsewhere (mailtoken audit verify --against FILE).
# [audit]
# every = "1h"                    # s, m, h or d
# checkpoint_file = "checkpoint"  # the last one; the journal names each

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
# [[relay.listeners]]             # one more address, for old devices alone
# listen = "smtps://192.168.7.1:2466"
# ciphers = "legacy"              # modern, or legacy: also TLS 1.2 with RSA and DHE keys, and AES-CBC with SHA-1
# [relay.budgets."smtp.office365.com"]      # what the server allows for one mailbox; above that, clients wait
# connections = 3
# messages_per_minute = 30
# wait = 60                       # seconds, then the client is told to try again
# pause = 10                      # seconds without a try after the server has said 432 or 421
# session_messages = 100          # messages in one connection to the server
# session_age = 900               # seconds after which a connection takes no more messages
"""


def write_config(path: Path, url: str | None = None) -> None:
    """Write a new configuration file; with `url` its store is in PostgreSQL.

    A password in the URL goes into a file of its own that only the owner can read.

    Raises:
        FileExistsError: the file, or the one for the password, exists already; its content stays as it is.
    """
    text = CONFIG_TEXT
    if url:
        address, password = split_password(url)
        lines = f"url = {json.dumps(address)}"
        if password is not None:
            _write_new(path.with_name(DATABASE_PASSWORD_FILE), f"{password}\n", 0o600)
            lines += f"\npassword_file = {json.dumps(DATABASE_PASSWORD_FILE)}"
        text = text.replace('path = "mailtoken.db"', lines, 1)
    _write_new(path, text, 0o644)


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)

"""Debian's glewlwyd, unchanged, set up through its own interface for administrators, and a person who signs in there.

Its pages are scripts, so the person sends the requests that they send.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests
from client_certificates import private_pem, rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ports import answers
from waiting import wait_until

from adapters.practice.ca import PracticeCA

TIMEOUT_SECONDS = 60
SCAN, REDIRECT_URI = "scan@contoso.com", "http://localhost:8444/callback"
_TABLES = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
# The administrator of a new installation, as its documentation has it.
_ADMINISTRATOR = {"username": "admin", "password": "password"}
_PERSON = {"username": "scan", "password": "any password"}
_CONFIGURATION = """
port={port}
bind_address="127.0.0.1"
external_url="https://localhost:{port}"
login_url="login.html"
api_prefix="api"
log_mode="console"
log_level="ERROR"
session_key="session"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
user_middleware_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
use_secure_connection=true
secure_connection_key_file="{key_file}"
secure_connection_pem_file="{cert_file}"
database = {{ type="sqlite3"; path="{database}"; }};
"""


def _openid_connect(issuer: str) -> dict[str, Any]:
    """The parameters of the plug-in for OpenID Connect: every flow that has no password, and rotation."""
    key = rsa_key("peer")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    parameters = {
        "iss": issuer,
        "jwt-type": "rsa",
        "jwt-key-size": "256",
        "key": private_pem(key),
        "cert": public,
        "jwks-show": True,
        "access-token-duration": 3600,
        "refresh-token-duration": 86_400,
        "code-duration": 600,
        "refresh-token-rolling": True,
        "refresh-token-one-use": "always",
        "device-authorization-expiration": 600,
        "device-authorization-interval": 1,
        "pkce-allowed": True,
        "subject-type": "public",
        "email-claim": "mandatory",
        "allow-non-oidc": True,
        "claims": [],
        "scope": [],
        "additional-parameters": [],
    }
    on, off = ("client", "code", "device", "refresh"), ("none", "implicit", "password")
    return parameters | {f"auth-type-{flow}-enabled": flow in on for flow in (*on, *off)}


@contextmanager
def running(ca: PracticeCA, port: int) -> Iterator[GlewlwydPerson]:
    """The server at this port, with our two registrations; gives the person."""
    directory = ca.ca_file.parent
    database, configuration, certificate = directory / f"{port}.db", directory / f"{port}.conf", ca.issue()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(_TABLES.read_text())
    files = {"key_file": certificate.key_file, "cert_file": certificate.cert_file, "database": database}
    configuration.write_text(_CONFIGURATION.format(port=port, **files))
    with subprocess.Popen(["glewlwyd", "-c", str(configuration)], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(port) or process.poll() is not None, "glewlwyd listens")
            assert process.poll() is None
            _register(_Session(ca.ca_file, port, _ADMINISTRATOR))
            yield GlewlwydPerson(_Session(ca.ca_file, port, _PERSON))
        finally:
            process.kill()


def _register(administrator: _Session) -> None:
    plugin = {"module": "oidc", "name": "oidc", "display_name": "OpenID Connect", "enabled": True}
    administrator.send("POST", "/mod/plugin/", {**plugin, "parameters": _openid_connect(administrator.issuer)})
    for scope in ("mail", "offline_access"):
        administrator.send("POST", "/scope/", {"name": scope, "password_required": False, "scheme": {}})
    scopes = ["openid", "mail", "offline_access"]
    administrator.send("POST", "/user/", {**_PERSON, "email": SCAN, "scope": scopes, "enabled": True})
    public = {"confidential": False, "redirect_uri": [REDIRECT_URI], "scope": []}
    secret = {
        "confidential": True,
        "client_secret": "mailtoken-secret",
        "token_endpoint_auth_method": ["client_secret_basic", "client_secret_post"],
        "redirect_uri": [],
        "scope": ["mail"],
    }
    flows = ["code", "refresh_token", "device_authorization"]
    for client in (
        {"client_id": "mailtoken", "authorization_type": flows, **public},
        {"client_id": "mailtoken-app", "authorization_type": ["client_credentials"], **secret},
    ):
        administrator.send("POST", "/client/", {**client, "enabled": True})


class _Session:
    """Somebody's session at the server."""

    def __init__(self, ca_file: Path, port: int, credentials: dict[str, str]) -> None:
        self._base = f"https://localhost:{port}/api"
        self.issuer = f"{self._base}/oidc"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca_file)
        self.send("POST", "/auth/", credentials)

    def send(self, method: str, path: str, document: dict[str, Any]) -> None:
        reply = self._session.request(method, self._base + path, json=document, timeout=TIMEOUT_SECONDS)
        assert reply.status_code == 200, f"{path}: {reply.status_code} {reply.text[:500]}"

    def go(self, url: str) -> str:
        """The address that the server sends the browser to."""
        reply = self._session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        assert reply.status_code == 302, f"{url}: {reply.status_code} {reply.text[:500]}"
        return reply.headers["Location"]


class GlewlwydPerson:
    """A person who allows the application what it asks for, then goes on, as the server's page does."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def walk(self, url: str, redirect_uri: str | None = None) -> str:
        """Allow and go on from `url`; the address to which the browser is sent."""
        self._session.send("PUT", "/auth/grant/mailtoken", {"scope": "openid mail"})
        return self._session.go(f"{url}&g_continue")

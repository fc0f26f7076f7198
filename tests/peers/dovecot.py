"""A real Dovecot of this run: submission, POP3 and IMAP on loopback, all of it in one folder, nothing left behind.

It believes what the practice provider's introspection says of a token, keeps mail in Maildirs, takes mail in by LMTP
and hands mail out to a relay host. It runs without root, as its own rootless set-up has it; for root, as somebody
without rights.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import quote

from mail_exchanger import MailExchanger
from ports import answers, free_ports

from adapters.mail.sasl_client import Mechanism
from adapters.practice.ca import PracticeCA

DEADLINE_SECONDS = 60
PORTS = ("submission", "submissions", "pop3", "pop3s", "imap", "imaps", "lmtp")
"""Where it listens: the plain ones want STARTTLS or STLS, those with an s are for implicit TLS."""
SIZE_LIMIT_OCTETS = 150 * 1024 * 1024
"""The largest message that is taken for submission: what Exchange takes at most."""
_ATTEMPTS = 5
_PLACES = "/usr/sbin:/usr/local/sbin"
_ACCOUNTS = ("dovecot", "nobody")

_CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
log_timestamp = "%H:%M:%S.%{{usecs}} "
auth_verbose = yes
listen = 127.0.0.1
protocols = imap pop3 submission lmtp
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{folder}/mail/%u
hostname = localhost

ssl = required
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.key
ssl_min_protocol = TLSv1.2

auth_mechanisms = {mechanisms}
auth_cache_size = 0
auth_failure_delay = 0
passdb {{
  driver = oauth2
  mechanisms = {mechanisms}
  args = {folder}/oauth2.conf
}}
userdb {{
  driver = static
  args = allow_all_users=yes uid={user} gid={group} home={folder}/mail/%u
}}

submission_max_mail_size = {size_limit}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay_port}

service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  user = {user}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {ports[imap]}
  }}
  inet_listener imaps {{
    port = {ports[imaps]}
    ssl = yes
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {ports[pop3]}
  }}
  inet_listener pop3s {{
    port = {ports[pop3s]}
    ssl = yes
  }}
}}
service submission-login {{
  chroot =
  inet_listener submission {{
    port = {ports[submission]}
  }}
  inet_listener submissions {{
    port = {ports[submissions]}
    ssl = yes
  }}
}}
service lmtp {{
  chroot =
  inet_listener lmtp {{
    port = {ports[lmtp]}
  }}
}}
service stats {{
  chroot =
}}
service imap-urlauth-login {{
  chroot =
}}
service imap-hibernate {{
  chroot =
}}
"""

_OAUTH2 = """
introspection_mode = post
introspection_url = {url}
client_id = {client_id}
client_secret = {client_secret}
active_attribute = active
active_value = true
username_attribute = email
tls_ca_cert_file = {folder}/ca.pem
timeout_msecs = 10000
"""


class NoDovecot(Exception):
    """This machine has no Dovecot, or not all of it."""


class TokenJudge(Protocol):
    """Whom Dovecot asks about the token of each sign-in."""

    @property
    def introspection_endpoint(self) -> str: ...
    @property
    def mail_server_client_id(self) -> str: ...
    @property
    def mail_server_client_secret(self) -> str: ...


class Dovecot:
    """The server, from `start` to `close`, with these SASL mechanisms; `exchanger` takes the mail that is submitted."""

    def __init__(self, ca: PracticeCA, provider: TokenJudge, exchanger: MailExchanger, *mechanisms: Mechanism) -> None:
        self.ports = free_ports(*PORTS)
        self.exchanger = exchanger
        exchanger.deliver = self.deliver
        self._ca = ca
        self._provider = provider
        self._mechanisms = mechanisms
        self._folder = Path(tempfile.mkdtemp(prefix="mailtoken-dovecot-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Start, and wait until all of its ports answer.

        Raises:
            NoDovecot: it is not installed.
        """
        program = _program()
        try:
            for _ in range(_ATTEMPTS):
                self._configure()
                self._process = self._run(program)
                if self._listens():
                    return self
                self.ports = free_ports(*PORTS)
            raise RuntimeError(f"Dovecot does not start: {self.log}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop it and remove all it left."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(DEADLINE_SECONDS)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """Kill it with all its sessions, and start it again at the same ports."""
        assert self._process
        children = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, check=False).stdout.split()
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        for _ in range(_ATTEMPTS):
            self._process = self._run(_program())
            if self._listens():
                return
        raise RuntimeError(f"Dovecot does not start again: {self.log}")

    @property
    def pid(self) -> int:
        """The process above those of its sessions."""
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self._folder / "log").read_text(errors="replace")

    def deliver(self, address: str, message: bytes) -> None:
        """Put a message into a mailbox, as if it had come from elsewhere."""
        with smtplib.LMTP("127.0.0.1", self.ports["lmtp"]) as lmtp:
            lmtp.sendmail("someone@example.com", [address], message)

    def messages(self, address: str) -> list[bytes]:
        """What is in a mailbox."""
        return [path.read_bytes() for path in sorted((self._folder / "mail" / address).glob("*/*,S=*"))]

    def _configure(self) -> None:
        account = _account()
        tls = self._ca.issue()
        for name, content in {
            "dovecot.conf": _CONFIGURATION.format(
                folder=self._folder,
                user=account.pw_name,
                group=grp.getgrgid(account.pw_gid).gr_name,
                relay_port=self.exchanger.port,
                size_limit=SIZE_LIMIT_OCTETS,
                mechanisms=" ".join(self._mechanisms).lower(),
                ports=self.ports,
            ),
            "oauth2.conf": _OAUTH2.format(
                folder=self._folder,
                url=self._provider.introspection_endpoint,
                client_id=quote(self._provider.mail_server_client_id, safe=""),
                client_secret=quote(self._provider.mail_server_client_secret, safe=""),
            ),
            "ca.pem": self._ca.ca_file.read_text(),
            "server.pem": tls.cert_file.read_text(),
            "server.key": tls.key_file.read_text(),
        }.items():
            (self._folder / name).write_text(content)
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)

    def _run(self, program: str) -> subprocess.Popen[bytes]:
        account = _account()
        rights: dict[str, Any] = {}
        if os.geteuid() == 0:
            rights = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        # It ends with the process that started it, however that ends.
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", program, "-F", "-c", str(self._folder / "dovecot.conf")],
            stdin=subprocess.DEVNULL,
            cwd=self._folder,
            **rights,
        )

    def _listens(self) -> bool:
        """Wait for its ports; False if it ended, as it does when a port is taken."""
        assert self._process
        for port in self.ports.values():
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not answers(port):
                if self._process.poll() is not None:
                    return False
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)
        return True


def _program() -> str:
    """Where it is installed.

    Raises:
        NoDovecot: it is not.
    """
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:{_PLACES}")
    if program is None:
        raise NoDovecot("no Dovecot here: .ci/run says which packages have it")
    return program


def _account() -> pwd.struct_passwd:
    """Who runs it: us, or for root somebody without rights."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in _ACCOUNTS if name in known)

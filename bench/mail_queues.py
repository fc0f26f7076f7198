"""Queues that people put before a mail server in place of the relay: Postfix as a smarthost, and Exim."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ports import answers, free_ports
from waiting import wait_until

from bench.material import ACCOUNT

_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_POSTFIX = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = queue.contoso.com
mydestination =
alias_maps =
relayhost = [localhost]:{port}
smtp_host_lookup = native
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{{ {{ [localhost]:{port} = {account}:password }} }}
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = plain
smtp_tls_security_level = secure
smtp_tls_CAfile = {folder}/ca.pem
smtpd_client_connection_count_limit = 0
"""
_EXIM = """
exim_path = {program}
keep_environment =
primary_hostname = queue.contoso.com
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {own_port}
tls_advertise_hosts =
rfc1413_query_timeout = 0s
host_lookup =
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
deliver_drop_privilege = true
acl_smtp_rcpt = accept
begin routers
smarthost:
  driver = manualroute
  route_list = * localhost byname
  self = send
  transport = smarthost
begin transports
smarthost:
  driver = smtp
  port = {port}
  hosts_require_auth = *
  hosts_require_tls = *
  hosts_try_chunking =
  tls_verify_certificates = {folder}/ca.pem
begin retry
* * F,1h,1s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{account}^password
"""

Queue = Callable[[int, Path], AbstractContextManager[int]]
"""Runs a queue before the submission server at a port, whose certificate this file vouches for; gives its own port."""


class NoQueue(Exception):
    """This machine has no such queue, or may not start it."""


@contextmanager
def running_postfix(port: int, ca_file: Path) -> Iterator[int]:
    """Postfix with the limits that it comes with.

    Raises:
        NoQueue: it is not installed, or not ours to start.
    """
    program, account = _program("postfix"), _account("postfix")
    own_port = free_ports("queue")["queue"]
    with _folder(ca_file) as folder:
        (folder / "queue").mkdir()
        (folder / "data").mkdir()
        shutil.chown(folder / "data", account)
        (folder / "main.cf").write_text(_POSTFIX.format(folder=folder, port=port, account=ACCOUNT))
        services = Path("/usr/share/postfix/master.cf.dist").read_text()
        services = re.sub(r"(?m)^smtp +inet", f"127.0.0.1:{own_port} inet", services)
        # Nothing is in a chroot, which would need files of its own.
        (folder / "master.cf").write_text(re.sub(r"(?m)^(\S+ +(?:inet|unix|pass) +\S +\S +)y", r"\1n", services))
        subprocess.run([program, "-c", folder, "check"], check=True, capture_output=True)
        daemons = subprocess.run(["postconf", "-h", "daemon_directory"], check=True, capture_output=True, text=True)
        with _running([f"{daemons.stdout.strip()}/master", "-c", str(folder), "-s"], own_port):
            yield own_port


@contextmanager
def running_exim(port: int, ca_file: Path) -> Iterator[int]:
    """Exim, which hands each message on at once; raises as `running_postfix`."""
    program, account = _program("exim4"), _account("Debian-exim")
    own_port = free_ports("queue")["queue"]
    with _folder(ca_file) as folder:
        configuration = folder / "exim.conf"
        configuration.write_text(
            _EXIM.format(program=program, folder=folder, own_port=own_port, port=port, account=ACCOUNT)
        )
        (folder / "spool").mkdir()
        for path in (folder, folder / "spool"):
            shutil.chown(path, account)
        with _running([program, "-C", str(configuration), "-bdf"], own_port):
            yield own_port


@contextmanager
def _folder(ca_file: Path) -> Iterator[Path]:
    """A folder that the queue's own user may read, with a copy of the file of authorities."""
    with tempfile.TemporaryDirectory(prefix="mailtoken-queue-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(ca_file, folder / "ca.pem")
        (folder / "ca.pem").chmod(0o644)
        yield folder


def _program(name: str) -> str:
    """Where it is: at `MAILTOKEN_BENCH_` and its name in capitals, else where programs are."""
    given = os.environ.get(f"MAILTOKEN_BENCH_{name.upper()}") or shutil.which(name, path=_PLACES)
    if given is None:
        raise NoQueue(f"there is no {name} here")
    if os.geteuid() != 0:
        raise NoQueue(f"only root may start {name}")
    return given


def _account(name: str) -> str:
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        raise NoQueue(f"there is no user {name} here") from None


@contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a queue until it is no longer needed."""
    process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL)
    try:

        def listens() -> bool:
            assert process.poll() is None, command
            return answers(port)

        wait_until(listens, "the queue listens")
        yield
    finally:
        process.terminate()
        process.wait()

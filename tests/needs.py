"""What a test needs of the machine: a program, a right, or a feature. Without it the test is left out, and said so.

`@pytest.mark.needs("openssl")` names it. With `--nothing-left-out`, as `.ci/run` has it, a test that is left out fails
the run.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _has_dovecot() -> bool:
    parts = ("imap", "pop3", "submission", "lmtp")
    return _has_program("dovecot") and all(Path("/usr/lib/dovecot", part).exists() for part in parts)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _has_resolver() -> bool:
    """Whether a name that does not exist (RFC 6761 section 6.4) is said not to exist."""
    try:
        socket.getaddrinfo("nowhere.invalid", None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME
    return False


def _has_root() -> bool:
    if os.geteuid() == 0:
        return True
    return (
        _has_program("sudo")
        and subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode == 0
    )


def _may_open(files: int) -> bool:
    """Whether this process may have so many files open. Raises its soft limit, which is 1024 on many systems."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        return False
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return True


def _has_program(name: str) -> bool:
    return shutil.which(name, path=_PATH) is not None


_PEERS = Path(__file__).parent / "peers" / "authorization_servers"


_FEATURES: Mapping[str, Callable[[], bool]] = {
    "dovecot": _has_dovecot,
    "chromium": lambda: os.access("/usr/bin/chromium", os.X_OK),
    "django-oauth-toolkit": (_PEERS / "django" / "bin" / "python").exists,
    "python3-django-oauth-toolkit": Path("/usr/lib/python3/dist-packages/oauth2_provider").exists,
    "oidc-provider": lambda: _has_program("node") and (_PEERS / "node_modules" / "oidc-provider").exists(),
    "root": lambda: os.geteuid() == 0,
    "root or sudo": _has_root,
    "3000 open files": lambda: _may_open(3000),
    "IPv6": _has_ipv6,
    "a resolver": _has_resolver,
}


@cache
def is_there(need: str) -> bool:
    """Whether this machine has it: a feature of the table above, else a program of this name."""
    return _FEATURES[need]() if need in _FEATURES else _has_program(need)

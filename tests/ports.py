"""TCP ports for servers that want to be told theirs."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack


def free_port() -> int:
    """A port of this machine that nobody uses; connections going out are not given it meanwhile."""
    with _free_socket() as free:
        port: int = free.getsockname()[1]
        return port


def free_ports(*names: str) -> dict[str, int]:
    """A port of this machine for each name: nobody uses it, and connections going out are not given it."""
    with ExitStack() as held:
        return {name: held.enter_context(_free_socket()).getsockname()[1] for name in names}


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def _free_socket() -> socket.socket:
    while True:
        try:
            return socket.create_server(("127.0.0.1", random.randint(10_000, 30_000)))
        except OSError:
            continue

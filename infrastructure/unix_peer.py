"""Who is at the other end of a Unix socket (unix(7), SO_PEERCRED). Few imports, since they slow each `token show`."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

_UCRED = struct.Struct("3i")


class StrangerListens(PermissionError):
    """The service's socket is served by a user whom nobody chose."""


def peer_uid(connection: socket.socket) -> int:
    """The user who connected; at the client's end the user who began to listen."""
    _pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def check_listener(connection: socket.socket, path: Path) -> None:
    """Check who listens at the other end of a connection to the socket at `path`.

    Anybody can listen in a directory that everybody can write to: there it must be root, this user, or the directory's
    owner. Any other directory is as trustworthy as the configuration that names it.

    Raises:
        StrangerListens: it is somebody else.
    """
    uid, directory = peer_uid(connection), path.parent.stat()
    if uid not in (0, os.geteuid(), directory.st_uid) and directory.st_mode & stat.S_IWOTH:
        raise StrangerListens(f"uid {uid}")

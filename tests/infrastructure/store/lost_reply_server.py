"""A line to PostgreSQL that counts round trips and breaks at the worst moment: COMMIT arrives, its reply does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class LostReplyLine:
    """Passes connections on to the server in `server`, from a socket in `folder`.

    Once `lose_commit_after` is set, the next transaction that sends these bytes commits, and its client never hears.
    `round_trips` counts the messages that make the server answer what came before them: Query, Sync and Flush in the
    frontend/backend protocol. A Flush right behind a Sync asks for nothing more.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.lose_commit_after: bytes | None = None
        self.commits_lost = 0
        self.round_trips = 0
        self.folder = folder
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server / ".s.PGSQL.5432"))
            committing = threading.Event()
            for pump in (self._forward, self._back):
                threading.Thread(target=pump, args=(client, server, committing), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, committing: threading.Event) -> None:
        concerned, messages = False, _Messages()
        with suppress(OSError):
            while data := client.recv(65536):
                concerned = concerned or bool(self.lose_commit_after and self.lose_commit_after in data)
                self.round_trips += sum(messages.asking(data))
                if concerned and b"COMMIT" in data:
                    self.lose_commit_after = None
                    committing.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _back(self, client: socket.socket, server: socket.socket, committing: threading.Event) -> None:
        with client, server, suppress(OSError):
            while data := server.recv(65536):
                if committing.is_set():
                    self.commits_lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


class _Messages:
    """Splits what a client sends into the messages of PostgreSQL's protocol, version 3."""

    def __init__(self) -> None:
        self._unread = b""
        self._last = b""
        self._started = False

    def asking(self, data: bytes) -> Iterator[bool]:
        """Of each message that is complete with `data`, whether it asks for answers; the start-up message is none."""
        self._unread += data
        while True:
            begin = 1 if self._started else 0
            length = begin + int.from_bytes(self._unread[begin : begin + 4], "big")
            if len(self._unread) < max(length, begin + 4):
                return
            if self._started:
                kind = self._unread[:1]
                yield kind in (b"Q", b"S") or (kind == b"H" and self._last != b"S")
                self._last = kind
            self._started, self._unread = True, self._unread[length:]

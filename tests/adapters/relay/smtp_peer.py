"""A mail server that takes messages as a test wants it to, and keeps every octet it is sent; real sockets and TLS."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from base64 import b64decode
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self

PATIENCE_SECONDS = 60
EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000000", "ENHANCEDSTATUSCODES")
# Points at which it acts, beside the commands.
GREETING, MIDST, END = "GREETING", "MIDST", "END"

Act = Callable[["Conversation"], object]


class HangUp(Exception):
    """The conversation is over."""


def say(*lines: str) -> Act:
    """Answer so in place of the usual."""
    return lambda conversation: conversation.say(*lines)


def close(conversation: Conversation) -> None:
    """Close the connection without a word."""
    raise HangUp


def reset(conversation: Conversation) -> None:
    """Break the connection off (RST)."""
    raw = conversation.raw
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise HangUp


def hang(conversation: Conversation) -> None:
    """Say nothing until the other side has gone."""
    conversation.hear_out()
    raise HangUp


def _as_usual(verb: str, line: bytes) -> Act:
    return lambda conversation: conversation._usual(verb, line)


class Conversation:
    """One connection. `heard` is what came under TLS, or over it where there is none; `heard_in_clear` before it."""

    def __init__(self, peer: Peer, raw: socket.socket) -> None:
        raw.settimeout(PATIENCE_SECONDS)
        self.raw = self.sock = raw
        self.heard = bytearray()
        self.heard_in_clear = bytearray()
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []
        self.resumed = False
        self._peer = peer
        self._unread = b""
        self._greeted_in_tls = False

    def serve(self) -> None:
        """Be a mail server until it ends."""
        try:
            if self._peer.tls_mode == "implicit":
                self.begin_tls()
            self._act(GREETING, say("220 mx.contoso.com ready"))
            while True:
                line = self.line()
                self.commands.append(line)
                verb = line.partition(b" ")[0].decode("ascii", "replace").upper()
                self._act(verb, _as_usual(verb, line))
        except (OSError, HangUp, ssl.SSLError):
            pass
        finally:
            with suppress(OSError):
                self.sock.close()

    def say(self, *lines: str) -> None:
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def line(self) -> bytes:
        while b"\r\n" not in self._unread:
            self._read()
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line

    def hear_out(self) -> None:
        with suppress(OSError):
            while True:
                self._read()

    def begin_tls(self) -> None:
        assert not self._unread
        self.sock = self._peer.tls.wrap_socket(self.sock, server_side=True)
        self.resumed = bool(self.sock.session_reused)

    def _act(self, point: str, usual: Act) -> None:
        acts = self._peer.acts[point]
        (acts.popleft() if acts else usual)(self)

    def _usual(self, verb: str, line: bytes) -> None:
        match verb:
            case "EHLO":
                lines = ["mx.contoso.com", *self._peer.offers(self.sock is not self.raw)]
                self.say(*(f"250-{one}" for one in lines[:-1]), f"250 {lines[-1]}")
            case "STARTTLS":
                self.say("220 2.0.0 go ahead")
                self.begin_tls()
            case "AUTH":
                self._authenticate(line)
            case "MAIL" | "RSET" | "NOOP":
                self.say("250 2.1.0 ok")
            case "RCPT":
                self.say("250 2.1.5 ok")
            case "DATA":
                self.say("354 go on")
                self._take_message()
            case "QUIT":
                self.say("221 2.0.0 bye")
                raise HangUp
            case _:
                self.say("500 5.5.2 what?")

    def _authenticate(self, line: bytes) -> None:
        _, mechanism, *response = line.split(b" ")
        if not response:
            self.say("334 ")
            response = [self.line()]
        found = re.search(rb"auth=Bearer ([!-~]+)\x01\x01", b64decode(response[0]))
        token = found[1].decode() if found else ""
        self._peer.tokens_seen.append((mechanism.decode(), token))
        if token in self._peer.tokens:
            self.say("235 2.7.0 ok")
            return
        self.say("334 eyJzdGF0dXMiOiI0MDEifQ==")
        self._peer.closing_responses.append(self.line())
        self.say("535 5.7.3 Authentication unsuccessful")

    def _take_message(self) -> None:
        message, octets = bytearray(b"\r\n"), -2
        if self._peer.acts[MIDST]:
            message += self._some()
            self._act(MIDST, hang)
        while (end := message.find(b"\r\n.\r\n", max(0, len(message) - 70_000))) < 0:
            if not self._peer.keeps_messages:
                octets += len(message) - 4 if len(message) > 4 else 0
                del message[:-4]
            message += self._some()
        self._unread = bytes(message[end + 5 :])
        if self._peer.keeps_messages:
            self.messages.append(bytes(message[2 : end + 5]))
        self._peer.octets += octets + end + 5
        self._act(END, say("250 2.0.0 queued"))

    def _some(self) -> bytes:
        if not self._unread:
            self._read()
        some, self._unread = self._unread, b""
        return some

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise HangUp
        if self._peer.keeps_messages:
            (self.heard if self.sock is not self.raw or self._peer.tls_mode == "none" else self.heard_in_clear).extend(
                data
            )
        self._unread += data


class Peer:
    """The mail server: takes messages from whoever has one of `tokens`, but for what it is told to do instead."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        tls_mode: str = "starttls",
        extensions: Iterable[str] = EXTENSIONS,
        mechanisms: str = "XOAUTH2 OAUTHBEARER",
        keeps_messages: bool = True,
    ) -> None:
        self.tls = tls
        self.tls_mode = tls_mode
        self.extensions = list(extensions)
        self.mechanisms = mechanisms
        self.tokens = {"token-1"}
        self.tokens_seen: list[tuple[str, str]] = []
        self.closing_responses: list[bytes] = []
        self.conversations: list[Conversation] = []
        self.acts: defaultdict[str, deque[Act]] = defaultdict(deque)
        self.keeps_messages = keeps_messages
        self.octets = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_listening()
        for conversation in self.conversations:
            with suppress(OSError):
                conversation.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def stop_listening(self) -> None:
        """Take no more connections; those there are stay."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(PATIENCE_SECONDS)

    def do(self, point: str, *acts: Act) -> None:
        """Act so at the next occasions, one after the other, in place of the usual."""
        self.acts[point].extend(acts)

    def offers(self, is_secure: bool) -> list[str]:
        if self.tls_mode == "starttls" and not is_secure:
            return ["STARTTLS", *self.extensions]
        return [*self.extensions, f"AUTH {self.mechanisms}"]

    @property
    def messages(self) -> list[bytes]:
        """Every message that was taken to its end, dots stuffed and with the final one."""
        return [message for conversation in self.conversations for message in conversation.messages]

    @property
    def heard(self) -> bytes:
        """Every octet that came, over every connection."""
        return b"".join(bytes(one.heard_in_clear + one.heard) for one in self.conversations)

    @property
    def verbs(self) -> list[list[str]]:
        """The commands of each connection, without what follows them."""
        return [
            [command.partition(b" ")[0].decode() for command in conversation.commands]
            for conversation in self.conversations
        ]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                conversation = Conversation(self, sock)
                self.conversations.append(conversation)
                thread = threading.Thread(target=conversation.serve, daemon=True)
                self._threads.append(thread)
                thread.start()

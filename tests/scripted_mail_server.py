"""A mail server that says what a test's scripts say, one to each client, over real sockets and real TLS."""

import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

from domain import catalogue
from domain.profile import ProfileState
from domain.profile_fields import Settings

PATIENCE_SECONDS = 60
USER = "scan@contoso.com"


class Peer:
    """The client, as a script sees it. `heard_in_clear` and `heard` are the octets it sent before and under TLS."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        self.sock = sock
        self.heard_in_clear = bytearray()
        self.heard = bytearray()
        self._tls = tls
        self._unread = b""

    def say(self, *lines: str) -> None:
        """Send lines, all at once."""
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self, beginning: str = "") -> str:
        """Read one line, which has to begin so."""
        while b"\n" not in self._unread:
            self._read()
        line, _, self._unread = self._unread.partition(b"\n")
        text = line.decode().removesuffix("\r")
        assert text.startswith(beginning), f"{text!r} instead of {beginning!r}"
        return text

    def hear_tagged(self, command: str) -> str:
        """Read one IMAP command, and return its tag."""
        tag, _, rest = self.hear().partition(" ")
        assert rest.startswith(command), f"{rest!r} instead of {command!r}"
        return tag

    def hear_message(self) -> None:
        """Read up to and with the final dot."""
        while self.hear() != ".":
            pass

    def hear_out(self) -> None:
        """Read until the client hangs up."""
        try:
            while True:
                self._read()
        except (OSError, EOFError):
            pass

    def stay_silent(self, seconds: float) -> None:
        """Say nothing for a while; the client has to stay."""
        assert not select.select([self.sock], [], [], seconds)[0], "the client did not wait"

    def drip(self, text: str) -> None:
        """Send a text again and again, one octet at a time, until the client hangs up."""
        try:
            while True:
                for octet in text.encode():
                    if select.select([self.sock], [], [], 0.02)[0]:
                        self._read()
                    self.sock.sendall(bytes([octet]))
        except (OSError, EOFError):
            pass

    def talk_on(self, text: str) -> None:
        """Send a text again and again until the client hangs up."""
        try:
            while True:
                self.sock.sendall(text.encode())
        except OSError:
            pass

    def begin_tls(self) -> None:
        self.sock = self._tls.wrap_socket(self.sock, server_side=True)

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        (self.heard if isinstance(self.sock, ssl.SSLSocket) else self.heard_in_clear).extend(data)
        self._unread += data


Script = Callable[[Peer], None]


class ScriptedServer:
    """Serves each client by the next script, then hangs up. A script that fails, fails the test."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext, address: str = "127.0.0.1") -> None:
        self.peers: list[Peer] = []
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(
            (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
        self.port: int = self._listener.getsockname()[1]
        self._failure: BaseException | None = None
        self._unwanted = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def heard_in_clear(self) -> bytes:
        return b"".join(peer.heard_in_clear for peer in self._finished())

    @property
    def heard(self) -> bytes:
        return b"".join(peer.heard for peer in self._finished())

    def close(self) -> None:
        if len(self.peers) < len(self._scripts):
            self._unwanted = True
            socket.create_connection(self._listener.getsockname()[:2]).close()
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()
        assert not self._thread.is_alive(), "a script has not ended"
        if self._failure is not None:
            raise self._failure

    def _finished(self) -> list[Peer]:
        self._thread.join(PATIENCE_SECONDS)
        assert self.peers
        return self.peers

    def _serve(self) -> None:
        try:
            self._listener.settimeout(PATIENCE_SECONDS)
            for script in self._scripts:
                sock, _ = self._listener.accept()
                if self._unwanted:
                    return sock.close()
                peer = Peer(sock, self._tls)
                self.peers.append(peer)
                try:
                    script(peer)
                finally:
                    peer.sock.close()
        except BaseException as failure:
            self._failure = failure


class Serve(Protocol):
    """Starts a scripted server, on loopback and with the usual certificate if nothing else is said."""

    def __call__(self, script: Script, tls: ssl.SSLContext = ..., address: str = ...) -> ScriptedServer: ...


def says(line: str) -> Script:
    """A server that says one line, and then hears the client out."""

    def script(peer: Peer) -> None:
        peer.say(line)
        peer.hear_out()

    return script


def profile(protocol: catalogue.Protocol, port: int, **settings: Any) -> ProfileState:
    """A setting filled in for a server on this machine."""
    filled = {"server": "localhost", "tls": "starttls", "timeout": 5, "account": USER, **settings}
    return ProfileState(uuid4(), "office-mfp", "scripted", protocol, uuid4(), None, Settings(port=port, **filled))


def smtp_to_starttls(peer: Peer) -> None:
    """An SMTP server up to its list of extensions in clear."""
    peer.say("220 mx.contoso.com ready")
    peer.hear("EHLO ")
    peer.say("250-mx.contoso.com", "250 STARTTLS")
    peer.hear("STARTTLS")


def smtp_to_auth(peer: Peer, extensions: str = "AUTH XOAUTH2") -> None:
    """An SMTP server up to its list of extensions under TLS."""
    smtp_to_starttls(peer)
    peer.say("220 2.0.0 go ahead")
    peer.begin_tls()
    peer.hear("EHLO ")
    lines = ["mx.contoso.com", *extensions.split("\n")]
    peer.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")


def smtp_to_mail(peer: Peer, extensions: str = "AUTH XOAUTH2") -> None:
    """An SMTP server that has taken the token."""
    smtp_to_auth(peer, extensions)
    peer.hear("AUTH XOAUTH2 ")
    peer.say("235 2.7.0 Authentication successful")


def smtp_to_data(peer: Peer, extensions: str = "AUTH XOAUTH2", recipients: int = 1) -> None:
    """An SMTP server that has the final dot and says nothing yet."""
    smtp_to_mail(peer, extensions)
    peer.hear("MAIL FROM:<")
    peer.say("250 2.1.0 ok")
    for _ in range(recipients):
        peer.hear("RCPT TO:<")
        peer.say("250 2.1.5 ok")
    peer.hear("DATA")
    peer.say("354 go on")
    peer.hear_message()


def smtp_farewell(peer: Peer) -> None:
    peer.hear("QUIT")
    peer.say("221 2.0.0 bye")


def pop_to_auth(peer: Peer, sasl: str = "SASL XOAUTH2") -> None:
    """A POP3 server up to its list of capabilities under TLS."""
    peer.say("+OK ready")
    peer.hear("CAPA")
    peer.say("+OK", "STLS", ".")
    peer.hear("STLS")
    peer.say("+OK go ahead")
    peer.begin_tls()
    peer.hear("CAPA")
    peer.say("+OK", "UIDL", sasl, ".")


def imap_to_auth(peer: Peer, capabilities: str = "AUTH=XOAUTH2 SASL-IR") -> None:
    """An IMAP server up to its list of capabilities under TLS."""
    peer.say("* OK [CAPABILITY IMAP4rev1] ready")
    tag = peer.hear_tagged("CAPABILITY")
    peer.say("* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED", f"{tag} OK done")
    tag = peer.hear_tagged("STARTTLS")
    peer.say(f"{tag} OK go ahead")
    peer.begin_tls()
    tag = peer.hear_tagged("CAPABILITY")
    peer.say(f"* CAPABILITY IMAP4rev1 {capabilities}", f"{tag} OK done")

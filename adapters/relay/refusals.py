"""Refusals of the relay's clients: a record of each goes to the service, which shows an administrator the last ones.

A record holds commands of the client, and no password, no content of a message and no line that is not a command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import structlog

from adapters.relay_documents import RelayRefusal
from domain.errors import MailtokenError

log = structlog.get_logger("mailtoken")

LAST_COMMANDS = 20
"""The number of commands that a record holds: the last ones."""
COMMAND_OCTETS = 200
_WAITING = 1000
_RETRY_SECONDS = 5.0


class Cause(StrEnum):
    """Why a client was refused; the texts say what to set at the client."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a cause
    OTHER_IDENTITY = "other_identity"
    NOT_SIGNED_IN = "not_signed_in"
    NOT_ENCRYPTED = "not_encrypted"
    TLS_TOO_OLD = "tls_too_old"
    NO_SHARED_CIPHER = "no_shared_cipher"
    CERTIFICATE_NOT_TRUSTED = "certificate_not_trusted"
    TLS_FAILED = "tls_failed"
    TLS_AT_PLAIN_PORT = "tls_at_plain_port"
    NO_TLS_AT_TLS_PORT = "no_tls_at_tls_port"
    COMMAND = "command"
    BARE_LINE_END = "bare_line_end"
    LINE_TOO_LONG = "line_too_long"
    TOO_BIG = "too_big"
    SENDER = "sender"
    RECIPIENT = "recipient"
    MESSAGE = "message"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    MAIL_SERVER_BUSY = "mail_server_busy"
    MAIL_SERVER = "mail_server"
    SERVICE = "service"


def printable_command(command: bytes) -> str:
    """A command as a record shows it."""
    text = command.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text)


class RefusalReporter:
    """Sends records to the service in the background; while the service is away, the oldest ones are dropped."""

    def __init__(self, send: Callable[[Sequence[RelayRefusal]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[RelayRefusal] = deque(maxlen=_WAITING)
        self._has_some = asyncio.Event()

    def add(self, refusal: RelayRefusal) -> None:
        """Have a record sent."""
        self._waiting.append(refusal)
        self._has_some.set()

    async def keep_sending(self) -> None:
        """Send the records until cancelled."""
        while True:
            await self._has_some.wait()
            self._has_some.clear()
            records = list(self._waiting)
            try:
                await self._send(records)
                for record in records:
                    if self._waiting and self._waiting[0] is record:
                        self._waiting.popleft()
            except Exception as error:
                log.warning(
                    "refusals_not_reported", why=str(error) if isinstance(error, MailtokenError) else repr(error)
                )
                self._has_some.set()
                await asyncio.sleep(_RETRY_SECONDS)

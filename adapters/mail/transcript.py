"""The report of a conversation while it goes on: its steps, how long each took, and how it ended.

Whatever a server says passes through here on its way to a person, and never with a secret in it: servers echo
what they do not understand, and that may be the line with the token.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from adapters.mail import tls
from adapters.mail.connection import DeadlinePassed, Garbled, SaidBeforeTLS
from domain.errors import InvalidValue
from domain.outcomes import Fault, MailReport, Step

_SHOWN_CHARACTERS = 2000
# So much of a secret gives nothing away, and no server's own words have so much in common with one.
_WINDOW = 12
_HIDDEN = re.compile("\0+")


class Ended(Exception):
    """The conversation can't go on: becomes the report's fault, verdict and reply."""

    def __init__(self, fault: Fault, verdict: str, reply: str | None = None) -> None:
        super().__init__(verdict)
        self.fault = fault
        self.verdict = verdict
        self.reply = reply


@dataclass
class Note:
    """What a step has to say for itself, filled in while it runs."""

    detail: str = ""
    ok: bool = True


class Transcript:
    """The steps of one conversation with the server at `where`, its host and port."""

    def __init__(self, where: str, secrets: Iterable[str]) -> None:
        self._where = where
        self._parts = parts(secrets)
        self._steps: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Note]:
        """Time a step. What goes wrong in it, here or on the network, leaves as `Ended`."""
        note, began = Note(), monotonic()
        try:
            yield note
        except Ended as ended:
            self._add(name, False, began, note.detail or ended.reply or ended.verdict)
            raise
        except (OSError, Garbled, SaidBeforeTLS, InvalidValue) as error:
            explained = explain(error, name, self._where)
            self._add(name, False, began, str(error) or explained.verdict)
            raise explained from error
        self._add(name, note.ok, began, note.detail)

    def report(self, fault: Fault, verdict: str, reply: str | None = None) -> MailReport:
        """The report, which ends the transcript."""
        return MailReport(tuple(self._steps), fault, self._clean(verdict), self._shown(reply) if reply else None)

    def _add(self, name: str, ok: bool, began: float, detail: str) -> None:
        self._steps.append(Step(name, ok, monotonic() - began, self._shown(detail)))

    def _shown(self, text: str) -> str:
        return self._clean(text[:_SHOWN_CHARACTERS])

    def _clean(self, text: str) -> str:
        """One line that is safe to show: no part of a secret, no control characters."""
        text = redact(text, self._parts)
        return "".join(character if character.isprintable() else " " for character in text)


def parts(secrets: Iterable[str]) -> frozenset[str]:
    """Every part of the secrets that must not be seen: all of one size, twelve characters or a shorter secret's."""
    known = [secret for secret in secrets if secret]
    size = min([_WINDOW, *map(len, known)])
    return frozenset(secret[at : at + size] for secret in known for at in range(len(secret) - size + 1))


def redact(text: str, parts: frozenset[str]) -> str:
    """Put `***` in the place of everything in `text` that is made of `parts`."""
    size = len(next(iter(parts), ""))
    hidden = {
        at + offset for at in range(len(text) - size + 1) if text[at : at + size] in parts for offset in range(size)
    }
    shown = ("\0" if at in hidden else character for at, character in enumerate(text))
    return _HIDDEN.sub("***", "".join(shown))


def explain(error: Exception, step: str, where: str) -> Ended:
    """Whose fault it is that a step broke off, and what to do."""
    match error:
        case InvalidValue():
            return Ended(Fault.CONFIGURATION, f"A value has to be corrected first: {error}.")
        case SaidBeforeTLS():
            return Ended(
                Fault.NETWORK,
                f"Something between {where} and this machine spoke up: clear text came where TLS had to begin, so no"
                " token was sent; have the network checked.",
            )
        case Garbled():
            return Ended(Fault.SERVER, f"{where} does not answer as a mail server does: check Server and Port.")
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
            return _not_secured(error, where)
        case _:
            return _network(error, step, where)


def _not_secured(error: ssl.SSLError, where: str) -> Ended:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Ended(Fault.CERTIFICATE, f"The certificate of {where} is not accepted: {tls.advice(error)}.")
    # What OpenSSL calls a greeting that it took for a TLS record.
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return Ended(
            Fault.CONFIGURATION,
            f"{where} does not begin with TLS: set TLS to starttls, or Port to the one for implicit TLS.",
        )
    return Ended(
        Fault.SERVER, f"{where} and this machine can't agree on TLS 1.2 or newer ({error.reason}): ask who runs it."
    )


def _network(error: Exception, step: str, where: str) -> Ended:
    match error:
        case socket.gaierror():
            verdict = f"The host name of {where} was not found: check Server and this machine's DNS."
        case DeadlinePassed():
            verdict = f"{where} was too slow for the conversation as a whole: try again later."
        case TimeoutError() if step == "greeting":
            verdict = (
                f"{where} took the connection and said nothing: if this port is for implicit TLS, set TLS to that."
            )
        case TimeoutError():
            verdict = f"{where} did not answer in time at {step!r}: check Server, Port and the firewall."
        case ConnectionRefusedError():
            verdict = f"{where} accepts no connection: check Server and Port, and whether it runs."
        case ConnectionError() | ssl.SSLEOFError():
            verdict = f"{where} closed the connection at {step!r}: try again later."
        case _:
            verdict = f"{where} can't be reached ({error}): check the network of this machine."
    return Ended(Fault.NETWORK, verdict)


def stripped(command: str) -> Ended:
    """The server doesn't offer the command that begins TLS."""
    return Ended(
        Fault.SERVER,
        f"The server doesn't offer {command}, or somebody between took it away; no token was sent:"
        " check Server and Port, or set TLS to implicit.",
    )


def untested() -> Ended:
    """The server took us as signed in before it had the token (IMAP's PREAUTH, RFC 9051 section 7.1.4, or worse)."""
    return Ended(
        Fault.SERVER,
        "The server lets anybody in without asking for a token, so none was sent: check Server, or ask who runs it.",
    )

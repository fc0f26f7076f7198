"""The report of a conversation while it goes on: its steps, how long each took, and how it ended.

Every text of a server that a person sees passes through this module, which removes secrets: a server may echo a line
that it does not understand, such as the line with the token.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import monotonic
from typing import Self

from adapters.mail import tls
from adapters.mail.line_connection import DeadlinePassed, PlaintextInjection, ProtocolError
from domain.errors import Fact, InvalidValue
from domain.mail_report import Fault, MailReport, Step, Verdict

_SHOWN_CHARACTERS = 2000
# A shorter part of a secret reveals nothing useful, and a server's own words never share a part of this length.
_WINDOW = 12
_HIDDEN = re.compile("\0+")


class ConversationFailed(Exception):
    """The conversation can't go on; the verdict and the reply become those of the report."""

    def __init__(self, verdict: Verdict, reply: str | None = None) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict
        self.reply = reply

    @property
    def fault(self) -> Fault:
        """The party at fault, as the verdict names it."""
        return self.verdict.fault


Detail = str | Verdict | Callable[[], str]
"""The detail of a step: as text, as the verdict of a failure, or as the function that makes the text for a report."""


class Note:
    """A step while it runs, as a context: its detail, and whether it went well, are filled in meanwhile."""

    def __init__(self, steps: Steps, name: str) -> None:
        self.detail: Detail = ""
        self.ok = True
        self.name = name
        self.began = monotonic()
        self._steps = steps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._steps.end(self, error)


class Steps:
    """The steps of one conversation with the server at `where`, its host and port. No record of them is kept."""

    def __init__(self, where: str) -> None:
        self._where = where

    def step(self, name: str) -> Note:
        """Begin a step. A failure in it, of this program or of the network, is raised as `ConversationFailed`."""
        return Note(self, name)

    def end(self, step: Note, error: BaseException | None) -> None:
        """End a step, with the error that was raised in it.

        Raises:
            ConversationFailed: the error is a failure of this program or of the network.
        """
        match error:
            case None:
                self._add(step, step.ok, step.detail)
            case ConversationFailed():
                self._add(step, False, step.detail or error.reply or error.verdict)
            case OSError() | ProtocolError() | PlaintextInjection() | InvalidValue():
                explained = explain(error, step.name, self._where)
                self._add(step, False, str(error) or explained.verdict)
                raise explained from error

    def _add(self, step: Note, ok: bool, detail: Detail) -> None:
        """Keep a record of a step that has ended."""


class Transcript(Steps):
    """The steps of one conversation, recorded for a report, which shows no part of `secrets`."""

    def __init__(self, where: str, secrets: Iterable[str] = ()) -> None:
        super().__init__(where)
        self._secrets = secrets
        self._steps: list[Step] = []

    def report(self, verdict: Verdict, reply: str | None = None) -> MailReport:
        """End the transcript and return its report."""
        secret = parts(self._secrets)
        steps = tuple(replace(step, detail=_without_secrets(step.detail, secret)) for step in self._steps)
        return MailReport(
            steps, redacted(verdict, secret), _clean(reply[:_SHOWN_CHARACTERS], secret) if reply else None
        )

    def _add(self, step: Note, ok: bool, detail: Detail) -> None:
        text = detail() if callable(detail) else detail
        self._steps.append(Step(step.name, ok, monotonic() - step.began, text))


def _without_secrets(detail: str | Verdict, secret: frozenset[str]) -> str | Verdict:
    return redacted(detail, secret) if isinstance(detail, Verdict) else _clean(detail[:_SHOWN_CHARACTERS], secret)


def redacted(verdict: Verdict, secret: frozenset[str]) -> Verdict:
    """The verdict without any part of a secret in its facts, some of which are the server's own words."""
    facts = {name: _clean(value, secret) if isinstance(value, str) else value for name, value in verdict.fields.items()}
    return replace(verdict, fields=facts)


def _clean(text: str, secret: frozenset[str]) -> str:
    """The text as one line that is safe to show: without parts of a secret and without control characters."""
    return "".join(character if character.isprintable() else " " for character in redact(text, secret))


def parts(secrets: Iterable[str]) -> frozenset[str]:
    """The parts of the secrets to hide: every run of twelve characters, or of the shortest secret's length if less."""
    known = [secret for secret in secrets if secret]
    size = min([_WINDOW, *map(len, known)])
    return frozenset(secret[at : at + size] for secret in known for at in range(len(secret) - size + 1))


def redact(text: str, parts: frozenset[str]) -> str:
    """Replace every run of `text` that consists of `parts` with `***`."""
    size = len(next(iter(parts), ""))
    hidden = {
        at + offset for at in range(len(text) - size + 1) if text[at : at + size] in parts for offset in range(size)
    }
    kept = ("\0" if at in hidden else character for at, character in enumerate(text))
    return _HIDDEN.sub("***", "".join(kept))


def explain(error: Exception, step: str, where: str) -> ConversationFailed:
    """The failure of a step with the server at `where`, with the verdict on who is at fault."""
    match error:
        case InvalidValue():
            return ConversationFailed(Verdict("value_to_correct", Fault.CONFIGURATION, cause=error))
        case PlaintextInjection():
            return ConversationFailed(Verdict("plaintext_injected", Fault.NETWORK, {"server": where}))
        case ProtocolError():
            return ConversationFailed(Verdict("not_a_mail_server", Fault.SERVER, {"server": where}))
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
            return _not_secured(error, where)
        case _:
            return ConversationFailed(_network(error, step, where))


def _not_secured(error: ssl.SSLError, where: str) -> ConversationFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        code = tls.certificate_fault(error)
        return ConversationFailed(Verdict(code, Fault.CERTIFICATE, {"server": where, "reason": error.verify_message}))
    # OpenSSL's reasons when it takes a clear-text greeting for a TLS record.
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return ConversationFailed(Verdict("tls_not_begun", Fault.CONFIGURATION, {"server": where}))
    return ConversationFailed(Verdict("tls_not_agreed", Fault.SERVER, {"server": where, "reason": error.reason}))


def _network(error: Exception, step: str, where: str) -> Verdict:
    facts: dict[str, Fact] = {"server": where, "step": step}
    match error:
        case socket.gaierror():
            code = "host_not_found"
        case DeadlinePassed():
            code = "conversation_too_slow"
        case TimeoutError() if step == "greeting":
            code = "no_greeting"
        case TimeoutError():
            code = "no_answer_in_time"
        case ConnectionRefusedError():
            code = "connection_refused"
        case ConnectionError() | ssl.SSLEOFError():
            code = "connection_closed"
        case _:
            code, facts = "host_unreachable", {**facts, "reason": str(error)}
    return Verdict(code, Fault.NETWORK, facts)

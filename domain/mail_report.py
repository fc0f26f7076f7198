"""The report of a conversation with a mail server: its steps, and the party at fault if it failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from domain.errors import Fact, MailtokenError


class Fault(StrEnum):
    """The party at fault when a mail server did not do what was asked."""

    NONE = "none"
    NETWORK = "network"
    CERTIFICATE = "certificate"
    CONFIGURATION = "configuration"
    TOKEN = "token"  # noqa: S105 - a party at fault, not a password
    MAILBOX = "mailbox"
    PERMISSION = "permission"
    SENDER = "sender"
    MESSAGE = "message"
    SERVER = "server"


@dataclass(frozen=True)
class Verdict:
    """The end of a conversation: `code` names it, `fields` are its facts, `cause` is the error behind it.

    Each surface takes the sentence for it from `adapters.texts.verdicts`.
    """

    code: str
    fault: Fault
    fields: Mapping[str, Fact] = field(default_factory=dict)
    cause: MailtokenError | None = None

    def __str__(self) -> str:
        """The code and the facts, for a log."""
        facts = [f"{name}={value!r}" for name, value in self.fields.items()]
        return " ".join([self.code, *facts, *([f"({self.cause})"] if self.cause else [])])


@dataclass(frozen=True)
class Step:
    """A step of a conversation; `detail` is the server's text, or a verdict of this service."""

    name: str
    ok: bool
    seconds: float
    detail: str | Verdict


@dataclass(frozen=True)
class MailReport:
    """A conversation step by step and its verdict. `reply` is the server's last reply when it refused."""

    steps: tuple[Step, ...]
    verdict: Verdict
    reply: str | None = None

    @property
    def fault(self) -> Fault:
        """The party at fault."""
        return self.verdict.fault

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return self.fault is Fault.NONE

"""The parts that the SMTP and the POP3 server share: authentication, and the mailboxes.

A token is accepted only if the provider's introspection endpoint calls it active (RFC 7662). It admits to the mailbox
of its account, and to mailboxes that are shared with the account.
"""

import asyncio
import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import requests

from adapters.practice import sasl
from adapters.practice.provider import PracticeProvider
from adapters.practice.sasl import BearerResponse, Mechanism

log = logging.getLogger(__name__)

INTROSPECTION_TIMEOUT_SECONDS = 10
MailProtocol = Literal["smtp", "pop"]


class Session(Protocol):
    """A connection with a client, as the server that closes it sees it."""

    def cut(self) -> None:
        """Close the connection at once."""


@dataclass(frozen=True)
class Admitted:
    """The client may use this mailbox."""

    mailbox: str


@dataclass(frozen=True)
class Refused:
    """The token doesn't admit to the mailbox; `challenge` is the error challenge before the final reply."""

    challenge: bytes


@dataclass(frozen=True)
class Unavailable:
    """The provider didn't answer whether the token is active."""


@dataclass(frozen=True)
class Malformed:
    """The client's response isn't in the form that its mechanism requires."""


Verdict = Admitted | Refused | Unavailable | Malformed


@dataclass
class Authentication:
    """An attempt to authenticate.

    `closing_response` is a refused client's response to the error challenge, decoded: RFC 7628 section 3.2.3
    requires the single octet 0x01, XOAUTH2 an empty response.
    """

    protocol: MailProtocol
    mechanism: Mechanism
    has_initial_response: bool
    user: str | None
    verdict: Verdict
    closing_response: bytes | None = None


class Mailboxes:
    """The mailboxes, in memory, and the accounts that may use them; records the sign-ins and commands of clients."""

    def __init__(self, provider: PracticeProvider, shared: Mapping[str, AbstractSet[str]]) -> None:
        self.mailboxes: defaultdict[str, list[bytes]] = defaultdict(list)
        self.authentications: list[Authentication] = []
        self.commands: list[tuple[MailProtocol, str]] = []
        self.sessions: set[Session] = set()
        self._provider = provider
        self._shared = {
            mailbox.casefold(): {account.casefold() for account in accounts} for mailbox, accounts in shared.items()
        }
        self._delivered = threading.Condition()
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.verify = str(provider.ca_file)
        self._http.auth = (provider.mail_server_client_id, provider.mail_server_client_secret)

    async def admit(
        self, protocol: MailProtocol, mechanism: Mechanism, response: bytes, *, has_initial_response: bool
    ) -> Authentication:
        """Decide on a client's response, already decoded from base64."""
        try:
            claim = sasl.parse(mechanism, response)
        except sasl.MalformedResponse:
            attempt = Authentication(protocol, mechanism, has_initial_response, None, Malformed())
        else:
            verdict = await self._judge(mechanism, claim)
            attempt = Authentication(protocol, mechanism, has_initial_response, claim.user, verdict)
        self.authentications.append(attempt)
        return attempt

    def deliver(self, address: str, message: bytes) -> None:
        """Put a message into a mailbox, which is created if missing."""
        with self._delivered:
            self.mailboxes[address.casefold()].append(message)
            self._delivered.notify_all()

    def wait_for_messages(self, address: str, count: int, timeout_seconds: float) -> list[bytes]:
        """Wait until a mailbox holds `count` messages, and return all of them."""
        mailbox = self.mailboxes[address.casefold()]
        with self._delivered:
            if not self._delivered.wait_for(lambda: len(mailbox) >= count, timeout_seconds):
                raise TimeoutError(f"{len(mailbox)} of {count} messages are in {address}")
            return list(mailbox)

    def remove(self, mailbox: str, messages: list[bytes]) -> None:
        """Delete messages from a mailbox; messages that are gone already are ignored."""
        with self._delivered:
            kept = self.mailboxes[mailbox]
            for message in messages:
                if message in kept:
                    kept.remove(message)

    def close(self) -> None:
        """Close the connections to the provider."""
        self._http.close()

    async def _judge(self, mechanism: Mechanism, claim: BearerResponse) -> Verdict:
        try:
            token = await asyncio.to_thread(self._introspect, claim.token)
        except (requests.RequestException, ValueError):
            log.debug("introspection_failed", exc_info=True)
            return Unavailable()
        account = str(token.get("username", "")).casefold()
        mailbox = (claim.user or account).casefold()
        if token.get("active") is True and (mailbox == account or account in self._shared.get(mailbox, ())):
            return Admitted(mailbox)
        return Refused(sasl.refusal(mechanism, issuer=self._provider.issuer))

    def _introspect(self, token: str) -> dict[str, Any]:
        answer = self._http.post(
            self._provider.introspection_endpoint,
            data={"token": token, "token_type_hint": "access_token"},
            timeout=INTROSPECTION_TIMEOUT_SECONDS,
            allow_redirects=False,
        )
        answer.raise_for_status()
        claims: dict[str, Any] = answer.json()
        return claims


def unique_id(message: bytes) -> str:
    """The message's id for UIDL: 1 to 70 printable characters, the same in every session (RFC 1939 section 7)."""
    return hashlib.sha256(message).hexdigest()

"""The domain's interfaces to the outside, as Protocols. An interface's real class and its fake pass the same tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.mail_report import MailReport
from domain.outcomes import (
    AcquisitionOutcome,
    BrowserAuthorization,
    ClientFault,
    Credential,
    DeviceAuthorization,
    RenewalOutcome,
)
from domain.profile import ProfileState
from domain.secret import Secret


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """The present instant, timezone-aware, in UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since a fixed instant, by a clock that never steps (monotonic)."""
        ...


@dataclass(frozen=True)
class Reply:
    """A token endpoint's reply as received, not parsed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    received_at: datetime

    def __repr__(self) -> str:
        return f"Reply(status={self.status}, {len(self.body)} bytes)"


class Exchange(Protocol):
    """The place in the escrow for a reply of a token endpoint.

    The reply is kept before it is parsed. A provider that is given an exchange with a kept reply reads that reply and
    sends no request, which is how a reply kept before a crash is used after the restart.
    """

    @property
    def reply(self) -> Reply | None:
        """The kept reply; None if no reply is kept."""
        ...

    def keep(self, reply: Reply) -> None:
        """Seal the reply and write it to stable storage before returning.

        The reply to a second client secret replaces the reply that refused the first secret.
        """
        ...


class Provider(Protocol):
    """An authorization server and this service's client registration there.

    `flows` are the flows that can obtain a token ("device", "browser", "app"), the default first. Only a request shows
    whether the server has the endpoint for a flow. `revokes_one_grant`: a revocation ends one grant, and no other grant
    that the account has given to the same client.
    """

    name: str
    flows: Sequence[str]
    revokes_one_grant: bool

    @property
    def client_faults(self) -> Mapping[str, ClientFault]:
        """Each client secret or certificate that the provider refuses while another works, by name: `client secret 1`.

        An entry disappears when the secret or certificate works again, and at a restart.
        """
        ...

    def request_device_code(self, scopes: Sequence[str], now: datetime) -> DeviceAuthorization:
        """Request a device code (RFC 8628 section 3.1).

        Raises:
            Unreachable: there is no answer, or the answer says nothing definite.
            Failed: the provider refuses; `setting` names the configuration key to correct.
        """
        ...

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: datetime) -> AcquisitionOutcome:
        """Ask the provider once whether the person has finished the sign-in (RFC 8628 section 3.4)."""
        ...

    def request_browser(
        self, scopes: Sequence[str], redirect_uri: str, account: str, now: datetime
    ) -> BrowserAuthorization:
        """Make the address of a sign-in page for `account` that redirects to `redirect_uri`.

        The address has PKCE S256, a `state` used by this attempt only and a `nonce`.

        Raises:
            Unreachable: there is no answer, or the answer says nothing definite.
            Failed: the provider can't do it; `setting` names the key to correct, or `others` the flows to use instead.
        """
        ...

    def redeem_code(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange, now: datetime
    ) -> AcquisitionOutcome:
        """Redeem the code in the URL that the browser was redirected to (RFC 6749 section 4.1.3); never `Pending`.

        `redirected_to` is None only to read a kept reply.

        Raises:
            InvalidValue: the URL belongs to another attempt (`state`) or another provider (`iss`, RFC 9207). The
                attempt goes on, and no request was sent.
        """
        ...

    def request_app_token(
        self, scopes: Sequence[str], account: str, exchange: Exchange, now: datetime
    ) -> RenewalOutcome:
        """Get an access token with the application's own credentials (RFC 6749 section 4.4), at first or as a renewal.

        No person signs in: the identity is `account` with the client id as its subject, and no tenant. There is no
        refresh token, so a renewal is the same request again.
        """
        ...

    def refresh(self, credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        """Exchange the refresh token for a new access token (RFC 6749 section 6).

        The old refresh token is kept if the reply has none.
        """
        ...

    def read_grant(self, reply: Reply) -> Credential | None:
        """Read the credential in a reply that no attempt waits for; None if the reply has no credential."""
        ...

    def revoke(self, credential: Credential) -> bool:
        """Have the provider revoke the grant (RFC 7009); False if it has no such endpoint or refused."""
        ...

    def scopes(self, protocol: str, flow: str = "device") -> Sequence[str]:
        """The scopes to request in this flow, for a profile of this protocol."""
        ...


class MailServer(Protocol):
    """The mail server of a profile. The result of a conversation is a report, never an exception."""

    def test(self, profile: ProfileState, access_token: Secret) -> MailReport:
        """Connect, secure the connection, sign in with the token and send a further command."""
        ...

    def submit(
        self, profile: ProfileState, access_token: Secret, *, sender: str, recipients: Sequence[str], message: bytes
    ) -> MailReport:
        """Submit a message for delivery (RFC 6409); SMTP profiles only."""
        ...

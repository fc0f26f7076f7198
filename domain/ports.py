"""What the domain needs of the world, as Protocols. Each has a real thing and a fake that pass one contract suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.outcomes import (
    AcquisitionOutcome,
    BrowserAuthorization,
    ClientFault,
    Credential,
    DeviceAuthorization,
    MailReport,
    RenewalOutcome,
)
from domain.profile import ProfileState
from domain.secret import Secret


class Clock(Protocol):
    """The one source of time."""

    def now(self) -> datetime:
        """This instant, aware, in UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since some instant, whatever steps the wall clock takes."""
        ...


@dataclass(frozen=True)
class Reply:
    """A token endpoint's reply as it came: nothing of it has been parsed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    received_at: datetime

    def __repr__(self) -> str:
        return f"Reply(status={self.status}, {len(self.body)} bytes)"


class Exchange(Protocol):
    """The place in the escrow for one reply of a token endpoint.

    The reply is kept before it is parsed. An exchange that has a reply already is answered from it and sends
    nothing: that is how a reply that was kept before a crash is read after it.
    """

    @property
    def reply(self) -> Reply | None:
        """The reply that is kept, if one is."""
        ...

    def keep(self, reply: Reply) -> None:
        """Seal the reply and put it on stable storage; returns when it is there.

        A second reply takes the place of a first that refused one of several client secrets.
        """
        ...


class Provider(Protocol):
    """An authorization server and our client registration there.

    `flows` are the ones to get a token by, the default first: "device", "browser", "app". Whether the server has the
    endpoint is known only once it is asked.
    """

    name: str
    flows: Sequence[str]

    @property
    def client_faults(self) -> Mapping[str, ClientFault]:
        """Each client secret or certificate the provider refuses while another one works: one alert for each.

        By a name such as `client secret 1`; an entry goes when that one works again, and at a restart.
        """
        ...

    def request_device_code(self, scopes: Sequence[str], now: datetime) -> DeviceAuthorization:
        """Ask for a device code (RFC 8628 section 3.1).

        Raises:
            Unreachable: no answer, or not one that says anything.
            Failed: the provider refuses; the message names the setting to correct.
        """
        ...

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: datetime) -> AcquisitionOutcome:
        """Ask once whether the person has finished (RFC 8628 section 3.4)."""
        ...

    def request_browser(
        self, scopes: Sequence[str], redirect_uri: str, account: str, now: datetime
    ) -> BrowserAuthorization:
        """Make the address of a sign-in page for `account` that leads back to `redirect_uri`.

        It has PKCE S256, a `state` for this attempt alone and a `nonce`.

        Raises:
            Unreachable: no answer, or not one that says anything.
            Failed: the provider can't do it; the message names the setting to correct or another flow.
        """
        ...

    def redeem_code(
        self, pending: BrowserAuthorization, redirected_to: str | None, exchange: Exchange, now: datetime
    ) -> AcquisitionOutcome:
        """Redeem the code in the URL the browser was sent back to (RFC 6749 section 4.1.3); never `Pending`.

        `redirected_to` is None only to read a reply that is kept.

        Raises:
            InvalidValue: the URL is not of this attempt (`state`) or not of this provider (`iss`, RFC 9207). The
                attempt goes on, and nothing was sent.
        """
        ...

    def request_app_token(
        self, scopes: Sequence[str], account: str, exchange: Exchange, now: datetime
    ) -> RenewalOutcome:
        """Get an access token as the application itself (RFC 6749 section 4.4), the first or the next one.

        Nobody signs in: the identity is `account` with the client id as its subject, and no tenant. There is no
        refresh token: to renew is to ask again.
        """
        ...

    def refresh(self, credential: Credential, exchange: Exchange, now: datetime) -> RenewalOutcome:
        """Exchange the refresh token for a new access token (RFC 6749 section 6).

        Keeps the old refresh token if the reply has none.
        """
        ...

    def read_grant(self, reply: Reply) -> Credential | None:
        """What a token endpoint granted in a reply that nobody waits for any more; None if nothing."""
        ...

    def revoke(self, credential: Credential) -> bool:
        """Tell the provider to forget the grant (RFC 7009); False if it has no such endpoint or did not agree."""
        ...

    def scopes(self, protocol: str, flow: str = "device") -> Sequence[str]:
        """What to ask for in this flow, for a profile of this protocol."""
        ...


class MailServer(Protocol):
    """The mail server a profile names. What it answers is a report, never an exception."""

    def test(self, profile: ProfileState, access_token: Secret) -> MailReport:
        """Connect, secure the connection, sign in with the token and issue one more command."""
        ...

    def submit(
        self, profile: ProfileState, access_token: Secret, sender: str, recipients: Sequence[str], message: bytes
    ) -> MailReport:
        """Hand a message over for delivery (RFC 6409); SMTP profiles only."""
        ...

"""An admission: which relay user a client is, and which mailbox at which mail server it may use.

The service decides on admissions; `AdmissionClient` is the interface through which the relay asks for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from adapters.mail.report import ConversationFailed
from adapters.mail.server_address import MailboxLogin, MailServerAddress
from domain import catalogue
from domain.mail_report import Fault
from domain.secret import Secret

S = TypeVar("S")


@dataclass(frozen=True)
class Admission:
    """The mailbox that a client may use as `user`, by the setting `profile`.

    `login` has the access token, which is valid until `expires_at`; `generation` numbers the profile's access tokens.
    `position` is the position of the last change that the service took into account; 0 if it does not say.
    `sender` takes the place of the client's own; `normalizes` is whether bare line feeds in messages become CRLF.
    """

    user: str
    profile: str
    login: MailboxLogin
    expires_at: datetime
    generation: int
    position: int = 0
    sender: str | None = None
    normalizes: bool = False

    @property
    def protocol(self) -> catalogue.Protocol:
        """The protocol of the client, and of the mail server."""
        return self.login.address.protocol


class AdmissionClient(Protocol):
    """Asks the service for admissions."""

    async def admit(
        self, protocol: catalogue.Protocol, address: str, user: str | None, password: Secret | None
    ) -> Admission:
        """Admit the client at `address` by user and password, or by its network if both are None.

        Raises:
            NotPermitted: the user, the password or the network is unknown; the error is the same for all three.
            Refused: the user has no profile of this protocol, or the profile's token can't be served.
            Unreachable: the service, or the provider behind it, can't be reached now.
        """
        ...

    async def renewed(self, admission: Admission) -> Admission:
        """The same admission with a newer token, after the mail server rejected the token that it has.

        Raises:
            NotPermitted: the user was removed, or has another profile now.
            Refused: the token can't be served any more.
            Unreachable: the token can't be renewed now.
        """
        ...

    async def servers(self) -> Sequence[MailServerAddress]:
        """The mail servers of all relay users.

        Raises:
            NotPermitted: the service's configuration does not grant the role relay to this process.
            Unreachable: the service can't be reached.
        """
        ...


@dataclass(frozen=True)
class AdmissionChange:
    """A change that ends the admissions of these relay users and profiles; None stands for all users or profiles.

    `position` is the change's position in the log; None ends the admissions of all positions.
    """

    users: Collection[str] | None
    profiles: Collection[str] | None
    position: int | None = None

    def concerns(self, admission: Admission) -> bool:
        """Whether the change ends this admission."""
        if self.position is not None and self.position <= admission.position:
            return False
        if self.users is None or self.profiles is None:
            return True
        return admission.user in self.users or admission.profile in self.profiles


ALL_ADMISSIONS = AdmissionChange(None, None)


async def sign_in_with_renewal(
    admission: Admission, admission_client: AdmissionClient, sign_in: Callable[[MailboxLogin], Awaitable[S]]
) -> tuple[Admission, S]:
    """Sign in to the mail server, and a second time with a newer token if the server rejects the first one.

    Raises:
        ConversationFailed: the sign-in failed, also with the newer token if there was one.
        NotPermitted, Refused, Unreachable: the service has no newer token.
    """
    try:
        return admission, await sign_in(admission.login)
    except ConversationFailed as failed:
        if failed.fault is not Fault.TOKEN:
            raise
    newer = await admission_client.renewed(admission)
    try:
        return newer, await sign_in(newer.login)
    except ConversationFailed as failed:
        if failed.fault is Fault.TOKEN:
            failed.verdict = replace(failed.verdict, code="renewed_token_refused")
        raise

"""One of each event there is, and how they are stored.

The golden file of an event is these values as they were written once. A change here, or in an event's fields, is a
change of what every store out there holds: the old file stays, and reads back for ever.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder, Mapper, UUIDAsHex

from domain.administrator import Administrator
from domain.aggregate import Event
from domain.api_client import ApiClient
from domain.disclosure import Disclosure
from domain.log_hold import LogHold
from domain.machine import Machine
from domain.one_time_link import OneTimeLink
from domain.profile import Profile
from domain.rebuild import Rebuild
from domain.relay_user import RelayUser
from domain.session import Session
from domain.smtp_group import SmtpGroup
from domain.stored_provider import StoredProvider
from domain.token import Token

NOW = datetime(2026, 3, 2, 8, 15, 30, 250000, tzinfo=UTC)
ISSUED = datetime(2026, 3, 2, 8, 15, 29, tzinfo=UTC)
EXPIRES = datetime(2026, 3, 2, 9, 28, 17, tzinfo=UTC)
GRANT_EXPIRES = datetime(2026, 5, 31, 8, 15, 29, tzinfo=UTC)

MACHINE = UUID("2f0e4a0f-3a52-4a3e-8f5e-5f4a2d9b7c01")
PROFILE = UUID("8f5e5f4a-2d9b-4c01-9a3e-2f0e4a0f3a52")
GROUP = UUID("c4a1b1de-90f3-4b57-b3d7-7d1e1f5a9e11")
TOKEN = UUID("6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
OWN_TOKEN = UUID("0d9f6a34-52c8-4f0d-8a41-1be5a7c30c77")
RELAY_USER = UUID("b7c30c77-1be5-4a41-8f0d-52c80d9f6a34")
ADMINISTRATOR = UUID("9a3e2f0e-4a0f-4a52-8f5e-5f4a2d9b4c01")
CLIENT = UUID("4f0d8a41-1be5-4c30-8c77-0d9f6a3452c8")
PROVIDER = UUID("d1e1f5a9-e11c-4a1b-9de9-0f34b57b3d77")
LOG_HOLD = UUID("1e0f57b3-d77d-4a5e-8190-c4a1b1de90f3")
SESSION = UUID("3a522f0e-4a0f-4a3e-8f5e-9b7c015f4a2d")
LINK = UUID("90f34b57-b3d7-4d1e-9f5a-c4a1b1de9e11")
REBUILD = UUID("7d1e1f5a-9e11-4b57-b3d7-90f3c4a1b1de")
READER = UUID("57b3d77d-1e1f-5a9e-9190-c4a1b1de90f3")


def mapper() -> Mapper[UUID]:
    """How events become bytes: the library's JSON, with ids as hex and instants as ISO 8601."""
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    return Mapper(transcoder)


EVENTS: tuple[Event[Any], ...] = (
    LogHold.Created(
        originator_id=LOG_HOLD,
        originator_version=1,
        timestamp=NOW,
        originator_topic=LogHold.TOPIC,
        backup_made_at=ISSUED,
        events=1234,
        by="root",
    ),
    LogHold.FoundOther(
        originator_id=LOG_HOLD,
        originator_version=1,
        timestamp=NOW,
        originator_topic=LogHold.TOPIC,
        known_number=1234,
        known_link="5f" * 32,
        number=1198,
        as_of=ISSUED,
        differs=False,
        by="worker",
    ),
    LogHold.Resumed(
        originator_id=LOG_HOLD,
        originator_version=2,
        timestamp=NOW,
        because="the lost host is switched off",
        by="administrator",
    ),
    Session.Created(
        originator_id=SESSION,
        originator_version=1,
        timestamp=NOW,
        originator_topic=Session.TOPIC,
        name="anna",
        roles=["administrator", "operator"],
        administrator_id=ADMINISTRATOR,
        address="192.0.2.7",
        by="administrator:anna",
    ),
    Session.Ended(
        originator_id=SESSION, originator_version=2, timestamp=NOW, reason="signed_out", by="administrator:anna"
    ),
    OneTimeLink.Created(
        originator_id=LINK,
        originator_version=1,
        timestamp=NOW,
        originator_topic=OneTimeLink.TOPIC,
        administrator_id=ADMINISTRATOR,
        expires_at=EXPIRES,
        by="administrator:anna",
    ),
    OneTimeLink.Used(originator_id=LINK, originator_version=2, timestamp=NOW, name="bob", by="link:administrator:anna"),
    OneTimeLink.Ended(originator_id=LINK, originator_version=2, timestamp=NOW, reason="expired", by="service"),
    Rebuild.Created(
        originator_id=REBUILD,
        originator_version=1,
        timestamp=NOW,
        originator_topic=Rebuild.TOPIC,
        events=1234,
        by="root",
    ),
    Machine.Created(
        originator_id=MACHINE,
        originator_version=1,
        timestamp=NOW,
        originator_topic=Machine.TOPIC,
        name="office-mfp",
        catalogue="sharp-bp",
        by="administrator",
    ),
    Machine.Renamed(
        originator_id=MACHINE,
        originator_version=2,
        timestamp=NOW,
        name="lobby-mfp",
        previous="office-mfp",
        by="administrator",
    ),
    Machine.Tagged(
        originator_id=MACHINE, originator_version=3, timestamp=NOW, tags=["floor-3", "hamburg"], by="administrator"
    ),
    Profile.MachineRenamed(
        originator_id=PROFILE,
        originator_version=2,
        timestamp=NOW,
        machine="lobby-mfp",
        previous="office-mfp",
        by="administrator",
    ),
    SmtpGroup.Renamed(originator_id=GROUP, originator_version=2, timestamp=NOW, name="lobby-mfp", by="administrator"),
    Token.ProviderRenamed(
        originator_id=TOKEN, originator_version=2, timestamp=NOW, provider="entra", by="administrator"
    ),
    Machine.Removed(originator_id=MACHINE, originator_version=2, timestamp=NOW, by="administrator"),
    Profile.Created(
        originator_id=PROFILE,
        originator_version=1,
        timestamp=NOW,
        originator_topic=Profile.TOPIC,
        machine_id=MACHINE,
        machine="office-mfp",
        setting="smtp-service",
        protocol="smtp",
        token_id=TOKEN,
        group_id=GROUP,
        by="administrator",
    ),
    Profile.Configured(
        originator_id=PROFILE,
        originator_version=2,
        timestamp=NOW,
        changes={
            "server": "smtp.office365.com",
            "port": 587,
            "tls": "starttls",
            "timeout": 20,
            "sender_name": "Büro 2. Stock",
            "sender_address": "scan@contoso.com",
            "provider": "contoso",
            "account": "scan@contoso.com",
            "mailbox": None,
        },
        by="administrator",
    ),
    Profile.TokenReceived(
        originator_id=PROFILE,
        originator_version=3,
        timestamp=NOW,
        token_id=TOKEN,
        generation=1,
        provider="contoso",
        account="scan@contoso.com",
        by="worker",
    ),
    Profile.TokenDeleted(
        originator_id=PROFILE, originator_version=4, timestamp=NOW, token_id=TOKEN, by="administrator"
    ),
    Profile.Linked(
        originator_id=PROFILE,
        originator_version=5,
        timestamp=NOW,
        group_id=GROUP,
        token_id=TOKEN,
        provider="contoso",
        account="scan@contoso.com",
        by="administrator",
    ),
    Profile.Unlinked(
        originator_id=PROFILE, originator_version=6, timestamp=NOW, token_id=OWN_TOKEN, by="administrator"
    ),
    Profile.Removed(originator_id=PROFILE, originator_version=7, timestamp=NOW, by="administrator"),
    SmtpGroup.Created(
        originator_id=GROUP,
        originator_version=1,
        timestamp=NOW,
        originator_topic=SmtpGroup.TOPIC,
        name="office-mfp",
        token_id=TOKEN,
        by="administrator",
    ),
    SmtpGroup.ProfileLinked(
        originator_id=GROUP, originator_version=2, timestamp=NOW, profile_id=PROFILE, by="administrator"
    ),
    SmtpGroup.ProfileUnlinked(
        originator_id=GROUP, originator_version=3, timestamp=NOW, profile_id=PROFILE, by="administrator"
    ),
    SmtpGroup.Dissolved(originator_id=GROUP, originator_version=4, timestamp=NOW, by="administrator"),
    RelayUser.Created(
        originator_id=RELAY_USER,
        originator_version=1,
        timestamp=NOW,
        originator_topic=RelayUser.TOPIC,
        name="Büro-drucker",
        by="administrator",
    ),
    RelayUser.Mapped(
        originator_id=RELAY_USER,
        originator_version=2,
        timestamp=NOW,
        protocol="smtp",
        profile_id=PROFILE,
        by="administrator",
    ),
    RelayUser.PasswordChanged(
        originator_id=RELAY_USER, originator_version=3, timestamp=NOW, password=1, by="administrator"
    ),
    RelayUser.NetworksChanged(
        originator_id=RELAY_USER,
        originator_version=4,
        timestamp=NOW,
        networks=["10.20.30.0/24", "2001:db8:1::/48"],
        by="administrator",
    ),
    RelayUser.Unmapped(
        originator_id=RELAY_USER, originator_version=5, timestamp=NOW, protocol="smtp", by="administrator"
    ),
    RelayUser.MessagesChanged(
        originator_id=RELAY_USER,
        originator_version=6,
        timestamp=NOW,
        sender="scan@contoso.com",
        normalize="crlf",
        by="administrator",
    ),
    RelayUser.Removed(originator_id=RELAY_USER, originator_version=7, timestamp=NOW, by="administrator"),
    Administrator.Created(
        originator_id=ADMINISTRATOR,
        originator_version=1,
        timestamp=NOW,
        originator_topic=Administrator.TOPIC,
        name="anna",
        roles=["administrator", "auditor"],
        by="link:service",
    ),
    Administrator.PasswordChanged(
        originator_id=ADMINISTRATOR, originator_version=2, timestamp=NOW, password=1, by="link:service"
    ),
    Administrator.RolesChanged(
        originator_id=ADMINISTRATOR, originator_version=3, timestamp=NOW, roles=["operator"], by="administrator:root"
    ),
    Administrator.SecondFactorEnrolled(
        originator_id=ADMINISTRATOR, originator_version=4, timestamp=NOW, second_factor=1, by="operator:anna"
    ),
    Administrator.RecoveryCodeUsed(
        originator_id=ADMINISTRATOR, originator_version=5, timestamp=NOW, code=7, by="operator:anna"
    ),
    Administrator.SecondFactorRemoved(
        originator_id=ADMINISTRATOR, originator_version=6, timestamp=NOW, by="operator:anna"
    ),
    Administrator.SecondFactorReset(
        originator_id=ADMINISTRATOR, originator_version=7, timestamp=NOW, by="administrator:root"
    ),
    Administrator.MachinesLimited(
        originator_id=ADMINISTRATOR,
        originator_version=8,
        timestamp=NOW,
        machines=["hamburg-*", "lobby"],
        by="administrator:root",
    ),
    Administrator.Removed(originator_id=ADMINISTRATOR, originator_version=4, timestamp=NOW, by="administrator:root"),
    ApiClient.Created(
        originator_id=CLIENT,
        originator_version=1,
        timestamp=NOW,
        originator_topic=ApiClient.TOPIC,
        name="backup",
        by="administrator:anna",
    ),
    ApiClient.KeyIssued(
        originator_id=CLIENT,
        originator_version=2,
        timestamp=NOW,
        key=1,
        key_id="mfrggzdfmztwq2lk",
        expires_at=EXPIRES,
        by="administrator:anna",
    ),
    ApiClient.Granted(
        originator_id=CLIENT, originator_version=3, timestamp=NOW, profile_id=PROFILE, by="administrator:anna"
    ),
    ApiClient.Revoked(
        originator_id=CLIENT, originator_version=4, timestamp=NOW, profile_id=PROFILE, by="administrator:anna"
    ),
    ApiClient.Removed(originator_id=CLIENT, originator_version=5, timestamp=NOW, by="administrator:anna"),
    StoredProvider.Created(
        originator_id=PROVIDER,
        originator_version=1,
        timestamp=NOW,
        originator_topic=StoredProvider.TOPIC,
        name="contoso",
        kind="microsoft",
        fields={"tenant": "contoso.com", "client_id": "6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01"},
        by="administrator:anna",
    ),
    StoredProvider.Changed(
        originator_id=PROVIDER,
        originator_version=2,
        timestamp=NOW,
        changes={"client_secret_expires": "2028-11-30", "scopes": ""},
        by="administrator:anna",
    ),
    StoredProvider.Renamed(
        originator_id=PROVIDER,
        originator_version=3,
        timestamp=NOW,
        name="entra",
        previous="contoso",
        by="administrator:anna",
    ),
    StoredProvider.SecretAwaited(
        originator_id=PROVIDER, originator_version=4, timestamp=NOW, secret="client_secret", by="administrator:anna"
    ),
    StoredProvider.SecretUploaded(
        originator_id=PROVIDER,
        originator_version=5,
        timestamp=NOW,
        secret="client_secret",
        number=1,
        by="administrator:anna",
    ),
    StoredProvider.SecretRemoved(
        originator_id=PROVIDER, originator_version=6, timestamp=NOW, secret="client_secret", by="administrator:anna"
    ),
    StoredProvider.Removed(originator_id=PROVIDER, originator_version=7, timestamp=NOW, by="administrator:anna"),
    Disclosure.Created(
        originator_id=READER,
        originator_version=1,
        timestamp=NOW,
        originator_topic=Disclosure.TOPIC,
        token_id=TOKEN,
        generation=1,
        profile="office-mfp/smtp-service",
        by="client:backup",
    ),
    Disclosure.HandedOut(
        originator_id=READER,
        originator_version=2,
        timestamp=NOW,
        generation=2,
        profile="office-mfp/smtp-service",
        by="client:backup",
    ),
    Token.Created(
        originator_id=TOKEN, originator_version=1, timestamp=NOW, originator_topic=Token.TOPIC, by="administrator"
    ),
    Token.AuthorizationRequested(
        originator_id=TOKEN,
        originator_version=2,
        timestamp=NOW,
        attempt_id="b3b8f6f0c0de4b0d9a55d3b7b0a1c2d3",
        ordinal=1,
        flow="device",
        profile="office-mfp/smtp-service",
        provider="contoso",
        account="scan@contoso.com",
        expires_at=EXPIRES,
        by="administrator",
    ),
    Token.AuthorizationEnded(
        originator_id=TOKEN,
        originator_version=3,
        timestamp=NOW,
        attempt_id="b3b8f6f0c0de4b0d9a55d3b7b0a1c2d3",
        reason="wrong_account",
        code=None,
        signed_in_as="bob@contoso.com",
        by="worker",
    ),
    Token.Retrieved(
        originator_id=TOKEN,
        originator_version=5,
        timestamp=NOW,
        attempt_id="b3b8f6f0c0de4b0d9a55d3b7b0a1c2d3",
        generation=1,
        flow="device",
        provider="contoso",
        account="scan@contoso.com",
        subject="00000000-0000-0000-66f3-3332eca7ea81",
        tenant="9122040d-6c67-4c5b-b112-36a304b66dad",
        scope="https://outlook.office.com/SMTP.Send offline_access",
        issued_at=ISSUED,
        expires_at=EXPIRES,
        renewable=True,
        grant_expires_at=None,
        by="worker",
    ),
    Token.Renewed(
        originator_id=TOKEN,
        originator_version=6,
        timestamp=NOW,
        attempt_id="5e0f9d1c2b3a4958677685949fa0b1c2",
        generation=2,
        scope="https://outlook.office.com/SMTP.Send offline_access",
        issued_at=ISSUED,
        expires_at=EXPIRES,
        renewable=True,
        grant_expires_at=GRANT_EXPIRES,
        by="worker",
    ),
    Token.RenewalWithheld(
        originator_id=TOKEN,
        originator_version=7,
        timestamp=NOW,
        attempt_id="0b8f0b3f9f0a4b7f9a2f6f3f0f1c9d11",
        signed_in_as="fax@contoso.com",
        by="worker",
    ),
    Token.GrantFoundDead(
        originator_id=TOKEN,
        originator_version=7,
        timestamp=NOW,
        generation=2,
        reason="invalid_grant",
        code="AADSTS700082",
        by="worker",
    ),
    Token.Deleted(originator_id=TOKEN, originator_version=8, timestamp=NOW, by="administrator"),
    Token.LateReplyDiscarded(
        originator_id=TOKEN,
        originator_version=9,
        timestamp=NOW,
        attempt_id="5e0f9d1c2b3a4958677685949fa0b1c2",
        by="worker",
    ),
    Token.Retired(originator_id=TOKEN, originator_version=10, timestamp=NOW, by="administrator"),
)

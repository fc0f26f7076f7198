"""What goes in and out of the API, with an example of each: the OpenAPI document is made of these.

Instants are ISO 8601 in UTC; null is "not filled in" or "there is none".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from domain.catalogue import Protocol

PROFILE = "office-mfp/smtp-service"
AT, UNTIL = "2026-11-22T09:30:00.000000+00:00", "2026-11-22T10:30:00.000000+00:00"


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair, which is no character") from None
    if "\0" in text:
        raise ValueError("it has the character NUL")
    return text


Text = Annotated[str, AfterValidator(_storable)]
"""A text that every store can keep."""

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def with_example(**example: Any) -> ConfigDict:
    """The configuration of a model that has no members but its own; the document shows the example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


# What is asked


class NewMachine(BaseModel):
    """A machine to add."""

    model_config = with_example(name="office-mfp", catalogue="sharp-bp")
    name: Text
    catalogue: Text = "generic"


class Linking(BaseModel):
    """The profiles to link: all of them or none."""

    model_config = with_example(profiles=[PROFILE, "press/smtp"])
    profiles: list[Text]


class GetToken(BaseModel):
    """How to get a token; by default as the provider does it. A browser comes back to `redirect_uri`."""

    model_config = with_example(flow="device")
    flow: Text | None = None
    redirect_uri: Text | None = None


class Redirect(BaseModel):
    """The whole URL that a browser was sent back to. It holds a code, so it is never part of our own URL."""

    model_config = with_example(redirected_to="http://localhost:8400/?code=0.AXoA&state=GTRlbmlnbWE")
    redirected_to: Text


class ConnectionTest(BaseModel):
    """Where to send a test message, if anywhere."""

    model_config = with_example(to="admin@contoso.com")
    to: Text | None = None


# What is answered


class Problem(BaseModel):
    """Why it was not done (RFC 9457): `detail` is the one line for the person who asked."""

    model_config = with_example(
        type="about:blank",
        title="Conflict",
        status=409,
        detail=f"{PROFILE}: the token is Retrieved: delete the token first (mailtoken token delete)",
    )
    type: str
    title: str
    status: int
    detail: str


class Health(BaseModel):
    """`ok` if the process answers, `ready` if its store does."""

    model_config = with_example(status="ok")
    status: Literal["ok", "ready"]


class Machine(BaseModel):
    """A machine and the catalogue that says which settings it has."""

    model_config = with_example(name="office-mfp", catalogue="sharp-bp")
    name: str
    catalogue: str


class AddedMachine(Machine):
    """The machine as it was added, with the profiles it has now."""

    model_config = with_example(name="office-mfp", catalogue="sharp-bp", profiles=[PROFILE, "office-mfp/pop-fax"])
    profiles: list[str]


class CatalogueSetting(BaseModel):
    """One place in a machine's menus that holds mail authentication. Linked ones share one token."""

    model_config = with_example(
        name="smtp-quick",
        protocol="smtp",
        menu_path="System Settings > Network Settings > Quick Settings",
        linked=True,
    )
    name: str
    protocol: str
    menu_path: str
    linked: bool


class Catalogue(BaseModel):
    """The mail settings of a machine model."""

    model_config = ConfigDict(extra="forbid")
    name: str
    settings: list[CatalogueSetting]


class Profile(BaseModel):
    """What a setting holds. `timeout` is in seconds, `check_interval` in minutes; `mailbox` is the SASL user."""

    model_config = with_example(
        profile=PROFILE,
        machine="office-mfp",
        setting="smtp-service",
        protocol="smtp",
        menu_path="System Settings > Network Settings > Service Settings > SMTP",
        group="office-mfp",
        server="smtp.office365.com",
        port=587,
        tls="starttls",
        timeout=20,
        sender_name="Scanner",
        sender_address="scan@contoso.com",
        check_interval=None,
        authentication="oauth2",
        provider="contoso",
        account="scan@contoso.com",
        mailbox="scan@contoso.com",
    )
    profile: str
    machine: str
    setting: str
    protocol: str
    menu_path: str
    group: str | None
    server: str | None
    port: int
    tls: str
    timeout: int
    sender_name: str | None
    sender_address: str | None
    check_interval: int | None
    authentication: str
    provider: str | None
    account: str | None
    mailbox: str | None


class Group(BaseModel):
    """An SMTP group, the label of its token, and the settings that share it."""

    model_config = with_example(
        name="office-mfp",
        token="Retrieved",  # noqa: S106 - the label of a state
        profiles=[PROFILE, "office-mfp/smtp-alert"],
    )
    name: str
    token: str
    profiles: list[str]


class Provider(BaseModel):
    """A provider of the configuration. `refused` are its client secrets that do not work, with the error of each."""

    model_config = with_example(
        name="contoso",
        kind="microsoft",
        authority="contoso.com",
        client_id="00000000-0000-0000-0000-000000000000",
        flows=["device", "browser", "app"],
        refused={"client secret 1": "AADSTS7000222"},
        callback="https://mailtoken.contoso.com:8443/callback",
    )
    name: str
    kind: str
    authority: str | None
    client_id: str
    flows: list[str]
    refused: dict[str, str]
    callback: str | None


class CheckItem(BaseModel):
    """One thing looked at; `remedy` says what to do."""

    model_config = ConfigDict(extra="forbid")
    name: str
    state: str
    detail: str
    remedy: str | None


class ProviderReport(BaseModel):
    """A registration seen from outside, the steps to set it up, and `host:port` for the firewall."""

    model_config = with_example(
        provider="contoso",
        items=[{"name": "discovery", "state": "ok", "detail": "the provider answers", "remedy": None}],
        steps=["Allow public client flows"],
        hosts=["login.microsoftonline.com:443"],
        ok=True,
    )
    provider: str
    items: list[CheckItem]
    steps: list[str]
    hosts: list[str]
    ok: bool


class Forecast(BaseModel):
    """What will end a token first, and when."""

    model_config = ConfigDict(extra="forbid")
    cause: str
    at: Instant


class Status(BaseModel):
    """What a setting displays under "Token", and why, since when, until when.

    `token` is one of the manual's labels, letter for letter. `attention` says why a person is needed.
    """

    model_config = with_example(
        profile=PROFILE,
        machine="office-mfp",
        setting="smtp-service",
        protocol="smtp",
        token="Retrieved",  # noqa: S106 - the label of a state
        group="office-mfp",
        provider="contoso",
        account="scan@contoso.com",
        mailbox="scan@contoso.com",
        since=AT,
        expires_at=UNTIL,
        reason=None,
        code=None,
        signed_in_as=None,
        attention=None,
        attempt_id=None,
        retrieved_by="5f0c6a1e9b0d4f5ea3d1c0a7a9be1e43",
        forecast=None,
    )
    profile: str
    machine: str
    setting: str
    protocol: str
    token: Literal["Not Retrieved", "Waiting for authorisation", "Retrieved", "Invalid"]
    group: str | None
    provider: str | None
    account: str | None
    mailbox: str | None
    since: Instant
    expires_at: Instant | None
    reason: str | None
    code: str | None
    signed_in_as: str | None
    attention: str | None
    attempt_id: str | None
    retrieved_by: str | None
    forecast: Forecast | None


class Attempt(BaseModel):
    """What the person who signs in needs; null where the flow has no such thing."""

    model_config = with_example(
        profile=PROFILE,
        flow="device",
        attempt_id="5f0c6a1e9b0d4f5ea3d1c0a7a9be1e43",
        user_code="F4KCX2TQ9",
        verification_uri="https://microsoft.com/devicelogin",
        verification_uri_complete=None,
        authorization_uri=None,
        expires_at=UNTIL,
    )
    profile: str
    flow: str
    attempt_id: str
    user_code: str | None
    verification_uri: str | None
    verification_uri_complete: str | None
    authorization_uri: str | None
    expires_at: Instant


class Deletion(BaseModel):
    """The settings that lost the token, and whether the provider was told to forget the grant."""

    model_config = with_example(profiles=[PROFILE, "office-mfp/smtp-alert"], revoked=True)
    profiles: list[str]
    revoked: bool


class DeletionPreview(BaseModel):
    """The settings that would lose the token, and those with a live token of their own for the same account.

    As long as there are any of these, the provider is not told to forget anything.
    """

    model_config = with_example(profiles=[PROFILE, "office-mfp/smtp-alert"], spared=["press/imap"])
    profiles: list[str]
    spared: list[str]


class AccessToken(BaseModel):
    """An access token for a mail client. `mailbox` is the SASL user."""

    model_config = with_example(
        access_token="EwBAA8l6BAAU",  # noqa: S106 - an example
        expires_at=UNTIL,
        account="scan@contoso.com",
        mailbox="scan@contoso.com",
        sasl=["XOAUTH2", "OAUTHBEARER"],
    )
    access_token: str
    expires_at: Instant
    account: str
    mailbox: str
    sasl: list[str]


class Step(BaseModel):
    """One step of a conversation with a mail server, with what it answered."""

    model_config = ConfigDict(extra="forbid")
    name: str
    ok: bool
    seconds: float
    detail: str


class Report(BaseModel):
    """A conversation step by step and its verdict; `reply` is the server's last reply when it refused."""

    model_config = with_example(
        profile=PROFILE,
        ok=True,
        fault="none",
        verdict="The mail server accepts the token.",
        reply=None,
        steps=[{"name": "connect", "ok": True, "seconds": 0.012, "detail": "smtp.office365.com:587"}],
    )
    profile: str
    ok: bool
    fault: str
    verdict: str
    reply: str | None
    steps: list[Step]


class Sending(BaseModel):
    """The setting that a message would go out through."""

    model_config = with_example(
        profile=PROFILE, sender_address="scan@contoso.com", sender_name="Scanner", local_mail_to=["admin@contoso.com"]
    )
    profile: str
    sender_address: str | None
    sender_name: str | None
    local_mail_to: list[str]


class Record(BaseModel):
    """One event of the log: what happened to which aggregate, when, and who did it. No secret is in `facts`."""

    model_config = with_example(
        position=17,
        at=AT,
        aggregate="Profile",
        id="3d6f0a86-4c39-4a6e-8b7e-1f3f9c1c2b55",
        version=2,
        event="Configured",
        by="administrator:root",
        profile=PROFILE,
        facts={"changes": {"port": 587}},
    )
    position: int
    at: Instant
    aggregate: str
    id: str
    version: int
    event: str
    by: str
    profile: str | None
    facts: dict[str, Any]


# A fleet in one file


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


Said = Annotated[Text, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "integer"]})]
"""What a field is to hold; an empty text clears it."""


class DeclaredSetting(BaseModel):
    """What a setting is to hold; fields that are not named stay as they are.

    `absent`: the machine is to have no such setting. `delete_token`: its token may be deleted first where that is in
    the way of a change.
    """

    model_config = with_example(server="smtp.office365.com", port=587, provider="contoso", account="scan@contoso.com")
    server: Said = ""
    port: Said = ""
    tls: Said = ""
    timeout: Said = ""
    sender_name: Said = ""
    sender_address: Said = ""
    check_interval: Said = ""
    authentication: Said = ""
    provider: Said = ""
    account: Said = ""
    mailbox: Said = ""
    absent: bool = False
    delete_token: bool = False


class DeclaredMachine(BaseModel):
    """A machine that is to be there, `generic` without a catalogue; or, if `absent`, that is not."""

    model_config = with_example(catalogue="sharp-bp", settings={"smtp-service": {"server": "smtp.office365.com"}})
    catalogue: Text | None = None
    settings: dict[Text, DeclaredSetting] = Field(default_factory=dict)
    absent: bool = False
    delete_token: bool = False


class Fleet(BaseModel):
    """What is to be so. What is not named stays as it is; groups and clients have exactly the profiles they name."""

    model_config = with_example(
        machines={
            "office-mfp": {
                "catalogue": "sharp-bp",
                "settings": {"smtp-service": {"server": "smtp.office365.com", "port": 587}},
            }
        },
        groups={"office-mfp": [PROFILE, "office-mfp/smtp-alert"]},
        clients={"backup": [PROFILE]},
    )
    machines: dict[Text, DeclaredMachine] = Field(default_factory=dict)
    groups: dict[Text, list[Text]] = Field(default_factory=dict)
    clients: dict[Text, list[Text]] = Field(default_factory=dict)


class Change(BaseModel):
    """One thing that has to change, or was changed: `change` says what, the other members what it concerns."""

    model_config = with_example(change="set fields", profile=PROFILE, before={"port": ""}, after={"port": "587"})
    change: str
    profile: str | None = None
    profiles: list[str] | None = None
    machine: str | None = None
    catalogue: str | None = None
    group: str | None = None
    client: str | None = None
    before: dict[str, str] | None = None
    after: dict[str, str] | None = None


class PlanRefusal(BaseModel):
    """Why the file can't be applied, and the keys that lead to where it says so."""

    model_config = with_example(
        place=["machines", "office-mfp", "settings", "smtp-service", "port"],
        why="'99999' is not a whole number from 1 to 65535",
    )
    place: list[str]
    why: str


class Plan(BaseModel):
    """What has to change, and in what order; with refusals nothing is. `fingerprint` tells one plan from another."""

    model_config = with_example(
        fingerprint="5a1f0c9be2",
        changes=[{"change": "add machine", "machine": "office-mfp", "catalogue": "sharp-bp"}],
        refusals=[],
    )
    fingerprint: str
    changes: list[Change]
    refusals: list[PlanRefusal]


# The relay


class NewRelayUser(BaseModel):
    """A relay user to add, with a password, networks or both, and the profiles to send and receive as."""

    model_config = with_example(name="crm@contoso.com", profiles=["press/smtp"], password="correct horse battery")  # noqa: S106 - an example
    name: Text
    profiles: list[Text]
    networks: list[Text] = Field(default_factory=list)
    password: SecretStr | None = None


class RelayPassword(BaseModel):
    """The password of a relay user from now on."""

    model_config = with_example(password="correct horse battery")  # noqa: S106 - an example
    password: SecretStr


class RelayProfiles(BaseModel):
    """The profiles a relay user sends and receives as, and no others: one for each protocol."""

    model_config = with_example(profiles=["press/smtp"])
    profiles: list[Text]


class RelayNetworks(BaseModel):
    """The networks from which a relay user needs no sign-in, and no others."""

    model_config = with_example(networks=["10.20.30.0/24", "2001:db8:1::/48"])
    networks: list[Text]


class RelaySignIn(BaseModel):
    """A client at `address` (an IP address) that wants in; by its network if user and password are null."""

    model_config = with_example(
        protocol="smtp",
        address="192.0.2.7",
        user="printers",
        password="correct horse battery",  # noqa: S106 - an example
    )
    protocol: Protocol
    address: str
    # Not Text: what nobody can be called is a wrong sign-in like every other.
    user: str | None = None
    password: SecretStr | None = None


class RelayRejection(BaseModel):
    """The mail server rejected the access token of this generation."""

    model_config = with_example(user="printers", protocol="smtp", profile="press/smtp", generation=1)
    user: str
    protocol: Protocol
    profile: str
    generation: int


class RelayUser(BaseModel):
    """A relay user, the profile of each protocol, the networks that let them in, and whether a password does."""

    model_config = with_example(
        name="printers", profiles={"smtp": "press/smtp"}, networks=["10.20.30.0/24"], password=True
    )
    name: str
    profiles: dict[str, str]
    networks: list[str]
    password: bool


class RelayAdmission(BaseModel):
    """Who was let in, where their mail goes, and the access token for there, which has this `generation`.

    `timeout` is in seconds; `mailbox` is the SASL user.
    """

    model_config = with_example(
        user="printers",
        profile="press/smtp",
        protocol="smtp",
        server="smtp.office365.com",
        port=587,
        tls="starttls",
        timeout=20,
        mailbox="scan@contoso.com",
        sender_address="scan@contoso.com",
        access_token="EwBAA8l6BAAU",  # noqa: S106 - an example
        expires_at=UNTIL,
        generation=1,
    )
    user: str
    profile: str
    protocol: str
    server: str
    port: int
    tls: str
    timeout: int
    mailbox: str
    sender_address: str | None
    access_token: str
    expires_at: Instant
    generation: int


class RelayServer(BaseModel):
    """A mail server that mail of relay users goes to, and how it is spoken to."""

    model_config = with_example(server="smtp.office365.com", port=587, tls="starttls", protocol="smtp")
    server: str
    port: int
    tls: str
    protocol: str

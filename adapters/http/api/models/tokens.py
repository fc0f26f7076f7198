"""Models of tokens, sign-ins and setting statuses."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from adapters.http.api.models.common import AT, PROFILE, UNTIL, Instant, Text, with_example


class GetToken(BaseModel):
    """The flow that gets a token, by default the provider's own. A browser comes back to `redirect_uri`.

    `account` is the account's address if it has changed, or if the account was made anew: the token takes it over.
    """

    model_config = with_example(flow="device")
    flow: Text | None = None
    redirect_uri: Text | None = None
    account: Text | None = None


class Redirect(BaseModel):
    """The whole URL that a browser was sent back to. It holds a code, so it is never part of our own URL."""

    model_config = with_example(redirected_to="http://localhost:8400/?code=0.AXoA&state=GTRlbmlnbWE")
    redirected_to: Text


class Forecast(BaseModel):
    """The cause that will end a token first, and the instant."""

    model_config = ConfigDict(extra="forbid")
    cause: str
    at: Instant


class ProviderReply(BaseModel):
    """The provider's last refusal in this run: its own words, made safe to display, and its ids for its support.

    They belong to `code`, and are shown beside a reason or an attention that has this code. `words` are for a person
    and never for a decision.
    """

    model_config = ConfigDict(extra="forbid")
    code: str
    words: str | None
    trace_id: str | None
    correlation_id: str | None


class Status(BaseModel):
    """The label that a setting displays under "Token", with its reason, its beginning and its end.

    `expires_at` is the end of the access token, or the deadline of the sign-in under way. `ends_at` is the end of the
    authorization, if it has a fixed one; a token that `renews_itself` has none. `missing` are the fields without which
    the setting can't be used for mail: a token that is Retrieved may still want a `server`.

    `token` is one of the manual's labels, letter for letter. `attention` is the reason why a person is needed, and
    `attention_code` the provider's error code behind it; `attention_setting` is the provider's key in the configuration
    to correct, where it is known; of one that is `provider_stored` the field or secret, without `_file`. `urgency` is
    `soon` while the token still works and will end unless a person acts. Settings with the same `cause` need one act of
    a person. `failures`: so many requests of the last sign-in failed in a row before its time was over.
    `provider_reply` is null after a restart, and once the token is retrieved or deleted.
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
        ends_at=None,
        renews_itself=True,
        missing=[],
        reason=None,
        code=None,
        signed_in_as=None,
        failures=0,
        attention=None,
        attention_code=None,
        attention_setting=None,
        provider_stored=False,
        urgency=None,
        cause=None,
        provider_reply=None,
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
    ends_at: Instant | None
    renews_itself: bool
    missing: list[str]
    reason: str | None
    code: str | None
    signed_in_as: str | None
    failures: int
    attention: str | None
    attention_code: str | None
    attention_setting: str | None
    provider_stored: bool
    urgency: Literal["now", "soon"] | None
    cause: str | None
    provider_reply: ProviderReply | None
    attempt_id: str | None
    retrieved_by: str | None
    forecast: Forecast | None


class ByUrgency(BaseModel):
    """Numbers by urgency: what does not work now, and what will soon end."""

    model_config = ConfigDict(extra="forbid")
    now: int
    soon: int


class AttentionCounts(BaseModel):
    """The number of causes for which a person is needed, and of the settings that they affect."""

    model_config = with_example(causes={"now": 0, "soon": 1}, settings={"now": 0, "soon": 398})
    causes: ByUrgency
    settings: ByUrgency


class Ending(BaseModel):
    """What ends on a day: tokens of `about`, a provider; its client secret; or the certificate of a table."""

    model_config = with_example(day="2026-12-30", cause="grant_ends", about="contoso", count=4)
    day: str
    cause: str
    about: str
    count: int


class MailDay(BaseModel):
    """The mail of a day."""

    model_config = with_example(day="2026-11-30", messages=120, refusals=1)
    day: str
    messages: int
    refusals: int


class NodeState(BaseModel):
    """A service of the store, and whether it reported in the last minutes."""

    model_config = with_example(name="mail-1", alive=True)
    name: str
    alive: bool


class Overview(BaseModel):
    """The state of everything at a glance."""

    model_config = with_example(
        tokens={"Retrieved": 300, "Invalid": 1, "Waiting for authorisation": 0, "Not Retrieved": 12},
        causes={"now": 1, "soon": 0},
        endings=[{"day": "2026-12-30", "cause": "grant_ends", "about": "contoso", "count": 4}],
        mail=[{"day": "2026-11-30", "messages": 120, "refusals": 1}],
        nodes=[{"name": "mail-1", "alive": True}],
    )
    tokens: dict[str, int]
    causes: ByUrgency
    endings: list[Ending]
    mail: list[MailDay]
    nodes: list[NodeState]


class Attempt(BaseModel):
    """The codes and addresses for the person who signs in; null where the flow has none."""

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
    """The settings that lost the token, and whether the grant was revoked at the provider."""

    model_config = with_example(profiles=[PROFILE, "office-mfp/smtp-alert"], revoked=True)
    profiles: list[str]
    revoked: bool


class DeletionPreview(BaseModel):
    """The settings that would lose the token, and those with a live token of their own for the same account.

    If there are any of the latter, the grant is not revoked at the provider.
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

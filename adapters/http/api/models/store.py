"""Models of the store as a whole."""

from __future__ import annotations

from pydantic import BaseModel, Field

from adapters.http.api.models.common import AT, Instant, Text, with_example


class Hold(BaseModel):
    """A hold of the store: while it lasts no provider is asked, so no token is renewed.

    `reason` is `restored`, `behind` (the log is shorter than a node has seen it) or `differs` (it is another log).
    `backup_made_at` is the instant of the restored backup, or of the last event of the log that was put back.
    """

    model_config = with_example(reason="restored", since=AT, backup_made_at=AT)
    reason: str
    since: Instant
    backup_made_at: Instant


class Certificate(BaseModel):
    """The end of a certificate of ours; `table` is the part of the configuration that names its file."""

    model_config = with_example(table="[server]", ends_at=AT, attention=None)
    table: str
    ends_at: Instant
    attention: str | None


class ProviderNeed(BaseModel):
    """A stored provider that needs a person; `secrets` are those that nobody has uploaded yet."""

    model_config = with_example(name="contoso", attention="provider_secret_missing", secrets=["client_secret"])
    name: str
    attention: str
    secrets: list[str]


class AlteredRow(BaseModel):
    """A row that something else than this program altered, so it is not used; `id` is that of its object."""

    model_config = with_example(table="profile", id="8f5e5f4a-2d9b-4c01-9a3e-2f0e4a0f3a52", name="office-mfp/smtp")
    table: str
    id: str
    name: str | None


class Store(BaseModel):
    """The hold, the last backup, the certificates, the rows that were altered, and the providers that need a person.

    `attention` has the codes of what needs a person.
    """

    model_config = with_example(
        hold=None, last_backup_at=AT, certificates=[], altered_rows=[], providers=[], attention=["backup_old"]
    )
    hold: Hold | None
    last_backup_at: Instant | None
    certificates: list[Certificate]
    altered_rows: list[AlteredRow]
    providers: list[ProviderNeed]
    attention: list[str]


class Resume(BaseModel):
    """Why the hold is lifted, for the log; a log that differs is used for a reason only."""

    model_config = with_example(because="the lost host is switched off")
    because: Text | None = Field(None, max_length=500)

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


class Store(BaseModel):
    """The hold, the last backup, and the certificates. `attention` has the codes of what needs a person."""

    model_config = with_example(hold=None, last_backup_at=AT, certificates=[], attention=["backup_old"])
    hold: Hold | None
    last_backup_at: Instant | None
    certificates: list[Certificate]
    attention: list[str]


class Resume(BaseModel):
    """Why the hold is lifted, for the log; a log that differs is used for a reason only."""

    model_config = with_example(because="the lost host is switched off")
    because: Text | None = Field(None, max_length=500)

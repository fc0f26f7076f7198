"""Types and examples that several models share.

Instants are ISO 8601 in UTC; null means "not filled in" or "none".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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
"""A text that every store can keep: UTF-8 without NUL."""

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def with_example(**example: Any) -> ConfigDict:
    """The configuration of a model that refuses unknown members; the OpenAPI document shows the example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class Problem(BaseModel):
    """Why a request was refused or failed (RFC 9457).

    `detail` is a sentence for a person. `code` is the same reason for a program, and `fields` are its facts by name.
    """

    model_config = with_example(
        type="about:blank",
        title="Not Found",
        status=404,
        detail="no profile is called 'office-mfp/fax'",
        code="profile_not_found",
        fields={"profile": "office-mfp/fax"},
    )
    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    code: str
    fields: dict[str, Any]

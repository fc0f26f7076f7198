"""Models of the document that `apply` takes and `export` gives, and of a plan."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, create_model

from adapters.http.api.models.common import PROFILE, Text, with_example
from domain.profile_fields import FIELDS
from domain.provider_fields import PROVIDER_FIELDS


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


FieldText = Annotated[Text, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "integer"]})]
"""The text that fills in a field, or a whole number; an empty text clears the field."""

_TEXTS: dict[str, Any] = dict.fromkeys(FIELDS, (FieldText, ""))
_FieldTexts = create_model("_FieldTexts", **_TEXTS)


class DeclaredSetting(_FieldTexts):  # type: ignore[misc, valid-type]  # its fields are those of the table
    """The wanted values of a setting; fields that are not named stay as they are.

    `absent`: the machine is to have no such setting. `delete_token`: if the setting's token prevents a change, the
    token may be deleted first.
    """

    model_config = with_example(server="smtp.office365.com", port=587, provider="contoso", account="scan@contoso.com")
    absent: bool = False
    delete_token: bool = False


class DeclaredMachine(BaseModel):
    """A machine to have, `generic` without a catalogue; with `absent`, a machine to remove.

    `tags` are all tags that it is to have; without them it keeps those that it has.
    """

    model_config = with_example(catalogue="sharp-bp", settings={"smtp-service": {"server": "smtp.office365.com"}})
    catalogue: Text | None = None
    settings: dict[Text, DeclaredSetting] = Field(default_factory=dict)
    absent: bool = False
    delete_token: bool = False
    tags: list[Text] | None = None


_PROVIDER_TEXTS: dict[str, Any] = dict.fromkeys(PROVIDER_FIELDS, (FieldText, ""))
_ProviderTexts = create_model("_ProviderTexts", **_PROVIDER_TEXTS)


class DeclaredProvider(_ProviderTexts):  # type: ignore[misc, valid-type]  # its fields are those of the table
    """A provider to have in the store; fields that are not named stay as they are.

    `secrets` names the secrets that it has: they are uploaded afterwards.
    """

    model_config = with_example(
        kind="microsoft", tenant="fabrikam.com", client_id="6f1c0d5e", secrets=["client_secret"]
    )
    kind: Text
    secrets: list[Text] = Field(default_factory=list)


class Fleet(BaseModel):
    """The wanted fleet. Whatever is not named stays as it is; groups and clients get exactly the profiles they name."""

    model_config = with_example(
        machines={
            "office-mfp": {
                "catalogue": "sharp-bp",
                "settings": {"smtp-service": {"server": "smtp.office365.com", "port": 587}},
            }
        },
        groups={"office-mfp": [PROFILE, "office-mfp/smtp-alert"]},
        clients={"backup": [PROFILE]},
        providers={"fabrikam": {"kind": "microsoft", "tenant": "fabrikam.com", "client_id": "6f1c0d5e"}},
    )
    machines: dict[Text, DeclaredMachine] = Field(default_factory=dict)
    groups: dict[Text, list[Text]] = Field(default_factory=dict)
    clients: dict[Text, list[Text]] = Field(default_factory=dict)
    providers: dict[Text, DeclaredProvider] = Field(default_factory=dict)


class Change(BaseModel):
    """A change, planned or made: `change` is its kind, the other members name the objects that it concerns."""

    model_config = with_example(change="set fields", profile=PROFILE, before={"port": ""}, after={"port": "587"})
    change: str
    profile: str | None = None
    profiles: list[str] | None = None
    machine: str | None = None
    catalogue: str | None = None
    tags_before: list[str] | None = None
    tags: list[str] | None = None
    group: str | None = None
    client: str | None = None
    provider: str | None = None
    kind: str | None = None
    secrets: list[str] | None = None
    before: dict[str, str] | None = None
    after: dict[str, str] | None = None


class PlanRefusal(BaseModel):
    """The reason why a part of the file can't be carried out, and the keys that lead to that part.

    `why` is the reason for a person, `code` and `fields` are the reason for a program.
    """

    model_config = with_example(
        place=["machines", "office-mfp", "settings", "smtp-service", "port"],
        why="'99999' is not a whole number from 1 to 65535",
        code="number_not_in_range",
        fields={"value": "99999", "lowest": 1, "highest": 65535},
    )
    place: list[str]
    why: str
    code: str
    fields: dict[str, Any]


class Plan(BaseModel):
    """The changes in their order; with a refusal none of them is made. `fingerprint` identifies the plan."""

    model_config = with_example(
        fingerprint="5a1f0c9be2",
        changes=[{"change": "add machine", "machine": "office-mfp", "catalogue": "sharp-bp"}],
        refusals=[],
    )
    fingerprint: str
    changes: list[Change]
    refusals: list[PlanRefusal]

"""Models of machines, catalogues, profiles and groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, create_model

from adapters.http.api.models.common import PROFILE, Text, with_example
from domain.machine import MOST_TAGS
from domain.profile_fields import FIELDS, Field, Settings


class NewMachine(BaseModel):
    """A machine to add."""

    model_config = with_example(name="office-mfp", catalogue="sharp-bp")
    name: Text
    catalogue: Text = "generic"


class NewName(BaseModel):
    """The new name of a machine or a provider."""

    model_config = with_example(name="lobby-mfp")
    name: Text


class Renamed(BaseModel):
    """The settings that follow, and the keys of the configuration that still have the old name."""

    model_config = with_example(profiles=["lobby-mfp/smtp-service"], stale=["[send] profile"])
    profiles: list[str]
    stale: list[str]


class Linking(BaseModel):
    """The profiles to link: all of them or none."""

    model_config = with_example(profiles=[PROFILE, "press/smtp"])
    profiles: list[Text]


class Tagging(BaseModel):
    """Tags to give to a machine, and tags to take away."""

    model_config = with_example(add=["hamburg", "floor-3"], remove=["new"])
    add: Annotated[list[Text], pydantic.Field(max_length=MOST_TAGS)] = []
    remove: Annotated[list[Text], pydantic.Field(max_length=MOST_TAGS)] = []


class Tags(BaseModel):
    """The tags of a machine, sorted."""

    model_config = with_example(tags=["floor-3", "hamburg"])
    tags: list[str]


class Machine(BaseModel):
    """A machine, its tags, and the catalogue that says which settings it has."""

    model_config = with_example(name="office-mfp", catalogue="sharp-bp", tags=["hamburg"])
    name: str
    catalogue: str
    tags: list[str] = []


class ListedMachine(Machine):
    """A machine of the list. `state` is the worst state of its settings; `attention` counts those that need a person.

    `last_mail` is the last day on which a mail server accepted a message; `ends_at` the first end of a grant within
    thirty days.
    """

    model_config = with_example(
        name="office-mfp",
        catalogue="sharp-bp",
        tags=["hamburg"],
        state="Retrieved",
        accounts=["scan@contoso.com"],
        last_mail="2026-11-30",
        ends_at=None,
        attention=0,
        settings=[PROFILE],
    )
    state: str
    accounts: list[str]
    last_mail: str | None
    ends_at: str | None
    attention: int
    settings: list[str]


class AddedMachine(Machine):
    """The machine as it was added, with the profiles it has now."""

    model_config = with_example(name="office-mfp", catalogue="sharp-bp", profiles=[PROFILE, "office-mfp/pop-fax"])
    profiles: list[str]


class CatalogueSetting(BaseModel):
    """One place in a machine's menus that holds mail authentication. Linked settings share one token."""

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


_EXAMPLE = Settings(
    server="smtp.office365.com",
    port=587,
    sender_name="Scanner",
    sender_address="scan@contoso.com",
    provider="contoso",
    account="scan@contoso.com",
    mailbox="scan@contoso.com",
)


class ProfileHead(BaseModel):
    """The members of a profile besides its fields."""

    profile: str
    machine: str
    setting: str
    protocol: str
    menu_path: str
    group: str | None


def _type_in_answers(field: Field) -> Any:
    """A field's type in answers. `port` is never null: a setting without a port of its own uses the protocol's."""
    python_type = field.type.python_type
    return python_type if field.default is not None or field.name == "port" else python_type | None


_VALUES: dict[str, Any] = {name: (_type_in_answers(field), ...) for name, field in FIELDS.items()}
_ProfileFields = create_model("_ProfileFields", __base__=ProfileHead, **_VALUES)


class Profile(_ProfileFields):  # type: ignore[misc, valid-type]  # its fields are those of the table
    """The values of a setting. `timeout` is in seconds, `check_interval` in minutes; `mailbox` is the SASL user."""

    model_config = with_example(
        profile=PROFILE,
        machine="office-mfp",
        setting="smtp-service",
        protocol="smtp",
        menu_path="System Settings > Network Settings > Service Settings > SMTP",
        group="office-mfp",
        **asdict(_EXAMPLE),
    )


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

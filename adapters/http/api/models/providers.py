"""Models of providers and the checks of their registrations."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from adapters.http.api.models.common import Text, with_example

_FIELDS = {"tenant": "contoso.com", "client_id": "00000000-0000-0000-0000-000000000000"}


class NewProvider(BaseModel):
    """A provider to add to the store. Answers name its secrets, and never have them."""

    model_config = with_example(
        name="contoso", kind="microsoft", fields=_FIELDS, secrets={"client_secret": "the secret's value"}
    )
    name: Text
    kind: Text
    fields: dict[Text, Text]
    secrets: dict[Text, Text] = {}


class ProviderChanges(BaseModel):
    """Fields and secrets to change; an empty text clears a field, and null removes a secret."""

    model_config = with_example(fields={"timeout": "20"}, secrets={"client_secret": "the new secret's value"})
    fields: dict[Text, Text] = {}
    secrets: dict[Text, Text | None] = {}


class Provider(BaseModel):
    """A provider of the configuration file, or one that is `stored`.

    `refused` are the client secrets that it rejects, with the error of each.
    """

    model_config = with_example(
        name="contoso",
        kind="microsoft",
        authority="contoso.com",
        client_id="00000000-0000-0000-0000-000000000000",
        flows=["device", "browser", "app"],
        refused={"client secret 1": "AADSTS7000222"},
        callback="https://mailtoken.contoso.com:8443/callback",
        stored=False,
    )
    name: str
    kind: str
    authority: str | None
    client_id: str
    flows: list[str]
    refused: dict[str, str]
    callback: str | None
    stored: bool


class StoredSecret(BaseModel):
    """A secret of a stored provider; one that is not `uploaded` is awaited."""

    model_config = with_example(name="client_secret", uploaded=True)
    name: str
    uploaded: bool


class StoredProvider(BaseModel):
    """A provider in the store: the fields that are filled in, and the names of its secrets.

    `in_use` is false while the configuration file has a provider of the same name, or the provider can't be used.
    """

    model_config = with_example(
        name="contoso",
        kind="microsoft",
        fields=_FIELDS,
        secrets=[{"name": "client_secret", "uploaded": True}],
        in_use=True,
    )
    name: str
    kind: str
    fields: dict[str, str]
    secrets: list[StoredSecret]
    in_use: bool


class CheckItem(BaseModel):
    """One finding of a check; `remedy` is the next step. The sentences are made from the codes and `fields`."""

    model_config = ConfigDict(extra="forbid")
    name: str
    state: str
    detail: str
    remedy: str | None
    code: str
    remedy_code: str | None
    fields: dict[str, Any]


class SetupStep(BaseModel):
    """A step to set a registration up, as a code and the facts of its sentence."""

    model_config = ConfigDict(extra="forbid")
    code: str
    fields: dict[str, Any]


class ProviderReport(BaseModel):
    """The findings of a check, the steps to set the registration up, and each `host:port` for the firewall."""

    model_config = with_example(
        provider="contoso",
        items=[
            {
                "name": "clock",
                "state": "ok",
                "detail": "1 seconds behind the provider's",
                "remedy": None,
                "code": "clock_behind",
                "remedy_code": None,
                "fields": {"seconds": 1},
            }
        ],
        steps=["Authentication > Allow public client flows: Yes (for the device code flow without a secret)."],
        step_codes=[{"code": "entra_public_flows", "fields": {}}],
        hosts=["login.microsoftonline.com:443"],
        ok=True,
    )
    provider: str
    items: list[CheckItem]
    steps: list[str]
    step_codes: list[SetupStep]
    hosts: list[str]
    ok: bool

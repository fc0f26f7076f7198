"""The providers of the configuration file and of the store, and the checks of their registrations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from adapters.http.api.etags import IfMatch, quoted
from adapters.http.api.models import providers as models
from adapters.http.api.models.settings import NewName, Renamed
from adapters.http.api.openapi import api_router
from adapters.http.api.path_names import Name
from adapters.http.principal import AdministratorRole, OperatorRole, OperatorScope, ReaderRole
from adapters.providers.settings import ProviderSettings, provider_settings
from adapters.providers.stored import stored_provider_settings
from adapters.texts.provider_check import finding_text, remedy_text, step_text, subject_text
from adapters.texts.wording import Surface
from domain.errors import NotFound
from domain.scope import Scope
from domain.secret import Secret
from infrastructure.config.stale_names import names_of_provider
from infrastructure.service import Service
from infrastructure.store.stored_provider_rows import StoredProviderRow

if TYPE_CHECKING:
    from adapters.providers.check_report import ProviderReport


def router(service: Service) -> APIRouter:
    """The routes of providers."""
    router = api_router(prefix="/api/v1", tags=["providers"])
    _add_routes_of_all(router, service)
    _add_routes_of_stored(router, service)
    return router


def _add_routes_of_all(router: APIRouter, service: Service) -> None:
    config = service.config

    @router.get("/providers", response_model=list[models.Provider])
    def providers(_: ReaderRole) -> list[dict[str, Any]]:
        """Every provider, of the configuration file and of the store."""
        faults = service.tokens.client_faults()
        callback = config.server.callback and config.server.callback.url
        return [
            {
                "name": one.name,
                "kind": one.kind,
                "authority": one.authority,
                "client_id": one.client_id,
                "flows": list(service.tokens.flows(one.name)),
                "refused": faults[one.name],
                "callback": callback,
                "stored": one.is_stored,
            }
            for one in listed_providers(service)
        ]

    @router.post("/providers/{name}/check", response_model=models.ProviderReport)
    def check(name: Name, _: OperatorRole, scope: OperatorScope) -> dict[str, Any]:
        """Check this service's registration at a provider from outside."""
        uris = (config.server.callback.url,) if config.server.callback else ()
        return _as_json(check_registration(service, name, scope, *uris, "http://localhost"))

    @router.post("/providers/{name}/rename", response_model=Renamed)
    def rename(name: Name, body: NewName, by: AdministratorRole) -> dict[str, Any]:
        """Rename a stored provider, or have settings and tokens follow a provider that has the new name already."""
        if body.name not in service.providers and any(row.state.name == name for row in service.providers.stored):
            profiles = service.stored_providers.rename(name, body.name, by)
        else:
            profiles = service.settings.rename_provider(name, body.name, by)
        return {"profiles": profiles, "stale": names_of_provider(config, name)}


def _add_routes_of_stored(router: APIRouter, service: Service) -> None:
    stored = service.stored_providers

    @router.post("/providers", status_code=201, response_model=models.StoredProvider)
    def add(body: models.NewProvider, by: AdministratorRole, response: Response) -> dict[str, Any]:
        """Add a provider to the store; it is used at once."""
        secrets = {name: Secret(value) for name, value in body.secrets.items()}
        return _stored_json(service, stored.add(body.name, body.kind, body.fields, secrets, by), response)

    @router.get("/providers/{name}", response_model=models.StoredProvider)
    def show(name: Name, _: ReaderRole, response: Response) -> dict[str, Any]:
        """A provider in the store, without its secrets."""
        return _stored_json(service, stored.find(name), response)

    @router.patch("/providers/{name}", response_model=models.StoredProvider)
    def change(
        name: Name, body: models.ProviderChanges, by: AdministratorRole, only_if: IfMatch, response: Response
    ) -> dict[str, Any]:
        """Change fields and secrets of a provider in the store. A changed registration ends sign-ins under way."""
        secrets = {one: None if value is None else Secret(value) for one, value in body.secrets.items()}
        return _stored_json(service, stored.change(name, body.fields, secrets, by, only_if), response)

    @router.delete("/providers/{name}", status_code=204)
    def remove(name: Name, by: AdministratorRole, only_if: IfMatch) -> None:
        """Remove a provider from the store with its secrets; refused while settings or tokens have it."""
        stored.remove(name, by, only_if)


@dataclass(frozen=True)
class ListedProvider:
    """A provider that is in use, of the configuration file or of the store."""

    name: str
    kind: str
    authority: str | None
    client_id: str
    client_secret_expires_at: datetime | None
    is_stored: bool


def listed_providers(service: Service) -> list[ListedProvider]:
    """Every provider that is in use, in the order of their names."""
    expiries = service.providers.client_secrets_expire_at
    of_file = [
        ListedProvider(name, table.kind, table.issuer or table.tenant, table.client_id, expiries[name], False)
        for name, table in service.config.providers.items()
    ]
    states = [row.state for row in service.providers.stored if service.providers.is_in_use(row.state.name)]
    stored = [
        ListedProvider(
            state.name,
            state.kind,
            state.fields.get("issuer") or state.fields.get("tenant"),
            state.fields["client_id"],
            expiries[state.name],
            True,
        )
        for state in states
    ]
    return sorted([*of_file, *stored], key=lambda one: one.name)


def _stored_json(service: Service, row: StoredProviderRow, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = quoted(row.edition)
    state = row.state
    return {
        "name": state.name,
        "kind": state.kind,
        "fields": dict(state.fields),
        "secrets": [{"name": one, "uploaded": one not in state.awaited} for one in sorted(state.secrets)],
        "in_use": service.providers.is_in_use(state.name),
    }


def _as_json(report: ProviderReport) -> dict[str, Any]:
    """The report with the sentences of the API, and the codes and facts from which a client makes its own."""
    return {
        "provider": report.provider,
        "items": [
            {
                "name": subject_text(item.subject, item.fields),
                "state": item.state,
                "detail": finding_text(item.code, item.fields, Surface.API),
                "remedy": remedy_text(item.remedy, item.fields, Surface.API) if item.remedy else None,
                "code": item.code,
                "remedy_code": item.remedy,
                "fields": item.fields,
            }
            for item in report.items
        ],
        "steps": [step_text(step.code, step.fields, Surface.API) for step in report.steps],
        "step_codes": [asdict(step) for step in report.steps],
        "hosts": list(report.hosts),
        "ok": report.ok,
    }


def check_registration(service: Service, name: str, scope: Scope, *redirect_uris: str) -> ProviderReport:
    """The check of this service's registration at a provider from outside, with the mailboxes that settings name.

    Only the mailboxes of machines in `scope` are looked at. The steps to set it up have these redirect URIs.

    Raises:
        NotFound: there is no such provider.
        Refused: the store is on hold.
    """
    from adapters.providers.registration_check import check_provider

    settings = _settings_of(service, name)
    service.tokens.holds.check()
    profiles = [one for one in service.settings.profiles() if scope.has_machine(one.machine)]
    mailboxes = {p.mailbox for p in profiles if p.settings.provider == name and p.mailbox}
    return check_provider(settings, service.clock, sorted(mailboxes), redirect_uris=redirect_uris)


def _settings_of(service: Service, name: str) -> ProviderSettings:
    config = service.config
    if table := config.providers.get(name):
        return provider_settings(config, name, table)
    if not service.providers.is_in_use(name):
        raise NotFound("provider_not_configured", provider=name, configured=list(service.providers))
    return stored_provider_settings(config, *service.stored_providers.registration(name))

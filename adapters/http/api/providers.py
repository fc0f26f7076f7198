"""The providers of the configuration, and the checks of their registrations."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from adapters.http.api.models import providers as models
from adapters.http.api.models.settings import NewName, Renamed
from adapters.http.api.openapi import api_router
from adapters.http.api.path_names import Name
from adapters.http.principal import AdministratorRole, OperatorRole, ReaderRole
from adapters.providers.settings import provider_settings
from adapters.texts.provider_check import finding_text, remedy_text, step_text, subject_text
from adapters.texts.wording import Surface
from domain.errors import NotFound
from infrastructure.config.stale_names import names_of_provider
from infrastructure.service import Service

if TYPE_CHECKING:
    from adapters.providers.check_report import ProviderReport


def router(service: Service) -> APIRouter:
    """The routes of providers."""
    router, config = api_router(prefix="/api/v1", tags=["providers"]), service.config

    @router.get("/providers", response_model=list[models.Provider])
    def providers(_: ReaderRole) -> list[dict[str, Any]]:
        """Every provider of the configuration."""
        faults = service.tokens.client_faults()
        return [
            {
                "name": name,
                "kind": table.kind,
                "authority": table.issuer or table.tenant,
                "client_id": table.client_id,
                "flows": list(service.tokens.flows(name)),
                "refused": faults[name],
                "callback": config.server.callback and config.server.callback.url,
            }
            for name, table in sorted(config.providers.items())
        ]

    @router.post("/providers/{name}/check", response_model=models.ProviderReport)
    def check(name: Name, _: OperatorRole) -> dict[str, Any]:
        """Check this service's registration at a provider from outside."""
        return _as_json(check_registration(service, name))

    @router.post("/providers/{name}/rename", response_model=Renamed)
    def rename(name: Name, body: NewName, by: AdministratorRole) -> dict[str, Any]:
        """Have settings and tokens follow a provider that has the new name in the configuration already."""
        profiles = service.settings.rename_provider(name, body.name, by)
        return {"profiles": profiles, "stale": names_of_provider(config, name)}

    return router


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


def check_registration(service: Service, name: str) -> ProviderReport:
    """The check of this service's registration at a provider from outside, with the mailboxes that settings name.

    Raises:
        NotFound: the configuration has no such provider.
        Refused: the store is on hold.
    """
    from adapters.providers.registration_check import check_provider

    config = service.config
    table = config.providers.get(name)
    if table is None:
        raise NotFound("provider_not_configured", provider=name, configured=list(config.providers))
    service.tokens.holds.check()
    profiles = service.settings.profiles()
    mailboxes = {p.mailbox for p in profiles if p.settings.provider == name and p.mailbox}
    return check_provider(provider_settings(config, name, table), service.clock, sorted(mailboxes))

"""Providers: the authorization servers of the configuration, and what can be seen of each registration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Response

from adapters.bootstrap import Service
from adapters.http.naming import Name
from adapters.http.providers import check_registration
from adapters.web.visits import Operating, Reading, page_router
from infrastructure.config import ProviderTable


@dataclass(frozen=True)
class ShownProvider:
    """A provider; `refused` are its client secrets that do not work, with the code it gave for each."""

    name: str
    table: ProviderTable
    flows: tuple[str, ...]
    refused: dict[str, str]
    settings: int
    client_secret_expires_at: datetime | None


def provider_pages(service: Service) -> APIRouter:
    """The list, and the check of one."""
    router = page_router()

    @router.get("/providers")
    def providers(visit: Reading) -> Response:
        faults = service.tokens.client_faults()
        used = service.fleet.settings_by_provider()
        shown = [
            ShownProvider(
                name,
                table,
                tuple(service.tokens.flows(name)),
                faults[name],
                used.get(name, 0),
                table.client_secret_expires_at,
            )
            for name, table in sorted(service.config.providers.items())
        ]
        return visit.page("providers.html", providers=shown, now=service.clock.now())

    @router.post("/providers/{name}/check")
    def check(name: Name, visit: Operating) -> Response:
        return visit.page("provider_check.html", report=check_registration(service, name))

    return router

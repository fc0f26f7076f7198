"""The providers of the configuration, and what is wrong with them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from adapters.bootstrap import Service, provider_settings
from adapters.http import models
from adapters.http.callers import Operator, Reader
from adapters.http.naming import Name
from domain.errors import NotFound

if TYPE_CHECKING:
    from adapters.providers.check import ProviderReport


def router(service: Service) -> APIRouter:
    """The routes of providers."""
    router, config = APIRouter(prefix="/api/v1", tags=["providers"]), service.config

    @router.get("/providers", response_model=list[models.Provider])
    def providers(_: Reader) -> list[dict[str, Any]]:
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
    def check(name: Name, _: Operator) -> dict[str, Any]:
        """Look at our registration at a provider from outside."""
        report = check_registration(service, name)
        return {**asdict(report), "ok": report.ok}

    return router


def check_registration(service: Service, name: str) -> ProviderReport:
    """What can be seen from outside of our registration at a provider, with the mailboxes that settings name.

    Raises:
        NotFound: the configuration has no such provider.
    """
    from adapters.providers.check import check_provider

    config = service.config
    table = config.providers.get(name)
    if table is None:
        known = ", ".join(config.providers) or "none"
        raise NotFound(f"no provider is called {name!r}; the configuration has: {known}")
    profiles = service.settings.profiles()
    mailboxes = {p.mailbox for p in profiles if p.settings.provider == name and p.mailbox}
    return check_provider(provider_settings(config, name, table), service.clock, sorted(mailboxes))

"""The installation as a whole: its hold, its last backup and the ends of its certificates."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from adapters.http.api.models import store as models
from adapters.http.api.openapi import api_router
from adapters.http.principal import AdministratorRole, ReaderRole, ReaderScope
from infrastructure.service import Service


def router(service: Service) -> APIRouter:
    """The routes of the store."""
    router = api_router(prefix="/api/v1/store", tags=["store"])

    @router.get("", response_model=models.Store)
    def state(_: ReaderRole, scope: ReaderScope) -> dict[str, Any]:
        """Whether the store is on hold, how old the last backup is, and when each certificate ends."""
        return service.store_state.now().within(scope).as_json()

    @router.post("/resume", response_model=models.Store)
    def resume(body: models.Resume, by: AdministratorRole) -> dict[str, Any]:
        """Lift the hold of a store that was restored or put back, so that tokens are renewed again."""
        service.tokens.holds.resume(body.because, by)
        return service.store_state.now().as_json()

    return router

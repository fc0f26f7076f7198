"""Whether the service is there: for whoever watches it, so nobody has to say who they are."""

from __future__ import annotations

from fastapi import APIRouter

from adapters.http import models
from infrastructure.store import Store


def router(store: Store) -> APIRouter:
    """`/healthz` and `/readyz`."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=models.Health)
    def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @router.get("/readyz", response_model=models.Health)
    def readyz() -> dict[str, str]:
        """Whether the store answers."""
        with store.reading() as query:
            query.rows("SELECT 1 AS one")
        return {"status": "ready"}

    return router

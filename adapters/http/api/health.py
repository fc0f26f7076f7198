"""The health of the service, for monitoring; these routes need no authentication, so their answers have no details."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from eventsourcing.persistence import PersistenceError
from fastapi import APIRouter

from adapters import descriptors
from adapters.http.api.models import health as models
from adapters.http.api.openapi import api_router
from domain.errors import Unreachable
from infrastructure.ticker import Ticker

log = structlog.get_logger("mailtoken")


def router(tickers: Sequence[Ticker], check_storage: Callable[[], None]) -> APIRouter:
    """`/healthz` and `/readyz`."""
    router = api_router(tags=["health"])

    @router.get("/healthz", response_model=models.Health)
    def healthz() -> dict[str, str]:
        """Whether the process does its work: every worker is alive, and files can be opened."""
        dead = [ticker.name for ticker in tickers if ticker.is_dead]
        if dead:
            raise Unreachable("workers_dead", workers=dead)
        if not descriptors.are_left():
            log.error("not_healthy", why="descriptors_few")
            raise Unreachable("descriptors_few")
        return {"status": "ok"}

    @router.get("/readyz", response_model=models.Health)
    def readyz() -> dict[str, str]:
        """Whether a token could be stored now."""
        try:
            check_storage()
        except (PersistenceError, Unreachable, OSError) as error:
            log.error("not_ready", error=str(error))
            raise Unreachable("not_ready") from None
        return {"status": "ready"}

    return router

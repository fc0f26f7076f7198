"""The health of the service, for monitoring; these routes need no authentication, so their answers have no details."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence

import structlog
from eventsourcing.persistence import PersistenceError
from fastapi import APIRouter

from adapters.http.api.models import health as models
from adapters.http.api.openapi import api_router
from domain.errors import Unreachable
from infrastructure.ticker import Ticker

log = structlog.get_logger("mailtoken")

_SPARE_DESCRIPTORS = 16


def router(tickers: Sequence[Ticker], check_storage: Callable[[], None]) -> APIRouter:
    """`/healthz` and `/readyz`."""
    router = api_router(tags=["health"])

    @router.get("/healthz", response_model=models.Health)
    def healthz() -> dict[str, str]:
        """Whether the process does its work: every worker is alive, and files can be opened."""
        dead = [ticker.name for ticker in tickers if ticker.is_dead]
        if dead:
            raise Unreachable("workers_dead", workers=dead)
        if not _has_descriptors():
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


def _has_descriptors() -> bool:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        return most == resource.RLIM_INFINITY or len(os.listdir("/proc/self/fd")) + _SPARE_DESCRIPTORS <= most
    except FileNotFoundError:  # there is no /proc
        return True
    except OSError:
        return False

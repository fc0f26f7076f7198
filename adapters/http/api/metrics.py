"""`/metrics`, in the text format of Prometheus, for auditors and for the addresses in the configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from adapters.http.api.openapi import api_router
from adapters.http.middleware.forwarded import Forwarded
from adapters.http.principal import AUDITOR, CurrentPrincipal
from infrastructure.queries.metrics import Metrics
from infrastructure.service import Service

_EXAMPLE = 'mailtoken_tokens{state="Retrieved"} 42.0\n'


def metrics_of(service: Service) -> Metrics:
    """The metrics of this service."""
    tokens = service.tokens
    return Metrics(
        service.events,
        service.attention,
        service.attention_query.counts,
        tokens.counters,
        service.clock,
        service.store_state,
        tokens.waits,
        service.tickers,
    )


def router(metrics: Metrics, networks: Sequence[str]) -> APIRouter:
    """The route; a request from one of `networks` needs no authentication."""
    router, trusted = api_router(tags=["health"]), tuple(map(ipaddress.ip_network, networks))

    def is_trusted(request: Request) -> bool:
        forwarded: Forwarded | None = getattr(request.state, "forwarded", None)
        try:
            return forwarded is not None and any(ipaddress.ip_address(forwarded.address) in one for one in trusted)
        except ValueError:
            return False

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}},
    )
    def read(request: Request, principal: CurrentPrincipal) -> Response:
        """Tokens by state, renewals by provider, waits, faults by kind, and the next expiries; no names."""
        if not is_trusted(request):
            principal.require_every_machine(AUDITOR)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router

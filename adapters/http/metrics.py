"""`/metrics`, in the text format of Prometheus: for auditors, and for the addresses that the configuration names."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from adapters.http.callers import AUDITOR, AnyCaller
from adapters.http.origins import Origin
from infrastructure.metrics import Metrics

_EXAMPLE = 'mailtoken_tokens{state="Retrieved"} 42.0\n'


def router(metrics: Metrics, networks: Sequence[str]) -> APIRouter:
    """The route; whoever asks from `networks` need not say who they are."""
    router, trusted = APIRouter(tags=["health"]), tuple(map(ipaddress.ip_network, networks))

    def is_trusted(request: Request) -> bool:
        origin: Origin | None = getattr(request.state, "origin", None)
        try:
            return origin is not None and any(ipaddress.ip_address(origin.address) in one for one in trusted)
        except ValueError:
            return False

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}},
    )
    def read(request: Request, caller: AnyCaller) -> Response:
        """Tokens by state, renewals and failures by provider, hand-outs, and what ends next; nobody is named."""
        if not is_trusted(request):
            caller.acting_as(AUDITOR)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router

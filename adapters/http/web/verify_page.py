"""The page Verify: whether the log and what is stored beside it are as they were written, with progress."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from adapters.http.principal import AUDITOR
from adapters.http.web.page_route import Auditing, page_router, redirect
from adapters.texts.audit_findings import finding_text
from infrastructure.service import Service

VERIFY = "/verify"
_SHOWN = 200
"""The most findings that the page shows."""


def verify_page(service: Service) -> APIRouter:
    """The routes of the page."""
    router, verifier = page_router(), service.verifier

    @router.get(VERIFY)
    def show(page_request: Auditing) -> Response:
        page_request.session.principal.require_every_machine(AUDITOR)
        return page_request.render("verify.html", **_state(service))

    @router.get(f"{VERIFY}/state")
    def state(page_request: Auditing) -> Response:
        page_request.session.principal.require_every_machine(AUDITOR)
        return HTMLResponse(page_request.render_part("_verify.html", **_state(service)))

    @router.post(VERIFY)
    def begin(page_request: Auditing) -> Response:
        verifier.begin(page_request.session.principal.require_every_machine(AUDITOR))
        return redirect(VERIFY)

    return router


def _state(service: Service) -> dict[str, Any]:
    run = service.verifier.last
    findings = run.result.findings if run and run.result else ()
    return {
        "run": run,
        "now": service.clock.now(),
        "findings": [(one.index, finding_text(one)) for one in findings[:_SHOWN]],
        "more": max(0, len(findings) - _SHOWN),
    }

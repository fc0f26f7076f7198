"""The manual's buttons: [Get Token], [Delete] and [Connection test], each with its confirmation; renew and cancel."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse

from adapters import texts
from adapters.bootstrap import Service
from adapters.http.callers import OPERATOR
from adapters.http.naming import ProfileName
from adapters.web.attempts import attempt_state
from adapters.web.qr import qr_code
from adapters.web.shown import shown_token
from adapters.web.visits import Operating, Posted, Visit, page_router, said, see, setting_path
from domain.errors import InvalidValue

LOOPBACK = "http://localhost"
"""Where a browser comes back to if the service has no address of its own: the person pastes where it ended."""

AttemptId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


def token_pages(service: Service) -> APIRouter:
    """What an operator does with the token of a setting."""
    router, tokens = page_router(), service.tokens
    setting, attempt = "/settings/{machine}/{setting}", "/settings/{machine}/{setting}/attempts/{attempt_id}"

    @router.get(f"{setting}/get-token")
    def getting(name: ProfileName, visit: Operating) -> Response:
        found = service.fleet.setting(name)
        profile = found.setting.status.profile
        missing = [field for field in ("provider", "account") if not getattr(profile.settings, field)]
        provider = profile.settings.provider
        return visit.page(
            "get_token.html",
            profile=profile,
            path=setting_path(name),
            token=shown_token(found.setting),
            linked=[one.profile.name for one in found.linked],
            missing=missing,
            flows=tokens.flows(provider) if provider else (),
            now=service.clock.now(),
        )

    @router.post(f"{setting}/get-token")
    def get_token(name: ProfileName, visit: Operating, form: Posted) -> Response:
        callback = service.config.server.callback
        flow = form.get("flow") or None
        redirect_uri = callback.url if callback else LOOPBACK
        started = tokens.request(name, flow, visit.by(OPERATOR), redirect_uri if flow == "browser" else None)
        service.worker.wake()
        return see(f"{setting_path(name)}/attempts/{started.attempt_id}")

    @router.get(attempt)
    def attempting(name: ProfileName, attempt_id: AttemptId, visit: Operating) -> Response:
        return _attempt_page(visit, name, attempt_id)

    def _attempt_page(visit: Visit, name: str, attempt_id: str, problem: str | None = None) -> Response:
        found = service.fleet.setting(name)
        state = attempt_state(shown_token(found.setting), attempt_id)
        started = tokens.under_way(name) if state.waiting else None
        address = started and (started.verification_uri_complete or started.verification_uri)
        return visit.page(
            "attempt.html",
            profile=found.setting.status.profile,
            path=setting_path(name),
            linked=[one.profile.name for one in found.linked],
            state=state,
            started=started,
            code=qr_code(address) if address else None,
            comes_back=service.config.server.callback is not None,
            problem=problem,
            now=service.clock.now(),
        )

    @router.get(f"{attempt}/state")
    def state(name: ProfileName, attempt_id: AttemptId, visit: Operating, seen: str = "") -> Response:
        found = service.fleet.setting(name)
        state = attempt_state(shown_token(found.setting), attempt_id)
        if state.key == seen:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        if not state.waiting:
            # The code is of no use any more: the whole page is shown anew.
            return Response(headers={"HX-Refresh": "true"})
        return HTMLResponse(visit.part("_attempt_state.html", state=state, path=setting_path(name)))

    @router.post(f"{attempt}/redirect")
    def redirect(name: ProfileName, attempt_id: AttemptId, visit: Operating, form: Posted) -> Response:
        try:
            tokens.complete(name, form.get("redirected_to", ""))
        except InvalidValue as error:
            return _attempt_page(visit, name, attempt_id, said(error))
        return see(f"{setting_path(name)}/attempts/{attempt_id}")

    @router.post(f"{setting}/cancel")
    def cancel(name: ProfileName, visit: Operating) -> Response:
        tokens.cancel(name, visit.by(OPERATOR))
        return see(setting_path(name), "cancelled")

    @router.get(f"{setting}/delete")
    def deleting(name: ProfileName, visit: Operating) -> Response:
        found, preview = service.fleet.setting(name), tokens.preview_deletion(name)
        return visit.page(
            "delete.html",
            profile=found.setting.status.profile,
            path=setting_path(name),
            token=shown_token(found.setting),
            linked=[one for one in preview.profiles if one != name],
            spared=preview.spared,
            now=service.clock.now(),
        )

    @router.post(f"{setting}/delete")
    def delete(name: ProfileName, visit: Operating) -> Response:
        deletion = tokens.delete(name, visit.by(OPERATOR))
        return see(setting_path(name), "deleted_and_revoked" if deletion.revoked else "deleted")

    @router.post(f"{setting}/renew")
    def renew(name: ProfileName, visit: Operating) -> Response:
        tokens.renew(name, visit.by(OPERATOR))
        return see(setting_path(name), "renewed")

    @router.get(f"{setting}/test")
    def testing(name: ProfileName, visit: Operating) -> Response:
        return _test_page(visit, name)

    @router.post(f"{setting}/test")
    def test(name: ProfileName, visit: Operating, form: Posted) -> Response:
        recipient = form.get("to") or None
        try:
            report = service.mail.test(name, recipient, visit.by(OPERATOR))
        except InvalidValue as error:
            return _test_page(visit, name, recipient=recipient or "", problem=said(error))
        return _test_page(visit, name, report=report, recipient=recipient or "")

    def _test_page(visit: Visit, name: str, **context: Any) -> Response:
        found = service.fleet.setting(name)
        frame = {"report": None, "recipient": "", "problem": None, "faults": texts.FAULTS}
        return visit.page(
            "test.html",
            profile=found.setting.status.profile,
            path=setting_path(name),
            token=shown_token(found.setting),
            now=service.clock.now(),
            **{**frame, **context},
        )

    return router

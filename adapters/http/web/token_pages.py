"""The manual's buttons: [Get Token], [Delete] and [Connection test], each with its confirmation; renew and cancel."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse

from adapters.http.api.path_names import ProfileName
from adapters.http.principal import OPERATOR
from adapters.http.web.attempt_state import attempt_state
from adapters.http.web.coming_back import comes_back, redirect_uri
from adapters.http.web.page_route import Operating, PageRequest, Posted, page_router, redirect, setting_path
from adapters.http.web.qr import qr_code
from adapters.http.web.setting_pages import setting_after
from adapters.http.web.texts import text
from adapters.http.web.view_models import token_view
from adapters.texts import profile_fields, verdicts
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import Failed, InvalidValue, Refused, Unreachable
from infrastructure.service import Service
from infrastructure.tokens.acquisition import AuthorizationStarted

AttemptId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


_NOT_DONE = (Refused, Failed, Unreachable)
"""What may have happened since the page with the button was read: its state is over, or the provider does not do it."""
_SETTING = "/settings/{machine}/{setting}"
_ATTEMPT = "/settings/{machine}/{setting}/attempts/{attempt_id}"


def token_pages(service: Service) -> APIRouter:
    """The pages for an operator's work with the token of a setting."""
    router = page_router()
    _add_get_token(router, service)
    _add_attempt(router, service)
    _add_deletion(router, service)
    _add_connection_test(router, service)
    return router


def _add_get_token(router: APIRouter, service: Service) -> None:
    tokens = service.tokens

    @router.get(f"{_SETTING}/get-token")
    def confirm(name: ProfileName, page_request: Operating) -> Response:
        found = service.settings_page.setting(name)
        profile = found.setting.status.profile
        unfilled = [field for field in ("provider", "account") if not getattr(profile.settings, field)]
        provider = profile.settings.provider
        return page_request.render(
            "get_token.html",
            profile=profile,
            path=setting_path(name),
            token=token_view(found.setting),
            linked=[linked.profile.name for linked in found.linked],
            missing=[profile_fields.label(field, profile.protocol) for field in unfilled],
            flows=tokens.flows(provider) if provider else (),
            take_over=found.setting.status.token.address_to_take_over,
            now=service.clock.now(),
        )

    @router.post(f"{_SETTING}/get-token")
    def get_token(name: ProfileName, page_request: Operating, form: Posted) -> Response:
        flow = form.get("flow") or None
        try:
            started = tokens.request(
                name,
                flow,
                page_request.actor(OPERATOR),
                redirect_uri(service, page_request.request) if flow == "browser" else None,
                form.get("account") or None,
            )
        except _NOT_DONE as error:
            return setting_after(service, page_request, name, error)
        service.polling_worker.wake()
        return redirect(f"{setting_path(name)}/attempts/{started.attempt_id}")

    @router.post(f"{_SETTING}/renew")
    def renew(name: ProfileName, page_request: Operating) -> Response:
        try:
            tokens.renew(name, page_request.actor(OPERATOR))
        except _NOT_DONE as error:
            return setting_after(service, page_request, name, error)
        return redirect(setting_path(name), "renewed")


def _add_attempt(router: APIRouter, service: Service) -> None:
    @router.get(_ATTEMPT)
    def attempt(name: ProfileName, attempt_id: AttemptId, page_request: Operating) -> Response:
        return _attempt_page(service, page_request, name, attempt_id)

    @router.get(f"{_ATTEMPT}/state")
    def state(name: ProfileName, attempt_id: AttemptId, page_request: Operating, seen: str = "") -> Response:
        found = service.settings_page.setting(name)
        state = attempt_state(token_view(found.setting), attempt_id)
        if state.key == seen:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        if not state.waiting:
            # The code is of no use any more, so the browser loads the whole page again.
            return Response(headers={"HX-Refresh": "true"})
        return HTMLResponse(page_request.render_part("_attempt_state.html", state=state, path=setting_path(name)))

    @router.post(f"{_ATTEMPT}/redirect")
    def complete_redirect(name: ProfileName, attempt_id: AttemptId, page_request: Operating, form: Posted) -> Response:
        try:
            service.tokens.complete(name, form.get("redirected_to", ""))
        except Refused:
            # The sign-in ended elsewhere, and its page says how.
            return redirect(f"{setting_path(name)}/attempts/{attempt_id}")
        except InvalidValue as error:
            return _attempt_page(service, page_request, name, attempt_id, error_text(error, Surface.PAGE))
        return redirect(f"{setting_path(name)}/attempts/{attempt_id}")

    @router.post(f"{_SETTING}/cancel")
    def cancel(name: ProfileName, page_request: Operating) -> Response:
        is_waiting = service.tokens.status(name).token.attempt is not None
        service.tokens.cancel(name, page_request.actor(OPERATOR))
        return redirect(setting_path(name), "cancelled" if is_waiting else "cancelled_before")


def _under_way(service: Service, name: str) -> AuthorizationStarted | None:
    try:
        return service.tokens.under_way(name)
    except Refused:
        return None


def _attempt_page(
    service: Service, page_request: PageRequest, name: str, attempt_id: str, problem: str | None = None
) -> Response:
    started = _under_way(service, name)
    # The state is read after the sign-in's facts: what ended in between is shown as ended.
    found = service.settings_page.setting(name)
    state = attempt_state(token_view(found.setting), attempt_id)
    address = started and (started.verification_uri_complete or started.verification_uri)
    return page_request.render(
        "attempt.html",
        profile=found.setting.status.profile,
        path=setting_path(name),
        linked=[linked.profile.name for linked in found.linked],
        state=state,
        started=started,
        code=qr_code(address, text("attempt.qr")) if address else None,
        comes_back=comes_back(started.authorization_uri if started else None),
        problem=problem,
        now=service.clock.now(),
    )


def _add_deletion(router: APIRouter, service: Service) -> None:
    tokens = service.tokens

    @router.get(f"{_SETTING}/delete")
    def confirm(name: ProfileName, page_request: Operating) -> Response:
        found, preview = service.settings_page.setting(name), tokens.preview_deletion(name)
        return page_request.render(
            "delete.html",
            profile=found.setting.status.profile,
            path=setting_path(name),
            token=token_view(found.setting),
            linked=[linked for linked in preview.profiles if linked != name],
            spared=list(filter(page_request.scope(OPERATOR).has_profile, preview.spared)),
            now=service.clock.now(),
        )

    @router.post(f"{_SETTING}/delete")
    def delete(name: ProfileName, page_request: Operating) -> Response:
        try:
            deletion = tokens.delete(name, page_request.actor(OPERATOR))
        except _NOT_DONE as error:
            return setting_after(service, page_request, name, error)
        return redirect(setting_path(name), "deleted_and_revoked" if deletion.revoked else "deleted")


def _add_connection_test(router: APIRouter, service: Service) -> None:
    @router.get(f"{_SETTING}/test")
    def form_page(name: ProfileName, page_request: Operating) -> Response:
        return _test_page(service, page_request, name)

    @router.post(f"{_SETTING}/test")
    def test(name: ProfileName, page_request: Operating, form: Posted) -> Response:
        recipient = form.get("to") or None
        try:
            report = service.mail.test(name, recipient, page_request.actor(OPERATOR))
        except InvalidValue as error:
            return _test_page(
                service, page_request, name, recipient=recipient or "", problem=error_text(error, Surface.PAGE)
            )
        return _test_page(service, page_request, name, report=report, recipient=recipient or "")


def _test_page(service: Service, page_request: PageRequest, name: str, **context: Any) -> Response:
    found = service.settings_page.setting(name)
    frame = {
        "report": None,
        "recipient": "",
        "problem": None,
        "faults": verdicts.FAULTS,
        "verdict_text": partial(verdicts.verdict_text, surface=Surface.PAGE),
        "detail_text": partial(verdicts.detail_text, surface=Surface.PAGE),
    }
    return page_request.render(
        "test.html",
        profile=found.setting.status.profile,
        path=setting_path(name),
        token=token_view(found.setting),
        now=service.clock.now(),
        **{**frame, **context},
    )

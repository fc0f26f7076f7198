"""The page of a setting, with the manual's form and the state of its token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from adapters.error_kinds import status_of
from adapters.http.api.path_names import ProfileName
from adapters.http.api.providers import listed_providers
from adapters.http.principal import ADMINISTRATOR
from adapters.http.problems import waiting
from adapters.http.web.forms import FormField, fields_of, typed_in, with_server_of_provider
from adapters.http.web.page_route import (
    AsOf,
    Configuring,
    PageRequest,
    Posted,
    Reading,
    page_router,
    redirect,
    setting_path,
)
from adapters.http.web.view_models import setting_view, token_view, view_beside_token
from adapters.texts.errors import error_text, text_at_field
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, MailtokenError, Outdated, Refused
from domain.lifecycle import TokenStatus
from domain.profile import SERVER_FIELDS
from domain.profile_fields import texts_of, wrong_fields
from infrastructure.queries.settings_page import SettingOnPage
from infrastructure.service import Service


def setting_pages(service: Service) -> APIRouter:
    """The routes of a setting, its form, and its token alone."""
    router = page_router()

    @router.get("/settings/{machine}/{setting}")
    def setting(name: ProfileName, page_request: Reading, as_of: AsOf) -> Response:
        found = service.settings_page.setting_within(name, page_request.reads, as_of)
        return _setting_page(page_request, found, _form(service, found), now=as_of or service.clock.now(), as_of=as_of)

    @router.post("/settings/{machine}/{setting}")
    def save(name: ProfileName, page_request: Configuring, form: Posted) -> Response:
        profile = service.tokens.status(name).profile
        typed = with_server_of_provider(typed_in(profile, form), profile, _kinds(service))
        seen = {form["edition"]} if "edition" in form else None
        try:
            service.settings.set_profile(name, typed, page_request.actor(ADMINISTRATOR), seen)
        except InvalidValue as error:
            wrong = wrong_fields(profile.protocol, profile.settings, typed) or [error]
            problems = {one.field: text_at_field(one, Surface.PAGE) for one in wrong}
            return again(page_request, name, typed, problems=problems)
        except Outdated:
            return again(page_request, name, typed, error=Outdated("typed_over_older_values"))
        except Refused as error:
            return again(page_request, name, typed, error=error)
        return redirect(setting_path(name), "saved")

    def again(
        page_request: PageRequest,
        name: str,
        typed: Mapping[str, str],
        *,
        problems: Mapping[str, str] | None = None,
        error: MailtokenError | None = None,
    ) -> Response:
        """The form as it was typed, over the setting as it is now."""
        found = service.settings_page.setting(name)
        fields = _form(service, found, typed=typed, problems=problems, is_outdated=isinstance(error, Outdated))
        return _setting_page(
            page_request,
            found,
            fields,
            now=service.clock.now(),
            problem=bool(problems),
            notice=error_text(error, Surface.PAGE) if error else None,
            status=status_of(error) if error else None,
        )

    _copy_and_token(router, service)
    return router


def _copy_and_token(router: APIRouter, service: Service) -> None:
    @router.post("/settings/{machine}/{setting}/copy-server")
    def copy_server(name: ProfileName, page_request: Configuring, form: Posted) -> Response:
        source = texts_of(service.tokens.status(form.get("from", "")).profile.settings)
        fields = {field: source[field] for field in SERVER_FIELDS}
        service.settings.set_profile(name, fields, page_request.actor(ADMINISTRATOR))
        return redirect(setting_path(name), "saved")

    @router.get("/settings/{machine}/{setting}/token")
    def token(name: ProfileName, page_request: Reading, seen: str = "") -> Response:
        view = token_view(service.attention.of(service.tokens.status(name)))
        if view.key == seen:
            # The page keeps the part it has, so a screen reader does not read it out again.
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return HTMLResponse(page_request.render_part("_token.html", token=view, now=service.clock.now()))


def _kinds(service: Service) -> dict[str, str]:
    return {one.name: one.kind for one in listed_providers(service)}


def _form(
    service: Service,
    found: SettingOnPage,
    *,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    is_outdated: bool = False,
) -> list[FormField]:
    status = found.setting.status
    return fields_of(
        status.profile,
        list(service.providers),
        kinds=_kinds(service),
        may_change_account=status.token.status is TokenStatus.NOT_RETRIEVED,
        typed=typed,
        problems=problems,
        is_outdated=is_outdated,
    )


def _setting_page(
    page_request: PageRequest,
    found: SettingOnPage,
    fields: list[FormField],
    *,
    now: datetime,
    as_of: datetime | None = None,
    problem: bool = False,
    notice: str | None = None,
    status: int | None = None,
) -> Response:
    profile = found.setting.status.profile
    return page_request.render(
        "setting.html",
        setting=view_beside_token(found.setting.status, found.catalogues.get(profile.machine), found.linked),
        token=token_view(found.setting),
        linked=[setting_view(one.profile, found.catalogues.get(one.profile.machine)) for one in found.linked],
        fields=fields,
        problem=problem,
        notice=notice,
        status=status,
        as_of=as_of,
        now=now,
    )


def setting_after(service: Service, page_request: PageRequest, name: str, error: MailtokenError) -> Response:
    """The page of a setting as it is now, after what a button of an earlier page of it could not do."""
    found = service.settings_page.setting(name)
    answer = _setting_page(
        page_request,
        found,
        _form(service, found),
        now=service.clock.now(),
        notice=error_text(error, Surface.PAGE),
        status=status_of(error),
    )
    answer.headers.update(waiting(error))
    return answer

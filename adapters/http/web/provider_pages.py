"""The list of the providers, of the configuration file and of the store, and the check of each registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from adapters.http.api.path_names import Name
from adapters.http.api.providers import check_registration, listed_providers
from adapters.http.principal import OPERATOR
from adapters.http.web.coming_back import redirect_uris
from adapters.http.web.page_route import Operating, Reading, page_router
from adapters.texts.provider_check import finding_text, remedy_text, step_text, subject_text
from adapters.texts.wording import Surface
from infrastructure.service import Service

if TYPE_CHECKING:
    from adapters.providers.check_report import ProviderReport


@dataclass(frozen=True)
class ProviderView:
    """A provider; `refused` are the client secrets that it rejects, with its error code for each."""

    name: str
    kind: str
    authority: str | None
    client_id: str
    is_stored: bool
    flows: tuple[str, ...]
    refused: dict[str, str]
    settings: int
    client_secret_expires_at: datetime | None


@dataclass(frozen=True)
class CheckItemView:
    """One finding of a check, and its remedy if it needs one."""

    name: str
    state: str
    detail: str
    remedy: str | None


@dataclass(frozen=True)
class ReportView:
    """The findings of a check, the steps to set the registration up, and each `host:port` for the firewall."""

    provider: str
    ok: bool
    items: Sequence[CheckItemView]
    steps: Sequence[str]
    hosts: Sequence[str]


def provider_pages(service: Service) -> APIRouter:
    """The routes of the list of providers, and of a provider's check."""
    router = page_router()

    @router.get("/providers")
    def providers(page_request: Reading) -> Response:
        faults = service.tokens.client_faults()
        used = service.settings_page.settings_by_provider(page_request.reads)
        views = [
            ProviderView(
                one.name,
                one.kind,
                one.authority,
                one.client_id,
                one.is_stored,
                tuple(service.tokens.flows(one.name)),
                faults[one.name],
                used.get(one.name, 0),
                one.client_secret_expires_at,
            )
            for one in listed_providers(service)
        ]
        stored = [row.state.name for row in service.providers.stored]
        unused = [name for name in stored if not service.providers.is_in_use(name)]
        return page_request.render("providers.html", providers=views, unused=unused, now=service.clock.now())

    @router.post("/providers/{name}/check")
    def check(name: Name, page_request: Operating) -> Response:
        uris = redirect_uris(service, page_request.request)
        report = check_registration(service, name, page_request.scope(OPERATOR), *uris)
        return page_request.render("provider_check.html", report=_view_of(report), here="/providers")

    return router


def _view_of(report: ProviderReport) -> ReportView:
    """The report in the words of a page."""
    return ReportView(
        report.provider,
        report.ok,
        [
            CheckItemView(
                subject_text(item.subject, item.fields),
                item.state,
                finding_text(item.code, item.fields, Surface.PAGE),
                remedy_text(item.remedy, item.fields, Surface.PAGE) if item.remedy else None,
            )
            for item in report.items
        ],
        [step_text(step.code, step.fields, Surface.PAGE) for step in report.steps],
        report.hosts,
    )

"""The pages that add a provider to the store, change it and remove it: its steps, its fields, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from adapters.http.api.path_names import Name
from adapters.http.principal import ADMINISTRATOR
from adapters.http.web.coming_back import redirect_uris
from adapters.http.web.faulty_form import NO_FORM, FaultyForm, faulty
from adapters.http.web.page_route import Configuring, PageRequest, Posted, Reading, page_router, provider_path, redirect
from adapters.http.web.provider_forms import ProviderForm, provider_form, typed_fields, typed_secrets
from adapters.texts.provider_fields import PROVIDER_SECRET_TEXTS
from adapters.texts.provider_wizard import REDIRECT_URIS, WIZARD_STEPS
from domain.errors import InvalidValue, NotFound, Refused
from domain.mail_servers import MAIL_SERVERS
from domain.provider_fields import KINDS
from infrastructure.config.stale_names import names_of_provider
from infrastructure.service import Service


def provider_wizard(service: Service) -> APIRouter:
    """The routes of the stored providers."""
    router = page_router()
    _add_routes_of_new(router, service)
    _add_routes_of_stored(router, service)
    return router


def _add_routes_of_new(router: APIRouter, service: Service) -> None:
    @router.get("/add-provider")
    def choosing(page_request: Configuring) -> Response:
        return page_request.render("provider_add.html", kinds=KINDS, here="/providers")

    @router.get("/add-provider/{kind}")
    def adding(kind: str, page_request: Configuring) -> Response:
        return _form_page(service, page_request, provider_form(_known(kind), {}))

    @router.post("/add-provider/{kind}")
    def add(kind: str, page_request: Configuring, form: Posted) -> Response:
        secrets = {name: value for name, value in typed_secrets(_known(kind), form).items() if value}
        actor, texts = page_request.actor(ADMINISTRATOR), typed_fields(kind, form)
        try:
            row = service.stored_providers.add(form.get("name", ""), kind, texts, secrets, actor)
        except (InvalidValue, Refused) as error:
            return _form_page(service, page_request, provider_form(kind, form, error=error))
        return redirect(provider_path(row.state.name), "provider_added")


def _add_routes_of_stored(router: APIRouter, service: Service) -> None:
    stored = service.stored_providers

    @router.get("/providers/{name}")
    def show(name: Name, page_request: Reading) -> Response:
        row = stored.find(name)
        form = provider_form(row.state.kind, {}, state=row.state, edition=row.edition)
        return _provider_page(service, page_request, name, form)

    @router.post("/providers/{name}")
    def change(name: Name, page_request: Configuring, form: Posted) -> Response:
        row = stored.find(name)
        seen = {form["edition"]} if "edition" in form else None
        fields, secrets = typed_fields(row.state.kind, form), typed_secrets(row.state.kind, form)
        try:
            stored.change(name, fields, secrets, page_request.actor(ADMINISTRATOR), seen)
        except (InvalidValue, Refused) as error:
            wrong = provider_form(row.state.kind, form, state=row.state, error=error, edition=row.edition)
            return _provider_page(service, page_request, name, wrong)
        return redirect(provider_path(name), "saved")

    @router.get("/providers/{name}/rename")
    def renaming(name: Name, page_request: Configuring) -> Response:
        return rename_page(page_request, name)

    @router.post("/providers/{name}/rename")
    def rename(name: Name, page_request: Configuring, form: Posted) -> Response:
        new, by = form.get("name", ""), page_request.actor(ADMINISTRATOR)
        wrong = faulty(f"{provider_path(name)}/rename", form, lambda: stored.rename(name, new, by))
        return rename_page(page_request, name, wrong) if wrong else redirect(provider_path(new), "provider_renamed")

    def rename_page(page_request: PageRequest, name: str, wrong: FaultyForm = NO_FORM) -> Response:
        return page_request.render(
            "provider_rename.html",
            name=stored.find(name).state.name,
            settings=stored.settings_of(name),
            of_file=service.providers.is_of_file(name),
            stale=names_of_provider(service.config, name),
            wrong=wrong,
            status=wrong.status,
        )

    @router.get("/providers/{name}/remove")
    def removing(name: Name, page_request: Configuring) -> Response:
        return page_request.render("provider_remove.html", name=stored.find(name).state.name)

    @router.post("/providers/{name}/remove")
    def remove(name: Name, page_request: Configuring) -> Response:
        stored.remove(name, page_request.actor(ADMINISTRATOR))
        return redirect("/providers", "provider_removed")


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise NotFound("provider_kind_unknown", kind=kind, known=list(KINDS))
    return kind


def _form_page(service: Service, page_request: PageRequest, form: ProviderForm) -> Response:
    return page_request.render(
        "provider_form.html", problem=form.faults, form=form, **_of_kind(service, page_request, form.kind)
    )


def _provider_page(service: Service, page_request: PageRequest, name: str, form: ProviderForm) -> Response:
    state = service.stored_providers.find(name).state
    return page_request.render(
        "provider.html",
        problem=form.faults,
        form=form,
        provider=state,
        awaited=[PROVIDER_SECRET_TEXTS[secret].label for secret in state.awaited],
        in_use=service.providers.is_in_use(name),
        settings=service.settings_page.settings_by_provider(page_request.reads).get(name, 0),
        **_of_kind(service, page_request, state.kind),
    )


def _of_kind(service: Service, page_request: PageRequest, kind: str) -> Mapping[str, Any]:
    copied = {REDIRECT_URIS: redirect_uris(service, page_request.request)}
    steps = [
        (step.text, [one for copy in step.copies for one in copied.get(copy, (copy,))]) for step in WIZARD_STEPS[kind]
    ]
    return {
        "here": "/providers",
        "steps": steps,
        "servers": {p.value: one for p, one in MAIL_SERVERS.get(kind, {}).items()},
    }

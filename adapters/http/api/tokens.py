"""Tokens: their status, sign-ins, renewal, deletion, and the access token itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from adapters.http.api.access_token_fast_path import served_json
from adapters.http.api.models import tokens as models
from adapters.http.api.openapi import api_router
from adapters.http.api.pagination import OfNames
from adapters.http.api.path_names import ProfileName
from adapters.http.principal import CurrentPrincipal, OperatorRole, OperatorScope, ReaderRole, ReaderScope
from adapters.json_array import array_lines
from infrastructure.clock import instant_text, read_as_of
from infrastructure.queries.setting_status import SettingStatus
from infrastructure.service import Service
from infrastructure.tokens.acquisition import AuthorizationStarted

AsOf = Annotated[
    str | None,
    Query(
        description="The status as it was at this instant, without the alarms of a running service, which are not in"
        " the log. An instant of the present second is the status as it is now; a later one is refused.",
        examples=["2026-11-22T09:30:00Z"],
    ),
]

InNeed = Annotated[bool, Query(description="Only the settings that need a person.")]


def router(service: Service) -> APIRouter:
    """The routes of tokens."""
    router = api_router(prefix="/api/v1", tags=["tokens"])
    _add_statuses(router, service)
    _add_sign_ins(router, service)
    _add_held_tokens(router, service)
    return router


def _add_statuses(router: APIRouter, service: Service) -> None:
    @router.get("/status", response_model=list[models.Status])
    def statuses(
        _: ReaderRole,
        scope: ReaderScope,
        page: OfNames,
        response: Response,
        as_of: AsOf = None,
        attention: InNeed = False,
    ) -> Any:
        """The label that every setting displays under "Token", in one consistent snapshot of all or of a page."""
        if instant := _as_of(service, as_of):
            statuses = (one for one in service.audit.statuses_as_of(instant) if one.attention or not attention)
            then = [one for one in statuses if scope.has_machine(one.profile.machine)]
            return [status.as_json() for status in page.of_all(response, then, lambda one: one.profile.name)]
        if page.is_all and not attention:
            # The whole body at once: a slow reader must not keep the store's transaction open.
            every = (one for one in service.attention.every_status() if scope.has_machine(one.status.profile.machine))
            return Response("".join(array_lines(one.as_json() for one in every)), media_type="application/json")
        if attention or not scope.is_all:
            found = service.attention.statuses_in_need() if attention else service.attention.statuses()
            inside = [one for one in found if scope.has_machine(one.status.profile.machine)]
            now = page.of_all(response, inside, lambda one: one.status.profile.name)
        else:
            now = page.of(response, service.attention.statuses, lambda one: one.status.profile.name)
        return [with_attention.as_json() for with_attention in now]

    @router.get("/attention", response_model=models.AttentionCounts)
    def attention_counts(_: ReaderRole, scope: ReaderScope) -> Any:
        """How many causes need a person, and how many settings they affect, now and soon."""
        counts = service.attention_query.counts(scope)
        return {"causes": counts.causes, "settings": counts.settings}

    @router.get("/overview", response_model=models.Overview)
    def overview(_: ReaderRole, scope: ReaderScope) -> dict[str, Any]:
        """Tokens by state, causes, what ends in the next ninety days, mail of fourteen days, and the nodes."""
        return service.home.now(scope).as_json()

    @router.get("/profiles/{machine}/{setting}/status", response_model=models.Status)
    def status(name: ProfileName, _: ReaderRole, as_of: AsOf = None) -> dict[str, Any]:
        """The label that a setting displays under "Token"."""
        if instant := _as_of(service, as_of):
            return service.history.status_as_of(name, instant).as_json()
        return _status_json(service, service.tokens.status(name))


def _add_sign_ins(router: APIRouter, service: Service) -> None:
    tokens = service.tokens

    @router.post("/profiles/{machine}/{setting}/token", status_code=202, response_model=models.Attempt)
    def get_token(name: ProfileName, body: models.GetToken, by: OperatorRole) -> dict[str, Any]:
        """Get Token: ask the provider for the code or address with which a person signs in."""
        callback = service.config.server.callback
        redirect_uri = body.redirect_uri or (callback.url if callback else None)
        started = tokens.request(name, body.flow, by, redirect_uri, body.account)
        service.polling_worker.wake()
        return _started_json(started)

    @router.get("/profiles/{machine}/{setting}/token/attempt", response_model=models.Attempt)
    def attempt(name: ProfileName, _: OperatorRole) -> dict[str, Any]:
        """The sign-in that is under way."""
        return _started_json(tokens.under_way(name))

    @router.post("/profiles/{machine}/{setting}/token/redirect", response_model=models.Status)
    def redirect(name: ProfileName, body: models.Redirect, _: OperatorRole) -> dict[str, Any]:
        """Complete the sign-in with the address where the browser ended."""
        tokens.complete(name, body.redirected_to)
        return _status_json(service, tokens.status(name))


def _add_held_tokens(router: APIRouter, service: Service) -> None:
    tokens = service.tokens

    @router.delete("/profiles/{machine}/{setting}/token", response_model=models.Deletion)
    def delete_token(name: ProfileName, by: OperatorRole) -> dict[str, Any]:
        """Delete the token for good."""
        deletion = tokens.delete(name, by)
        return {"profiles": list(deletion.profiles), "revoked": deletion.revoked}

    @router.get("/profiles/{machine}/{setting}/token/deletion", response_model=models.DeletionPreview)
    def preview_deletion(name: ProfileName, _: OperatorRole, scope: OperatorScope) -> dict[str, Any]:
        """The settings that deleting the token would affect."""
        preview = tokens.preview_deletion(name)
        return {"profiles": list(preview.profiles), "spared": list(filter(scope.has_profile, preview.spared))}

    @router.post("/profiles/{machine}/{setting}/token/renew", response_model=models.Status)
    def renew(name: ProfileName, by: OperatorRole) -> dict[str, Any]:
        """Renew the token now, past any backoff."""
        return _status_json(service, tokens.renew(name, by))

    @router.post("/profiles/{machine}/{setting}/token/cancel", response_model=models.Status)
    def cancel(name: ProfileName, by: OperatorRole) -> dict[str, Any]:
        """Cancel the sign-in that is under way; without a sign-in nothing changes."""
        tokens.cancel(name, by)
        return _status_json(service, tokens.status(name))

    @router.get("/profiles/{machine}/{setting}/access-token", response_model=models.AccessToken)
    def access_token(
        name: ProfileName,
        principal: CurrentPrincipal,
        response: Response,
        min_ttl: Annotated[
            int | None, Query(ge=0, description="Renew it first if fewer seconds are left.", examples=[600])
        ] = None,
    ) -> dict[str, Any]:
        """The access token, renewed first if too little of its life is left. Only for clients with a grant for it."""
        served = service.access_token_cache.fetch(name, min_ttl, principal.require_token(name), principal.id)
        response.headers["Cache-Control"] = "no-store"
        return served_json(served)


def _status_json(service: Service, status: SettingStatus) -> dict[str, Any]:
    return service.attention.of(status, service.tokens.holds.code()).as_json()


def _as_of(service: Service, text: str | None) -> datetime | None:
    return read_as_of(text, service.clock.now()) if text is not None else None


def _started_json(started: AuthorizationStarted) -> dict[str, Any]:
    return {
        "profile": started.profile,
        "flow": started.flow,
        "attempt_id": started.attempt_id,
        "user_code": started.user_code,
        "verification_uri": started.verification_uri,
        "verification_uri_complete": started.verification_uri_complete,
        "authorization_uri": started.authorization_uri,
        "expires_at": instant_text(started.expires_at),
    }

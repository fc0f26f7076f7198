"""Tokens: their status, and what is done with them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from adapters.bootstrap import Service
from adapters.http import models
from adapters.http.callers import AnyCaller, Operator, Reader
from adapters.http.naming import ProfileName
from adapters.http.paging import OfNames
from adapters.http.warm import hand_out_json
from domain.errors import InvalidValue
from infrastructure.clock import instant_text, read_instant
from infrastructure.status import SettingStatus, named
from infrastructure.token_service import AuthorizationStarted

AsOf = Annotated[
    str | None, Query(description="As a reader at this instant saw it.", examples=["2026-11-22T09:30:00Z"])
]


def router(service: Service) -> APIRouter:
    """The routes of tokens."""
    router, tokens = APIRouter(prefix="/api/v1", tags=["tokens"]), service.tokens

    def status_json(status: SettingStatus) -> dict[str, Any]:
        return service.attention.of(status).as_json()

    @router.get("/status", response_model=list[models.Status])
    def statuses(_: Reader, page: OfNames, response: Response, as_of: AsOf = None) -> list[dict[str, Any]]:
        """What every setting displays under "Token": one consistent snapshot, of all or of a page."""
        if as_of is None:
            now = page.of(response, service.attention.statuses, lambda one: one.status.profile.name)
            return [attended.as_json() for attended in now]
        then = page.of_all(response, service.audit.statuses_as_of(_instant(as_of)), lambda one: one.profile.name)
        return [status.as_json() for status in then]

    @router.get("/profiles/{machine}/{setting}/status", response_model=models.Status)
    def status(name: ProfileName, _: Reader, as_of: AsOf = None) -> dict[str, Any]:
        """What a setting displays under "Token"."""
        if as_of is None:
            return status_json(tokens.status(name))
        return named(service.audit.statuses_as_of(_instant(as_of)), name).as_json()

    @router.post("/profiles/{machine}/{setting}/token", status_code=202, response_model=models.Attempt)
    def get_token(name: ProfileName, body: models.GetToken, by: Operator) -> dict[str, Any]:
        """Get Token: ask the provider for the code or address with which a person signs in."""
        callback = service.config.server.callback
        redirect_uri = body.redirect_uri or (callback.url if callback else None)
        started = tokens.request(name, body.flow, by, redirect_uri)
        service.worker.wake()
        return _started_json(started)

    @router.get("/profiles/{machine}/{setting}/token/attempt", response_model=models.Attempt)
    def attempt(name: ProfileName, _: Operator) -> dict[str, Any]:
        """The sign-in that is under way."""
        return _started_json(tokens.under_way(name))

    @router.post("/profiles/{machine}/{setting}/token/redirect", response_model=models.Status)
    def redirect(name: ProfileName, body: models.Redirect, _: Operator) -> dict[str, Any]:
        """Go on with the address where the browser ended."""
        tokens.complete(name, body.redirected_to)
        return status_json(tokens.status(name))

    @router.delete("/profiles/{machine}/{setting}/token", response_model=models.Deletion)
    def delete_token(name: ProfileName, by: Operator) -> dict[str, Any]:
        """Delete the token for good."""
        deletion = tokens.delete(name, by)
        return {"profiles": list(deletion.profiles), "revoked": deletion.revoked}

    @router.get("/profiles/{machine}/{setting}/token/deletion", response_model=models.DeletionPreview)
    def preview_deletion(name: ProfileName, _: Operator) -> dict[str, Any]:
        """What deleting the token would do."""
        preview = tokens.preview_deletion(name)
        return {"profiles": list(preview.profiles), "spared": list(preview.spared)}

    @router.post("/profiles/{machine}/{setting}/token/renew", response_model=models.Status)
    def renew(name: ProfileName, by: Operator) -> dict[str, Any]:
        """Renew the token now, past any backoff."""
        return status_json(tokens.renew(name, by))

    @router.post("/profiles/{machine}/{setting}/token/cancel", response_model=models.Status)
    def cancel(name: ProfileName, by: Operator) -> dict[str, Any]:
        """Cancel the sign-in that is under way; with none, nothing changes."""
        tokens.cancel(name, by)
        return status_json(tokens.status(name))

    @router.get("/profiles/{machine}/{setting}/access-token", response_model=models.AccessToken)
    def access_token(
        name: ProfileName,
        caller: AnyCaller,
        response: Response,
        min_ttl: Annotated[
            int | None, Query(ge=0, description="Renew it first if fewer seconds are left.", examples=[600])
        ] = None,
    ) -> dict[str, Any]:
        """The access token, renewed first if too little of its life is left. For clients that were granted it."""
        handed = service.hand_outs.first(name, min_ttl, caller.reading_token_of(name), caller.id)
        response.headers["Cache-Control"] = "no-store"
        return hand_out_json(handed)

    return router


def _instant(text: str) -> datetime:
    try:
        return read_instant(text)
    except (ValueError, OverflowError):
        raise InvalidValue("as_of", f"{text!r} is not an instant like 2026-11-22T09:30:00+00:00") from None


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

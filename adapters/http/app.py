"""The API: each route lets a use case decide and shows what it gave."""

from __future__ import annotations

from fastapi import FastAPI

from adapters.bootstrap import Service
from adapters.http import (
    apply,
    audit,
    events,
    health,
    identity,
    mail,
    metrics,
    openapi,
    problems,
    providers,
    relay,
    settings,
    sign_in,
    tokens,
)
from adapters.web.pages import web_pages
from infrastructure.changes import RelayChanges, StatusChanges
from infrastructure.metrics import Metrics


def create_app(service: Service) -> FastAPI:
    """The API of this service."""
    app = FastAPI(
        title="Mailtoken",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
    )
    problems.install(app)
    openapi.install(app)
    app.include_router(health.router(service.events.store))
    numbers = Metrics(service.events, service.attention, service.tokens.tally, service.clock)
    app.include_router(metrics.router(numbers, service.config.server.metrics_from))
    app.include_router(settings.router(service))
    app.include_router(providers.router(service))
    app.include_router(tokens.router(service))
    statuses = events.Follower(StatusChanges(service.events, service.attention))
    admissions = events.Follower(RelayChanges(service.events))
    app.state.followers = (statuses, admissions)
    app.include_router(events.router(statuses, admissions))
    app.include_router(mail.router(service))
    app.include_router(audit.router(service.audit))
    app.include_router(apply.router(service.applier))
    app.include_router(relay.router(service.relay_users))
    app.include_router(identity.router(service))
    app.include_router(sign_in.router(service))
    app.include_router(web_pages(service))
    return app

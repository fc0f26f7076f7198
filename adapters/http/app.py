"""The HTTP application: the API's routers and the pages over the service's use cases."""

from __future__ import annotations

from fastapi import FastAPI

from adapters.http import problems
from adapters.http.api import (
    administrators,
    apply,
    audit,
    clients,
    health,
    jobs,
    mail,
    metrics,
    openapi,
    providers,
    relay,
    server_sent_events,
    settings,
    store,
    tokens,
)
from adapters.http.web import sign_in_pages, unknown_pages
from adapters.http.web.router import web_pages
from infrastructure.queries.changes import RelayChanges, StatusChanges
from infrastructure.service import Service


def create_app(service: Service) -> FastAPI:
    """The application of this service.

    Its routes are the routers' own: a router that is included has each of its routes analysed a second time, at the
    first request, and makes every later request slower.
    """
    app = FastAPI(title="Mailtoken", version="1", openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None)
    problems.install(app)
    unknown_pages.install(app)
    statuses = server_sent_events.Follower(StatusChanges(service.events, service.attention))
    admissions = server_sent_events.Follower(RelayChanges(service.events))
    app.state.store_state, app.state.clock = service.store_state, service.clock
    app.state.profiles_sharing = service.settings.profiles_sharing
    app.state.followers = (statuses, admissions)
    for router in (
        health.router(service.tickers, service.tokens.check_storage),
        metrics.router(metrics.metrics_of(service), service.config.server.metrics_from),
        settings.router(service),
        providers.router(service),
        tokens.router(service),
        server_sent_events.router(statuses, admissions),
        mail.router(service),
        audit.router(service.history, service.verifier),
        store.router(service),
        jobs.router(service),
        apply.router(service.applier),
        relay.router(service.relay_users, service.mail_counts, service.relay_refusals),
        administrators.router(service),
        clients.router(service),
        sign_in_pages.router(service),
        web_pages(service),
    ):
        app.router.routes.extend(router.routes)
    openapi.install(app)
    return app

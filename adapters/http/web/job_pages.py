"""The pages of jobs: what is to be done at the selected machines, and how far a job is."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from adapters.http.api.path_names import Name
from adapters.http.job_roles import ACTION_ROLES, JOB_ROLES
from adapters.http.web.machine_list_page import wanted_of
from adapters.http.web.page_route import PageRequest, Posted, Reading, page_router, redirect
from adapters.http.web.suggestions import SUGGESTED
from adapters.texts.errors import error_text
from adapters.texts.job_results import result_text
from adapters.texts.profile_fields import FIELD_TEXTS, label
from adapters.texts.wording import Surface
from domain.catalogue import Protocol
from domain.errors import InvalidValue, NotFound, Refused
from infrastructure.jobs.job import Action, Job, Outcome, Work
from infrastructure.jobs.jobs import MOST_MACHINES
from infrastructure.queries.machine_filter import MachineFilter
from infrastructure.service import Service

_MOST_ROWS = 200


def job_pages(service: Service) -> APIRouter:
    """The routes of jobs."""
    router, jobs = page_router(), service.jobs

    @router.get("/jobs")
    def all_jobs(page_request: Reading) -> Response:
        return page_request.render("jobs.html", jobs=jobs.all(page_request.reads), now=service.clock.now())

    @router.get("/jobs/new")
    def new(page_request: Reading) -> Response:
        page_request.actor(*JOB_ROLES)
        query = page_request.request.query_params
        action = _action(query.get("action", ""))
        page_request.actor(ACTION_ROLES[action])
        chosen = None if query.get("all") else query.getlist("m")
        return _new_page(service, page_request, action, wanted_of(page_request.request).among(chosen))

    @router.post("/jobs")
    def begin(page_request: Reading, form: Posted) -> Response:
        page_request.actor(*JOB_ROLES)
        action = _action(form.get("action", ""))
        by = page_request.actor(ACTION_ROLES[action])
        chosen = form["machines"].split() if "machines" in form else None
        wanted = MachineFilter.of(form).among(chosen)
        try:
            job = jobs.begin(_work(action, form), wanted, by, page_request.scope(ACTION_ROLES[action]))
        except (InvalidValue, Refused) as error:
            problem = error_text(error, Surface.PAGE)
            return _new_page(service, page_request, action, wanted, typed=form, problem=problem)
        return redirect(f"/jobs/{job.id}")

    @router.get("/jobs/{name}")
    def job(name: Name, page_request: Reading) -> Response:
        return page_request.render("job.html", **_job_context(service, jobs.job(name, page_request.reads)))

    @router.get("/jobs/{name}/state")
    def state(name: Name, page_request: Reading, seen: str = "") -> Response:
        found = jobs.job(name, page_request.reads)
        if _key(found) == seen:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return HTMLResponse(page_request.render_part("_job.html", **_job_context(service, found)))

    @router.post("/jobs/{name}/stop")
    def stop(name: Name, page_request: Reading) -> Response:
        page_request.actor(*JOB_ROLES)
        found = jobs.job(name, page_request.scope(*JOB_ROLES))
        page_request.actor(ACTION_ROLES[found.work.action])
        found.stopped.set()
        return redirect(f"/jobs/{name}")

    return router


def _action(text: str) -> Action:
    if text not in list(Action):
        raise NotFound("unknown_field", field=text)
    return Action(text)


def _work(action: Action, form: Mapping[str, str]) -> Work:
    field = form.get("field", "")
    return Work(
        action,
        {field: form.get("value", "")} if field else {},
        form.get("protocol") or None,
        form.get("into", ""),
        form.get("add", "").split(),
        form.get("remove", "").split(),
    )


def _new_page(
    service: Service,
    page_request: PageRequest,
    action: Action,
    wanted: MachineFilter,
    *,
    typed: Mapping[str, str] | None = None,
    problem: str | None = None,
) -> Response:
    inside = service.jobs.within(wanted, page_request.scope(ACTION_ROLES[action]))
    names = service.machines.names(inside, MOST_MACHINES)
    needs_form = action in (Action.SET, Action.LINK) or action.is_of_machines
    targets = names if needs_form else service.jobs.targets(Work(action), names)
    return page_request.render(
        "job_new.html",
        action=action,
        wanted=wanted,
        machines=names,
        targets=targets,
        needs_form=needs_form,
        fields=[(name, label(name, Protocol.SMTP)) for name in FIELD_TEXTS],
        groups=service.settings.some_group_names(SUGGESTED) if action is Action.LINK else (),
        protocols=list(Protocol),
        typed=typed or {},
        problem=problem,
    )


def _key(job: Job) -> str:
    return f"{len(job.results)}.{job.state}"


def _job_context(service: Service, job: Job) -> dict[str, Any]:
    results = job.results.copy()
    refused = [one for one in results if one.outcome is Outcome.REFUSED]
    others = [one for one in results if one.outcome is not Outcome.REFUSED]
    shown = [*refused, *others[::-1]][:_MOST_ROWS]
    return {
        "job": job,
        "summary": job.summary(),
        "count": len(results),
        "key": _key(job),
        "rows": [(one, result_text(one, Surface.PAGE)) for one in shown],
        "more": len(results) - len(shown),
        "sign_in": _sign_in(service, job.waiting_for),
    }


def _sign_in(service: Service, profile: str | None) -> object:
    if profile is None:
        return None
    try:
        return service.tokens.under_way(profile)
    except (NotFound, Refused):
        return None

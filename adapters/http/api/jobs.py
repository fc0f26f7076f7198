"""Jobs: an action over many machines, which goes on in the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from adapters.http.api.models import jobs as models
from adapters.http.api.models.common import Text
from adapters.http.api.openapi import api_router
from adapters.http.job_roles import ACTION_ROLES, JOB_ROLES
from adapters.http.principal import CurrentPrincipal, ReaderRole, ReaderScope
from adapters.texts.job_results import result_text
from adapters.texts.wording import Surface
from infrastructure.jobs.job import Job, Work
from infrastructure.queries.machine_filter import MachineFilter
from infrastructure.service import Service

JobId = Annotated[Text, Path(examples=["0f8f"])]


def router(service: Service) -> APIRouter:
    """The routes of jobs."""
    router, jobs = api_router(prefix="/api/v1/jobs", tags=["jobs"]), service.jobs

    @router.post("", status_code=202, response_model=models.JobState)
    def begin(body: models.NewJob, principal: CurrentPrincipal) -> dict[str, Any]:
        """Begin a job; each step needs the role that the same action needs at a single setting."""
        principal.require_role(*JOB_ROLES)
        by = principal.require_role(ACTION_ROLES[body.action])
        work = Work(body.action, body.fields, body.protocol, body.group, body.add, body.remove)
        return _json(jobs.begin(work, _wanted(body.select), by, principal.scope(ACTION_ROLES[body.action])))

    @router.get("", response_model=list[models.JobSummary])
    def all_jobs(_: ReaderRole, scope: ReaderScope) -> list[dict[str, Any]]:
        """The jobs that run and the last ones that have ended, the newest first, without their results."""
        return [job.summary() for job in jobs.all(scope)]

    @router.get("/{name}", response_model=models.JobState)
    def job(name: JobId, _: ReaderRole, scope: ReaderScope) -> dict[str, Any]:
        """A job with the results of its steps so far."""
        return _json(jobs.job(name, scope))

    @router.delete("/{name}", status_code=204)
    def stop(name: JobId, principal: CurrentPrincipal) -> None:
        """Stop a job: the step under way ends, and the others are left."""
        principal.require_role(*JOB_ROLES)
        found = jobs.job(name, principal.scope(*JOB_ROLES))
        principal.require_role(ACTION_ROLES[found.work.action])
        found.stopped.set()

    return router


def _wanted(select: models.Selected) -> MachineFilter:
    wanted = MachineFilter.of(select.model_dump(exclude={"machines"}))
    return wanted.among(select.machines)


def _json(job: Job) -> dict[str, Any]:
    results = [
        {
            "target": one.target,
            "outcome": one.outcome.value,
            "code": one.code,
            "why": result_text(one, Surface.API),
            "facts": dict(one.facts),
        }
        for one in job.results.copy()
    ]
    return {**job.summary(), "results": results}

"""A whole fleet at once: what is there, and making it as a file says."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from adapters.http import models
from adapters.http.callers import OPERATOR, Administrator, AnyCaller, SeesClients
from adapters.http.etags import IfMatch, quoted
from domain.errors import Outdated
from domain.plan import Plan, Wanted, WantedMachine, WantedSetting, as_json
from infrastructure.apply import Applier, fingerprint

_MARKS = {"absent", "delete_token"}


def router(applier: Applier) -> APIRouter:
    """The routes of apply and export."""
    router = APIRouter(prefix="/api/v1", tags=["fleet"])

    @router.get("/export", response_model=models.Fleet, response_model_exclude_unset=True)
    def export(_: SeesClients) -> dict[str, Any]:
        """What would make an empty store what this one is, but for tokens and the keys of clients."""
        return _fleet_json(applier.export())

    @router.post("/apply", response_model=models.Plan, response_model_exclude_unset=True)
    def apply(
        body: models.Fleet,
        by: Administrator,
        caller: AnyCaller,
        only_if: IfMatch,
        response: Response,
        dry_run: Annotated[bool, Query(description="Only say what would change.", examples=[True])] = False,
    ) -> dict[str, Any]:
        """Make it so, all of it or nothing; as it was planned, if If-Match has the plan's fingerprint."""
        wanted = _wanted(body)
        if dry_run:
            planned = applier.plan(wanted)
        else:
            operator = caller.acting_as(OPERATOR) if OPERATOR in caller.roles else None
            planned = applier.apply(wanted, by, operator, _one(only_if))
        response.headers["ETag"] = quoted(fingerprint(planned))
        return _plan_json(planned)

    return router


def _one(tags: frozenset[str] | None) -> str | None:
    if tags is None:
        return None
    if len(tags) != 1:
        raise Outdated("If-Match names no plan, or several: look at the plan again")
    return next(iter(tags))


def _wanted(fleet: models.Fleet) -> Wanted:
    machines = {name: _machine(machine) for name, machine in fleet.machines.items()}
    return Wanted(machines, fleet.groups, fleet.clients)


def _machine(machine: models.DeclaredMachine) -> WantedMachine:
    settings = {name: _setting(setting) for name, setting in machine.settings.items()}
    return WantedMachine(machine.catalogue, settings, machine.absent, machine.delete_token)


def _setting(setting: models.DeclaredSetting) -> WantedSetting:
    fields = setting.model_dump(exclude_unset=True, exclude=_MARKS)
    return WantedSetting(fields, setting.absent, setting.delete_token)


def _fleet_json(wanted: Wanted) -> dict[str, Any]:
    machines = {
        name: {
            "catalogue": machine.catalogue,
            "settings": {
                setting: {**one.fields, **({"absent": True} if one.absent else {})}
                for setting, one in machine.settings.items()
            },
        }
        for name, machine in wanted.machines.items()
    }
    return {"machines": machines, "groups": wanted.groups, "clients": wanted.clients}


def _plan_json(planned: Plan) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint(planned),
        "changes": [as_json(change) for change in planned.changes],
        "refusals": [{"place": list(one.place), "why": one.why} for one in planned.refusals],
    }

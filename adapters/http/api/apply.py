"""The whole fleet at once: its export as a document, and the changes that make it as a document says."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from adapters.http.api.etags import IfMatch, quoted
from adapters.http.api.models import fleet as models
from adapters.http.api.openapi import api_router
from adapters.http.principal import OPERATOR, AccessReaderRole, AccessReaderScope, AdministratorRole, CurrentPrincipal
from adapters.texts.errors import sentence
from adapters.texts.wording import Surface
from domain.errors import Outdated
from domain.plan import Plan, Refusal, Wanted, WantedMachine, WantedProvider, WantedSetting, as_json
from domain.scope import Scope
from infrastructure.fleet.apply import Applier, fingerprint

_MARKS = {"absent", "delete_token"}


def router(applier: Applier) -> APIRouter:
    """The routes of apply and export."""
    router = api_router(prefix="/api/v1", tags=["fleet"])

    @router.get("/export", response_model=models.Fleet, response_model_exclude_unset=True)
    def export(_: AccessReaderRole, scope: AccessReaderScope) -> dict[str, Any]:
        """The document that makes an empty store equal to this one, except for tokens and the keys of clients."""
        return fleet_json(_within(applier.export(), scope))

    @router.post("/apply", response_model=models.Plan, response_model_exclude_unset=True)
    def apply(
        body: models.Fleet,
        by: AdministratorRole,
        principal: CurrentPrincipal,
        only_if: IfMatch,
        response: Response,
        dry_run: Annotated[bool, Query(description="List the changes without making them.", examples=[True])] = False,
    ) -> dict[str, Any]:
        """Make all changes of the document, or none. With a plan's fingerprint in If-Match, make that plan or none."""
        wanted = wanted_of(body)
        if dry_run:
            planned = applier.plan(wanted)
        else:
            operator = principal.require_role(OPERATOR) if OPERATOR in principal.roles else None
            planned = applier.apply(wanted, by, operator, _one(only_if))
        response.headers["ETag"] = quoted(fingerprint(planned))
        return _plan_json(planned)

    return router


def _within(wanted: Wanted, scope: Scope) -> Wanted:
    """The part of the document that is about the machines of this scope."""
    if scope.is_all:
        return wanted
    machines = {name: one for name, one in wanted.machines.items() if scope.has_machine(name)}
    groups = {name: list(filter(scope.has_profile, profiles)) for name, profiles in wanted.groups.items()}
    clients = {name: list(filter(scope.has_profile, profiles)) for name, profiles in wanted.clients.items()}
    return replace(
        wanted,
        machines=machines,
        groups={name: profiles for name, profiles in groups.items() if profiles},
        clients={name: profiles for name, profiles in clients.items() if profiles},
    )


def _one(tags: frozenset[str] | None) -> str | None:
    if tags is None:
        return None
    if len(tags) != 1:
        raise Outdated("not_one_plan")
    return next(iter(tags))


def wanted_of(fleet: models.Fleet) -> Wanted:
    """What a document asks for."""
    machines = {name: _machine(machine) for name, machine in fleet.machines.items()}
    providers = {name: _provider(provider) for name, provider in fleet.providers.items()}
    return Wanted(machines, fleet.groups, fleet.clients, providers)


def _provider(provider: models.DeclaredProvider) -> WantedProvider:
    fields = provider.model_dump(exclude_unset=True, exclude={"kind", "secrets"})
    return WantedProvider(provider.kind, fields, tuple(provider.secrets))


def _machine(machine: models.DeclaredMachine) -> WantedMachine:
    settings = {name: _setting(setting) for name, setting in machine.settings.items()}
    return WantedMachine(machine.catalogue, settings, machine.absent, machine.delete_token, machine.tags)


def _setting(setting: models.DeclaredSetting) -> WantedSetting:
    fields = setting.model_dump(exclude_unset=True, exclude=_MARKS)
    return WantedSetting(fields, setting.absent, setting.delete_token)


def fleet_json(wanted: Wanted) -> dict[str, Any]:
    """The document that asks for this."""
    machines = {
        name: {
            "catalogue": machine.catalogue,
            **({"tags": list(machine.tags)} if machine.tags else {}),
            "settings": {
                setting: {**one.fields, **({"absent": True} if one.absent else {})}
                for setting, one in machine.settings.items()
            },
        }
        for name, machine in wanted.machines.items()
    }
    providers = {
        name: {"kind": one.kind, **one.fields, **({"secrets": list(one.secrets)} if one.secrets else {})}
        for name, one in wanted.providers.items()
    }
    of_providers = {"providers": providers} if providers else {}
    return {"machines": machines, "groups": wanted.groups, "clients": wanted.clients, **of_providers}


def _plan_json(planned: Plan) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint(planned),
        "changes": [as_json(change) for change in planned.changes],
        "refusals": [_refusal_json(refusal) for refusal in planned.refusals],
    }


def _refusal_json(refusal: Refusal) -> dict[str, Any]:
    return {
        "place": list(refusal.place),
        "why": sentence(refusal.code, refusal.fields, Surface.API),
        "code": refusal.code,
        "fields": refusal.fields,
    }

"""Machines, their settings, and SMTP groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from adapters.http.api.etags import IfMatch, quoted
from adapters.http.api.models import settings as models
from adapters.http.api.models.common import Text
from adapters.http.api.openapi import api_router
from adapters.http.api.pagination import Limit, OfNames, link_next
from adapters.http.api.path_names import Name, ProfileName
from adapters.http.principal import AdministratorRole, ReaderRole, ReaderScope
from domain.catalogue import CATALOGUES, catalogue
from domain.profile import ProfileState
from infrastructure.config.stale_names import names_of_machine
from infrastructure.fleet.settings import SettingsService
from infrastructure.queries.machine_filter import MachineFilter, Place, Sort
from infrastructure.queries.setting_status import SettingStatus
from infrastructure.service import Service

_ALL = 1_000_000


def _wanted(
    q: Annotated[Text, Query(max_length=200, description="Words that all must match.", examples=["hamburg 007"])] = "",
    state: Annotated[Text, Query(description="The worst state of the settings.", examples=["Invalid"])] = "",
    provider: Annotated[Text, Query(examples=["contoso"])] = "",
    account: Annotated[Text, Query(examples=["scan@contoso.com"])] = "",
    tag: Annotated[Text, Query(examples=["hamburg"])] = "",
    cause: Annotated[Text, Query(description="A code of attention, or `any`.", examples=["any"])] = "",
    group: Annotated[Text, Query(description="An SMTP group.", examples=["office-mfp"])] = "",
) -> MachineFilter:
    texts = {"q": q, "state": state, "provider": provider, "account": account, "tag": tag, "cause": cause}
    return MachineFilter.of({**texts, "group": group})


Wanted = Annotated[MachineFilter, Depends(_wanted)]
Sorted = Annotated[Sort, Query(description="The order.")]
After = Annotated[Text, Query(description="List the entries behind this place, which Link has.", examples=["a"])]
Changes = Annotated[dict[Text, Text], Body(examples=[{"server": "smtp.office365.com", "port": "587"}])]


def router(service: Service) -> APIRouter:
    """The routes of machines, catalogues, profiles and groups."""
    router = api_router(prefix="/api/v1", tags=["settings"])
    _add_machine_routes(router, service)
    _add_profile_routes(router, service)
    _add_group_routes(router, service.settings)
    return router


def _add_machine_routes(router: APIRouter, service: Service) -> None:
    settings = service.settings

    @router.get("/machines", response_model=list[models.ListedMachine])
    def machines(
        _: ReaderRole,
        scope: ReaderScope,
        request: Request,
        response: Response,
        wanted: Wanted,
        limit: Limit = None,
        after: After = "",
        sort: Sorted = Sort.NAME,
    ) -> list[dict[str, Any]]:
        """The machines that are wanted, all without a limit; the header Link has the next page."""
        place = Place.of(after, sort) if after else None
        page = service.machines.page(wanted.within(scope, settings.machine_names), sort, place, limit or _ALL)
        if page.after:
            link_next(request, response, page.after.text(sort))
        return [machine.as_json() for machine in page.machines]

    @router.post("/machines", status_code=201, response_model=models.AddedMachine)
    def add_machine(body: models.NewMachine, by: AdministratorRole) -> dict[str, Any]:
        """Add a machine with the settings its catalogue has."""
        profiles = settings.add_machine(body.name, body.catalogue, by)
        service.polling_worker.wake()
        return {"name": body.name, "catalogue": body.catalogue, "profiles": profiles}

    @router.delete("/machines/{name}", status_code=204)
    def remove_machine(name: Name, by: AdministratorRole) -> None:
        """Remove a machine and its settings; refused while one of their tokens is held."""
        settings.remove_machine(name, by)

    @router.post("/machines/{name}/tags", response_model=models.Tags)
    def tag_machine(name: Name, body: models.Tagging, by: AdministratorRole) -> dict[str, Any]:
        """Add tags to a machine and take others away; a tag in both lists is added."""
        return {"tags": settings.tag_machine(name, body.add, body.remove, by)}

    @router.post("/machines/{name}/rename", response_model=models.Renamed)
    def rename_machine(name: Name, body: models.NewName, by: AdministratorRole) -> dict[str, Any]:
        """Give a machine another name; its tokens, grants and relay users follow."""
        profiles = settings.rename_machine(name, body.name, by)
        return {"profiles": profiles, "stale": names_of_machine(service.config, name)}

    @router.get("/catalogues", response_model=list[models.Catalogue])
    def catalogues(_: ReaderRole) -> list[dict[str, Any]]:
        """The machine models with their mail settings."""
        return [
            {
                "name": one.name,
                "settings": [
                    {"name": s.name, "protocol": s.protocol.value, "menu_path": s.menu_path, "linked": s.linked}
                    for s in one.settings
                ],
            }
            for one in CATALOGUES.values()
        ]


def _add_profile_routes(router: APIRouter, service: Service) -> None:
    settings = service.settings

    @router.get("/profiles", response_model=list[models.Profile])
    def profiles(_: ReaderRole, scope: ReaderScope, page: OfNames, response: Response) -> list[dict[str, Any]]:
        """The values of every setting."""
        catalogues = {machine["name"]: machine["catalogue"] for machine in settings.machines()}
        if scope.is_all:
            statuses = page.of(response, service.tokens.statuses, _name)
        else:
            inside = [one for one in service.tokens.statuses() if scope.has_machine(one.profile.machine)]
            statuses = page.of_all(response, inside, _name)
        return [_profile_json(one.profile, one.group, catalogues) for one in statuses]

    @router.get("/profiles/{machine}/{setting}", response_model=models.Profile)
    def profile(name: ProfileName, _: ReaderRole, response: Response) -> dict[str, Any]:
        """The values of a setting."""
        status = service.tokens.status(name)
        catalogues = {one["name"]: one["catalogue"] for one in settings.machines()}
        response.headers["ETag"] = quoted(status.edition)
        return _profile_json(status.profile, status.group, catalogues)

    @router.patch("/profiles/{machine}/{setting}", response_model=models.Profile)
    def set_profile(
        name: ProfileName, changes: Changes, by: AdministratorRole, only_if: IfMatch, response: Response
    ) -> dict[str, Any]:
        """Fill in fields of a setting; an empty text clears a field. A removed setting of the catalogue is restored."""
        settings.set_profile(name, changes, by, only_if)
        return profile(name, by, response)

    @router.delete("/profiles/{machine}/{setting}", status_code=204)
    def remove_profile(name: ProfileName, by: AdministratorRole, only_if: IfMatch) -> None:
        """Remove a setting; refused while it is the last setting that uses a held token."""
        settings.remove_profile(name, by, only_if)


def _add_group_routes(router: APIRouter, settings: SettingsService) -> None:
    @router.get("/groups", response_model=list[models.Group])
    def groups(_: ReaderRole, scope: ReaderScope, page: OfNames, response: Response) -> list[dict[str, Any]]:
        """Every SMTP group."""
        groups = page.of_all(response, settings.groups_within(scope), lambda group: group.name)
        return [
            {
                "name": group.name,
                "token": group.members[0].token.status.value,
                "profiles": [status.profile.name for status in group.members],
            }
            for group in groups
        ]

    @router.post("/groups/{name}/profiles", status_code=204)
    def link(name: Name, body: models.Linking, by: AdministratorRole) -> None:
        """Link SMTP settings into a group; a new name makes a new group."""
        settings.link(name, body.profiles, by)

    @router.delete("/profiles/{machine}/{setting}/group", status_code=204)
    def unlink(name: ProfileName, by: AdministratorRole) -> None:
        """Take a setting out of its group; it gets a token of its own."""
        settings.unlink(name, by)


def _name(status: SettingStatus) -> str:
    return status.profile.name


def _profile_json(profile: ProfileState, group: str | None, catalogues: dict[str, str]) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "machine": profile.machine,
        "setting": profile.setting,
        "protocol": profile.protocol.value,
        "menu_path": catalogue(catalogues[profile.machine]).setting(profile.setting).menu_path,
        "group": group,
        **asdict(profile.settings_in_use),
    }

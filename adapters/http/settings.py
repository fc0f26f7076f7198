"""Machines, their settings, and SMTP groups."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from adapters.bootstrap import Service
from adapters.http import models
from adapters.http.callers import Administrator, Reader
from adapters.http.etags import IfMatch, quoted
from adapters.http.models import Text
from adapters.http.naming import Name, ProfileName
from adapters.http.paging import OfNames
from domain.catalogue import CATALOGUES, catalogue
from domain.profile import ProfileState
from infrastructure.status import SettingStatus

Changes = Annotated[dict[Text, Text], Body(examples=[{"server": "smtp.office365.com", "port": "587"}])]


def router(service: Service) -> APIRouter:
    """The routes of machines, catalogues, profiles and groups."""
    router, settings = APIRouter(prefix="/api/v1", tags=["settings"]), service.settings

    @router.get("/machines", response_model=list[models.Machine])
    def machines(_: Reader, page: OfNames, response: Response) -> list[dict[str, Any]]:
        """Every machine."""
        return [dict(machine) for machine in page.of_all(response, settings.machines(), lambda one: str(one["name"]))]

    @router.post("/machines", status_code=201, response_model=models.AddedMachine)
    def add_machine(body: models.NewMachine, by: Administrator) -> dict[str, Any]:
        """Add a machine with the settings its catalogue has."""
        profiles = settings.add_machine(body.name, body.catalogue, by)
        service.worker.wake()
        return {"name": body.name, "catalogue": body.catalogue, "profiles": profiles}

    @router.delete("/machines/{name}", status_code=204)
    def remove_machine(name: Name, by: Administrator) -> None:
        """Remove a machine and its settings; refused while one of their tokens is held."""
        settings.remove_machine(name, by)

    @router.get("/catalogues", response_model=list[models.Catalogue])
    def catalogues(_: Reader) -> list[dict[str, Any]]:
        """The machine models, and which mail settings each has."""
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

    @router.get("/profiles", response_model=list[models.Profile])
    def profiles(_: Reader, page: OfNames, response: Response) -> list[dict[str, Any]]:
        """What every setting holds."""
        catalogues = {machine["name"]: machine["catalogue"] for machine in settings.machines()}
        statuses = page.of(response, service.tokens.statuses, _name)
        return [_profile_json(one.profile, one.group, catalogues) for one in statuses]

    @router.get("/profiles/{machine}/{setting}", response_model=models.Profile)
    def profile(name: ProfileName, _: Reader, response: Response) -> dict[str, Any]:
        """What a setting holds."""
        status = service.tokens.status(name)
        catalogues = {one["name"]: one["catalogue"] for one in settings.machines()}
        response.headers["ETag"] = quoted(status.edition)
        return _profile_json(status.profile, status.group, catalogues)

    @router.patch("/profiles/{machine}/{setting}", response_model=models.Profile)
    def set_profile(
        name: ProfileName, changes: Changes, by: Administrator, only_if: IfMatch, response: Response
    ) -> dict[str, Any]:
        """Fill in fields of a setting; an empty text clears one. A removed setting of the catalogue comes back."""
        settings.set_profile(name, changes, by, only_if)
        return profile(name, by, response)

    @router.delete("/profiles/{machine}/{setting}", status_code=204)
    def remove_profile(name: ProfileName, by: Administrator, only_if: IfMatch) -> None:
        """Remove a setting; refused while it is the last one of a token that is held."""
        settings.remove_profile(name, by, only_if)

    @router.get("/groups", response_model=list[models.Group])
    def groups(_: Reader, page: OfNames, response: Response) -> list[dict[str, Any]]:
        """Every SMTP group."""
        groups = page.of_all(response, settings.groups(), lambda group: group.name)
        return [
            {
                "name": group.name,
                "token": group.members[0].token.status.value,
                "profiles": [status.profile.name for status in group.members],
            }
            for group in groups
        ]

    @router.post("/groups/{name}/profiles", status_code=204)
    def link(name: Name, body: models.Linking, by: Administrator) -> None:
        """Link SMTP settings into a group, which is made if it is not there."""
        settings.link(name, body.profiles, by)

    @router.delete("/profiles/{machine}/{setting}/group", status_code=204)
    def unlink(name: ProfileName, by: Administrator) -> None:
        """Take a setting out of its group; it gets a token of its own."""
        settings.unlink(name, by)

    return router


def _name(status: SettingStatus) -> str:
    return status.profile.name


def _profile_json(profile: ProfileState, group: str | None, catalogues: dict[str, str]) -> dict[str, Any]:
    settings = profile.settings
    return {
        "profile": profile.name,
        "machine": profile.machine,
        "setting": profile.setting,
        "protocol": profile.protocol.value,
        "menu_path": catalogue(catalogues[profile.machine]).setting(profile.setting).menu_path,
        "group": group,
        "server": settings.server,
        "port": profile.port,
        "tls": settings.tls,
        "timeout": settings.timeout,
        "sender_name": settings.sender_name,
        "sender_address": settings.sender_address,
        "check_interval": settings.check_interval,
        "authentication": settings.authentication,
        "provider": settings.provider,
        "account": settings.account,
        "mailbox": profile.mailbox,
    }

"""The page Import and export: a fleet in one file, the plan before anything is changed, and the files of today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response
from pydantic import ValidationError

from adapters.fleet_files import FORMATS, FleetFile, NotAFleetFile, parse, write
from adapters.http.api.apply import fleet_json, wanted_of
from adapters.http.api.models.fleet import Fleet
from adapters.http.principal import ADMINISTRATOR, OPERATOR
from adapters.http.web.page_route import Configuring, PageRequest, Posted, page_router, redirect
from adapters.texts.errors import error_text, sentence
from adapters.texts.plan_changes import change_text
from adapters.texts.wording import Surface
from domain.errors import NotPermitted, Outdated
from domain.plan import Plan, Wanted, as_json
from infrastructure.fleet.apply import fingerprint
from infrastructure.service import Service

TRANSFER = "/import"
_SHOWN = 500
"""The most changes, and the most problems, that the page shows."""
_MEDIA_TYPES = {"toml": "application/toml", "yaml": "application/yaml", "csv": "text/csv"}


@dataclass(frozen=True)
class _Read:
    """A file that was read: what it asks for, or the problems with it."""

    file: FleetFile
    wanted: Wanted | None
    problems: tuple[str, ...] = ()


def transfer_pages(service: Service) -> APIRouter:
    """The routes of the page, of the plan, and of the exported files."""
    router = page_router()
    _imports(router, service)

    @router.get("/export/{file_format}")
    def export(file_format: str, page_request: Configuring) -> Response:
        if file_format not in FORMATS:
            return page_request.render("import.html", **_frame(), status=HTTPStatus.NOT_FOUND)
        return Response(
            write(fleet_json(service.applier.export()), file_format),
            media_type=_MEDIA_TYPES[file_format],
            headers={"Content-Disposition": f'attachment; filename="mailtoken.{file_format}"'},
        )

    return router


def _imports(router: APIRouter, service: Service) -> None:
    applier = service.applier

    @router.get(TRANSFER)
    def show(page_request: Configuring) -> Response:
        return page_request.render("import.html", **_frame())

    @router.post(TRANSFER)
    def plan(page_request: Configuring, form: Posted) -> Response:
        read = _read(form)
        if read.wanted is None:
            return _page(page_request, form, read.problems)
        planned = applier.plan(read.wanted)
        return _page(page_request, form, _refusals(planned, read.file), planned)

    @router.post(f"{TRANSFER}/apply")
    def apply(page_request: Configuring, form: Posted) -> Response:
        read = _read(form)
        if read.wanted is None:
            return _page(page_request, form, read.problems)
        operator = page_request.actor(OPERATOR) if page_request.operates else None
        try:
            planned = applier.apply(
                read.wanted, page_request.actor(ADMINISTRATOR), operator, form.get("fingerprint") or None
            )
        except (Outdated, NotPermitted) as error:
            return _page(page_request, form, (error_text(error, Surface.PAGE),), applier.plan(read.wanted))
        if planned.refusals:
            return _page(page_request, form, _refusals(planned, read.file), planned)
        return redirect(TRANSFER, "applied")


def _read(form: dict[str, str]) -> _Read:
    empty = FleetFile({})
    try:
        file = parse(form.get("file", ""), form.get("format", "") if form.get("format") in FORMATS else "toml")
    except NotAFleetFile as why:
        return _Read(empty, None, (str(why),))
    try:
        return _Read(file, wanted_of(Fleet.model_validate(file.document)))
    except ValidationError as invalid:
        problems = (f"{file.where(map(str, one['loc']))}: {one['msg']}" for one in invalid.errors()[:_SHOWN])
        return _Read(file, None, tuple(problems))


def _refusals(planned: Plan, file: FleetFile) -> tuple[str, ...]:
    return tuple(
        f"{file.where(one.place)}: {sentence(one.code, one.fields, Surface.PAGE)}" for one in planned.refusals[:_SHOWN]
    )


def _frame() -> dict[str, Any]:
    return {"typed": {}, "problems": (), "plan": None, "changes": (), "formats": FORMATS, "fingerprint": None}


def _page(
    page_request: PageRequest, form: dict[str, str], problems: Sequence[str], planned: Plan | None = None
) -> Response:
    changes = [change_text(as_json(change), Surface.PAGE) for change in planned.changes[:_SHOWN]] if planned else []
    given = {
        "typed": form,
        "problems": problems,
        "plan": planned,
        "changes": changes,
        "fingerprint": fingerprint(planned) if planned else None,
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK
    return page_request.render("import.html", status=status, **{**_frame(), **given})

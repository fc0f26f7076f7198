"""Templates become pages. All is escaped, instants are UTC, and a text is found in the catalogue or not shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from adapters.web.texts import text
from domain.lifecycle import TokenStatus

_MEDIA_TYPES = MappingProxyType(
    {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
)


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent. `version` is made of its bytes: an address with it may be kept for ever."""

    body: bytes
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file there is, by name: all of them are read once, so no name from outside becomes a path."""
    found = {}
    for file in files("adapters.web").joinpath("static").iterdir():
        body, suffix = file.read_bytes(), file.name[file.name.rindex(".") :]
        found[file.name] = StaticFile(body, _MEDIA_TYPES[suffix], hashlib.sha256(body).hexdigest()[:12])
    return MappingProxyType(found)


def render(template: str, **context: Any) -> str:
    """The document, or the part of one, that this template gives."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("adapters.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(t=text, static=_static, TokenStatus=TokenStatus)
    environment.filters.update(day=_day, machine_time=_machine_time, distance=distance, slug=_slug)
    return environment


def _static(name: str) -> str:
    return f"/static/{name}?v={static_files()[name].version}"


def _day(instant: datetime) -> str:
    """As a person reads it, to the minute: an address of the page has the rest."""
    at = instant.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _machine_time(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def distance(instant: datetime, now: datetime) -> str:
    """How far off an instant is, in the largest unit that says it well."""
    seconds = (instant - now).total_seconds()
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * size or (unit == "minutes" and abs(seconds) >= size):
            return text(f"distance.{'ahead' if seconds > 0 else 'ago'}.{unit}", count=int(abs(seconds) // size))
    return text("distance.soon" if seconds > 0 else "distance.now")


def _slug(label: str) -> str:
    """A label as a class of the style sheet has it."""
    return label.lower().replace(" ", "-")

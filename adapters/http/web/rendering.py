"""Renders templates. Every value is escaped, instants are in UTC, and every text comes from `texts`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from adapters.http.web.texts import text
from adapters.texts.reasons import reason_text
from adapters.texts.wording import Surface
from domain.lifecycle import TokenStatus

_MEDIA_TYPES = MappingProxyType(
    {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
)


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent. `version` is a hash of its bytes, so a URL with it may be cached for ever."""

    body: bytes
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every static file, by name. All are read once, so no name from a request becomes a path."""
    found = {}
    for file in files("adapters.http.web").joinpath("static").iterdir():
        body, suffix = file.read_bytes(), file.name[file.name.rindex(".") :]
        found[file.name] = StaticFile(body, _MEDIA_TYPES[suffix], hashlib.sha256(body).hexdigest()[:12])
    return MappingProxyType(found)


def render(template: str, **context: Any) -> str:
    """The text of this template, a whole document or a part of one."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("adapters.http.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(t=text, reason=_reason, static=_static, TokenStatus=TokenStatus)
    environment.filters.update(day=_day, second=_second, machine_time=_machine_time)
    environment.filters.update(distance=distance, duration=duration, slug=_slug)
    return environment


def _reason(code: str) -> str:
    return reason_text(code, Surface.PAGE)


def _static(name: str) -> str:
    return f"/static/{name}?v={static_files()[name].version}"


def _day(instant: datetime) -> str:
    """An instant for a person, to the minute."""
    at = instant.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def _machine_time(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def _second(instant: datetime) -> str:
    """An instant for a person, to the second."""
    at = instant.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"


def duration(time: timedelta) -> str:
    """A length of time in its two greatest units: days and hours, or hours and minutes."""
    minutes = int(time.total_seconds() // 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return text("duration.days", days=days, hours=hours % 24)
    if hours:
        return text("duration.hours", hours=hours, minutes=minutes % 60)
    return text("duration.minutes", minutes=minutes) if minutes else text("duration.short")


def distance(instant: datetime, now: datetime) -> str:
    """How far off an instant is, in days, hours or minutes."""
    seconds = (instant - now).total_seconds()
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * size or (unit == "minutes" and abs(seconds) >= size):
            return text(f"distance.{'ahead' if seconds > 0 else 'ago'}.{unit}", count=int(abs(seconds) // size))
    return text("distance.soon" if seconds > 0 else "distance.now")


def _slug(label: str) -> str:
    """A label as the name of a CSS class."""
    return label.lower().replace(" ", "-")

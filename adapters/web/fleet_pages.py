"""The pages of the whole fleet: Settings, and Attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Response

from adapters.bootstrap import Service
from adapters.web.shown import ShownToken, shown_machines, shown_token
from adapters.web.texts import text
from adapters.web.visits import AsOf, Reading, page_router
from domain.forecast import SOON, Ending
from domain.lifecycle import TokenStatus
from infrastructure.attention import OF_PROVIDERS, Attended
from infrastructure.fleet import SHOWN, FleetPage, Wanted

_ORDER = {TokenStatus.INVALID: 0, TokenStatus.WAITING: 1, TokenStatus.RETRIEVED: 2, TokenStatus.NOT_RETRIEVED: 3}


@dataclass(frozen=True)
class Need:
    """A token that wants a person, and its settings. `provider` is set if the trouble is all of that provider's."""

    token: ShownToken
    settings: tuple[str, ...]
    provider: str | None


@dataclass(frozen=True)
class Outlook:
    """Tokens that end in the same way on the same day, for one reason."""

    sentence: str
    ending: Ending
    settings: tuple[str, ...]


class _Links:
    """Addresses of the Settings page that keep what else is wanted."""

    def __init__(self, wanted: Wanted, as_of: datetime | None) -> None:
        self._query = {"q": wanted.search, "show": wanted.show or "", "as_of": as_of.isoformat() if as_of else ""}

    def to(self, **changes: object) -> str:
        """The page with these parameters changed."""
        query = {name: value for name, value in {**self._query, **changes}.items() if value}
        return f"/settings?{urlencode(query)}" if query else "/settings"


def fleet_pages(service: Service) -> APIRouter:
    """Settings and Attention."""
    router = page_router()

    @router.get("/settings")
    def settings(
        visit: Reading,
        as_of: AsOf,
        q: Annotated[str, Query(max_length=200)] = "",
        show: str = "",
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> Response:
        wanted = Wanted(q.strip(), show if show in SHOWN else None, page)
        found: FleetPage = service.fleet.page_as_of(wanted, as_of) if as_of else service.fleet.page(wanted)
        return visit.page(
            "settings.html",
            machines=shown_machines(found),
            found=found,
            wanted=wanted,
            links=_Links(wanted, as_of),
            now=as_of or service.clock.now(),
            as_of=as_of,
        )

    @router.get("/attention")
    def attention(visit: Reading, as_of: AsOf) -> Response:
        now = as_of or service.clock.now()
        if as_of:
            attended = [Attended(one, None, one.attention) for one in service.audit.statuses_as_of(as_of)]
        else:
            attended = service.attention.statuses()
        return visit.page("attention.html", needs=needs(attended), outlook=outlook(attended, now), now=now, as_of=as_of)

    return router


def needs(attended: Iterable[Attended]) -> list[Need]:
    """What wants a person: first what does not work any more, then what ends first."""
    found = [
        Need(
            shown_token(ones[0]),
            tuple(one.status.profile.name for one in ones),
            ones[0].status.token.provider if ones[0].attention in OF_PROVIDERS else None,
        )
        for ones in _by_token(one for one in attended if one.attention).values()
    ]
    return sorted(
        found, key=lambda need: (_ORDER[need.token.label], need.token.ends_at or need.token.status.token.since)
    )


def outlook(attended: Iterable[Attended], now: datetime) -> list[Outlook]:
    """What ends within thirty days, and does not want a person yet."""
    found: dict[tuple[str, str, datetime], list[Attended]] = {}
    for ones in _by_token(attended).values():
        ending = ones[0].ending
        if ending and not ones[0].attention and ending.at - now < SOON:
            day = ending.at.replace(hour=0, minute=0, second=0, microsecond=0)
            key = (ending.cause.value, ones[0].status.token.provider or "", day)
            found.setdefault(key, []).extend(ones)
    return sorted(
        (_outlook(cause, ones) for (cause, _, _), ones in found.items()), key=lambda outlook: outlook.ending.at
    )


def _outlook(cause: str, ones: list[Attended]) -> Outlook:
    endings = [one.ending for one in ones if one.ending]
    first = min(endings, key=lambda ending: ending.at)
    return Outlook(text(f"outlook.{cause}"), first, tuple(one.status.profile.name for one in ones))


def _by_token(attended: Iterable[Attended]) -> Mapping[UUID, list[Attended]]:
    by_token: dict[UUID, list[Attended]] = {}
    for one in attended:
        by_token.setdefault(one.status.profile.token_id, []).append(one)
    return by_token

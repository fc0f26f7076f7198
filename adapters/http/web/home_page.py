"""The first page: what needs a person, tokens by state, what ends in ninety days, mail by day, and what runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from fastapi import APIRouter, Response

from adapters.http.web.page_route import Reading, page_router
from adapters.http.web.view_models import STATES, token_view
from infrastructure.queries.home import HORIZON, Ending, Home, MailDay, Node
from infrastructure.service import Service

_MOST_CAUSES = 5
_WIDTH = 900


@dataclass(frozen=True)
class Mark:
    """A day of the time line on which something ends: its place, and the size that its number of settings has."""

    x: float
    radius: float
    urgent: bool


@dataclass(frozen=True)
class Tick:
    """A labelled day of the time line."""

    x: float
    day: date


@dataclass(frozen=True)
class Bar:
    """The bar of a day's mail: its place and height, of 100."""

    x: int
    height: float
    day: MailDay


@dataclass(frozen=True)
class ProviderHealth:
    """A provider, and the error codes of its credentials that are refused."""

    name: str
    faults: Sequence[str]


def home_page(service: Service) -> APIRouter:
    """The route of the page."""
    router = page_router()

    @router.get("/home")
    def home(page_request: Reading) -> Response:
        found = service.home.now(page_request.reads)
        return page_request.render(
            "home.html",
            home=found,
            states=STATES,
            causes=[(item, token_view(item.first)) for item in found.attention.items[:_MOST_CAUSES]],
            marks=_marks(found),
            nodes=_nodes(found.nodes),
            ticks=_ticks(found.now.date()),
            bars=_bars(found.mail),
            providers=_providers(service),
            has_providers=bool(service.providers),
            workers=[ticker for ticker in service.tickers if ticker.is_dead],
            now=found.now,
        )

    return router


def _place(day: date, today: date) -> float:
    return round(20 + (_WIDTH - 40) * min(1, max(0, (day - today).days / HORIZON.days)), 1)


def _marks(home: Home) -> list[Mark]:
    today, days = home.now.date(), dict[date, list[Ending]]()
    for one in home.endings:
        days.setdefault(one.day, []).append(one)
    return [
        Mark(_place(day, today), min(16, 5 + sum(one.count for one in ones) ** 0.5), (day - today).days < 7)
        for day, ones in days.items()
    ]


def _nodes(nodes: Sequence[Node]) -> list[tuple[str, Node]]:
    """Each node by its host, or by its whole name if another node is on the same host."""
    hosts = Counter(one.host for one in nodes)
    return [(one.host if hosts[one.host] == 1 else one.name, one) for one in nodes]


def _ticks(today: date) -> list[Tick]:
    return [Tick(_place(day, today), day) for day in (today + timedelta(days=30 * number) for number in range(4))]


def _bars(mail: Sequence[MailDay]) -> list[Bar]:
    most = max((one.messages for one in mail), default=0) or 1
    return [Bar(number * 20, round(100 * one.messages / most, 1), one) for number, one in enumerate(mail)]


def _providers(service: Service) -> list[ProviderHealth]:
    faults = service.tokens.client_faults()
    return [ProviderHealth(name, sorted(set(faults.get(name, {}).values()))) for name in sorted(service.providers)]

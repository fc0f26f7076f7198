"""Turns between ours and the peer, so that whatever else the machine does meets both; medians and ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

Measure = Callable[[], float]


@dataclass(frozen=True)
class Size:
    """How much is measured. Many short rounds tell more than few long ones on a machine that does other things too."""

    rounds: int
    saves: int
    settings: int
    events: int
    renewals: int
    busy_weeks: int
    mail_clients: tuple[int, ...]
    mail_clients_as_installed: tuple[int, ...]
    mail_rounds: int
    mail_seconds: float
    mailbox_messages: int
    idle_connections: int
    growth_settings: tuple[int, ...]
    growth_rounds: int


FULL = Size(
    rounds=24,
    saves=50,
    settings=1000,
    events=10_000,
    renewals=40,
    busy_weeks=4,
    mail_clients=(1, 8, 32, 128),
    mail_clients_as_installed=(32,),
    mail_rounds=6,
    mail_seconds=1.0,
    mailbox_messages=256,
    idle_connections=1000,
    growth_settings=(1_000, 10_000, 100_000),
    growth_rounds=5,
)
QUICK = Size(
    rounds=6,
    saves=20,
    settings=1000,
    events=4_000,
    renewals=16,
    busy_weeks=1,
    mail_clients=(1, 32),
    mail_clients_as_installed=(),
    mail_rounds=2,
    mail_seconds=0.3,
    mailbox_messages=64,
    idle_connections=200,
    growth_settings=(140, 1_400),
    growth_rounds=2,
)


@dataclass(frozen=True)
class Figure:
    """One figure and what it is measured against.

    `ratio` is ours to the peer's, the median of all rounds; half of them are between the quartiles. `target` is for
    the ratio: at least that if more is better, else at most. Some figures have none.
    """

    name: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    ratio: float
    lower_quartile: float
    upper_quartile: float
    more_is_better: bool
    target: float | None
    limited_by: str

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.more_is_better else self.ratio <= self.target

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "reached": self.reached}


def compare(
    name: str,
    *,
    ours: Measure,
    peer: Measure,
    peer_name: str,
    rounds: int,
    unit: str,
    more_is_better: bool,
    target: float | None,
    limited_by: str,
) -> Figure:
    """Measure both once without counting it, then in turns; who begins changes too."""
    ours(), peer()
    pairs = []
    for number in range(rounds):
        if number % 2:
            of_peer = peer()
            pairs.append((ours(), of_peer))
        else:
            pairs.append((ours(), peer()))
    return figure(
        name,
        pairs,
        peer_name=peer_name,
        unit=unit,
        more_is_better=more_is_better,
        target=target,
        limited_by=limited_by,
    )


def figure(
    name: str,
    pairs: Sequence[tuple[float, float]],
    *,
    peer_name: str,
    unit: str,
    more_is_better: bool,
    target: float | None,
    limited_by: str,
) -> Figure:
    """The figure of some rounds, each of ours and the peer's."""
    ratios = [one / other for one, other in pairs]
    lower, _, upper = quantiles(ratios, n=4, method="inclusive")
    return Figure(
        name,
        unit,
        median(one for one, _ in pairs),
        peer_name,
        median(other for _, other in pairs),
        median(ratios),
        lower,
        upper,
        more_is_better,
        target,
        limited_by,
    )

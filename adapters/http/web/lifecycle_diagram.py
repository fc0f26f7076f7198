"""The diagram of a token's lifecycle: the positions of its states and transitions, laid out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from domain.lifecycle import TokenStatus

WIDTH, HEIGHT = 700, 256


@dataclass(frozen=True)
class Box:
    """A state, with the centre and the size of its box."""

    status: TokenStatus
    x: int
    y: int
    width: int
    height: int = 44


@dataclass(frozen=True)
class Arrow:
    """A transition: its path in SVG, and the position of its label; `words` is the label's name in `texts`."""

    path: str
    words: str
    x: int
    y: int
    anchor: str = "middle"


_NOT, _WAITING, _RETRIEVED, _INVALID = (
    TokenStatus.NOT_RETRIEVED,
    TokenStatus.WAITING,
    TokenStatus.RETRIEVED,
    TokenStatus.INVALID,
)

BOXES = (
    Box(_NOT, 66, 130, 116),
    Box(_WAITING, 300, 130, 200),
    Box(_RETRIEVED, 550, 60, 112),
    Box(_INVALID, 550, 200, 112),
)

ARROWS: Mapping[tuple[TokenStatus, TokenStatus], Arrow] = MappingProxyType(
    {
        (_NOT, _WAITING): Arrow("M125 122 H197", "diagram.request", 161, 114),
        (_WAITING, _NOT): Arrow("M199 140 H127", "diagram.give_up", 161, 168),
        (_WAITING, _RETRIEVED): Arrow("M360 107 Q410 62 491 56", "diagram.retrieve", 404, 70, "end"),
        (_RETRIEVED, _WAITING): Arrow("M493 72 Q440 80 390 107", "diagram.request_again", 458, 102, "start"),
        (_WAITING, _INVALID): Arrow("M360 153 Q410 198 491 204", "diagram.end_dead", 396, 200, "end"),
        (_INVALID, _WAITING): Arrow("M493 188 Q440 180 390 153", "diagram.request_again", 458, 166, "start"),
        (_WAITING, _WAITING): Arrow("M240 107 C234 70 286 70 280 105", "diagram.held", 260, 70),
        (_RETRIEVED, _INVALID): Arrow("M538 83 V175", "diagram.find_dead", 530, 134, "end"),
        (_INVALID, _RETRIEVED): Arrow("M562 177 V85", "diagram.reinstate", 570, 134, "start"),
        (_RETRIEVED, _RETRIEVED): Arrow("M607 50 C648 40 648 82 609 72", "diagram.renew", 644, 66, "start"),
        (_INVALID, _INVALID): Arrow("M607 190 C648 180 648 222 609 212", "diagram.again", 644, 206, "start"),
        (_RETRIEVED, _NOT): Arrow("M493 48 C350 10 130 10 68 105", "diagram.delete", 250, 20),
        (_INVALID, _NOT): Arrow("M493 214 C400 246 130 246 68 155", "diagram.delete", 268, 249),
    }
)

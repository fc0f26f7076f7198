"""The diagram of a token's lifecycle: the positions of its states and transitions, laid out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from domain.lifecycle import TokenStatus

WIDTH, HEIGHT = 784, 330


@dataclass(frozen=True)
class Box:
    """A state, with the centre and the size of its box."""

    status: TokenStatus
    x: int
    y: int
    width: int
    height: int = 46


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
    Box(_NOT, 76, 165, 128),
    Box(_WAITING, 350, 165, 216),
    Box(_RETRIEVED, 620, 75, 120),
    Box(_INVALID, 620, 255, 120),
)

ARROWS: Mapping[tuple[TokenStatus, TokenStatus], Arrow] = MappingProxyType(
    {
        (_NOT, _WAITING): Arrow("M141 156 H240", "diagram.request", 191, 148),
        (_WAITING, _NOT): Arrow("M242 176 H143", "diagram.give_up", 191, 194),
        (_WAITING, _RETRIEVED): Arrow("M410 142 Q470 84 558 72", "diagram.retrieve", 462, 90, "end"),
        (_RETRIEVED, _WAITING): Arrow("M560 90 Q494 104 444 141", "diagram.request_again", 528, 128, "start"),
        (_WAITING, _INVALID): Arrow("M410 188 Q470 246 558 258", "diagram.end_dead", 452, 246, "end"),
        (_INVALID, _WAITING): Arrow("M560 240 Q494 226 444 189", "diagram.request_again", 528, 216, "start"),
        (_WAITING, _WAITING): Arrow("M276 142 C270 100 326 100 320 140", "diagram.held", 298, 100),
        (_RETRIEVED, _INVALID): Arrow("M606 98 V230", "diagram.find_dead", 598, 168, "end"),
        (_INVALID, _RETRIEVED): Arrow("M634 232 V100", "diagram.reinstate", 642, 168, "start"),
        (_RETRIEVED, _RETRIEVED): Arrow("M680 64 C728 52 728 98 682 88", "diagram.renew", 724, 80, "start"),
        (_INVALID, _INVALID): Arrow("M680 244 C728 232 728 278 682 268", "diagram.again", 724, 260, "start"),
        (_RETRIEVED, _NOT): Arrow("M560 60 C400 16 140 20 78 139", "diagram.delete", 300, 34),
        (_INVALID, _NOT): Arrow("M560 270 C400 314 140 310 78 191", "diagram.delete", 300, 308),
    }
)

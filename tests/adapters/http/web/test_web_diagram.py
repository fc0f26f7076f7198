"""The picture of a token's life shows each transition of the lifecycle, once, and no other."""

from __future__ import annotations

import itertools

from adapters.http.web.lifecycle_diagram import ARROWS, BOXES
from domain.lifecycle import COMMANDS, Held, TokenStatus, target


def test_every_transition_has_its_arrow_and_every_arrow_its_transition() -> None:
    every = itertools.product(TokenStatus, COMMANDS, Held)
    reached = [(status, target(status, command, held)) for status, command, held in every]
    transitions = {(status, to) for status, to in reached if isinstance(to, TokenStatus)}
    assert set(ARROWS) == transitions


def test_every_state_has_its_box() -> None:
    assert [box.status for box in BOXES] == list(TokenStatus)

"""The life of a token: its states, and the commands that each state permits.

`TokenLifecycle` lists the commands that lead from a state to another, and the changes of a setting that each state
permits. All other code calls `target`, which runs the state machine once for each question and caches the answer: a
step of the machine takes a tenth of a millisecond, and a replay takes millions of steps.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any

from statemachine import State, StateMachine
from statemachine.exceptions import TransitionNotAllowed

from domain.errors import Refused


class TokenStatus(StrEnum):
    """The text that a setting displays under "Token": the manual's labels, letter for letter."""

    NOT_RETRIEVED = "Not Retrieved"
    WAITING = "Waiting for authorisation"
    RETRIEVED = "Retrieved"
    INVALID = "Invalid"


class End(StrEnum):
    """The end of a token. No setting displays it, as the token's last setting was removed."""

    RETIRED = "retired"


Phase = TokenStatus | End
"""The state of a token, its end included."""


class Held(StrEnum):
    """The kind of credential that the vault has for a token, apart from any attempt under way."""

    NOTHING = "nothing"
    LIVE = "live"
    DEAD = "dead"


class TokenLifecycle(StateMachine):
    """The manual's four states, the end, and the commands permitted in each."""

    not_retrieved = State(TokenStatus.NOT_RETRIEVED.value, value=TokenStatus.NOT_RETRIEVED, initial=True)
    waiting = State(TokenStatus.WAITING.value, value=TokenStatus.WAITING)
    retrieved = State(TokenStatus.RETRIEVED.value, value=TokenStatus.RETRIEVED)
    invalid = State(TokenStatus.INVALID.value, value=TokenStatus.INVALID)
    retired = State("Retired", value=End.RETIRED, final=True)

    # Commands that change the token.
    request = not_retrieved.to(waiting) | retrieved.to(waiting) | invalid.to(waiting)
    retrieve = waiting.to(retrieved)
    end_attempt = (
        waiting.to(not_retrieved, cond="held_nothing")
        | waiting.to(retrieved, cond="held_live")
        | waiting.to(invalid, cond="held_dead")
    )
    renew = waiting.to(waiting, unless="held_nothing") | retrieved.to(retrieved) | invalid.to(retrieved)
    find_dead = waiting.to(waiting, unless="held_nothing") | retrieved.to(invalid) | invalid.to(invalid)
    delete = waiting.to(not_retrieved) | retrieved.to(not_retrieved) | invalid.to(not_retrieved)
    remove = not_retrieved.to(retired)  # of the last setting that uses the token

    # Changes of a setting, which leave the token as it is.
    change = not_retrieved.to(not_retrieved, internal=True)  # of provider or account
    link = not_retrieved.to(not_retrieved, internal=True)
    unlink = (
        not_retrieved.to(not_retrieved, internal=True)
        | retrieved.to(retrieved, internal=True)
        | invalid.to(invalid, internal=True)
    )
    rename = (  # of the machine or the provider
        not_retrieved.to(not_retrieved, internal=True)
        | retrieved.to(retrieved, internal=True)
        | invalid.to(invalid, internal=True)
    )

    held = Held.NOTHING

    def held_nothing(self) -> bool:
        """Whether the vault has no credential of this token."""
        return self.held is Held.NOTHING

    def held_live(self) -> bool:
        """Whether the vault has a credential that works."""
        return self.held is Held.LIVE

    def held_dead(self) -> bool:
        """Whether the vault has a credential that the provider no longer accepts."""
        return self.held is Held.DEAD


_TRANSITIONS = [transition for state in TokenLifecycle.states for transition in state.transitions]
COMMANDS = tuple(dict.fromkeys(str(step.event) for step in _TRANSITIONS if not step.internal))
"""The names of the commands that change a token."""
PERMISSIONS = tuple(dict.fromkeys(str(step.event) for step in _TRANSITIONS if step.internal))
"""The names of the changes of a setting that leave its token as it is."""


@cache
def target(phase: Phase, command: str, held: Held) -> Phase | None:
    """The phase to which `command` (of `COMMANDS` or `PERMISSIONS`) leads from `phase`; None if it is not permitted."""
    if phase is End.RETIRED:
        return None
    machine: Any = TokenLifecycle()
    machine.held = held
    machine.current_state_value = phase
    try:
        machine.send(command)
    except TransitionNotAllowed:
        return None
    reached: Phase = machine.current_state_value
    return reached


def gate(command: str, phase: Phase, held: Held) -> None:
    """Check that the lifecycle permits a command.

    Raises:
        Refused: the command is not permitted in this phase.
    """
    if target(phase, command, held) is None:
        raise _refusal(command, phase)


def permit(act: str, phase: Phase) -> None:
    """Check that a setting may be changed: `act` is "change", "link", "unlink", "rename", or "remove" for the last one.

    Raises:
        Refused: the change is not permitted in this phase of the setting's token.
    """
    gate(act, phase, Held.NOTHING)


_REFUSALS = {
    TokenStatus.NOT_RETRIEVED: "token_not_retrieved",
    TokenStatus.WAITING: "token_waiting",
    TokenStatus.RETRIEVED: "token_held",
    TokenStatus.INVALID: "token_held",
    End.RETIRED: "token_retired",
}


def _refusal(command: str, phase: Phase) -> Refused:
    nothing_to_delete = command == "delete" and phase is TokenStatus.NOT_RETRIEVED
    return Refused("nothing_to_delete" if nothing_to_delete else _REFUSALS[phase], status=phase.value)

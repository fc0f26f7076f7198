"""The table "The token's life" of the design, cell by cell, and the two ways it is enforced."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from statemachine.exceptions import TransitionNotAllowed
from token_examples import (
    ADMIN,
    PERSON,
    TOKEN_ID,
    WORKER,
    Happening,
    at,
    deleted,
    discarded,
    ended,
    found_dead,
    given,
    granted,
    history,
    renewed,
    replay,
    request,
    requested,
    retired,
    retrieved,
    then,
)

from domain.errors import IllegalHistory, Refused
from domain.lifecycle import COMMANDS, PERMISSIONS, End, Held, Phase, TokenLifecycle, TokenStatus, gate, target
from domain.outcomes import GrantDead, Reason
from domain.token import Reception, Token
from domain.token_state import TokenState, served

NOT_RETRIEVED, WAITING, RETRIEVED, INVALID = TokenStatus
NOTHING, LIVE, DEAD = Held

# The four columns of the table; Waiting once for each thing that can be held meanwhile.
GIVEN: dict[str, tuple[Happening, ...]] = {
    "Not Retrieved": (),
    "Waiting": (requested(when=at(30)),),
    "Waiting with a live credential": (requested(), retrieved(), requested("a2", 2, when=at(30))),
    "Waiting with a dead credential": (requested(), retrieved(), found_dead(), requested("a2", 2, when=at(30))),
    "Retrieved": (requested(), retrieved()),
    "Invalid": (requested(), retrieved(), found_dead()),
}
NOW = at(40)
LATE = "of-yesterday"


def this_attempt(token: Token) -> str:
    return token.state.attempt.id if token.state.attempt else LATE


def the_generation(token: Token) -> int:
    return token.state.credential.number if token.state.credential else 1


# The rows of the table: each command as a caller gives it.
COMMAND: dict[str, Callable[[Token], object]] = {
    "request": lambda token: request(token, "new", now=NOW),
    "retrieve": lambda token: token.retrieve(this_attempt(token), granted(issued_at=NOW), PERSON, by=WORKER, now=NOW),
    "end_attempt": lambda token: token.end_attempt(this_attempt(token), Reason.ACCESS_DENIED, by=WORKER, now=NOW),
    "cancel": lambda token: token.cancel(by=ADMIN, now=NOW),
    "renew": lambda token: token.renew("r1", the_generation(token), granted(issued_at=NOW), by=WORKER, now=NOW),
    "find_dead": lambda token: token.find_dead(
        the_generation(token), GrantDead(Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057"), by=WORKER, now=NOW
    ),
    "delete": lambda token: token.delete(by=ADMIN, now=NOW),
    "show": lambda token: served(token.state, NOW).number,
    "change": lambda token: token.permit("change", NOW),
    "link": lambda token: token.permit("link", NOW),
    "unlink": lambda token: token.permit("unlink", NOW),
    "rename": lambda token: token.permit("rename", NOW),
    "remove": lambda token: token.permit("remove", NOW),
    "retire": lambda token: token.retire(by=ADMIN, now=NOW),
}


@dataclass(frozen=True)
class Cell:
    """One cell: what the command leads to, which events say so, and what it answers."""

    command: str
    given: str
    is_: str
    status: TokenStatus
    held: Held
    events: tuple[Happening, ...] = ()
    answer: object = None
    refusal: str | None = None

    def __str__(self) -> str:
        return f"{self.command} when {self.given} {self.is_}"


REQUESTED_FIRST = (requested("new", 1, when=NOW),)
REQUESTED_AGAIN = (requested("new", 2, when=NOW),)
DISCARDED = (discarded(LATE, when=NOW),)
RENEWAL_DISCARDED = (discarded("r1", when=NOW),)
RENEWED = (renewed(when=NOW),)
FOUND_DEAD = (found_dead(reason=Reason.ACCOUNT_NOT_AVAILABLE, code="AADSTS50057", when=NOW),)
DELETED = (deleted(when=NOW),)
ENDED_FIRST = (ended(when=NOW),)
ENDED_AGAIN = (ended("a2", when=NOW),)
CANCELLED_FIRST = (ended(reason=Reason.CANCELLED, when=NOW, by=ADMIN),)
CANCELLED_AGAIN = (ended("a2", Reason.CANCELLED, when=NOW, by=ADMIN),)

ADOPTED, TOO_LATE = Reception.ADOPTED, Reception.LATE
EMPTY, WAIT, WAIT_LIVE, WAIT_DEAD, GOT, BAD = GIVEN

# fmt: off
CELLS = [
    Cell("request", EMPTY, "leads to Waiting", WAITING, NOTHING, REQUESTED_FIRST),
    Cell("request", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("request", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("request", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("request", GOT, "leads to Waiting and holds the live one", WAITING, LIVE, REQUESTED_AGAIN),
    Cell("request", BAD, "leads to Waiting and holds the dead one", WAITING, DEAD, REQUESTED_AGAIN),

    Cell("retrieve", EMPTY, "is ignored as late", NOT_RETRIEVED, NOTHING, DISCARDED, TOO_LATE),
    Cell("retrieve", WAIT, "leads to Retrieved", RETRIEVED, LIVE, (retrieved(when=NOW),), ADOPTED),
    Cell("retrieve", WAIT_LIVE, "leads to Retrieved", RETRIEVED, LIVE, (retrieved("a2", 2, when=NOW),), ADOPTED),
    Cell("retrieve", WAIT_DEAD, "leads to Retrieved", RETRIEVED, LIVE, (retrieved("a2", 2, when=NOW),), ADOPTED),
    Cell("retrieve", GOT, "is ignored as late", RETRIEVED, LIVE, DISCARDED, TOO_LATE),
    Cell("retrieve", BAD, "is ignored as late", INVALID, DEAD, DISCARDED, TOO_LATE),

    Cell("end_attempt", EMPTY, "is a no-op", NOT_RETRIEVED, NOTHING),
    Cell("end_attempt", WAIT, "leads back to Not Retrieved", NOT_RETRIEVED, NOTHING, ENDED_FIRST),
    Cell("end_attempt", WAIT_LIVE, "leads back to Retrieved", RETRIEVED, LIVE, ENDED_AGAIN),
    Cell("end_attempt", WAIT_DEAD, "leads back to Invalid", INVALID, DEAD, ENDED_AGAIN),
    Cell("end_attempt", GOT, "is a no-op", RETRIEVED, LIVE),
    Cell("end_attempt", BAD, "is a no-op", INVALID, DEAD),

    Cell("cancel", EMPTY, "is a no-op", NOT_RETRIEVED, NOTHING),
    Cell("cancel", WAIT, "leads back to Not Retrieved", NOT_RETRIEVED, NOTHING, CANCELLED_FIRST),
    Cell("cancel", WAIT_LIVE, "leads back to Retrieved", RETRIEVED, LIVE, CANCELLED_AGAIN),
    Cell("cancel", WAIT_DEAD, "leads back to Invalid", INVALID, DEAD, CANCELLED_AGAIN),
    Cell("cancel", GOT, "is a no-op", RETRIEVED, LIVE),
    Cell("cancel", BAD, "is a no-op", INVALID, DEAD),

    Cell("renew", EMPTY, "is ignored as late", NOT_RETRIEVED, NOTHING, RENEWAL_DISCARDED, TOO_LATE),
    Cell("renew", WAIT, "is ignored as late", WAITING, NOTHING, RENEWAL_DISCARDED, TOO_LATE),
    Cell("renew", WAIT_LIVE, "stays Waiting and renews what is held", WAITING, LIVE, RENEWED, ADOPTED),
    Cell("renew", WAIT_DEAD, "stays Waiting and revives what is held", WAITING, LIVE, RENEWED, ADOPTED),
    Cell("renew", GOT, "stays Retrieved", RETRIEVED, LIVE, RENEWED, ADOPTED),
    Cell("renew", BAD, "reinstates to Retrieved", RETRIEVED, LIVE, RENEWED, ADOPTED),

    Cell("find_dead", EMPTY, "is ignored as late", NOT_RETRIEVED, NOTHING),
    Cell("find_dead", WAIT, "is ignored as late", WAITING, NOTHING),
    Cell("find_dead", WAIT_LIVE, "stays Waiting and holds a dead one", WAITING, DEAD, FOUND_DEAD),
    Cell("find_dead", WAIT_DEAD, "stays Waiting and records the new reason", WAITING, DEAD, FOUND_DEAD),
    Cell("find_dead", GOT, "leads to Invalid", INVALID, DEAD, FOUND_DEAD),
    Cell("find_dead", BAD, "stays Invalid and records the new reason", INVALID, DEAD, FOUND_DEAD),

    Cell("delete", EMPTY, "is refused", NOT_RETRIEVED, NOTHING,
         refusal="nothing_to_delete"),
    Cell("delete", WAIT, "leads to Not Retrieved", NOT_RETRIEVED, NOTHING, DELETED),
    Cell("delete", WAIT_LIVE, "leads to Not Retrieved", NOT_RETRIEVED, NOTHING, DELETED),
    Cell("delete", WAIT_DEAD, "leads to Not Retrieved", NOT_RETRIEVED, NOTHING, DELETED),
    Cell("delete", GOT, "leads to Not Retrieved", NOT_RETRIEVED, NOTHING, DELETED),
    Cell("delete", BAD, "leads to Not Retrieved", NOT_RETRIEVED, NOTHING, DELETED),

    Cell("show", EMPTY, "is refused", NOT_RETRIEVED, NOTHING,
         refusal="token_not_retrieved"),
    Cell("show", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("show", WAIT_LIVE, "serves the held credential", WAITING, LIVE, answer=1),
    Cell("show", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("show", GOT, "serves", RETRIEVED, LIVE, answer=1),
    Cell("show", BAD, "is refused with the reason", INVALID, DEAD,
         refusal="token_invalid"),

    Cell("change", EMPTY, "is allowed", NOT_RETRIEVED, NOTHING),
    Cell("change", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("change", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("change", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("change", GOT, "is refused", RETRIEVED, LIVE, refusal="token_held"),
    Cell("change", BAD, "is refused", INVALID, DEAD, refusal="token_held"),

    Cell("link", EMPTY, "is allowed", NOT_RETRIEVED, NOTHING),
    Cell("link", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("link", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("link", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("link", GOT, "is refused", RETRIEVED, LIVE, refusal="token_held"),
    Cell("link", BAD, "is refused", INVALID, DEAD, refusal="token_held"),

    Cell("unlink", EMPTY, "is allowed", NOT_RETRIEVED, NOTHING),
    Cell("unlink", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("unlink", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("unlink", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("unlink", GOT, "is allowed", RETRIEVED, LIVE),
    Cell("unlink", BAD, "is allowed", INVALID, DEAD),

    Cell("rename", EMPTY, "is allowed", NOT_RETRIEVED, NOTHING),
    Cell("rename", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("rename", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("rename", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("rename", GOT, "is allowed", RETRIEVED, LIVE),
    Cell("rename", BAD, "is allowed", INVALID, DEAD),

    Cell("remove", EMPTY, "is allowed", NOT_RETRIEVED, NOTHING),
    Cell("remove", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("remove", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("remove", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("remove", GOT, "is refused", RETRIEVED, LIVE, refusal="token_held"),
    Cell("remove", BAD, "is refused", INVALID, DEAD, refusal="token_held"),

    Cell("retire", EMPTY, "ends the token", NOT_RETRIEVED, NOTHING, (retired(when=NOW),)),
    Cell("retire", WAIT, "is refused", WAITING, NOTHING, refusal="token_waiting"),
    Cell("retire", WAIT_LIVE, "is refused", WAITING, LIVE, refusal="token_waiting"),
    Cell("retire", WAIT_DEAD, "is refused", WAITING, DEAD, refusal="token_waiting"),
    Cell("retire", GOT, "is refused", RETRIEVED, LIVE, refusal="token_held"),
    Cell("retire", BAD, "is refused", INVALID, DEAD, refusal="token_held"),
]
# fmt: on


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_life_of_a_token(cell: Cell) -> None:
    before = history(*GIVEN[cell.given])
    token = replay(before)

    if cell.refusal is None:
        assert COMMAND[cell.command](token) == cell.answer
    else:
        with pytest.raises(Refused) as refused:
            COMMAND[cell.command](token)
        assert (refused.value.code, refused.value.fields["status"]) == (cell.refusal, cell.status.value)

    then(token, *cell.events)
    assert (token.state.status, token.state.held) == (cell.status, cell.held)
    if not cell.events:
        assert token.state == replay(before).state
    assert replay([*before, *token.collect_events()]).state == token.state


def test_the_cells_are_the_whole_table_and_none_is_there_twice() -> None:
    assert [(cell.command, cell.given) for cell in CELLS] == list(itertools.product(COMMAND, GIVEN))


def visible(state: TokenState) -> tuple[object, ...]:
    """Everything of a token but the memory of the replies it has dealt with."""
    pinned = (state.provider, state.account, state.subject, state.tenant)
    why = (state.reason, state.code, state.signed_in_as)
    held = (state.credential, state.dead, state.attempt)
    return state.status, state.since, pinned, why, held, state.generations, state.attempts, state.retired


@pytest.mark.parametrize("column", GIVEN)
def test_a_late_reply_changes_nothing_but_that_it_was_discarded(column: str) -> None:
    token = given(*GIVEN[column])
    before = token.state

    assert token.retrieve(LATE, granted(issued_at=NOW), PERSON, by=WORKER, now=NOW) is TOO_LATE

    assert visible(token.state) == visible(before)


@pytest.mark.parametrize("column", GIVEN)
def test_asking_whether_get_token_is_possible_agrees_with_get_token_and_records_nothing(column: str) -> None:
    token = given(*GIVEN[column])
    if token.state.status is WAITING:
        with pytest.raises(Refused):
            token.check_request(NOW)
    else:
        token.check_request(NOW)
    then(token)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.ACCESS_DENIED,
        Reason.EXPIRED_TOKEN,
        Reason.CODE_REJECTED,
        Reason.CANCELLED,
        Reason.WRONG_ACCOUNT,
        Reason.ID_TOKEN_INVALID,
        Reason.CONFIGURATION,
        Reason.POLICY,
        Reason.CONSENT_REQUIRED,
    ],
)
@pytest.mark.parametrize(
    ("column", "back_to"), [(WAIT, NOT_RETRIEVED), (WAIT_LIVE, RETRIEVED), (WAIT_DEAD, INVALID)], ids=str
)
def test_an_attempt_leads_back_to_what_is_held_for_whatever_reason_it_ends(
    column: str, back_to: TokenStatus, reason: Reason
) -> None:
    token = given(*GIVEN[column])
    attempt = this_attempt(token)

    token.end_attempt(attempt, reason, "code", "somebody@contoso.com", by=WORKER, now=NOW)

    then(token, ended(attempt, reason, when=NOW, code="code", signed_in_as="somebody@contoso.com"))
    state = token.state
    assert (state.status, state.since, state.attempt) == (back_to, NOW, None)
    assert (state.reason, state.code, state.signed_in_as) == (reason, "code", "somebody@contoso.com")


@pytest.mark.parametrize("column", [WAIT, WAIT_LIVE, WAIT_DEAD])
def test_the_end_of_another_attempt_does_not_end_this_one(column: str) -> None:
    token = given(*GIVEN[column])
    token.end_attempt(LATE, Reason.ACCESS_DENIED, by=WORKER, now=NOW)
    then(token)


def test_the_labels_are_the_manuals_own_letter_for_letter() -> None:
    assert [str(status) for status in TokenStatus] == [
        "Not Retrieved",
        "Waiting for authorisation",
        "Retrieved",
        "Invalid",
    ]


def test_the_engine_knows_these_commands_and_no_others() -> None:
    assert sorted(COMMANDS) == ["delete", "end_attempt", "find_dead", "remove", "renew", "request", "retrieve"]
    assert sorted(PERMISSIONS) == ["change", "link", "rename", "unlink"]


PHASES = (*TokenStatus, End.RETIRED)
QUESTIONS = list(itertools.product(PHASES, (*COMMANDS, *PERMISSIONS), Held))


def by_the_engine(phase: Phase, command: str, held: Held) -> Phase | None:
    engine = TokenLifecycle()
    engine.held = held
    engine.current_state_value = phase
    try:
        engine.send(command)
    except TransitionNotAllowed:
        return None
    phase = engine.current_state_value
    assert phase in PHASES
    return phase


@pytest.mark.parametrize(
    ("phase", "command", "held"), QUESTIONS, ids=[f"{command} when {p} holding {h}" for p, command, h in QUESTIONS]
)
def test_the_answer_that_replay_looks_up_is_the_engines(phase: Phase, command: str, held: Held) -> None:
    assert target(phase, command, held) == by_the_engine(phase, command, held)


@pytest.mark.parametrize(("phase", "command", "held"), QUESTIONS)
def test_a_command_passes_the_gate_if_it_leads_somewhere(phase: Phase, command: str, held: Held) -> None:
    if target(phase, command, held) is None:
        with pytest.raises(Refused):
            gate(command, phase, held)
    else:
        gate(command, phase, held)


def test_what_is_permitted_for_a_setting_never_moves_its_token() -> None:
    for phase, act, held in itertools.product(PHASES, PERMISSIONS, Held):
        assert target(phase, act, held) in (None, phase)


def test_nothing_leads_out_of_retired() -> None:
    assert {target(End.RETIRED, command, held) for command in (*COMMANDS, *PERMISSIONS) for held in Held} == {None}


def test_threads_that_ask_at_the_same_time_do_not_disturb_each_other() -> None:
    questions = QUESTIONS * 4
    target.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda question: target(*question), questions))
    assert found == [target(*question) for question in questions]


@pytest.mark.parametrize("phase", PHASES)
def test_an_act_nobody_defined_is_never_permitted(phase: Phase) -> None:
    with pytest.raises(Refused):
        gate("sell", phase, Held.NOTHING)


@pytest.mark.parametrize(
    ("command", "phase", "code"),
    [
        ("renew", TokenStatus.NOT_RETRIEVED, "token_not_retrieved"),
        ("delete", TokenStatus.NOT_RETRIEVED, "nothing_to_delete"),
        ("link", TokenStatus.WAITING, "token_waiting"),
        ("delete", End.RETIRED, "token_retired"),
    ],
)
def test_a_refusal_says_what_is_in_the_way(command: str, phase: Phase, code: str) -> None:
    with pytest.raises(Refused) as refused:
        gate(command, phase, Held.NOTHING)
    assert (refused.value.code, refused.value.fields) == (code, {"status": phase.value})


def illegal(version: int, event: str, command: str, status: str) -> dict[str, Any]:
    return {
        "event": f"Token.{event}",
        "version": version,
        "id": str(TOKEN_ID),
        "command": command,
        "status": status,
    }


@pytest.mark.parametrize(
    ("happenings", "fields"),
    [
        ((ended(),), illegal(2, "AuthorizationEnded", "end_attempt", "Not Retrieved")),
        ((retrieved(),), illegal(2, "Retrieved", "retrieve", "Not Retrieved")),
        ((renewed(),), illegal(2, "Renewed", "renew", "Not Retrieved")),
        ((found_dead(),), illegal(2, "GrantFoundDead", "find_dead", "Not Retrieved")),
        ((deleted(),), illegal(2, "Deleted", "delete", "Not Retrieved")),
        (
            (requested(), requested("a2", 2)),
            illegal(3, "AuthorizationRequested", "request", "Waiting for authorisation"),
        ),
        (
            (requested(), retired()),
            illegal(3, "Retired", "remove", "Waiting for authorisation"),
        ),
        (
            (requested(), retrieved(), ended()),
            illegal(4, "AuthorizationEnded", "end_attempt", "Retrieved"),
        ),
        (
            (requested(), retrieved(), retrieved()),
            illegal(4, "Retrieved", "retrieve", "Retrieved"),
        ),
        (
            (requested(), retrieved(), retired()),
            illegal(4, "Retired", "remove", "Retrieved"),
        ),
        (
            (requested(), retrieved(), found_dead(), retrieved()),
            illegal(5, "Retrieved", "retrieve", "Invalid"),
        ),
        (
            (requested(), retrieved(), found_dead(), ended()),
            illegal(5, "AuthorizationEnded", "end_attempt", "Invalid"),
        ),
        (
            (requested(), retrieved(), found_dead(), retired()),
            illegal(5, "Retired", "remove", "Invalid"),
        ),
        ((retired(), retired()), illegal(3, "Retired", "remove", "retired")),
    ],
    ids=lambda value: f"{value['event']} when {value['status']}" if isinstance(value, dict) else "",
)
def test_an_illegal_history_is_refused_by_naming_the_event(
    happenings: tuple[Happening, ...], fields: dict[str, Any]
) -> None:
    with pytest.raises(IllegalHistory) as refused:
        given(*happenings)
    assert (refused.value.code, refused.value.fields) == ("command_not_legal", fields)


@pytest.mark.parametrize(
    ("happenings", "culprit"),
    [
        ((requested(), renewed()), "event='Token.Renewed' version=3"),
        ((requested(), found_dead()), "event='Token.GrantFoundDead' version=3"),
    ],
    ids=["a renewal", "a dead grant"],
)
def test_a_history_in_which_something_happens_to_a_credential_that_is_not_held_is_illegal(
    happenings: tuple[Happening, ...], culprit: str
) -> None:
    with pytest.raises(IllegalHistory, match=culprit):
        given(*happenings)


def test_a_history_in_which_a_retired_token_goes_on_is_illegal() -> None:
    with pytest.raises(IllegalHistory, match=r"event='Token.AuthorizationRequested' version=3"):
        given(retired(), requested())


def test_get_token_for_a_retired_token_is_refused() -> None:
    """Whoever lost the race against the removal of the last profile must not get a grant nobody can see."""
    token = given(retired(when=at(1)))
    with pytest.raises(Refused, match=r"^token_retired"):
        request(token, "a1", now=at(2))

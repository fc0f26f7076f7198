"""What a token's state says at an instant, and what each reply does to it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from effort import amount
from event_examples import EVENTS, mapper
from hypothesis import example, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from token_examples import (
    ACCESS_MARK,
    ACCOUNT,
    ADMIN,
    PERSON,
    REFRESH_MARK,
    SCOPE,
    START,
    SUBJECT,
    TENANT,
    TOKEN_ID,
    WORKER,
    Happening,
    at,
    created,
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
    retrieved,
    then,
    withheld,
)

from domain.aggregate import Event
from domain.errors import Refused
from domain.lifecycle import Held, TokenStatus
from domain.outcomes import FailedRequests, GrantDead, Granted, GrantWarning, Identity, Reason
from domain.token import Reception, Token, is_renewable
from domain.token_state import Attempt, Generation, TokenState, account_mismatch, is_same_address, served

# ---------------------------------------------------------------------------------------------- what time does to it


def shown(state: TokenState, now: datetime) -> tuple[TokenStatus, datetime, Reason | None]:
    """What a reader sees: the label, since when, and why."""
    seen = state.at(now)
    return seen.status, seen.since, seen.reason


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(-1, TokenStatus.WAITING), (0, TokenStatus.NOT_RETRIEVED), (1, TokenStatus.NOT_RETRIEVED)],
)
def test_an_attempt_is_over_from_its_deadline_on(seconds: int, status: TokenStatus) -> None:
    token = given(requested(until=at(16)))
    assert token.state.at(at(16, seconds)).status is status


def test_an_attempt_that_ran_out_was_over_at_its_deadline_whoever_looks_when() -> None:
    token = given(requested(until=at(16)))
    assert shown(token.state, at(500)) == (TokenStatus.NOT_RETRIEVED, at(16), Reason.EXPIRED_TOKEN)


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(-1, TokenStatus.RETRIEVED), (0, TokenStatus.INVALID), (1, TokenStatus.INVALID)],
)
def test_an_access_token_that_nothing_can_renew_is_invalid_from_its_expiry_on(
    seconds: int, status: TokenStatus
) -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False))
    assert token.state.at(at(62, seconds)).status is status


def test_an_access_token_that_nothing_can_renew_says_that_it_expired_and_when() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False))
    assert shown(token.state, at(500)) == (TokenStatus.INVALID, at(62), Reason.EXPIRED)
    assert token.state.at(at(500)).held is Held.DEAD
    with pytest.raises(Refused, match=r"^token_invalid status='Invalid' reason='expired'"):
        served(token.state, at(62))


@pytest.mark.parametrize("seconds", [-1, 0, 1, 90 * 24 * 3600])
def test_an_expired_access_token_is_not_invalid_while_the_grant_can_be_renewed(seconds: int) -> None:
    token = given(requested(), retrieved(until=at(62)))
    assert token.state.at(at(62, seconds)) == token.state
    assert served(token.state, at(62, seconds)).number == 1


def test_a_credential_that_expires_while_waiting_stops_serving_and_the_display_stays() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(60), until=at(75)))
    assert served(token.state, at(62, -1)).number == 1

    seen = token.state.at(at(62))

    assert (seen.status, seen.since, seen.held) == (TokenStatus.WAITING, at(60), Held.DEAD)
    with pytest.raises(Refused, match=r"^token_waiting"):
        served(token.state, at(62))


def test_when_the_credential_expired_first_the_end_of_the_attempt_shows_an_invalid_token() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(60), until=at(75)))
    assert shown(token.state, at(75)) == (TokenStatus.INVALID, at(75), Reason.EXPIRED_TOKEN)


def test_when_the_attempt_ran_out_first_the_token_is_invalid_since_its_expiry() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(40), until=at(55)))
    assert shown(token.state, at(55)) == (TokenStatus.RETRIEVED, at(55), Reason.EXPIRED_TOKEN)
    assert shown(token.state, at(62)) == (TokenStatus.INVALID, at(62), Reason.EXPIRED)
    assert shown(token.state, at(500)) == (TokenStatus.INVALID, at(62), Reason.EXPIRED)


def test_when_both_run_out_at_one_instant_the_token_is_invalid_since_then() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(47), until=at(62)))
    seen = token.state.at(at(62))
    assert (seen.status, seen.since, seen.attempt) == (TokenStatus.INVALID, at(62), None)


def test_a_new_sign_in_for_an_invalid_token_that_ran_out_leaves_it_invalid() -> None:
    token = given(requested(), retrieved(), found_dead(), requested("a2", 2, when=at(30), until=at(45)))
    assert shown(token.state, at(45)) == (TokenStatus.INVALID, at(45), Reason.EXPIRED_TOKEN)


# ------------------------------------------------------------------------------------------------------- settling it


def test_settling_records_an_attempt_that_ran_out_at_its_deadline() -> None:
    token = given(requested(until=at(16)))
    token.settle(at(500))
    then(token, ended(reason=Reason.EXPIRED_TOKEN, when=at(500)))
    assert token.state.since == at(16)


def test_settling_records_a_token_that_expired_at_its_expiry() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False))
    token.settle(at(500))
    then(token, found_dead(reason=Reason.EXPIRED, code=None, when=at(500)))
    assert token.state.since == at(62)


def test_of_a_credential_and_an_attempt_that_end_at_one_instant_the_credential_is_settled_first() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(47), until=at(62)))
    token.settle(at(62))
    expired = found_dead(reason=Reason.EXPIRED, code=None, when=at(62))
    then(token, expired, ended("a2", reason=Reason.EXPIRED_TOKEN, when=at(62)))


@pytest.mark.parametrize("minutes", [16, 17])
def test_settling_twice_records_nothing_more(minutes: int) -> None:
    token = given(requested(until=at(16)))
    token.settle(at(16))
    token.settle(at(minutes))
    assert len(token.pending_events) == 1


def test_settling_records_nothing_before_anything_ran_out() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(40), until=at(55)))
    token.settle(at(55, -1))
    then(token)


def test_a_command_records_first_what_ran_out_and_then_its_own_event() -> None:
    token = given(requested(until=at(16)))
    request(token, "a2", now=at(20))
    then(token, ended(reason=Reason.EXPIRED_TOKEN, when=at(20)), requested("a2", 2, when=at(20)))


def test_cancelling_an_attempt_that_ran_out_leaves_it_as_it_ended() -> None:
    token = given(requested(until=at(16)))
    token.cancel(by=ADMIN, now=at(20))
    then(token, ended(reason=Reason.EXPIRED_TOKEN, when=at(20)))


def test_deleting_what_ran_out_to_nothing_is_refused() -> None:
    token = given(requested(until=at(16)))
    with pytest.raises(Refused, match=r"^nothing_to_delete"):
        token.delete(by=ADMIN, now=at(16))


def test_a_token_whose_attempt_ran_out_can_be_retired() -> None:
    token = given(requested(until=at(16)))
    token.retire(by=ADMIN, now=at(16))
    assert token.state.retired


def test_a_grant_found_dead_after_the_deadline_of_an_attempt_is_invalid_since_it_was_found() -> None:
    token = given(requested(), retrieved(), requested("a2", 2, when=at(30), until=at(45)))
    assert shown(token.state, at(50)) == (TokenStatus.RETRIEVED, at(45), Reason.EXPIRED_TOKEN)

    token.find_dead(1, GrantDead(Reason.INVALID_GRANT), by=WORKER, now=at(50))

    assert shown(token.state, at(50)) == (TokenStatus.INVALID, at(50), Reason.INVALID_GRANT)


def test_a_renewal_after_the_deadline_of_an_attempt_reinstates_since_the_renewal_and_clears_the_reason() -> None:
    token = given(requested(), retrieved(), found_dead(), requested("a2", 2, when=at(30), until=at(45)))
    assert shown(token.state, at(50)) == (TokenStatus.INVALID, at(45), Reason.EXPIRED_TOKEN)

    token.renew("r1", 1, granted(issued_at=at(50)), by=WORKER, now=at(50))

    assert shown(token.state, at(50)) == (TokenStatus.RETRIEVED, at(50), None)


def test_an_attempt_that_ends_after_the_credential_expired_shows_invalid_since_it_ended() -> None:
    token = given(requested(), retrieved(until=at(62), renewable=False), requested("a2", 2, when=at(60), until=at(75)))
    assert token.state.at(at(65)).status is TokenStatus.WAITING

    token.end_attempt("a2", Reason.ACCESS_DENIED, by=WORKER, now=at(70))

    assert shown(token.state, at(70)) == (TokenStatus.INVALID, at(70), Reason.ACCESS_DENIED)


# --------------------------------------------------------------------------------------- any history, at any instant


@dataclass(frozen=True)
class Step:
    """Something somebody does to a token some minutes after the step before."""

    act: str
    after: int = 0
    lasts: int = 10
    renewable: bool = True
    back: int = 0

    def __repr__(self) -> str:
        return (
            f"Step({self.act!r}, after={self.after}, lasts={self.lasts}, renewable={self.renewable}, back={self.back})"
        )


def take(token: Token, step: Step, number: int, now: datetime) -> None:
    """Do what the step says, with an attempt or generation of `back` before as the one it is about."""
    state = token.state
    issued_at, lasts = now - timedelta(minutes=step.back), timedelta(minutes=step.lasts)
    late = granted(issued_at=issued_at, until=issued_at + lasts, renewable=step.renewable)
    fresh = granted(issued_at=issued_at, until=now + lasts, renewable=step.renewable)
    attempt = state.attempt.id if state.attempt and not step.back else f"stale-{step.back}"
    parent = max(0, state.generations - step.back)
    acts: dict[str, Callable[[], object]] = {
        "request": lambda: request(token, f"a{number}", now=now, until=now + timedelta(minutes=step.lasts)),
        "retrieve": lambda: token.retrieve(attempt, late, PERSON, by=WORKER, now=now),
        "deny": lambda: token.end_attempt(attempt, Reason.ACCESS_DENIED, "denied", by=WORKER, now=now),
        "mistake": lambda: token.end_attempt(
            attempt, Reason.WRONG_ACCOUNT, None, "bob@contoso.com", by=WORKER, now=now
        ),
        "cancel": lambda: token.cancel(by=ADMIN, now=now),
        "renew": lambda: token.renew(f"r{number}", parent, fresh, by=WORKER, now=now),
        "kill": lambda: token.find_dead(parent, GrantDead(Reason.INVALID_GRANT, "dead"), by=WORKER, now=now),
        "delete": lambda: token.delete(by=ADMIN, now=now),
        "settle": lambda: token.settle(now),
    }
    with contextlib.suppress(Refused):
        acts[step.act]()


ACTS = ("request", "retrieve", "deny", "mistake", "cancel", "renew", "kill", "delete", "settle")
MINUTES = st.integers(0, 12)
FREELY = st.builds(
    Step,
    act=st.sampled_from(ACTS),
    after=MINUTES,
    lasts=MINUTES,
    renewable=st.booleans(),
    back=st.sampled_from((0, 0, 0, 1, 2)),
)


def straight(act: str) -> st.SearchStrategy[Step]:
    """A step that does get somewhere."""
    return st.builds(Step, act=st.just(act), after=st.integers(0, 3), lasts=st.integers(3, 12), renewable=st.booleans())


# A beginning that leads into each state, with whatever times, and then anything.
STEPS = st.builds(
    lambda beginning, rest: [*beginning, *rest],
    st.one_of(
        *(
            st.tuples(*(straight(act) for act in acts))
            for acts in (
                (),
                ("request",),
                ("request", "retrieve"),
                ("request", "retrieve", "request"),
                ("request", "retrieve", "kill"),
                ("request", "retrieve", "kill", "request"),
            )
        )
    ),
    st.lists(FREELY, max_size=8),
)


def live(steps: list[Step]) -> tuple[list[Event[TokenState]], datetime]:
    """Every event of a token that lived through `steps`, and the instant of the last step."""
    token = given()
    events: list[Event[TokenState]] = [created()(1)]
    now = START
    for number, step in enumerate(steps, start=1):
        now += timedelta(minutes=step.after)
        take(token, step, number, now)
        events += token.collect_events()
    return events, now


def as_of(events: list[Event[TokenState]], when: datetime) -> TokenState:
    """The state at `when`: the events up to then, judged then."""
    return replay(itertools.takewhile(lambda event: event.timestamp <= when, events)).state.at(when)


any_history = settings(max_examples=amount(60, of=300))

RAN_OUT_THEN_EXPIRED = [
    Step("request"),
    Step("retrieve", lasts=10, renewable=False),
    Step("request", after=1, lasts=2),
]


@any_history
@for_all(steps=STEPS, settled_after=MINUTES, read_after=MINUTES)
@example(steps=RAN_OUT_THEN_EXPIRED, settled_after=5, read_after=12)
def test_settling_changes_nothing_for_a_reader_then_or_later(
    steps: list[Step], settled_after: int, read_after: int
) -> None:
    events, now = live(steps)
    untouched, settled = replay(events), replay(events)
    settling = now + timedelta(minutes=settled_after)

    settled.settle(settling)

    assert settled.state == settled.state.at(settling) == untouched.state.at(settling)
    reading = settling + timedelta(minutes=read_after)
    assert settled.state.at(reading) == untouched.state.at(reading)


@any_history
@for_all(steps=STEPS, early=MINUTES, late=MINUTES)
@example(steps=RAN_OUT_THEN_EXPIRED, early=5, late=12)
def test_since_is_never_before_an_instant_at_which_a_reader_saw_another_status(
    steps: list[Step], early: int, late: int
) -> None:
    events, now = live(steps)
    instants = sorted(
        {START, *(event.timestamp for event in events)} | {now + timedelta(minutes=m) for m in (early, late)}
    )
    for before, after in itertools.pairwise(instants):
        for when in (before, before + (after - before) / 2):
            seen_before, seen_after = as_of(events, when), as_of(events, after)
            if seen_after.since <= when:
                assert seen_after.status is seen_before.status


@any_history
@for_all(steps=STEPS, after=MINUTES, act=st.sampled_from(("renew", "kill", "request", "cancel", "delete")))
def test_a_command_does_the_same_whether_or_not_somebody_settled_before(
    steps: list[Step], after: int, act: str
) -> None:
    events, now = live(steps)
    untouched, settled = replay(events), replay(events)
    now += timedelta(minutes=after)

    take(untouched, Step(act), 99, now)
    settled.settle(now)
    take(settled, Step(act), 99, now)

    assert untouched.state.at(now) == settled.state.at(now)


@any_history
@for_all(steps=STEPS)
def test_replay_from_the_stored_bytes_gives_the_state_that_the_commands_gave(steps: list[Step]) -> None:
    token = given()
    stored = [mapper().to_stored_event(created()(1))]
    now = START
    for number, step in enumerate(steps, start=1):
        now += timedelta(minutes=step.after)
        take(token, step, number, now)
        stored += [mapper().to_stored_event(event) for event in token.collect_events()]
    events = [mapper().to_domain_event(event) for event in stored]
    assert replay(event for event in events if isinstance(event, Token.Event)).state == token.state


@any_history
@for_all(steps=STEPS)
def test_numbers_of_generations_and_attempts_are_never_used_again(steps: list[Step]) -> None:
    events, _ = live(steps)
    generations = [e.generation for e in events if isinstance(e, Token.Retrieved | Token.Renewed)]
    ordinals = [e.ordinal for e in events if isinstance(e, Token.AuthorizationRequested)]
    assert generations == list(range(1, len(generations) + 1))
    assert ordinals == list(range(1, len(ordinals) + 1))


@any_history
@for_all(steps=STEPS, act=st.sampled_from(("request", "deny", "mistake", "cancel", "settle")), after=MINUTES)
def test_no_attempt_takes_away_a_credential_that_works(steps: list[Step], act: str, after: int) -> None:
    events, now = live(steps)
    token = replay(events)
    now += timedelta(minutes=after)
    before = token.state.at(now)

    take(token, Step(act), 99, now)

    if before.held is Held.LIVE:
        assert served(token.state, now) == before.credential


# ----------------------------------------------------------------------------------------------- replies to attempts


def test_a_token_that_was_obtained_pins_the_accounts_ids_and_knows_its_generation() -> None:
    token = given(requested())

    token.retrieve("a1", granted(issued_at=at(2)), PERSON, by=WORKER, now=at(2))

    then(token, retrieved())
    state = token.state
    assert (state.status, state.since, state.attempt, state.reason) == (TokenStatus.RETRIEVED, at(2), None, None)
    assert (state.provider, state.account, state.subject, state.tenant) == ("contoso", ACCOUNT, SUBJECT, TENANT)
    assert state.credential == Generation(
        1,
        1,
        "a1",
        SCOPE,
        at(2),
        at(62),
        renewable=True,
        flow="device",
        granted_by="a1",
        granted_at=at(2),
        grant_expires_at=None,
        end_set_at=at(2),
    )


def test_a_reply_that_came_in_time_counts_however_late_it_is_looked_at() -> None:
    token = given(requested(until=at(16)))
    assert token.retrieve("a1", granted(issued_at=at(15)), PERSON, by=WORKER, now=at(30)) is Reception.ADOPTED
    assert shown(token.state, at(30)) == (TokenStatus.RETRIEVED, at(30), None)


def test_a_reply_that_is_looked_at_after_its_access_token_expired_is_invalid_since_then() -> None:
    token = given(requested(until=at(16)))
    reply = granted(issued_at=at(15), until=at(75), renewable=False)
    assert token.state.at(at(80)).status is TokenStatus.NOT_RETRIEVED

    token.retrieve("a1", reply, PERSON, by=WORKER, now=at(90))

    assert shown(token.state, at(90)) == (TokenStatus.INVALID, at(90), Reason.EXPIRED)


def test_a_reply_without_a_refresh_token_can_not_be_renewed() -> None:
    token = given(requested())
    token.retrieve("a1", granted(issued_at=at(2), renewable=False), PERSON, by=WORKER, now=at(2))
    then(token, retrieved(renewable=False))


def test_make_before_break_the_held_credential_serves_until_the_new_one_is_in() -> None:
    token = given(requested(), retrieved())

    request(token, "a2", now=at(30))
    assert served(token.state, at(31)).number == 1
    token.renew("r1", 1, granted(issued_at=at(31)), by=WORKER, now=at(31))
    assert served(token.state, at(32)).number == 2
    token.retrieve("a2", granted(issued_at=at(33)), PERSON, by=WORKER, now=at(33))

    then(
        token,
        requested("a2", 2, when=at(30)),
        renewed(when=at(31)),
        retrieved("a2", 3, when=at(33)),
    )
    assert served(token.state, at(33)).number == 3


def test_an_attempt_that_fails_leaves_the_working_token_and_says_why_it_failed() -> None:
    token = given(requested(), retrieved(), requested("a2", 2, when=at(30)))
    token.end_attempt("a2", Reason.WRONG_ACCOUNT, None, "bob@contoso.com", by=WORKER, now=at(31))
    state = token.state
    assert (state.status, state.reason, state.signed_in_as) == (
        TokenStatus.RETRIEVED,
        Reason.WRONG_ACCOUNT,
        "bob@contoso.com",
    )
    assert served(state, at(32)).number == 1


def test_the_wrong_person_is_named_however_late_the_reply_is_looked_at() -> None:
    token = given(requested(until=at(16)))
    token.end_attempt("a1", Reason.WRONG_ACCOUNT, None, "bob@contoso.com", by=WORKER, now=at(30))
    then(token, ended(reason=Reason.WRONG_ACCOUNT, when=at(30), signed_in_as="bob@contoso.com"))
    assert token.state.at(at(30)).signed_in_as == "bob@contoso.com"


def test_the_reason_stays_until_the_next_success() -> None:
    token = given(requested(), ended(code="AADSTS65004"), requested("a2", 2, when=at(6)))
    assert (token.state.reason, token.state.code) == (Reason.ACCESS_DENIED, "AADSTS65004")
    token.retrieve("a2", granted(issued_at=at(7)), PERSON, by=WORKER, now=at(7))
    assert (token.state.reason, token.state.code, token.state.signed_in_as) == (None, None, None)


@pytest.mark.parametrize("when", [at(30), at(70)], ids=["said by the provider", "found by the clock"])
def test_the_reason_of_a_dead_grant_does_not_name_who_signed_in_wrongly_before(when: datetime) -> None:
    token = given(
        requested(),
        retrieved(until=at(62), renewable=False),
        requested("a2", 2, when=at(10)),
        ended("a2", Reason.WRONG_ACCOUNT, when=at(11), signed_in_as="bob@contoso.com"),
    )
    if when < at(62):
        token.find_dead(1, GrantDead(Reason.INVALID_GRANT), by=WORKER, now=when)
    seen = token.state.at(when)
    assert seen.status is TokenStatus.INVALID
    assert seen.signed_in_as is None


# --------------------------------------------------------------------------------------------- duplicates, and late


def test_the_same_reply_again_is_a_no_op() -> None:
    token = given(requested(), retrieved())
    assert token.retrieve("a1", granted(issued_at=at(2)), PERSON, by=WORKER, now=at(3)) is Reception.DUPLICATE
    then(token)


def test_the_same_reply_again_is_a_no_op_while_the_next_attempt_is_under_way() -> None:
    token = given(requested(), retrieved(), requested("a2", 2, when=at(30)))
    assert token.retrieve("a1", granted(issued_at=at(2)), PERSON, by=WORKER, now=at(31)) is Reception.DUPLICATE
    then(token)


def test_the_same_renewal_again_is_a_no_op() -> None:
    token = given(requested(), retrieved(), renewed())
    assert token.renew("r1", 1, granted(issued_at=at(30)), by=WORKER, now=at(31)) is Reception.DUPLICATE
    then(token)


def test_a_reply_that_was_discarded_is_a_no_op_when_it_comes_again() -> None:
    token = given(requested(), ended(), discarded("a1", when=at(6)))
    assert token.retrieve("a1", granted(issued_at=at(4)), PERSON, by=WORKER, now=at(7)) is Reception.DUPLICATE
    then(token)


def test_a_renewal_that_was_discarded_is_a_no_op_when_it_comes_again() -> None:
    token = given(requested(), retrieved(), deleted(when=at(10)), discarded("r1", when=at(11)))
    assert token.renew("r1", 1, granted(issued_at=at(9)), by=WORKER, now=at(12)) is Reception.DUPLICATE
    then(token)


def test_the_same_reply_again_is_a_no_op_even_after_a_renewal() -> None:
    """A crash after the transaction leaves the reply in the escrow; another node may renew before the restart."""
    token = given(requested(), retrieved(), renewed())
    assert token.retrieve("a1", granted(issued_at=at(2)), PERSON, by=WORKER, now=at(31)) is Reception.DUPLICATE
    then(token)


def test_the_same_renewal_again_is_a_no_op_even_after_the_next_one() -> None:
    token = given(requested(), retrieved(), renewed(), renewed("r2", 3, when=at(60)))
    assert token.renew("r1", 1, granted(issued_at=at(30)), by=WORKER, now=at(61)) is Reception.DUPLICATE
    then(token)


def test_a_discarded_reply_again_is_a_no_op_even_after_another_was_discarded() -> None:
    token = given(
        requested(), retrieved(), deleted(when=at(10)), discarded("r1", when=at(11)), discarded("r2", when=at(12))
    )
    assert token.renew("r1", 1, granted(issued_at=at(9)), by=WORKER, now=at(13)) is Reception.DUPLICATE
    then(token)


def test_the_end_of_an_attempt_again_is_a_no_op() -> None:
    token = given(requested(), ended())
    token.end_attempt("a1", Reason.EXPIRED_TOKEN, by=WORKER, now=at(6))
    then(token)


def test_the_same_verdict_again_is_a_no_op() -> None:
    token = given(requested(), retrieved(), found_dead())
    token.find_dead(1, GrantDead(Reason.INVALID_GRANT, "AADSTS700082"), by=WORKER, now=at(21))
    then(token)


@pytest.mark.parametrize(
    "verdict", [GrantDead(Reason.INVALID_GRANT, "AADSTS50173"), GrantDead(Reason.POLICY, "AADSTS700082")]
)
def test_a_new_verdict_is_recorded_and_the_token_is_invalid_since_the_first(verdict: GrantDead) -> None:
    token = given(requested(), retrieved(), found_dead())
    token.find_dead(1, verdict, by=WORKER, now=at(25))
    then(token, found_dead(reason=verdict.reason, code=verdict.code, when=at(25)))
    assert shown(token.state, at(25)) == (TokenStatus.INVALID, at(20), verdict.reason)


def test_a_verdict_about_a_generation_that_was_renewed_says_nothing() -> None:
    token = given(requested(), retrieved(), renewed())
    token.find_dead(1, GrantDead(Reason.INVALID_GRANT), by=WORKER, now=at(31))
    then(token)


def test_a_verdict_that_comes_after_the_token_was_deleted_says_nothing() -> None:
    token = given(requested(), retrieved(), deleted(when=at(10)))
    token.find_dead(1, GrantDead(Reason.INVALID_GRANT), by=WORKER, now=at(11))
    then(token)


def test_a_reply_to_an_attempt_that_was_cancelled_is_discarded_and_said_so() -> None:
    token = given(requested(), ended(reason=Reason.CANCELLED))
    assert token.retrieve("a1", granted(issued_at=at(4)), PERSON, by=WORKER, now=at(6)) is Reception.LATE
    then(token, discarded("a1", when=at(6)))


def test_a_reply_to_an_attempt_that_another_replaced_is_discarded_and_the_other_goes_on() -> None:
    token = given(requested(), ended(), requested("a2", 2, when=at(6)))
    assert token.retrieve("a1", granted(issued_at=at(4)), PERSON, by=WORKER, now=at(7)) is Reception.LATE
    then(token, discarded("a1", when=at(7)))
    assert (token.state.status, token.state.since) == (TokenStatus.WAITING, at(6))


def test_a_renewal_that_comes_after_the_token_was_deleted_is_discarded_and_said_so() -> None:
    token = given(requested(), retrieved(), deleted(when=at(10)))
    assert token.renew("r1", 1, granted(issued_at=at(9)), by=WORKER, now=at(11)) is Reception.LATE
    then(token, discarded("r1", when=at(11)))
    assert token.state.status is TokenStatus.NOT_RETRIEVED


# ------------------------------------------------------------------------------------------------ overtaken renewals


def test_an_overtaken_renewal_is_adopted_if_it_is_newer_and_of_the_same_grant() -> None:
    token = given(requested(), retrieved(), renewed(when=at(30)))
    assert token.renew("r2", 1, granted(issued_at=at(30, 1)), by=WORKER, now=at(31)) is Reception.ADOPTED
    then(token, renewed("r2", 3, when=at(31), issued_at=at(30, 1)))
    credential = token.state.credential
    assert credential is not None
    assert (credential.number, credential.grant) == (3, 1)


@pytest.mark.parametrize("seconds", [-1, 0], ids=["older", "just as old"])
def test_an_overtaken_renewal_that_is_not_newer_is_discarded(seconds: int) -> None:
    token = given(requested(), retrieved(), renewed(when=at(30)))
    assert token.renew("r2", 1, granted(issued_at=at(30, seconds)), by=WORKER, now=at(31)) is Reception.LATE
    then(token, discarded("r2", when=at(31)))


def test_an_overtaken_renewal_of_a_grant_that_was_replaced_is_discarded_although_newer() -> None:
    token = given(requested(), retrieved(), requested("a2", 2, when=at(30)), retrieved("a2", 2, when=at(31)))
    assert token.renew("r1", 1, granted(issued_at=at(32)), by=WORKER, now=at(33)) is Reception.LATE
    then(token, discarded("r1", when=at(33)))


def test_a_renewal_of_the_token_before_it_was_deleted_does_not_renew_the_one_after() -> None:
    token = given(
        requested(),
        retrieved(),
        deleted(when=at(10)),
        requested("a2", 2, when=at(11)),
        retrieved("a2", 2, when=at(12)),
    )
    assert token.renew("r1", 1, granted(issued_at=at(13)), by=WORKER, now=at(13)) is Reception.LATE
    then(token, discarded("r1", when=at(13)))


def test_a_renewal_of_the_current_generation_is_adopted_whatever_its_clock_says() -> None:
    token = given(requested(), retrieved())
    assert token.renew("r1", 1, granted(issued_at=at(1)), by=WORKER, now=at(3)) is Reception.ADOPTED
    then(token, renewed(when=at(3), issued_at=at(1)))


def test_a_renewal_keeps_since_and_what_is_pinned() -> None:
    token = given(requested(), retrieved(), renewed(when=at(30)))
    state = token.state
    assert (state.since, state.subject, state.tenant, state.account) == (at(2), SUBJECT, TENANT, ACCOUNT)


def test_a_renewal_that_reinstates_is_since_the_renewal() -> None:
    token = given(requested(), retrieved(), found_dead(when=at(20)), renewed(when=at(30)))
    assert shown(token.state, at(30)) == (TokenStatus.RETRIEVED, at(30), None)


# ------------------------------------------------------------------------------------------------- who may sign in


PINNED = given(requested(), retrieved()).state
BOB = "bob@contoso.com"


def mismatch(
    identity: Identity, state: TokenState, account: str = ACCOUNT, *, flow: str = "device", takes_over: bool = False
) -> Reason | None:
    attempt = Attempt("a2", 2, flow, "contoso", account, at(60), takes_over)
    return account_mismatch(identity, attempt, state)


@pytest.mark.parametrize(
    ("identity", "asked_for", "state", "reason"),
    [
        pytest.param(PERSON, ACCOUNT, given().state, None, id="the one asked for, nothing pinned"),
        pytest.param(Identity("SCAN@Contoso.COM", SUBJECT, TENANT), ACCOUNT, given().state, None, id="another case"),
        pytest.param(Identity("STRASSE@contoso.com", SUBJECT, TENANT), "straße@contoso.com", given().state,
                     Reason.WRONG_ACCOUNT, id="an address that only Unicode's case folding makes the same"),
        pytest.param(Identity(BOB, SUBJECT, TENANT), ACCOUNT, given().state, Reason.WRONG_ACCOUNT, id="another person"),
        pytest.param(PERSON, ACCOUNT, PINNED, None, id="the one pinned"),
        pytest.param(Identity("SCAN@contoso.com", SUBJECT, TENANT), ACCOUNT, PINNED, None, id="pinned, another case"),
        pytest.param(Identity(ACCOUNT, "another", TENANT), ACCOUNT, PINNED, Reason.ACCOUNT_RECREATED,
                     id="another subject"),
        pytest.param(Identity(ACCOUNT, SUBJECT, "another"), ACCOUNT, PINNED, Reason.ACCOUNT_RECREATED,
                     id="another tenant"),
        pytest.param(Identity(ACCOUNT, SUBJECT, None), ACCOUNT, PINNED, Reason.ACCOUNT_RECREATED,
                     id="no tenant where one is pinned"),
        pytest.param(Identity(BOB, SUBJECT, TENANT), ACCOUNT, PINNED, Reason.ACCOUNT_RENAMED, id="another address"),
        pytest.param(Identity(BOB, "bob", TENANT), ACCOUNT, PINNED, Reason.WRONG_ACCOUNT,
                     id="another address and subject"),
        pytest.param(Identity(BOB, "bob", TENANT), BOB, PINNED, None, id="another account was asked for"),
    ],
)  # fmt: skip
def test_the_person_who_signed_in_is_the_one_asked_for_and_pinned(
    identity: Identity, asked_for: str, state: TokenState, reason: Reason | None
) -> None:
    assert mismatch(identity, state, asked_for) is reason


def test_an_administrators_word_is_about_the_subject_and_never_about_the_address() -> None:
    assert mismatch(Identity(ACCOUNT, "another", TENANT), PINNED, takes_over=True) is None
    assert mismatch(Identity(BOB, SUBJECT, TENANT), PINNED, BOB, takes_over=True) is None
    assert mismatch(Identity(BOB, SUBJECT, TENANT), PINNED, takes_over=True) is Reason.WRONG_ACCOUNT


def test_the_application_itself_signs_in_whatever_subject_a_person_has_pinned() -> None:
    assert mismatch(Identity(ACCOUNT, "client-id", None), PINNED, flow="app") is None


def test_a_dead_credential_still_pins_the_account() -> None:
    state = given(requested(), retrieved(), found_dead(), requested("a2", 2, when=at(30))).state
    assert mismatch(Identity(ACCOUNT, "another", TENANT), state) is Reason.ACCOUNT_RECREATED


# -------------------------------------------------------------------------------- what a credential that works lacks


def test_a_token_without_a_refresh_token_needs_a_person_from_the_beginning() -> None:
    assert given(requested(), retrieved(renewable=False)).state.attention is GrantWarning.NOT_RENEWABLE
    assert PINNED.attention is None


def test_a_renewal_without_the_mail_scope_is_used_and_needs_a_person_until_the_scope_is_back() -> None:
    token = given(requested(), retrieved())
    lacking = replace(granted(issued_at=at(30)), missing_scope="mail")
    token.renew("r1", 1, lacking, by=WORKER, now=at(30))
    assert (token.state.status, token.state.attention) == (TokenStatus.RETRIEVED, GrantWarning.SCOPE_MISSING)
    token.renew("r2", 2, granted(issued_at=at(31)), by=WORKER, now=at(31))
    assert token.state.attention is None


def test_a_renewal_with_another_address_of_the_same_subject_names_it_until_it_is_taken_over() -> None:
    token = given(requested(), retrieved())
    token.renew("r1", 1, granted(issued_at=at(30), identity=Identity(BOB, SUBJECT, TENANT)), by=WORKER, now=at(30))
    token.renew("r2", 2, granted(issued_at=at(31), identity=None), by=WORKER, now=at(31))
    assert (token.state.attention, token.state.signed_in_as) == (GrantWarning.NEW_ADDRESS, BOB)
    assert token.state.account == ACCOUNT
    token.renew("r3", 3, granted(issued_at=at(32), identity=PERSON), by=WORKER, now=at(32))
    assert (token.state.attention, token.state.signed_in_as) == (None, None)


def test_the_application_s_own_credentials_are_renewable_without_a_refresh_token() -> None:
    grant = granted(issued_at=at(2))
    without = replace(grant, credential=replace(grant.credential, refresh_token=None))
    assert [is_renewable(without, flow) for flow in ("app", "device", "browser")] == [True, False, False]
    assert is_renewable(grant, "device")


def test_a_renewal_of_another_account_leaves_the_credential_and_is_recorded_once() -> None:
    token = given(requested(), retrieved())
    token.withhold("r1", BOB, by=WORKER, now=at(30))
    token.withhold("r2", BOB, by=WORKER, now=at(31))
    then(token, withheld("r1", BOB, when=at(30)))
    assert (token.state.status, token.state.attention) == (TokenStatus.RETRIEVED, GrantWarning.ANOTHER_ACCOUNT)
    assert (token.state.credential, token.state.signed_in_as) == (PINNED.credential, BOB)
    assert token.renew("r1", 1, granted(issued_at=at(32)), by=WORKER, now=at(32)) is Reception.DUPLICATE


def test_a_renewal_of_a_third_account_or_after_a_new_address_is_recorded_too() -> None:
    token = given(requested(), retrieved())
    token.renew("r1", 1, granted(issued_at=at(30), identity=Identity(BOB, SUBJECT, TENANT)), by=WORKER, now=at(30))
    token.collect_events()
    token.withhold("r2", BOB, by=WORKER, now=at(31))
    token.withhold("r3", "eve@contoso.com", by=WORKER, now=at(32))
    then(token, withheld("r2", BOB, when=at(31)), withheld("r3", "eve@contoso.com", when=at(32)))


@pytest.mark.parametrize("takes_over", [True, False])
def test_an_attempt_knows_whether_it_takes_over_another_account(takes_over: bool) -> None:
    token = given()
    token.request(
        "a1",
        flow="device",
        profile="press/smtp",
        provider="contoso",
        account=ACCOUNT,
        expires_at=at(16),
        takes_over=takes_over,
        by=ADMIN,
        now=at(1),
    )
    assert token.state.attempt is not None
    assert token.state.attempt.takes_over is takes_over


def test_an_attempt_whose_requests_failed_ends_at_its_deadline_for_their_reason() -> None:
    token = given(requested(until=at(16)))
    token.settle(at(20), FailedRequests(Reason.PROVIDER_FAILED, "HTTP 503", 7))
    assert shown(token.state, at(20)) == (TokenStatus.NOT_RETRIEVED, at(16), Reason.PROVIDER_FAILED)
    assert (token.state.code, token.state.failures) == ("HTTP 503", 7)
    assert [event.by for event in token.collect_events()] == [WORKER]


def test_an_attempt_that_was_denied_ends_when_the_denial_came() -> None:
    assert given(requested(until=at(16)), ended(when=at(20))).state.since == at(20)


def test_an_event_of_the_first_release_keeps_its_bytes() -> None:
    [_, event] = history(requested())
    assert isinstance(event, Token.AuthorizationRequested)
    assert "takes_over" not in vars(event)
    assert "takes_over" in vars(replace(event, takes_over=True))


def test_a_new_sign_in_does_not_move_the_pin_before_it_succeeds() -> None:
    state = given(requested(), retrieved(), requested("a2", 2, when=at(30))).state
    assert (state.subject, state.tenant, state.account) == (SUBJECT, TENANT, ACCOUNT)


# ---------------------------------------------------------------------------------------------------------- deleting


def test_delete_clears_the_pin_and_what_is_held_and_keeps_the_counters() -> None:
    token = given(requested(), retrieved(), renewed(), discarded("r0", when=at(31)), requested("a2", 2, when=at(32)))

    token.delete(by=ADMIN, now=at(40))

    then(token, deleted())
    assert (token.state.generations, token.state.attempts) == (2, 2)
    state = token.state
    assert [state.credential, state.attempt, state.reason] == [None] * 3
    assert [state.provider, state.account, state.subject, state.tenant] == [None] * 4
    assert shown(token.state, at(40)) == (TokenStatus.NOT_RETRIEVED, at(40), None)
    assert mismatch(Identity(ACCOUNT, "another", "tenant"), token.state) is None


def test_delete_does_not_forget_which_replies_were_discarded() -> None:
    token = given(requested(), retrieved(), renewed(), discarded("r0", when=at(31)), deleted())
    assert token.renew("r0", 1, granted(issued_at=at(20)), by=WORKER, now=at(41)) is Reception.DUPLICATE
    then(token)


def test_what_comes_after_a_deletion_goes_on_counting() -> None:
    token = given(requested(), retrieved(), deleted(when=at(10)))
    request(token, "a2", now=at(11))
    token.retrieve("a2", granted(issued_at=at(12)), PERSON, by=WORKER, now=at(12))
    then(token, requested("a2", 2, when=at(11)), retrieved("a2", 2, when=at(12)))


def test_a_deleted_tokens_attempt_can_not_bring_it_back() -> None:
    token = given(requested(), deleted(when=at(3)))
    assert token.retrieve("a1", granted(issued_at=at(2)), PERSON, by=WORKER, now=at(4)) is Reception.LATE
    assert token.state.status is TokenStatus.NOT_RETRIEVED


def test_a_retired_token_knows_it() -> None:
    token = given()
    token.retire(by=ADMIN, now=at(1))
    assert token.state == replace(given().state, retired=True)


# ----------------------------------------------------------------------------------------------------------- secrets


def test_no_event_shows_a_secret_that_a_reply_brought() -> None:
    token = Token.create(TOKEN_ID, by=ADMIN, now=START)
    replies: list[Granted] = [granted(issued_at=at(m), mark=f"-{m}") for m in range(6)]
    request(token, "a1", now=at(1))
    token.retrieve("a1", replies[0], PERSON, by=WORKER, now=at(2))
    token.renew("r1", 1, replies[1], by=WORKER, now=at(3))
    token.find_dead(2, GrantDead(Reason.INVALID_GRANT), by=WORKER, now=at(4))
    token.renew("r2", 2, replies[2], by=WORKER, now=at(5))
    token.delete(by=ADMIN, now=at(6))
    token.renew("r3", 3, replies[3], by=WORKER, now=at(7))
    token.retrieve("a0", replies[4], PERSON, by=WORKER, now=at(8))

    events = token.collect_events()

    assert len(events) == 9
    for event in events:
        text = repr(event) + mapper().to_stored_event(event).state.decode()
        assert ACCESS_MARK not in text
        assert REFRESH_MARK not in text
    assert ACCESS_MARK not in repr(token)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).TOPIC)
def test_no_event_has_a_field_that_is_a_secret(event: object) -> None:
    for name, value in vars(event).items():
        assert isinstance(value, str | int | UUID | datetime | dict | list | None), name
        for inner in value.values() if isinstance(value, dict) else ():
            assert isinstance(inner, str | int | None), name


def test_an_event_that_did_hold_a_secret_could_not_be_stored() -> None:
    event = Token.LateReplyDiscarded(
        originator_id=TOKEN_ID,
        originator_version=2,
        timestamp=START,
        attempt_id=granted(issued_at=START).credential.access_token,  # type: ignore[arg-type] # a mistake
        by=WORKER,
    )
    with pytest.raises(TypeError, match="not serializable"):
        mapper().to_stored_event(event)


# ------------------------------------------------------------------------------------------- what is known of its end


def held(*happenings: Callable[[int], Token.Event]) -> Generation:
    credential = given(requested(), *happenings).state.credential
    assert credential is not None
    return credential


def test_renewals_descend_from_the_sign_in_that_was_granted_then() -> None:
    credential = held(retrieved(when=at(2)), renewed(when=at(30)), renewed("r2", 3, when=at(60)))
    assert (credential.granted_at, credential.issued_at) == (at(2), at(60))


@pytest.mark.parametrize("again", [at(10_000), at(10_000, 20), at(10_000, -20), None])
def test_an_end_that_a_renewal_leaves_where_it_was_stands_since_it_was_set(again: datetime | None) -> None:
    credential = held(retrieved(when=at(2), grant_until=at(10_000)), renewed(when=at(30), grant_until=again))
    assert credential.end_set_at == at(2)
    assert credential.grant_expires_at == (again or at(10_000))


@pytest.mark.parametrize("later", [at(10_001), at(10_028)])
def test_an_end_that_a_renewal_moves_is_set_anew(later: datetime) -> None:
    credential = held(retrieved(when=at(2), grant_until=at(10_000)), renewed(when=at(30), grant_until=later))
    assert (credential.grant_expires_at, credential.end_set_at) == (later, at(30))


@pytest.mark.parametrize("when", [at(100), at(120)])
def test_an_end_that_the_grant_has_outlived_was_none(when: datetime) -> None:
    credential = held(retrieved(when=at(2), grant_until=at(100)), renewed(when=when))
    assert (credential.grant_expires_at, credential.end_set_at) == (None, when)


def test_the_age_at_which_a_policy_wanted_a_new_sign_in_is_remembered_until_a_grant_outlives_it() -> None:
    frequency = found_dead(reason=Reason.SIGN_IN_FREQUENCY, when=at(62))
    token = given(requested(), retrieved(when=at(2)), frequency, requested("a2", 2, when=at(70)))
    assert token.state.sign_in_seconds == 3600
    again = (requested(), retrieved(when=at(2)), frequency, requested("a2", 2, when=at(70)))
    signed_in = retrieved("a2", 2, when=at(72))
    assert given(*again, signed_in, renewed("r1", 3, when=at(131))).state.sign_in_seconds == 3600
    assert given(*again, signed_in, renewed("r1", 3, when=at(133))).state.sign_in_seconds is None
    assert given(*again, signed_in, deleted(when=at(100))).state.sign_in_seconds is None


def test_an_attempt_that_ends_takes_nothing_from_why_the_token_does_not_work() -> None:
    token = given(
        requested(),
        retrieved(),
        found_dead(reason=Reason.ACCOUNT_NOT_AVAILABLE),
        requested("a2", 2, when=at(30)),
        ended("a2", Reason.CANCELLED, when=at(31)),
    )
    assert (token.state.dead, token.state.reason) == (Reason.ACCOUNT_NOT_AVAILABLE, Reason.CANCELLED)


def test_an_account_that_only_looks_like_the_one_asked_for_is_another() -> None:
    assert is_same_address("Mike@Contoso.com", "mike@contoso.COM")
    for lookalike in (
        "mi\u212ae@contoso.com",
        "m\u0131ke@contoso.com",
        "\uff4dike@contoso.com",
        "MI\u212aE@CONTOSO.COM",
    ):
        assert not is_same_address(lookalike, "mike@contoso.com")
    assert not is_same_address("stra\u00dfe@contoso.com", "strasse@contoso.com")


# A provider gets another name


@pytest.mark.parametrize("before", [(), (requested(), retrieved()), (requested(), retrieved(), found_dead())])
def test_a_provider_gets_another_name_and_the_token_keeps_the_rest(before: tuple[Happening, ...]) -> None:
    token = given(*before)
    state = token.state
    token.rename_provider("entra", by=ADMIN, now=at(21))
    assert list(token.pending_events) == [
        Token.ProviderRenamed(
            originator_id=TOKEN_ID,
            originator_version=len(before) + 2,
            timestamp=at(21),
            provider="entra",
            by=ADMIN,
        )
    ]
    assert token.state == replace(state, provider="entra")


def test_a_provider_keeps_its_name_while_a_sign_in_is_under_way() -> None:
    token = given(requested())
    with pytest.raises(Refused, match=r"^token_waiting"):
        token.rename_provider("entra", by=ADMIN, now=at(2))
    then(token)

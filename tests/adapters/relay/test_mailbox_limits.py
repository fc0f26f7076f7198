from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.relay.mailbox_limits import MailboxLimits, MailboxQuota, Use, WaitingTurn

EXCHANGE = MailboxLimits(connections=3, messages_per_minute=30)


def connection(client: object, number: int = 0) -> WaitingTurn:
    return WaitingTurn(client, number, Use.CONNECTION)


def message(client: object, number: int = 0) -> WaitingTurn:
    return WaitingTurn(client, number, Use.MESSAGE)


def queued(quota: MailboxQuota, *turns: WaitingTurn) -> MailboxQuota:
    for turn in turns:
        quota.wait(turn)
    return quota


def test_as_many_connections_as_the_server_allows_and_the_rest_waits() -> None:
    quota = queued(MailboxQuota(EXCHANGE), *(connection(client) for client in "abcde"))
    assert [turn.client for turn in quota.next_turns(0)] == ["a", "b", "c"]
    assert quota.next_turns(1000) == []
    quota.release_connection()
    assert quota.next_turns(1000) == [connection("d")]


def test_without_a_limit_nobody_waits() -> None:
    quota = queued(
        MailboxQuota(MailboxLimits()), *(connection(n) for n in range(500)), *(message(n) for n in range(500))
    )
    assert len(quota.next_turns(0)) == 1000
    assert quota.next_turn_at(0) is None


def test_clients_take_turns_however_often_one_of_them_asks() -> None:
    quota = queued(MailboxQuota(MailboxLimits(connections=1)), *(connection("server", n) for n in range(4)))
    queued(quota, connection("printer"), connection("scanner"))
    order = []
    while turns := quota.next_turns(0):
        order += turns
        quota.release_connection()
    others = [connection("printer"), connection("scanner")]
    assert order == [connection("server", 0), *others, *(connection("server", n) for n in (1, 2, 3))]


def test_who_comes_as_a_connection_becomes_free_does_not_overtake_who_waits_for_it() -> None:
    quota = MailboxQuota(MailboxLimits(connections=1))
    assert quota.take(Use.CONNECTION, 0)
    quota.wait(connection("printer"))
    quota.release_connection()
    assert not quota.take(Use.CONNECTION, 0)
    assert quota.next_turns(0) == [connection("printer")]


def test_so_many_messages_a_minute_counted_from_each_ones_beginning() -> None:
    quota = queued(MailboxQuota(EXCHANGE), *(message(n) for n in range(40)))
    assert len(quota.next_turns(0)) == 30
    assert quota.next_turn_at(10) == 60
    assert quota.next_turns(59.9) == []
    assert len(quota.next_turns(60)) == 10
    assert quota.next_turn_at(60) is None
    queued(quota, *(message(n) for n in range(40, 70)))
    assert len(quota.next_turns(60)) == 20


def test_who_waits_for_a_message_does_not_wait_for_those_who_wait_for_a_connection() -> None:
    quota = queued(MailboxQuota(MailboxLimits(connections=1, messages_per_minute=1)), connection("a"), connection("b"))
    assert quota.next_turns(0) == [connection("a")]
    assert queued(quota, message("a")).next_turns(0) == [message("a")]


def test_nobody_goes_while_the_server_wants_to_be_left_alone() -> None:
    quota = queued(MailboxQuota(EXCHANGE), connection("a"), message("b"))
    quota.pause(10)
    quota.pause(5)
    assert quota.next_turns(9.9) == []
    assert quota.next_turn_at(9.9) == 10
    assert quota.next_turns(10) == [connection("a"), message("b")]


def test_who_gives_up_is_passed_over() -> None:
    quota = queued(MailboxQuota(MailboxLimits(connections=1)), connection("a"), connection("b"), connection("c"))
    quota.withdraw(connection("b"))
    assert quota.next_turns(0) == [connection("a")]
    quota.withdraw(connection("a"))
    quota.release_connection()
    assert quota.next_turns(0) == [connection("c")]


def test_a_quota_is_kept_as_long_as_there_is_something_to_remember() -> None:
    quota = MailboxQuota(EXCHANGE)
    assert quota.is_unused(0)
    queued(quota, connection("a"), message("a"))
    assert not quota.is_unused(0)
    quota.next_turns(0)
    assert not quota.is_unused(30)
    quota.release_connection()
    assert not quota.is_unused(59)
    assert quota.is_unused(60)
    quota.pause(90)
    assert not quota.is_unused(89)
    assert quota.is_unused(90)


def test_only_a_turn_that_time_brings_is_looked_for_again() -> None:
    quota = queued(MailboxQuota(EXCHANGE), *(connection(n) for n in range(4)))
    quota.next_turns(0)
    assert quota.next_turn_at(0) is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abcd"), st.sampled_from(list(Use))),
        st.tuples(st.just("release")),
        st.tuples(st.just("pause"), st.floats(0.1, 100)),
        st.tuples(st.just("wait"), st.floats(0.1, 100)),
        st.tuples(st.just("withdraw"), st.integers(0, 50)),
    ),
    max_size=200,
)


@settings(max_examples=300)
@given(STEPS, st.integers(1, 4), st.integers(1, 5))
def test_whatever_happens_no_limit_is_passed_and_everybody_s_turn_comes_once(
    steps: list[tuple[Any, ...]], connections: int, messages: int
) -> None:
    quota = MailboxQuota(MailboxLimits(connections, messages))
    now, paused_until, in_use = 0.0, 0.0, 0
    waiting: list[WaitingTurn] = []
    begun: list[float] = []
    served = Counter[WaitingTurn]()

    def check_turns() -> None:
        nonlocal in_use
        for turn in quota.next_turns(now):
            assert now >= paused_until
            assert turn in waiting
            waiting.remove(turn)
            served[turn] += 1
            if turn.use is Use.CONNECTION:
                in_use += 1
            else:
                begun.append(now)
        assert in_use <= connections
        assert sum(at + 60 > now for at in begun) <= messages

    for number, (what, *details) in enumerate(steps):
        match what:
            case "ask":
                waiting.append(WaitingTurn(details[0], number, details[1]))
                quota.wait(waiting[-1])
            case "release" if in_use:
                in_use -= 1
                quota.release_connection()
            case "pause":
                paused_until = max(paused_until, now + details[0])
                quota.pause(now + details[0])
            case "wait":
                now += details[0]
            case "withdraw" if waiting:
                turn = waiting.pop(details[0] % len(waiting))
                quota.withdraw(turn)
        check_turns()
    while waiting:
        again = quota.next_turn_at(now)
        if in_use:
            in_use -= 1
            quota.release_connection()
        elif again is not None:
            now = max(now, again)
        check_turns()
        assert again is not None or in_use or not waiting
    assert all(times == 1 for times in served.values())


@pytest.mark.parametrize("use", Use)
def test_a_turn_never_comes_twice(use: Use) -> None:
    quota = queued(MailboxQuota(MailboxLimits(5, 5)), WaitingTurn("a", 1, use))
    assert quota.next_turns(0) == [WaitingTurn("a", 1, use)]
    assert quota.next_turns(0) == []

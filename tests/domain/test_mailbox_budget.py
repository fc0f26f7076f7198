from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.mailbox_budget import Allowance, MailboxBudget, Need, Ticket

EXCHANGE = Allowance(connections=3, messages_per_minute=30)


def connection(client, number=0):
    return Ticket(client, number, Need.CONNECTION)


def message(client, number=0):
    return Ticket(client, number, Need.MESSAGE)


def queued(budget, *tickets):
    for ticket in tickets:
        budget.queue(ticket)
    return budget


def test_as_many_connections_as_the_server_allows_and_the_rest_waits():
    budget = queued(MailboxBudget(EXCHANGE), *(connection(client) for client in "abcde"))
    assert [ticket.client for ticket in budget.next(0)] == ["a", "b", "c"]
    assert budget.next(1000) == []
    budget.give_back()
    assert budget.next(1000) == [connection("d")]


def test_without_a_limit_nobody_waits():
    budget = queued(MailboxBudget(Allowance()), *(connection(n) for n in range(500)), *(message(n) for n in range(500)))
    assert len(budget.next(0)) == 1000
    assert budget.look_again_at(0) is None


def test_clients_take_turns_however_often_one_of_them_asks():
    budget = queued(MailboxBudget(Allowance(connections=1)), *(connection("server", n) for n in range(4)))
    queued(budget, connection("printer"), connection("scanner"))
    order = []
    while turns := budget.next(0):
        order += [ticket.client for ticket in turns]
        budget.give_back()
    assert order == ["server", "printer", "scanner", "server", "server", "server"]


def test_so_many_messages_a_minute_counted_from_each_ones_beginning():
    budget = queued(MailboxBudget(EXCHANGE), *(message(n) for n in range(40)))
    assert len(budget.next(0)) == 30
    assert budget.look_again_at(10) == 60
    assert budget.next(59.9) == []
    assert len(budget.next(60)) == 10
    assert budget.look_again_at(60) is None
    queued(budget, *(message(n) for n in range(40, 70)))
    assert len(budget.next(60)) == 20


def test_who_waits_for_a_message_does_not_wait_for_those_who_wait_for_a_connection():
    budget = queued(MailboxBudget(Allowance(connections=1, messages_per_minute=1)), connection("a"), connection("b"))
    assert budget.next(0) == [connection("a")]
    assert queued(budget, message("a")).next(0) == [message("a")]


def test_nobody_goes_while_the_server_wants_to_be_left_alone():
    budget = queued(MailboxBudget(EXCHANGE), connection("a"), message("b"))
    budget.pause(10)
    budget.pause(5)
    assert budget.next(9.9) == []
    assert budget.look_again_at(9.9) == 10
    assert budget.next(10) == [connection("a"), message("b")]


def test_who_gives_up_is_passed_over():
    budget = queued(MailboxBudget(Allowance(connections=1)), connection("a"), connection("b"), connection("c"))
    budget.withdraw(connection("b"))
    assert budget.next(0) == [connection("a")]
    budget.withdraw(connection("a"))
    budget.give_back()
    assert budget.next(0) == [connection("c")]


def test_a_budget_is_kept_as_long_as_there_is_something_to_remember():
    budget = MailboxBudget(EXCHANGE)
    assert budget.is_unused(0)
    queued(budget, connection("a"), message("a"))
    assert not budget.is_unused(0)
    budget.next(0)
    assert not budget.is_unused(30)
    budget.give_back()
    assert not budget.is_unused(59)
    assert budget.is_unused(60)
    budget.pause(90)
    assert not budget.is_unused(89)
    assert budget.is_unused(90)


def test_only_a_turn_that_time_brings_is_looked_for_again():
    budget = queued(MailboxBudget(EXCHANGE), *(connection(n) for n in range(4)))
    budget.next(0)
    assert budget.look_again_at(0) is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abcd"), st.sampled_from(list(Need))),
        st.tuples(st.just("give back")),
        st.tuples(st.just("pause"), st.floats(0.1, 100)),
        st.tuples(st.just("wait"), st.floats(0.1, 100)),
        st.tuples(st.just("withdraw"), st.integers(0, 50)),
    ),
    max_size=200,
)


@settings(max_examples=300)
@given(STEPS, st.integers(1, 4), st.integers(1, 5))
def test_whatever_happens_no_limit_is_passed_and_everybody_s_turn_comes_once(steps, connections, messages):
    budget = MailboxBudget(Allowance(connections, messages))
    now, paused_until, in_use = 0.0, 0.0, 0
    waiting, begun, served = [], [], Counter()

    def look():
        nonlocal in_use
        for ticket in budget.next(now):
            assert now >= paused_until
            assert ticket in waiting
            waiting.remove(ticket)
            served[ticket] += 1
            if ticket.need is Need.CONNECTION:
                in_use += 1
            else:
                begun.append(now)
        assert in_use <= connections
        assert sum(at + 60 > now for at in begun) <= messages

    for number, (what, *details) in enumerate(steps):
        match what:
            case "ask":
                waiting.append(Ticket(details[0], number, details[1]))
                budget.queue(waiting[-1])
            case "give back" if in_use:
                in_use -= 1
                budget.give_back()
            case "pause":
                paused_until = max(paused_until, now + details[0])
                budget.pause(now + details[0])
            case "wait":
                now += details[0]
            case "withdraw" if waiting:
                ticket = waiting.pop(details[0] % len(waiting))
                budget.withdraw(ticket)
        look()
    while waiting:
        again = budget.look_again_at(now)
        if in_use:
            in_use -= 1
            budget.give_back()
        elif again is not None:
            now = max(now, again)
        look()
        assert again is not None or in_use or not waiting
    assert all(times == 1 for times in served.values())


@pytest.mark.parametrize("need", Need)
def test_a_ticket_s_turn_never_comes_twice(need):
    budget = queued(MailboxBudget(Allowance(5, 5)), Ticket("a", 1, need))
    assert budget.next(0) == [Ticket("a", 1, need)]
    assert budget.next(0) == []

"""Sessions with mail servers: kept, lent again, never to the wrong profile; and the limits of a mailbox."""

import socket
import threading
from asyncio import AbstractEventLoop
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import pytest
from line_client import MAILBOX, USER
from sending_relay import MESSAGE, ManyUserAdmissionClient, Sender, SendingRelay, StartRelay
from smtp_peer import Act, Conversation, Peer, close, reset, say
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from adapters.relay.mailbox_limits import MailboxQueue
from domain.secret import Secret


def sign_ins(peer: Peer) -> int:
    return len(peer.tokens_seen)


def send_one(port: int, **who: str) -> None:
    with Sender(port).greet() as client:
        client.sign_in(**who)
        client.deliver()
        client.ask("QUIT", "221")


def test_with_the_pool_one_sign_in_serves_many_clients(send: StartRelay, peer: Peer) -> None:
    relay = send()
    for _ in range(20):
        send_one(relay.port)
    assert sign_ins(peer) == 1
    assert [len(one.messages) for one in peer.conversations if one.messages] == [20]
    commands = next(one.commands for one in peer.conversations if one.messages)
    for at, command in enumerate(commands):
        if command.startswith(b"MAIL"):
            assert commands[at - 1] == b"RSET", "reset between messages"


def test_without_the_pool_every_client_has_its_own_sign_in(send: StartRelay, peer: Peer) -> None:
    relay = send(pool=False)
    for _ in range(3):
        send_one(relay.port)
    assert sign_ins(peer) == 3
    assert [len(one.messages) for one in peer.conversations if one.messages] == [1, 1, 1]
    wait_until(
        lambda: [verbs[-1] for verbs in peer.verbs if "AUTH" in verbs] == ["QUIT"] * 3, "three connections were closed"
    )


def test_no_session_is_ever_lent_to_another_profile(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    users.add(peer.port, user="others", profile="fax/smtp-service", access_token=Secret("token-2"))
    peer.tokens.add("token-2")
    relay = send()
    for user in (USER, "others", USER, "others"):
        send_one(relay.port, user=user)
    assert Counter(token for _, token in peer.tokens_seen) == {"token-1": 1, "token-2": 1}
    assert sorted(len(one.messages) for one in peer.conversations if one.messages) == [2, 2]


def test_a_session_with_an_older_token_is_not_lent_any_more(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    relay = send()
    send_one(relay.port)
    users.add(peer.port, access_token=Secret("token-2"), generation=2)
    peer.tokens = {"token-2"}
    send_one(relay.port)
    assert [token for _, token in peer.tokens_seen] == ["token-1", "token-2"]


def test_a_session_that_the_mail_server_has_closed_is_replaced_unseen(send: StartRelay, peer: Peer) -> None:
    relay = send()
    send_one(relay.port)
    conversation = next(one for one in peer.conversations if one.messages)
    conversation.sock.shutdown(socket.SHUT_RDWR)
    send_one(relay.port)
    assert len(peer.messages) == 2
    assert sign_ins(peer) == 2


def test_a_session_that_ends_with_its_first_command_is_replaced_once(send: StartRelay, peer: Peer) -> None:
    relay = send()
    send_one(relay.port)
    peer.do("MAIL", close)
    send_one(relay.port)
    assert len(peer.messages) == 2


def test_a_session_after_an_error_is_not_lent_again(send: StartRelay, peer: Peer) -> None:
    relay = send()
    peer.do("END", say("nonsense"))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.deliver(beginning="451")
        client.deliver()
    assert sign_ins(peer) == 2


def test_what_is_idle_is_ended_with_quit_when_the_relay_stops(send: StartRelay, peer: Peer) -> None:
    relay = send()
    send_one(relay.port)
    relay.close()
    conversation = next(one for one in peer.conversations if one.messages)
    wait_until(lambda: conversation.commands[-1] == b"QUIT", "the connection was closed")


def test_many_clients_at_once_are_all_served(send: StartRelay, peer: Peer) -> None:
    relay = send()
    threads = [threading.Thread(target=send_one, args=(relay.port,)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(peer.messages) == 40
    assert set(peer.messages) == {MESSAGE}


def test_the_next_connections_resume_the_tls_session(send: StartRelay, peer: Peer) -> None:
    relay = send(pool=False)
    for _ in range(3):
        send_one(relay.port)
    assert [one.resumed for one in peer.conversations if one.messages][1:] == [True, True]


def test_a_mail_server_that_never_resumes_a_tls_session_is_offered_none_after_a_while(
    send: StartRelay, peer: Peer, ca: PracticeCA
) -> None:
    relay = send(pool=False)
    sessions = relay.relay._dialer._sessions
    send_one(relay.port)
    assert sessions.of("localhost")
    for _ in range(8):
        peer.tls = ca.issue().ssl_context()
        send_one(relay.port)
    # The first message may resume the session of the relay's own look at the server's capabilities.
    assert not any(one.resumed for one in [one for one in peer.conversations if one.messages][1:])
    assert sessions.of("localhost") is None
    assert len(peer.messages) == 9


# The limits of a mailbox


def queue_of_the_mailbox(relay: SendingRelay) -> MailboxQueue:
    async def of() -> MailboxQueue:
        return relay.relay._pool._mailbox_queues.of("localhost", MAILBOX)

    return relay.call(of())


def waits_for(queue: MailboxQueue, number: int) -> bool:
    return queue.waiting_count == number


@pytest.mark.parametrize("pool", [True, False])
def test_a_mailbox_never_has_more_connections_than_its_server_allows(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient, pool: bool
) -> None:
    users.add(peer.port, user="others", profile="fax/smtp-service")
    most = Counter[str]()

    def watched(conversation: Conversation) -> None:
        most["open"] = max(most["open"], sum(is_open(one) for one in peer.conversations))
        conversation.say("250 2.1.0 ok")

    def is_open(conversation: Conversation) -> bool:
        return any(c.startswith(b"AUTH") for c in conversation.commands) and b"QUIT" not in conversation.commands

    peer.do("MAIL", *[watched] * 100)
    relay = send(pool=pool, budgets={"localhost": {"connections": 2}})
    threads = [
        threading.Thread(target=send_one, args=(relay.port,), kwargs={"user": user}) for user in [USER, "others"] * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(peer.messages) == 20
    assert 0 < most["open"] <= 2


def test_an_idle_session_makes_room_for_another_profile_of_the_mailbox(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    users.add(peer.port, user="others", profile="fax/smtp-service")
    relay = send(budgets={"localhost": {"connections": 1}})
    send_one(relay.port)
    send_one(relay.port, user="others")
    assert len(peer.messages) == 2
    first = next(one for one in peer.conversations if one.messages)
    assert first.commands[-1] == b"QUIT"


def test_who_waits_too_long_for_the_mailbox_is_told_to_try_again(send: StartRelay) -> None:
    relay = send(budgets={"localhost": {"connections": 1, "wait": 1}})
    with Sender(relay.port).greet() as busy, Sender(relay.port).greet() as late:
        busy.sign_in()
        busy.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        late.sign_in()
        late.ask(f"MAIL FROM:<{MAILBOX}>", "432 4.3.2")
        busy.ask("RSET", "250")
        late.deliver()


def test_clients_that_wait_go_in_the_order_of_their_coming(send: StartRelay, peer: Peer) -> None:
    relay = send(budgets={"localhost": {"connections": 1}})
    order = []
    with ExitStack() as opened:
        clients = [opened.enter_context(Sender(relay.port, address=f"127.0.0.{n}").greet()) for n in range(2, 8)]
        for client in clients:
            client.sign_in()
        clients[0].ask(f"MAIL FROM:<{MAILBOX}>", "250")
        queue = queue_of_the_mailbox(relay)
        for number, client in enumerate(clients[1:], 1):
            client.send(f"MAIL FROM:<number-{number}@b.c>\r\n".encode())
            wait_until(partial(waits_for, queue, number), "the clients wait")
        for client in clients:
            if client is not clients[0]:
                client.hear("250")
            client.ask("RSET", "250")
        order = [
            command
            for one in peer.conversations
            for command in one.commands
            if command.startswith(b"MAIL FROM:<number")
        ]
    assert order == [f"MAIL FROM:<number-{n}@b.c>".encode() for n in range(1, 6)]


def test_more_messages_than_a_minute_may_have_wait_and_are_told_so(send: StartRelay, peer: Peer) -> None:
    relay = send(budgets={"localhost": {"messages_per_minute": 3, "wait": 1}})
    with Sender(relay.port).greet() as client:
        client.sign_in()
        for _ in range(3):
            client.deliver()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "432 4.3.2")
    assert len(peer.messages) == 3


def test_another_mailbox_has_limits_of_its_own(send: StartRelay, peer: Peer, users: ManyUserAdmissionClient) -> None:
    users.add(peer.port, user="others", profile="fax/smtp-service", mailbox="fax@contoso.com")
    relay = send(budgets={"localhost": {"connections": 1}})
    with Sender(relay.port).greet() as one, Sender(relay.port).greet() as other:
        one.sign_in()
        one.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        other.sign_in(user="others")
        other.deliver()


def test_a_432_pauses_the_whole_mailbox(send: StartRelay, peer: Peer) -> None:
    relay = send(budgets={"localhost": {"pause": 600, "wait": 1}})
    peer.do("MAIL", say("432 4.3.2 concurrent connections limit exceeded"))
    with Sender(relay.port).greet() as client, Sender(relay.port).greet() as other:
        client.sign_in()
        other.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "432 4.3.2 concurrent")
        other.ask(f"MAIL FROM:<{MAILBOX}>", "432 4.3.2 the mailbox")
    assert sum(verbs.count("MAIL") for verbs in peer.verbs) == 1


def test_a_client_that_gives_up_waiting_leaves_its_turn_to_the_next(send: StartRelay, peer: Peer) -> None:
    relay = send(budgets={"localhost": {"connections": 1}})
    with Sender(relay.port).greet() as busy, Sender(relay.port).greet() as late:
        busy.sign_in()
        busy.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        late.sign_in()
        late.send(f"MAIL FROM:<{MAILBOX}>\r\n".encode())
        wait_until(lambda: queue_of_the_mailbox(relay).waiting_count, "a client waits")
        late.sock.close()
        busy.ask("RSET", "250")
        busy.deliver()
    send_one(relay.port)
    assert len(peer.messages) == 2


def test_exchange_has_its_limits_without_a_word_in_the_configuration(send: StartRelay) -> None:
    relay = send(budgets={"mx.contoso.com": {"connections": 7}})

    async def limit(host: str) -> int | None:
        return relay.relay._pool._mailbox_queues.of(host, MAILBOX).connection_limit

    assert relay.call(limit("SMTP.office365.com")) == 3
    assert relay.call(limit("mx.contoso.com")) == 7
    assert relay.call(limit("localhost")) is None


# Sessions that the mail server ends


def last_words(*lines: str) -> Act:
    """Say this, and close the connection."""

    def act(conversation: Conversation) -> None:
        conversation.say(*lines)
        close(conversation)

    return act


def two_messages_a_session(conversation: Conversation) -> None:
    conversation.say("250 2.1.0 ok" if len(conversation.messages) < 2 else "421 4.7.0 too many messages")
    if len(conversation.messages) >= 2:
        close(conversation)


def test_a_server_that_takes_two_messages_a_session_takes_each_clients_without_a_pause(
    send: StartRelay, peer: Peer
) -> None:
    peer.do("MAIL", *[two_messages_a_session] * 8)
    relay = send(budgets={"localhost": {"pause": 600}})
    for _ in range(6):
        send_one(relay.port)
    assert len(peer.messages) == 6
    assert sign_ins(peer) == 3


ENDS = {
    "421": last_words("421 4.4.2 timeout"),
    "4xx and a close": last_words("451 4.3.0 going down"),
    "busy and a close": last_words("451 4.3.2 shutting down"),
    "432 and a close": last_words("432 4.3.2 concurrent connections limit exceeded"),
    "close": close,
    "reset": reset,
    "421 without a close": say("421 4.3.0 later"),
}


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA", "RSET", "NOOP"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_a_kept_session_is_no_clients_to_hear(
    send: StartRelay, peer: Peer, end: Act, point: str, extensions: tuple[str, ...]
) -> None:
    peer.extensions = [*extensions]
    relay = send(budgets={"localhost": {"pause": 600}})
    send_one(relay.port)
    peer.do(point, end)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        client.ask("RCPT TO:<you@contoso.com>", "250")
        client.ask("RCPT TO:<me@contoso.com>", "250")
        client.ask("NOOP", "250")
        client.ask("DATA", "354")
        client.send(MESSAGE)
        client.hear("250")
    assert len(peer.messages) == 2
    *_, last = [one for one in peer.conversations if one.messages]
    assert [command for command in last.commands if command.startswith((b"MAIL", b"RCPT"))][-3:] == [
        f"MAIL FROM:<{MAILBOX}>".encode(),
        b"RCPT TO:<you@contoso.com>",
        b"RCPT TO:<me@contoso.com>",
    ]


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA"])
def test_the_end_of_a_kept_session_is_not_heard_in_a_pipelined_group(send: StartRelay, peer: Peer, point: str) -> None:
    relay = send(budgets={"localhost": {"pause": 600}})
    send_one(relay.port)
    peer.do(point, last_words("421 4.4.2 timeout"))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(f"MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n".encode())
        for beginning in ("250", "250", "250", "354"):
            client.hear(beginning)
        client.send(MESSAGE)
        client.hear("250")
    assert len(peer.messages) == 2


def test_the_end_behind_the_replies_to_a_pipelined_group_is_not_heard(send: StartRelay, peer: Peer) -> None:
    relay = send(budgets={"localhost": {"pause": 600}})
    send_one(relay.port)
    peer.do("MAIL", say("451 4.4.2 timeout"))
    peer.do("RCPT", say("503 5.5.1 MAIL first"))
    peer.do("DATA", last_words("503 5.5.1 MAIL first"))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(f"MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n".encode())
        for beginning in ("250", "250", "354"):
            client.hear(beginning)
        client.send(MESSAGE)
        client.hear("250")
    assert len(peer.messages) == 2


@pytest.mark.parametrize("end", [last_words("421 4.4.2 timeout"), close], ids=["421", "close"])
def test_the_end_of_a_fresh_session_is_the_clients_to_hear(send: StartRelay, peer: Peer, end: Act) -> None:
    relay = send()
    # The session of the sign-in is a kept one at MAIL, so the server ends the next one too.
    peer.do("RCPT", end, end)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(f"MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n".encode())
        for beginning in ("250", "451", "451", "451"):
            client.hear(beginning)
        client.ask("DATA", "451")
        client.ask("RSET", "250")
        client.ask("DATA", "503")
    assert not peer.messages


def test_a_fresh_session_that_refuses_the_envelope_leaves_the_message_to_the_client(
    send: StartRelay, peer: Peer
) -> None:
    relay = send()
    send_one(relay.port)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        peer.do("RCPT", last_words("421 4.4.2 timeout"))
        peer.do("MAIL", say("550 5.1.8 bad sender"))
        client.send(b"RCPT TO:<a@b.c>\r\nDATA\r\n")
        client.hear("451 4.4.2 the mail server ended the session")
        client.hear("451")
    assert len(peer.messages) == 1


def test_a_recipient_that_a_living_session_puts_off_is_put_off_once(send: StartRelay, peer: Peer) -> None:
    relay = send()
    send_one(relay.port)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        peer.do("RCPT", say("450 4.2.0 greylisted"))
        client.ask("RCPT TO:<a@b.c>", "450 4.2.0 greylisted")
        client.ask("RCPT TO:<d@e.f>", "250")
        client.ask("DATA", "354")
        client.send(MESSAGE)
        client.hear("250")
    assert sign_ins(peer) == 1


def test_a_session_is_used_up_by_its_messages(send: StartRelay, peer: Peer) -> None:
    relay = send(budgets={"localhost": {"session_messages": 3}})
    for _ in range(7):
        send_one(relay.port)
    assert sign_ins(peer) == 3


class Later:
    """The event loop, with a clock that is a quarter of an hour ahead."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        return self._loop.time() + 900

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def test_a_session_is_used_up_by_its_age(send: StartRelay, peer: Peer) -> None:
    relay = send()
    send_one(relay.port)
    pool = relay.relay._pool
    pool._loop = cast("AbstractEventLoop", Later(pool._loop))
    send_one(relay.port)
    assert sign_ins(peer) == 2


def test_three_refused_sign_ins_in_a_row_leave_the_mailbox_usable(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    relay = send(budgets={"localhost": {"connections": 3, "wait": 600}})
    users.newer_tokens = ["no-token"] * 3
    peer.tokens.clear()
    for _ in range(3):
        with Sender(relay.port).greet() as client:
            client.sign_in("535")
    assert queue_of_the_mailbox(relay).is_unused
    users.add(peer.port, generation=9)
    peer.tokens.add("token-1")
    send_one(relay.port)
    assert len(peer.messages) == 1


@pytest.mark.parametrize("point", ["GREETING", "EHLO", "AUTH"])
@pytest.mark.parametrize("reply", ["432 4.3.2 too many", "421 4.3.2 too many", "451 4.3.2 too many"])
def test_a_server_that_is_busy_at_sign_in_pauses_the_mailbox(
    send: StartRelay, peer: Peer, point: str, reply: str
) -> None:
    relay = send(budgets={"localhost": {"pause": 600, "wait": 1}})
    relay.look()
    peer.do(point, say(reply))
    with Sender(relay.port).greet() as client, Sender(relay.port).greet() as other:
        client.sign_in("4")
        other.sign_in("432 4.3.2 the mailbox")
    assert sign_ins(peer) <= 1
    assert not queue_of_the_mailbox(relay)._quota._connections


def test_a_client_that_its_network_admitted_gives_its_session_back_when_it_signs_in(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    users.add(peer.port, network="127.0.0.1")
    relay = send(pool=False)
    with Sender(relay.port).greet() as client:
        client.deliver()
        client.sign_in()
        client.deliver()
    wait_until(lambda: queue_of_the_mailbox(relay).is_unused, "the queue is unused")

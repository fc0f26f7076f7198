"""Messages on their way through: command by command, streamed, and with what the whole path can do."""

import random
import resource
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from line_client import MAILBOX, USER
from practice_faults.provider import FaultyProvider
from sending_relay import MESSAGE, ManyUserAdmissionClient, Sender, SendingRelay, StartRelay
from smtp_peer import EXTENSIONS, Peer, say
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.relay.admission import AdmissionChange
from domain.secret import Secret

MEGABYTE = 1024 * 1024


@pytest.fixture(params=[True, False], ids=["pool", "no-pool"])
def pool(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def offered(port: int) -> set[str]:
    with Sender(port) as client:
        client.hear("220")
        return set(client.ask("EHLO printer", "250").replace("250-", "").replace("250 ", "").split("\n")[1:])


# Through the practice mail server


@pytest.fixture(scope="module")
def practice(ca: PracticeCA) -> Iterator[tuple[PracticeMailServer, str]]:
    with FaultyProvider(ca) as provider:
        client = provider.confidential_client_id
        with PracticeMailServer(ca, provider, shared={MAILBOX: {client}}) as server:
            with requests.Session() as session:
                session.trust_env = False
                reply = session.post(
                    f"{provider.issuer}/oauth2/token",
                    data={"grant_type": "client_credentials"},
                    auth=(client, provider.client_secret),
                    verify=str(provider.ca_file),
                    timeout=10,
                )
            yield server, reply.json()["access_token"]


@pytest.mark.parametrize(("tls", "port"), [("starttls", "smtp_port"), ("implicit", "smtps_port")])
def test_a_message_arrives_as_it_was(
    ca: PracticeCA, practice: tuple[PracticeMailServer, str], pool: bool, tls: str, port: str
) -> None:
    server, token = practice
    users = ManyUserAdmissionClient()
    users.add(getattr(server, port), tls=tls, access_token=Secret(token))
    message = b"From: scan@contoso.com\r\nSubject: Scan\r\n\r\n.\r\n..two\r\n" + b"x" * 900 + b"\r\n"
    with SendingRelay(users, ca.ca_file, pool=pool) as relay, Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM: <{MAILBOX}>", "250")
        client.ask(f"rcpt to:{tls}-{pool}@contoso.com", "250")
        client.ask("data", "354")
        client.send(message.replace(b"\n.", b"\n..") + b".\r\n")
        client.hear("250")
        client.ask("QUIT", "221")
    assert server.wait_for_messages(f"{tls}-{pool}@contoso.com") == [message]


def test_a_sender_that_is_not_the_mailbox_hears_what_the_mail_server_says(
    ca: PracticeCA, practice: tuple[PracticeMailServer, str]
) -> None:
    server, token = practice
    users = ManyUserAdmissionClient()
    users.add(server.smtp_port, access_token=Secret(token))
    with SendingRelay(users, ca.ca_file) as relay, Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask("MAIL FROM:<admin@contoso.com>", "550-5.7.60")
        client.ask("RCPT TO:<you@contoso.com>", "503 5.5.1")
        client.begin()


# Command by command


def test_replies_come_back_as_they_are_and_commands_go_on_in_order(send: StartRelay, peer: Peer, pool: bool) -> None:
    peer.do("RCPT", say("250 2.1.5 fine"), say("550-5.1.1 no such", "550 5.1.1 mailbox"), say("452 4.2.2 full"))
    relay = send(pool=pool)
    relay.look()
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}> BODY=8BITMIME SIZE=100", "250 2.1.0 ok")
        assert client.ask("RCPT TO:<a@contoso.com>") == "250 2.1.5 fine"
        assert client.ask("RCPT TO:<b@contoso.com>") == "550-5.1.1 no such\n550 5.1.1 mailbox"
        assert client.ask("RCPT TO:<c@contoso.com>") == "452 4.2.2 full"
        client.ask("NOOP", "250")
        client.ask("DATA", "354")
        client.send(MESSAGE)
        assert client.hear() == "250 2.0.0 queued"
    [count] = relay.relay.counters.unstored()
    assert (count.messages, count.octets, count.refusals) == (1, len(MESSAGE), 2)
    conversation = next(one for one in peer.conversations if one.messages)
    assert conversation.messages == [MESSAGE]
    commands = [command for command in conversation.commands if not command.startswith((b"EHLO", b"AUTH", b"STARTTLS"))]
    assert commands[: commands.index(b"DATA") + 1] == [
        *([b"RSET"] if pool else []),
        b"MAIL FROM:<scan@contoso.com> BODY=8BITMIME SIZE=100",
        b"RCPT TO:<a@contoso.com>",
        b"RCPT TO:<b@contoso.com>",
        b"RCPT TO:<c@contoso.com>",
        # The relay's own: a session that was used before may have ended with the 452.
        b"NOOP",
        b"NOOP",
        b"DATA",
    ]


def test_a_message_that_is_refused_at_its_end_is_not_said_to_be_sent(send: StartRelay, peer: Peer, pool: bool) -> None:
    peer.do("END", say("554 5.2.2 mailbox full"))
    with Sender(send(pool=pool).port).greet() as client:
        client.sign_in()
        client.deliver(beginning="554 5.2.2 mailbox full")
        client.deliver(beginning="250")


def test_rset_gives_a_message_up_and_the_next_one_is_whole(send: StartRelay, peer: Peer, pool: bool) -> None:
    with Sender(send(pool=pool).port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        client.ask("RCPT TO:<given-up@contoso.com>", "250")
        client.ask("RSET", "250 2.0.0")
        client.ask("DATA", "503")
        client.deliver()
    # The relay also connects to learn what the server offers, which may come last.
    commands = [command for conversation in peer.conversations for command in conversation.commands]
    first, second = [at for at, command in enumerate(commands) if command.startswith(b"MAIL")]
    assert b"RSET" in commands[first:second]


def test_ehlo_in_a_message_gives_it_up_as_well(send: StartRelay, peer: Peer, pool: bool) -> None:
    with Sender(send(pool=pool).port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        client.ask("EHLO again", "250")
        client.ask("RCPT TO:<you@contoso.com>", "503")
        client.deliver()
    assert len(peer.messages) == 1


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("NOOP", "250"),
        ("VRFY scan", "252"),
        ("EXPN list", "500"),
        ("BDAT 10 LAST", "500"),
        ("STARTTLS", "502"),
        ("MAIL", "501"),
        ("MAIL TO:<a@b.c>", "501"),
        ("MAIL FROM:<a@b.c", "501"),
        ("MAIL FROM:a b@c.d", "555"),
        ("MAIL FROM:<a@b.c> SIZE=ten", "501"),
        ("MAIL FROM:<a@b.c> BODY=BINARYMIME", "555"),
        ("MAIL FROM:<a@b.c> MT-PRIORITY=3", "555"),
        ("MAIL FROM:<jürg@b.c>", "553 5.6.7"),
        ("", "500"),
        ("X" * 3000, "500"),
    ],
)
def test_what_can_not_be_done_is_refused_by_itself(send: StartRelay, peer: Peer, line: str, reply: str) -> None:
    relay = send()
    with Sender(relay.port).greet() as client:
        client.sign_in()
        before = [verb for verbs in peer.verbs for verb in verbs if verb in ("MAIL", "EXPN", "BDAT")]
        client.ask(line, reply)
        client.deliver()
        assert before == []
    assert [command for one in peer.conversations for command in one.commands if command.startswith(b"MAIL")] == [
        b"MAIL FROM:<scan@contoso.com>"
    ]


def test_too_many_mistakes_are_enough(send: StartRelay) -> None:
    with Sender(send().port).greet() as client:
        for _ in range(19):
            client.ask("WHAT", "500")
        client.ask("WHAT", "500")
        client.hear("421 4.7.0")
        assert client.hear_out() == b""


# Pipelining


def test_pipelined_commands_go_on_in_one_piece_and_their_replies_come_in_order(
    send: StartRelay, peer: Peer, pool: bool
) -> None:
    peer.do("RCPT", say("250 2.1.5 ok"), say("550 5.1.1 no"), say("250 2.1.5 ok"))
    relay = send(pool=pool)
    relay.look()
    assert "PIPELINING" in offered(relay.port)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(
            b"MAIL FROM:<scan@contoso.com>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<b@b.c>\r\nRCPT TO:<bad\r\n"
            b"RCPT TO:<c@b.c>\r\nDATA\r\n"
        )
        replies = [client.hear() for _ in range(6)]
        assert [reply[:3] for reply in replies] == ["250", "250", "550", "501", "250", "354"]
        client.send(MESSAGE + b"NOOP\r\nMAIL FROM:<scan@contoso.com>\r\n")
        assert [client.hear()[:3] for _ in range(3)] == ["250", "250", "250"]
    assert b"bad" not in peer.heard
    assert (
        b"MAIL FROM:<scan@contoso.com>\r\nRCPT TO:<a@b.c>\r\nRCPT TO:<b@b.c>\r\nRCPT TO:<c@b.c>\r\nDATA\r\n"
        in peer.heard
    )


def test_a_pipelined_message_whose_sender_is_refused_is_refused_command_by_command(
    send: StartRelay, peer: Peer
) -> None:
    peer.do("MAIL", say("550 5.7.60 not you"))
    peer.do("RCPT", say("503 5.5.1 no"))
    peer.do("DATA", say("503 5.5.1 no"))
    relay = send()
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(b"MAIL FROM:<x@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\nRSET\r\n")
        assert [client.hear()[:3] for _ in range(4)] == ["550", "503", "503", "250"]
        client.deliver()


def test_a_go_ahead_after_a_refused_sender_is_still_followed_by_a_message(send: StartRelay, peer: Peer) -> None:
    peer.do("MAIL", say("550 5.7.60 not you"))
    peer.do("END", say("554 5.5.1 no valid recipients"))
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.send(b"MAIL FROM:<x@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n")
        assert [client.hear()[:3] for _ in range(3)] == ["550", "250", "354"]
        client.send(b"RSET\r\nMAIL FROM:<smuggled@b.c>\r\n.\r\n")
        client.hear("554 5.5.1")
        client.ask("NOOP", "250")
    assert not [c for one in peer.conversations for c in one.commands if b"smuggled" in c]


def test_a_client_that_pipelines_where_the_mail_server_can_not_is_served_one_by_one(
    send: StartRelay, peer: Peer
) -> None:
    peer.extensions = ["SIZE 1000"]
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.send(b"MAIL FROM:<scan@contoso.com>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n")
        assert [client.hear()[:3] for _ in range(3)] == ["250", "250", "354"]
        client.send(MESSAGE)
        client.hear("250")


# What the whole path can do


def test_only_what_every_mail_server_can_do_is_offered(
    server_tls: ssl.SSLContext, users: ManyUserAdmissionClient, send: StartRelay
) -> None:
    with Peer(server_tls, extensions=["PIPELINING", "SMTPUTF8", "SIZE 5000"]) as other:
        users.add(other.port, user="others")
        relay = send()
        relay.look()
        assert offered(relay.port) == {"PIPELINING", "SMTPUTF8", "SIZE 268435456", "AUTH PLAIN LOGIN"}


def test_the_largest_size_is_offered_before_the_sign_in_and_the_users_own_after_it(
    server_tls: ssl.SSLContext, peer: Peer, users: ManyUserAdmissionClient, send: StartRelay
) -> None:
    peer.extensions = ["SIZE 157286400", "DSN"]
    with Peer(server_tls, extensions=["SIZE 10485760"]) as other:
        users.add(other.port, user="others", profile="fax/smtp-service", mailbox="fax@contoso.com")
        other.tokens = peer.tokens
        relay = send()
        relay.look()
        assert offered(relay.port) == {"SIZE 157286400", "AUTH PLAIN LOGIN"}
        with Sender(relay.port).greet() as client:
            client.sign_in(user="others")
            assert "SIZE 10485760" in client.ask("EHLO printer", "250")
            client.ask("MAIL FROM:<a@b.c> SIZE=12000000", "552 5.3.4")
        with Sender(relay.port).greet() as client:
            client.sign_in()
            assert {"250-SIZE 157286400", "250-DSN"} <= set(client.ask("EHLO printer", "250").split("\n"))
            client.ask("MAIL FROM:<a@b.c> SIZE=12000000", "250")


def test_a_server_that_has_not_replied_yet_may_take_as_much_as_the_relay(
    server_tls: ssl.SSLContext, peer: Peer, users: ManyUserAdmissionClient, send: StartRelay
) -> None:
    peer.extensions = ["SIZE 5000000"]
    with Peer(server_tls, extensions=["SIZE 157286400"]) as other:
        other.do("GREETING", say("421 4.3.2 later"))
        users.add(other.port, user="others")
        relay = send()
        wait_until(lambda: "SIZE 268435456" in offered(relay.port), "one server is known")
        wait_until(lambda: relay.look() and "SIZE 157286400" in offered(relay.port), "both servers are known")


def test_the_server_of_a_new_user_is_looked_at_when_the_user_is_added(
    server_tls: ssl.SSLContext, peer: Peer, users: ManyUserAdmissionClient, send: StartRelay
) -> None:
    peer.extensions = ["SIZE 5000000"]
    relay = send()
    wait_until(lambda: "SIZE 5000000" in offered(relay.port), "one server is known")
    with Peer(server_tls, extensions=["SIZE 157286400"]) as other:
        users.add(other.port, user="others")
        relay.call_soon(lambda: relay.relay.revoke(AdmissionChange({"others"}, set())))
        wait_until(lambda: "SIZE 157286400" in offered(relay.port), "the other server is known")
    assert len(peer.conversations) == 1


def test_nothing_is_offered_before_anything_is_known(send: StartRelay, peer: Peer) -> None:
    peer.stop_listening()
    assert offered(send().port) == {"AUTH PLAIN LOGIN"}


def test_the_relay_s_own_size_is_the_limit_where_servers_have_none(send: StartRelay, peer: Peer) -> None:
    peer.extensions = ["SIZE"]
    relay = send(message_size=4321)
    relay.look()
    assert offered(relay.port) == {"SIZE 4321", "AUTH PLAIN LOGIN"}


def test_a_server_that_does_not_say_its_size_leaves_the_relays_own(send: StartRelay, peer: Peer) -> None:
    peer.extensions = ["8BITMIME"]
    relay = send(message_size=4321)
    relay.look()
    assert offered(relay.port) == {"8BITMIME", "SIZE 4321", "AUTH PLAIN LOGIN"}


def test_a_server_is_known_from_a_session_with_it_as_well(send: StartRelay, peer: Peer) -> None:
    relay = send()
    wait_until(lambda: "PIPELINING" in offered(relay.port), "the relay offers PIPELINING")
    peer.extensions = ["SMTPUTF8"]
    with Sender(relay.port).greet() as client:
        client.sign_in()
    assert offered(relay.port) == {"SMTPUTF8", "SIZE 268435456", "AUTH PLAIN LOGIN"}


@pytest.mark.parametrize(
    ("parameter", "reply"),
    [
        ("BODY=8BITMIME", "554 5.6.3"),
        ("SMTPUTF8", "553 5.6.7"),
        ("SIZE=2000", "552 5.3.4"),
    ],
)
def test_a_message_that_the_actual_mail_server_can_not_take_is_refused_honestly(
    send: StartRelay, peer: Peer, pool: bool, parameter: str, reply: str
) -> None:
    peer.extensions = ["SIZE 1000"]
    with Sender(send(pool=pool).port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}> {parameter}", reply)
        client.deliver()


def test_hints_that_the_mail_server_does_not_know_are_left_out(send: StartRelay, peer: Peer) -> None:
    peer.extensions = []
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}> SIZE=100 BODY=7BIT AUTH=<>", "250")
    assert b"MAIL FROM:<scan@contoso.com>\r\n" in peer.heard


def test_addresses_in_utf8_go_through_where_the_path_can(send: StartRelay, peer: Peer) -> None:
    with Sender(send().port).greet() as client:
        client.sign_in()
        client.ask("MAIL FROM:<jürg@contoso.com> SMTPUTF8", "250")
        client.ask("RCPT TO:<grüße@contoso.com>", "250")
        client.ask("DATA", "354")
        client.send("Subject: Grüße\r\n.\r\n".encode())
        client.hear("250")
    assert "RCPT TO:<grüße@contoso.com>\r\n".encode() in peer.heard


# Big messages


def resident() -> int:
    """Memory of this process in use now, in octets."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("tls_mode", ["starttls", "none"])
def test_a_big_message_streams_through_without_staying_in_memory(
    ca: PracticeCA, server_tls: ssl.SSLContext, tls_mode: str
) -> None:
    piece = random.Random(1).randbytes(48 * 1024).hex().encode()
    piece = b"\r\n".join(piece[at : at + 76] for at in range(0, len(piece), 76)) + b"\r\n"
    count = 60 * MEGABYTE // len(piece)
    with Peer(server_tls, tls_mode=tls_mode, keeps_messages=False) as peer:
        users = ManyUserAdmissionClient()
        users.add(peer.port, tls=tls_mode, server="localhost")
        with SendingRelay(users, ca.ca_file) as relay, Sender(relay.port).greet() as client:
            client.sign_in()
            client.deliver()
            before = most = resident()
            client.begin()
            for number in range(count):
                client.send(piece)
                if number % 20 == 0:
                    most = max(most, resident())
            client.send(b".\r\n")
            client.hear("250 2.0.0 queued")
        assert peer.octets == count * len(piece) + len(b".\r\n") + len(MESSAGE)
        assert most - before < 12 * MEGABYTE


def test_a_mail_server_that_takes_a_message_slowly_makes_the_client_wait_and_not_the_relay_grow(
    ca: PracticeCA, server_tls: ssl.SSLContext
) -> None:
    go_on = threading.Event()
    with Peer(server_tls, keeps_messages=False) as peer:
        peer.do("MIDST", lambda _: go_on.wait(60))
        users = ManyUserAdmissionClient()
        users.add(peer.port, timeout_seconds=20)
        with SendingRelay(users, ca.ca_file) as relay, Sender(relay.port).greet() as client:
            client.sign_in()
            client.begin()
            before = resident()
            lines = (b"x" * 998 + b"\r\n") * 1000
            client.sock.settimeout(1)
            sent = 0
            with suppress(TimeoutError):
                while sent < 200 * MEGABYTE:
                    sent += client.sock.send(lines[sent % len(lines) :])
            assert sent < 30 * MEGABYTE, "the client was not made to wait"
            assert resident() - before < 12 * MEGABYTE
            go_on.set()
            client.sock.settimeout(20)
            client.send(lines[sent % len(lines) :] + b".\r\n")
            client.hear("250 2.0.0 queued")


def test_a_user_without_a_pool_sends_several_messages_in_one_session(send: StartRelay, peer: Peer) -> None:
    with Sender(send(pool=False).port).greet() as client:
        client.sign_in()
        for _ in range(3):
            client.deliver()
        client.ask("QUIT", "221")
    assert [len(one.messages) for one in peer.conversations if one.messages] == [3]


def test_every_extension_of_the_peer_is_known_to_this_test() -> None:
    assert {name.split()[0] for name in EXTENSIONS} == {
        "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "ENHANCEDSTATUSCODES",
    }  # fmt: skip
    assert USER

"""Faults 20 to 24 by SMTP, and mail servers that misbehave: what reached them, and what the client was told."""

import ssl
import time

import pytest
from line_client import MAILBOX, PASSWORD, USER
from sending_relay import MESSAGE, ManyUserAdmissionClient, Sender, SendingRelay, StartRelay, plain
from smtp_peer import GREETING, Act, Conversation, Peer, close, hang, reset, say
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from domain.secret import Secret

BIG = b"Subject: Scan\r\n\r\n" + (b"x" * 76 + b"\r\n") * 40_000
# More than the kernel takes for a mail server that does not read: 33 MB there and 4 MB here (tcp_rmem, tcp_wmem).
TOO_MUCH_TO_BUFFER = BIG * 14


@pytest.fixture(params=[True, False], ids=["pool", "no-pool"])
def pool(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def known(relay: SendingRelay, peer: Peer) -> SendingRelay:
    """The relay has asked the mail server what it can do, and says no more to it by itself."""
    wait_until(lambda: peer.verbs and peer.verbs[0][-1:] == ["QUIT"], "the mail server got QUIT")
    return relay


def said(peer: Peer) -> list[bytes]:
    """What the mail server was told after the sign-in, but for the relay's own housekeeping."""
    commands = []
    for conversation in peer.conversations:
        is_in = False
        for command in conversation.commands:
            if is_in and command not in (b"RSET", b"QUIT"):
                commands.append(command)
            is_in = is_in or command.startswith(b"AUTH")
    return commands


# 20: CR, LF, NUL and ^A


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<scan@contoso.com>\nRCPT TO:<x@b.c>\r\n",
        b"MAIL FROM:<scan@contoso.com>\rRCPT TO:<x@b.c>\r\n",
        b"MAIL FROM:<scan\0@contoso.com>\r\n",
        b"\n",
        b"\nMAIL FROM:<scan@contoso.com>\r\n",
        b"RCPT TO:<x@b.c\n>\r\n",
    ],
)
def test_a_bare_cr_or_lf_or_a_nul_in_a_command_ends_the_session_and_nothing_goes_on(
    send: StartRelay, peer: Peer, line: bytes
) -> None:
    relay = known(send(), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(line)
        client.hear("521 5.5.2")
        assert client.hear_out() == b""
    assert said(peer) == []


@pytest.mark.parametrize("control", [b"\x01", b"\x00", b"\r", b"\n", b"\v", b"\x7f", b"\x1b"])
@pytest.mark.parametrize("command", [b"MAIL FROM:<scan%b@contoso.com>", b"RCPT TO:<you%b@b.c>", b"VRFY %b", b"NOOP %b"])
def test_no_control_character_in_a_command_reaches_the_mail_server(
    send: StartRelay, peer: Peer, command: bytes, control: bytes
) -> None:
    relay = known(send(), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        before = []
        if not command.startswith(b"MAIL"):
            client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
            before = [b"MAIL FROM:<scan@contoso.com>"]
        client.send(command % control + b"\r\n")
        assert client.hear().startswith("521" if control in b"\0\r\n" else "500")
        assert said(peer) == before


def test_a_pipelined_bare_lf_keeps_the_whole_group_back(send: StartRelay, peer: Peer) -> None:
    relay = known(send(), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.send(b"MAIL FROM:<scan@contoso.com>\r\nRCPT TO:<a@b.c>\nDATA\r\n")
        client.hear("521 5.5.2")
    assert b"MAIL" not in peer.heard


# 21: the end of a message

SMUGGLED = b"MAIL FROM:<admin@contoso.com>\r\nRCPT TO:<you@b.c>\r\nDATA\r\nSubject: smuggled\r\n\r\n"


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n\0.\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_message_with_a_false_end_is_refused_and_none_of_it_is_sent(
    send: StartRelay, peer: Peer, end: bytes, at_once: bool
) -> None:
    relay = known(send(), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        pieces = [b"Subject: x\r\n\r\nhello", end, SMUGGLED + b"\r\n.\r\n"]
        for piece in [b"".join(pieces)] if at_once else pieces:
            client.send(piece)
        client.hear("521 5.5.2")
        assert client.hear_out() == b""
    wait_until(lambda: not relay.relay._listener.connections, "no client is connected")
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.deliver()
    assert peer.messages == [MESSAGE]
    assert b"smuggled" not in peer.heard
    assert peer.heard.count(b"\r\n.\r\n") == 1


def test_a_line_over_the_limit_in_a_message_is_refused_and_none_of_it_is_sent(send: StartRelay, peer: Peer) -> None:
    relay = known(send(), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(b"Subject: x\r\n\r\n" + b"x" * 9000 + b"\r\n.\r\n")
        assert "8192" in client.hear("521 5.5.2")
    assert peer.messages == []
    assert b"\r\n.\r\n" not in peer.heard


def test_a_client_that_goes_in_the_midst_of_a_message_has_sent_nothing(
    send: StartRelay, peer: Peer, pool: bool
) -> None:
    relay = known(send(pool=pool), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(b"Subject: x\r\n\r\nhello\r\n.")
    wait_until(lambda: not relay.relay._listener.connections, "no client is connected")
    assert peer.messages == []
    wait_until(lambda: peer.verbs[-1][-1:] == ["DATA"], "the mail server got DATA")
    assert b"\r\n.\r\n" not in peer.heard


# 22: STARTTLS


def test_a_command_behind_starttls_ends_the_session_before_tls(
    send: StartRelay, ca: PracticeCA, users: ManyUserAdmissionClient
) -> None:
    issued = ca.issue()
    relay = send(certificate_file=issued.cert_file, key_file=issued.key_file)
    with Sender(relay.port).greet() as client:
        client.send(b"STARTTLS\r\nAUTH PLAIN " + plain(USER, PASSWORD).encode() + b"\r\n")
        assert client.hear_out() == b""
    assert users.asked == []


def test_what_was_said_before_tls_is_forgotten_with_it(
    send: StartRelay, ca: PracticeCA, client_tls: ssl.SSLContext
) -> None:
    issued = ca.issue()
    relay = send(certificate_file=issued.cert_file, key_file=issued.key_file)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "250")
        client.ask("STARTTLS now", "501")
        client.ask("STARTTLS", "220")
        client.start_tls(client_tls)
        client.ask(f"MAIL FROM:<{MAILBOX}>", "530 5.7.0")
        client.ask("STARTTLS", "503")
        assert "STARTTLS" not in client.ask("EHLO printer", "250")
        client.sign_in()
        client.deliver()


def injected(conversation: Conversation) -> None:
    conversation.sock.sendall(b"220 2.0.0 go ahead\r\n250 injected\r\n")
    conversation.hear_out()


def test_clear_text_behind_the_mail_server_s_go_ahead_gets_no_credential(send: StartRelay, peer: Peer) -> None:
    relay = known(send(), peer)
    peer.do("STARTTLS", injected)
    with Sender(relay.port).greet() as client:
        assert "clear text came" in client.sign_in("454 4.4.1")
    assert peer.tokens_seen == []
    assert b"token-1" not in peer.heard
    assert b"AUTH" not in peer.heard


def test_a_stripped_starttls_gets_no_credential(send: StartRelay, peer: Peer) -> None:
    relay = known(send(), peer)
    peer.do("EHLO", say("250-mx.contoso.com", "250 AUTH XOAUTH2"))
    with Sender(relay.port).greet() as client:
        assert "STARTTLS" in client.sign_in("454 4.3.0")
    assert peer.tokens_seen == []
    assert b"AUTH" not in peer.heard


def test_a_mail_server_that_asks_for_no_token_is_not_trusted(send: StartRelay, peer: Peer) -> None:
    relay = known(send(), peer)
    peer.do("AUTH", say("235 2.7.0 come in"))
    users_token = "t" * 2000
    relay._admission_client.add(peer.port, access_token=Secret(users_token))
    with Sender(relay.port).greet() as client:
        client.sign_in("454 4.3.0")
    assert users_token.encode() not in peer.heard


@pytest.mark.parametrize("tls_mode", ["starttls", "implicit"])
def test_a_wrong_certificate_gets_no_credential(
    ca: PracticeCA, send: StartRelay, users: ManyUserAdmissionClient, tls_mode: str
) -> None:
    with Peer(ca.issue("somewhere-else.example").ssl_context(), tls_mode=tls_mode) as peer:
        users.add(peer.port, tls=tls_mode)
        with Sender(send().port).greet() as client:
            assert "another name" in client.sign_in("454 4.7.5")
        assert peer.tokens_seen == []
        assert b"AUTH" not in peer.heard


def test_no_token_leaves_without_tls_but_to_this_machine(
    server_tls: ssl.SSLContext, send: StartRelay, users: ManyUserAdmissionClient
) -> None:
    with Peer(server_tls, tls_mode="none") as peer:
        users.add(peer.port, tls="none", server="mx.contoso.com")
        with Sender(send().port).greet() as client:
            assert "set TLS" in client.sign_in("454 4.3.5")
        assert peer.heard == b""


# 24: limits


@pytest.mark.parametrize("octets", [13_000, 10_000_000])
def test_a_command_without_end_ends_the_session(send: StartRelay, octets: int) -> None:
    with Sender(send().port).greet() as client:
        try:
            client.send(b"NOOP " + b"x" * octets)
        except ConnectionError:
            return
        assert client.hear_out()[:9] in (b"521 5.5.2", b"")


def test_a_message_over_the_limit_is_read_to_its_end_and_refused(send: StartRelay, peer: Peer, pool: bool) -> None:
    relay = known(send(pool=pool, message_size=1_700_000), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}> SIZE=1700001", "552 5.3.4")
        client.begin()
        client.send(BIG + b".\r\n")
        client.hear("552 5.3.4")
        client.deliver()
    assert peer.messages == [MESSAGE]


def send_on(client: Sender) -> None:
    for _ in range(1000):
        client.send(BIG)


def test_a_message_that_goes_on_long_after_the_limit_ends_the_session(send: StartRelay, peer: Peer) -> None:
    relay = known(send(message_size=100_000), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        with pytest.raises(ConnectionError):
            send_on(client)
    assert peer.messages == []


def test_who_says_nothing_is_told_so_and_closed(send: StartRelay) -> None:
    with Sender(send(idle_timeout=1).port).greet() as client:
        client.hear("421 4.4.2")
        assert client.hear_out() == b""


def test_a_command_that_drips_has_no_more_time_than_a_silent_client(send: StartRelay) -> None:
    with Sender(send(idle_timeout=1).port).greet() as client:
        client.sock.settimeout(0.1)
        heard = b""
        while not heard:
            try:
                client.send(b"N")
                heard = client.sock.recv(1000)
            except TimeoutError:
                pass
        assert heard.startswith(b"421 4.4.2")


def test_a_message_that_drips_is_given_up_in_time_and_not_sent(
    send: StartRelay, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.message_relay.MESSAGE_SECONDS", 1)
    relay = known(send(), peer)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.sock.settimeout(0.1)
        heard = b""
        while not heard:
            try:
                client.send(b"x")
                heard = client.sock.recv(1000)
            except TimeoutError:
                pass
        assert heard.startswith(b"421 4.4.2")
    assert peer.messages == []
    assert b"\r\n.\r\n" not in peer.heard


# Mail servers that misbehave


def drip(conversation: Conversation) -> None:
    """A reply that never ends, octet by octet."""
    while True:
        conversation.sock.sendall(b"2")
        time.sleep(0.05)


def drip_lines(conversation: Conversation) -> None:
    """A reply that never ends, line by line."""
    while True:
        conversation.say("250-and")
        time.sleep(0.05)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each reply to MAIL and RCPT, in place of five minutes."""
    monkeypatch.setattr("adapters.relay.message_relay.MAIL_SECONDS", 1)


# A kept session that ends is replaced by a fresh one, once: only the end of the second one is the client's to hear.


@pytest.mark.parametrize("dripping", [drip, drip_lines])
def test_a_reply_that_drips_has_no_more_time_than_a_silent_server(
    send: StartRelay, peer: Peer, no_patience: None, dripping: Act
) -> None:
    relay = known(send(), peer)
    peer.do("MAIL", dripping, dripping)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "451 4.4.2")
        client.deliver()


@pytest.mark.parametrize(
    "misbehave", [close, reset, say("354 go ahead"), say("hello"), say("999 no"), say("250-a", "251 b")]
)
@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_mail_server_that_breaks_off_at_a_command_is_told_and_nothing_is_sent(
    send: StartRelay, peer: Peer, pool: bool, command: str, misbehave: Act
) -> None:
    if command == "DATA" and misbehave not in (close, reset):
        misbehave = say("250 fine")
    relay = known(send(pool=pool), peer)
    peer.do(command, misbehave, *([misbehave] if misbehave in (close, reset) else []))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        for line in (f"MAIL FROM:<{MAILBOX}>", "RCPT TO:<you@b.c>", "DATA"):
            reply = client.ask(line)
            if line.startswith(command):
                break
        assert reply.startswith("451 4.4.2")
        assert "was not sent" in reply
        client.ask("DATA", "451")
        client.deliver()
    assert len(peer.messages) == 1


def test_a_mail_server_that_hangs_at_a_command_is_waited_for_as_long_as_rfc_5321_says(
    send: StartRelay, peer: Peer, no_patience: None
) -> None:
    relay = known(send(), peer)
    peer.do("MAIL", hang, hang)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        assert "did not answer in time" in client.ask(f"MAIL FROM:<{MAILBOX}>", "451 4.4.2")
        client.deliver()


def test_a_reply_later_than_the_profiles_time_out_is_waited_for(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    users.add(peer.port, timeout_seconds=2)
    relay = known(send(), peer)

    def late(conversation: Conversation) -> None:
        time.sleep(2.5)
        conversation.say("250 2.1.5 at last")

    with Sender(relay.port).greet() as client:
        client.sign_in()
        peer.do("RCPT", late)
        client.deliver()


def test_a_mail_server_that_hangs_at_its_greeting_is_told_at_the_sign_in(
    send: StartRelay, peer: Peer, users: ManyUserAdmissionClient
) -> None:
    users.add(peer.port, timeout_seconds=1)
    relay = known(send(), peer)
    peer.do(GREETING, hang)
    with Sender(relay.port).greet() as client:
        client.sign_in("454 4.4.1")
        client.sign_in()


@pytest.mark.parametrize("breaks", [close, reset])
def test_a_connection_lost_in_the_midst_of_a_message_is_told_after_its_end(
    send: StartRelay, peer: Peer, pool: bool, breaks: Act
) -> None:
    relay = known(send(pool=pool), peer)
    peer.do("MIDST", breaks)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(TOO_MUCH_TO_BUFFER)
        client.send(b"..\r\n.\r\n")
        assert "was not sent" in client.hear("451 4.4.2")
        client.deliver()
    assert peer.messages == [MESSAGE]


@pytest.mark.parametrize(
    ("early", "reply"),
    [
        (say("552 5.3.4 too big"), "552 5.3.4 too big"),
        (say("421 4.3.0 going down"), "451 4.3.0 going down"),
        (say("250 2.0.0 queued"), "451 4.4.2"),
    ],
)
def test_a_reply_before_the_end_of_the_message_is_no_acceptance(
    send: StartRelay, peer: Peer, early: Act, reply: str
) -> None:
    relay = known(send(), peer)

    def midst(conversation: Conversation) -> None:
        early(conversation)
        hang(conversation)

    peer.do("MIDST", midst)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(TOO_MUCH_TO_BUFFER)
        client.send(b".\r\n")
        client.hear(reply)
    assert peer.messages == []


@pytest.mark.parametrize("tls_mode", ["starttls", "none"])
def test_a_refusal_in_the_midst_of_a_message_is_told_although_the_mail_server_closes_with_it(
    send: StartRelay, server_tls: ssl.SSLContext, users: ManyUserAdmissionClient, tls_mode: str
) -> None:
    def midst(conversation: Conversation) -> None:
        conversation.say("552 5.3.4 too big")
        close(conversation)  # with unread octets, so the connection is reset while the relay writes on

    with Peer(server_tls, tls_mode=tls_mode) as peer:
        users.add(peer.port, tls=tls_mode)
        with Sender(send().port).greet() as client:
            client.sign_in()
            for _ in range(20):
                peer.do("MIDST", midst)
                client.begin()
                client.send(BIG[:800_000] + b"\r\n.\r\n")
                client.hear("552 5.3.4 too big")


@pytest.mark.parametrize("breaks", [close, reset, say("nonsense"), say("354 more")])
def test_without_an_answer_to_the_whole_message_nobody_says_whether_it_was_sent(
    send: StartRelay, peer: Peer, pool: bool, breaks: Act
) -> None:
    relay = known(send(pool=pool), peer)
    peer.do("END", breaks)
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.begin()
        client.send(MESSAGE)
        assert "not known whether the message was sent" in client.hear("451 4.4.2")
        client.deliver()


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "END"])
def test_a_421_ends_the_mail_server_s_session_and_not_the_client_s(
    send: StartRelay, peer: Peer, pool: bool, command: str
) -> None:
    def busy(conversation: Conversation) -> None:
        conversation.say("421-4.3.2 busy", "421 4.3.2 later")
        close(conversation)

    relay = known(send(pool=pool, budgets={"localhost": {"pause": 1}}), peer)
    peer.do(command, busy, *([] if command == "END" else [busy]))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        replies = []
        for line in (f"MAIL FROM:<{MAILBOX}>", "RCPT TO:<you@b.c>", "DATA"):
            replies.append(client.ask(line))
            if not replies[-1].startswith(("250", "354")):
                break
        if command == "END":
            client.send(MESSAGE)
            replies.append(client.hear())
        assert replies[-1] == "451-4.3.2 busy\n451 4.3.2 later"
        client.deliver()
    assert peer.messages[-1:] == [MESSAGE]


def test_a_mail_server_that_closes_after_the_sign_in_is_told_at_the_first_command(
    send: StartRelay, peer: Peer, pool: bool
) -> None:
    relay = known(send(pool=pool), peer)

    def closes(conversation: Conversation) -> None:
        conversation.line()
        conversation.say("235 2.7.0 ok")
        close(conversation)

    def prompts(conversation: Conversation) -> None:
        conversation.say("334 ")
        closes(conversation)

    peer.do("AUTH", prompts, prompts, prompts)
    relay._admission_client.add(peer.port, access_token=Secret("t" * 2000))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        client.ask(f"MAIL FROM:<{MAILBOX}>", "451 4.4.2")
    assert peer.messages == []


def test_the_next_command_after_a_sign_in_may_be_refused_as_exchange_does(
    send: StartRelay, peer: Peer, pool: bool
) -> None:
    relay = known(send(pool=pool), peer)
    peer.do("MAIL", say("530 5.7.57 Client not authenticated to send mail."))
    with Sender(relay.port).greet() as client:
        client.sign_in()
        assert client.ask(f"MAIL FROM:<{MAILBOX}>") == "530 5.7.57 Client not authenticated to send mail."
        client.ask("DATA", "503")

"""How clients reach the relay: TLS and its certificate, limits, sockets of the service manager, and the end."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from line_client import MAILBOX
from sending_relay import MESSAGE, ManyUserAdmissionClient, Sender, StartRelay
from smtp_peer import Peer
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from adapters.relay.listener import Endpoint, endpoints
from domain.errors import Failed, InvalidValue
from infrastructure.config.tables import RelayTable


@pytest.fixture
def files(ca: PracticeCA, tmp_path: Path) -> dict[str, Path]:
    """The operator's certificate and key, where the relay looks for them."""
    issued = ca.issue()
    shutil.copy(issued.cert_file, tmp_path / "relay.crt")
    shutil.copy(issued.key_file, tmp_path / "relay.key")
    return {"certificate_file": tmp_path / "relay.crt", "key_file": tmp_path / "relay.key"}


def serial(client: Sender) -> str:
    assert isinstance(client.sock, ssl.SSLSocket)
    certificate = client.sock.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


# TLS


def test_starttls_and_implicit_tls_with_the_operators_certificate(
    send: StartRelay, peer: Peer, client_tls: ssl.SSLContext, files: dict[str, Path]
) -> None:
    relay = send("smtp://127.0.0.1:0", "smtps://127.0.0.1:0", **files)
    with Sender(relay.ports[0]).greet() as client:
        assert "STARTTLS" in client.ask("EHLO printer", "250")
        client.ask("STARTTLS", "220")
        client.start_tls(client_tls)
        client.ask("EHLO printer", "250")
        client.sign_in()
        client.deliver()
    with Sender(relay.ports[1], client_tls).greet() as client:
        client.sign_in()
        client.deliver()
    assert len(peer.messages) == 2


def test_a_renewed_certificate_is_used_for_new_connections_and_open_ones_stay(
    send: StartRelay, ca: PracticeCA, client_tls: ssl.SSLContext, files: dict[str, Path]
) -> None:
    relay = send("smtps://127.0.0.1:0", **files)
    with Sender(relay.port, client_tls).greet() as before:
        renewed = ca.issue()
        os.replace(shutil.copy(renewed.cert_file, str(files["certificate_file"]) + ".new"), files["certificate_file"])
        with Sender(relay.port, client_tls).greet() as half:
            assert serial(half) == serial(before), "a pair that is half renewed is not used"
        os.replace(shutil.copy(renewed.key_file, str(files["key_file"]) + ".new"), files["key_file"])
        with Sender(relay.port, client_tls).greet() as after:
            assert serial(after) != serial(before)
            after.sign_in()
        before.sign_in()
        before.deliver()


def test_tls_on_the_listener_needs_a_certificate(send: StartRelay) -> None:
    with pytest.raises(InvalidValue, match="listen_needs_certificate"):
        send("smtps://127.0.0.1:0")


def old_hello() -> bytes:
    """A ClientHello of TLS 1.0 (RFC 2246 section 7.4.1.2)."""
    body = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x04\x00\x2f\x00\x35" + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_client_that_knows_only_tls_1_0_is_refused_and_named_in_the_log(
    send: StartRelay, files: dict[str, Path], logged: list[dict[str, Any]], scheme: str
) -> None:
    relay = send(f"{scheme}://127.0.0.1:0", **files)
    with Sender(relay.port, address="127.0.0.9") as client:
        if scheme == "smtp":
            client.greet().ask("STARTTLS", "220")
        client.send(old_hello())
        client.hear_out()
    wait_until(lambda: not relay.relay._listener.connections, "no client is connected")
    (line,) = [line for line in logged if line.get("address") == "127.0.0.9"]
    assert (line["event"], line["protocol"]) == ("client_refused", "smtp")
    assert "TLS 1.2" in line["why"]


def test_a_client_that_speaks_in_clear_where_tls_is_expected_gets_nothing(
    send: StartRelay, files: dict[str, Path], users: ManyUserAdmissionClient
) -> None:
    relay = send("smtps://127.0.0.1:0", **files)
    with Sender(relay.port) as client:
        client.send(b"EHLO printer\r\nAUTH PLAIN AAAA\r\n")
        client.hear_out()
    assert users.asked == []


# Passwords in clear text


def test_a_password_in_clear_text_is_not_taken_from_elsewhere(
    send: StartRelay, users: ManyUserAdmissionClient, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.listener.is_loopback", lambda address: address == "127.0.0.1")
    relay = send(plain_networks=["127.0.0.8/32"], **files)
    with Sender(relay.port, address="127.0.0.7") as client:
        client.hear("220")
        assert "AUTH" not in client.ask("EHLO printer", "250")
        client.sign_in("538 5.7.11")
        client.ask("AUTH LOGIN", "538 5.7.11")
        client.ask(f"MAIL FROM:<{MAILBOX}>", "530 5.7.0")
    assert [user for _, user in users.asked] == [None], "only the network was asked about"
    for address in ("127.0.0.8", "127.0.0.1"):
        with Sender(relay.port, address=address).greet() as client:
            client.sign_in()


def test_after_starttls_a_password_is_taken_from_anywhere(
    send: StartRelay, client_tls: ssl.SSLContext, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.relay.listener.is_loopback", lambda _: False)
    relay = send(**files)
    with Sender(relay.port).greet() as client:
        client.sign_in("538")
        client.ask("STARTTLS", "220")
        client.start_tls(client_tls)
        assert "AUTH PLAIN LOGIN" in client.ask("EHLO printer", "250")
        client.sign_in()


# How many


def test_an_address_has_so_many_connections_and_others_have_theirs(send: StartRelay) -> None:
    relay = send(connections_per_address=2)
    with Sender(relay.port, address="127.0.0.2").greet() as one, Sender(relay.port, address="127.0.0.2").greet():
        with Sender(relay.port, address="127.0.0.2") as third:
            third.hear("421 4.7.0")
            assert third.hear_out() == b""
        with Sender(relay.port, address="127.0.0.3").greet() as other:
            other.sign_in()
        one.ask("QUIT", "221")
        one.hear_out()
        wait_until(lambda: relay.relay._listener.connections == 1, "the client is connected")
        Sender(relay.port, address="127.0.0.2").greet().sock.close()


def test_there_are_so_many_connections_in_all(send: StartRelay) -> None:
    relay = send(connections=3)
    with ExitStack() as opened:
        for last in range(2, 5):
            opened.enter_context(Sender(relay.port, address=f"127.0.0.{last}").greet())
        with Sender(relay.port, address="127.0.0.5") as client:
            client.hear("421 4.7.0")


@pytest.mark.needs("3000 open files")
def test_two_thousand_idle_connections_of_an_address_keep_nobody_else_out_at_any_port(
    send: StartRelay, files: dict[str, Path], client_tls: ssl.SSLContext
) -> None:
    schemes = ("smtp", "smtps", "pop3", "pop3s", "imap", "imaps")
    relay = send(*(f"{scheme}://127.0.0.1:0" for scheme in schemes), **files)
    with ExitStack() as opened:
        idle = [opened.enter_context(Sender(relay.ports[number % 6], address="127.0.0.2")) for number in range(2000)]
        wait_until(lambda: relay.relay._listener.connections == 250, "the address has its share and no more")
        for scheme, port in zip(schemes, relay.ports, strict=True):
            with Sender(port, address="127.0.0.3") as other:
                if scheme.endswith("s"):
                    other.start_tls(client_tls)
                assert other.hear()[:4] in ("220 ", "+OK ", "* OK")
        assert len(idle) == 2000


@pytest.mark.needs("IPv6")
def test_the_addresses_of_an_ipv6_network_have_their_connections_together(send: StartRelay) -> None:
    relay = send("smtp://[::1]:0", connections_per_address=1)
    listener = relay.relay._listener
    with socket.create_connection(("::1", relay.port), 60) as client:
        assert client.recv(64).startswith(b"220 ")
        assert listener._is_full("::2")
        assert not listener._is_full("2001:db8::1")


@pytest.mark.needs("3000 open files")
def test_a_thousand_idle_connections_leave_the_others_alone(send: StartRelay, peer: Peer) -> None:
    relay = send(connections_per_address=2000)
    with ExitStack() as opened:
        idle = [opened.enter_context(Sender(relay.port)) for _ in range(1000)]
        for client in idle:
            client.hear("220")
        with Sender(relay.port).greet() as client:
            client.sign_in()
            client.deliver()
            assert relay.relay._listener.connections == 1001
        idle[-1].ask("NOOP", "250")
    assert len(peer.messages) == 1


# Where to listen


def test_without_a_word_it_listens_on_loopback_alone() -> None:
    assert [(one.protocol, one.host, one.port) for one in endpoints(RelayTable(), {}, 1)] == [
        ("smtp", "127.0.0.1", 2587),
        ("pop", "127.0.0.1", 2110),
        ("imap", "127.0.0.1", 2143),
    ]


def test_sockets_of_the_service_manager_are_named_by_their_scheme() -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtps:imap"}
    passed = endpoints(RelayTable(), environment, 7)
    assert [(one.protocol, one.is_implicit_tls, one.descriptor) for one in passed] == [
        ("smtp", True, 3),
        ("imap", False, 4),
    ]
    assert len(endpoints(RelayTable(listen=("smtp://127.0.0.1:2525",)), environment, 7)) == 3
    assert len(endpoints(RelayTable(), environment, 8)) == 3, "meant for another process"


@pytest.mark.parametrize("names", ["mailtoken-relay.socket", "", "smtp:unknown"])
def test_a_socket_of_the_service_manager_without_a_scheme_as_its_name_is_refused(names: str) -> None:
    environment = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": names}
    with pytest.raises(InvalidValue, match="FileDescriptorName"):
        endpoints(RelayTable(), environment, 7)


def test_a_socket_of_the_service_manager_is_served_and_shows_ipv4_addresses_as_such() -> None:
    """A child process, because descriptors are numbered from 3 there."""
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    program = textwrap.dedent(
        """
        import asyncio, os, uvloop
        from adapters.relay.listener import ConnectionLimits, Listener, endpoints
        from domain.catalogue import Protocol
        from infrastructure.config.tables import RelayTable

        class Once:
            async def serve(self, client):
                client.connection.write(b"220 " + client.address.encode() + b"\\r\\n")
                client.connection.flush()
                ended.set()

        async def main():
            global ended
            ended = asyncio.Event()
            os.environ["LISTEN_PID"] = str(os.getpid())
            listener = Listener({Protocol.SMTP: Once()}, ConnectionLimits(10, 10), None)
            await listener.listen(endpoints(RelayTable(), os.environ, os.getpid()))
            await ended.wait()
            await listener.close(1)

        uvloop.run(main())
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.dup2({listener.fileno()}, 3)\n{program}"],
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"},
        pass_fds=[listener.fileno()],
    ) as child:
        with Sender(listener.getsockname()[1]) as client:
            assert client.hear("220") == "220 127.0.0.1"
        assert child.wait(60) == 0
    listener.close()


def test_an_address_that_is_in_use_is_named(send: StartRelay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"smtp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Failed, match=url):
            send(url)


def test_an_endpoint_knows_ipv6_addresses() -> None:
    assert Endpoint.of_url("imaps://[::1]:993").host == "::1"


# The end


def test_who_is_idle_is_told_when_the_relay_stops_and_a_message_under_way_is_finished(
    send: StartRelay, peer: Peer
) -> None:
    relay = send()
    with Sender(relay.port).greet() as idle, Sender(relay.port).greet() as busy:
        busy.sign_in()
        busy.begin()
        relay.begin_closing(30)
        idle.hear("421 4.3.2")
        assert idle.hear_out() == b""
        with pytest.raises(ConnectionRefusedError):
            Sender(relay.port)
        busy.send(MESSAGE)
        busy.hear("250 2.0.0 queued")
        busy.hear("421 4.3.2")
    assert peer.messages == [MESSAGE]


def test_a_message_that_is_not_finished_in_time_is_not_sent(send: StartRelay, peer: Peer) -> None:
    relay = send()
    with Sender(relay.port).greet() as slow:
        slow.sign_in()
        slow.begin()
        slow.send(b"Subject: x\r\n")
        relay.begin_closing(0.1)
        slow.hear_out()
    assert peer.messages == []
    assert b"\r\n.\r\n" not in peer.heard

"""What holds for POP3 and IMAP alike at the relay's sign-in, each said in its own words."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
import test_relay_imap as imap
import test_relay_pop as pop
from line_client import MAILBOX, USER, LineClient, admission
from receiving_relay import PLAIN, Receive, ReceivingRelay
from scripted_mail_server import Peer, Script, imap_to_auth, pop_to_auth

from adapters.mail.sasl_client import Mechanism, client_responses
from adapters.practice.ca import PracticeCA
from adapters.relay.admission import AdmissionChange
from domain.catalogue import Protocol
from domain.errors import Refused, Unreachable
from domain.secret import Secret


@dataclass(frozen=True)
class Tongue:
    """How a protocol says it. `wrong`, `later` and `needs_somebody` are how the answers to `sign_in` begin."""

    protocol: Protocol
    scheme: str
    begin_tls: bytes
    sign_in: str
    right: str
    wrong: str
    later: str
    needs_somebody: str
    leave: tuple[str, str]
    goodbye: bytes
    before_tls: bytes
    to_auth: Script
    mailbox: Script
    signed_in: Script
    rejecting: Script
    fetch: Callable[[LineClient], None]


TONGUES = [
    Tongue(
        protocol=Protocol.POP,
        scheme="pop3",
        begin_tls=b"STLS\r\n",
        sign_in=f"AUTH PLAIN {PLAIN}",
        right="+OK",
        wrong="-ERR [AUTH] ",
        later="-ERR [SYS/TEMP] ",
        needs_somebody="-ERR [SYS/PERM] ",
        leave=("QUIT", "+OK Goodbye"),
        goodbye=b"",
        before_tls=b"CAPA\r\nSTLS\r\n",
        to_auth=pop_to_auth,
        mailbox=pop.mailbox,
        signed_in=pop.signed_in,
        rejecting=pop.rejecting,
        fetch=pop.fetch,
    ),
    Tongue(
        protocol=Protocol.IMAP,
        scheme="imap",
        begin_tls=b"s STARTTLS\r\n",
        sign_in=f"a1 AUTHENTICATE PLAIN {PLAIN}",
        right="a1 OK",
        wrong="a1 NO [AUTHENTICATIONFAILED] ",
        later="a1 NO [UNAVAILABLE] ",
        needs_somebody="a1 NO [CONTACTADMIN] ",
        leave=("q LOGOUT", "* BYE Goodbye"),
        goodbye=b"* BYE the relay ends this session, connect again\r\n",
        before_tls=b"m1 CAPABILITY\r\nm2 STARTTLS\r\n",
        to_auth=imap_to_auth,
        mailbox=imap.mailbox,
        signed_in=imap.signed_in,
        rejecting=imap.rejecting,
        fetch=imap.fetch,
    ),
]

each_tongue = pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.scheme)


@each_tongue
@pytest.mark.parametrize("behind", [b"a1 LOGIN x y\r\n", b"USER x\r\n", b"\x16\x03\x01", b"."])
def test_what_comes_behind_starttls_in_clear_ends_it(receive: Receive, tongue: Tongue, behind: bytes) -> None:
    relay, admission_client, server = receive(tongue.protocol, tongue.mailbox)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        client.send(tongue.begin_tls + behind)
        client.hear_out()
    assert (admission_client.asked, server.peers) == ([], [])


@each_tongue
def test_a_token_that_the_mail_server_rejects_is_renewed_once(receive: Receive, tongue: Tongue) -> None:
    relay, admission_client, server = receive(tongue.protocol, tongue.rejecting, tongue.mailbox)
    admission_client.newer = admission(tongue.protocol, server.port, access_token=Secret("newer"), generation=2)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        client.ask(tongue.sign_in, tongue.right)
        tongue.fetch(client)
    assert admission_client.renewals == [1]
    newer = client_responses(MAILBOX, "localhost", server.port, Secret("newer"))[Mechanism.XOAUTH2]
    assert b64encode(newer) in server.heard


@each_tongue
def test_a_token_that_is_rejected_twice_is_an_authentication_failure(receive: Receive, tongue: Tongue) -> None:
    relay, admission_client, server = receive(tongue.protocol, tongue.rejecting, tongue.rejecting)
    admission_client.newer = admission(tongue.protocol, server.port, access_token=Secret("newer"), generation=2)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        client.ask(tongue.sign_in, tongue.wrong)
        client.ask(*tongue.leave)
    assert admission_client.renewals == [1]
    assert len(server.peers) == 2


@each_tongue
def test_a_renewal_that_fails_is_said(receive: Receive, tongue: Tongue) -> None:
    for newer, answer in (
        (
            Refused("code_of_a_newer_service"),
            f"{tongue.needs_somebody}code_of_a_newer_service: ask the administrator of the relay",
        ),
        (Unreachable("another_code"), f"{tongue.later}another_code: try again later"),
    ):
        relay, admission_client, _ = receive(tongue.protocol, tongue.rejecting)
        admission_client.newer = newer
        with LineClient(relay.ports[tongue.scheme]) as client:
            client.hear()
            assert client.ask(tongue.sign_in) == answer


@each_tongue
def test_a_certificate_for_another_name_is_refused(receive: Receive, tongue: Tongue, ca: PracticeCA) -> None:
    other = ca.issue("somewhere-else.example").ssl_context()

    def script(peer: Peer) -> None:
        peer._tls = other
        with pytest.raises(ssl.SSLError):
            tongue.to_auth(peer)

    relay, _, server = receive(tongue.protocol, script)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        said = client.ask(tongue.sign_in, f"{tongue.needs_somebody}The certificate of localhost:")
        assert "set Server to a name that the certificate has" in said
    assert server.heard_in_clear == tongue.before_tls


@each_tongue
@pytest.mark.parametrize("what", ["user", "profile"])
def test_whose_admission_is_over_is_sent_away(receive: Receive, tongue: Tongue, what: str) -> None:
    def script(peer: Peer) -> None:
        tongue.signed_in(peer)
        peer.hear_out()

    relay, admission_client, _ = receive(tongue.protocol, script)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        client.ask(tongue.sign_in, tongue.right)
        relay.revoke(
            AdmissionChange([USER], []) if what == "user" else AdmissionChange([], [admission_client.admission.profile])
        )
        assert client.hear_out() == tongue.goodbye


@each_tongue
def test_what_concerns_others_sends_nobody_away(receive: Receive, tongue: Tongue) -> None:
    relay, _, _ = receive(tongue.protocol, tongue.mailbox)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        client.ask(tongue.sign_in, tongue.right)
        relay.revoke(AdmissionChange(["another"], ["another/imap"]))
        tongue.fetch(client)


@each_tongue
def test_an_admission_that_is_over_before_the_mail_server_has_answered_lets_nobody_in(
    receive: Receive, tongue: Tongue
) -> None:
    relays: list[ReceivingRelay] = []

    def script(peer: Peer) -> None:
        relays[0].revoke(AdmissionChange([USER], []))
        tongue.signed_in(peer)
        with suppress(OSError):
            peer.say("what is in the mailbox")
            peer.hear_out()

    relay, _, _ = receive(tongue.protocol, script)
    relays.append(relay)
    with LineClient(relay.ports[tongue.scheme]) as client:
        client.hear()
        client.send(tongue.sign_in.encode() + b"\r\n")
        assert b"mailbox" not in client.hear_out()

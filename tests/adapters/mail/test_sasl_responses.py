from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.mail.sasl_client import (
    ClientExchange,
    ErrorChallenge,
    Mechanism,
    choose,
    client_responses,
    closing_response,
    read_error,
)
from domain.errors import InvalidValue
from domain.secret import Secret

XOAUTH2, OAUTHBEARER = Mechanism.XOAUTH2, Mechanism.OAUTHBEARER
HOST, PORT = "server.example.com", 143


def response_of(octets: int) -> bytes:
    return b"x" * octets


def test_xoauth2_is_what_googles_page_gives_as_an_example() -> None:
    token = Secret("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
    assert b64encode(client_responses("someuser@example.com", HOST, PORT, token)[XOAUTH2]) == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0"
        b"Q2cBAQ=="
    )


def test_oauthbearer_is_what_rfc_7628_section_4_1_gives_as_an_example() -> None:
    token = Secret("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
    assert b64encode(client_responses("user@example.com", HOST, PORT, token)[OAUTHBEARER]) == (
        b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52"
        b"YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    )


def test_comma_and_equals_sign_are_written_as_rfc_5801_wants_them() -> None:
    response = client_responses("a=b,c@contoso.com", HOST, PORT, Secret("t"))[OAUTHBEARER]
    assert response.startswith(b"n,a=a=3Db=2Cc@contoso.com,\x01")


def test_a_user_may_have_letters_beyond_ascii() -> None:
    assert client_responses("jürg@contoso.com", HOST, PORT, Secret("t"))[XOAUTH2] == (
        "user=jürg@contoso.com\x01auth=Bearer t\x01\x01".encode()
    )


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\x01", "\udcff"])
@pytest.mark.parametrize("where", ["mailbox", "server"])
def test_a_user_or_host_that_could_end_its_field_makes_no_response(
    mechanism: Mechanism, octet: str, where: str
) -> None:
    values = {"mailbox": "scan@contoso.com", "server": "smtp.contoso.com"}
    values[where] += octet + "auth=Bearer stolen"
    with pytest.raises(InvalidValue, match=where):
        client_responses(values["mailbox"], values["server"], 587, Secret("t"))[mechanism]


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("token", ["", "two\r\nlines", "t\x01auth=Bearer other", "tøken", "t\0"])
def test_what_can_not_be_a_token_makes_no_response_and_is_not_shown(mechanism: Mechanism, token: str) -> None:
    with pytest.raises(InvalidValue, match="access token") as refusal:
        client_responses("scan@contoso.com", HOST, PORT, Secret(token))[mechanism]
    assert not token or token not in str(refusal.value)


@settings(database=None)
@given(user=st.text(min_size=1), mechanism=st.sampled_from(Mechanism))
def test_a_response_has_as_many_separators_as_its_mechanism_says_whatever_the_user(
    user: str, mechanism: Mechanism
) -> None:
    try:
        response = client_responses(user, HOST, PORT, Secret("t"))[mechanism]
    except InvalidValue:
        return
    assert response.count(b"\x01") == (3 if mechanism is XOAUTH2 else 5)
    assert not any(octet in response for octet in b"\r\n\0")


@pytest.mark.parametrize(
    ("offered", "preferred", "chosen"),
    [
        (["PLAIN", "XOAUTH2", "OAUTHBEARER"], XOAUTH2, XOAUTH2),
        (["OAUTHBEARER", "XOAUTH2"], OAUTHBEARER, OAUTHBEARER),
        (["xoauth2"], OAUTHBEARER, XOAUTH2),
        (["OAUTHBEARER"], XOAUTH2, OAUTHBEARER),
        (["PLAIN", "LOGIN"], XOAUTH2, None),
        ([], XOAUTH2, None),
    ],
)
def test_the_preferred_mechanism_is_chosen_if_it_is_offered_else_the_other(
    offered: list[str], preferred: Mechanism, chosen: Mechanism | None
) -> None:
    assert choose(offered, preferred) is chosen


def test_the_initial_response_is_in_the_command_as_long_as_the_line_stays_in_the_limit() -> None:
    # "AUTH XOAUTH2 " has 13 octets and CRLF two, so 496 octets of base64 (372 of response) make 511.
    fits = ClientExchange(XOAUTH2, response_of(372)).command("AUTH", 512)
    assert len(fits) + 2 == 511
    exchange = ClientExchange(XOAUTH2, response_of(373))
    assert exchange.command("AUTH", 512) == b"AUTH XOAUTH2"
    assert not exchange.responded


def test_the_limit_is_for_the_line_with_its_end() -> None:
    line = ClientExchange(OAUTHBEARER, response_of(3)).command("AUTH", 23)
    assert line == b"AUTH OAUTHBEARER eHh4"
    assert ClientExchange(OAUTHBEARER, response_of(3)).command("AUTH", 22) == b"AUTH OAUTHBEARER"


def test_a_protocol_without_initial_responses_gets_none() -> None:
    exchange = ClientExchange(XOAUTH2, b"short")
    assert exchange.command("m3 AUTHENTICATE", 512, initial_response=False) == b"m3 AUTHENTICATE XOAUTH2"
    assert b64decode(exchange.answer(b"")) == b"short"


@pytest.mark.parametrize(("mechanism", "closing"), [(XOAUTH2, b""), (OAUTHBEARER, b"AQ==")])
def test_an_error_challenge_is_read_and_gets_the_closing_response_then_the_exchange_is_cancelled(
    mechanism: Mechanism, closing: bytes
) -> None:
    exchange = ClientExchange(mechanism, b"short")
    exchange.command("AUTH", 512)
    challenge = b64encode(b'{"status":"invalid_token","scope":"mail"}')
    assert exchange.answer(challenge) == closing == b64encode(closing_response(mechanism))
    assert exchange.error == ErrorChallenge("invalid_token", "mail")
    assert exchange.answer(challenge) == b"*"


def test_gmails_challenge_is_read() -> None:
    challenge = b"eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIG1hYyIsInNjb3BlIjoiaHR0cHM6Ly9tYWlsLmdvb2dsZS5jb20vIn0K"
    assert read_error(challenge) == ErrorChallenge("401", "https://mail.google.com/")


@pytest.mark.parametrize(
    "challenge", [b"", b"not base64!", b64encode(b"\xff"), b64encode(b"[1]"), b64encode(b"[" * 9999)]
)
def test_a_challenge_that_can_not_be_read_is_an_error_without_a_status(challenge: bytes) -> None:
    assert read_error(challenge) == ErrorChallenge("")

"""The sentences about administrators, API clients and relay users, as each surface says them."""

from __future__ import annotations

import pytest

from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, MailtokenError, NotFound, NotPermitted, Refused, TooManyRequests

USER = {"user": "printers"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            NotFound("relay_user_not_found", name="ghost"),
            "no relay user is called 'ghost': see mailtoken relay user list",
        ),
        (
            NotPermitted("set_up_link_over"),
            "this link is not good any more: mailtoken administrator link gives a new one",
        ),
        (
            InvalidValue("roles", "unknown_role", values=["root"], accepted=["operator", "auditor"]),
            "roles: root: a person is one or more of operator, auditor",
        ),
        (
            Refused("relay_user_without_profile", user="printers", protocol="smtp"),
            "relay user printers has no smtp profile: mailtoken relay user map printers PROFILE...",
        ),
        (
            Refused("renewed_token_rejected", profile="press/smtp"),
            "press/smtp: the mail server rejects a token that was renewed for it just now: mailtoken test press/smtp"
            " says why",
        ),
        (
            Refused("server_not_set", profile="press/smtp"),
            "press/smtp: server not filled in: mailtoken profile set press/smtp server=...",
        ),
        (
            Refused("network_without_smtp", **USER),
            "relay user printers: a network lets in by SMTP alone, for POP3 and IMAP clients always sign in: give them"
            " a password and no networks, or an SMTP setting too",
        ),
        (
            InvalidValue("network", "network_too_wide", value="::/0", widest=32),
            "network: ::/0 is too wide: name the clients' own networks, /32 or narrower",
        ),
        (
            InvalidValue("network", "network_has_host_bits", value="10.1.2.3/24", meant="10.1.2.0/24"),
            "network: 10.1.2.3/24 has host bits set: is 10.1.2.0/24 meant?",
        ),
        (
            NotPermitted("unix_user_without_role", name="uid 7", role="operator or administrator"),
            "uid 7 is not operator or administrator: the configuration's [[socket.grants]] says who is",
        ),
    ],
)
def test_the_command_line_names_the_next_command(error: MailtokenError, sentence: str) -> None:
    assert error_text(error, Surface.COMMAND) == sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TooManyRequests("too_many_wrong_passwords", 8), "too many wrong passwords: wait 8 seconds and try again"),
        (NotPermitted("set_up_link_over"), "this link is not good any more: ask an administrator for a new one"),
        (NotFound("administrator_not_found", name="ghost"), "no administrator is called 'ghost'"),
        (
            Refused("renewed_token_rejected", profile="press/smtp"),
            "press/smtp: the mail server rejects a token that was renewed for it just now: test the connection, which"
            " says why",
        ),
        (InvalidValue("password", "passwords_differ"), "password: the two are not the same: type it twice"),
    ],
)
def test_a_page_names_no_command(error: MailtokenError, sentence: str) -> None:
    assert error_text(error, Surface.PAGE) == sentence

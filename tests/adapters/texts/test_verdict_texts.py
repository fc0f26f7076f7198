"""Each verdict on a conversation with a mail server has a sentence that says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters import mail
from adapters.mail import refusals
from adapters.texts.verdicts import FAULTS, VERDICTS, detail_text, verdict_facts, verdict_sentence, verdict_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue, Unreachable
from domain.mail_report import Fault, Verdict
from infrastructure import mail as mail_service

EXTENSIONS = {"extension_8bitmime_missing", "extension_smtputf8_missing"}
FURTHER = re.compile(r'\bVerdict\(\s*"([a-z_0-9]+)"|"(certificate_[a-z_]+)"|code(?:, facts)? = "([a-z_]+)"')


def codes() -> set[str]:
    """Each code that the mail adapters and the mail service give."""
    room = Path(mail.__file__).parent
    modules = [*room.glob("*.py"), Path(mail_service.__file__)]
    found = (match for module in modules for match in FURTHER.findall(module.read_text()))
    return {next(filter(None, match)) for match in found} | EXTENSIONS


def test_the_codes_that_are_given_are_those_that_have_a_sentence() -> None:
    assert codes() == set(VERDICTS)


def test_each_fault_is_named() -> None:
    assert set(FAULTS) == set(Fault) - {Fault.NONE}


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            Verdict("token_accepted", Fault.NONE, {"mailbox": "scan@contoso.com"}),
            "The server accepted the token for scan@contoso.com.",
        ),
        (
            Verdict("message_accepted_in_part", Fault.MAILBOX, {"accepted": ["a@b.c", "d@e.f"], "refused": ["g@h.i"]}),
            "The message was sent to a@b.c, d@e.f but not to g@h.i, which the server refused: check these and send it"
            " to them alone.",
        ),
        (
            Verdict("login_incomplete", Fault.CONFIGURATION, cause=InvalidValue("server", "mail_field_empty")),
            "Nothing was sent: server: it is not filled in.",
        ),
        (
            Verdict("recipient_refused", Fault.MAILBOX, {"nothing_sent": True}),
            "The server refused the recipient: check the address. Nothing was sent.",
        ),
        (
            Verdict("renewal_unreachable", Fault.TOKEN, cause=Unreachable("storage_failing", reason="full")),
            "The server refused the token. Renewing it did not work either: storage failing: full.",
        ),
        (
            Verdict("no_answer_in_time", Fault.NETWORK, {"server": "mx.contoso.com:587", "step": "auth"}),
            "mx.contoso.com:587 did not answer in time at 'auth': check Server, Port and the firewall.",
        ),
    ],
)
def test_a_verdict_says_its_facts_and_what_to_do(verdict: Verdict, sentence: str) -> None:
    assert {verdict_text(verdict, surface) for surface in Surface} == {sentence}
    assert verdict_sentence(verdict.code, verdict_facts(verdict, Surface.API), Surface.COMMAND) == sentence


@pytest.mark.parametrize("step", ["greeting", "capabilities", "auth", "mail", "rcpt", "data"])
def test_every_refusal_of_a_mail_server_can_be_said_at_every_step(step: str) -> None:
    replies = [(row.code or 550, row.enhanced, row.mark) for row in refusals._SMTP]
    for code, enhanced, text in [*replies, (552, "", ""), (554, "", ""), (535, "", ""), (450, "", "")]:
        verdict = refusals.smtp_refusal(step, code, enhanced, text)
        assert all(verdict_text(verdict, surface) for surface in Surface), verdict


def test_a_code_of_a_newer_service_is_shown_as_it_is() -> None:
    assert verdict_sentence("eaten_by_a_whale", {}, Surface.COMMAND) == "eaten_by_a_whale"


def test_a_step_shows_what_the_server_said_or_a_verdict_of_ours() -> None:
    assert detail_text("250 ok", Surface.PAGE) == "250 ok"
    renewed = Verdict("token_renewed", Fault.NONE, {"expires_at": "2031-01-01 00:00 UTC"})
    assert detail_text(renewed, Surface.PAGE) == "A new access token, valid until 2031-01-01 00:00 UTC."

"""Mail through a setting: what is refused before a mail server is asked, and what is counted after its reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fakes import Services

from domain.errors import InvalidValue
from domain.mail_report import Fault, MailReport, Verdict
from domain.profile import ProfileState
from domain.secret import Secret
from infrastructure.mail import MailService
from infrastructure.mail_counters import MailCounters


@pytest.mark.parametrize(
    "recipient", ["you", "a\x1e@contoso.com", "a@contoso.com\nBcc: b@contoso.com", "a,b@contoso.com", ""]
)
def test_a_test_message_goes_to_one_address_and_to_nothing_else(service: Services, recipient: str) -> None:
    name = service.add_machine()[0]
    nobody: Any = None
    with pytest.raises(InvalidValue) as refused:
        MailService(service.tokens, nobody, service.clock).test(name, recipient, "operator")
    assert (refused.value.field, refused.value.code) == ("to", "not_an_email_address")


class ScriptedServer:
    """A mail server that ends each conversation in the same way, and keeps the messages."""

    def __init__(self, report: MailReport) -> None:
        self._report = report
        self.messages: list[bytes] = []

    def test(self, profile: ProfileState, access_token: Secret) -> MailReport:
        return self._report

    def submit(
        self, profile: ProfileState, access_token: Secret, *, sender: str, recipients: Sequence[str], message: bytes
    ) -> MailReport:
        self.messages.append(message)
        return self._report


ACCEPTED = MailReport((), Verdict("message_accepted", Fault.NONE))


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_message_to_nobody_is_refused(service: Services) -> None:
    name, server = service.add_machine()[0], ScriptedServer(ACCEPTED)
    with pytest.raises(InvalidValue) as refused:
        MailService(service.tokens, server, service.clock).send(name, None, [], b"Subject: x\r\n\r\n", "operator")
    assert (refused.value.field, refused.value.code) == ("recipient", "no_recipients")
    assert server.messages == []


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize(
    ("report", "messages", "refusals"),
    [
        (ACCEPTED, 1, 0),
        (MailReport((), Verdict("message_accepted_in_part", Fault.MAILBOX), "550 no such user"), 1, 1),
        (MailReport((), Verdict("sender_refused", Fault.SENDER), "550 not you"), 0, 1),
        (MailReport((), Verdict("no_connection", Fault.NETWORK)), 0, 0),
    ],
)
def test_a_message_counts_if_somebody_gets_it_and_a_refusal_if_the_server_said_it(
    service: Services, report: MailReport, messages: int, refusals: int
) -> None:
    name, counters = service.add_machine()[0], MailCounters(service.clock)
    service.get_token(name)
    mail = MailService(service.tokens, ScriptedServer(report), service.clock, counters=counters)
    mail.send(name, "scan@contoso.com", ["you@contoso.com"], b"Subject: x\r\n\r\n", "operator")
    counts = [(count.messages, count.refusals) for count in counters.unstored()]
    assert counts == [(messages, refusals)] * (messages or refusals)


@pytest.mark.parametrize("engine", ["sqlite"])
def test_the_message_of_a_connection_test_names_the_setting_that_it_is_about(service: Services) -> None:
    name, server = service.add_machine()[0], ScriptedServer(ACCEPTED)
    service.get_token(name)
    MailService(service.tokens, server, service.clock).test(name, "you@contoso.com", "operator")
    assert f"\nSubject: Mailtoken connection test of {name}\n".encode() in server.messages[0]

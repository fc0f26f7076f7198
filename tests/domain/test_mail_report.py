"""A conversation with a mail server: whether all of it succeeded, and its end in a line of the log."""

from __future__ import annotations

import pytest

from domain.errors import Unreachable
from domain.mail_report import Fault, MailReport, Verdict


@pytest.mark.parametrize("fault", Fault)
def test_a_conversation_has_succeeded_if_nobody_is_at_fault(fault: Fault) -> None:
    report = MailReport((), Verdict("done", fault))
    assert (report.ok, report.fault) == (fault is Fault.NONE, fault)


def test_a_verdict_is_a_line_of_its_code_its_facts_and_the_error_behind_it() -> None:
    assert str(Verdict("accepted", Fault.NONE)) == "accepted"
    cause = Unreachable("connection_refused", host="mx")
    verdict = Verdict("no_connection", Fault.NETWORK, {"host": "mx", "port": 25}, cause)
    assert str(verdict) == f"no_connection host='mx' port=25 ({cause})"

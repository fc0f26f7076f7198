"""Each finding of `audit verify` has a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.texts.audit_findings import FINDINGS, finding_line, finding_text
from infrastructure.queries import audit
from infrastructure.queries.audit import Finding
from infrastructure.upkeep import chain_check


def test_the_codes_that_are_found_are_those_that_have_a_sentence() -> None:
    sources = Path(audit.__file__).read_text() + Path(chain_check.__file__).read_text()
    found = set(re.findall(r'"((?:access_row|event|row|vault_row|link|head)_[a-z_]+)"', sources))
    assert found | {"checkpoint_differs"} == set(FINDINGS)


@pytest.mark.parametrize(
    ("finding", "sentence"),
    [
        (
            Finding("event_not_in_chain", {"position": 7, "topic": "mailtoken.Machine.Created.v1"}),
            "event 7 (mailtoken.Machine.Created.v1) has no place in the hash chain: it was changed or inserted",
        ),
        (
            Finding("event_hash_differs", {"position": 7, "topic": "mailtoken.Machine.Created.v1"}),
            "event 7 (mailtoken.Machine.Created.v1) does not fit the hash chain: it was changed or inserted",
        ),
        (
            Finding("event_removed", {"position": 7}),
            "the event at 7 is in the hash chain but not in the log: it was removed",
        ),
        (
            Finding("event_cut_off", {"count": 3}, 8),
            "3 events at the end of the log were cut off",
        ),
        (
            Finding("link_removed", {}, 8),
            "1 event was removed from the log and the hash chain",
        ),
        (
            Finding("row_differs", {"table": "token", "id": "an-id", "columns": ["status", "since"]}),
            "token an-id differs from the log in status, since",
        ),
        (
            Finding("vault_row_missing", {"kind": "credential", "number": 2, "id": "an-id"}),
            "the vault has no credential 2 of token an-id",
        ),
        (
            Finding("vault_row_not_in_log", {"kind": "password", "number": 9, "id": "an-id"}),
            "the vault has a password 9 of relay user an-id that no event refers to",
        ),
    ],
)
def test_a_finding_says_what_differs_from_the_log(finding: Finding, sentence: str) -> None:
    assert finding_text(finding) == sentence


def test_the_line_of_a_finding_begins_with_its_index_and_kind() -> None:
    assert finding_line(Finding("event_removed", {"position": 7}, 5)).startswith("5 event_removed the event at 7 is")
    assert finding_line(Finding("head_missing", {})) == "- head_missing the head of the hash chain is missing"

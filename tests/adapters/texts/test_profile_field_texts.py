"""Each field of the table has its texts."""

from __future__ import annotations

import pytest

from adapters.texts.profile_fields import CHOICE_TEXTS, FIELD_TEXTS, accepted, label
from domain.catalogue import Protocol
from domain.profile_fields import FIELDS, Choice


def test_each_field_has_a_label_and_no_label_is_left_over() -> None:
    assert set(FIELD_TEXTS) == set(FIELDS)


def test_each_choice_has_a_text_and_no_text_is_left_over() -> None:
    types = [field.type for field in FIELDS.values()]
    assert set(CHOICE_TEXTS) == {choice for kind in types if isinstance(kind, Choice) for choice in kind.choices}


@pytest.mark.parametrize(
    ("protocol", "words"),
    [(Protocol.SMTP, "Primary Server"), (Protocol.POP, "POP3 Server"), (Protocol.IMAP, "IMAP Server")],
)
def test_a_server_is_called_as_the_manual_calls_it_for_its_protocol(protocol: Protocol, words: str) -> None:
    assert label("server", protocol) == words


def test_a_number_says_its_unit_and_its_range() -> None:
    assert label("timeout", Protocol.SMTP) == "Timeout (seconds)"
    assert accepted("timeout") == "1 to 300 seconds"
    assert accepted("port") == "1 to 65535"
    assert accepted("account") is None

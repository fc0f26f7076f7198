"""What a mail client is told about an error: a sentence by the error's code, without a command or a page."""

from __future__ import annotations

from adapters.relay.reply_texts import reply_text
from domain.errors import Refused, Unreachable


def test_an_error_of_the_relay_has_its_own_text_with_the_facts() -> None:
    error = Unreachable("too_many_wrong_passwords_from", address="192.0.2.1")
    assert reply_text(error) == "too many wrong passwords came from 192.0.2.1: try again later"


def test_an_error_of_the_service_is_told_as_its_fact_and_without_its_next_step() -> None:
    error = Refused("listen_needs_certificate", listen="smtps://0.0.0.0:465", field="[relay] listen")
    text = reply_text(error)
    assert text == (
        "[relay] listen: smtps://0.0.0.0:465 needs certificate_file and key_file: ask the administrator of the relay"
    )
    assert "mailtoken" not in reply_text(Unreachable("service_not_running", socket="/run/s"))


def test_a_code_or_a_field_of_another_version_never_breaks_a_reply() -> None:
    assert reply_text(Refused("new_code", more=1)) == "new_code: ask the administrator of the relay"
    assert reply_text(Refused("listen_needs_certificate")) == (
        "listen_needs_certificate: ask the administrator of the relay"
    )

"""Each reason and each alarm has a sentence with a next step, in the words of the surface that shows it."""

import pytest

from adapters.texts.provider_place import SLOTS, with_place
from adapters.texts.reasons import ALARMS, OF_REGISTRATION, REASONS, WARNINGS, reason_text, why
from adapters.texts.wording import Surface
from domain.expiry_forecast import Cause
from domain.outcomes import GrantWarning, Reason

COMMAND = Surface.COMMAND
_ALARMS = (
    "on_hold",
    "backup_old",
    "vault_damaged",
    "client_registration",
    "reply_in_doubt",
    "sign_in_failing",
    "unknown_error",
)


@pytest.mark.parametrize("code", [*Reason, *GrantWarning, *Cause, *_ALARMS])
def test_every_reason_and_every_alarm_has_a_fact_and_a_next_step(code: str) -> None:
    text = {**REASONS, **ALARMS, **WARNINGS}[code]
    assert all(text.next_step(surface) for surface in Surface)
    step = with_place(text.next_step(COMMAND) or "", COMMAND, is_stored=False)
    assert reason_text(code, COMMAND) == f"{text.fact}: {step}."


@pytest.mark.parametrize("surface", Surface)
@pytest.mark.parametrize("code", [*REASONS, *ALARMS, *WARNINGS])
def test_no_file_is_named_for_a_provider_that_has_none(code: str, surface: Surface) -> None:
    status = {"attention": code, "reason": code, "attention_setting": "client_secret_file", "provider_stored": True}
    for said in (reason_text(code, surface, is_stored=True), str(why(status, surface))):
        assert not any(slot in said for slot in SLOTS)
        assert "_file" not in said
        if code not in ("provider_left", "unknown_error"):
            assert "in the configuration" not in said


@pytest.mark.parametrize("code", OF_REGISTRATION)
def test_a_fault_of_the_registration_of_a_stored_provider_is_mended_on_its_page(code: str) -> None:
    status = {"attention": "client_registration", "attention_code": code, "provider_stored": True}
    said, of_file = str(why(status, Surface.PAGE)), str(why({**status, "provider_stored": False}, Surface.PAGE))
    assert not any(slot in said + of_file for slot in SLOTS)
    assert "_file" not in said
    assert "in the configuration" not in said or "private_hosts of [stored_providers]" in said


def test_a_reason_of_a_newer_service_is_shown_as_it_is() -> None:
    assert reason_text("eaten_by_a_whale", Surface.PAGE) == "eaten_by_a_whale"


def test_the_providers_own_code_stands_behind_the_sentence() -> None:
    status = {"attention": "account_not_available", "reason": "account_not_available", "code": "50057"}
    assert why(status, COMMAND) == f"{reason_text('account_not_available', COMMAND)} (50057)"


def test_the_wrong_person_is_named_beside_the_right_one() -> None:
    status = {"reason": "wrong_account", "signed_in_as": "tom@contoso.com", "account": "scan@contoso.com"}
    shown = why(status, COMMAND)
    assert shown
    assert shown.startswith("tom@contoso.com signed in where scan@contoso.com was asked for")


def test_an_account_with_braces_is_shown_as_it_is() -> None:
    shown = why({"reason": "wrong_account", "signed_in_as": "{account}", "account": "{x}"}, Surface.PAGE)
    assert shown
    assert shown.startswith("{account} signed in where {x} was asked for: get the token again and sign in as {x}")


def test_a_page_names_a_field_as_its_form_does() -> None:
    status = {"reason": "wrong_account", "signed_in_as": "tom@contoso.com", "account": "scan@contoso.com"}
    assert "Account Name" in str(why(status, Surface.PAGE))
    assert "Account Name" not in str(why(status, COMMAND))


def test_nothing_is_said_where_there_is_no_reason() -> None:
    assert why({"attention": None, "reason": None, "code": None}, COMMAND) is None

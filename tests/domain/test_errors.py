"""An error says in one line what it is about."""

from __future__ import annotations

import pytest

from domain.errors import (
    Conflict,
    InvalidValue,
    MailtokenError,
    Refused,
    StorageFull,
    TooManyRequests,
    Unreachable,
    about,
    facts,
)


def test_a_value_that_is_not_acceptable_names_its_field() -> None:
    error = InvalidValue("port", "not_a_number", value="x")
    assert (str(error), error.field) == ("port: not_a_number value='x'", "port")


def test_the_facts_of_an_error_are_its_fields_and_the_field_of_a_value() -> None:
    assert facts(InvalidValue("port", "not_a_number", value="x")) == {"field": "port", "value": "x"}
    assert facts(Refused("token_held", status="Retrieved")) == {"status": "Retrieved"}


def test_no_room_for_a_reply_is_a_reason_to_try_again() -> None:
    assert issubclass(StorageFull, Unreachable)


def test_an_error_that_asks_for_a_wait_has_the_wait_beside_its_facts() -> None:
    busy = Unreachable("provider_failed", 30, provider="contoso")
    assert (busy.code, busy.fields, busy.retry_after_seconds) == ("provider_failed", {"provider": "contoso"}, 30)
    tries = TooManyRequests("too_many_attempts", 60)
    assert (tries.code, tries.fields, tries.retry_after_seconds) == (
        "too_many_attempts",
        {"retry_after_seconds": 60},
        60,
    )


def test_a_refusal_says_what_it_is_about() -> None:
    with pytest.raises(Refused) as refused, about("office-mfp/pop"):
        raise Refused("token_held", status="Retrieved")
    assert (refused.value.code, refused.value.fields) == (
        "token_held",
        {"status": "Retrieved", "profile": "office-mfp/pop"},
    )


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(Conflict, match=r"^changed$"), about("office-mfp/pop"):
        raise Conflict("changed")


def test_every_error_of_the_domain_is_one_a_person_can_act_on() -> None:
    assert all(issubclass(error, MailtokenError) for error in (Conflict, InvalidValue, Refused, Unreachable))


def test_a_fact_as_long_as_a_request_is_cut_where_it_is_shown() -> None:
    error = InvalidValue("as_of", "not_an_instant", value="x" * 30_000)
    assert len(facts(error)["value"]) == 1001
    assert error.fields["value"] == "x" * 30_000
    several = InvalidValue("roles", "unknown_role", values=["boss", "x" * 30_000])
    assert [len(value) for value in facts(several)["values"]] == [4, 1001]

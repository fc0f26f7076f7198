"""An error says in one line what it is about."""

from __future__ import annotations

import pytest

from domain.errors import Conflict, InvalidValue, MailtokenError, Refused, StorageFull, Unreachable, about


def test_a_value_that_is_not_acceptable_names_its_field() -> None:
    error = InvalidValue("port", "'x' is not a whole number")
    assert (str(error), error.field) == ("port: 'x' is not a whole number", "port")


def test_no_room_for_a_reply_is_a_reason_to_try_again() -> None:
    assert issubclass(StorageFull, Unreachable)


def test_a_refusal_says_what_it_is_about() -> None:
    with (
        pytest.raises(Refused, match=r"^office-mfp/pop: the token is Retrieved$"),
        about("office-mfp/pop"),
    ):
        raise Refused("the token is Retrieved")


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(Conflict, match=r"^changed$"), about("office-mfp/pop"):
        raise Conflict("changed")


def test_every_error_of_the_domain_is_one_a_person_can_act_on() -> None:
    assert all(issubclass(error, MailtokenError) for error in (Conflict, InvalidValue, Refused, Unreachable))

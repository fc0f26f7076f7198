"""What a password may be, and in which form it is compared."""

from __future__ import annotations

import pytest

from domain.errors import InvalidValue
from domain.password_policy import check_password, composed
from domain.secret import Secret

DECOMPOSED, COMPOSED = "a\u0308", "ä"


def test_a_text_is_composed_up_to_a_length_that_costs_little() -> None:
    assert composed(DECOMPOSED * 2048) == COMPOSED * 2048
    assert composed(DECOMPOSED * 2049) == DECOMPOSED * 2049


@pytest.mark.parametrize("password", ["x" * 12, "x" * 255, DECOMPOSED * 12, "two words are fine"])
def test_a_password_that_is_long_enough_and_can_be_sent_is_accepted(password: str) -> None:
    check_password(Secret(password))


@pytest.mark.parametrize("password", ["x" * 11, "x" * 256, DECOMPOSED * 11, "twelve chars\n"])
def test_another_password_is_refused_with_the_limits(password: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_password(Secret(password))
    assert (refused.value.field, refused.value.code) == ("password", "password_unsuitable")
    assert refused.value.fields == {"shortest": 12, "longest": 255}

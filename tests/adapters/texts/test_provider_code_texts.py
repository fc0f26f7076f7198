"""The sentences of a provider's own codes, which say more than the reason does."""

from __future__ import annotations

import pytest

from adapters.providers.error_table import AADSTS
from adapters.texts.provider_replies import why_text
from adapters.texts.reasons import BY_PROVIDER_CODE, OF_REGISTRATION, why
from adapters.texts.wording import Surface
from domain.outcomes import Reason


@pytest.mark.parametrize("code", list(BY_PROVIDER_CODE))
@pytest.mark.parametrize("surface", list(Surface))
def test_every_sentence_names_the_fact_the_step_and_the_code(code: str, surface: Surface) -> None:
    said = why({"reason": Reason.CONFIGURATION.value, "code": code}, surface)
    assert said
    assert said.startswith(f"{BY_PROVIDER_CODE[code].fact}: ")
    assert code in said
    assert ("--" in said) <= (surface is Surface.COMMAND)


@pytest.mark.parametrize("code", list(OF_REGISTRATION))
@pytest.mark.parametrize("surface", list(Surface))
def test_a_fault_of_the_registration_asks_for_the_token_again_only_where_one_has_ended(
    code: str, surface: Surface
) -> None:
    fact = OF_REGISTRATION[code].fact
    over = why({"reason": Reason.CONFIGURATION.value, "code": code}, surface)
    goes_on = why({"attention": "client_registration", "attention_code": code}, surface)
    dead = why({"attention": "account_not_available", "reason": "account_not_available", "code": code}, surface)
    assert over
    assert goes_on
    assert dead
    assert over.startswith(f"{fact}: ")
    # A code of the service's own is said in words.
    assert code in over or why_text(code) != code
    assert "then get the token again." in over
    assert "the token" not in goes_on.removeprefix(fact)
    assert "then renew the token." in dead


@pytest.mark.parametrize(
    ("setting", "word"),
    [("tenant", "tenant"), ("scopes", "scopes"), ("redirect_uri", "redirect URI"), ("client_id", "client_id")],
)
def test_the_sentence_of_a_number_names_what_the_table_names(setting: str, word: str) -> None:
    of_setting = {f"AADSTS{number}" for number, rule in AADSTS.items() if rule.setting == setting}
    known = of_setting & OF_REGISTRATION.keys()
    assert known
    if setting != "client_id":
        assert known == of_setting
    for code in known - {"AADSTS65005", "AADSTS7000112"}:
        text = OF_REGISTRATION[code]
        assert word in f"{text.fact} {text.step}"


@pytest.mark.parametrize(("seconds", "words"), [(425, "425 seconds behind"), (-3960, "3960 seconds ahead of")])
def test_a_clock_that_is_wrong_is_said_with_the_difference(seconds: int, words: str) -> None:
    status = {"reason": Reason.ID_TOKEN_INVALID.value, "code": f"clock_off_by_{seconds}_seconds"}
    said = why(status, Surface.COMMAND)
    assert said
    assert said.startswith(f"The clock of this machine is {words} the provider's: set the clock")


def test_an_alarm_has_the_sentence_of_the_code_behind_it() -> None:
    status = {"attention": "client_registration", "attention_code": "AADSTS700025", "reason": None}
    said = why(status, Surface.PAGE)
    assert said
    assert "public client, which has no secret" in said

"""The sentences of why a file can't be applied, as the command line shows them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from adapters.texts.errors import error_text, sentence
from adapters.texts.wording import Surface
from domain.errors import Refused

NOT_A_NAME = "'two words' is not a name: 1 to 63 letters, digits, '.', '-' or '_', no sign at either end"


@pytest.mark.parametrize(
    ("code", "facts", "said"),
    [
        (
            "other_catalogue",
            {"catalogue": "sharp-bp", "wanted": "generic"},
            "its catalogue is sharp-bp, not generic: remove the machine first",
        ),
        (
            "name_taken",
            {"name": "scanners", "kind": "group"},
            "scanners: there is a group with this name already",
        ),
        ("not_a_name", {"value": "two words", "field": "machine"}, f"machine: {NOT_A_NAME}"),
        ("not_a_name", {"value": "two words", "field": "client"}, f"client: {NOT_A_NAME}"),
        (
            "catalogue_unknown",
            {"name": "typo", "known": ["sharp-bp", "generic"]},
            "no catalogue is called 'typo'; there are: sharp-bp, generic",
        ),
        (
            "catalogue_setting_unknown",
            {"catalogue": "generic", "name": "fax", "known": ["smtp", "pop", "imap"]},
            "catalogue generic has no setting 'fax'; it has: smtp, pop, imap",
        ),
        ("absent_setting_with_fields", {}, "an absent setting has no fields"),
        (
            "number_not_in_range",
            {"value": "99999", "lowest": 1, "highest": 65535},
            "'99999' is not a whole number from 1 to 65535",
        ),
        (
            "not_a_field",
            {"protocol": "pop", "known": ("server", "port")},
            "not a field of a pop setting; it has: server, port",
        ),
        ("tls_needed", {}, "'none' is accepted only towards a loopback server: use starttls or implicit"),
        (
            "provider_not_configured",
            {"provider": "fabrikam", "configured": ["contoso"]},
            "there is no provider 'fabrikam'; there are: contoso",
        ),
        (
            "not_an_smtp_setting",
            {"field": "desk/pop"},
            "desk/pop: is not an SMTP setting: POP and IMAP settings are independent",
        ),
        (
            "profile_not_found",
            {"profile": "desk/lamp"},
            "no profile is called 'desk/lamp': profiles are named machine/setting, see mailtoken profile list",
        ),
        (
            "in_two_groups",
            {"profile": "desk/smtp", "group": "desks"},
            "desk/smtp is in the group desks already: a setting is in one group",
        ),
        (
            "token_in_the_way",
            {"profile": "desk/smtp", "status": "Retrieved"},
            "desk/smtp: the token is Retrieved: delete the token first (mailtoken token delete), or say delete_token = "
            "true in the file",
        ),
        (
            "other_than_the_groups_token",
            {"group": "desks", "held": "scan@contoso.com", "value": "fax@contoso.com"},
            "the token of the group desks is for scan@contoso.com, not 'fax@contoso.com'",
        ),
    ],
)
def test_a_refusal_of_a_plan_has_a_sentence(code: str, facts: Mapping[str, object], said: str) -> None:
    assert sentence(code, facts, Surface.COMMAND) == said


def test_why_a_plan_is_refused_says_the_place_and_how_many_refusals_more_there_are() -> None:
    refused = Refused("not_a_name", field="machine", value="two words", place="machines.two words", others=2)
    assert error_text(refused, Surface.COMMAND) == (
        f"machines.two words: machine: {NOT_A_NAME} (and 2 more): nothing was changed"
    )

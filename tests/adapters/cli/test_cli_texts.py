import json
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters import texts
from adapters.cli import screen
from adapters.cli.acquisition import _picture, _qr_code
from domain.administrator import Administrator
from domain.client import Client
from domain.forecast import Cause
from domain.lifecycle import TokenStatus
from domain.machine import Machine
from domain.outcomes import Reason
from domain.profile import Profile
from domain.reader import Reader
from domain.relay_user import RelayUser
from domain.smtp_group import SmtpGroup
from domain.token import Token

ALARMS = ("vault_damaged", "client_registration", "reply_in_doubt")
GOLDEN = Path(__file__).parents[2] / "domain" / "golden"


@pytest.mark.parametrize("code", [*Reason, *Cause, *ALARMS])
def test_every_reason_and_every_alarm_has_a_sentence_that_says_what_to_do(code: str) -> None:
    sentence = texts.sentence(code)
    assert sentence != code
    assert sentence.endswith(".")
    assert ":" in sentence or "," in sentence


def test_a_reason_of_a_newer_service_is_shown_as_it_is() -> None:
    assert texts.sentence("eaten_by_a_whale") == "eaten_by_a_whale"


def test_the_providers_own_code_stands_behind_the_sentence() -> None:
    shown = texts.why({"attention": "account_not_available", "reason": "account_not_available", "code": "50057"})
    assert shown == f"{texts.sentence('account_not_available')} (50057)"


def test_the_wrong_person_is_named_beside_the_right_one() -> None:
    shown = texts.why({"reason": "wrong_account", "signed_in_as": "tom@contoso.com", "account": "scan@contoso.com"})
    assert shown
    assert shown.startswith("tom@contoso.com signed in where scan@contoso.com was asked for")


def test_nothing_is_said_where_there_is_no_reason() -> None:
    assert texts.why({"attention": None, "reason": None, "code": None}) is None


def test_every_event_has_a_sentence() -> None:
    events = {
        f"{kind.__name__}.{name}"
        for kind in (Administrator, Client, Machine, Profile, Reader, RelayUser, SmtpGroup, Token)
        for name, event in vars(kind).items()
        if isinstance(event, type) and issubclass(event, kind.Event) and event is not kind.Event
    }
    assert set(texts.EVENTS) == events


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_sentence_asks_only_for_facts_that_its_event_has(golden: Path) -> None:
    _, aggregate, event, _ = golden.stem.split(".")
    made = {"changed", "why", "member", "group"}
    wanted = {field for _, field, _, _ in string.Formatter().parse(texts.EVENTS[f"{aggregate}.{event}"]) if field}
    assert wanted - made <= set(json.loads(golden.read_text()))


def test_the_labels_are_the_manuals_own() -> None:
    assert set(screen._MARKS) == set(TokenStatus)
    assert screen.RETRIEVED == TokenStatus.RETRIEVED
    for token in TokenStatus:
        assert screen.label(token).plain.endswith(f" {token}")


NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(seconds=61), "1 min ago"),
        (timedelta(minutes=90), "1 h ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_times_that_have_passed_are_said_as_people_do(passed: timedelta, shown: str) -> None:
    assert screen.ago((NOW - passed).isoformat(), NOW).endswith(f"({shown})")


def test_the_day_is_named_unless_it_is_today() -> None:
    zone = NOW.astimezone().tzinfo
    noon = datetime(2026, 11, 22, 12, tzinfo=zone)
    assert screen.clock_time(noon - timedelta(hours=1), noon) == "11:00"
    assert screen.clock_time(noon - timedelta(days=3), noon) == "Nov 19 12:00"
    assert screen.clock_time(noon - timedelta(days=365), noon) == "2025-11-22 12:00"


def test_what_comes_from_elsewhere_cannot_speak_to_the_terminal() -> None:
    assert screen.clean("a\x1b[31mb\r\nc\u202ed") == "a [31mb  c d"
    assert screen.clean(None) == "-"


def test_a_qr_code_is_square_and_has_a_light_margin() -> None:
    code = _qr_code("https://login.microsoftonline.com/common/oauth2/deviceauth")
    assert {len(row) for row in code} == {len(code)}
    assert not any(code[0] + code[1] + code[-1] + code[-2])
    assert all(code[2][2:9])


def test_a_qr_code_is_drawn_module_for_module() -> None:
    code = _qr_code("https://contoso.com")
    drawn = []
    for line in _picture(code).plain.split("\n"):
        drawn += [[cell in "▀█" for cell in line], [cell in "▄█" for cell in line]]
    assert drawn[: len(code)] == code
    assert not any(map(any, drawn[len(code) :]))

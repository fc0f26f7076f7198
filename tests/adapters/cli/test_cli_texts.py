from datetime import UTC, datetime, timedelta

import pytest

from adapters.cli import output
from adapters.cli.sign_in_progress import _picture, _qr_code
from domain.lifecycle import TokenStatus


def test_the_labels_are_the_manuals_own() -> None:
    assert set(output._MARKS) == set(TokenStatus)
    assert output.RETRIEVED == TokenStatus.RETRIEVED
    for token in TokenStatus:
        assert output.label(token).plain.endswith(f" {token}")


NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(seconds=60), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=1), "1 h ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(days=2), "2 days ago"),
    ],
)
def test_times_that_have_passed_are_said_as_people_do(passed: timedelta, shown: str) -> None:
    assert output.ago((NOW - passed).isoformat(), NOW).endswith(f"({shown})")


def test_the_day_is_named_unless_it_is_today() -> None:
    zone = NOW.astimezone().tzinfo
    noon = datetime(2026, 11, 22, 12, tzinfo=zone)
    assert output.clock_time(noon - timedelta(hours=1), noon) == "11:00"
    assert output.clock_time(noon - timedelta(days=3), noon) == "Nov 19 12:00"
    assert output.clock_time(noon - timedelta(days=365), noon) == "2025-11-22 12:00"


def test_what_comes_from_elsewhere_cannot_speak_to_the_terminal() -> None:
    assert output.clean("a\x1b[31mb\r\nc\u202ed") == "a [31mb  c d"
    assert output.clean(None) == "-"


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

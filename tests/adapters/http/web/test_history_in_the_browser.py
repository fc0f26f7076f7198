"""The History page as it is seen: in every variant, and its filters in the reader's time zone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect
from test_web_journey import Visitor
from web_service import InProcessService

pytestmark = pytest.mark.needs("chromium")

NewContext = Callable[..., BrowserContext]
VARIANTS = [
    ("wide", "light"),
    pytest.param("narrow", "dark", marks=pytest.mark.thorough),
    pytest.param("wide", "dark", marks=pytest.mark.thorough),
    pytest.param("narrow", "light", marks=pytest.mark.thorough),
]


@pytest.mark.parametrize(("width", "colours"), VARIANTS)
def test_the_history_is_looked_at_and_filtered_in_the_readers_time_zone(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    name = f"history-{width}-{colours}"
    setting = in_process.add_printer(name)
    in_process.get_token(setting)
    in_process.service.tokens.renew(setting, "administrator:admin")
    in_process.service.settings.set_tags(name, ["lobby"], "administrator:admin")
    page = new_context(width, color_scheme=colours, timezone_id="Asia/Tokyo").new_page()
    visitor = Visitor(page, screenshots / "history" / f"{width}-{colours}")
    visitor.go("/history", "history")
    visitor.go(f"/history?profile={setting}", "history-of-a-setting")
    visitor.go("/history?q=nowhere", "history-nothing-found")
    visitor.go(f"/history?profile={name}", "history-of-a-machine")
    expect(page.get_by_role("row").filter(has_text="tags: lobby")).to_be_visible()

    page.get_by_text("More filters").click()
    page.get_by_label("What happened").select_option("Token renewed")
    page.get_by_label("Who").fill("admin")
    page.get_by_label("From, in your time zone (Asia/Tokyo)").fill("2020-01-01T09:00")
    visitor.look("history-filters")
    page.get_by_role("button", name="Show", exact=True).first.click()
    page.wait_for_url("**kind=renewal**")
    asked = parse_qs(urlsplit(page.url).query)
    assert (asked["profile"], asked["from"]) == ([name], ["2020-01-01T00:00:00.000Z"])
    expect(page.get_by_label("From, in your time zone")).to_have_value("2020-01-01T09:00")
    assert page.locator(".moments tbody tr").count() == 1
    expect(page.locator(".moments time")).to_contain_text("GMT+9")

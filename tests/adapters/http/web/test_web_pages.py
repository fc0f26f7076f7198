"""Long lists are shown a page at a time, and what concerns the whole store on every page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect
from test_web_journey import Visitor
from web_service import InProcessService

from adapters.http.web.access_pages import CLIENTS_ON_A_PAGE
from domain.log_hold import LogHead, LogHold
from domain.store_attention import CertificateExpiry

pytestmark = pytest.mark.needs("chromium")


def test_clients_are_shown_a_page_at_a_time(in_process: InProcessService, page: Page) -> None:
    names = [f"many-{number:02}" for number in range(CLIENTS_ON_A_PAGE + 1)]
    for name in names:
        in_process.service.clients.add(name, (), None, "administrator:admin")
    seen = list[str]()
    page.goto("/clients")
    while True:
        seen += [name for name in page.locator("section.card h2").all_text_contents() if name in names]
        following = page.get_by_role("link", name="Next")
        if not following.count():
            break
        following.click()
        expect(page.get_by_role("link", name="Previous")).to_be_visible()
    assert seen == names
    for name in names:
        in_process.service.clients.remove(name, "administrator:admin")


def test_the_history_of_a_setting_says_which_client_may_read_its_token(
    in_process: InProcessService, page: Page
) -> None:
    name = in_process.add_printer("granted-once", "generic")
    in_process.service.clients.add("one-of-history", (name,), None, "administrator:admin")
    for address in ("/history", f"/history?profile={name}"):
        page.goto(address)
        told = page.locator(".moments tbody tr", has_text=f"may read the access token of {name}")
        expect(told).to_contain_text("client one-of-history")
    in_process.service.clients.remove("one-of-history", "administrator:admin")


def test_a_restored_store_says_on_every_page_that_it_is_on_hold_until_an_administrator_resumes(
    in_process: InProcessService, page: Page
) -> None:
    events, now = in_process.service.events, in_process.service.clock.now()
    hold = LogHold.after_restore(uuid4(), backup_made_at=now, events=1, by="administrator:root", now=now)
    events.save(hold)
    for address in ("/settings", "/attention", "/providers", "/history"):
        page.goto(address)
        expect(page.get_by_role("status")).to_contain_text("on hold")
    page.goto("/attention")
    page.get_by_label("Why, for the history").fill("the old host is off")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("The hold is lifted")).to_be_visible()
    expect(page.get_by_text("on hold")).to_have_count(0)
    assert in_process.service.history.records()[-1].facts == {"because": "the old host is off"}


def test_a_log_that_differs_is_used_only_for_a_reason_which_the_page_asks_for(
    in_process: InProcessService, page: Page
) -> None:
    events, now = in_process.service.events, in_process.service.clock.now()
    known = LogHead(7, "5f" * 36)
    events.save(LogHold.of_other_log(uuid4(), known=known, number=9, as_of=now, differs=True, by="worker", now=now))
    page.goto("/attention")
    expect(page.get_by_role("status")).to_contain_text("The log is not the one that this service has seen")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("say why it is to be used")).to_be_visible()
    page.goto("/attention")
    page.get_by_label("Why, for the history").fill("a rehearsal")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("The hold is lifted")).to_be_visible()
    assert in_process.service.history.records()[-1].facts["given_up_number"] == known.number


def test_a_certificate_near_its_end_is_said_on_every_page(
    in_process: InProcessService, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = CertificateExpiry("[relay]", in_process.service.clock.now() + timedelta(days=3))
    monkeypatch.setattr(in_process.service.store_state, "_certificates", lambda: [soon])
    for address in ("/settings", "/attention", "/providers", "/history"):
        page.goto(address)
        expect(page.get_by_role("status")).to_contain_text("The certificate of [relay] ends at ")


def test_the_log_is_verified_on_a_page(in_process: InProcessService, page: Page, screenshots: Path) -> None:
    in_process.add_printer("verified", "generic")
    visitor = Visitor(page, screenshots / "verify")
    visitor.go("/verify", "before")
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("events are as they were written")).to_be_visible()
    visitor.look("whole")

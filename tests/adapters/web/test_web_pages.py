"""Long lists are shown a page at a time."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from web_office import Office

from adapters.web.people_pages import CLIENTS_ON_A_PAGE


def test_clients_are_shown_a_page_at_a_time(office: Office, page: Page) -> None:
    names = [f"many-{number:02}" for number in range(CLIENTS_ON_A_PAGE + 1)]
    for name in names:
        office.service.clients.add(name, (), None, "administrator:admin")
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
        office.service.clients.remove(name, "administrator:admin")


def test_the_history_of_a_setting_says_which_client_may_read_its_token(office: Office, page: Page) -> None:
    name = office.add_printer("granted-once", "generic")
    office.service.clients.add("one-of-history", (name,), None, "administrator:admin")
    for address in ("/history", f"/history?profile={name}"):
        page.goto(address)
        told = page.locator(".moments li", has_text=f"may read the access token of {name}")
        expect(told).to_contain_text("client one-of-history: may read")
    office.service.clients.remove("one-of-history", "administrator:admin")

"""The History page shows every record once, a page at a time."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from fakes import FakeClock, FakeProvider
from listeners import serve_tcp
from served import ADMIN
from served_tcp import Browser, open_tcp_service

from adapters.http.web import history_pages
from domain.secret import Secret

PASSWORD = "a-password-in-clear"


def pages_from(browser: Browser, first: str) -> list[str]:
    """The page at this address and those that the links to the next page lead to; each leads back."""
    pages = [browser("GET", first).text]
    while behind := link(pages[-1], "next"):
        pages.append(browser("GET", behind).text)
        back = link(pages[-1], "prev")
        assert back
        assert moments_of(browser("GET", back).text) == moments_of(pages[-2])
    return pages


def link(page: str, rel: str) -> str | None:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return html.unescape(found[1]) if found else None


def moments_of(page: str) -> list[str]:
    return re.findall(r'<time datetime="([^"]+)"', page.partition('<ol class="moments">')[2])


def test_the_pages_of_the_history_together_are_the_whole_of_it(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_pages, "RECORDS_PER_PAGE", 4)
    with open_tcp_service(tmp_path, clock, provider) as service, serve_tcp(service) as port:
        service.administrators.add("anna", ["auditor"], Secret(PASSWORD), ADMIN)
        for number in range(6):
            clock.step(seconds=1)
            service.clients.add(f"client-{number}", [], None, ADMIN)
        browser = Browser(port)
        browser.sign_in("anna", PASSWORD)
        total = service.history.page(None, None, 0, 1).total
        last = -(-total // 4)
        shown = pages_from(browser, "/history")
        beyond = browser("GET", f"/history?page={last + 1}").text
    assert moments_of(beyond) == []
    moments = [moments_of(page) for page in shown]
    assert [len(page) for page in moments] == [*[4] * (last - 1), total - 4 * (last - 1)]
    assert [one for page in moments for one in page] == sorted((one for page in moments for one in page), reverse=True)
    told = re.findall(r"client-\d", "".join(re.sub(r"(?s)<a .*?>", "", page) for page in shown))
    assert list(dict.fromkeys(told)) == [f"client-{number}" for number in reversed(range(6))]


def test_the_page_of_a_machine_has_its_settings_and_leads_to_its_panel(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    with open_tcp_service(tmp_path, clock, provider) as service, serve_tcp(service) as port:
        service.administrators.add("anna", ["auditor"], Secret(PASSWORD), ADMIN)
        service.settings.add_machine("lobby", "generic", ADMIN)
        browser = Browser(port)
        browser.sign_in("anna", PASSWORD)
        page = browser("GET", "/history?profile=lobby").text
        setting = browser("GET", "/history?profile=lobby/smtp").text
    assert all(f'href="/settings/lobby/{one}"' in page for one in ("smtp", "pop", "imap"))
    assert 'href="/machines/lobby/panel"' in page
    assert "press/" not in page
    assert ("life-heading" in page, "life-heading" in setting) == (False, True)

"""The History page shows every record once, a page at a time, and finds what is asked for; its files have the same."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import START, FakeClock, FakeProvider
from listeners import serve_tcp
from served import ADMIN
from served_tcp import Browser, open_tcp_service

from adapters.http.web import history_pages
from domain.secret import Secret
from infrastructure.queries import history
from infrastructure.service import Service

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
    return re.findall(r'<time datetime="([^"]+)"', page.partition('<table class="rows moments">')[2])


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
        total = len(service.history.records())
        last = -(-total // 4)
        shown = pages_from(browser, "/history")
        beyond = browser("GET", "/history?before=1").text
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


@pytest.fixture
def office(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[tuple[Service, Browser]]:
    """A service with machines and a few things that happened, and an auditor's browser."""
    with open_tcp_service(tmp_path, clock, provider) as service, serve_tcp(service) as port:
        service.administrators.add("anna", ["auditor"], Secret(PASSWORD), ADMIN)
        for name in ("hamburg-007", "hamburg-008"):
            service.settings.add_machine(name, "generic", ADMIN)
        clock.step(hours=1)
        service.settings.set_tags("hamburg-007", ["floor-3"], "operator:root")
        browser = Browser(port)
        browser.sign_in("anna", PASSWORD)
        yield service, browser


def rows_of(page: str) -> list[str]:
    """The text of each line of the page."""
    rows = re.findall(r"(?s)<tr>(.*?)</tr>", page.partition('<table class="rows moments">')[2])
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows[1:]]


def test_filters_are_combined_and_stay_in_every_address(
    office: tuple[Service, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, browser = office
    [tagged] = rows_of(browser("GET", "/history?q=hamburg+007&kind=machine&who=operator").text)
    assert tagged.endswith("root operator hamburg-007 tags: floor-3")
    page = browser("GET", "/history?q=hamburg+007&from=2026-01-05T09:30&to=2100-01-01T00:00Z").text
    assert "floor-3" in page
    monkeypatch.setattr(history_pages, "RECORDS_PER_PAGE", 1)
    first = browser("GET", "/history?q=hamburg+007&kind=setting&who=admin").text
    behind = link(first, "next")
    assert behind
    assert {"q=hamburg+007", "kind=setting", "who=admin"} <= set(behind.partition("?")[2].split("&"))
    assert 'value="hamburg 007"' in first
    assert '<option value="setting" selected>' in first


def test_one_person_is_shown_once_whatever_the_role(office: tuple[Service, Browser]) -> None:
    service, browser = office
    service.settings.set_tags("hamburg-008", ["floor-4"], "administrator:root")
    rows = rows_of(browser("GET", "/history?who=root&q=hamburg&kind=machine").text)
    roles = [re.search(r"root (\w+)", row) for row in rows]
    assert [role and role[1] for role in roles] == ["administrator", "operator"]
    assert ":root" not in "".join(rows)


def test_a_search_that_reached_its_limit_says_how_far_and_goes_on(
    office: tuple[Service, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, browser = office
    monkeypatch.setattr(history, "LOOKED_AT", 5)
    page = browser("GET", "/history?who=nobody").text
    assert "No event matches so far." in page
    assert "Looked at the events back to" in page
    pages = pages_from_forwards(browser, page)
    assert pages > 2


def pages_from_forwards(browser: Browser, page: str) -> int:
    number = 1
    while behind := link(page, "next"):
        page, number = browser("GET", behind).text, number + 1
    assert "No event matches." in page
    back = link(page, "prev")
    assert back
    upwards = browser("GET", back).text
    assert "Looked at the events up to" in upwards
    assert re.search(r'rel="prev"[^>]*>Go on<', upwards)
    return number


@pytest.mark.parametrize(("name", "value"), [("from", "yesterday"), ("to", "2026-13-01"), ("kind", "Token.Renewed")])
def test_what_is_no_filter_is_said_at_its_field_and_stays_there(
    office: tuple[Service, Browser], name: str, value: str
) -> None:
    _, browser = office
    answer = browser("GET", f"/history?{name}={value}&q=hamburg&profile=hamburg-007")
    assert answer.status == 422
    assert repr(value) in html.unescape(answer.text)
    assert 'value="hamburg"' in answer.text
    assert 'name="profile" value="hamburg-007"' in answer.text


def test_the_files_have_what_the_page_shows(office: tuple[Service, Browser]) -> None:
    service, browser = office
    service.settings.set_profile("hamburg-007/smtp", {"account": "scan@contoso.com"}, "administrator:=cmd()")
    page = browser("GET", "/history?profile=hamburg-007&kind=setting").text
    files = {
        one: html.unescape(found[1])
        for one in ("csv", "json")
        if (found := re.search(rf'href="([^"]*/{one}[^"]*)"', page))
    }
    told = browser("GET", files["json"])
    assert dict(told.headers)["content-disposition"] == 'attachment; filename="mailtoken-history.json"'
    positions = [one["position"] for one in told.body]
    assert len(positions) == len(rows_of(page))
    assert positions == sorted(positions)
    sheet = browser("GET", files["csv"])
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    assert [int(row["position"]) for row in rows] == positions
    last = rows[-1]
    assert (last["who"], last["role"], last["about"]) == ("'=cmd()", "administrator", "hamburg-007/smtp")
    assert last["what"] == "set: account scan@contoso.com"
    before = browser("GET", f"/history?profile=hamburg-007&as_of={START.strftime('%Y-%m-%dT%H:%MZ')}").text
    then = html.unescape(re.search(r'href="([^"]*/json[^"]*)"', before)[1])  # type: ignore[index]
    assert "Tagged" not in {one["event"] for one in browser("GET", then).body}
    assert browser("GET", "/history/export/xml").status == 422


def test_the_page_of_a_setting_says_how_long_its_token_was_in_each_state(
    office: tuple[Service, Browser], clock: FakeClock
) -> None:
    _, browser = office
    clock.step(days=2, minutes=5)
    browser.sign_in("anna", PASSWORD)
    page = browser("GET", "/history?profile=hamburg-007/smtp").text
    assert re.search(r'<th scope="row">Not Retrieved</th><td class="number">2 d 1 h</td>', page)
    assert '<desc id="diagram-desc">The token is Not Retrieved.</desc>' in page
    assert "Invalid</th>" not in page

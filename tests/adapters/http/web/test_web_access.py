"""Who sees which page, what is refused and how it is said, and how large a page gets."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests
from starlette.routing import Route
from web_service import PASSWORD, PEOPLE, SCAN, InProcessService

from adapters.http.web.router import web_pages
from infrastructure.queries.settings_page import MACHINES_PER_PAGE, SettingOnPage
from infrastructure.service import Service

EVERYONE = {"admin", "anna", "otto", "audrey"}
ADMINISTRATORS, OPERATORS, AUDITORS = {"admin", "anna"}, {"admin", "otto"}, {"admin", "audrey"}

PAGES = {
    "/": EVERYONE,
    "/settings": EVERYONE,
    "/settings?as_of=2020-01-01T10:00": EVERYONE,
    "/settings/access/smtp": EVERYONE,
    "/settings/access/smtp/token": EVERYONE,
    "/settings/access/smtp/link": ADMINISTRATORS,
    "/settings/access/smtp/link?group=together": ADMINISTRATORS,
    "/settings/access/smtp/unlink": ADMINISTRATORS,
    "/settings/access/smtp/get-token": OPERATORS,
    "/settings/access/smtp/delete": OPERATORS,
    "/settings/access/smtp/test": OPERATORS,
    "/attention": EVERYONE,
    "/history": AUDITORS,
    "/history/export/csv": AUDITORS,
    "/history/export/json?kind=machine": AUDITORS,
    "/verify": AUDITORS,
    "/verify/state": AUDITORS,
    "/history?profile=access/smtp": AUDITORS,
    "/providers": EVERYONE,
    "/providers/own": EVERYONE,
    "/providers/own/remove": ADMINISTRATORS,
    "/providers/own/rename": ADMINISTRATORS,
    "/add-provider": ADMINISTRATORS,
    "/add-provider/google": ADMINISTRATORS,
    "/clients": ADMINISTRATORS,
    "/suggestions/settings?q=access": ADMINISTRATORS,
    "/suggestions/groups": ADMINISTRATORS,
    "/import": ADMINISTRATORS,
    "/export/csv": ADMINISTRATORS,
    "/relay-users": ADMINISTRATORS,
    "/relay-users/access/sheet": ADMINISTRATORS,
    "/administrators": ADMINISTRATORS,
    "/home": EVERYONE,
    "/machines": EVERYONE,
    "/jobs": EVERYONE,
    "/jobs/new?action=renew": OPERATORS,
    "/jobs/new?action=set": ADMINISTRATORS,
    "/machines/access/panel": EVERYONE,
    "/account": EVERYONE,
    "/account/second-factor": EVERYONE,
    "/machines/add": ADMINISTRATORS,
    "/machines/access/remove": ADMINISTRATORS,
}
ACTS = {
    "/settings/access/smtp/copy-server": ADMINISTRATORS,
    "/settings/access/smtp": ADMINISTRATORS,
    "/settings/access/smtp/link": ADMINISTRATORS,
    "/settings/access/smtp/unlink": ADMINISTRATORS,
    "/settings/access/smtp/get-token": OPERATORS,
    "/settings/access/smtp/cancel": OPERATORS,
    "/settings/access/smtp/delete": OPERATORS,
    "/settings/access/smtp/renew": OPERATORS,
    "/settings/access/smtp/test": OPERATORS,
    f"/settings/access/smtp/attempts/{'0' * 32}/redirect": OPERATORS,
    "/machines": ADMINISTRATORS,
    "/jobs": OPERATORS | ADMINISTRATORS,
    "/jobs/nowhere/stop": OPERATORS | ADMINISTRATORS,
    "/machines/nowhere/tags": ADMINISTRATORS,
    "/resume": ADMINISTRATORS,
    "/machines/nowhere/remove": ADMINISTRATORS,
    "/providers/nowhere/check": OPERATORS,
    "/providers/nowhere": ADMINISTRATORS,
    "/providers/nowhere/remove": ADMINISTRATORS,
    "/providers/nowhere/rename": ADMINISTRATORS,
    "/add-provider/google": ADMINISTRATORS,
    "/clients": ADMINISTRATORS,
    "/clients/nobody/key": ADMINISTRATORS,
    "/clients/nobody/grant": ADMINISTRATORS,
    "/clients/nobody/revoke": ADMINISTRATORS,
    "/clients/nobody/remove": ADMINISTRATORS,
    "/verify": AUDITORS,
    "/import": ADMINISTRATORS,
    "/import/apply": ADMINISTRATORS,
    "/relay-users": ADMINISTRATORS,
    "/relay-users/nobody/settings": ADMINISTRATORS,
    "/relay-users/nobody/networks": ADMINISTRATORS,
    "/relay-users/nobody/messages": ADMINISTRATORS,
    "/relay-users/nobody/password": ADMINISTRATORS,
    "/relay-users/nobody/remove": ADMINISTRATORS,
    "/administrators": ADMINISTRATORS,
    "/administrators/nobody/link": ADMINISTRATORS,
    "/administrators/nobody/roles": ADMINISTRATORS,
    "/administrators/nobody/machines": ADMINISTRATORS,
    "/administrators/nobody/remove": ADMINISTRATORS,
    "/administrators/nobody/second-factor": ADMINISTRATORS,
    "/account/second-factor": EVERYONE,
    "/account/second-factor/remove": EVERYONE,
}


class Browser:
    """Somebody's browser, as far as the service can tell."""

    def __init__(self, origin: str, name: str) -> None:
        self._origin = origin
        self._session = requests.Session()
        self._session.trust_env = False
        form = {"name": name, "password": PASSWORD.reveal(), "next": "/"}
        answer = self._session.post(f"{origin}/sign-in", data=form, allow_redirects=False, timeout=30)
        # A cookie for https alone, which browsers also send to the machine they are on.
        self._session.headers["Cookie"] = answer.headers["Set-Cookie"].partition(";")[0]
        self._session.cookies.clear()

    def get(self, path: str) -> requests.Response:
        return self._session.get(f"{self._origin}{path}", timeout=60)

    def post(self, path: str, **form: str) -> requests.Response:
        shown = re.search(r'name="csrf" value="([^"]+)"', self.get("/attention").text)
        assert shown
        data = {"csrf": shown[1], **form}
        return self._session.post(f"{self._origin}{path}", data=data, allow_redirects=False, timeout=60)


@pytest.fixture(scope="module")
def people(in_process: InProcessService) -> dict[str, Browser]:
    name = in_process.add_printer("access", "generic")
    in_process.service.relay_users.add("access", [name], ["192.0.2.7/32"], None, "administrator:admin")
    in_process.service.stored_providers.add("own", "google", {"client_id": "1"}, {}, "administrator:admin")
    return {name: Browser(in_process.origin, name) for name in PEOPLE}


def routes_of(service: Service) -> Iterator[Route]:
    for route in web_pages(service).routes:
        assert isinstance(route, Route)
        yield route


def test_every_route_of_the_pages_is_in_the_tables(in_process: InProcessService) -> None:
    known = {("GET", path.partition("?")[0]) for path in PAGES} | {("POST", path) for path in ACTS}
    unknown = [
        f"{method} {route.path}"
        for route in routes_of(in_process.service)
        for method in route.methods or ()
        if not any(method == one and route.path_regex.fullmatch(path) for one, path in known)
    ]
    # These show what another route has begun, or are files.
    assert sorted(unknown) == [
        "GET /administrators/{name}/remove",
        "GET /administrators/{name}/second-factor",
        "GET /clients/{name}/remove",
        "GET /jobs/{name}/state",
        "GET /relay-users/{name}/remove",
        "GET /settings/{machine}/{setting}/attempts/{attempt_id}",
        "GET /settings/{machine}/{setting}/attempts/{attempt_id}/state",
        "GET /static/{name}",
    ]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_shown_to_whom_it_may_be(people: dict[str, Browser], path: str) -> None:
    answers = {name: browser.get(path).status_code for name, browser in people.items()}
    assert answers == {name: 200 if name in PAGES[path] else 403 for name in people}


@pytest.mark.parametrize("path", ACTS)
def test_an_act_is_refused_to_whom_may_not(people: dict[str, Browser], path: str) -> None:
    refused = {name for name, browser in people.items() if browser.post(path).status_code == 403}
    assert refused == EVERYONE - ACTS[path]


@pytest.mark.parametrize("path", [*PAGES, f"/settings/access/smtp/attempts/{'0' * 32}", "/clients/x/remove"])
def test_nobody_sees_a_page_who_is_not_signed_in(in_process: InProcessService, path: str) -> None:
    answer = requests.get(f"{in_process.origin}{path}", allow_redirects=False, timeout=30)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/sign-in?next=/")


@pytest.mark.parametrize("path", ACTS)
def test_nobody_does_anything_who_is_not_signed_in(in_process: InProcessService, path: str) -> None:
    answer = requests.post(f"{in_process.origin}{path}", allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=/")


def test_a_page_shows_no_button_to_whom_it_is_no_use(people: dict[str, Browser]) -> None:
    setting = {name: browser.get("/settings/access/imap").text for name, browser in people.items()}
    assert {name for name, page in setting.items() if "/get-token" in page} == OPERATORS
    assert {name for name, page in setting.items() if ">Save<" in page} == ADMINISTRATORS
    assert {name for name, page in setting.items() if "/history" in page} == AUDITORS
    machine = {name: browser.get("/machines/access/panel").text for name, browser in people.items()}
    assert {name for name, page in machine.items() if 'href="/history?profile=access"' in page} == AUDITORS


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/settings/nowhere/smtp", 404, "nowhere/smtp"),
        ("/settings?as_of=tomorrow", 422, "tomorrow"),
        ("/settings?page=0", 422, "not one of ours"),
        ("/nowhere", 404, "no page /nowhere"),
        ("/settings/access", 404, "no page /settings/access"),
        ("/settings/access/smtp/attempts", 404, "no page"),
        ("/history?profile=nowhere", 404, "nowhere"),
        ("/settings/access/smtp/attempts/not-an-id", 422, "not one of ours"),
    ],
)
def test_what_can_t_be_shown_is_a_page_that_says_so(
    people: dict[str, Browser], path: str, status: int, said: str
) -> None:
    answer = people["admin"].get(path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert said in answer.text
    # Commands are for a terminal.
    assert "mailtoken " not in re.sub(r"<title>.*?</title>", "", answer.text)


def test_a_form_that_somebody_else_was_faster_than_changes_nothing(
    in_process: InProcessService, people: dict[str, Browser]
) -> None:
    edition = in_process.service.tokens.status("access/imap").edition
    assert people["anna"].post("/settings/access/imap", port="1993", edition=edition).status_code == 303
    late = people["anna"].post("/settings/access/imap", port="2993", edition=edition)
    assert late.status_code in (409, 412)
    assert in_process.service.tokens.status("access/imap").profile.port == 1993


def test_a_character_that_no_store_keeps_is_refused(people: dict[str, Browser]) -> None:
    refused = people["anna"].post("/clients", name="back\0up", profiles="access/smtp\0")
    assert refused.status_code == 422
    assert refused.headers["Content-Type"].startswith("text/html")


def test_who_acts_is_in_the_record(in_process: InProcessService, people: dict[str, Browser]) -> None:
    people["anna"].post("/settings/access/pop", sender="", check_interval="7")
    people["otto"].post("/settings/access/pop/get-token", flow="device")
    people["otto"].post("/settings/access/pop/cancel")
    last = [record.by for record in in_process.service.history.records("access/pop")][-3:]
    assert last == ["administrator:anna", "operator:otto", "operator:otto"]


def test_while_its_group_is_waiting_a_setting_that_is_not_filled_in_leads_to_the_sign_in(
    in_process: InProcessService, people: dict[str, Browser]
) -> None:
    in_process.add_printer("copier")
    in_process.service.settings.set_profile("copier/smtp-alert", {"provider": "", "account": ""}, "administrator:admin")
    assert "fill in:" in people["otto"].get("/settings/copier/smtp-alert/get-token").text
    started = in_process.service.tokens.request("copier/smtp-service", "device", "operator:otto")
    page = people["otto"].get("/settings/copier/smtp-alert/get-token").text
    assert f"/settings/copier/smtp-alert/attempts/{started.attempt_id}" in page
    assert "fill in:" not in page
    in_process.service.tokens.cancel("copier/smtp-service", "operator:otto")


def test_a_sign_in_that_ends_while_its_page_is_read_is_shown_as_ended(
    in_process: InProcessService, people: dict[str, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = in_process.add_printer("hasty")
    tokens, page_of = in_process.service.tokens, in_process.service.settings_page.setting
    started = tokens.request(name, "device", "operator:otto")
    assert started.user_code

    def ends_meanwhile(name: str) -> SettingOnPage:
        tokens.cancel(name, "operator:otto")
        return page_of(name)

    monkeypatch.setattr(in_process.service.settings_page, "setting", ends_meanwhile)
    address = f"/settings/{name}/attempts/{started.attempt_id}"
    page = people["otto"].get(address)
    assert (page.status_code, started.user_code in page.text) == (200, False)
    monkeypatch.undo()
    again = people["otto"].get(address)
    assert (again.status_code, started.user_code in again.text) == (200, False)


def test_a_first_page_of_a_large_fleet_is_under_100_kilobytes(
    in_process: InProcessService, people: dict[str, Browser]
) -> None:
    machine = "a-name-as-long-as-names-of-machines-are-in-practice"
    account = f"{'multifunction-printer-' * 2}@mail.department.contoso.com"
    for number in range(MACHINES_PER_PAGE + 1):
        in_process.add_printer(f"{machine}-{number:02}", account=account)
    for number in range(MACHINES_PER_PAGE):
        for setting in ("smtp-service", "pop-internet-fax", "pop-email-print", "pop-email-status"):
            in_process.service.tokens.request(f"{machine}-{number:02}/{setting}", "device", "operator:otto")
    page = people["admin"].get(f"/machines?q={machine}")
    assert page.text.count('scope="row"') == MACHINES_PER_PAGE + 1
    assert len(page.content) < 100_000
    page = people["admin"].get(f"/settings?q={machine}")
    assert page.text.count('class="machine"') == MACHINES_PER_PAGE
    assert page.text.count("Waiting for authorisation") > 4 * MACHINES_PER_PAGE
    assert len(page.content) < 100_000
    for number in range(MACHINES_PER_PAGE):
        for setting in ("smtp-service", "pop-internet-fax", "pop-email-print", "pop-email-status"):
            in_process.service.tokens.cancel(f"{machine}-{number:02}/{setting}", "operator:otto")


def test_an_unknown_page_leads_to_the_sign_in_and_json_stays_under_the_api(in_process: InProcessService) -> None:
    answer = requests.get(f"{in_process.origin}/nowhere", allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=/nowhere")
    api = requests.get(f"{in_process.origin}/api/v1/nowhere", allow_redirects=False, timeout=30)
    assert api.headers["Content-Type"] == "application/problem+json"


def test_a_button_whose_state_is_over_says_so_on_the_page_of_the_setting(
    in_process: InProcessService, people: dict[str, Browser]
) -> None:
    name = in_process.add_printer("over-already", "generic")
    page = f"/settings/{name}"
    deleted = people["otto"].post(f"{page}/delete")
    assert deleted.status_code == 409
    assert "there is nothing to delete" in deleted.text
    assert ">Get Token<" in deleted.text
    cancelled = people["otto"].post(f"{page}/cancel")
    assert cancelled.headers["Location"] == f"{page}?done=cancelled_before"
    late = people["otto"].post(f"{page}/attempts/{'0' * 32}/redirect", redirected_to="http://localhost/?state=x&code=y")
    assert late.status_code == 303
    in_process.get_token(name)
    in_process.provider.revoke_account(SCAN)
    refused = people["otto"].post(f"{page}/renew")
    assert refused.status_code == 424
    assert "Token update failed" in refused.text
    assert "Invalid" in refused.text

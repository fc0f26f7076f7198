"""The manual's page, played by a person with a real browser, end to end against the practice provider."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect
from variants import OPPOSITE_VARIANTS
from web_service import FAX, PASSWORD, SCAN, InProcessService

from domain.attention import Urgency
from domain.plan import Wanted
from domain.secret import Secret

# One browser for all of them.
pytestmark = pytest.mark.needs("chromium")

NewContext = Callable[..., BrowserContext]
AXE = (Path(__file__).parent / "axe-core" / "axe.min.js").read_text()
# What is right is not told: to carry it here takes longer than to find it. The pages have no film or sound to load.
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
    "preload": False,
}


class Visitor:
    """Somebody who looks at every page they come to: keeps a picture, and has axe-core look for what hinders people."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def look(self, name: str) -> None:
        """Keep a picture of all of the page; nothing on it may hinder anybody or need a wider window."""
        keep_picture(self.page, self._folder / f"{name}.png")
        width = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0, f"{name} is {width} pixels too wide"
        assert hindrances(self.page) == [], name

    def go(self, address: str, name: str) -> None:
        """Go to a page, and look."""
        answer = self.page.goto(address)
        assert answer
        assert answer.ok, (address, answer.status)
        self.look(name)


def keep_picture(page: Page, path: Path) -> None:
    """Keep a picture of all of the page, if somebody wants pictures."""
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=path, full_page=True)


def hindrances(page: Page) -> list[Any]:
    """What axe-core finds, by rule and element."""
    # Not as a <script>: the pages' policy allows none but ours.
    page.evaluate(AXE)
    found = page.evaluate("rules => axe.run(document, rules).then(found => found.violations)", RULES)
    return [(one["id"], node["html"], node["failureSummary"]) for one in found for node in one["nodes"]]


def token(page: Page) -> Any:
    """What is displayed under "Token"."""
    return page.locator(".card .state").first


def approve(page: Page, account: str = SCAN) -> None:
    """Sign in at the provider's page that the link leads to, as the account's person."""
    with page.expect_popup() as opened:
        page.locator(".how a").click()
    provider = opened.value
    provider.get_by_label(account).check()
    provider.get_by_role("button", name="Approve").click()
    provider.wait_for_load_state()
    provider.close()


@pytest.mark.parametrize(("width", "colours"), OPPOSITE_VARIANTS)
def test_an_administrator_gets_tests_and_deletes_a_token(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    name = f"lobby-{width}"
    page = new_context(width, color_scheme=colours).new_page()
    visitor = Visitor(page, screenshots / f"{width}-{colours}")
    page.goto("/settings")
    page.get_by_role("link", name="Add a machine").first.click()
    visitor.look("add-machine")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    visitor.look("settings-of-a-new-machine")

    page.get_by_role("link", name="smtp-service", exact=True).click()
    page.get_by_label("Primary Server").fill("localhost")
    page.get_by_label("Port Number").fill("70000")
    page.get_by_label("Sender Name").fill("Scanner in the lobby")
    page.get_by_label("Sender Address").fill(SCAN)
    page.get_by_label("Provider").select_option("contoso")
    page.get_by_label("Account Name").fill(SCAN)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Port Number")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Sender Name")).to_have_value("Scanner in the lobby")
    visitor.look("setting-with-a-problem")
    page.get_by_label("Port Number").fill(str(in_process.mail.smtp_port))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    expect(token(page)).to_have_text("Not Retrieved")
    visitor.look("setting")

    page.get_by_role("link", name="Get Token").click()
    for linked in ("smtp-alert", "smtp-quick", "smtp-initial"):
        expect(page.get_by_text(f"{name}/{linked}")).to_be_visible()
    visitor.look("get-token")
    page.get_by_role("button", name="OK").click()
    expect(page.locator("#code")).to_have_text(in_process.provider.issued_user_codes[-1])
    expect(page.locator("[data-countdown]")).to_have_text(re.compile(r"^1[45]:\d\d$"))
    visitor.look("sign-in")
    approve(page)
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()
    visitor.look("token-is-in")

    page.get_by_role("link", name="Connection test").click()
    visitor.look("test")
    page.get_by_label("Send a test message to").fill("somebody@contoso.com")
    page.get_by_role("button", name="OK").click()
    expect(page.locator(".verdict.good")).to_be_visible()
    visitor.look("test-done")

    page.get_by_role("link", name="Back to the setting").click()
    expect(token(page)).to_have_text("Retrieved")
    expect(page.get_by_label("Account Name")).to_be_disabled()
    visitor.look("setting-retrieved")
    page.get_by_role("button", name="Renew").click()
    expect(page.get_by_role("status")).to_have_text("The token is renewed.")
    visitor.go("/settings", "settings")
    visitor.go(f"/history?profile={name}/smtp-service", "history")
    visitor.go("/history", "history-of-everything")
    visitor.go("/attention", "attention")
    visitor.go("/providers", "providers")
    page.get_by_role("button", name="Check contoso").click()
    expect(page.get_by_role("heading", name=re.compile("seen from outside"))).to_be_visible()
    visitor.look("provider-check")

    page.goto(f"/settings/{name}/smtp-quick")
    page.get_by_role("link", name="Delete").click()
    visitor.look("delete")
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("status")).to_contain_text("The token is deleted")
    expect(token(page)).to_have_text("Not Retrieved")
    assert in_process.service.tokens.status(f"{name}/smtp-service").token.status.value == "Not Retrieved"
    visitor.look("deleted")


def test_somebody_else_who_signs_in_gets_no_token_and_the_page_says_who(
    in_process: InProcessService, page: Page
) -> None:
    name = in_process.add_printer("wrong-person")
    page.goto(f"/settings/{name}/get-token")
    page.get_by_role("button", name="OK").click()
    approve(page, FAX)
    expect(page.get_by_role("heading", name="There is no new token")).to_be_visible()
    expect(page.get_by_text(FAX)).to_be_visible()
    expect(page.get_by_text(SCAN)).to_be_visible()


def test_a_retrieved_setting_without_a_server_says_so_and_one_button_copies_it(
    in_process: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    settings = in_process.service.settings
    in_process.get_token(in_process.add_printer("no-server"))
    for width, colours in OPPOSITE_VARIANTS:
        visitor = Visitor(new_context(width, color_scheme=colours).new_page(), screenshots / f"{width}-{colours}")
        page = visitor.page
        for setting in ("smtp-alert", "smtp-quick"):
            settings.set_profile(f"no-server/{setting}", {"server": "", "port": ""}, "administrator:admin")
        visitor.go("/settings?q=no-server", "settings-without-server")
        row = page.locator("li", has=page.get_by_role("link", name="smtp-quick"))
        expect(row).to_contain_text("Retrieved, server missing")
        expect(page.locator(".token").first).to_contain_text("renews itself")
        row.get_by_role("button", name="Copy from smtp-service no-server/smtp-quick").click()
        expect(page.get_by_role("status")).to_have_text("Saved.")
        page.goto("/settings/no-server/smtp-alert")
        expect(page.locator(".token")).to_contain_text("Retrieved, server missing")
        expect(page.locator(".token")).to_contain_text(re.compile(r"renews itself \(access token: in \d+ min\)"))
        visitor.look("setting-without-server")
        page.get_by_role("button", name="Copy from smtp-service").click()
        expect(page.get_by_label("Port Number")).to_have_value(str(in_process.mail.smtp_port))
        expect(page.locator(".lacking")).to_have_count(0)


def test_one_cause_is_one_box_with_its_settings_under_it_and_soon_is_not_now(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = in_process.service
    for machine in ("secret-1", "secret-2"):
        in_process.get_token(in_process.add_printer(machine))
    ends = {"contoso": service.clock.now() + timedelta(days=21)}
    monkeypatch.setattr(service.attention, "_client_secrets_expire_at", ends)
    for width, colours in OPPOSITE_VARIANTS:
        visitor = Visitor(new_context(width, color_scheme=colours).new_page(), screenshots / f"{width}-{colours}")
        visitor.go("/attention", "attention-one-cause")
        counts = service.attention_query.counts()
        box = visitor.page.locator("article", has_text="client secret is about to expire")
        expect(box).to_have_count(1)
        expect(box).to_contain_text("Soon:")
        expect(box).to_contain_text(f"Settings: {counts.settings[Urgency.SOON]}")
        expect(visitor.page.locator("#items-heading")).to_have_text(
            f"Causes that need a person: {sum(counts.causes.values())}"
        )
        visitor.go("/settings?q=secret-", "settings-one-cause")
        expect(visitor.page.locator(".soon", has_text="One cause for several settings")).to_have_count(2)
        expect(visitor.page.locator(".alert")).to_have_count(0)


def test_what_needs_a_person_is_said_with_what_to_do(
    in_process: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    name, account = in_process.add_printer("revoked", account=FAX), FAX
    pages = {colours: new_context(color_scheme=colours).new_page() for colours in ("light", "dark")}
    page = pages["light"]
    for setting in (name, "revoked/pop-internet-fax"):
        page.goto(f"/settings/{setting}/get-token")
        page.get_by_role("button", name="OK").click()
        approve(page, account)
        expect(page.get_by_role("heading", name="The token is in")).to_be_visible()
    visitor = Visitor(page, screenshots / "attention")
    page.goto(f"/settings/{name}/delete")
    expect(page.get_by_text("could end the tokens of")).to_be_visible()
    visitor.look("delete-spares")
    page.get_by_role("link", name="Cancel").click()
    in_process.provider.revoke_account(account)
    page.get_by_role("button", name="Renew").click()
    expect(page.get_by_role("alert")).to_contain_text("Token update failed")
    visitor.look("renewal-failed")
    for colours, page in pages.items():
        visitor = Visitor(page, screenshots / "attention")
        visitor.go(f"/settings/{name}", f"invalid-{colours}")
        expect(token(page)).to_have_text("Invalid")
        visitor.go("/settings?q=revoked", f"settings-{colours}")
        visitor.go("/attention", f"attention-{colours}")
        expect(page.locator(".attention-item", has_text=name)).to_contain_text("get the token again")
        visitor.go(f"/history?profile={name}", f"history-{colours}")


def test_an_application_gets_its_token_itself_and_there_is_nothing_to_do(
    in_process: InProcessService, page: Page, screenshots: Path
) -> None:
    in_process.add_printer("by-itself", "generic")
    in_process.service.settings.set_profile("by-itself/imap", {"provider": "robot"}, "administrator:admin")
    visitor = Visitor(page, screenshots / "app-only")
    page.goto("/settings/by-itself/imap/get-token")
    page.get_by_label("Nobody signs in").check()
    visitor.look("get-token")
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()
    page.goto("/providers")
    expect(page.get_by_text("It refuses client secret 1")).to_be_visible()
    visitor.look("providers")


def begin_in_browser(page: Page, name: str) -> Page:
    """Begin to get a token with the browser; the provider's page."""
    page.goto(f"/settings/{name}/get-token")
    page.get_by_label("With this browser").check()
    page.get_by_role("button", name="OK").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Go to the provider").click()
    opened.value.get_by_label(SCAN).check()
    return opened.value


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_browser_on_the_machine_of_the_service_comes_back_from_the_provider(
    in_process: InProcessService, new_context: NewContext, host: str
) -> None:
    name = in_process.add_printer(f"comes-back-{host.replace('.', '-')}", "generic")
    page = new_context(base_url=in_process.origin.replace("localhost", host), storage_state=None).new_page()
    sign_in(page)
    provider = begin_in_browser(page, name)
    expect(page.get_by_text("Then come back to this page")).to_be_visible()
    provider.get_by_role("button", name="Approve").click()
    if host == "localhost":
        expect(token(provider)).to_have_text("Retrieved")
        assert provider.url.endswith(f"/settings/{name}")
    else:
        # The session is that of another name of this machine.
        expect(provider.get_by_text("The sign-in is passed on")).to_be_visible()
        assert hindrances(provider) == []
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()
    answer = page.goto("/?state=of-another&code=x")
    assert answer
    assert answer.status == 422
    expect(page.get_by_text("it belongs to no sign-in that is under way")).to_be_visible()


def sign_in(page: Page) -> None:
    page.goto("/sign-in")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD.reveal())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Home")).to_be_visible()


def test_a_browser_that_ended_nowhere_is_helped_by_pasting_where_it_ended(
    in_process: InProcessService, new_context: NewContext
) -> None:
    name = in_process.add_printer("by-browser", "generic")
    elsewhere = in_process.origin.replace("localhost", "console.localhost")
    page = new_context(base_url=elsewhere, storage_state=None).new_page()
    sign_in(page)
    provider = begin_in_browser(page, name)
    with provider.expect_request(re.compile("^http://localhost/")) as ended:
        provider.get_by_role("button", name="Approve").click()
    provider.close()
    page.get_by_label("Paste the address").fill("http://localhost/?code=x&state=of-another")
    page.get_by_role("button", name="Pass it on").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Paste the address").fill(ended.value.url)
    page.get_by_role("button", name="Pass it on").click()
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()


def test_pages_follow_what_happens_elsewhere(in_process: InProcessService, new_context: NewContext) -> None:
    name = in_process.add_printer("followed", "generic")
    tokens = in_process.service.tokens
    tokens.request(name, "device", "operator:otto")
    setting, listed = new_context().new_page(), new_context().new_page()
    with setting.expect_request("**/api/v1/events"):
        setting.goto(f"/settings/{name}")
    with listed.expect_request("**/api/v1/events"):
        listed.goto("/settings?q=followed/smtp")
    expect(setting.get_by_role("button", name="Cancel the sign-in")).to_be_visible()
    setting.get_by_label("Primary Server").fill("typed.contoso.com")
    tokens.cancel(name, "operator:otto")
    expect(setting.get_by_role("button", name="Cancel the sign-in")).to_have_count(0)
    expect(setting.get_by_role("link", name="Get Token")).to_be_visible()
    expect(setting.get_by_label("Primary Server")).to_have_value("typed.contoso.com")
    expect(listed.locator(".state").first).to_have_text("Not Retrieved")
    in_process.get_token(name)
    expect(listed.locator(".state").first).to_have_text("Retrieved")
    expect(setting.get_by_role("button", name="Renew")).to_be_visible()


def test_what_happens_between_a_page_and_its_stream_is_shown(
    in_process: InProcessService, new_context: NewContext
) -> None:
    name = in_process.add_printer("in-between", "generic")
    tokens = in_process.service.tokens
    tokens.request(name, "device", "operator:otto")
    page = new_context().new_page()

    def cancel_first(route: Route) -> None:
        tokens.cancel(name, "operator:otto")
        route.continue_()

    page.route("**/api/v1/events", cancel_first, times=1)
    page.goto(f"/settings/{name}")
    expect(page.get_by_role("link", name="Get Token")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel the sign-in")).to_have_count(0)


def test_every_wrong_field_is_told_at_its_field_and_keeps_what_was_typed(
    in_process: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    in_process.add_printer("wrong-fields", "generic")
    visitor = Visitor(new_context().new_page(), screenshots / "wide-light")
    page = visitor.page
    page.goto("/settings/wrong-fields/smtp")
    for label, value in (("Port Number", "70000"), ("Timeout (seconds)", "0"), ("Sender Address", "nobody")):
        page.get_by_label(label).fill(value)
    page.get_by_label("Sender Name").fill("Kept")
    page.get_by_role("button", name="Save").click()
    for label, value in (("Port Number", "70000"), ("Timeout (seconds)", "0"), ("Sender Address", "nobody")):
        field = page.get_by_label(label)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_value(value)
        expect(field).to_have_accessible_description(re.compile("."))
    expect(page.get_by_label("Sender Name")).to_have_value("Kept")
    visitor.look("several-wrong-fields")


def test_a_second_tab_keeps_its_input_and_shows_the_value_of_the_other(
    in_process: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    in_process.add_printer("two-tabs", "generic")
    visitor = Visitor(new_context().new_page(), screenshots / "wide-light")
    page = visitor.page
    page.goto("/settings/two-tabs/imap")
    page.get_by_label("Port Number").fill("2993")
    in_process.service.settings.set_profile("two-tabs/imap", {"port": "1993"}, "administrator:anna")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("somebody else has changed it meanwhile")
    port = page.get_by_label("Port Number")
    expect(port).to_have_value("2993")
    expect(port).to_have_accessible_description(re.compile("Somebody else has filled in: 1993"))
    expect(page.locator(".theirs")).to_have_count(1)
    visitor.look("second-tab")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    assert in_process.service.tokens.status("two-tabs/imap").profile.port == 2993


def test_what_was_typed_outlives_a_session_that_is_over_and_is_not_sent_by_itself(
    in_process: InProcessService, new_context: NewContext
) -> None:
    in_process.add_printer("outlived", "generic")
    context = new_context(storage_state=None)
    page = context.new_page()
    sign_in(page)
    page.goto("/settings/outlived/smtp")
    page.get_by_label("Sender Name").fill("Typed before")
    page.get_by_label("Enable SSL/TLS").select_option("implicit")
    context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD.reveal())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_contain_text("What you typed before you signed in is here again")
    expect(page.get_by_label("Sender Name")).to_have_value("Typed before")
    expect(page.get_by_label("Enable SSL/TLS")).to_have_value("implicit")
    assert in_process.service.tokens.status("outlived/smtp").profile.settings.sender_name is None
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    page.goto("/machines/add")
    page.get_by_label("Name", exact=True).fill("outlived")
    page.get_by_role("radio", name=re.compile("generic")).check()
    page.get_by_role("button", name="Add", exact=True).click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_value("outlived")
    expect(name).to_have_accessible_description(re.compile("already"))
    expect(page.get_by_role("radio", name=re.compile("generic"))).to_be_checked()


def test_no_secret_that_was_typed_is_kept_by_the_browser(new_context: NewContext) -> None:
    context = new_context(storage_state=None)
    page = context.new_page()
    sign_in(page)
    page.goto("/add-provider/microsoft")
    page.locator("[name=name]").fill("typed")
    page.locator("[name=client_secret]").fill("typed-secret-1")
    page.get_by_text("More fields").click()
    page.locator("[name=certificate]").fill("typed-secret-2")
    context.clear_cookies()
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    kept = page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")
    assert ("typed" in kept, "typed-secret" in kept) == (True, False)


def test_closing_the_page_changes_nothing(in_process: InProcessService, new_context: NewContext) -> None:
    name = in_process.add_printer("closed")
    page = new_context().new_page()
    page.goto(f"/settings/{name}/get-token")
    page.get_by_role("button", name="OK").click()
    code = page.locator("#code").text_content()
    page.close()
    page = new_context().new_page()
    page.goto(f"/settings/{name}")
    expect(token(page)).to_have_text("Waiting for authorisation")
    page.get_by_role("link", name="Continue to sign in").click()
    expect(page.locator("#code")).to_have_text(code or "")
    page.get_by_role("button", name="Cancel the sign-in").click()
    expect(token(page)).to_have_text("Not Retrieved")


def test_a_page_that_waits_goes_to_the_sign_in_page_once_its_session_is_over(
    in_process: InProcessService, new_context: NewContext
) -> None:
    name = in_process.add_printer("session-over", "generic")
    context = new_context(storage_state=None)
    page = context.new_page()
    page.goto(f"/settings/{name}/get-token")
    page.get_by_label("Name").fill("otto")
    page.get_by_label("Password").fill(PASSWORD.reveal())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="OK").click()
    expect(page.locator("#code")).to_be_visible()
    other = context.new_page()
    other.goto("/settings")
    other.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_label("Password")).to_be_visible()
    in_process.service.tokens.cancel(name, "operator:otto")


@pytest.mark.parametrize("width", [pytest.param("wide", marks=pytest.mark.thorough), "narrow"])
def test_every_page_is_read_and_a_token_obtained_without_javascript(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str
) -> None:
    name = in_process.add_printer(f"plain-{width}")
    page = new_context(width, java_script_enabled=False).new_page()
    folder = screenshots / f"{width}-without-javascript"
    folder.mkdir(parents=True, exist_ok=True)
    page.goto(f"/settings?q=plain-{width}")
    keep_picture(page, folder / "settings.png")
    page.get_by_role("link", name="smtp-service", exact=True).click()
    page.get_by_role("link", name="Get Token").click()
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("button", name="Copy")).to_be_hidden()
    keep_picture(page, folder / "sign-in.png")
    approve(page)
    while page.get_by_role("link", name="Look again").is_visible():
        page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()
    for address in ("/attention", "/history", f"/history?profile={name}", "/providers", f"/settings/{name}"):
        answer = page.goto(address)
        assert answer
        assert answer.ok
        expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_somebody_signs_in_chooses_a_password_by_link_and_signs_out(
    in_process: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    page = new_context().new_page()
    visitor = Visitor(page, screenshots / "people")
    page.goto("/administrators")
    page.get_by_label("Name", exact=True).fill("nina")
    page.get_by_role("button", name="Add", exact=True).click()
    link = page.locator("#link").text_content()
    assert link
    visitor.look("administrators")
    visitor = Visitor(new_context(storage_state=None).new_page(), screenshots / "people")
    page = visitor.page
    visitor.go(link.replace("127.0.0.1", "localhost"), "setup")
    page.get_by_label("Password", exact=True).fill("a long enough password")
    page.get_by_label("The password once more").fill("another one than that")
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visitor.look("setup-with-a-problem")
    page.get_by_label("Password", exact=True).fill("a long enough password")
    page.get_by_label("The password once more").fill("a long enough password")
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    expect(page.get_by_role("link", name="Administrators")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    visitor.look("sign-in")
    page.goto("/attention")
    page.get_by_label("Name").fill("nina")
    page.get_by_label("Password").fill("a wrong password it is")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Attention")).to_be_visible()


@pytest.mark.parametrize(("width", "colours"), OPPOSITE_VARIANTS)
def test_somebody_sets_up_a_second_factor_signs_in_with_it_and_removes_it(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    name = f"factor-{width}"
    in_process.service.administrators.add(name, ["operator"], PASSWORD, "service")
    visitor = Visitor(
        new_context(width, color_scheme=colours, storage_state=None).new_page(), screenshots / f"second-factor-{width}"
    )
    page = visitor.page

    def sign_in() -> None:
        page.goto("/sign-in?next=/account")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD.reveal())
        page.get_by_role("button", name="Sign in").click()

    sign_in()
    visitor.look("account")
    page.get_by_role("link", name="Set up a second factor").click()
    key = (page.locator("#key").text_content() or "").replace(" ", "")
    visitor.look("set-up")
    page.get_by_label("Enter the code").fill("000000x")
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visitor.look("set-up-with-a-problem")
    page.get_by_label("Enter the code").fill(pyotp.TOTP(key).now())
    page.get_by_role("button", name="Set up").click()
    codes = (page.locator("#codes").text_content() or "").split()
    visitor.look("recovery-codes")
    page.get_by_role("button", name="Sign out").click()
    sign_in()
    visitor.look("code")
    page.get_by_label("Code").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visitor.look("code-with-a-problem")
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Sign in").click()
    visitor.look("account-with-a-second-factor")
    admin = Visitor(new_context(width, color_scheme=colours).new_page(), screenshots / f"second-factor-{width}")
    admin.go("/administrators", "administrators")
    admin.go(f"/administrators/{name}/second-factor", "reset")
    page.get_by_label("Code").fill(codes[1])
    page.get_by_role("button", name="Remove the second factor").click()
    expect(page.get_by_role("status")).to_have_text("The second factor is removed.")


def test_a_client_gets_a_key_that_is_shown_once(in_process: InProcessService, page: Page, screenshots: Path) -> None:
    name = in_process.add_printer("for-a-client")
    visitor = Visitor(page, screenshots / "people")
    page.goto("/clients")
    page.get_by_label("Name", exact=True).fill("backup")
    page.locator("#granted").fill(name)
    page.get_by_role("button", name="Add", exact=True).click()
    key = page.locator("#key").text_content() or ""
    visitor.look("clients")
    assert in_process.service.clients.owner_of(Secret(key))
    page.goto("/clients")
    assert key not in page.content()
    page.get_by_role("link", name="Remove backup").click()
    visitor.look("client-remove")
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("status")).to_have_text("The client is removed.")
    assert in_process.service.clients.owner_of(Secret(key)) is None


def test_a_client_of_a_file_is_shown_without_a_key_and_is_given_one(
    in_process: InProcessService, page: Page, screenshots: Path
) -> None:
    name = in_process.add_printer("for-a-client-of-a-file")
    in_process.service.applier.apply(Wanted(clients={"of-a-file": [name]}), "administrator:admin", None)
    visitor = Visitor(page, screenshots / "people")
    page.goto("/clients")
    card = page.locator("section.card", has=page.get_by_role("heading", name="of-a-file"))
    expect(card).to_contain_text("no key yet")
    expect(card.get_by_text("Key expires")).to_have_count(0)
    card.get_by_text("Change").click()
    visitor.look("client-without-a-key")
    card.get_by_role("button", name="Make its key").click()
    owner = in_process.service.clients.owner_of(Secret(page.locator("#key").text_content() or ""))
    assert owner
    assert (owner.name, owner.profiles) == ("of-a-file", frozenset({name}))
    page.goto("/clients")
    expect(card).not_to_contain_text("no key yet")
    in_process.service.clients.remove("of-a-file", "administrator:admin")


def test_everything_is_reached_with_the_keyboard(in_process: InProcessService, page: Page) -> None:
    name = in_process.add_printer("by-keyboard")
    page.goto(f"/settings/{name}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Get Token":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Get Token")).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "OK":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#code")).to_be_visible()


def test_a_page_asks_nobody_but_this_service(in_process: InProcessService, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    name = in_process.add_printer("alone")
    page.goto("/settings")
    page.goto(f"/settings/{name}/get-token")
    page.get_by_role("button", name="OK").click()
    expect(page.locator(".qr")).to_be_visible()
    assert {address for address in asked if not address.startswith(in_process.origin)} == set()


def test_any_page_is_shown_as_of_an_instant(
    in_process: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    name = in_process.add_printer("as-of")
    created = in_process.service.clock.now()
    for width, colours in OPPOSITE_VARIANTS:
        page = new_context(width, timezone_id="Asia/Kolkata", color_scheme=colours).new_page()
        visitor = Visitor(page, screenshots / f"{width}-{colours}")
        page.goto(f"/settings/{name}")
        page.get_by_text("As of…").click()
        field = page.get_by_label("Instant, in your time zone (Asia/Calcutta)")
        inside(field, page.locator(".as-of form"))
        field.fill("2040-01-01T10:00")
        page.get_by_role("button", name="Show").click()
        # The instant has not come: the page is that of now, and the problem is at the field.
        expect(field).to_have_accessible_description("This instant has not come yet: choose an instant that is past")
        expect(field).to_have_value("2040-01-01T10:00")
        expect(page.get_by_role("link", name="Get Token")).to_be_visible()
        visitor.look("as-of-the-future")
        page.goto(f"/settings/{name}?as_of={(created + timedelta(microseconds=1)).isoformat().replace('+', '%2B')}")
        expect(page.get_by_role("status")).to_contain_text("Alarms of the running service are of now, and left out.")
        expect(page.get_by_role("status")).to_contain_text("GMT+5:30")
        expect(page.get_by_role("link", name="Get Token")).to_have_count(0)
        expect(page.get_by_label("Primary Server")).to_be_disabled()
        visitor.look("as-of-an-instant")
        page.get_by_role("link", name="Back to now").click()
        expect(page.get_by_role("link", name="Get Token")).to_be_visible()


def inside(part: Locator, whole: Locator) -> None:
    """The part's box must not stand out of the other's."""
    box, edge = part.bounding_box(), whole.bounding_box()
    assert box
    assert edge
    assert edge["x"] <= box["x"]
    assert box["x"] + box["width"] <= edge["x"] + edge["width"]

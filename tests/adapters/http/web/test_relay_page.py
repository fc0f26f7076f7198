"""The page Relay users: who may use the relay, the sheet for the panel with its password shown once, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from test_web_journey import NewContext, Visitor
from variants import VARIANTS
from web_service import InProcessService

from adapters.http.web.relay_panel import panels
from domain.catalogue import Protocol
from domain.errors import NotPermitted
from domain.secret import Secret
from infrastructure.access.relay_refusals import ClientRefusal
from infrastructure.access.relay_users import ListedUser
from infrastructure.config.tables import RelayTable

ADMIN = "administrator:admin"
pytestmark = pytest.mark.needs("chromium")


def add_user(page: Page, name: str, profiles: str, networks: str = "") -> None:
    page.goto("/relay-users")
    page.get_by_label("Name", exact=True).fill(name)
    page.locator("#profiles-new").fill(profiles)
    page.locator("#networks-new").fill(networks)
    page.get_by_role("button", name="Add", exact=True).click()


@pytest.mark.parametrize(("width", "colours"), VARIANTS)
def test_a_printer_gets_a_password_that_is_shown_once_on_its_sheet(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    user = f"printer-{width}-{colours}"
    setting = in_process.add_printer(f"of-{user}", "generic")
    page = new_context(width, color_scheme=colours).new_page()
    visitor = Visitor(page, screenshots / "relay-users" / f"{width}-{colours}")
    visitor.go("/relay-users", "empty")
    add_user(page, user, setting)
    expect(page.get_by_role("heading", name=f"What {user} types at the panel")).to_be_visible()
    visitor.look("sheet")
    password = page.locator("dt", has_text="Password").locator("+ dd").text_content() or ""
    with pytest.raises(NotPermitted):
        in_process.service.relay_users.admit(Protocol.SMTP, "192.0.2.1", user, Secret("wrong"))
    assert in_process.service.relay_users._by_password(user, Secret(password))
    page.goto(f"/relay-users/{user}/sheet")
    assert password not in page.content()
    expect(page.get_by_text("as it was given to you")).to_be_visible()
    page.goto("/relay-users")
    page.get_by_role("link", name=f"Remove {user}").click()
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("status")).to_have_text("The relay user is removed.")
    assert user not in [one.name for one in in_process.service.relay_users.users()]


def test_what_is_wrong_is_said_and_what_was_typed_stays(in_process: InProcessService, page: Page) -> None:
    add_user(page, "no good/name", "nowhere/smtp", "10.0.0.0/8")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.get_by_label("Name", exact=True).input_value() == "no good/name"
    assert page.locator("#networks-new").input_value() == "10.0.0.0/8"


def test_a_relay_user_is_changed(in_process: InProcessService, page: Page) -> None:
    first, second = (in_process.add_printer(name, "generic") for name in ("changed-first", "changed-second"))
    in_process.service.relay_users.add("changed", [first], [], Secret("a password of its own"), ADMIN)
    for label, value in (
        ("Settings", second),
        ("Networks", "192.0.2.128/25"),
        ("Sender of all messages", "all@contoso.com"),
    ):
        page.goto("/relay-users")
        card = page.locator("section.card", has=page.get_by_role("heading", name="changed", exact=True))
        card.locator("summary").click()
        form = card.locator("form", has=page.get_by_label(label))
        form.get_by_label(label).fill(value)
        form.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_have_text("The relay user is changed.")
    user = in_process.service.relay_users.find("changed")
    assert (user.profiles, user.networks, user.sender) == (
        {Protocol.SMTP: second},
        ("192.0.2.128/25",),
        "all@contoso.com",
    )
    in_process.service.relay_users.remove("changed", ADMIN)


def test_the_last_refusals_say_what_to_set(in_process: InProcessService, page: Page, screenshots: Path) -> None:
    at = "2026-03-02T08:00:00+00:00"
    commands = ("EHLO printer", "AUTH PLAIN ***")
    refusal = ClientRefusal(at, "192.0.2.9", "smtp", "press", None, commands, "wrong_password", "535")
    in_process.service.relay_refusals.add([refusal])
    Visitor(page, screenshots / "relay-users").go("/relay-users", "refusals")
    shown = page.locator(".refusal", has_text="192.0.2.9")
    expect(shown).to_contain_text("type the relay user's name and password again")
    shown.get_by_text("What it said").click()
    expect(shown.get_by_text("EHLO printer")).to_be_visible()


def test_the_panel_names_the_places_to_connect_to(in_process: InProcessService) -> None:
    setting = in_process.add_printer("on-a-panel", "generic")
    profile = in_process.service.tokens.status(setting).profile
    user = ListedUser("press", {Protocol.SMTP: setting}, ("10.0.0.0/8",), has_password=False)
    table = RelayTable(
        listen=("smtps://0.0.0.0:2465", "smtp://127.0.0.1:2587", "pop3://0.0.0.0:2110"),
        certificate_file="relay.crt",
        key_file="relay.key",
    )
    shown = panels(user, [profile], table, "mail.contoso.com", None)
    assert [dict(panel.lines) for panel in shown] == [
        {"Server": server, "Port": port, "Security": security, "Authentication": "off: 10.0.0.0/8", "Sender": sender}
        for server, port, security, sender in (
            ("mail.contoso.com", "2465", "SSL/TLS", "scan@contoso.com"),
            ("127.0.0.1", "2587", "STARTTLS", "scan@contoso.com"),
        )
    ]
    assert [panel.only_here for panel in shown] == [False, True]

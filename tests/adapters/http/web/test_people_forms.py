"""The forms of clients, administrators and relay users: every fault at its field, nothing typed is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from test_web_journey import NewContext, Visitor, sign_in
from web_service import InProcessService

from adapters.http.web import access_pages
from domain.secret import Secret

pytestmark = pytest.mark.needs("chromium")

ADMIN = "administrator:admin"


_NAMED = re.compile(r"(^|[.] )(administrator|client|expires|machines|network|profiles|roles|sender|user): ")


def faulty(field: Locator, value: str, told: str) -> None:
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value(value)
    expect(field).to_have_accessible_description(re.compile(re.escape(told)))
    # The field stands beside it, and is not named again.
    expect(field).not_to_have_accessible_description(_NAMED)


@pytest.mark.parametrize(("width", "colours"), [("narrow", "dark"), ("wide", "light")])
def test_every_fault_of_a_new_client_is_at_its_field(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    page = new_context(width, color_scheme=colours).new_page()
    page.goto("/clients")
    for place, value in (("#name", "no good"), ("#granted", "nowhere/smtp"), ("#expires", "2020-01-01")):
        page.locator(place).fill(value)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Nothing was saved: correct each field that is marked.")
    faulty(page.locator("#name"), "no good", "no good")
    faulty(page.locator("#granted"), "nowhere/smtp", "nowhere/smtp")
    faulty(page.locator("#expires"), "2020-01-01", "2020-01-02")
    Visitor(page, screenshots / "people" / f"{width}-{colours}").look("client-with-problems")


def test_a_fault_of_a_client_that_is_there_is_at_its_field(in_process: InProcessService, page: Page) -> None:
    clients = in_process.service.clients
    clients.add("reader", [], None, ADMIN)
    page.goto("/clients")
    card = page.locator("section.card", has=page.get_by_role("heading", name="reader"))
    for button in ("Grant", "Revoke"):
        card.get_by_text("Change").click()
        card.get_by_label("Setting").fill("nowhere/smtp")
        card.get_by_role("button", name=button).click()
        faulty(card.get_by_label("Setting"), "nowhere/smtp", "nowhere/smtp")
        page.goto("/clients")
    card.get_by_text("Change").click()
    card.get_by_label("Last day").fill("2020-01-01")
    card.get_by_role("button", name="Make a new key").click()
    faulty(card.get_by_label("Last day"), "2020-01-01", "2020-01-02")
    clients.remove("reader", ADMIN)


def test_every_fault_of_a_new_administrator_is_at_its_field(
    in_process: InProcessService, page: Page, screenshots: Path
) -> None:
    page.goto("/administrators")
    page.locator("#name").fill("otto")
    for role in ("operator", "auditor"):
        page.locator("form.ask").locator(f"[name={role}]").uncheck()
    page.locator("#machines").fill("hamburg/*")
    page.get_by_role("button", name="Add", exact=True).click()
    faulty(page.locator("#name"), "otto", "otto")
    faulty(page.locator("#machines"), "hamburg/*", "hamburg/*")
    roles = page.locator("form.ask [name=operator]")
    expect(roles).to_have_attribute("aria-invalid", "true")
    expect(roles).not_to_be_checked()
    Visitor(page, screenshots / "people").look("administrator-with-problems")


def test_a_fault_of_an_administrator_who_is_there_is_at_its_field(in_process: InProcessService, page: Page) -> None:
    page.goto("/administrators")
    card = page.locator("section.card", has=page.get_by_role("heading", name="otto"))
    card.get_by_text("Change").click()
    card.get_by_label("Machines", exact=True).fill("hamburg/*")
    card.get_by_role("button", name="Save the machines").click()
    faulty(card.get_by_label("Machines", exact=True), "hamburg/*", "hamburg/*")
    card.locator("[name=operator]").uncheck()
    card.get_by_role("button", name="Save", exact=True).click()
    expect(card.locator("[name=operator]")).to_have_attribute("aria-invalid", "true")
    expect(card.locator("[name=operator]")).not_to_be_checked()
    assert "operator" in in_process.service.administrators.administrator("otto").roles


def test_every_fault_of_a_new_relay_user_is_at_its_field(
    in_process: InProcessService, page: Page, screenshots: Path
) -> None:
    page.goto("/relay-users")
    for place, value in (("#name", "no good"), ("#profiles-new", "nowhere/smtp"), ("#networks-new", "10.0.0.1/8")):
        page.locator(place).fill(value)
    page.get_by_label("None: the network").check()
    page.get_by_role("button", name="Add", exact=True).click()
    faulty(page.locator("#name"), "no good", "no good")
    faulty(page.locator("#profiles-new"), "nowhere/smtp", "nowhere/smtp")
    faulty(page.locator("#networks-new"), "10.0.0.1/8", "10.0.0.0/8")
    expect(page.get_by_label("None: the network")).to_be_checked()
    Visitor(page, screenshots / "relay-users").look("several-problems")


def test_a_fault_of_a_relay_user_who_is_there_is_at_its_field(in_process: InProcessService, page: Page) -> None:
    users, setting = in_process.service.relay_users, in_process.add_printer("of-faulty", "generic")
    users.add("faulty", [setting], [], Secret("kf72mxq9tz4wy8pn"), ADMIN)
    for label, value, told in (
        ("Settings", "nowhere/smtp", "nowhere/smtp"),
        ("Networks", "10.0.0.1/8", "10.0.0.0/8"),
        ("Sender of all messages", "nobody", "nobody"),
    ):
        page.goto("/relay-users")
        card = page.locator("section.card", has=page.get_by_role("heading", name="faulty"))
        card.get_by_text("Change").click()
        form = card.locator("form", has=page.get_by_label(label))
        form.get_by_label(label).fill(value)
        form.get_by_role("button", name="Save").click()
        faulty(form.get_by_label(label), value, told)
    users.remove("faulty", ADMIN)


def test_what_is_typed_is_completed_beyond_the_names_that_the_page_holds(
    in_process: InProcessService, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_pages, "SUGGESTED", 1)
    in_process.add_printer("aaa-first", "generic")
    in_process.add_printer("Zebra_1", "generic")
    in_process.service.settings.link("zoo", ["Zebra_1/smtp"], ADMIN)
    page.goto("/clients")
    options = page.locator("datalist option")
    expect(options).to_have_count(1)
    page.locator("#granted").fill("aaa-first/smtp zebra_1/i")
    expect(options).to_have_attribute("value", "aaa-first/smtp Zebra_1/imap")
    page.locator("#granted").fill("%")
    expect(options).to_have_count(0)
    page.goto("/settings/aaa-first/smtp/link")
    page.locator("#group").fill("ZO")
    expect(options).to_have_count(1)
    expect(options).to_have_attribute("value", "zoo")


def test_what_somebody_else_changed_during_a_sign_in_is_not_overwritten(
    in_process: InProcessService, new_context: NewContext
) -> None:
    settings = in_process.service.settings
    in_process.add_printer("changed-meanwhile", "generic")
    context = new_context(storage_state=None)
    page = context.new_page()
    sign_in(page)
    page.goto("/settings/changed-meanwhile/imap")
    page.get_by_label("Port Number").fill("2993")
    context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    settings.set_profile("changed-meanwhile/imap", {"port": "1993"}, "administrator:anna")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("Port Number")).to_have_value("2993")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("somebody else has changed it meanwhile")
    assert in_process.service.tokens.status("changed-meanwhile/imap").profile.port == 1993


def test_what_was_typed_into_a_form_of_a_list_outlives_a_session_that_is_over(
    in_process: InProcessService, new_context: NewContext
) -> None:
    in_process.service.clients.add("outliving", [], None, ADMIN)
    context = new_context(storage_state=None)
    page = context.new_page()
    sign_in(page)
    page.goto("/clients")
    card = page.locator("section.card", has=page.get_by_role("heading", name="outliving"))
    card.get_by_text("Change").click()
    card.get_by_label("Setting").fill("nowhere/smtp")
    card.get_by_role("button", name="Grant").click()
    card.get_by_label("Setting").fill("elsewhere/smtp")
    context.clear_cookies()
    card.get_by_role("button", name="Grant").click()
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_contain_text("What you typed before you signed in is here again")
    expect(card.get_by_label("Setting")).to_have_value("elsewhere/smtp")
    expect(card.get_by_label("Setting")).to_be_visible()
    in_process.service.clients.remove("outliving", ADMIN)

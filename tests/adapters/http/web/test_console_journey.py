"""An administrator's first day in the browser, without a command after `mailtoken serve --relay`.

It goes from an empty store to a mail that a printer's relay user sends, with a provider of the wizard, for 300 machines
of a CSV file. In two of the four variants all of it is done with the keyboard alone.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import command_line
import pytest
from listeners import listen_at
from people import Keyboard, Person, Pointer
from playwright.sync_api import Browser, Locator, Page, expect
from ports import free_port
from practice_faults.provider import FaultyProvider
from service_process import SCAN
from test_web_journey import Visitor
from waiting import DEADLINE_SECONDS, wait_until

from adapters.http.public_url import FIRST_LINK_FILE
from adapters.installation import initialise
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.thorough]

MACHINES = 300
_CONFIG = """
[stored_providers]
private_hosts = ["localhost"]
ca_file = "{ca_file}"

[mail]
ca_file = "{ca_file}"

[relay]
listen = ["smtp://127.0.0.1:{relay}"]
"""


@dataclass(frozen=True)
class NewHouse:
    """A running service with an empty store, its first link, and what stands beside it."""

    first_link: str
    relay_port: int
    provider: FaultyProvider
    mail: PracticeMailServer


@contextmanager
def new_house(directory: Path) -> Iterator[NewHouse]:
    ca, relay = PracticeCA.create(directory / "ca"), free_port()
    with FaultyProvider(ca, interval=1) as provider, PracticeMailServer(ca, provider) as mail:
        config = initialise(directory / "house").config
        with config.open("a") as file:
            file.write(_CONFIG.format(ca_file=ca.ca_file, relay=relay))
        listen_at(config, free_port())
        process = command_line.begin("serve", "--relay", cwd=config.parent, log=directory / "service.log")
        try:
            link = config.parent / FIRST_LINK_FILE
            wait_until(link.exists, "the first link", otherwise=(directory / "service.log").read_text)
            yield NewHouse(link.read_text().strip(), relay, provider, mail)
        finally:
            process.kill()
            process.wait(DEADLINE_SECONDS)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[NewHouse]:
    with new_house(tmp_path) as house:
        yield house


def fleet_file(directory: Path, port: int) -> Path:
    lines = [f"press-{number:03},generic,smtp,localhost,{port},own,{SCAN},{SCAN}" for number in range(1, MACHINES + 1)]
    file = directory / "fleet.csv"
    file.write_text("\n".join(["machine,catalogue,setting,server,port,provider,account,sender_address", *lines]))
    return file


def page_link(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True)


def arrive(visitor: Visitor, heading: str, name: str) -> None:
    """Look at the page once it is the one with this heading."""
    expect(visitor.page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    visitor.look(name)


def begin_first_day(page: Page, person: Person, visitor: Visitor, house: NewHouse) -> None:
    page.goto(house.first_link)
    arrive(visitor, "Set up Mailtoken", "01-set-up")
    person.type_into(page.get_by_label("Name"), "anna")
    person.type_into(page.get_by_label("Password", exact=True), "a long enough password")
    person.type_into(page.get_by_label("The password once more"), "a long enough password")
    person.press(page.get_by_role("button", name="Set up"))
    arrive(visitor, "Home", "02-empty-home")


def add_provider(page: Page, person: Person, visitor: Visitor, house: NewHouse) -> None:
    person.press(page.get_by_role("link", name="Add a provider"))
    arrive(visitor, "Add a provider", "03-kinds-of-providers")
    person.press(page.get_by_role("link", name="OpenID provider"))
    arrive(visitor, "OpenID provider", "04-new-provider")
    person.type_into(page.locator("[name=name]"), "own")
    person.type_into(page.locator("[name=issuer]"), house.provider.issuer)
    person.type_into(page.locator("[name=client_id]"), house.provider.client_id)
    person.press(page.get_by_text("More fields"))
    person.type_into(page.locator("[name=scopes]"), "openid email offline_access mail")
    person.press(page.get_by_role("button", name="Add it"))
    expect(page.get_by_role("status")).to_have_text("The provider is added, and is in use.")
    arrive(visitor, "own", "05-provider")
    person.press(page.get_by_role("button", name="Check own"))
    expect(page.locator(".verdict.good")).to_be_visible()
    arrive(visitor, "own, seen from outside", "06-provider-checked")


def import_fleet(page: Page, person: Person, visitor: Visitor, file: Path) -> None:
    person.press(page_link(page, "Machines"))
    arrive(visitor, "Machines", "07-no-machines")
    person.press(page.get_by_role("link", name="Import and export"))
    arrive(visitor, "Import and export", "08-import")
    person.choose_file(page.get_by_label("A file of this computer"), file)
    person.press(page.get_by_role("button", name="Show what would change"))
    expect(page.get_by_role("heading", name=f"What would change: {2 * MACHINES}")).to_be_visible()
    arrive(visitor, "Import and export", "09-plan-of-300")
    person.press(page.get_by_role("button", name="Change all of it"))
    expect(page.get_by_role("status")).to_have_text("All of it is changed.")
    arrive(visitor, "Import and export", "10-imported")


def link_all(page: Page, person: Person, visitor: Visitor) -> None:
    person.press(page_link(page, "Machines"))
    expect(page.get_by_text(f"{MACHINES} machines")).to_be_visible()
    arrive(visitor, "Machines 300 machines", "11-machines")
    person.choose(page.get_by_label("With the machines you select"), "Link SMTP settings")
    person.tick(page.get_by_label(f"All {MACHINES} that match"))
    person.press(page.get_by_role("button", name="Continue"))
    arrive(visitor, "Link SMTP settings", "12-job-to-link")
    person.type_into(page.locator("#into"), "scanners")
    person.press(page.get_by_role("button", name="Begin"))
    expect(page.get_by_role("heading", name="Ended")).to_be_visible(timeout=120_000)
    expect(page.get_by_text(f"Done: {MACHINES}. Refused: 0. Left: 0.")).to_be_visible()
    arrive(visitor, "Link SMTP settings", "13-linked")


def get_token(page: Page, person: Person, visitor: Visitor) -> None:
    person.press(page_link(page, "Machines"))
    person.press(page.get_by_role("link", name="press-001", exact=True))
    arrive(visitor, "press-001", "14-machine")
    person.press(page.get_by_role("link", name="smtp", exact=True))
    arrive(visitor, "smtp", "15-setting")
    person.press(page.get_by_role("link", name="Get Token"))
    arrive(visitor, "Get Token", "16-get-token")
    person.press(page.get_by_role("button", name="OK"))
    expect(page.locator("#code")).to_be_visible()
    arrive(visitor, "Sign in", "17-sign-in")
    approve(page, person)
    arrive(visitor, "The token is in", "18-token-is-in")
    person.press(page_link(page, "Machines"))
    person.press(page.get_by_role("link", name="Retrieved").first)
    expect(page.get_by_text(f"{MACHINES} machines")).to_be_visible()
    arrive(visitor, "Machines 300 machines", "19-machines-retrieved")


def approve(page: Page, person: Person) -> None:
    """Sign in at the practice provider, whose pages are not ours."""
    with page.expect_popup() as opened:
        person.press(page.locator(".how a"))
    provider = opened.value
    provider.get_by_label(SCAN).check()
    provider.get_by_role("button", name="Approve").click()
    provider.wait_for_load_state()
    provider.close()


def add_relay_user(page: Page, person: Person, visitor: Visitor) -> str:
    person.press(page_link(page, "Relay users"))
    arrive(visitor, "Relay users", "20-no-relay-users")
    person.type_into(page.get_by_label("Name", exact=True), "press-007")
    person.type_into(page.locator("#profiles-new"), "press-007/smtp")
    person.press(page.get_by_role("button", name="Add", exact=True))
    arrive(visitor, "What press-007 types at the panel", "21-what-to-type")
    return page.locator("dt", has_text="Password").locator("+ dd").text_content() or ""


def send_mail(house: NewHouse, password: str) -> None:
    """Send a mail through the relay as the printer does, and wait until the mail server has it."""
    with smtplib.SMTP("127.0.0.1", house.relay_port, timeout=DEADLINE_SECONDS) as printer:
        printer.login("press-007", password)
        printer.sendmail(SCAN, ["you@contoso.com"], f"From: {SCAN}\r\nSubject: a scan\r\n\r\npage 1\r\n")
    assert b"page 1" in house.mail.wait_for_messages("you@contoso.com", timeout_seconds=DEADLINE_SECONDS)[0]


def see_mail_at_home(page: Page, person: Person, visitor: Visitor) -> None:
    person.press(page_link(page, "Home"))
    # The page follows by itself.
    expect(page.get_by_text("Today (UTC): messages 1, refusals 0.")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("No token needs a person.")).to_be_visible()
    arrive(visitor, "Home", "22-home")


@pytest.mark.parametrize(
    ("width", "colours", "hand"),
    [
        ("wide", "light", Keyboard),
        ("narrow", "dark", Keyboard),
        pytest.param("wide", "dark", Pointer, marks=pytest.mark.torture),
        pytest.param("narrow", "light", Pointer, marks=pytest.mark.torture),
    ],
)
def test_from_an_empty_store_to_a_mail_of_a_printer(
    house: NewHouse, browser: Browser, screenshots: Path, tmp_path: Path, width: str, colours: str, hand: type[Person]
) -> None:
    origin = house.first_link.partition("/setup")[0]
    size = {"width": 390 if width == "narrow" else 1280, "height": 900}
    context = browser.new_context(base_url=origin, viewport=size, color_scheme=colours, ignore_https_errors=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(30_000)
    person, visitor = hand(page), Visitor(page, screenshots / "first-day" / f"{width}-{colours}")
    begin_first_day(page, person, visitor, house)
    add_provider(page, person, visitor, house)
    import_fleet(page, person, visitor, fleet_file(tmp_path, house.mail.smtp_port))
    link_all(page, person, visitor)
    get_token(page, person, visitor)
    send_mail(house, add_relay_user(page, person, visitor))
    see_mail_at_home(page, person, visitor)
    context.close()

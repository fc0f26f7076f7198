"""An administrator's first day in the browser, without a command after `mailtoken serve --relay`.

It goes from an empty store to a mail that a printer's relay user sends, with a provider of the wizard, for 300 machines
of a CSV file.
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
from playwright.sync_api import Browser, Page, expect
from ports import free_port
from practice_faults.provider import FaultyProvider
from service_process import SCAN
from test_web_journey import Visitor, approve
from variants import OPPOSITE_VARIANTS
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


def begin_first_day(page: Page, house: NewHouse) -> None:
    page.goto(house.first_link)
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password", exact=True).fill("a long enough password")
    page.get_by_label("The password once more").fill("a long enough password")
    page.get_by_role("button", name="Set up").click()


def add_provider(page: Page, house: NewHouse) -> None:
    page.goto("/machines")
    page.get_by_role("link", name="Add a provider").click()
    page.get_by_role("link", name="OpenID provider").click()
    page.locator("[name=name]").fill("own")
    page.locator("[name=issuer]").fill(house.provider.issuer)
    page.locator("[name=client_id]").fill(house.provider.client_id)
    page.get_by_text("More fields").click()
    page.locator("[name=scopes]").fill("openid email offline_access mail")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("status")).to_have_text("The provider is added, and is in use.")


def import_fleet(page: Page, file: Path, visitor: Visitor) -> None:
    page.goto("/import")
    page.get_by_label("A file of this computer").set_input_files(file)
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("heading", name=f"What would change: {2 * MACHINES}")).to_be_visible()
    visitor.look("plan-of-300")
    page.get_by_role("button", name="Change all of it").click()
    expect(page.get_by_role("status")).to_have_text("All of it is changed.")


def link_all(page: Page) -> None:
    page.goto("/machines")
    page.get_by_label("With the machines you select").select_option("link")
    page.get_by_label(f"All {MACHINES} that match").check()
    page.get_by_role("button", name="Continue").click()
    page.locator("#into").fill("scanners")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="Ended")).to_be_visible(timeout=120_000)


def get_token(page: Page) -> None:
    page.goto("/settings/press-001/smtp")
    page.get_by_role("link", name="Get Token").click()
    page.get_by_role("button", name="OK").click()
    approve(page)
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()


def add_relay_user(page: Page, visitor: Visitor) -> str:
    page.goto("/relay-users")
    page.get_by_label("Name", exact=True).fill("press-007")
    page.locator("#profiles-new").fill("press-007/smtp")
    page.get_by_role("button", name="Add", exact=True).click()
    visitor.look("sheet")
    return page.locator("dt", has_text="Password").locator("+ dd").text_content() or ""


@pytest.mark.parametrize(("width", "colours"), OPPOSITE_VARIANTS)
def test_from_an_empty_store_to_a_mail_of_a_printer(
    house: NewHouse, browser: Browser, screenshots: Path, tmp_path: Path, width: str, colours: str
) -> None:
    origin = house.first_link.partition("/setup")[0]
    size = {"width": 390 if width == "narrow" else 1280, "height": 900}
    context = browser.new_context(base_url=origin, viewport=size, color_scheme=colours, ignore_https_errors=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(30_000)
    visitor = Visitor(page, screenshots / "first-day" / f"{width}-{colours}")
    begin_first_day(page, house)
    add_provider(page, house)
    import_fleet(page, fleet_file(tmp_path, house.mail.smtp_port), visitor)
    link_all(page)
    get_token(page)
    visitor.go("/machines?state=Retrieved", "machines")
    expect(page.get_by_text(f"{MACHINES} machines")).to_be_visible()
    password = add_relay_user(page, visitor)
    with smtplib.SMTP("127.0.0.1", house.relay_port, timeout=DEADLINE_SECONDS) as printer:
        printer.login("press-007", password)
        printer.sendmail(SCAN, ["you@contoso.com"], f"From: {SCAN}\r\nSubject: a scan\r\n\r\npage 1\r\n")
    assert b"page 1" in house.mail.wait_for_messages("you@contoso.com", timeout_seconds=DEADLINE_SECONDS)[0]
    visitor.go("/", "home")
    context.close()

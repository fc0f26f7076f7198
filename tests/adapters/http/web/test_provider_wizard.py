"""From an empty store to a token in the browser: a provider without a file, a command or a restart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from test_web_journey import Visitor, approve, token
from variants import VARIANTS
from web_service import SCAN, InProcessService, in_process_service

from domain.catalogue import Protocol
from domain.mail_servers import MAIL_SERVERS
from domain.secret import Secret

pytestmark = pytest.mark.needs("chromium")

NewContext = Callable[..., BrowserContext]
ADMIN = "administrator:admin"
MICROSOFT = {"tenant": "fabrikam.com", "client_id": "6f1c0d5e"}

_CONFIG = """
[stored_providers]
private_hosts = ["localhost"]
ca_file = "{ca_file}"

[mail]
ca_file = "{ca_file}"
"""


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessService]:
    """A service with an empty store and no provider; its operator permits those at localhost."""
    with in_process_service(tmp_path_factory.mktemp("empty"), _CONFIG) as in_process:
        yield in_process


@pytest.fixture
def empty(in_process: InProcessService) -> InProcessService:
    """The service with nothing in its store."""
    service = in_process.service
    for status in service.tokens.statuses():
        if status.token.credential:
            service.tokens.delete(status.profile.name, ADMIN)
    for machine in service.settings.machines():
        service.settings.remove_machine(machine["name"], ADMIN)
    for row in service.providers.stored:
        service.stored_providers.remove(row.state.name, ADMIN)
    return in_process


def fill_in(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.locator(f"[name={name}]").fill(value)


@pytest.mark.parametrize(("width", "colours"), VARIANTS)
def test_an_empty_store_leads_by_the_wizard_to_a_token(
    empty: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    provider = empty.provider
    page = new_context(width, color_scheme=colours).new_page()
    visitor = Visitor(page, screenshots / f"{width}-{colours}")
    visitor.go("/home", "empty-home")
    expect(page.get_by_role("link", name="Add a provider")).to_be_visible()
    visitor.go("/machines", "no-machines")
    expect(page.get_by_role("link", name="Add a provider")).to_be_visible()
    visitor.go("/settings", "empty-store")
    page.get_by_role("link", name="Add a provider").click()
    visitor.look("add-provider")
    page.get_by_role("link", name="OpenID provider").click()
    expect(page.get_by_text(f"{empty.origin}/", exact=True)).to_be_visible()
    visitor.look("add-provider-oidc")

    fill_in(page, name="own provider", issuer="http://localhost", client_id=provider.confidential_client_id)
    page.get_by_text("More fields").click()
    fill_in(page, scopes="mail", timeout="0")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("Fields to correct: 3")
    for name in ("name", "issuer", "timeout"):
        expect(page.locator(f"[name={name}]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name=scopes]")).to_have_value("mail")
    visitor.look("add-provider-with-problems")
    fill_in(page, name="own", issuer=provider.issuer, timeout="20", client_secret=provider.client_secret)
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("status")).to_have_text("The provider is added, and is in use.")
    expect(page.locator("[name=client_secret]")).to_have_value("")
    visitor.look("provider")

    page.get_by_role("button", name="Check own").click()
    expect(page.locator(".verdict.good")).to_be_visible()
    visitor.look("provider-checked")
    page.get_by_role("link", name="Add a machine").click()
    page.get_by_label("Name", exact=True).fill("press")
    page.get_by_text("generic").click()
    page.get_by_role("button", name="Add", exact=True).click()
    page.goto("/settings/press/smtp")
    page.get_by_label("Provider").select_option("own")
    page.get_by_label("Account Name").fill(SCAN)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Get Token").click()
    page.get_by_role("button", name="OK").click()
    approve(page)
    expect(page.get_by_role("heading", name="The token is in")).to_be_visible()
    page.goto("/settings/press/smtp")
    expect(token(page)).to_have_text("Retrieved")
    visitor.go("/providers", "providers-stored")


def test_every_kind_says_what_to_click_and_what_to_copy(
    empty: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    page = new_context().new_page()
    visitor = Visitor(page, screenshots / "wide-light")
    for kind, copied in (
        ("microsoft", ["http://localhost", "SMTP.Send", "IMAP.AccessAsUser.All"]),
        ("google", ["https://mail.google.com/"]),
    ):
        visitor.go(f"/add-provider/{kind}", f"add-provider-{kind}")
        for value in copied:
            expect(page.locator(".copies code", has_text=re.compile(f"^{re.escape(value)}$"))).to_have_count(1)
    assert page.request.get("/add-provider/yahoo").status == 404


@pytest.mark.parametrize("kind", MAIL_SERVERS)
def test_a_setting_gets_the_server_and_the_port_that_its_provider_serves(
    empty: InProcessService, page: Page, kind: str
) -> None:
    service = empty.service
    fields = MICROSOFT if kind == "microsoft" else {"client_id": "6f1c0d5e"}
    service.stored_providers.add("fabrikam", kind, fields, {}, ADMIN)
    service.settings.add_machine("press", "generic", ADMIN)
    for protocol, preset in MAIL_SERVERS[kind].items():
        filled = service.settings.set_profile(f"press/{protocol}", {"provider": "fabrikam"}, ADMIN).settings
        assert (filled.server, filled.port, filled.tls) == (preset.server, preset.port, preset.tls)
        service.settings.set_profile(f"press/{protocol}", {"server": "", "port": "", "tls": "starttls"}, ADMIN)
        page.goto(f"/settings/press/{protocol}")
        expect(page.locator("#f-server-help")).to_contain_text(f"{preset.server}, port {preset.port}")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_have_text("Saved.")
        settings = service.tokens.status(f"press/{protocol}").profile.settings
        assert (settings.server, settings.port, settings.tls) == (preset.server, preset.port, preset.tls)
    page.get_by_label("IMAP Server").fill("mail.contoso.com")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    assert service.tokens.status("press/imap").profile.settings.server == "mail.contoso.com"
    assert {one.port for protocol, one in MAIL_SERVERS[kind].items() if protocol != Protocol.SMTP} == {993, 995}


def test_a_setting_without_any_provider_leads_to_the_wizard(empty: InProcessService, page: Page) -> None:
    empty.service.settings.add_machine("press", "generic", ADMIN)
    page.goto("/settings/press/smtp")
    page.get_by_role("link", name="Add a provider first").click()
    expect(page.get_by_role("heading", name="Add a provider")).to_be_visible()


@pytest.mark.parametrize(("width", "colours"), [("narrow", "dark"), ("wide", "light")])
def test_a_provider_is_renamed_after_what_will_change_was_said(
    empty: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    service = empty.service
    for name in ("fabrikam", "taken"):
        service.stored_providers.add(name, "microsoft", MICROSOFT, {}, ADMIN)
    service.settings.add_machine("press", "generic", ADMIN)
    service.settings.set_profile("press/smtp", {"provider": "fabrikam"}, ADMIN)
    page = new_context(width, color_scheme=colours).new_page()
    page.goto("/providers/fabrikam")
    page.get_by_role("link", name="Rename").click()
    expect(page.get_by_text("1 setting follows")).to_be_visible()
    expect(page.get_by_role("link", name="press/smtp")).to_be_visible()
    field = page.get_by_label("New name")
    for wrong, told in (("no good", "no good"), ("taken", "taken")):
        field.fill(wrong)
        page.get_by_role("button", name="Rename").click()
        expect(field).to_have_value(wrong)
        expect(field).to_have_accessible_description(re.compile(told))
    Visitor(page, screenshots / f"{width}-{colours}").look("provider-rename")
    field.fill("contoso")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("status")).to_have_text("The provider is renamed.")
    expect(page.get_by_role("heading", name="contoso", level=1)).to_be_visible()
    assert service.tokens.status("press/smtp").profile.settings.provider == "contoso"
    page.goto("/providers/taken/rename")
    expect(page.get_by_text("No setting has this provider")).to_be_visible()


def test_a_provider_is_changed_its_secret_replaced_and_it_is_removed(
    empty: InProcessService, new_context: NewContext, screenshots: Path
) -> None:
    service = empty.service
    service.stored_providers.add("fabrikam", "microsoft", MICROSOFT, {"client_secret": Secret("old")}, ADMIN)
    page = new_context().new_page()
    page.goto("/providers")
    page.get_by_role("link", name="fabrikam").click()
    stale = page.locator("[name=edition]").get_attribute("value")
    fill_in(page, tenant="contoso.com", client_secret="new-secret")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    assert service.stored_providers.registration("fabrikam")[1] == {"client_secret": Secret("new-secret")}
    assert "new-secret" not in page.content()
    csrf = page.locator("main [name=csrf]").first.get_attribute("value")
    late = page.request.post("/providers/fabrikam", form={"csrf": csrf or "", "edition": stale or "", "timeout": "9"})
    assert (late.status, "has changed since it was looked at" in late.text()) == (412, True)
    page.get_by_label("Remove it").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    assert service.stored_providers.find("fabrikam").state.secrets == {}
    moved = {"issuer": "https://login.example.com", "client_id": "a"}
    service.stored_providers.add("moved", "oidc", moved, {"client_secret": Secret("old")}, ADMIN)
    page.goto("/providers/moved")
    fill_in(page, issuer="https://login.example.net", client_id="b")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#p-issuer-problem")).to_contain_text("another issuer would get the client_secret of moved")
    expect(page.locator("[name=client_id]")).to_have_value("b")
    service.stored_providers.remove("moved", ADMIN)
    page.goto("/providers/fabrikam")
    page.get_by_role("link", name="Remove the provider").click()
    Visitor(page, screenshots / "wide-light").look("provider-remove")
    page.get_by_role("button", name="Remove the provider").click()
    expect(page.get_by_role("status")).to_have_text("The provider is removed.")
    expect(page.get_by_text("There is no provider yet")).to_be_visible()

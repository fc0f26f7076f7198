"""The page Import and export: the plan of a file before it is carried out, its problems by line, the files of today."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from test_web_journey import NewContext, Visitor
from variants import VARIANTS
from web_service import InProcessService

pytestmark = pytest.mark.needs("chromium")

_HEADER = "machine,catalogue,setting,server,port"


def show(page: Page, content: str, file_format: str = "csv") -> None:
    page.goto("/import")
    page.get_by_label("Its content").fill(content)
    page.get_by_label("Format").select_option(file_format)
    page.get_by_role("button", name="Show what would change").click()


@pytest.mark.parametrize(("width", "colours"), VARIANTS)
def test_a_file_of_this_computer_becomes_machines_after_its_plan_was_seen(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, tmp_path: Path, width: str, colours: str
) -> None:
    name = f"imported-{width}-{colours}"
    (tmp_path / "fleet.csv").write_text(f"{_HEADER}\n{name},generic,smtp,smtp.contoso.com,587\n")
    page = new_context(width, color_scheme=colours).new_page()
    visitor = Visitor(page, screenshots / "import" / f"{width}-{colours}")
    visitor.go("/import", "empty")
    page.get_by_label("A file of this computer").set_input_files(tmp_path / "fleet.csv")
    expect(page.get_by_label("Format")).to_have_value("csv")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("heading", name="What would change: 2")).to_be_visible()
    visitor.look("plan")
    assert not in_process.service.settings.some_profile_names(1000).count(f"{name}/smtp")
    page.get_by_role("button", name="Change all of it").click()
    expect(page.get_by_role("status")).to_have_text("All of it is changed.")
    assert in_process.service.tokens.status(f"{name}/smtp").profile.settings.server == "smtp.contoso.com"
    show(page, f"{_HEADER}\n{name},generic,smtp,smtp.contoso.com,587\n")
    expect(page.get_by_text("Everything is so already.")).to_be_visible()
    in_process.service.settings.remove_machine(name, "administrator:admin")


@pytest.mark.parametrize(
    ("content", "file_format", "told"),
    [
        ("machine,colour\na,red", "csv", "line 1: no column 'colour'"),
        ("[machines", "toml", "not TOML"),
        (f"{_HEADER}\nwrong-one,generic,smtp,s.contoso.com,99999", "csv", "line 2: machines.wrong-one.settings.smtp"),
        ("machines: {a: {settings: {smtp: {colour: red}}}}", "yaml", "machines.a.settings.smtp.colour"),
        ("machines: {a: {catalogue: none-such}}", "yaml", "none-such"),
    ],
)
def test_what_is_wrong_is_told_by_its_place_and_nothing_is_lost(
    in_process: InProcessService, page: Page, content: str, file_format: str, told: str
) -> None:
    show(page, content, file_format)
    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.get_by_label("Its content")).to_have_value(content)
    expect(page.get_by_label("Format")).to_have_value(file_format)
    expect(page.get_by_role("button", name="Change all of it")).to_have_count(0)


def test_a_plan_that_is_no_longer_so_is_shown_again(in_process: InProcessService, page: Page) -> None:
    show(page, f"{_HEADER}\nplanned-late,generic,smtp,smtp.contoso.com,587\n")
    in_process.service.settings.add_machine("planned-late", "generic", "administrator:admin")
    page.get_by_role("button", name="Change all of it").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("heading", name="What would change: 1")).to_be_visible()
    page.get_by_role("button", name="Change all of it").click()
    expect(page.get_by_role("status")).to_have_text("All of it is changed.")
    in_process.service.settings.remove_machine("planned-late", "administrator:admin")


def test_an_exported_file_is_one_that_changes_nothing(in_process: InProcessService, page: Page) -> None:
    in_process.add_printer("exported", "generic")
    for file_format in ("toml", "yaml", "csv"):
        exported = page.context.request.get(f"/export/{file_format}")
        assert "attachment" in exported.headers["content-disposition"]
        assert "exported" in exported.text()
        show(page, exported.text(), file_format)
        expect(page.get_by_text("Everything is so already.")).to_be_visible()
    assert page.context.request.get("/export/pdf").status == 404

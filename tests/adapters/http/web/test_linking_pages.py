"""The pages that link a setting into a group and take it out say first what will change."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from test_web_journey import NewContext, Visitor
from variants import OPPOSITE_VARIANTS
from web_service import InProcessService

pytestmark = pytest.mark.needs("chromium")

ADMIN = "administrator:admin"


@pytest.mark.parametrize(("width", "colours"), OPPOSITE_VARIANTS)
def test_a_setting_joins_a_group_and_leaves_it(
    in_process: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    group = f"shared-{width}"
    first, second = (in_process.add_printer(f"{name}-{width}", "generic") for name in ("joins", "has"))
    in_process.service.settings.link(group, [second], ADMIN)
    page = new_context(width, color_scheme=colours).new_page()
    visitor = Visitor(page, screenshots / "linking" / f"{width}-{colours}")
    page.goto(f"/settings/{first}")
    page.get_by_role("link", name="Link into a group").click()
    visitor.look("choose")
    page.get_by_label("Group").fill(group)
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_text(f"{first} joins the group {group}.")).to_be_visible()
    expect(page.get_by_role("link", name=second)).to_be_visible()
    visitor.look("what-will-change")
    page.get_by_role("button", name="Link", exact=True).click()
    expect(page.get_by_role("status").first).to_have_text("The setting is linked.")
    assert in_process.service.tokens.status(first).group == group
    page.get_by_role("link", name="Take out of the group").click()
    expect(page.get_by_text(f"{first} leaves the group {group}")).to_be_visible()
    visitor.look("unlink")
    page.get_by_role("button", name="OK").click()
    expect(page.get_by_role("status").first).to_have_text("The setting is out of the group.")
    assert in_process.service.tokens.status(first).group != group


def test_a_name_that_cant_be_a_groups_is_said(in_process: InProcessService, page: Page) -> None:
    name = in_process.add_printer("links-badly", "generic")
    page.goto(f"/settings/{name}/link?group=no/good")
    expect(page.get_by_text("begins the new group no/good")).to_be_visible()
    page.get_by_role("button", name="Link", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Group")).to_have_value("no/good")

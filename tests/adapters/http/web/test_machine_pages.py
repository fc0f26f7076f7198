"""The list of machines and the page of a machine, in a real browser, with and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from test_web_journey import Visitor
from variants import VARIANTS
from waiting import wait_until
from web_service import FAX, InProcessService

pytestmark = pytest.mark.needs("chromium")

NewContext = Callable[..., BrowserContext]


@pytest.fixture(scope="module")
def fleet(in_process: InProcessService) -> InProcessService:
    """Machines of two sites; one of them has a token."""
    for number in (7, 8, 70):
        in_process.add_printer(f"hamburg-mfp-{number:03}", account=FAX if number == 8 else "scan@contoso.com")
        in_process.service.settings.set_tags(f"hamburg-mfp-{number:03}", ["hamburg", f"floor-{number}"], "root")
    in_process.service.settings.add_machine("berlin-server", "generic", "administrator:admin")
    in_process.get_token("hamburg-mfp-007/smtp-service")
    return in_process


def machines(page: Page) -> list[str]:
    return page.locator(".rows tbody th > a.name").all_inner_texts()


@pytest.mark.parametrize(("width", "colours"), VARIANTS)
def test_the_list_and_a_machine_are_looked_at_in_every_variant(
    fleet: InProcessService, new_context: NewContext, screenshots: Path, width: str, colours: str
) -> None:
    visitor = Visitor(new_context(width, color_scheme=colours).new_page(), screenshots / f"{width}-{colours}")
    visitor.go("/home", "home")
    visitor.go("/machines", "machines")
    visitor.page.get_by_text("7 settings hamburg-mfp-007").click()
    visitor.page.get_by_text("More filters").click()
    visitor.look("machines-open")
    visitor.go("/machines?q=nowhere", "machines-nothing-found")
    visitor.go("/machines/hamburg-mfp-007/panel", "machine")


@pytest.mark.parametrize("scripts", [True, False])
def test_words_filters_and_order_are_in_the_address(
    fleet: InProcessService, new_context: NewContext, scripts: bool
) -> None:
    page = new_context(java_script_enabled=scripts).new_page()
    page.goto("/machines")
    page.get_by_role("searchbox").fill("hamburg 007")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 machine", exact=True)).to_be_visible()
    assert machines(page) == ["hamburg-mfp-007"]
    page.goto("/machines?q=hamburg")
    page.get_by_role("link", name="Not Retrieved").click()
    assert machines(page) == ["hamburg-mfp-007", "hamburg-mfp-008", "hamburg-mfp-070"]
    page.get_by_text("More filters").click()
    page.get_by_label("Account", exact=True).fill(FAX)
    page.get_by_role("button", name="Search").click()
    assert machines(page) == ["hamburg-mfp-008"]
    page.goto("/machines?q=hamburg&sort=state")
    page.get_by_role("link", name="Account", exact=True).click()
    expect(page.locator("[aria-sort]")).to_have_text("Account")
    assert machines(page) == ["hamburg-mfp-008", "hamburg-mfp-007", "hamburg-mfp-070"]
    page.get_by_role("link", name="floor-70").click()
    assert machines(page) == ["hamburg-mfp-070"]


@pytest.mark.parametrize(
    ("machines", "settings"),
    [
        ("/machines", "/settings"),
        ("/machines?q=hamburg+007", "/settings?q=hamburg+007"),
        ("/machines?q=hamburg&state=Not+Retrieved", "/settings?q=hamburg&show=Not+Retrieved"),
        ("/machines?cause=any", "/settings?show=attention"),
    ],
)
def test_the_list_of_now_and_that_of_an_instant_lead_to_each_other_with_the_same_filters(
    fleet: InProcessService, page: Page, machines: str, settings: str
) -> None:
    page.goto(machines)
    page.get_by_role("link", name="The list at an earlier instant").click()
    assert page.url == f"{fleet.origin}{settings}"
    page.get_by_role("link", name="The list of machines, now").click()
    assert page.url == f"{fleet.origin}{machines}"


def test_the_pages_of_the_list_are_walked_there_and_back(fleet: InProcessService, page: Page) -> None:
    for number in range(51):
        fleet.service.settings.add_machine(f"walk-{number:02}", "generic", "administrator:admin")
    page.goto("/machines?q=walk")
    first = machines(page)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("link", name="Previous")).to_be_visible()
    assert [*first, *machines(page)] == [f"walk-{number:02}" for number in range(51)]
    expect(page.get_by_role("link", name="Next")).to_have_count(0)
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_role("link", name="Next")).to_be_visible()
    assert machines(page) == first
    expect(page.get_by_role("link", name="Previous")).to_have_count(0)


def test_a_machine_gets_tags_on_its_page_and_its_menu_paths_stand_there(fleet: InProcessService, page: Page) -> None:
    fleet.add_printer("tagged-mfp")
    page.goto("/machines?q=tagged-mfp")
    expect(page.get_by_text("System Settings")).to_have_count(0)
    page.get_by_role("link", name="tagged-mfp").click()
    expect(page.get_by_text("System Settings").first).to_be_visible()
    page.locator("summary", has_text="Tags").click()
    page.get_by_label("Tags").fill("Hamburg a/b")
    page.get_by_role("button", name="Save tags").click()
    expect(page.locator(".problem")).to_contain_text("'a/b' is not a tag")
    expect(page.get_by_label("Tags")).to_have_value("Hamburg a/b")
    page.get_by_label("Tags").fill("Hamburg new")
    page.get_by_role("button", name="Save tags").click()
    expect(page.get_by_role("status")).to_have_text("The tags are saved.")
    assert fleet.service.settings.tags_of("tagged-mfp") == ["hamburg", "new"]


@pytest.mark.parametrize("scripts", [True, False])
def test_a_job_over_all_that_match_shows_the_outcome_of_each(
    fleet: InProcessService, new_context: NewContext, screenshots: Path, scripts: bool
) -> None:
    for number in range(3):
        fleet.service.settings.add_machine(f"job-{scripts}-{number}".lower(), "generic", "administrator:admin")
    name = f"job-{scripts}".lower()
    page = new_context("wide" if scripts else "narrow", java_script_enabled=scripts).new_page()
    page.goto(f"/machines?q={name}")
    page.get_by_label("With the machines you select").select_option("Set a field")
    page.get_by_label("All 3 that match").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Field").select_option("Port Number")
    page.get_by_label("Value").fill("99999")
    if scripts:
        Visitor(page, screenshots / "wide-light").look("job-new")
    page.get_by_role("button", name="Begin").click()
    wait_until(fleet.service.jobs.all()[0].ended.is_set, "the end of the job")
    page.reload()
    expect(page.get_by_role("heading", name="Ended")).to_be_visible()
    expect(page.get_by_text("Done: 0. Refused: 9. Left: 0. Of 9.")).to_be_visible()
    expect(page.get_by_text("is not a whole number").first).to_be_visible()
    if scripts:
        Visitor(page, screenshots / "wide-light").look("job")
        Visitor(page, screenshots / "wide-light").go("/jobs", "jobs")


def test_selected_machines_are_removed_after_a_question(fleet: InProcessService, page: Page, screenshots: Path) -> None:
    for name in ("gone-a", "gone-b", "gone-not"):
        fleet.service.settings.add_machine(name, "generic", "administrator:admin")
    page.goto("/machines?q=gone")
    page.get_by_label("With the machines you select").select_option("Remove machines")
    page.get_by_label("gone-a", exact=True).check()
    page.get_by_label("gone-b", exact=True).check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Machines: 2.")).to_be_visible()
    Visitor(page, screenshots / "wide-light").look("job-remove")
    assert "gone-a" in fleet.service.settings.machine_names()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_text("Done: 2. Refused: 0. Left: 0. Of 2.")).to_be_visible()
    expect(page.get_by_role("link", name="gone-a")).to_have_count(0)
    assert not {"gone-a", "gone-b"} & set(fleet.service.settings.machine_names())
    fleet.service.settings.remove_machine("gone-not", "administrator:admin")


def test_tokens_are_obtained_one_sign_in_after_another(fleet: InProcessService, page: Page, screenshots: Path) -> None:
    for name in ("queue-a", "queue-b"):
        fleet.add_printer(name, "generic")
        for setting in ("pop", "imap"):
            fleet.service.settings.remove_profile(f"{name}/{setting}", "administrator:admin")
    page.goto("/machines?q=queue")
    page.get_by_label("queue-a", exact=True).check()
    page.get_by_label("queue-b", exact=True).check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Machines: 2. Steps: 2.")).to_be_visible()
    page.get_by_role("button", name="Begin").click()
    for name in ("queue-a/smtp", "queue-b/smtp"):
        expect(page.get_by_text(f"Sign in for {name}")).to_be_visible(timeout=60_000)
        Visitor(page, screenshots / "wide-light").look("job-waiting")
        with page.expect_popup() as opened:
            page.locator(".job section a[target]").click()
        opened.value.get_by_label("scan@contoso.com").check()
        opened.value.get_by_role("button", name="Approve").click()
        opened.value.wait_for_load_state()
        opened.value.close()
    expect(page.get_by_text("Done: 2. Refused: 0. Left: 0. Of 2.")).to_be_visible(timeout=60_000)
    assert all(fleet.service.tokens.status(f"{name}/smtp").token.credential for name in ("queue-a", "queue-b"))


def test_a_stopped_job_says_what_is_left(fleet: InProcessService, page: Page) -> None:
    fleet.add_printer("stopped-mfp")
    page.goto("/machines?q=stopped-mfp")
    page.get_by_label("All 1 that match").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_text("Sign in for stopped-mfp")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", name="Stopped")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Done: 0. Refused: 1. Left: 3. Of 4.")).to_be_visible()

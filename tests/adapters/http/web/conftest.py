"""A browser, and a service in this process whose pages it shows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, StorageState, expect, sync_playwright
from web_service import PASSWORD, InProcessService, in_process_service

expect.set_options(timeout=30_000)

WIDTHS = {"narrow": 390, "wide": 1280}
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessService]:
    """A service that the tests share, each with machines of its own."""
    with in_process_service(tmp_path_factory.mktemp("office")) as in_process:
        yield in_process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Playwright keeps an event loop running in this thread, which must end before other tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, in_process: InProcessService) -> StorageState:
    """The cookies of somebody with every role."""
    context = browser.new_context(base_url=in_process.origin)
    page = context.new_page()
    page.goto("/history")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD.reveal())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/history")
    state = context.storage_state()
    context.close()
    return state


NewContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(browser: Browser, in_process: InProcessService, signed_in: StorageState) -> Iterator[NewContext]:
    """Make a browser profile with a window of this width; what a page complains about fails the test."""
    contexts, complaints = list[BrowserContext](), list[str]()

    def _is_complaint(message: ConsoleMessage) -> bool:
        # What was refused or failed is part of the story; what other people's pages say is not.
        is_ours = message.location["url"].startswith(in_process.origin)
        return (
            message.type == "error"
            and is_ours
            and not re.search("status of (403|404|409|412|422|424|500)", message.text)
        )

    def make(width: str = "wide", **more: object) -> BrowserContext:
        options: dict[str, Any] = {"storage_state": signed_in, "base_url": in_process.origin, **more}
        context = browser.new_context(
            viewport={"width": WIDTHS[width], "height": 844 if width == "narrow" else 900},
            ignore_https_errors=True,
            **options,
        )
        context.set_default_timeout(30_000)
        context.on("console", lambda message: complaints.append(message.text) if _is_complaint(message) else None)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(new_context: NewContext) -> Page:
    """A page in a wide window."""
    return new_context().new_page()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept: SCREENSHOTS, or the directory of this run."""
    named = os.environ.get("SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory

"""What a real browser does with our cookies and with other sites' forms. Debian's Chromium, as .ci/run installs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fakes import FakeProvider
from listeners import serve_tcp
from playwright.sync_api import Browser, Page, sync_playwright
from served import ADMIN
from served_tcp import COOKIE, open_tcp_service

from domain.secret import Secret
from infrastructure.clock import SystemClock

pytestmark = pytest.mark.needs("chromium")

PASSWORD = "a-password-in-clear"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        yield browser
        browser.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where a service listens without TLS; Anna may sign in there."""
    with open_tcp_service(tmp_path, SystemClock(), FakeProvider()) as service:
        service.administrators.add("anna", ["administrator", "auditor"], Secret(PASSWORD), ADMIN)
        with serve_tcp(service) as port:
            yield port


def sign_in(page: Page, origin: str) -> None:
    page.goto(f"{origin}/sign-in?next=/history")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("form button").click()
    page.wait_for_url(f"{origin}/history")


@contextmanager
def another_site(document: str) -> Iterator[str]:
    """A site that serves this document; its address."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = document.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_loopback_it_keeps_the_secure_cookie_without_tls_and_shows_it_to_no_script(
    chromium: Browser, port: int, host: str
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    sign_in(page, f"http://{host}:{port}")
    [kept] = context.cookies()
    assert (kept["name"], kept["secure"], kept["httpOnly"], kept["sameSite"]) == (COOKIE, True, True, "Lax")
    assert (kept["domain"], kept["path"], kept["expires"]) == (host, "/", -1)
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").first.click()
    page.wait_for_url("**/sign-in")
    assert context.cookies() == []
    context.close()


@pytest.mark.parametrize("path", ["/sign-out", "/api/v1/machines", "/sign-in"])
def test_another_sites_form_does_nothing(chromium: Browser, port: int, path: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    sign_in(page, f"http://127.0.0.1:{port}")
    before = context.cookies()
    form = f"""<form method="post" action="http://127.0.0.1:{port}{path}">
        <input name="name" value="anna"><input name="password" value="{PASSWORD}"><button>Win</button></form>"""
    with another_site(form) as evil:
        page.goto(evil)
        with page.expect_response(f"http://127.0.0.1:{port}{path}") as answered:
            page.locator("button").click()
        assert answered.value.status in (401, 403)
    assert context.cookies() == before
    page.goto(f"http://127.0.0.1:{port}/history")
    assert page.url.endswith("/history")
    context.close()


def test_another_site_can_neither_frame_nor_read_us(chromium: Browser, port: int) -> None:
    context = chromium.new_context()
    page = context.new_page()
    sign_in(page, f"http://127.0.0.1:{port}")
    refused: list[str] = []
    with another_site(f'<iframe src="http://127.0.0.1:{port}/settings"></iframe>') as evil:
        page.on("console", lambda message: refused.append(message.text))
        page.goto(evil, wait_until="networkidle")
        read = page.evaluate(
            "url => fetch(url, {credentials: 'include'}).then(() => 'read', () => 'kept out')",
            f"http://127.0.0.1:{port}/api/v1/status",
        )
    assert read == "kept out"
    assert any("frame-ancestors" in one for one in refused), refused
    context.close()

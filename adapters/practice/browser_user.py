"""The person who signs in at the practice provider, played by an HTTP client that fetches pages and fills in forms.

The client sends all that a browser would send, cookies and CSRF field included, and reads nothing of the provider's
internal state.
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin

import requests

TIMEOUT_SECONDS = 10


class CouldNotSignIn(Exception):
    """The page didn't offer the account, or the provider refused the sign-in."""


def approve(verification_uri: str, user_code: str, account: str, ca_file: Path) -> None:
    """Enter a device's user code, sign in as `account`, and approve.

    Raises:
        CouldNotSignIn: the code is unknown, used or too old, or the account isn't offered.
    """
    _decide_on_device(verification_uri, user_code, account, "approve", ca_file)


def deny(verification_uri: str, user_code: str, account: str, ca_file: Path) -> None:
    """Enter a device's user code, sign in as `account`, and deny; raises as `approve` does."""
    _decide_on_device(verification_uri, user_code, account, "deny", ca_file)


def sign_in(authorization_uri: str, account: str, ca_file: Path) -> str:
    """Approve an authorization request, and return the URI of the redirect without following it."""
    return _decide_in_browser(authorization_uri, account, "approve", ca_file)


def refuse(authorization_uri: str, account: str, ca_file: Path) -> str:
    """Deny an authorization request, and return the URI of the redirect without following it."""
    return _decide_in_browser(authorization_uri, account, "deny", ca_file)


Answer = Literal["approve", "deny"]


def _decide_on_device(verification_uri: str, user_code: str, account: str, answer: Answer, ca_file: Path) -> None:
    with _browser(ca_file) as browser:
        page = browser.get(verification_uri, timeout=TIMEOUT_SECONDS)
        form = _form_of(page)
        if form.method == "get":
            page = browser.get(form.action, params={"user_code": user_code}, timeout=TIMEOUT_SECONDS)
            form = _form_of(page)
        _check(browser.post(form.action, data=form.filled_in(account, answer), timeout=TIMEOUT_SECONDS))


def _decide_in_browser(authorization_uri: str, account: str, answer: Answer, ca_file: Path) -> str:
    with _browser(ca_file) as browser:
        form = _form_of(browser.get(authorization_uri, timeout=TIMEOUT_SECONDS))
        sent_back = browser.post(
            form.action, data=form.filled_in(account, answer), timeout=TIMEOUT_SECONDS, allow_redirects=False
        )
        _check(sent_back)
        return sent_back.headers["Location"]


@dataclass
class _Form:
    action: str
    method: str
    hidden: dict[str, str] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)

    def filled_in(self, account: str, answer: Answer) -> dict[str, str]:
        chosen = next((offered for offered in self.accounts if offered.casefold() == account.casefold()), None)
        if chosen is None:
            raise CouldNotSignIn(f"{account} isn't offered, only {', '.join(self.accounts) or 'nobody'}")
        return {**self.hidden, "account": chosen, "decision": answer}


class _FormParser(HTMLParser):
    """Reads the form of a sign-in page, which has only one."""

    def __init__(self) -> None:
        super().__init__()
        self.form: _Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.form = _Form(attributes["action"], attributes["method"])
        elif tag == "input" and self.form and attributes.get("type") == "hidden":
            self.form.hidden[attributes["name"]] = attributes["value"]
        elif tag == "input" and self.form and attributes.get("type") == "radio":
            self.form.accounts.append(attributes["value"])


def _form_of(page: requests.Response) -> _Form:
    _check(page)
    parser = _FormParser()
    parser.feed(page.text)
    if parser.form is None:
        raise CouldNotSignIn("the page has no form")
    parser.form.action = urljoin(page.url, parser.form.action)
    return parser.form


def _check(page: requests.Response) -> None:
    if not page.ok:
        raise CouldNotSignIn(f"the provider answered {page.status_code} {page.reason}")


def _browser(ca_file: Path) -> requests.Session:
    session = requests.Session()
    # Otherwise a CA bundle and a proxy named in the environment would replace the given ones.
    session.trust_env = False
    session.verify = str(ca_file)
    return session

"""The person who signs in at the practice provider, played over plain HTTP: fetches the page, fills in its form.

Everything a browser would send is sent, cookies and CSRF field included; nothing is taken from the provider's
inside.
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import urljoin

import requests

TIMEOUT_SECONDS = 10


class CouldNotSignIn(Exception):
    """The page didn't offer what the person wanted, or refused it."""


def approve(verification_uri: str, user_code: str, account: str, ca_file: Path) -> None:
    """Sign in with a device's code as `account`, and approve.

    Raises:
        CouldNotSignIn: the code is unknown, used or too old, or the account isn't offered.
    """
    _decide_on_device(verification_uri, user_code, account, "approve", ca_file)


def deny(verification_uri: str, user_code: str, account: str, ca_file: Path) -> None:
    """Sign in with a device's code as `account`, and deny; raises as `approve` does."""
    _decide_on_device(verification_uri, user_code, account, "deny", ca_file)


def sign_in(authorization_uri: str, account: str, ca_file: Path) -> str:
    """Approve an authorization request, and return the URI the browser is then sent to, without following it."""
    return _decide_in_browser(authorization_uri, account, "approve", ca_file)


def refuse(authorization_uri: str, account: str, ca_file: Path) -> str:
    """Deny an authorization request, and return the URI the browser is then sent to, without following it."""
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


class _FormReader(HTMLParser):
    """Reads the one form of a sign-in page."""

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
    reader = _FormReader()
    reader.feed(page.text)
    if reader.form is None:
        raise CouldNotSignIn("the page has no form")
    reader.form.action = urljoin(page.url, reader.form.action)
    return reader.form


def _check(page: requests.Response) -> None:
    if not page.ok:
        raise CouldNotSignIn(f"the provider answered {page.status_code} {page.reason}")


def _browser(ca_file: Path) -> requests.Session:
    session = requests.Session()
    # Otherwise the environment's CA bundle and proxy would take the place of ours.
    session.trust_env = False
    session.verify = str(ca_file)
    return session

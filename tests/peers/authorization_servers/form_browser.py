"""A browser without scripts, which fills in one form after the other until it is sent back or there is no more form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import requests

TIMEOUT_SECONDS = 60
_PAGES = 12
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass
class _Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    asks_for: list[str] = field(default_factory=list)


class _FormParser(HTMLParser):
    """Reads the first form of a page that is posted; of its named buttons the last, as a dialogue's approval is."""

    def __init__(self) -> None:
        super().__init__()
        self.form: _Form | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        name = attributes.get("name")
        if tag == "form" and self.form is None and attributes.get("method", "").lower() == "post":
            self.form, self._inside = _Form(attributes.get("action", "")), True
        elif self.form and self._inside and name and tag in ("input", "button"):
            kind = attributes.get("type", "text")
            if kind in ("text", "password", "email") and not attributes.get("value"):
                self.form.asks_for.append(name)
            else:
                self.form.fields[name] = attributes.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


class FormBrowser:
    """A person at a browser, who knows the `answers` to the names of form fields."""

    def __init__(self, ca_file: Path, answers: Mapping[str, str]) -> None:
        self._answers = answers
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca_file)

    def walk(self, url: str, redirect_uri: str | None = None) -> str | None:
        """Fill in every form from `url` on; the address below `redirect_uri` to which the browser is sent back."""
        page = self._session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        for _ in range(_PAGES):
            while page.status_code in _REDIRECTS:
                url = urljoin(page.url, page.headers["Location"])
                if redirect_uri and url.startswith(redirect_uri):
                    return url
                page = self._session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
            assert page.status_code == 200, f"{page.url}: {page.status_code} {page.text[:1000]}"
            parser = _FormParser()
            parser.feed(page.text)
            if parser.form is None:
                return None
            page = self._submit(page.url, parser.form)
        raise AssertionError(f"no end of forms at {page.url}")

    def _submit(self, address: str, form: _Form) -> requests.Response:
        answers = {name: self._answers[name] for name in form.asks_for}
        return self._session.post(
            urljoin(address, form.action),
            data={**form.fields, **answers},
            headers={"Referer": address},
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )

"""Protection against requests that another site makes a browser send (CSRF): two checks, each enough by itself.

The first checks the site that made the request, as the browser reports it (Fetch Metadata, else Origin). The second
checks the session's token, which no other site can read. A program with a key needs
neither: no browser adds a key by itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs

from domain.errors import NotPermitted

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FIELD, HEADER = "csrf", "x-csrf-token"
_FORM = "application/x-www-form-urlencoded"
_FIELDS_LIMIT = 200


def check_site(headers: Mapping[str, str], own_origins: frozenset[str]) -> None:
    """Check that a request which changes something was made by a page of this service; `own_origins` are its own.

    A request with neither header comes from a program: every current browser sends one of the two.

    Raises:
        NotPermitted: another site's page made the request, or the browser does not report the page.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # With `Referrer-Policy: no-referrer` a browser sends `Origin: null` with our own forms too (Fetch, section 3.2).
    unsaid = (None,) if site is None else (None, "null")
    if site not in (None, "same-origin", "none") or (origin not in unsaid and origin not in own_origins):
        raise NotPermitted("request_from_another_site")


def has_form(headers: Mapping[str, str]) -> bool:
    """Whether the body is a form, which may hold the token."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def check_token(expected: str, headers: Mapping[str, str], form: bytes | None) -> None:
    """Check the session's token, in the header X-CSRF-Token or the form's field `csrf`.

    Raises:
        NotPermitted: the request has another token, or none.
    """
    presented = headers.get(HEADER) or _field(form or b"")
    if not hmac.compare_digest(presented.encode(errors="replace"), expected.encode()):
        raise NotPermitted("page_out_of_date")


def _field(form: bytes) -> str:
    try:
        return parse_qs(form.decode(), max_num_fields=_FIELDS_LIMIT).get(FIELD, [""])[0]
    except ValueError:
        return ""

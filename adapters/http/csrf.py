"""Against requests that another site makes a browser send (CSRF): two tests, each enough by itself.

Where the request was made, as the browser says (Fetch Metadata, else Origin), and the session's token, which no other
site can read. Programs with a key need neither: no browser adds a key by itself.
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


def check_site(headers: Mapping[str, str], origins: frozenset[str]) -> None:
    """See whether a request that changes something was made by a page of ours; `origins` are what browsers call us.

    A request that says nothing at all is a program's: every browser of today sends one of the two.

    Raises:
        NotPermitted: by another site's, or by one that does not say whose.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # With `Referrer-Policy: no-referrer` a browser says `Origin: null` of our own forms too (Fetch, section 3.2).
    unsaid = (None,) if site is None else (None, "null")
    if site not in (None, "same-origin", "none") or (origin not in unsaid and origin not in origins):
        raise NotPermitted("this request was made by another site's page: open the page here and do it there")


def has_form(headers: Mapping[str, str]) -> bool:
    """Whether the body is a form, which may hold the token."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def check_token(expected: str, headers: Mapping[str, str], form: bytes | None) -> None:
    """See whether the request shows the session's token, in the header X-CSRF-Token or the form's field `csrf`.

    Raises:
        NotPermitted: it does not.
    """
    shown = headers.get(HEADER) or _field(form or b"")
    if not hmac.compare_digest(shown.encode(errors="replace"), expected.encode()):
        raise NotPermitted("the page this came from is out of date: load it again and repeat it")


def _field(form: bytes) -> str:
    try:
        return parse_qs(form.decode(), max_num_fields=_FIELDS_LIMIT).get(FIELD, [""])[0]
    except ValueError:
        return ""

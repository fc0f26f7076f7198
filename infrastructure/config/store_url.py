"""The password in an address of PostgreSQL, which is a URI or a list of keywords (libpq, "Connection Strings")."""

from __future__ import annotations

import re
from urllib.parse import unquote

_USER = re.compile(r"(?P<before>postgres(?:ql)?://[^/?#@:]*):(?P<password>[^/?#]*)@")
_PARAMETER = re.compile(r"(?P<before>[?&])password=(?P<password>[^&#]*)&?")
_KEYWORD = re.compile(r"(?:^|\s)password\s*=\s*(?P<password>'(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)")


def split_password(url: str) -> tuple[str, str | None]:
    """The address without its password, and the password; None if it has none."""
    if not re.match("postgres(ql)?://", url):
        match = _KEYWORD.search(url)
        if not match:
            return url, None
        quoted = match["password"]
        inner = quoted[1:-1] if quoted.startswith("'") else quoted
        return (url[: match.start()] + url[match.end() :]).strip(), re.sub(r"\\(.)", r"\1", inner)
    if match := _USER.match(url):
        return f"{match['before']}@{url[match.end() :]}", unquote(match["password"])
    if match := _PARAMETER.search(url):
        rest = url[: match.end("before")] + url[match.end() :]
        return rest.rstrip("?&"), unquote(match["password"])
    return url, None

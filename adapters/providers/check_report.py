"""The report of a check of a client registration: codes and facts.

The sentences for the codes are in `adapters.texts.provider_check`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from adapters.providers.preset import SetupStep
from domain.errors import Fact

State = Literal["ok", "warning", "failed", "not checked"]
# A host name or an IP address. A label that is empty or too long is left out: no library makes a request to it.
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?|(?=[0-9a-f.]*:)[0-9a-f:.]+")
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class CheckItem:
    """One item of the check.

    `subject` names what was checked, `code` the finding, `remedy` the step to take, also about settings that can't be
    seen from outside. All three are codes, and their texts are filled in with `fields`.
    """

    subject: str
    state: State
    code: str
    remedy: str | None = None
    fields: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class ProviderReport:
    """The items of a check, the steps to set the registration up, and each `host:port` for the firewall."""

    provider: str
    items: tuple[CheckItem, ...]
    steps: tuple[SetupStep, ...]
    hosts: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no item failed."""
        return all(item.state != "failed" for item in self.items)


def host_and_port(url: str) -> str | None:
    """`host:port` of an https:// URL; None if a request can't be sent to the URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        return None
    if parts.scheme != "https" or not (url.isascii() and url.isprintable() and _HOST.fullmatch(host)):
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def printable(value: object) -> str:
    """A text that the provider chose, shortened and without control characters that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "".join(character if character.isprintable() else "?" for character in text[:_SHOWN_CHARACTERS])

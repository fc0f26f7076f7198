"""The address under which people reach the pages, and the link that sets up the first administrator."""

from __future__ import annotations

from infrastructure.access.administrators import SetUpLink
from infrastructure.config.tables import Config

FIRST_LINK_FILE = "mailtoken.set-up-link"
"""The file beside the key with the link that makes the first administrator."""


def public_url(config: Config) -> str:
    """The URL of the service for browsers, without a slash at the end."""
    table = config.server
    scheme = "https" if table.certificate_file else "http"
    return table.url or f"{scheme}://{table.listen}"


def setup_url(config: Config, link: SetUpLink) -> str:
    """The URL of a set-up link, which holds its secret."""
    return f"{public_url(config)}/setup?code={link.secret.reveal()}"

"""The provider that tests of refusals configure: of Microsoft's kind, with a secret in the file `secret`."""

from __future__ import annotations

from practice_faults.provider import FaultyProvider

SCAN, FAX = "scan@contoso.com", "fax@contoso.com"
SCOPE = "https://outlook.office.com/SMTP.Send"


def contoso_table(provider: FaultyProvider, more: str = "") -> str:
    """The table of the configuration file; `more` are further lines of it."""
    return f"""
[providers.contoso]
kind = "microsoft"
issuer = "{provider.issuer}"
client_id = "{provider.confidential_client_id}"
client_secret_file = "secret"
ca_file = "{provider.ca_file}"
scopes = ["{SCOPE}"]
app_scopes = ["{SCOPE}"]
timeout = 10
{more}
"""

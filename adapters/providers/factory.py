"""Makes the provider a configuration describes."""

from __future__ import annotations

import re

from adapters.providers.client_credentials import is_vschar
from adapters.providers.http_client import HttpClient
from adapters.providers.microsoft import microsoft_provider
from adapters.providers.oidc import google_provider, oidc_provider
from adapters.providers.settings import ProviderSettings
from domain.ports import Clock, Provider

_BUILDERS = {"microsoft": microsoft_provider, "google": google_provider, "oidc": oidc_provider}
_ISSUER = r"https://[^/?#\s]+(/[^?#\s]*)?"
# msal takes the first path segment for the tenant, and appends to the rest without looking at its end.
_MICROSOFT_ISSUER = r"https://[^/?#\s]+(/[^/?#\s]+)+"
# A name or an id, or one of Entra's multi-tenant endpoints.
_TENANT = r"[A-Za-z0-9][A-Za-z0-9.-]*"


def build_provider(settings: ProviderSettings, clock: Clock) -> Provider:
    """Make the provider; nothing is sent.

    Raises:
        InvalidValue: names the setting, as `providers.NAME.FIELD`.
    """
    if settings.kind == "microsoft":
        _check_authority(settings)
    else:
        _check_issuer(settings, _ISSUER, "https://login.example.com")
    if not is_vschar(settings.client_id):
        raise settings.invalid("client_id", "it is empty or has characters that are not printable ASCII")
    return _BUILDERS[settings.kind](settings, _http_client(settings, clock))


def _check_authority(settings: ProviderSettings) -> None:
    if (settings.issuer is None) == (settings.tenant is None):
        raise settings.invalid("tenant", "give the tenant, or the issuer of a private authority instead")
    if settings.tenant is not None and not re.fullmatch(_TENANT, settings.tenant, re.ASCII):
        raise settings.invalid("tenant", f"{settings.tenant!r} is not a tenant like contoso.com")
    if settings.issuer is not None:
        _check_issuer(settings, _MICROSOFT_ISSUER, "https://login.example.com/contoso")


def _check_issuer(settings: ProviderSettings, pattern: str, example: str) -> None:
    if settings.issuer is None and settings.kind == "google":
        return
    if settings.issuer is None or not re.fullmatch(pattern, settings.issuer):
        raise settings.invalid("issuer", f"{settings.issuer or 'nothing'} is not a URL like {example}")


def _http_client(settings: ProviderSettings, clock: Clock) -> HttpClient:
    timeout = settings.timeout_seconds
    if not 0 < timeout <= 300:
        raise settings.invalid("timeout", f"{timeout:g} is not a number of seconds above 0 and up to 300")
    try:
        return HttpClient(clock, timeout_seconds=timeout, ca_file=settings.ca_file, proxy=settings.proxy)
    except OSError:  # ssl.SSLError is one
        raise settings.invalid("ca_file", f"{settings.ca_file} is not a readable file of PEM certificates") from None

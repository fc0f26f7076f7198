"""Authorization servers: Microsoft through msal, Google and any OpenID provider through Authlib.

`build_provider(settings, clock)` makes a `domain.ports.Provider` of `ProviderSettings`. A client library composes each
request, `adapters.http_client` sends it and keeps the reply, `token_responses` reads the reply with the tables of
`error_table`. The package imports no client library before `build_provider` is called.
"""

from __future__ import annotations

from adapters.providers.settings import ProviderSettings
from domain.ports import Clock, Provider

__all__ = ["ProviderSettings", "build_provider"]


def build_provider(settings: ProviderSettings, clock: Clock) -> Provider:
    """Make the provider that a configuration describes; see `factory.build_provider`."""
    from adapters.providers.factory import build_provider as build

    return build(settings, clock)

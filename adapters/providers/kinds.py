"""The presets of all kinds of provider, by the kind's name in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.providers.google import GOOGLE
from adapters.providers.microsoft import MICROSOFT
from adapters.providers.oidc import OIDC
from adapters.providers.preset import Preset
from adapters.providers.settings import ProviderSettings
from infrastructure.config.tables import ProviderKind

KINDS: Mapping[ProviderKind, Preset] = MappingProxyType({"microsoft": MICROSOFT, "google": GOOGLE, "oidc": OIDC})


def preset_of(settings: ProviderSettings) -> Preset:
    """The preset of the provider's kind."""
    return KINDS[settings.kind]

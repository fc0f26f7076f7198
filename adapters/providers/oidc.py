"""Any OpenID provider: the preset of the kind `oidc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from adapters.providers.authlib_client import Authlib
from adapters.providers.client_authentication import ClientCredential
from adapters.providers.discovery import Authority
from adapters.providers.preset import PROTOCOLS, Preset, SetupStep
from adapters.providers.settings import ProviderSettings


class OpenIDPreset(Preset):
    """Any OpenID provider, by the issuer in the configuration."""

    default_scopes: Sequence[str] = ("openid", "email", "offline_access")
    sign_in_parameters: Mapping[str, str] = MappingProxyType({"prompt": "consent"})
    """Without the consent page a provider may issue no refresh token (OpenID Connect Core section 11)."""

    def authority(self, settings: ProviderSettings) -> Authority:
        """The authority with exactly the configured issuer."""
        assert settings.issuer, "validate has seen to it"
        return Authority.exactly(settings.issuer)

    def flows(self, settings: ProviderSettings, *, has_credential: bool) -> Sequence[str]:
        """The device and browser flows, and app-only for a client with a credential (RFC 6749 section 4.4)."""
        return ("device", "browser", "app") if has_credential else ("device", "browser")

    def scopes(self, settings: ProviderSettings) -> Mapping[str, Sequence[str]]:
        """The default scopes and the configured ones, for every protocol."""
        return dict.fromkeys(PROTOCOLS, tuple(dict.fromkeys((*self.default_scopes, *settings.scopes))))

    def app_scopes(self, settings: ProviderSettings) -> Sequence[str]:
        """The configured scopes only: without a person who signs in, `openid` has no meaning."""
        return settings.app_scopes or settings.scopes

    def library(self, settings: ProviderSettings, credential: ClientCredential | None) -> Authlib:
        """Authlib, with this kind's additional parameters of the authorization request."""
        return Authlib(settings, credential, self.sign_in_parameters)

    def setup_steps(
        self, settings: ProviderSettings, accounts: Sequence[str], redirect_uris: Sequence[str], *, is_public: bool
    ) -> Sequence[SetupStep]:
        """Steps for the registration, flows, scopes, claims, and the mail server."""
        register = "oidc_public_client" if is_public else "oidc_confidential_client"
        scopes = tuple(dict.fromkeys(scope for scopes in self.scopes(settings).values() for scope in scopes))
        return (
            SetupStep(register, {"client_id": settings.client_id, "authority": settings.issuer}),
            SetupStep("oidc_flows", {"redirect_uris": " and ".join(redirect_uris)}),
            SetupStep("oidc_scopes", {"scopes": " ".join(scopes)}),
            SetupStep("oidc_claims", {"claims": settings.account_claims}),
            SetupStep("oidc_mail_server"),
        )


OIDC = OpenIDPreset()

"""Google: the preset of the kind `google`.

Sources: Google's "OAuth 2.0 for Mobile & Desktop Apps" and "OAuth 2.0 for Server to Server Applications".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from adapters.providers.client_authentication import ClientCredential
from adapters.providers.discovery import Authority
from adapters.providers.google_client import GoogleClient, service_account_credentials
from adapters.providers.oidc import OpenIDPreset
from adapters.providers.preset import SetupStep
from adapters.providers.settings import ProviderSettings

ISSUER = "https://accounts.google.com"
MAIL_SCOPE = "https://mail.google.com/"


class GooglePreset(OpenIDPreset):
    """Google, for Workspace and for personal accounts."""

    mail_hosts = ("smtp.gmail.com:587", "smtp.gmail.com:465", "pop.gmail.com:995", "imap.gmail.com:993")
    # Google issues refresh tokens without the scope `offline_access`, which it refuses.
    default_scopes = ("openid", "email", MAIL_SCOPE)
    # Without the consent page Google issues a refresh token at an account's first sign-in only.
    sign_in_parameters: Mapping[str, str] = MappingProxyType({"prompt": "consent", "access_type": "offline"})
    sign_in_policy = "workspace_policy_unseen"
    device_flow_refusal = "google_device_flow_refuses_mail"
    needs_secret = True

    def validate(self, settings: ProviderSettings) -> None:
        """Check the issuer if the configuration has one: only an authority other than Google's own needs it."""
        if settings.issuer is not None:
            super().validate(settings)
        if settings.service_account is not None:
            try:
                service_account_credentials(settings.service_account, token_uri=self.authority(settings).url)
            except ValueError:
                raise settings.invalid("service_account_file", "not_a_service_account") from None

    def authority(self, settings: ProviderSettings) -> Authority:
        """Google's own authority, unless the configuration names another."""
        return Authority.exactly(settings.issuer or ISSUER)

    def flows(self, settings: ProviderSettings, *, has_credential: bool) -> Sequence[str]:
        """The browser flow, as Google's device code flow refuses the mail scope; app-only with a service account."""
        return ("browser", "app") if settings.service_account else ("browser",)

    def app_scopes(self, settings: ProviderSettings) -> Sequence[str]:
        """The scope for mail, which an administrator of the domain delegates to the service account."""
        return settings.app_scopes or (MAIL_SCOPE,)

    def library(self, settings: ProviderSettings, credential: ClientCredential | None) -> GoogleClient:
        """Authlib for people, google-auth for the service account."""
        return GoogleClient(settings, credential, self.sign_in_parameters)

    def setup_steps(
        self, settings: ProviderSettings, accounts: Sequence[str], redirect_uris: Sequence[str], *, is_public: bool
    ) -> Sequence[SetupStep]:
        """Steps in the Cloud console, then for the mailboxes. A desktop client has no redirect URIs to register."""
        return tuple(
            map(SetupStep, ("google_audience", "google_scope", "google_client", "google_browser", "google_mailboxes"))
        )


GOOGLE = GooglePreset()

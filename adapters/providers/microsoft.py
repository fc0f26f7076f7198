"""Microsoft Entra: the preset of the kind `microsoft`.

Sources: Microsoft's "Authenticate an IMAP, POP or SMTP connection using OAuth" and its error code reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from adapters.providers.client_authentication import ClientCredential
from adapters.providers.discovery import Authority
from adapters.providers.msal_client import Msal
from adapters.providers.preset import Preset, SetupStep, check_issuer
from adapters.providers.settings import ProviderSettings

_LOGIN = "https://login.microsoftonline.com"
# The issuer of a tenant contains the tenant's id; the issuer of `organizations` and `common` a placeholder for an id.
_ISSUER = re.compile(re.escape(_LOGIN) + r"/(\{tenantid\}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})/v2\.0")
# An application belongs to one tenant, so these multi-tenant endpoints issue no app-only token.
_MULTI_TENANT = frozenset({"common", "organizations", "consumers"})
# A tenant's name or id, or one of Entra's multi-tenant endpoints.
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*", re.ASCII)
# msal takes the first path segment for the tenant, and appends to the path even if it ends in a slash.
_PRIVATE_ISSUER = r"https://[^/?#\s]+(/[^/?#\s]+)+"
_SCOPES = MappingProxyType(
    {
        "smtp": ("https://outlook.office.com/SMTP.Send",),
        "pop": ("https://outlook.office.com/POP.AccessAsUser.All",),
        "imap": ("https://outlook.office.com/IMAP.AccessAsUser.All",),
    }
)
_APP_SCOPES = ("https://outlook.office365.com/.default",)
_OBJECT_ID = "<object id of the Enterprise Application>"


class MicrosoftPreset(Preset):
    """Entra's tenant `settings.tenant`, or the private authority `settings.issuer`."""

    mail_hosts = ("smtp.office365.com:587", "outlook.office365.com:995", "outlook.office365.com:993")
    remedies = MappingProxyType(
        {
            "AADSTS7000222": "entra_secret_expired",
            "AADSTS7000215": "entra_secret_wrong",
            "AADSTS7000218": "entra_allow_public_flows_or_secret",
            "AADSTS70002": "entra_credentials_wrong",
            "AADSTS700025": "entra_public_client",
            "AADSTS700027": "entra_certificate_unknown",
            "AADSTS700016": "entra_application_unknown",
            "unauthorized_client": "entra_allow_public_flows",
            "invalid_client": "entra_compare_client",
            "invalid_scope": "entra_add_permission",
        }
    )
    sign_in_policy = "conditional_access_unseen"

    def validate(self, settings: ProviderSettings) -> None:
        """Check that the settings have either a tenant of Entra or a private issuer."""
        if (settings.issuer is None) == (settings.tenant is None):
            raise settings.invalid("tenant", "tenant_or_issuer")
        if settings.issuer is not None:
            check_issuer(settings, _PRIVATE_ISSUER, "https://login.example.com/contoso")
        if settings.tenant is not None and not _TENANT.fullmatch(settings.tenant):
            raise settings.invalid("tenant", "not_a_tenant", value=settings.tenant)

    def authority(self, settings: ProviderSettings) -> Authority:
        """Entra's authority for the tenant, whose issuer contains the tenant's id; or exactly the private issuer."""
        if settings.issuer:
            return Authority.exactly(settings.issuer)
        return Authority(f"{_LOGIN}/{settings.tenant}/v2.0", "tenant", lambda found: bool(_ISSUER.fullmatch(found)))

    def flows(self, settings: ProviderSettings, *, has_credential: bool) -> Sequence[str]:
        """The device and browser flows, and app-only for a client with a credential and a single tenant."""
        has_app = has_credential and not self.untestable_client(settings)
        return ("device", "browser", "app") if has_app else ("device", "browser")

    def scopes(self, settings: ProviderSettings) -> Mapping[str, Sequence[str]]:
        """The configured scopes, which replace the default ones."""
        return {protocol: settings.scopes or usual for protocol, usual in _SCOPES.items()}

    def app_scopes(self, settings: ProviderSettings) -> Sequence[str]:
        """All permissions that the application has for Exchange Online, unless the configuration names scopes."""
        return settings.app_scopes or _APP_SCOPES

    def library(self, settings: ProviderSettings, credential: ClientCredential | None) -> Msal:
        """Microsoft's own library, which implements the client authentication of Entra."""
        return Msal(settings, credential, None if settings.issuer else f"{_LOGIN}/{settings.tenant}")

    def unannounced(self, settings: ProviderSettings) -> Mapping[str, str]:
        """The fields that Entra's document lacks: it has no revocation endpoint, and supports PKCE unannounced."""
        if settings.issuer:
            return MappingProxyType({})
        return MappingProxyType(
            {"revocation_endpoint": "entra_has_no_revocation", "code_challenge_methods_supported": "entra_takes_pkce"}
        )

    def untestable_client(self, settings: ProviderSettings) -> bool:
        """Whether the tenant is a multi-tenant endpoint; an application belongs to one tenant."""
        return settings.tenant in _MULTI_TENANT

    def consent_link(self, settings: ProviderSettings) -> str | None:
        """The URL of Microsoft's "Construct the URL for granting tenant-wide admin consent"; None without a tenant."""
        if settings.tenant is None:
            return None
        tenant = "organizations" if settings.tenant in _MULTI_TENANT else settings.tenant
        return f"{_LOGIN}/{tenant}/adminconsent?client_id={quote(settings.client_id, safe='')}"

    def setup_steps(
        self, settings: ProviderSettings, accounts: Sequence[str], redirect_uris: Sequence[str], *, is_public: bool
    ) -> Sequence[SetupStep]:
        """Steps for the app registration and the consent, then in Exchange Online's PowerShell for each mailbox."""
        tenant = settings.tenant or settings.issuer
        consent = self.consent_link(settings)
        has_own_tenant = settings.tenant is not None and settings.tenant not in _MULTI_TENANT
        return (
            SetupStep("entra_registration", {"authority": tenant, "client_id": settings.client_id}),
            SetupStep("entra_redirect", {"redirect_uris": " and ".join(redirect_uris)}),
            SetupStep("entra_public_flows"),
            SetupStep("entra_permissions"),
            SetupStep("entra_app_permissions"),
            SetupStep("entra_consent", {"consent": consent}) if consent else SetupStep("entra_consent_private"),
            SetupStep("exchange_connect_tenant", {"authority": tenant})
            if has_own_tenant
            else SetupStep("exchange_connect"),
            SetupStep(
                "exchange_service_principal", {"client_id": _quoted(settings.client_id), "object_id": _OBJECT_ID}
            ),
            *(step for mailbox in accounts or ("<mailbox>",) for step in _mailbox_steps(_quoted(mailbox))),
        )


def _mailbox_steps(mailbox: str) -> Sequence[SetupStep]:
    codes = ("exchange_app_access", "exchange_smtp", "exchange_pop_imap", "exchange_shared_mailbox")
    return [SetupStep(code, {"mailbox": mailbox, "object_id": _OBJECT_ID}) for code in codes]


def _quoted(text: str) -> str:
    """A value as a literal of PowerShell, which treats a typographic apostrophe as a quotation mark too."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"


MICROSOFT = MicrosoftPreset()

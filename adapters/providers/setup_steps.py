"""What a person does at the provider and at the firewall: set-up steps, and the remedy for each refusal.

Texts alone: nothing here asks anybody anything. Sources: Microsoft's "Authenticate an IMAP, POP or SMTP connection
using OAuth", its error code reference, Google's "OAuth 2.0 for Mobile & Desktop Apps".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote

from adapters.providers.client_credentials import client_credentials
from adapters.providers.errors import OAuthError, Verdict
from adapters.providers.microsoft import LOGIN, MULTI_TENANT
from adapters.providers.settings import Kind, ProviderSettings
from domain.outcomes import Reason

MAIL_HOSTS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "microsoft": ("smtp.office365.com:587", "outlook.office365.com:995", "outlook.office365.com:993"),
        "google": ("smtp.gmail.com:587", "smtp.gmail.com:465", "pop.gmail.com:995", "imap.gmail.com:993"),
        "oidc": (),
    }
)
_OBJECT_ID = "<object id of the Enterprise Application>"

_MICROSOFT_REMEDIES = MappingProxyType(
    {
        "AADSTS7000222": (
            "the client secret has expired: make a new one under Certificates & secrets, put its Value into the file"
            " that client_secret_file names"
        ),
        "AADSTS7000215": (
            "the client secret is wrong: client_secret_file has to hold the Value that Certificates & secrets showed"
            " once, not the Secret ID"
        ),
        "AADSTS7000218": (
            "set 'Allow public client flows' to Yes under Authentication of the app registration,"
            " or set client_secret_file"
        ),
        "AADSTS70002": "the client's credentials are wrong or missing: check client_secret_file",
        "AADSTS700025": "the app registration is a public client: take client_secret_file out of the configuration",
        "AADSTS700027": "the certificate is not one of the app registration's: upload it under Certificates & secrets",
        "AADSTS700016": (
            "there is no such application in tenant {tenant}: copy 'Application (client) ID' from the app"
            " registration's Overview into client_id; one of another tenant needs consent first: {consent}"
        ),
        "unauthorized_client": (
            "set 'Allow public client flows' to Yes under Authentication of the app registration,"
            " and compare client_id with its 'Application (client) ID'"
        ),
        "invalid_client": (
            "compare client_id with 'Application (client) ID', and client_secret_file with Certificates & secrets"
        ),
        "invalid_scope": "one of the scopes is not among the registration's API permissions: add it, or correct scopes",
    }
)
_REMEDIES = MappingProxyType(
    {
        "unauthorized_client": (
            "the client is not registered there or may not use this flow: compare client_id, and have the flow"
            " (OAuth 2.0 Device Authorization Grant) enabled for the client"
        ),
        "unsupported_grant_type": "the provider has no such flow: have it enabled there, or use --flow browser",
        "invalid_client": "compare client_id and client_secret_file with the registration",
        "invalid_scope": "one of the scopes is unknown, or not for this client: correct scopes, or have it added there",
    }
)


def refusal_remedy(settings: ProviderSettings, error: OAuthError) -> str:
    """What to do about an error that the provider answered with."""
    known = _MICROSOFT_REMEDIES if settings.kind == "microsoft" else _REMEDIES
    text = known.get(error.code) or _REMEDIES.get(error.code)
    if text is not None:
        return text.format(tenant=settings.tenant or settings.issuer, consent=consent_link(settings))
    if error.rule.reason is Reason.CONSENT_REQUIRED:
        return f"an administrator has to consent to the application: {consent_link(settings)}"
    if error.rule.reason is Reason.POLICY:
        return "a policy of the provider forbids it: have the application exempted, or use --flow browser"
    if error.rule.setting is not None:
        return f"correct {error.rule.setting} of [providers.{settings.name}]"
    if error.rule.verdict is Verdict.UNKNOWN:
        return f"look {error.code} up in the provider's documentation"
    return "compare client_id and scopes with the registration"


def consent_link(settings: ProviderSettings) -> str:
    """Where an administrator consents for everybody; with another provider than Entra that is its own affair."""
    if settings.kind != "microsoft" or settings.tenant is None:
        return "the provider's administration"
    tenant = "organizations" if settings.tenant in MULTI_TENANT else settings.tenant
    return f"{LOGIN}/{tenant}/adminconsent?client_id={quote(settings.client_id, safe='')}"


def setup_steps(
    settings: ProviderSettings, accounts: Sequence[str], redirect_uris: Sequence[str], scopes: Sequence[str]
) -> tuple[str, ...]:
    """How to set the registration up, with what is known filled in; `accounts` are addresses of mailboxes."""
    uris = " and ".join(redirect_uris)
    match settings.kind:
        case "microsoft":
            return _microsoft_steps(settings, accounts, uris)
        case "google":
            return _google_steps()
        case "oidc":
            return _oidc_steps(settings, uris, scopes)


def _microsoft_steps(settings: ProviderSettings, accounts: Sequence[str], redirect_uris: str) -> tuple[str, ...]:
    tenant, client_id = settings.tenant or settings.issuer, settings.client_id
    return (
        f"Entra admin center of {tenant} > App registrations > the one with Application (client) ID {client_id}.",
        "Authentication > Add a platform > Mobile and desktop applications >"
        f" redirect URI {redirect_uris} (for --flow browser).",
        "Authentication > Allow public client flows: Yes (for --flow device without a secret).",
        "API permissions > Microsoft Graph > Delegated: SMTP.Send for SMTP, POP.AccessAsUser.All for POP,"
        " IMAP.AccessAsUser.All for IMAP, and offline_access.",
        "For --flow app only: API permissions > APIs my organization uses > Office 365 Exchange Online > Application:"
        " SMTP.SendAsApp for SMTP, POP.AccessAsApp for POP, IMAP.AccessAsApp for IMAP; and a secret or certificate"
        " under Certificates & secrets (note when it expires: no reply says so in advance).",
        f"Grant admin consent there, or open {consent_link(settings)} as an administrator.",
        "In Exchange Online PowerShell: Connect-ExchangeOnline"
        + (f" -Organization {tenant}" if settings.tenant and settings.tenant not in MULTI_TENANT else ""),
        f"For --flow app only: New-ServicePrincipal -AppId {_quoted(client_id)} -ObjectId '{_OBJECT_ID}'"
        " (Enterprise applications > Overview; the object id under App registrations is another one).",
        *(step for mailbox in accounts or ("<mailbox>",) for step in _mailbox_steps(mailbox)),
    )


def _mailbox_steps(mailbox: str) -> tuple[str, ...]:
    name = _quoted(mailbox)
    return (
        f"For --flow app only: Add-MailboxPermission -Identity {name} -User '{_OBJECT_ID}' -AccessRights FullAccess",
        f"For SMTP: Set-CASMailbox {name} -SmtpClientAuthenticationDisabled $false",
        f"For POP and IMAP: Set-CASMailbox {name} -PopEnabled $true -ImapEnabled $true",
        f"If {name} is a shared mailbox: Add-MailboxPermission -Identity {name} -User '<who signs in>'"
        f" -AccessRights FullAccess; Add-RecipientPermission {name} -Trustee '<who signs in>' -AccessRights SendAs",
    )


def _google_steps() -> tuple[str, ...]:
    return (
        "Google Cloud console > Google Auth Platform > Audience: Internal, or Publishing status 'In production'."
        " In 'Testing' every authorization ends after 7 days.",
        "Data Access > add the scope https://mail.google.com/ (SMTP refuses the narrower gmail.send).",
        "Clients > Create client > Application type: Desktop app. Its id goes into client_id, its secret into the file"
        " that client_secret_file names. A desktop client has no redirect URIs to register.",
        "Use --flow browser: Google's device code flow refuses the mail scope.",
        "Workspace: Admin console > Apps > Google Workspace > Gmail > End User Access: allow POP and IMAP;"
        " Security > API controls: trust the application. A personal account: Gmail > Settings > Forwarding and"
        " POP/IMAP: enable them.",
    )


def _oidc_steps(settings: ProviderSettings, redirect_uris: str, scopes: Sequence[str]) -> tuple[str, ...]:
    kind = "confidential" if client_credentials(settings) else "public"
    return (
        f"Register {settings.client_id} as a {kind} client of {settings.issuer}.",
        "Allow it the device authorization grant (--flow device), the authorization code grant with PKCE S256"
        f" and redirect URI {redirect_uris} (--flow browser), and refresh tokens.",
        f"Allow it the scopes {' '.join(scopes)}, and what the mail server asks for.",
        f"Have the account's address in one of these ID token claims: {', '.join(settings.account_claims)}.",
        "Have the mail server accept this provider's access tokens, as XOAUTH2 or OAUTHBEARER.",
    )


def _quoted(text: str) -> str:
    """A value as PowerShell takes it literally; to PowerShell a typographic apostrophe is one, too."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"

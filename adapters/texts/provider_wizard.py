"""The steps at a provider before there are ids: where to click, and what to copy there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class WizardStep(NamedTuple):
    """A step; `copies` names the values to copy: `redirect_uris`, or texts for the place as they are."""

    text: str
    copies: tuple[str, ...] = ()


REDIRECT_URIS = "redirect_uris"

WIZARD_STEPS: Mapping[str, Sequence[WizardStep]] = MappingProxyType(
    {
        "microsoft": (
            WizardStep(
                "Open entra.microsoft.com as an administrator: App registrations > New registration. Give it a name,"
                " choose 'Accounts in this organizational directory only', and register it."
            ),
            WizardStep(
                "Authentication > Add a platform > Mobile and desktop applications. Add each of these redirect URIs:",
                (REDIRECT_URIS,),
            ),
            WizardStep("On the same page, Allow public client flows: Yes. Save."),
            WizardStep(
                "API permissions > Add a permission > Microsoft Graph > Delegated permissions. Add these, as far as you"
                " need them, then press Grant admin consent:",
                ("SMTP.Send", "POP.AccessAsUser.All", "IMAP.AccessAsUser.All", "offline_access"),
            ),
            WizardStep("Overview: copy Application (client) ID and Directory (tenant) ID into the fields here."),
            WizardStep(
                "A client secret is needed only if the application is to sign in by itself, without a person:"
                " Certificates & secrets > New client secret. Copy its Value, not its Secret ID."
            ),
        ),
        "google": (
            WizardStep(
                "Open console.cloud.google.com, and in it Google Auth Platform > Audience: Internal, or Publishing"
                " status 'In production'. In 'Testing' every authorization ends after 7 days."
            ),
            WizardStep("Data Access > Add or remove scopes. Add this scope:", ("https://mail.google.com/",)),
            WizardStep(
                "Clients > Create client > Application type: Desktop app. A desktop client has no redirect URIs to"
                " register."
            ),
            WizardStep("Copy its Client ID and its Client secret into the fields here."),
            WizardStep(
                "Workspace: in the Admin console trust the application under Security > API controls, and allow POP and"
                " IMAP under Gmail > End User Access."
            ),
        ),
        "oidc": (
            WizardStep("At the provider, register a client: public, or confidential with a client secret."),
            WizardStep(
                "Allow it the device authorization grant, the authorization code grant with PKCE S256, and refresh"
                " tokens, with these redirect URIs:",
                (REDIRECT_URIS,),
            ),
            WizardStep(
                "Allow it these scopes, and those that the mail server asks for:", ("openid", "email", "offline_access")
            ),
            WizardStep("Have the account's address in the ID token, as preferred_username, email or upn."),
            WizardStep("Copy the issuer and the client ID into the fields here, and the client secret if it has one."),
        ),
    }
)
"""By the kind of provider."""

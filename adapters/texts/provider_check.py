"""The sentences of `provider check`, by code: the items checked, the findings, the remedies and the set-up steps.

Each is the same on every surface except for the words for a sign-in flow: the command line names an option, a page
and the API name the flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapters.texts.provider_place import with_place
from adapters.texts.provider_replies import why_text
from adapters.texts.wording import Surface

_FLOWS: Mapping[Surface, Mapping[str, str]] = MappingProxyType(
    {
        Surface.COMMAND: {"browser": "--flow browser", "device": "--flow device", "app": "--flow app"},
        Surface.PAGE: {"browser": "the browser flow", "device": "the device code flow", "app": "the app-only flow"},
        Surface.API: {"browser": "the browser flow", "device": "the device code flow", "app": "the app-only flow"},
    }
)

_SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "tls_certificate": "TLS certificate",
        "discovery": "discovery",
        "clock": "clock",
        "token_endpoint": "token endpoint",
        "device_authorization_endpoint": "device authorization endpoint",
        "authorization_endpoint": "authorization endpoint",
        "revocation_endpoint": "revocation endpoint",
        "pkce": "PKCE",
        "signing_keys": "signing keys",
        "device_flow": "device flow",
        "client_credential": "{credential}",
        "client_certificate_expiry": "{credential} expiry",
        "sign_in_policy": "sign-in policy",
        "redirect_uri": "redirect URI",
    }
)

_UNSEEN_POLICY = "what a policy answers shows only when somebody signs in"

_FINDINGS: Mapping[str, str] = MappingProxyType(
    {
        # Any item
        "no_answer_in_time": "no answer in time",
        "no_reply": "{why}",
        "provider_in_trouble": "the provider is in trouble: HTTP {status}",
        "provider_in_trouble_with_error": "the provider is in trouble: HTTP {status} ({error})",
        "refused": "the provider refuses: {error}",
        "not_oauth": "the reply is not OAuth's: HTTP {status}",
        "authority_not_usable": "the service can't use this authority; see the items above",
        # TLS certificate
        "no_connection": "{place}: no connection ({why})",
        "no_tls": "{place}: no TLS connection ({reason})",
        "server_certificate_lasts": "{place}: for {names}, until {until} ({days} days left)",
        "server_certificate_ended": "{place}: for {names}, expired on {until}",
        "server_certificate_expired": "{place}: its certificate has expired",
        "server_certificate_not_valid_yet": "{place}: its certificate is not valid yet",
        "server_certificate_self_signed": "{place}: its certificate is self-signed",
        "server_certificate_authority_unknown": "{place}: its authority is unknown",
        "server_certificate_for_another_name": "{place}: its certificate is for another name",
        "server_certificate_not_for_address": "{place}: its certificate is not for this IP address",
        "server_certificate_not_verified": "{place}: its certificate can't be verified",
        # Discovery and clock
        "issuer_confirmed": "issuer {issuer}",
        "another_issuer": "its issuer is {issuer}, not {authority}",
        "no_authority": "no such authority: HTTP {status}",
        "no_authority_with_error": "no such authority: HTTP {status} ({error})",
        "discovery_in_trouble": "HTTP {status}",
        "no_reply_to_compare_with": "no reply to compare with",
        "no_date": "the reply has no date",
        "clock_ahead": "{seconds} seconds ahead of the provider's",
        "clock_behind": "{seconds} seconds behind the provider's",
        # Endpoints, PKCE and keys
        "no_discovery_document": "no discovery document",
        "announced": "{url}",
        "not_announced": "none is announced",
        "not_https": "{url} is not an https:// address",
        "entra_has_no_revocation": "Entra has none: a deleted token's grant ends unused, or with its sessions",
        "pkce_announced": "S256 is announced",
        "pkce_not_announced": "not announced",
        "pkce_without_s256": "announced without S256",
        "entra_takes_pkce": "Entra takes S256 and does not announce it",
        "signing_keys": "{usable} of {count} can sign ID tokens",
        "no_signing_key": "none of {count} keys can sign an ID token that we believe",
        # Flows and the client
        "device_code_given": "a device code was given for {scopes}; it expires unused",
        "no_device_endpoint": "the provider has no device authorization endpoint",
        "no_device_code_in_reply": "the reply has no device code in it",
        "google_device_flow_refuses_mail": "Google's device flow refuses the mail scope",
        "no_secret": "none is configured",
        "public_client": "none is configured: a public client",
        "tenant_without_applications": "{tenant} is no tenant that an application could sign in to",
        "credential_accepted": "the provider accepts it; nobody says when it expires",
        "credential_accepted_with_error": "the provider accepts it (and answers {error}); nobody says when it expires",
        "answer_about_something_else": "the answer says nothing of it: {error}",
        "client_certificate_lasts": "{thumbprint}, until {until} ({days} days left)",
        "client_certificate_ended": "{thumbprint}, expired on {until}",
        "client_certificate_not_valid_yet": "{thumbprint} is not valid yet",
        # What can't be seen from outside
        "policy_unseen": _UNSEEN_POLICY,
        "conditional_access_unseen": (f"Conditional Access: {_UNSEEN_POLICY}, as does 'Allow public client flows'"),
        "workspace_policy_unseen": f"Workspace's access control: {_UNSEEN_POLICY}",
        "redirects_unseen": "which ones are registered can't be seen from outside",
    }
)

_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "try_again": "try again",
        "try_again_in": "try again in {seconds} seconds",
        "try_again_or_see_name_service": "try again; see if the name service is slow",
        "provider_in_trouble": "the provider is in trouble: try again",
        "let_through": ("let {place} through the firewall, check the name service, or set {proxy}"),
        "look_for_proxy_or_portal": "look for a proxy or portal between",
        "look_for_proxy_that_breaks_tls": "look for a proxy that breaks TLS",
        "correct_setting": "correct {setting} of the provider {provider}",
        # Certificates and clock
        "renew_server_certificate": "have the server's administrator renew its certificate",
        "set_clock": "have this machine's clock set by NTP",
        "set_clock_or_ask_owner": "set this machine's clock, or ask the server's administrator",
        "set_ca_file_for_own_server": "if the server is yours, set {ca_file}",
        "set_ca_file_for_own_authority": "if the authority is yours, or your proxy's, set {ca_file}",
        "correct_issuer_to_certificate": "correct issuer to a name that the certificate has",
        "make_new_client_certificate": ("make a new one, have it registered beside the old one, then configure it"),
        # Endpoints, PKCE and keys
        "check_issuer": "no token can be had: check that issuer is the right one",
        "use_browser": "use {browser}",
        "use_browser_or_enable": "use {browser}, or have the device authorization grant enabled",
        "use_device": "use {device}: nobody can sign in by browser",
        "end_grants_at_provider": "end the grant of a deleted token at the provider itself",
        "ask_about_pkce": "ask the provider if it takes PKCE with S256; if not, use {device}",
        "ask_about_keys": "nobody's sign-in can be believed without: ask the provider's administrator",
        # The client
        "set_needed_secret": "set {client_secret}: Google's Desktop app clients have a secret and have to send it",
        "set_own_tenant": "set tenant to the registration's own for a moment",
        "compare_client": "compare client_id and {client_secret} with the registration",
        "compare_client_and_scopes": "compare client_id and scopes with the registration",
        "correct_scopes": (
            "one of the scopes is unknown, or not for this client: correct scopes, or have it added there"
        ),
        "enable_flow": "the provider has no such flow: have it enabled there, or use {browser}",
        "register_client_or_enable_flow": (
            "the client is not registered there or may not use this flow: compare client_id, and have the flow"
            " (OAuth 2.0 Device Authorization Grant) enabled for the client"
        ),
        "consent": "an administrator has to consent to the application: {consent}",
        "consent_at_provider": (
            "an administrator has to consent to the application: the provider's administration is the place"
        ),
        "policy": "a policy of the provider forbids it: have the application exempted, or use {browser}",
        "look_up_error": "look {error} up in the provider's documentation",
        "entra_secret_expired": (
            "the client secret has expired: make a new one under Certificates & secrets, put its Value into"
            " {client_secret_value}"
        ),
        "entra_secret_wrong": (
            "the client secret is wrong: {client_secret} has to hold the Value that Certificates & secrets showed"
            " once, not the Secret ID"
        ),
        "entra_allow_public_flows": (
            "set 'Allow public client flows' to Yes under Authentication of the app registration,"
            " and compare client_id with its 'Application (client) ID'"
        ),
        "entra_allow_public_flows_or_secret": (
            "set 'Allow public client flows' to Yes under Authentication of the app registration,"
            " or set {client_secret}"
        ),
        "entra_credentials_wrong": "the client's credentials are wrong or missing: check {client_secret}",
        "entra_public_client": ("the app registration is a public client: take {client_secret} {away}"),
        "entra_certificate_unknown": (
            "the certificate is not one of the app registration's: upload it under Certificates & secrets"
        ),
        "entra_application_unknown": (
            "there is no such application in tenant {authority}: copy 'Application (client) ID' from the app"
            " registration's Overview into client_id; one of another tenant needs consent first: {consent}"
        ),
        "entra_compare_client": (
            "compare client_id with 'Application (client) ID', and {client_secret} with Certificates & secrets"
        ),
        "entra_add_permission": (
            "one of the scopes is not among the registration's API permissions: add it, or correct scopes"
        ),
        # What can't be seen from outside
        "policy_unseen_remedy": "get a token once with an account of each kind",
        "conditional_access_unseen_remedy": (
            "if a sign-in ends with AADSTS53003 or 530032, have this application exempted or use {browser};"
            " 'Sign-in logs' names the policy"
        ),
        "workspace_policy_unseen_remedy": (
            "if a sign-in ends with admin_policy_enforced, have the application trusted under API controls"
        ),
        "register_redirects": "register {redirect_uris} for {browser}",
    }
)

_STEPS: Mapping[str, str] = MappingProxyType(
    {
        # Microsoft
        "entra_registration": (
            "Entra admin center of {authority} > App registrations > the one with Application (client) ID {client_id}."
        ),
        "entra_redirect": (
            "Authentication > Add a platform > Mobile and desktop applications >"
            " redirect URI {redirect_uris} (for {browser})."
        ),
        "entra_public_flows": "Authentication > Allow public client flows: Yes (for {device} without a secret).",
        "entra_permissions": (
            "API permissions > Microsoft Graph > Delegated: SMTP.Send for SMTP, POP.AccessAsUser.All for POP,"
            " IMAP.AccessAsUser.All for IMAP, and offline_access."
        ),
        "entra_app_permissions": (
            "For {app} only: API permissions > APIs my organization uses > Office 365 Exchange Online > Application:"
            " SMTP.SendAsApp for SMTP, POP.AccessAsApp for POP, IMAP.AccessAsApp for IMAP; and a secret or certificate"
            " under Certificates & secrets (note when it expires: no reply says so in advance)."
        ),
        "entra_consent": "Grant admin consent there, or open {consent} as an administrator.",
        "entra_consent_private": "Grant admin consent there, as an administrator.",
        "exchange_connect": "In Exchange Online PowerShell: Connect-ExchangeOnline",
        "exchange_connect_tenant": ("In Exchange Online PowerShell: Connect-ExchangeOnline -Organization {authority}"),
        "exchange_service_principal": (
            "For {app} only: New-ServicePrincipal -AppId {client_id} -ObjectId '{object_id}'"
            " (Enterprise applications > Overview; the object id under App registrations is another one)."
        ),
        "exchange_app_access": (
            "For {app} only: Add-MailboxPermission -Identity {mailbox} -User '{object_id}' -AccessRights FullAccess"
        ),
        "exchange_smtp": "For SMTP: Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false",
        "exchange_pop_imap": "For POP and IMAP: Set-CASMailbox {mailbox} -PopEnabled $true -ImapEnabled $true",
        "exchange_shared_mailbox": (
            "If {mailbox} is a shared mailbox: Add-MailboxPermission -Identity {mailbox} -User '<who signs in>'"
            " -AccessRights FullAccess; Add-RecipientPermission {mailbox} -Trustee '<who signs in>'"
            " -AccessRights SendAs"
        ),
        # Google
        "google_audience": (
            "Google Cloud console > Google Auth Platform > Audience: Internal, or Publishing status 'In production'."
            " In 'Testing' every authorization ends after 7 days."
        ),
        "google_scope": "Data Access > add the scope https://mail.google.com/ (SMTP refuses the narrower gmail.send).",
        "google_client": (
            "Clients > Create client > Application type: Desktop app. Its id goes into client_id, its secret into"
            " {client_secret_value}. A desktop client has no redirect URIs to register."
        ),
        "google_browser": "Use {browser}: Google's device code flow refuses the mail scope.",
        "google_mailboxes": (
            "Workspace: Admin console > Apps > Google Workspace > Gmail > End User Access: allow POP and IMAP;"
            " Security > API controls: trust the application. A personal account: Gmail > Settings > Forwarding and"
            " POP/IMAP: enable them."
        ),
        # Any OpenID provider
        "oidc_public_client": "Register {client_id} as a public client of {authority}.",
        "oidc_confidential_client": "Register {client_id} as a confidential client of {authority}.",
        "oidc_flows": (
            "Allow it the device authorization grant ({device}), the authorization code grant with PKCE S256"
            " and redirect URI {redirect_uris} ({browser}), and refresh tokens."
        ),
        "oidc_scopes": "Allow it the scopes {scopes}, and what the mail server asks for.",
        "oidc_claims": "Have the account's address in one of these ID token claims: {claims}.",
        "oidc_mail_server": "Have the mail server accept this provider's access tokens, as XOAUTH2 or OAUTHBEARER.",
    }
)


def subject_text(subject: str, fields: Mapping[str, Any]) -> str:
    """The name of what was looked at."""
    return _filled(_SUBJECTS, subject, fields, Surface.API)


def finding_text(code: str, fields: Mapping[str, Any], surface: Surface) -> str:
    """The sentence of a finding. The code itself if only a newer service knows it, as for remedies and steps."""
    return _filled(_FINDINGS, code, fields, surface)


def remedy_text(code: str, fields: Mapping[str, Any], surface: Surface) -> str:
    """What to do about a finding."""
    return _filled(_REMEDIES, code, fields, surface)


def step_text(code: str, fields: Mapping[str, Any], surface: Surface) -> str:
    """What to do to set a registration up."""
    return _filled(_STEPS, code, fields, surface)


def _filled(texts: Mapping[str, str], code: str, fields: Mapping[str, Any], surface: Surface) -> str:
    values = {name: ", ".join(value) if isinstance(value, list | tuple) else value for name, value in fields.items()}
    if "why" in values:
        values["why"] = why_text(values["why"])
    text = with_place(texts.get(code, code), surface, is_stored=fields.get("stored") is True)
    return text.format_map({**_FLOWS[surface], **values})

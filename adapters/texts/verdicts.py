"""The sentences of the connection test and of sending a message: how it ended, whose fault it was, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from adapters.texts.errors import error_text, filled
from adapters.texts.wording import ErrorText, Surface
from domain.mail_report import Fault, Verdict

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        Fault.NETWORK: "the network",
        Fault.CERTIFICATE: "the mail server's certificate",
        Fault.CONFIGURATION: "our configuration",
        Fault.TOKEN: "the token",
        Fault.MAILBOX: "a setting of the mailbox or its tenant",
        Fault.PERMISSION: "what the account is permitted",
        Fault.SENDER: "the From address",
        Fault.MESSAGE: "the message",
        Fault.SERVER: "the mail server",
    }
)
"""The party at fault for a failure, by code."""

_ENABLE_FOR_MAILBOX = "Set-CASMailbox MAILBOX -SmtpClientAuthenticationDisabled $false"
_ENABLE_FOR_TENANT = "Set-TransportConfig -SmtpClientAuthenticationDisabled $false"
_CA_FILE = "if the server is yours, set ca_file under [mail] in the configuration"

VERDICTS: Mapping[str, ErrorText] = MappingProxyType(
    {
        # It worked, or in part
        "token_accepted": ErrorText("The server accepted the token for {mailbox}"),
        "message_accepted": ErrorText("The server accepted the message for {accepted}"),
        "message_accepted_in_part": ErrorText(
            "The message was sent to {accepted} but not to {refused}, which the server refused",
            step="check these and send it to them alone",
        ),
        # Before anything is sent
        "login_incomplete": ErrorText("Nothing was sent: {cause}"),
        "message_not_sendable": ErrorText("The message was not sent: {cause}"),
        "value_to_correct": ErrorText("A value has to be corrected first: {cause}"),
        "tls_required": ErrorText(
            "{server} is not on this machine, so nothing is sent without TLS", step="set TLS to starttls or implicit"
        ),
        "connection_not_private": ErrorText(
            "The connection is not private, so no token was sent", step="set TLS to starttls or implicit"
        ),
        "extension_8bitmime_missing": ErrorText(
            "The message was not sent, since it needs 8BITMIME, which the server doesn't offer",
            step="encode its text as quoted-printable or base64",
        ),
        "extension_smtputf8_missing": ErrorText(
            "The message was not sent, since it needs SMTPUTF8, which the server doesn't offer",
            step="use addresses and header fields in ASCII (RFC 2047)",
        ),
        # The network
        "host_not_found": ErrorText(
            "The host name of {server} was not found", step="check Server and this machine's DNS"
        ),
        "host_unreachable": ErrorText("{server} can't be reached ({reason})", step="check the network of this machine"),
        "connection_refused": ErrorText(
            "{server} accepts no connection", step="check Server and Port, and whether it runs"
        ),
        "connection_closed": ErrorText("{server} closed the connection at {step!r}", step="try again later"),
        "no_answer_in_time": ErrorText(
            "{server} did not answer in time at {step!r}", step="check Server, Port and the firewall"
        ),
        "no_greeting": ErrorText(
            "{server} took the connection and said nothing",
            step="if this port is for implicit TLS, set TLS to implicit",
        ),
        "conversation_too_slow": ErrorText(
            "{server} was too slow for the conversation as a whole", step="try again later"
        ),
        "plaintext_injected": ErrorText(
            "Something between {server} and this machine spoke up: clear text came where TLS had to begin, so no token"
            " was sent",
            step="have the network checked",
        ),
        "message_broken_off": ErrorText(
            "The connection broke before the server had the whole message, so it was not sent", step="try again"
        ),
        "message_in_doubt": ErrorText(
            "It is not known whether the message was sent, since the server had all of it but its answer did not come",
            step="look for it before you send it again",
        ),
        # TLS
        "tls_not_begun": ErrorText(
            "{server} does not begin with TLS", step="set TLS to starttls, or Port to the one for implicit TLS"
        ),
        "tls_not_agreed": ErrorText(
            "{server} and this machine can't agree on TLS 1.2 or newer ({reason})", step="ask who runs it"
        ),
        "tls_not_offered": ErrorText(
            "The server doesn't offer {command}, or an attacker on the way took it out; no token was sent",
            step="check Server and Port, or set TLS to implicit",
        ),
        "certificate_expired": ErrorText(
            "The certificate of {server} is not accepted, since it has expired", step="its owner has to renew it"
        ),
        "certificate_not_yet_valid": ErrorText(
            "The certificate of {server} is not accepted, since it is not valid yet",
            step="wait for that, or correct this machine's clock",
        ),
        "certificate_self_signed": ErrorText(
            "The certificate of {server} is not accepted, since it is self-signed", step=_CA_FILE
        ),
        "certificate_of_unknown_authority": ErrorText(
            "The certificate of {server} is not accepted, since its authority is unknown", step=_CA_FILE
        ),
        "certificate_for_another_name": ErrorText(
            "The certificate of {server} is not accepted, since it is for another name",
            step="set Server to a name that the certificate has",
        ),
        "certificate_for_another_address": ErrorText(
            "The certificate of {server} is not accepted, since it is not for this IP address",
            step="set Server to a name that the certificate has",
        ),
        "certificate_not_accepted": ErrorText("The certificate of {server} is not accepted ({reason})"),
        # The sign-in
        "not_a_mail_server": ErrorText("{server} does not answer as a mail server does", step="check Server and Port"),
        "no_mechanism_for_tokens": ErrorText(
            "The server offers no sign-in with a token (XOAUTH2 or OAUTHBEARER)",
            step="check Server and Port, or ask who runs it",
        ),
        "no_token_wanted": ErrorText(
            "The server lets anybody in without asking for a token, so none was sent",
            step="check Server, or ask who runs it",
        ),
        "token_refused": ErrorText(
            "The server refused the token",
            step="renew it; if it is refused again, check that the account may use this mailbox",
        ),
        "token_about_to_expire": ErrorText("The token is about to expire", step="renew it and try again"),
        "scope_missing": ErrorText(
            "The token lacks the scope {scope}", step="add it to the provider and get the token again"
        ),
        "taken_for_password": ErrorText(
            "The server took this for a sign-in with a password, which it no longer accepts",
            step="sign in with OAuth 2.0",
        ),
        "sign_in_not_counted": ErrorText(
            "The server does not count the sign-in, which it accepted, so token and mailbox don't match",
            step="correct Account Name or the mailbox, or give the account access to it",
        ),
        "tls_or_sign_in_first": ErrorText("The server wants TLS or a sign-in before this", step="check TLS and Port"),
        "tls_wanted_by_server": ErrorText("The server wants TLS", step="set TLS to starttls or implicit"),
        "smtp_auth_disabled": ErrorText(
            "SMTP AUTH is disabled for this mailbox or tenant",
            step=f"an Exchange administrator enables it with {_ENABLE_FOR_MAILBOX}, or {_ENABLE_FOR_TENANT}",
        ),
        "smtp_auth_disabled_for_mailbox": ErrorText(
            "SMTP AUTH is disabled for this mailbox",
            step=f"an Exchange administrator enables it with {_ENABLE_FOR_MAILBOX}",
        ),
        "smtp_auth_disabled_for_tenant": ErrorText(
            "SMTP AUTH is disabled for this tenant",
            step=f"an Exchange administrator enables it for this mailbox with {_ENABLE_FOR_MAILBOX}, or for all with"
            f" {_ENABLE_FOR_TENANT}",
        ),
        "security_defaults_on": ErrorText(
            "The security defaults of the tenant refuse SMTP AUTH",
            step="an administrator of Entra ID turns them off under Properties, and replaces them by Conditional Access"
            " policies",
        ),
        "conditional_access_refused": ErrorText(
            "A Conditional Access policy of the tenant refused the sign-in",
            step="an administrator of Entra ID finds the policy in the sign-in logs and excludes this account from it",
        ),
        "basic_authentication_disabled": ErrorText(
            "The server refused this as basic authentication, which is off for the tenant",
            step="an Exchange administrator checks the mailbox with Get-CASMailbox MAILBOX and its policy with"
            " Get-AuthenticationPolicy; no password is needed",
        ),
        "account_locked": ErrorText(
            "The account is locked", step="an administrator of Entra ID unlocks it, or wait until the lock ends"
        ),
        "credentials_incorrect": ErrorText(
            "The server found no account that fits the token and the mailbox",
            step="check Account Name and the mailbox, and that the account may use it",
        ),
        "smtp_auth_refused": ErrorText(
            "The server refused SMTP AUTH. Causes are: SMTP AUTH is off for the mailbox or the tenant, security"
            " defaults, a Conditional Access policy, a locked account, an account that does not fit the mailbox",
            step=f"show an Exchange administrator the server's reply; {_ENABLE_FOR_MAILBOX} enables SMTP AUTH",
        ),
        "mechanism_not_available": ErrorText(
            "The server offers {mechanism} but does not allow it for this mailbox",
            step=f"an Exchange administrator enables SMTP AUTH with {_ENABLE_FOR_MAILBOX}",
        ),
        "shared_mailbox_refused": ErrorText(
            "The server refuses {account} as the user {mailbox}, with a renewed token as well",
            step="set Mailbox to {account} and Sender Address to {mailbox}, and have an Exchange administrator grant"
            " Send As: Add-RecipientPermission {mailbox} -Trustee {account} -AccessRights SendAs",
        ),
        # The mailbox
        "mailbox_not_permitted": ErrorText(
            "The server accepted the token but not for this mailbox",
            step="give the account access to it, or correct the mailbox",
        ),
        "no_such_mailbox": ErrorText("The account has no mailbox here", step="check Server and the mailbox"),
        "mailbox_in_use": ErrorText("The mailbox is in use by another session", step="try again when that has ended"),
        "mailbox_full": ErrorText("The mailbox is full", step="make room in it"),
        "sending_barred": ErrorText(
            "The mailbox or its tenant is barred from sending",
            step="an administrator removes the block at security.microsoft.com under Restricted entities",
        ),
        "sending_limit_reached": ErrorText(
            "The mailbox has sent as much as it may in this period",
            step="wait until the period ends, usually a day, or send through another mailbox",
        ),
        "connection_limit_reached": ErrorText(
            "The mailbox has its limit of connections open already", step="queue the message and try again"
        ),
        "asked_too_often": ErrorText("The server was asked too often", step="make Check Interval longer"),
        "administrator_wanted": ErrorText("The server wants an administrator of the mail service to act"),
        # The message
        "sender_refused": ErrorText(
            "The server refused the sender", step="correct Sender Address, or grant Send As for it"
        ),
        "send_as_not_granted": ErrorText(
            "The sender is not this mailbox",
            step="correct Sender Address, or have an Exchange administrator grant the account Send As for that address:"
            " Add-RecipientPermission SENDER -Trustee ACCOUNT -AccessRights SendAs",
        ),
        "recipient_refused": ErrorText("The server refused the recipient", step="check the address"),
        "message_too_large": ErrorText(
            "The message has {octets} octets, which is too large; the server's limit is {limit}",
            step="send less at once, such as a scan with fewer pages or a lower resolution",
        ),
        "message_refused": ErrorText("The server refused the message", step="read in its reply what it does not like"),
        "not_allowed_by_policy": ErrorText(
            "The server's policy does not allow this", step="ask an administrator of the mail service"
        ),
        # Anything else that a server refuses
        "try_later": ErrorText(
            "The server can't do this now, which says nothing about the token", step="try again later"
        ),
        "refused_by_server": ErrorText("The server refused this for a reason of its own", step="ask who runs it"),
        # A renewal in between
        "token_renewed": ErrorText("A new access token, valid until {expires_at}"),
        "renewal_failed": ErrorText("The token was not renewed: {cause}"),
        "renewal_unreachable": ErrorText("The server refused the token. Renewing it did not work either: {cause}"),
        "token_update_failed": ErrorText("Token update failed. Please delete the token and obtain it again"),
        "renewed_token_refused": ErrorText(
            "The server refuses the token, and the renewed one as well",
            step="check that the account may use this mailbox, that its protocol is switched on there, and that the"
            " provider's scopes are those of the mail service",
        ),
    }
)


def verdict_text(verdict: Verdict, surface: Surface) -> str:
    """The sentence of a verdict as this surface says it."""
    return verdict_sentence(verdict.code, verdict_facts(verdict, surface), surface)


def verdict_facts(verdict: Verdict, surface: Surface) -> dict[str, Any]:
    """The facts of a verdict as a surface shows them; `cause` is the sentence of the error behind it."""
    if verdict.cause is None:
        return dict(verdict.fields)
    return {**verdict.fields, "cause": error_text(verdict.cause, surface)}


def verdict_sentence(code: str, fields: Mapping[str, Any], surface: Surface) -> str:
    """The sentence of a code; the code itself for one that a newer service knows."""
    text = VERDICTS.get(code)
    if text is None:
        return code
    sentence = filled(text, fields, surface).removesuffix(".") + "."
    return f"{sentence} Nothing was sent." if fields.get("nothing_sent") else sentence


def detail_text(detail: str | Verdict, surface: Surface) -> str:
    """What a step has to show."""
    return verdict_text(detail, surface) if isinstance(detail, Verdict) else detail

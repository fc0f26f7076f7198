"""Sentences for people. What is stored and sent are codes; each is made a sentence here, once, with what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from domain.outcomes import Fault, Reason

# Keys that are no `Reason` are text: the modules they come from take longer to import than most commands to run.
_REASONS: Mapping[str, str] = MappingProxyType(
    {
        Reason.EXPIRED_TOKEN: "The code ran out before anybody signed in: get the token again.",
        Reason.ACCESS_DENIED: "The sign-in was declined: get the token again and approve it.",
        Reason.CODE_REJECTED: "The provider did not accept the code: get the token again.",
        Reason.CANCELLED: "The sign-in was cancelled: get the token when somebody is there to sign in.",
        Reason.WRONG_ACCOUNT: "Somebody else signed in: get the token again and sign in with the setting's account.",
        Reason.ID_TOKEN_INVALID: (
            "The provider's proof of who signed in does not hold, so nothing was stored: check the provider's issuer"
            " and client_id in the configuration."
        ),
        Reason.CONFIGURATION: (
            "The provider refuses what it was asked for: correct the provider in the configuration"
            " (tenant or issuer, client_id, scopes), then get the token again."
        ),
        Reason.INVALID_GRANT: "The provider does not accept this authorization any more: get the token again.",
        Reason.REPLY_LOST: (
            "A reply of the provider was lost in a crash, and what it replaced is not accepted any more:"
            " sign in again (get the token again)."
        ),
        Reason.SIGN_IN_FREQUENCY: (
            "A policy of the provider asks for a new sign-in after some time: get the token again,"
            " or have the account exempted from it."
        ),
        Reason.INTERACTION_REQUIRED: "The provider wants the person to sign in again: get the token again.",
        Reason.ACCOUNT_NOT_AVAILABLE: (
            "The account is disabled, locked or not allowed to use this application: have it enabled,"
            " then renew the token."
        ),
        Reason.POLICY: (
            "A policy of the provider (such as Conditional Access) does not allow it: have its administrator allow it,"
            " then get the token again."
        ),
        Reason.CONSENT_REQUIRED: (
            "Nobody has consented to this application yet: have the provider's administrator consent,"
            " then get the token again."
        ),
        Reason.EXPIRED: "The access token's time is over and there is nothing to renew it with: get the token again.",
    }
)
_ALARMS: Mapping[str, str] = MappingProxyType(
    {
        "vault_damaged": (
            "What is kept of this token does not open: restore the store from a backup, or delete the token"
            " and get it again."
        ),
        "client_registration": (
            "The provider refuses our client registration, not the token: correct client_id, client_secret_file or"
            " certificate_file of the provider in the configuration."
        ),
        "reply_in_doubt": (
            "A reply of the provider made no sense; it is kept and the token is unchanged: look at the service's log,"
            " then renew the token."
        ),
        "unknown_error": (
            "The provider answers with an error that is not known here; the token is unchanged: look at the service's"
            " log, and say in the provider's errors = { ... } of the configuration what it means."
        ),
        "grant_ends": (
            "The authorization is about to end and could not be renewed: see that the provider can be reached,"
            " renew the token, or get it again."
        ),
        "sign_in_due": (
            "A policy of the provider will soon ask for a new sign-in, as it did before at this age: get the token"
            " again, or have the account exempted from it."
        ),
        "client_secret_expires": (
            "The provider's client secret is about to expire: make a new one, put it into client_secret_file and"
            " correct client_secret_expires."
        ),
    }
)

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        Fault.NETWORK: "the network",
        Fault.CERTIFICATE: "the mail server's certificate",
        Fault.CONFIGURATION: "our configuration",
        Fault.TOKEN: "the token",
        Fault.MAILBOX: "a setting of the mailbox or its tenant",
        Fault.PERMISSION: "what the account is permitted",
        Fault.SENDER: "the From address",
        Fault.SERVER: "the mail server",
    }
)
"""Whose fault it is that a mail server did not do what was asked."""

EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "Machine.Created": "machine {name} added, catalogue {catalogue}",
        "Machine.Removed": "machine removed",
        "Profile.Created": "{protocol} setting {machine}/{setting} added",
        "Profile.Configured": "set: {changed}",
        "Profile.TokenReceived": "updated with the token of {account} at {provider}",
        "Profile.TokenDeleted": "updated: its token was deleted",
        "Profile.Linked": "linked into {group}",
        "Profile.Unlinked": "unlinked: it has a token of its own now",
        "Profile.Removed": "setting removed",
        "SmtpGroup.Created": "SMTP group {name} made",
        "SmtpGroup.ProfileLinked": "{member} joined",
        "SmtpGroup.ProfileUnlinked": "{member} left",
        "SmtpGroup.Dissolved": "dissolved: its last setting left",
        "RelayUser.Created": "relay user {name} added",
        "RelayUser.Mapped": "{protocol} mail goes through {member}",
        "RelayUser.Unmapped": "no {protocol} mail any more",
        "RelayUser.NetworksChanged": "let in without a sign-in from {networks}",
        "RelayUser.PasswordChanged": "new password",
        "RelayUser.Removed": "relay user removed",
        "Administrator.Created": "administrator {name} added: {roles}",
        "Administrator.RolesChanged": "is {roles} now",
        "Administrator.PasswordChanged": "new password",
        "Administrator.Removed": "administrator removed",
        "Client.Created": "client {name} added",
        "Client.KeyIssued": "new key {key_id}, good until {expires_at}",
        "Client.Granted": "may read the access token of {member}",
        "Client.Revoked": "may not read the access token of {member} any more",
        "Client.Removed": "client removed with its key",
        "Reader.Created": "access token handed out through {profile}, for the first time",
        "Reader.HandedOut": "access token handed out through {profile}, after it was renewed",
        "Token.Created": "token added: Not Retrieved",
        "Token.AuthorizationRequested": (
            "sign-in begun for {account} at {provider}, through {profile}, flow {flow}, until {expires_at}"
        ),
        "Token.AuthorizationEnded": "sign-in over without a token. {why}",
        "Token.Retrieved": "Retrieved for {account} at {provider}, access token until {expires_at}",
        "Token.Renewed": "renewed, access token until {expires_at}",
        "Token.GrantFoundDead": "found Invalid. {why}",
        "Token.Deleted": "token deleted: Not Retrieved",
        "Token.LateReplyDiscarded": "a reply of the provider came too late and was wiped",
        "Token.Retired": "token gone with its last setting",
    }
)
"""What each event of the log says, by its name."""


def sentence(code: str) -> str:
    """The sentence for a reason or an alarm; the code itself for one that a newer service knows."""
    return _REASONS.get(code) or _ALARMS.get(code) or code


def why(status: Mapping[str, Any]) -> str | None:
    """Why a person is needed, or why the last attempt or token ended; from a setting's status in JSON."""
    attention, reason = status.get("attention"), status.get("reason")
    # Of an Invalid token the last sign-in that failed says more than the authorization that ended before.
    code = reason if attention in _REASONS and reason else attention or reason
    if not code:
        return None
    if code == Reason.WRONG_ACCOUNT and status.get("signed_in_as"):
        return (
            f"{status['signed_in_as']} signed in where {status.get('account') or 'another account'} was asked for:"
            " get the token again and sign in as that, or correct account first."
        )
    said = status.get("code") if code == status.get("reason") else None
    return f"{sentence(code)} ({said})" if said and said not in _ALARMS and said != code else sentence(code)


def names_in(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the ids in these records of the audit are called."""
    names: dict[str, str] = {}
    for record in records:
        facts = record["facts"]
        match f"{record['aggregate']}.{record['event']}":
            case "Machine.Created":
                names[record["id"]] = facts["name"]
            case "RelayUser.Created":
                names[record["id"]] = f"relay user {facts['name']}"
            case "Administrator.Created":
                names[record["id"]] = f"administrator {facts['name']}"
            case "Client.Created":
                names[record["id"]] = f"client {facts['name']}"
            case "Reader.Created":
                names[record["id"]] = facts["profile"]
            case "SmtpGroup.Created":
                names[record["id"]] = names[facts["token_id"]] = f"SMTP group {facts['name']}"
            case "Profile.Created":
                names[record["id"]] = f"{facts['machine']}/{facts['setting']}"
    return names


def event_text(record: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What a record of the audit says, from its JSON and what `names_in` found."""
    facts: dict[str, Any] = dict(record["facts"])
    facts["member"] = names.get(facts.get("profile_id", ""), "a setting")
    facts["group"] = names.get(facts.get("group_id") or "", "an SMTP group")
    facts["changed"] = ", ".join(
        f"{field} {value}" if value is not None else f"{field} cleared"
        for field, value in facts.get("changes", {}).items()
    )
    facts["networks"] = ", ".join(facts.get("networks", ())) or "nowhere"
    facts["roles"] = ", ".join(facts.get("roles", ()))
    facts["why"] = why(facts)
    until = facts.get("expires_at")
    facts["expires_at"] = f"{until[:16].replace('T', ' ')} UTC" if until else "it is revoked"
    text = EVENTS.get(f"{record['aggregate']}.{record['event']}")
    return text.format_map(facts) if text else str(record["event"])


_CHANGES: Mapping[str, str] = MappingProxyType(
    {
        "delete token": "- delete the token of {profile}{also}",
        "remove profile": "- setting {profile}",
        "remove machine": "- machine {machine}",
        "add machine": "+ machine {machine}, catalogue {catalogue}",
        "add profile": "+ setting {profile}",
        "set fields": "~ {profile}: {fields}",
        "unlink": "~ {profile}: out of the group {group}, with a token of its own, Not Retrieved",
        "link": "~ {profile}: into the group {group}",
        "add client": "+ client {client}, without a key: mailtoken client key {client} makes one",
        "grant": "+ {client} may read the token of {profile}",
        "revoke": "- {client} may not read the token of {profile} any more",
    }
)


def change_text(change: Mapping[str, Any]) -> str:
    """What a change of a plan would do, from its JSON; begins with + for more, - for less and ~ for otherwise."""
    others = [name for name in change.get("profiles") or () if name != change["profile"]]
    before, after = change.get("before") or {}, change.get("after") or {}
    fields = (f"{field} {before[field] or '(empty)'} -> {text or '(empty)'}" for field, text in after.items())
    facts = {
        **change,
        "also": f", which {', '.join(others)} lose too" if others else "",
        "fields": ", ".join(fields),
    }
    text = _CHANGES.get(change["change"])
    return text.format_map(facts) if text else str(change["change"])

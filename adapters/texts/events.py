"""The sentences of the events of the log, from the JSON of the audit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from adapters.texts.reasons import why
from adapters.texts.wording import Surface

EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "Machine.Created": "machine {name} added, catalogue {catalogue}",
        "Machine.Renamed": "machine {previous} is called {name} now",
        "Machine.Tagged": "tags: {tags}",
        "Machine.Removed": "machine removed",
        "Profile.Created": "{protocol} setting {machine}/{setting} added",
        "Profile.Configured": "set: {changed}",
        "Profile.MachineRenamed": "its machine {previous} is called {machine} now",
        "Profile.TokenReceived": "updated with the token of {account} at {provider}",
        "Profile.TokenDeleted": "updated: its token was deleted",
        "Profile.Linked": "linked into {group}",
        "Profile.Unlinked": "unlinked: it has a token of its own now",
        "Profile.Removed": "setting removed",
        "SmtpGroup.Created": "SMTP group {name} made",
        "SmtpGroup.ProfileLinked": "{member} joined",
        "SmtpGroup.ProfileUnlinked": "{member} left",
        "SmtpGroup.Renamed": "is called {name} now",
        "SmtpGroup.Dissolved": "dissolved: its last setting left",
        "RelayUser.Created": "relay user {name} added",
        "RelayUser.Mapped": "{protocol} mail goes through {member}",
        "RelayUser.Unmapped": "{protocol} mail is not relayed any more",
        "RelayUser.NetworksChanged": "let in without a sign-in from {networks}",
        "RelayUser.MessagesChanged": "messages changed from now on: sender {sender}, line ends {normalize}",
        "RelayUser.PasswordChanged": "new password",
        "RelayUser.Removed": "relay user removed",
        "Administrator.Created": "administrator {name} added: {roles}",
        "Administrator.RolesChanged": "is {roles} now",
        "Administrator.PasswordChanged": "new password",
        "Administrator.MachinesLimited": "limited to the machines {machines}",
        "Administrator.SecondFactorEnrolled": "second factor set up",
        "Administrator.RecoveryCodeUsed": "recovery code {code} used in place of the second factor",
        "Administrator.SecondFactorRemoved": "second factor removed, with a code of it",
        "Administrator.SecondFactorReset": "second factor reset",
        "Administrator.Removed": "administrator removed",
        "Client.Created": "client {name} added",
        "Client.KeyIssued": "new key {key_id}, good until {expires_at}",
        "Client.Granted": "may read the access token of {member}",
        "Client.Revoked": "may not read the access token of {member} any more",
        "Client.Removed": "client removed with its key",
        "Provider.Created": "{kind} provider {name} added: {filled}",
        "Provider.Changed": "set: {changed}",
        "Provider.Renamed": "provider {previous} is called {name} now",
        "Provider.SecretAwaited": "{secret} is awaited: somebody has to upload it",
        "Provider.SecretUploaded": "new {secret}",
        "Provider.SecretRemoved": "{secret} removed",
        "Provider.Removed": "provider removed with its secrets",
        "ReadModel.Rebuilt": "rows made again from {events} events of the log",
        "Log.Restored": "restored from the backup of {backup_made_at}, with {events} events: on hold",
        "Log.FoundOther": "the log had {number} events, and event {known_number} that was seen is not in it: on hold",
        "Log.Resumed": "the hold is lifted{given_up}: {because}",
        "Session.Begun": "signed in from {address}: {roles}",
        "Session.Ended": "signed out: {end}",
        "Link.Made": "link made that sets a password, good until {expires_at}",
        "Link.Used": "link used by {name} to choose a password",
        "Link.Ended": "link over that nobody used: {end}",
        "Reader.Created": "access token served through {profile} for the first time",
        "Reader.HandedOut": "access token served through {profile} for the first time since its renewal",
        "Token.Created": "token added: Not Retrieved",
        "Token.AuthorizationRequested": (
            "sign-in begun for {account} at {provider}, through {profile}, flow {flow}, until {expires_at}"
        ),
        "Token.AuthorizationEnded": "sign-in over without a token. {why}",
        "Token.Retrieved": "Retrieved for {account} at {provider}, access token until {expires_at}",
        "Token.Renewed": "renewed, access token until {expires_at}",
        "Token.RenewalWithheld": "a renewal was for {signed_in_as}; it was kept sealed and unused",
        "Token.GrantFoundDead": "found Invalid. {why}",
        "Token.Deleted": "token deleted: Not Retrieved",
        "Token.ProviderRenamed": "its provider is called {provider} now",
        "Token.LateReplyDiscarded": "a reply of the provider came too late and was wiped",
        "Token.Retired": "token gone with its last setting",
    }
)
"""The sentence of each event of the log, by its name."""

_ENDS = {
    "signed_out": "the person signed out",
    "expired": "it expired",
    "second_factor_changed": "the second factor was set up or reset",
    "password_changed": "there is a new password",
    "removed": "the administrator was removed",
    "replaced": "a newer link takes its place",
    "restored": "the store was restored from a backup",
}


def names_in(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The names of the aggregates whose ids are in these records of the audit, by id."""
    names: dict[str, str] = {}
    for record in records:
        facts = record["facts"]
        match f"{record['aggregate']}.{record['event']}":
            case "Machine.Created":
                names[record["id"]] = facts["name"]
            case "Log.Restored" | "ReadModel.Rebuilt":
                names[record["id"]] = "the store"
            case "RelayUser.Created":
                names[record["id"]] = f"relay user {facts['name']}"
            case "Administrator.Created":
                names[record["id"]] = f"administrator {facts['name']}"
            case "Session.Begun":
                names[record["id"]] = f"session of {facts['name']}"
            case "Link.Made":
                names[record["id"]] = "set-up link"
            case "Client.Created":
                names[record["id"]] = f"client {facts['name']}"
            case "Provider.Created":
                names[record["id"]] = f"provider {facts['name']}"
            case "Reader.Created":
                names[record["id"]] = facts["profile"]
            case "SmtpGroup.Created":
                names[record["id"]] = names[facts["token_id"]] = f"SMTP group {facts['name']}"
            case "Profile.Created":
                names[record["id"]] = f"{facts['machine']}/{facts['setting']}"
    return names


def author_of(by: str) -> tuple[str, str]:
    """The role in which an event's author acted, and the author's name, which is empty for the service itself."""
    role, _, name = by.partition(":")
    return role, name


def subject_of(record: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The name of what a record of the audit is about, from its JSON and the names that `names_in` found."""
    name = profile_of(record) or machine_of(record)
    return name or names.get(record["id"]) or f"{record['aggregate']} {record['id'][:8]}"


def profile_of(record: Mapping[str, Any]) -> str | None:
    """The setting that a record is about. An event of a relay user or client concerns settings, but is about these."""
    profile: str | None = record["profile"]
    return None if record["aggregate"] in ("RelayUser", "Client") else profile


def machine_of(record: Mapping[str, Any]) -> str | None:
    """The machine of a record that is about a machine itself, by its name from then on."""
    if record["aggregate"] != "Machine":
        return None
    machine: str | None = record["facts"]["name"] if record["event"] == "Renamed" else record["machine"]
    return machine


def event_text(record: Mapping[str, Any], names: Mapping[str, str], surface: Surface) -> str:
    """The sentence of a record of the audit, from its JSON and the names that `names_in` found."""
    facts: dict[str, Any] = dict(record["facts"])
    facts["member"] = names.get(facts.get("profile_id", ""), "a setting")
    facts["group"] = names.get(facts.get("group_id") or "", "an SMTP group")
    facts["changed"] = ", ".join(
        f"{field} cleared" if value is None or value == "" else f"{field} {value}"
        for field, value in facts.get("changes", {}).items()
    )
    facts["filled"] = ", ".join(f"{field} {value}" for field, value in facts.get("fields", {}).items())
    facts["networks"] = ", ".join(facts.get("networks", ())) or "nowhere"
    facts |= {field: facts.get(field) or "unchanged" for field in ("sender", "normalize")}
    facts["tags"] = ", ".join(facts.get("tags", ())) or "none"
    facts["roles"] = ", ".join(facts.get("roles", ()))
    facts["machines"] = ", ".join(facts.get("machines") or ()) or "all"
    facts["address"] = facts.get("address") or "an unknown address"
    facts["end"] = _ENDS.get(facts.get("reason") or "", "")
    facts["why"] = why(facts, surface)
    given_up = facts.get("given_up_number")
    facts["given_up"] = f", and event {given_up} that was seen is given up" if given_up else ""
    facts["because"] = facts.get("because") or "no reason given"
    until = facts.get("expires_at")
    facts["expires_at"] = f"{until[:16].replace('T', ' ')} UTC" if until else "it is revoked"
    text = EVENTS.get(f"{record['aggregate']}.{record['event']}")
    return text.format_map(facts) if text else str(record["event"])

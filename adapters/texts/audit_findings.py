"""The sentences of `audit verify`: how the log, the hash chain, the rows and the vault differ."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.texts.errors import filled
from adapters.texts.wording import ErrorText
from infrastructure.queries.audit import Finding
from infrastructure.store.vault import CLIENT_KEY, PASSWORD, PROVIDER_SECRETS, SIGN_IN_PASSWORD

FINDINGS: Mapping[str, ErrorText] = MappingProxyType(
    {
        # Events
        "event_not_in_chain": ErrorText(
            "event {position} ({topic}) has no place in the hash chain: it was changed or inserted"
        ),
        "event_hash_differs": ErrorText(
            "event {position} ({topic}) does not fit the hash chain: it was changed or inserted"
        ),
        "event_not_legal": ErrorText("event {position} ({topic}) is not legal: {reason}"),
        "event_removed": ErrorText("the event at {position} is in the hash chain but not in the log: it was removed"),
        "event_unproven": ErrorText("event {position} ({topic}) comes behind a missing link, so nothing proves it"),
        "event_cut_off": ErrorText("{events} at the end of the log {were} cut off"),
        "checkpoint_differs": ErrorText(
            "the first {size} events are not those of the checkpoint: one of them was changed, inserted or removed"
        ),
        # The chain
        "link_removed": ErrorText("{events} {were} removed from the log and the hash chain"),
        "link_added": ErrorText("a link of the hash chain has a number that it can't have: it was inserted"),
        "head_missing": ErrorText("the head of the hash chain is missing"),
        "head_added": ErrorText("the hash chain has a second head"),
        "head_altered": ErrorText("the head of the hash chain was altered"),
        "head_older": ErrorText("the head of the hash chain is an older one that was put back"),
        # Rows
        "row_not_in_log": ErrorText("{table} {id} is a row that the log does not give"),
        "row_differs": ErrorText("{table} {id} differs from the log in {columns}"),
        "row_missing": ErrorText("{table} {id} is missing"),
        "access_row_altered": ErrorText("{table} {id} is no open session or link, so nobody gets in with it"),
        # The vault
        "vault_row_not_in_log": ErrorText("the vault has a {kind} {number} of {owner} {id} that no event refers to"),
        "vault_row_damaged": ErrorText("the {kind} {number} of {owner} {id} in the vault does not open"),
        "vault_row_missing": ErrorText("the vault has no {kind} {number} of {owner} {id}"),
    }
)

_OWNERS = {
    PASSWORD: "relay user",
    SIGN_IN_PASSWORD: "administrator",
    CLIENT_KEY: "client",
    **dict.fromkeys(PROVIDER_SECRETS.values(), "provider"),
}


def finding_text(finding: Finding) -> str:
    """The sentence of a finding."""
    owner = _OWNERS.get(str(finding.fields.get("kind")), "token")
    count = finding.fields.get("count", 1)
    events, were = ("1 event", "was") if count == 1 else (f"{count} events", "were")
    return filled(FINDINGS[finding.code], {"owner": owner, "events": events, "were": were, **finding.fields}, None)


def finding_line(finding: Finding) -> str:
    """The line of a finding: the number of its event, or `-`, its kind, and its sentence."""
    return f"{finding.index or '-'} {finding.code} {finding_text(finding)}"

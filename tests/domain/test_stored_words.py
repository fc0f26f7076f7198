"""The words that events, rows, files and the API contain: what was stored with one must be readable for ever."""

from __future__ import annotations

from domain.catalogue import PROTOCOLS
from domain.mail_report import Fault
from domain.outcomes import REPLY_FACTS, GrantWarning, Reason
from domain.plan import (
    AddClient,
    AddMachine,
    AddProfile,
    AddProvider,
    Change,
    DeleteToken,
    Grant,
    Link,
    RemoveMachine,
    RemoveProfile,
    Revoke,
    SetFields,
    SetProvider,
    TagMachine,
    Unlink,
)


def test_the_reasons_of_events_keep_their_words() -> None:
    assert [reason.value for reason in Reason] == [
        "expired_token",
        "access_denied",
        "code_rejected",
        "cancelled",
        "restored",
        "client_changed",
        "wrong_account",
        "id_token_invalid",
        "configuration",
        "client_refused",
        "scope_not_granted",
        "provider_failed",
        "account_renamed",
        "account_recreated",
        "invalid_grant",
        "reply_lost",
        "sign_in_frequency",
        "interaction_required",
        "account_not_available",
        "policy",
        "consent_required",
        "expired",
    ]


def test_the_warnings_of_a_credential_keep_their_words() -> None:
    words = ["not_renewable", "scope_missing", "renewed_for_another_account", "account_has_new_address"]
    assert [warning.value for warning in GrantWarning] == words


def test_the_fields_of_an_error_keep_their_names() -> None:
    assert REPLY_FACTS == ("provider_words", "trace_id", "correlation_id")


def test_the_parties_at_fault_keep_their_words() -> None:
    words = "none network certificate configuration token mailbox permission sender message server"
    assert [fault.value for fault in Fault] == words.split()


def test_a_protocol_is_called_and_addressed_as_everybody_does() -> None:
    assert [(facts.label, facts.scheme) for facts in PROTOCOLS.values()] == [
        ("SMTP", "smtp"),
        ("POP", "pop3"),
        ("IMAP", "imap"),
    ]


def test_the_steps_of_a_plan_keep_their_words() -> None:
    kinds: dict[type[Change], str] = {
        AddProvider: "add provider",
        SetProvider: "set provider",
        DeleteToken: "delete token",
        RemoveProfile: "remove profile",
        RemoveMachine: "remove machine",
        AddMachine: "add machine",
        TagMachine: "tag machine",
        AddProfile: "add profile",
        SetFields: "set fields",
        Unlink: "unlink",
        Link: "link",
        AddClient: "add client",
        Grant: "grant",
        Revoke: "revoke",
    }
    assert {step: step.KIND for step in kinds} == kinds

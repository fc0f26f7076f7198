"""The read model: a row for each aggregate, stored in the transaction of its events.

A row is computed from the aggregate's state alone, and the state can be read back from it. Hence `audit rebuild` can
replay the log into new rows, and `audit verify` can compare column by column. The status of a setting is the row of its
profile joined with the row of its token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any
from uuid import UUID

from domain.administrator import AdministratorState
from domain.api_client import ApiClientState
from domain.catalogue import Protocol
from domain.disclosure import DisclosureState
from domain.lifecycle import TokenStatus
from domain.log_hold import LogHoldState
from domain.machine import MachineState
from domain.one_time_link import OneTimeLinkState
from domain.outcomes import GrantWarning, Reason
from domain.profile import ProfileState
from domain.profile_fields import Settings
from domain.rebuild import RebuildState
from domain.relay_user import RelayUserState
from domain.session import SessionState
from domain.smtp_group import SmtpGroupState
from domain.stored_provider import StoredProviderState
from domain.token_state import Attempt, Generation, TokenState
from infrastructure.clock import instant_text, read_instant

State = (
    TokenState
    | ProfileState
    | SmtpGroupState
    | MachineState
    | RelayUserState
    | AdministratorState
    | ApiClientState
    | StoredProviderState
    | DisclosureState
    | LogHoldState
    | SessionState
    | OneTimeLinkState
    | RebuildState
)
Row = dict[str, Any]


@dataclass(frozen=True)
class View:
    """A row of the read model to be stored, or to be deleted if `row` is None."""

    table: str
    id: UUID
    row: Row | None


def view(id: UUID, version: int, state: State) -> View | None:  # noqa: PLR0911 - one for each kind of aggregate
    """The row of an aggregate in this state; None if its kind has no row that the log alone gives."""
    match state:
        case TokenState():
            return View("token", id, None if state.retired else _token_row(id, version, state))
        case ProfileState():
            return View("profile", id, None if state.removed else _profile_row(id, version, state))
        case SmtpGroupState():
            return View("smtp_group", id, None if state.dissolved else _group_row(id, version, state))
        case MachineState():
            return View("machine", id, None if state.removed else _machine_row(id, version, state))
        case RelayUserState():
            return View("relay_user", id, None if state.removed else _relay_user_row(id, version, state))
        case AdministratorState():
            return View("administrator", id, None if state.removed else _administrator_row(id, version, state))
        case ApiClientState():
            return View("client", id, None if state.removed else _api_client_row(id, version, state))
        case StoredProviderState():
            return View("provider", id, None if state.removed else _provider_row(id, version, state))
        case DisclosureState():
            return View("reader", id, _disclosure_row(id, version, state))
        case LogHoldState():
            return View("log_hold", id, None if state.lifted else _log_hold_row(id, version, state))
        case SessionState() | OneTimeLinkState() | RebuildState():
            return None


def _machine_row(id: UUID, version: int, state: MachineState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "catalogue": state.catalogue,
        "tags": " ".join(state.tags),
        "words": _words(state.name, state.catalogue, *state.tags),
    }


def _words(*texts: str | None) -> str:
    """What a search for words looks in."""
    return " ".join(text for text in texts if text).casefold()


def _token_row(id: UUID, version: int, state: TokenState) -> Row:
    credential, attempt = state.credential, state.attempt
    return {
        "id": str(id),
        "version": version,
        "status": state.status.value,
        "since": instant_text(state.since),
        "provider": state.provider,
        "account": state.account,
        "subject": state.subject,
        "tenant": state.tenant,
        "generation": credential and credential.number,
        "granted": credential and credential.grant,
        "brought_by": credential and credential.attempt_id,
        "scope": credential and credential.scope,
        "issued_at": credential and instant_text(credential.issued_at),
        "expires_at": credential and instant_text(credential.expires_at),
        "renewable": credential and int(credential.renewable),
        "credential_flow": credential and credential.flow,
        "granted_by": credential and credential.granted_by,
        "granted_at": credential and instant_text(credential.granted_at),
        "grant_expires_at": credential and credential.grant_expires_at and instant_text(credential.grant_expires_at),
        "end_set_at": credential and instant_text(credential.end_set_at),
        "dead": state.dead and state.dead.value,
        "attempt_id": attempt and attempt.id,
        "ordinal": attempt and attempt.ordinal,
        "flow": attempt and attempt.flow,
        "attempt_provider": attempt and attempt.provider,
        "attempt_account": attempt and attempt.account,
        "attempt_expires_at": attempt and instant_text(attempt.expires_at),
        "takes_over": attempt and int(attempt.takes_over),
        "reason": state.reason and state.reason.value,
        "code": state.code,
        "signed_in_as": state.signed_in_as,
        "sign_in_seconds": state.sign_in_seconds,
        "failures": state.failures,
        "warning": state.warning and state.warning.value,
        "generations": state.generations,
        "attempts": state.attempts,
        "replies": " ".join(state.replies),
    }


def token_state(row: Mapping[str, Any]) -> TokenState:
    """The state of a token, from its row."""
    attempt = row["attempt_id"] is not None and Attempt(
        row["attempt_id"],
        row["ordinal"],
        row["flow"],
        row["attempt_provider"],
        row["attempt_account"],
        read_instant(row["attempt_expires_at"]),
        bool(row["takes_over"]),
    )
    return TokenState(
        TokenStatus(row["status"]),
        read_instant(row["since"]),
        row["provider"],
        row["account"],
        row["subject"],
        row["tenant"],
        generation(row),
        Reason(row["dead"]) if row["dead"] else None,
        attempt or None,
        Reason(row["reason"]) if row["reason"] else None,
        row["code"],
        row["signed_in_as"],
        row["generations"],
        row["attempts"],
        tuple(row["replies"].split()),
        row["sign_in_seconds"],
        failures=row["failures"],
        warning=GrantWarning(row["warning"]) if row["warning"] else None,
    )


GENERATION_COLUMNS = (
    "generation, granted, brought_by, scope, issued_at, expires_at, renewable, credential_flow, granted_by, granted_at,"
    " grant_expires_at, end_set_at"
)


def generation(row: Mapping[str, Any]) -> Generation | None:
    """The credential of a token, from the `GENERATION_COLUMNS` of its row."""
    if row["generation"] is None:
        return None
    return Generation(
        row["generation"],
        row["granted"],
        row["brought_by"],
        row["scope"],
        read_instant(row["issued_at"]),
        read_instant(row["expires_at"]),
        bool(row["renewable"]),
        row["credential_flow"],
        row["granted_by"],
        read_instant(row["granted_at"]),
        read_instant(row["grant_expires_at"]) if row["grant_expires_at"] else None,
        read_instant(row["end_set_at"]),
    )


_NUMBERS = frozenset({"port", "timeout", "check_interval"})
"""The settings that are numbers; every other is a text."""


def _profile_row(id: UUID, version: int, state: ProfileState) -> Row:
    settings = state.settings
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "machine_id": str(state.machine_id),
        "machine": state.machine,
        "setting": state.setting,
        "protocol": state.protocol.value,
        "token_id": str(state.token_id),
        "group_id": state.group_id and str(state.group_id),
        "settings": json.dumps(asdict(settings), ensure_ascii=False),
        "provider": settings.provider,
        "account": settings.account and settings.account.casefold(),
        "words": _words(state.setting, *(value for value in astuple(settings) if isinstance(value, str))),
    }


def profile_state(row: Mapping[str, Any]) -> ProfileState:
    """The state of a profile, from its row."""
    return ProfileState(
        UUID(row["machine_id"]),
        row["machine"],
        row["setting"],
        Protocol(row["protocol"]),
        UUID(row["token_id"]),
        UUID(row["group_id"]) if row["group_id"] else None,
        _settings(row["settings"]),
    )


def _settings(text: str) -> Settings:
    """The settings in a profile's row.

    Raises:
        ValueError, TypeError, AttributeError: this program did not write the text.
    """
    values = json.loads(text)
    for name, value in values.items():
        if value is not None and type(value) is not (int if name in _NUMBERS else str):
            raise ValueError(name)
    return Settings(**values)


def _group_row(id: UUID, version: int, state: SmtpGroupState) -> Row:
    members = json.dumps([str(member) for member in state.members])
    return {"id": str(id), "version": version, "name": state.name, "token_id": str(state.token_id), "members": members}


def _relay_user_row(id: UUID, version: int, state: RelayUserState) -> Row:
    profiles = {protocol.value: str(profile_id) for protocol, profile_id in state.profiles.items()}
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "profiles": json.dumps(profiles, sort_keys=True),
        "networks": " ".join(state.networks),
        "password": state.password,
        "sender": state.sender,
        "normalize": state.normalize,
    }


def relay_user_state(row: Mapping[str, Any]) -> RelayUserState:
    """The state of a relay user, from its row."""
    profiles = {Protocol(protocol): UUID(id) for protocol, id in json.loads(row["profiles"]).items()}
    return RelayUserState(
        row["name"],
        profiles,
        tuple(row["networks"].split()),
        row["password"],
        sender=row["sender"],
        normalize=row["normalize"],
    )


def _administrator_row(id: UUID, version: int, state: AdministratorState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "roles": " ".join(state.roles),
        "password": state.password,
        "second_factor": state.second_factor,
        "second_factors": state.second_factors,
        "used_codes": " ".join(map(str, state.used_codes)),
        "machines": " ".join(state.machines),
    }


def administrator_state(row: Mapping[str, Any]) -> AdministratorState:
    """The state of an administrator, from its row."""
    return AdministratorState(
        row["name"],
        tuple(row["roles"].split()),
        row["password"],
        second_factor=row["second_factor"],
        second_factors=row["second_factors"],
        used_codes=tuple(map(int, row["used_codes"].split())),
        machines=tuple(row["machines"].split()),
    )


def _api_client_row(id: UUID, version: int, state: ApiClientState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "key_number": state.key,
        "key_id": state.key_id,
        "expires_at": state.expires_at and instant_text(state.expires_at),
        "profiles": " ".join(map(str, state.profiles)),
    }


def api_client_state(row: Mapping[str, Any]) -> ApiClientState:
    """The state of an API client, from its row."""
    return ApiClientState(
        row["name"],
        row["key_number"],
        row["key_id"],
        read_instant(row["expires_at"]) if row["expires_at"] else None,
        tuple(map(UUID, row["profiles"].split())),
    )


def _provider_row(id: UUID, version: int, state: StoredProviderState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "name": state.name,
        "kind": state.kind,
        "fields": json.dumps(dict(state.fields), sort_keys=True, ensure_ascii=False),
        "secrets": json.dumps(dict(state.secrets), sort_keys=True),
        "sealed": state.sealed,
    }


def stored_provider_state(row: Mapping[str, Any]) -> StoredProviderState:
    """The state of a stored provider, from its row."""
    fields, secrets = json.loads(row["fields"]), json.loads(row["secrets"])
    return StoredProviderState(row["name"], row["kind"], dict(fields), dict(secrets), row["sealed"])


def _disclosure_row(id: UUID, version: int, state: DisclosureState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "client": state.client,
        "token_id": str(state.token_id),
        "generation": state.generation,
    }


def disclosure_state(row: Mapping[str, Any]) -> DisclosureState:
    """The state of a disclosure, from its row in the table `reader`."""
    return DisclosureState(row["client"], UUID(row["token_id"]), row["generation"])


def _log_hold_row(id: UUID, version: int, state: LogHoldState) -> Row:
    return {
        "id": str(id),
        "version": version,
        "reason": state.reason,
        "since": instant_text(state.since),
        "backup_made_at": instant_text(state.backup_made_at),
    }


def log_hold_state(row: Mapping[str, Any]) -> LogHoldState:
    """The state of a hold, from its row."""
    return LogHoldState(row["reason"], read_instant(row["since"]), read_instant(row["backup_made_at"]))


def write_statements(views: Iterable[View]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """The statements that store `views`, with their parameters.

    The deletions come first, so that another aggregate can take a freed name in the same transaction.
    """
    kept: dict[str, list[Row]] = {}
    for one in views:
        if one.row is None:
            yield f"DELETE FROM {one.table} WHERE id = ?", [(str(one.id),)]  # noqa: S608 - our own table names
        else:
            kept.setdefault(one.table, []).append(one.row)
    for table, rows in kept.items():
        columns = list(rows[0])
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
        yield (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608
            f"ON CONFLICT (id) DO UPDATE SET {changes}",
            [tuple(row.values()) for row in rows],
        )

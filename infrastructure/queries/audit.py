"""The audit: the statuses of all settings at an earlier instant, and the check for tampering.

Everything here replays the log. `verify` trusts no stored row: it recomputes the hash chain, folds the events through
the lifecycle, and compares every column and every vault reference with what the log says they must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from uuid import uuid4

from domain.administrator import AdministratorState
from domain.api_client import ApiClientState
from domain.errors import Fact, Refused
from domain.rebuild import Rebuild
from domain.relay_user import RelayUserState
from domain.stored_provider import AWAITED, StoredProviderState
from domain.token_state import TokenState
from infrastructure.queries.setting_status import SettingStatus, fold_statuses
from infrastructure.store.event_log import EventLog
from infrastructure.store.fold import Fold
from infrastructure.store.log_index import FoldedLogIndex, LogEnds, LogEndsCheck, Stream, end_of_log, stored_ends
from infrastructure.store.query import Query
from infrastructure.store.read_model import PROGRESS_EVERY, Progress, rebuild_read_model
from infrastructure.store.row_macs import AlteredRow, RowChecks
from infrastructure.store.rows import Row
from infrastructure.store.schema import MAC, VIEWS
from infrastructure.store.vault import (
    CLIENT_KEY,
    CREDENTIAL,
    PASSWORD,
    PENDING,
    PROVIDER_SECRETS,
    SECOND_FACTOR,
    SIGN_IN_PASSWORD,
    Vault,
    VaultKey,
    read_vault_keys,
)
from infrastructure.upkeep.chain_check import ChainCheck, ChainFault
from infrastructure.upkeep.row_scan import altered_access_rows


@dataclass(frozen=True)
class Finding:
    """A difference between the log and what is stored beside it: a code, and its facts by name.

    `index` is the number of the event in the chain, if the finding is about one.

    The sentence of each code is in `adapters.texts.audit_findings`.
    """

    code: str
    fields: Mapping[str, Fact]
    index: int | None = None


@dataclass(frozen=True)
class Verification:
    """The number of events that `verify` read, and its findings; an intact store has no findings.

    Without the key (`has_key`) no MAC was checked.
    """

    events: int
    findings: tuple[Finding, ...] = ()
    has_key: bool = True


class Audit:
    """Reads the log. Only `rebuild` writes, and only rows that can be derived from the log again.

    With a vault `verify` also opens every sealed row.
    """

    def __init__(self, log: EventLog, vault: Vault | None = None) -> None:
        self._log = log
        self._vault = vault

    def statuses_as_of(self, instant: datetime) -> list[SettingStatus]:
        """Every setting as a reader at `instant` saw it.

        Folds the prefix of the log that ends with the last event stamped at or before `instant`, so a clock that
        stepped back does not reorder what happened.
        """
        fold = Fold()
        with self._log.store.reading() as query:
            end = end_of_log(query, instant)
            for logged in takewhile(lambda logged: logged.position <= end, self._log.read(query)):
                fold.apply(logged.event)
        return fold_statuses(fold, instant)

    def verify(self, progress: Progress | None = None) -> Verification:
        """Compare the stored rows, the hash chain and the vault's references with what the log says."""
        findings = list[Finding]()
        if self._log.store.has_keys:
            self._log.store.reload_integrity()
        with self._log.store.reading() as query:
            fold, index, events = self._fold(query, findings, progress)
            checks = self._log.store.row_checks if self._log.store.has_keys else None
            findings.extend(_compare_views(query, fold, checks))
            if checks:
                findings.extend(_about_access(altered_access_rows(query, checks)))
            findings.extend(_compare_streams(query, index.streams))
            if index.ends.is_wrong:
                findings.extend(_compare_ends(query, self._ends(query)))
            findings.extend(_compare_vault(query, fold, self._vault))
        return Verification(events, tuple(findings), self._log.store.has_keys)

    def verify_chain(self) -> list[Finding]:
        """Compare the log with the hash chain alone."""
        with self._log.store.reading() as query:
            return [_about_chain(fault) for fault in self._chain_faults(query)]

    def rebuild(self, *, by: str, now: datetime, progress: Progress | None = None) -> int:
        """Replay the log into new rows, and record that, in one transaction; returns the number of events replayed.

        Raises:
            Refused: the log was altered; the rows are left as they were.
            IllegalHistory: the log itself is not legal; the rows are left as they were.
        """
        with self._log.store.writing(alone=True) as query:
            if next(self._chain_faults(query), None):
                raise Refused("log_altered")
            events = rebuild_read_model(self._log, query, progress)[1]
            self._log.save_within(query, Rebuild.of(uuid4(), events, by=by, now=now))
        return events

    def _chain_faults(self, query: Query) -> Iterator[ChainFault]:
        chain = ChainCheck(query, self._log.store.integrity.chain)
        for position, stored in self._log.read_stored(query):
            yield from chain.check(position, stored)
        yield from chain.end()

    def _fold(
        self, query: Query, findings: list[Finding], progress: Progress | None
    ) -> tuple[Fold, FoldedLogIndex[LogEndsCheck], int]:
        fold, index, events = Fold(forgets=True), FoldedLogIndex(LogEndsCheck(stored_ends(query))), 0
        chain = ChainCheck(query, self._log.store.integrity.chain if self._log.store.has_keys else None)
        for position, stored in self._log.read_stored(query):
            findings.extend(map(_about_chain, chain.check(position, stored)))
            try:
                event = self._log.decode(position, stored).event
                index.apply(position, event, fold.apply(event))
            except Exception as error:
                # A changed event may raise any error; the events after it are checked all the same.
                facts: dict[str, Fact] = {"position": position, "topic": stored.topic, "reason": str(error)}
                findings.append(Finding("event_not_legal", facts, chain.number))
            events += 1
            if progress and events % PROGRESS_EVERY == 0:
                progress(events)
        findings.extend(map(_about_chain, chain.end()))
        return fold, index, events

    def _ends(self, query: Query) -> LogEnds:
        ends = LogEnds()
        for position, stored in self._log.read_stored(query):
            # What can't be read is a finding already.
            with suppress(Exception):
                ends.append(position, self._log.decode(position, stored).event.timestamp)
        return ends


def _about_chain(fault: ChainFault) -> Finding:
    facts = {"position": fault.position, "topic": fault.topic, "count": fault.count if fault.count > 1 else None}
    return Finding(fault.code, {name: fact for name, fact in facts.items() if fact is not None}, fault.number)


def _compare_views(query: Query, fold: Fold, checks: RowChecks | None) -> Iterator[Finding]:
    expected: dict[str, dict[str, Row]] = {table: {} for table in VIEWS}
    for view in fold.views():
        if view.row:
            expected[view.table][str(view.id)] = view.row
    for table in VIEWS:
        for stored in query.rows(f"SELECT * FROM {table}"):  # noqa: S608 - our own table names
            row = expected[table].pop(stored["id"], None)
            if row is None:
                yield Finding("row_not_in_log", {"table": table, "id": stored["id"]})
            else:
                wrong = [column for column in row if _differ(row[column], stored[column])]
                if not wrong and checks and not checks.has_mac(table, stored):
                    wrong = [MAC]
                if wrong:
                    yield Finding("row_differs", {"table": table, "id": stored["id"], "columns": wrong})
        yield from (Finding("row_missing", {"table": table, "id": id}) for id in expected[table])


def _differ(expected: object, stored: object) -> bool:
    # SQLite may hold a number as a text, and 1 is equal to 1.0 and to True.
    return expected != stored or type(expected) is not type(stored)


def _about_access(rows: Iterable[AlteredRow]) -> Iterator[Finding]:
    for row in rows:
        yield Finding("access_row_altered", {"table": row.table, "id": row.id})


def _compare_streams(query: Query, streams: set[Stream]) -> Iterator[Finding]:
    stored = {(row["about"], row["stream_id"]) for row in query.rows("SELECT about, stream_id FROM log_stream")}
    for code, wrong in (("row_not_in_log", stored - streams), ("row_missing", streams - stored)):
        yield from (Finding(code, {"table": "log_stream", "id": " ".join(row)}) for row in sorted(wrong))


def _compare_ends(query: Query, ends: LogEnds) -> Iterator[Finding]:
    for is_stored, (at, position) in _one_sided(stored_ends(query), iter(ends)):
        yield Finding("row_not_in_log" if is_stored else "row_missing", {"table": "log_end", "id": f"{at} {position}"})


def _one_sided(
    stored: Iterator[tuple[int, int]], expected: Iterator[tuple[int, int]]
) -> Iterator[tuple[bool, tuple[int, int]]]:
    """The pairs that only one of two sorted sequences has, each with whether the first one has it.

    Both are sorted by the first number of their pairs, which each has once."""
    one, other = next(stored, None), next(expected, None)
    while one or other:
        # An altered row may have any value beside its key.
        is_stored = one is not None and (other is None or one[0] <= other[0])
        is_expected = other is not None and (one is None or other[0] <= one[0])
        if one != other:
            if one and is_stored:
                yield True, one
            if other and is_expected:
                yield False, other
        one = next(stored, None) if is_stored else one
        other = next(expected, None) if is_expected else other


def _compare_vault(query: Query, fold: Fold, vault: Vault | None) -> Iterator[Finding]:
    expected = set[VaultKey]()
    for id, token in fold.of(TokenState).items():
        if token.credential:
            expected.add(VaultKey(str(id), CREDENTIAL, token.credential.number))
        if token.attempt and token.attempt.flow in PENDING:
            expected.add(VaultKey(str(id), PENDING[token.attempt.flow], token.attempt.ordinal))
    for id, user in fold.of(RelayUserState).items():
        if user.password and not user.removed:
            expected.add(VaultKey(str(id), PASSWORD, user.password))
    for id, administrator in fold.of(AdministratorState).items():
        if administrator.password and not administrator.removed:
            expected.add(VaultKey(str(id), SIGN_IN_PASSWORD, administrator.password))
        if administrator.second_factor and not administrator.removed:
            expected.add(VaultKey(str(id), SECOND_FACTOR, administrator.second_factor))
    for id, client in fold.of(ApiClientState).items():
        if client.key and not client.removed:
            expected.add(VaultKey(str(id), CLIENT_KEY, client.key))
    for id, provider in fold.of(StoredProviderState).items():
        uploaded = {} if provider.removed else {name: n for name, n in provider.secrets.items() if n != AWAITED}
        expected.update(VaultKey(str(id), PROVIDER_SECRETS[name], number) for name, number in uploaded.items())
    stored = read_vault_keys(query)
    yield from (_about_vault("vault_row_not_in_log", key) for key in stored - expected)
    yield from (_about_vault("vault_row_missing", key) for key in expected - stored)
    if vault:
        damaged = (key for key in sorted(expected & stored) if not vault.opens(query, key))
        yield from (_about_vault("vault_row_damaged", key) for key in damaged)


def _about_vault(code: str, key: VaultKey) -> Finding:
    return Finding(code, {"kind": key.kind, "number": key.generation, "id": key.subject_id})

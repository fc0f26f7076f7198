"""Saves in a second: a renewal with all that goes beside its event, and the same rows written by the bare driver.

The peer writes the same bytes into the same tables in one transaction, as durably, and makes none of them meanwhile.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from postgres import private_server

from bench.material import Material
from bench.rounds import Figure, Measure, Size, compare
from domain.token import Token
from infrastructure.store.hash_chain import Head, link_message, read_head
from infrastructure.store.postgres import PostgresStore
from infrastructure.store.row_macs import view_with_mac
from infrastructure.store.rows import view, write_statements
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store, UnitOfWork

Statement = tuple[str, tuple[Any, ...]]


def sqlite_saves(directory: Path, size: Size) -> Figure:
    """On SQLite: write-ahead log, synchronous=FULL, secure_delete."""
    our_path, their_path = directory / "ours.db", directory / "peer.db"
    with ExitStack() as stack:
        ours = stack.enter_context(_on(SqliteStore(our_path), size))
        theirs = stack.enter_context(_on(SqliteStore(their_path), size))
        connection = stack.enter_context(closing(sqlite3.connect(their_path, isolation_level=None)))
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

        def write(statements: list[Statement]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for statement, parameters in statements:
                connection.execute(statement, parameters)
            connection.execute("COMMIT")

        return compare(
            "saves on SQLite",
            ours=_saving(ours),
            peer=_writing(_Peer(theirs), write),
            peer_name="raw sqlite3, the same rows in one transaction",
            rounds=size.rounds,
            unit="saves/s",
            more_is_better=True,
            target=0.40,
            limited_by="the disk's fsync; then Python, ours and the library's",
        )


def postgres_saves(size: Size) -> Figure:
    """On PostgreSQL with fsync, over its Unix socket."""
    with ExitStack() as stack:
        server = stack.enter_context(private_server(fsync=True))
        our_url, their_url = (stack.enter_context(server.new_database()) for _ in range(2))
        ours = stack.enter_context(_on(PostgresStore(our_url), size))
        theirs = stack.enter_context(_on(PostgresStore(their_url), size))
        connection = stack.enter_context(psycopg.connect(their_url, autocommit=True))

        def write(statements: list[Statement]) -> None:
            statement, parameters = _in_one(statements)
            connection.execute(statement, parameters, prepare=True)

        return compare(
            "saves on PostgreSQL",
            ours=_saving(ours),
            peer=_writing(_Peer(theirs), write),
            peer_name="raw psycopg, the same rows in one autocommit statement",
            rounds=size.rounds,
            unit="saves/s",
            more_is_better=True,
            target=0.60,
            limited_by="the disk's fsync, and the two round trips of one transaction",
        )


@contextmanager
def _on(store: Store, size: Size) -> Iterator[Material]:
    with closing(store):
        material = Material.on(store)
        material.add_tokens(size.saves)
        yield material


def _saving(material: Material) -> Measure:
    def saves_in_a_second() -> float:
        renewals = material.renewals()
        started = time.perf_counter()
        for token, unit_of_work in renewals:
            material.log.save(token, unit_of_work=unit_of_work)
        return len(renewals) / (time.perf_counter() - started)

    return saves_in_a_second


def _writing(peer: _Peer, write: Callable[[list[Statement]], None]) -> Measure:
    def writes_in_a_second() -> float:
        renewals = peer.renewals()
        started = time.perf_counter()
        for statements in renewals:
            write(statements)
        return len(renewals) / (time.perf_counter() - started)

    return writes_in_a_second


class _Peer:
    """What `EventLog.save` would write, as statements with their parameters."""

    def __init__(self, material: Material) -> None:
        self._material = material
        with material.store.reading() as query:
            head = read_head(query)
        assert head
        self._head = head

    def renewals(self) -> list[list[Statement]]:
        """Of a renewal of every token; whoever asks stores them."""
        return [self._statements(token, unit_of_work) for token, unit_of_work in self._material.renewals()]

    def _statements(self, token: Token, unit_of_work: UnitOfWork) -> list[Statement]:
        [event] = token.collect_events()
        stored = self._material.log._mapper.to_stored_event(event)
        keys, number, position = self._material.store.integrity.chain, self._head.number + 1, self._head.position + 1
        link = keys.mac(link_message(number, self._head.link, position, stored))
        self._head = Head.of(keys, number, position, link)
        viewed = view(token.id, token.version, token.state)
        assert viewed
        [(upsert, [row])] = write_statements([view_with_mac(self._material.store.integrity.rows, viewed)])
        [put], [claim_key] = unit_of_work.put, unit_of_work.release
        id, sealed = str(token.id), put.sealed
        return [
            (
                "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?)",
                (token.id.hex, token.version, stored.topic, stored.state),
            ),
            ("INSERT INTO chain (number, position, link) VALUES (?, ?, ?)", (number, position, link)),
            (
                "UPDATE chain_head SET number = ?, position = ?, link = ?, mac = ? WHERE id = 1",
                (number, position, link, self._head.mac),
            ),
            (upsert, row),
            ("DELETE FROM vault WHERE subject_id = ? AND kind = ?", (id, put.kind)),
            (
                "INSERT INTO vault (subject_id, kind, generation, algorithm, key_id, wrapped, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (id, put.kind, put.generation, sealed.algorithm, sealed.key_id, sealed.wrapped, sealed.body),
            ),
            (
                "DELETE FROM claim WHERE subject_id = ? AND kind = ? AND generation = ? AND attempt_id = ?",
                (id, claim_key.kind, claim_key.generation, claim_key.attempt_id),
            ),
        ]


def _in_one(statements: list[Statement]) -> tuple[bytes, list[Any]]:
    """All of them as one statement of PostgreSQL: one round trip, one commit."""
    *before, (last, _) = statements
    parts = [f"part_{number} AS ({text})" for number, (text, _) in enumerate(before)]
    text = f"WITH {', '.join(parts)} {last}"
    return text.replace("?", "%s").encode(), [value for _, parameters in statements for value in parameters]

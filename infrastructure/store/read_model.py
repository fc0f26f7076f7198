"""Makes the read model and the index of the log anew, from the log."""

from __future__ import annotations

from collections.abc import Callable

from infrastructure.store.event_log import EventLog
from infrastructure.store.fold import Fold
from infrastructure.store.log_index import FoldedLogIndex, LogEnds, write_log_index
from infrastructure.store.machine_list import rebuild_machine_list
from infrastructure.store.open import write_projection_version
from infrastructure.store.query import Query
from infrastructure.store.row_macs import view_with_mac
from infrastructure.store.rows import write_statements
from infrastructure.store.schema import LOG_INDEX, MACHINE_LIST, PROJECTION_VERSION, VIEWS

Progress = Callable[[int], None]
PROGRESS_EVERY = 5000


def rebuild_read_model(log: EventLog, query: Query, progress: Progress | None = None) -> tuple[Fold, int]:
    """Replay the log into new rows, in the transaction of `query`; returns the states and the number of events.

    Raises:
        IllegalHistory: the log itself is not legal.
    """
    fold, index, events = _replay(log, query, progress)
    # An earlier version of the projection may have had other columns.
    for table in (*VIEWS, *LOG_INDEX, MACHINE_LIST):
        query.run(f"DROP TABLE IF EXISTS {table}")
    for statement in log.store.create_statements():
        query.run(statement)
    keys = log.store.integrity.rows
    for statement, parameters in write_statements(view_with_mac(keys, view) for view in fold.views() if view.row):
        query.run_many(statement, parameters)
    rebuild_machine_list(query)
    write_log_index(query, sorted(index.streams), index.ends.rows)
    write_projection_version(query, PROJECTION_VERSION)
    log.store.row_checks.replace(())
    return fold, events


def rebuild_log_index(log: EventLog, query: Query) -> None:
    """Replay the log into new rows of its index alone, in the transaction of `query`.

    Raises:
        IllegalHistory: the log itself is not legal.
    """
    _, index, _ = _replay(log, query, None)
    for table in LOG_INDEX:
        query.run(f"DELETE FROM {table}")  # noqa: S608 - our own table names
    write_log_index(query, sorted(index.streams), index.ends.rows)


def _replay(log: EventLog, query: Query, progress: Progress | None) -> tuple[Fold, FoldedLogIndex[LogEnds], int]:
    fold, index, events = Fold(forgets=True), FoldedLogIndex(LogEnds()), 0
    for logged in log.read(query):
        index.apply(logged.position, logged.event, fold.apply(logged.event))
        events += 1
        if progress and events % PROGRESS_EVERY == 0:
            progress(events)
    return fold, index, events

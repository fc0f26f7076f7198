"""Makes the read model anew: the rows of all aggregates, replayed from the log."""

from __future__ import annotations

from collections.abc import Callable

from infrastructure.store.event_log import EventLog
from infrastructure.store.fold import Fold
from infrastructure.store.open import write_projection_version
from infrastructure.store.query import Query
from infrastructure.store.rows import write_statements
from infrastructure.store.schema import PROJECTION_VERSION, VIEWS

Progress = Callable[[int], None]
PROGRESS_EVERY = 5000


def rebuild_read_model(log: EventLog, query: Query, progress: Progress | None = None) -> tuple[Fold, int]:
    """Replay the log into new rows, in the transaction of `query`; returns the states and the number of events.

    Raises:
        IllegalHistory: the log itself is not legal.
    """
    fold, events = Fold(), 0
    for logged in log.read(query):
        fold.apply(logged.event)
        events += 1
        if progress and events % PROGRESS_EVERY == 0:
            progress(events)
    # An earlier version of the projection may have had other columns.
    for table in VIEWS:
        query.run(f"DROP TABLE IF EXISTS {table}")
    for statement in log.store.create_statements():
        query.run(statement)
    for statement, parameters in write_statements(view for view in fold.views() if view.row):
        query.run_many(statement, parameters)
    write_projection_version(query, PROJECTION_VERSION)
    return fold, events

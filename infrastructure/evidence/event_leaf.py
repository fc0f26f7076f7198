"""The leaf of the tree that stands for an event: one line of JSON with everything that is stored of the event."""

from __future__ import annotations

import json
from uuid import UUID

from eventsourcing.persistence import StoredEvent


def event_octets(number: int, stored: StoredEvent) -> bytes:
    """The octets of the leaf of event `number`, counted from 1.

    The state stands in it as it is stored, so two events that differ never have the same octets. A row that somebody
    changed may have a value of any type; its leaf is another, and no error.
    """
    about = {
        "event": number,
        "id": _id_text(stored.originator_id),
        "version": stored.originator_version,
        "topic": str(stored.topic),
    }
    state: bytes | str = stored.state
    octets = state.encode() if isinstance(state, str) else bytes(state)
    return json.dumps(about)[:-1].encode() + b', "state": ' + octets + b"}"


def _id_text(id: UUID | str) -> str:
    if isinstance(id, UUID):
        return str(id)
    try:
        return str(UUID(str(id)))
    except ValueError:
        return str(id)

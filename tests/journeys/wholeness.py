"""What must hold of a store at any instant, whatever happened to the service: asked of the log and of the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from running import LINKED, NOT_RETRIEVED, RETRIEVED, Json, RunningService

from adapters import bootstrap

_VAULT = "SELECT token_id, kind, generation FROM vault"
_CREDENTIALS = "SELECT id, 'credential', generation FROM token WHERE generation IS NOT NULL"
_DEVICE_CODES = "SELECT id, 'device_code', ordinal FROM token WHERE attempt_id IS NOT NULL"
_IN_CONCERT = {"Retrieved": "TokenReceived", "Deleted": "TokenDeleted"}


def assert_whole(service: RunningService, linked: Sequence[str] = LINKED) -> None:
    """`audit verify` finds nothing, no vault row is without its event or the other way round, no group is halved."""
    with bootstrap.offline(service.config) as store:
        verdict, records = store.audit.verify(), store.audit.records()
    assert verdict.findings == ()
    [(events,)], [(links,)] = (service.rows(f"SELECT count(*) FROM {table}") for table in ("stored_events", "chain"))
    assert events == links
    assert Counter(service.rows(_VAULT)) == Counter(service.rows(_CREDENTIALS) + service.rows(_DEVICE_CODES))
    changed = defaultdict(list)
    for one in records:
        if one.name in _IN_CONCERT.values():
            changed[one.name, one.facts["token_id"], one.at, one.facts.get("generation")].append(one.profile)
    for one in records:
        if one.aggregate == "Token" and one.name in _IN_CONCERT:
            key = (_IN_CONCERT[one.name], str(one.id), one.at, one.facts.get("generation"))
            assert sorted(changed.pop(key)) == sorted(linked), f"half a group: {one}"
    assert not changed, "a setting changed without its token"


def assert_agree(statuses: Sequence[Json], linked: Sequence[str] = LINKED) -> Json:
    """Linked settings display the same; what they display."""
    seen = [one for one in statuses if one["profile"] in linked]
    assert len(seen) == len(linked)
    fields = ["token", "since", "expires_at", "reason", "attention", "attempt_id", "retrieved_by"]
    if seen[0]["token"] == RETRIEVED:
        fields += ["provider", "account"]
    shown = {tuple(one[field] for field in fields) for one in seen}
    assert len(shown) == 1, f"linked settings disagree: {shown}"
    assert (seen[0]["token"] == NOT_RETRIEVED) is (seen[0]["retrieved_by"] is None and seen[0]["attempt_id"] is None)
    return seen[0]

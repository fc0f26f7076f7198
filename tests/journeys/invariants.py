"""What must hold of a store at any instant, whatever happened to the service: asked of the log and of the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from service_process import LINKED, NOT_RETRIEVED, RETRIEVED, Json, ServiceProcess

from adapters import installation

# The service may run and write meanwhile, so what is compared is read by one statement.
_COUNTS = "SELECT (SELECT count(*) FROM stored_events), (SELECT count(*) FROM chain)"
_SEALED = """\
SELECT 'kept', subject_id, kind, generation FROM vault
UNION ALL SELECT 'wanted', id, 'credential', generation FROM token WHERE generation IS NOT NULL
UNION ALL SELECT 'wanted', id, 'device_code', ordinal FROM token WHERE attempt_id IS NOT NULL"""
_IN_CONCERT = {"Retrieved": "TokenReceived", "Deleted": "TokenDeleted"}


def assert_whole(service: ServiceProcess, linked: Sequence[str] = LINKED) -> None:
    """`audit verify` finds nothing, no vault row is without its event or the other way round, no group is halved."""
    with installation.offline(service.config) as store:
        verdict, records = store.audit.verify(), store.history.records()
    assert verdict.findings == ()
    [(events, links)] = service.rows(_COUNTS)
    assert events == links
    sealed = defaultdict[str, Counter[object]](Counter)
    for where, *row in service.rows(_SEALED):
        sealed[where][tuple(row)] += 1
    assert sealed["kept"] == sealed["wanted"]
    changed = defaultdict(list)
    for one in records:
        if one.name in _IN_CONCERT.values():
            changed[one.name, one.facts["token_id"], one.at, one.facts.get("generation")].append(one.profile)
    for one in records:
        if one.aggregate == "Token" and one.name in _IN_CONCERT:
            key = (_IN_CONCERT[one.name], str(one.id), one.at, one.facts.get("generation"))
            assert sorted(map(str, changed.pop(key))) == sorted(linked), f"half a group: {one}"
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

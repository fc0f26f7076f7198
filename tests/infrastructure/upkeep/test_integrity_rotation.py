"""New integrity keys while services run: nothing is taken for altered, and what the older keys made is over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from fakes import FakeClock, Services
from row_writer import an_office, rights
from store_examples import change

from domain.errors import Refused
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.integrity_keys import key_number
from infrastructure.evidence.log_evidence import GrowingLog, LogEvidence
from infrastructure.store.row_macs import with_mac
from infrastructure.store.schema import COLUMNS, MAC, WITH_MAC
from infrastructure.store.store import Store
from infrastructure.upkeep import integrity_rotation
from infrastructure.upkeep.integrity_rotation import authenticate_anew, begin, end, is_under_way
from infrastructure.upkeep.row_scan import RowWatch

OpenAgain = Callable[[], Store]
SMTP = "office-mfp/smtp-service"


@pytest.fixture
def other(open_again: OpenAgain) -> Store:
    """The store as another process has it, which rotates."""
    return open_again()


def rotate(store: Store, sealer: Sealer, clock: FakeClock) -> int:
    begin(store, sealer, clock.now())
    return sum(authenticate_anew(store))


def mac_numbers(store: Store) -> set[int]:
    with store.reading() as query:
        rows = [row for table in WITH_MAC for row in query.rows(f"SELECT mac FROM {table}")]
    return {key_number(row[MAC]) for row in rows}


def test_a_service_that_runs_meanwhile_goes_on_with_the_newer_keys(
    service: Services, other: Store, sealer: Sealer, clock: FakeClock
) -> None:
    office = an_office(service)
    had = rights(office)
    assert rotate(other, sealer, clock) > 10
    assert mac_numbers(other) == {2}
    assert service.store.integrity.rows.newest == 1
    assert rights(office) == had
    assert service.store.integrity.rows.newest == 2
    service.add_machine("lobby-mfp", "generic")
    assert service.audit.verify().findings == ()


def test_a_save_learns_the_newer_keys_by_itself(
    service: Services, other: Store, sealer: Sealer, clock: FakeClock
) -> None:
    service.add_machine()
    rotate(other, sealer, clock)
    service.settings.add_machine("lobby-mfp", "generic", "administrator")
    assert service.store.integrity.chain.newest == 2
    assert mac_numbers(other) == {2}
    assert service.audit.verify().findings == ()


def test_a_head_that_only_says_it_has_a_newer_key_is_refused(service: Services) -> None:
    service.add_machine()
    with service.store.reading() as query:
        mac = bytes(query.rows("SELECT mac FROM chain_head")[0]["mac"])
    change(service.store, "UPDATE chain_head SET mac = ?", (9).to_bytes(4, "big") + mac[4:])
    with pytest.raises(Refused, match="chain_head_altered"):
        service.settings.add_machine("lobby-mfp", "generic", "administrator")


def test_the_older_key_of_the_rows_is_believed_until_the_rotation_ends(
    service: Services, other: Store, sealer: Sealer, clock: FakeClock
) -> None:
    service.add_machine()
    older = service.store.integrity.rows
    rotate(other, sealer, clock)
    assert not end(other, sealer, clock.now())
    assert end(other, sealer, clock.now() + timedelta(seconds=1))
    assert not is_under_way(other)
    with other.reading() as query:
        [row, *_] = query.rows("SELECT * FROM machine")
    forged = with_mac(older, "machine", {column: row[column] for column in COLUMNS["machine"]} | {"name": "another"})
    change(other, "UPDATE machine SET name = ?, mac = ?", "another", forged[MAC])
    # A service that still has the older key drops it when it looks at the rows.
    RowWatch(service.store).look()
    assert [row.name for row in service.store.row_checks.altered] == ["another"]


def test_an_altered_row_gets_no_new_mac(service: Services, other: Store, sealer: Sealer, clock: FakeClock) -> None:
    service.add_machine()
    change(service.store, "UPDATE machine SET catalogue = 'generic'")
    rotate(other, sealer, clock)
    assert {finding.code for finding in service.audit.verify().findings} == {"row_differs"}
    assert 1 in mac_numbers(other)


def test_an_altered_head_begins_no_rotation(service: Services, other: Store, sealer: Sealer, clock: FakeClock) -> None:
    service.add_machine()
    change(service.store, "UPDATE chain_head SET number = number + 1")
    with pytest.raises(Refused, match="chain_head_altered"):
        begin(other, sealer, clock.now())
    assert other.integrity.rows.numbers == [1]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("pages", [0, 1, 4, 9])
def test_a_rotation_that_is_killed_anywhere_goes_on(
    service: Services, other: Store, sealer: Sealer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    office = an_office(service)
    had = rights(office)
    monkeypatch.setattr(integrity_rotation, "_PAGE", 1)
    begin(other, sealer, clock.now())
    with suppress(Killed):
        for page, _ in enumerate(authenticate_anew(other)):
            if page == pages:
                raise Killed
    assert rights(office) == had
    assert service.audit.verify().findings == ()
    rotate(other, sealer, clock)
    assert (mac_numbers(other), other.integrity.rows.newest) == ({2}, 2)
    assert rights(office) == had


def test_checkpoints_of_before_are_still_verified(
    service: Services, other: Store, sealer: Sealer, clock: FakeClock
) -> None:
    service.add_machine()
    evidence = LogEvidence(service.events, service.store_id)
    before = evidence.extend(GrowingLog()).text
    key = evidence.key
    rotate(other, sealer, clock)
    service.store.reload_integrity()
    assert evidence.key != key
    assert evidence.compare(before.encode(), "before").extends
    assert evidence.compare(evidence.extend(GrowingLog()).text.encode(), "after").extends

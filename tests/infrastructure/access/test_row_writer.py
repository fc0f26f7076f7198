"""Somebody who writes rows without the key gets no right, and `audit verify` names what they wrote."""

from __future__ import annotations

import random

import pytest
from effort import amount
from fakes import FakeClock, Services
from row_writer import PASSWORDS, POP, SMTP, an_office, forge_event, put_everything_back, rights, write
from store_examples import ADMIN, change, everything

from domain.errors import Refused
from infrastructure.store import schema
from infrastructure.upkeep.row_scan import RowWatch


def written(service: Services, changes: int) -> None:
    """Make so many changes, one after the other; each is undone before the next."""
    office, random_, made = an_office(service), random.Random(20261129), 0
    had = rights(office)
    before = everything(service.store)
    while made < changes:
        what = write(office, random_)
        if what is None:
            continue
        made += 1
        findings = service.audit.verify().findings
        named = {str(value) for finding in findings for value in finding.fields.values()}
        assert what.ids & named, (what, findings)
        assert rights(office) <= had, (what, rights(office) - had)
        put_everything_back(service.store, before)
    assert service.audit.verify().findings == ()


def test_no_change_of_rows_gives_a_right_and_each_is_named(service: Services) -> None:
    written(service, amount(20, of=60))


@pytest.mark.torture
def test_no_change_of_many_gives_a_right_and_each_is_named(service: Services) -> None:
    written(service, 500)


@pytest.mark.parametrize("seed", range(4))
def test_a_forged_event_gives_no_right_and_is_not_made_true_by_a_change(service: Services, seed: int) -> None:
    office = an_office(service)
    had = rights(office)
    forge_event(office, random.Random(seed))
    assert rights(office) <= had
    with pytest.raises(Refused, match="row_altered"):
        service.restart().administrators.set_password("bob", next(iter(office.keys.values())), ADMIN)
    assert service.audit.verify().findings


@pytest.mark.parametrize("seed", [0, 3])
def test_asking_for_a_rebuild_makes_nothing_forged_true(service: Services, clock: FakeClock, seed: int) -> None:
    office = an_office(service)
    had = rights(office)
    change(service.store, "UPDATE administrator SET roles = 'administrator operator auditor'")
    change(service.store, "UPDATE meta SET value = '1' WHERE name = 'projection_version'")
    service.audit.rebuild(by="worker", now=clock.now())
    assert rights(office) <= had
    assert service.audit.verify().findings == ()
    forge_event(office, random.Random(seed))
    with pytest.raises(Refused, match="log_altered"):
        service.audit.rebuild(by="worker", now=clock.now())
    assert rights(office) <= had


def test_every_table_has_its_rows_proven_or_is_without_rights() -> None:
    listed = [*schema.WITH_MAC, *schema.PROVEN_OTHERWISE, *schema.WITHOUT_RIGHTS]
    assert len(listed) == len(set(listed))
    assert set(listed) == schema.TABLES


def test_a_row_from_which_nothing_can_be_read_stops_nothing_else(service: Services) -> None:
    an_office(service)
    service.add_machine("lobby-mfp", "generic")
    service.get_token("lobby-mfp/smtp")
    service.clients.add("lobby", ["lobby-mfp/smtp"], None, ADMIN)
    service.relay_users.add("lobby", ["lobby-mfp/smtp"], [], PASSWORDS["new"], ADMIN)
    names = {status.profile.name for status in service.tokens.statuses()}
    change(service.store, "UPDATE profile SET settings = 'nonsense' WHERE name = ?", SMTP)
    of_pop = "SELECT token_id FROM profile WHERE name = ?"
    change(service.store, f"UPDATE token SET since = 'nonsense' WHERE id IN ({of_pop})", POP)
    change(service.store, "UPDATE client SET profiles = 'nonsense' WHERE name = 'backup'")
    change(service.store, "UPDATE relay_user SET profiles = 'nonsense' WHERE name = 'scanner'")
    again = service.restart()
    seen = {status.profile.name for status in again.tokens.statuses()}
    assert "lobby-mfp/smtp" in seen < names
    assert again.access_token("lobby-mfp/smtp").generation == 1
    assert {one.name for one in again.clients.clients()} == {"lobby"}
    assert {one.name for one in again.relay_users.users()} == {"desk", "lobby"}
    assert again.settings.profiles()
    with pytest.raises(Refused, match="row_altered"):
        again.access_token(SMTP)
    RowWatch(again.store).look()
    assert {row.table for row in again.store.row_checks.altered} == {"profile", "token", "client", "relay_user"}
    again.audit.rebuild(by="worker", now=again.clock.now())
    assert again.store.row_checks.altered == []
    assert {status.profile.name for status in again.tokens.statuses()} == names


def test_a_row_that_is_altered_is_attention_until_the_rows_are_made_again(service: Services) -> None:
    office = an_office(service)
    change(service.store, "UPDATE profile SET settings = replace(settings, 'contoso.com', 'attacker.example')")
    with pytest.raises(Refused, match="row_altered table='profile'"):
        service.access_token("office-mfp/smtp-service")
    assert {row.table for row in service.store.row_checks.altered} == {"profile"}
    assert office.before

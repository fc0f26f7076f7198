"""The integrity keys: made with the store, sealed, loaded when it is opened, and kept by backup and restore."""

from __future__ import annotations

import io

import pytest
from fakes import START, Services
from store_examples import change

from domain.errors import InvalidValue, StoreRefused
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.integrity_keys import IntegrityKeys, MacKeys, Purpose
from infrastructure.store.open import open_store
from infrastructure.store.store import Store
from infrastructure.upkeep.backup import ConfigurationFile, restore_backup, verify_backup, write_backup

ADMIN = "administrator:root"


def test_a_mac_is_of_its_message_and_of_the_key_that_it_names() -> None:
    older, newer = MacKeys({1: bytes(32)}), MacKeys({1: bytes(32), 2: bytes([1]) * 32})
    mac = newer.mac(b"message")
    assert (newer.newest, newer.numbers, mac[:4]) == (2, [2, 1], bytes([0, 0, 0, 2]))
    assert newer.is_valid(b"message", mac)
    assert newer.is_valid(b"message", older.mac(b"message"))
    assert not newer.is_valid(b"massage", mac)
    assert not newer.is_valid(b"message", bytes([0, 0, 0, 1]) + mac[4:])
    assert not newer.is_valid(b"message", mac[:-1])
    assert not older.is_valid(b"message", mac)
    assert not newer.is_valid(b"message", b"")


def test_the_keys_are_not_shown(store: Store) -> None:
    assert repr(store.integrity) == "IntegrityKeys(rows=MacKeys(), chain=MacKeys(), signing=SigningKeys())"


def test_each_opening_loads_the_keys_of_the_store(store: Store, open_again: object) -> None:
    assert callable(open_again)
    again = open_again()
    assert again.integrity == store.integrity
    assert secrets_of(store.integrity) == secrets_of(again.integrity)
    assert len(set(secrets_of(store.integrity))) == len(Purpose)


def secrets_of(keys: IntegrityKeys) -> list[bytes | None]:
    return [ring.secret(1) for ring in (keys.rows, keys.chain, keys.signing)]


@pytest.mark.parametrize("purpose", Purpose)
def test_a_store_without_one_of_its_keys_is_refused(store: Store, sealer: Sealer, purpose: Purpose) -> None:
    change(store, "DELETE FROM integrity_key WHERE purpose = ?", purpose.value)
    with pytest.raises(StoreRefused, match="integrity_key_missing") as refused:
        open_store(store, sealer)
    assert refused.value.fields["purpose"] == purpose.value


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE integrity_key SET purpose = 'something' WHERE purpose = 'rows'",
        "UPDATE integrity_key SET number = 2 WHERE purpose = 'rows'",
        "UPDATE integrity_key SET body = wrapped WHERE purpose = 'rows'",
        "UPDATE integrity_key SET algorithm = 'none' WHERE purpose = 'rows'",
    ],
)
def test_a_key_that_was_changed_or_moved_is_refused(store: Store, sealer: Sealer, statement: str) -> None:
    change(store, statement)
    with pytest.raises(StoreRefused, match="integrity_key_damaged"):
        open_store(store, sealer)


def backed_up(service: Services) -> io.BytesIO:
    file = io.BytesIO()
    configuration = ConfigurationFile(b"", 0o600, "mailtoken.key")
    write_backup(service.store, service.sealer, file, configuration, program="1", now=START)
    file.seek(0)
    return file


def test_a_restored_store_has_the_keys_of_the_one_that_was_backed_up(
    service: Services, sealer: Sealer, empty_store: Store
) -> None:
    file = backed_up(service)
    restore_backup(empty_store, sealer, file, "a.backup", by=ADMIN, now=START)
    open_store(empty_store, sealer)
    assert secrets_of(empty_store.integrity) == secrets_of(service.store.integrity)


def test_a_damaged_key_fails_the_check_of_a_backup(service: Services, sealer: Sealer) -> None:
    change(service.store, "UPDATE integrity_key SET body = wrapped WHERE purpose = 'chain'")
    with pytest.raises(InvalidValue, match="backup_row_damaged"):
        verify_backup(backed_up(service), "a.backup", sealer)

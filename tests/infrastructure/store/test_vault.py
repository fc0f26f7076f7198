"""Sealed rows open with their own key, in their own store, at their own place, and nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from store_examples import a_credential, a_pending, as_text, change, everything

from domain.errors import StoreRefused, VaultDamaged
from infrastructure.encryption.envelope import Place, Sealed, Sealer
from infrastructure.encryption.key_file import create_key_file, read_key
from infrastructure.store.store import Store
from infrastructure.store.vault import Vault, VaultRow, insert_vault_rows

PLACE = Place("store", "token", "credential", 1)
KEY = base64.b64encode(bytes(range(32))) + b"\n"


@pytest.fixture
def vault(sealer: Sealer, store_id: str) -> Vault:
    return Vault(sealer, store_id)


def put(store: Store, *rows: VaultRow) -> None:
    with store.writing() as query:
        insert_vault_rows(query, rows)


# Rows


def test_a_credential_comes_out_as_it_went_in(store: Store, vault: Vault) -> None:
    id = uuid4()
    for credential in (a_credential(), replace(a_credential(2), refresh_token=None, grant_expires_at=None)):
        put(store, vault.seal_credential(id, 1, credential))
        with store.reading() as query:
            assert vault.credential(query, id, 1) == credential
        change(store, "DELETE FROM vault")


def test_a_pending_attempt_comes_out_as_it_went_in(store: Store, vault: Vault) -> None:
    id = uuid4()
    put(store, vault.seal_device_code(id, 3, a_pending()))
    with store.reading() as query:
        assert vault.device_code(query, id, 3) == a_pending()


def test_nothing_of_a_secret_can_be_read_in_the_row_or_in_an_error(store: Store, vault: Vault) -> None:
    id = uuid4()
    put(store, vault.seal_credential(id, 1, a_credential()), vault.seal_device_code(id, 1, a_pending()))
    change(store, "UPDATE vault SET key_id = 'another'")
    with store.reading() as query, pytest.raises(VaultDamaged) as damaged:
        vault.credential(query, id, 1)
    shown = as_text(everything(store)) + str(damaged.value) + repr(damaged.value.__cause__)
    assert "in-clear" not in shown
    assert base64.b64encode(b"in-clear").decode()[:8] not in shown


def test_a_missing_row_is_named(store: Store, vault: Vault) -> None:
    id = uuid4()
    with store.reading() as query, pytest.raises(VaultDamaged) as damaged:
        vault.credential(query, id, 2)
    assert str(damaged.value) == f"sealed_row_missing kind='credential' number=2 subject='{id}'"


SWAPS: dict[str, Callable[[VaultRow, VaultRow], VaultRow]] = {
    "of another token": lambda row, other: replace(other, subject_id=row.subject_id, generation=row.generation),
    "of another generation": lambda row, other: replace(row, generation=row.generation + 1),
    "of another kind": lambda row, other: replace(row, kind="device_code"),
    "with another body": lambda row, other: replace(row, sealed=replace(row.sealed, body=other.sealed.body)),
    "with another data key": lambda row, other: replace(row, sealed=replace(row.sealed, wrapped=other.sealed.wrapped)),
    "with another key id": lambda row, other: replace(row, sealed=replace(row.sealed, key_id="0" * 16)),
    "with another algorithm": lambda row, other: replace(row, sealed=replace(row.sealed, algorithm="A128GCM")),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_row_that_was_swapped_does_not_open(store: Store, vault: Vault, swap: str) -> None:
    row = vault.seal_credential(uuid4(), 1, a_credential(1))
    swapped = SWAPS[swap](row, vault.seal_credential(uuid4(), 2, a_credential(2)))
    put(store, swapped)
    open_row = vault.device_code if swapped.kind == "device_code" else vault.credential
    with store.reading() as query, pytest.raises(VaultDamaged) as damaged:
        open_row(query, swapped.subject_id, swapped.generation)
    assert str(damaged.value) == (
        f"sealed_value_damaged kind='{swapped.kind}' number={swapped.generation} subject='{row.subject_id}'"
    )


def test_a_row_of_another_store_or_another_key_does_not_open(store: Store, vault: Vault, sealer: Sealer) -> None:
    id = uuid4()
    foreign = Vault(sealer, str(uuid4())).seal_credential(id, 1, a_credential())
    strange = Vault(Sealer(bytes(32)), vault._store_id).seal_credential(id, 2, a_credential())
    put(store, foreign, strange)
    with store.reading() as query:
        for generation in (1, 2):
            with pytest.raises(VaultDamaged):
                vault.credential(query, id, generation)


# Sealing


def test_a_sealed_value_opens_at_its_place(sealer: Sealer) -> None:
    assert sealer.open(sealer.seal(b"value", PLACE), PLACE) == b"value"


def test_two_sealings_of_a_value_have_nothing_in_common(sealer: Sealer) -> None:
    one, other = sealer.seal(b"value", PLACE), sealer.seal(b"value", PLACE)
    assert one.wrapped != other.wrapped
    assert one.body != other.body


@pytest.mark.parametrize("part", ["wrapped", "body"])
def test_a_sealed_value_with_any_byte_damaged_or_cut_off_does_not_open(sealer: Sealer, part: str) -> None:
    sealed = sealer.seal(b"value", PLACE)
    whole = sealed.body if part == "body" else sealed.wrapped

    def damage(to: bytes) -> Sealed:
        return replace(sealed, body=to) if part == "body" else replace(sealed, wrapped=to)

    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    cut = [whole[:at] for at in range(len(whole))]
    for bytes_of_part in (*damaged, *cut, whole + b"\0"):
        with pytest.raises(VaultDamaged):
            sealer.open(damage(bytes_of_part), PLACE)


def test_the_key_is_not_shown(sealer: Sealer) -> None:
    assert repr(sealer) == "Sealer()"
    assert sealer.key_id not in sealer.keys[0].hex()


# Where the key comes from


def test_a_new_key_is_random_readable_by_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    create_key_file(one)
    create_key_file(other)
    assert one.read_bytes() != other.read_bytes()
    assert one.stat().st_mode & 0o777 == 0o600
    before = one.read_bytes()
    with pytest.raises(FileExistsError):
        create_key_file(one)
    assert one.read_bytes() == before
    assert [len(key) for key in read_key(one, {}).keys] == [32]


def key_file(path: Path, text: bytes = KEY, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_key_file_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path / "mailtoken.key", mode=mode)
    with pytest.raises(StoreRefused) as refused:
        read_key(path, {"MAILTOKEN_KEY": KEY.decode()})
    assert str(refused.value) == f"key_readable_by_others path='{path}'"


def test_a_systemd_credential_comes_before_the_key_file_and_that_before_the_environment(tmp_path: Path) -> None:
    sources = [base64.b64encode(bytes([number]) * 32) for number in range(3)]
    credential = key_file(tmp_path / "credentials" / "mailtoken.key", sources[0], 0o440)
    path = key_file(tmp_path / "mailtoken.key", sources[1])
    environment = {"CREDENTIALS_DIRECTORY": str(credential.parent), "MAILTOKEN_KEY": sources[2].decode()}
    assert read_key(path, environment).keys == (bytes([0]) * 32,)
    credential.unlink()
    assert read_key(path, environment).keys == (bytes([1]) * 32,)
    path.unlink()
    assert read_key(path, environment).keys == (bytes([2]) * 32,)


def test_without_any_key_it_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.key"
    with pytest.raises(StoreRefused) as refused:
        read_key(path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")})
    assert str(refused.value) == f"key_missing path='{path}'"


@pytest.mark.parametrize("text", [b"", b"letmein", base64.b64encode(bytes(31)), base64.b64encode(bytes(33)), bytes(32)])
def test_what_is_not_a_key_is_refused_and_not_shown(tmp_path: Path, text: bytes) -> None:
    path = key_file(tmp_path / "mailtoken.key", text)
    with pytest.raises(StoreRefused) as refused:
        read_key(path, {})
    assert str(refused.value) == f"key_malformed source='{path}'"

"""A store opens with its own key and with a program that knows its version; otherwise nothing about it changes."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fakes import Services
from postgres import PostgresServer
from store_examples import change, everything

from adapters.bootstrap import open_service
from adapters.installation import initialise, offline
from domain.errors import InvalidValue, Refused, StoreRefused, Unreachable
from infrastructure.config.load import load_config
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.key_file import create_key_file
from infrastructure.store.migrations import SCHEMA_VERSION
from infrastructure.store.open import create_store, open_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import Store

WRONG_KEY = "key_of_another_store"


def hashes(directory: Path) -> dict[str, str]:
    """Every file of a directory by what is in it."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_another_key_does_not_open_the_store_and_changes_nothing(service: Services) -> None:
    service.get_token(service.add_machine()[0])
    before = everything(service.store)
    with pytest.raises(StoreRefused) as refused:
        open_store(service.store, Sealer(bytes(32)))
    assert str(refused.value) == WRONG_KEY
    assert everything(service.store) == before


def test_the_canary_of_another_store_does_not_open(store: Store, sealer: Sealer) -> None:
    change(store, "UPDATE meta SET value = ? WHERE name = 'store_id'", "6f1c0d5e-0b1a-4a57-9a3e-0c6f5a1d2b01")
    with pytest.raises(StoreRefused, match=WRONG_KEY):
        open_store(store, sealer)


def test_a_store_of_a_newer_program_is_refused(store: Store, sealer: Sealer) -> None:
    newer = SCHEMA_VERSION + 1
    change(store, "UPDATE meta SET value = ? WHERE name = 'schema_version'", str(newer))
    before = everything(store)
    with pytest.raises(StoreRefused) as refused:
        open_store(store, sealer)
    assert str(refused.value) == f"store_newer version={newer} known={SCHEMA_VERSION}"
    assert everything(store) == before


def test_making_a_store_that_was_interrupted_is_finished_by_making_it_again(empty_store: Store, sealer: Sealer) -> None:
    empty_store.create_tables()
    with pytest.raises(StoreRefused, match="store_missing"):
        open_store(empty_store, sealer)
    store_id = create_store(empty_store, sealer)
    assert open_store(empty_store, sealer) == store_id


# The folder that `mailtoken init` makes


def test_init_makes_configuration_key_and_store_beside_each_other(tmp_path: Path) -> None:
    made = initialise(tmp_path / "here")
    assert (made.config, made.key) == (tmp_path / "here" / "mailtoken.toml", tmp_path / "here" / "mailtoken.key")
    assert made.store == str(tmp_path / "here" / "mailtoken.db")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "here").iterdir()}
    assert modes == {"mailtoken.toml": "0o644", "mailtoken.key": "0o600", "mailtoken.db": "0o600"}
    with open_service(load_config(made.config)) as service:
        assert service.tokens.statuses() == []


def test_init_never_overwrites(tmp_path: Path) -> None:
    initialise(tmp_path)
    before = hashes(tmp_path)
    with pytest.raises(Refused) as refused:
        initialise(tmp_path)
    assert str(refused.value) == f"initialised_already directory='{tmp_path}'"
    assert hashes(tmp_path) == before


def test_init_makes_no_new_key_for_a_store_that_has_lost_its_own(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    made.key.unlink()
    before = hashes(tmp_path)
    with pytest.raises(StoreRefused) as refused:
        initialise(tmp_path)
    assert str(refused.value) == f"key_lost path='{made.key}'"
    assert hashes(tmp_path) == before


def test_init_makes_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    Path(made.store).unlink()
    made.config.write_text("[server]\nsocket = 'here.sock'\n")
    kept = {name: digest for name, digest in hashes(tmp_path).items() if name != "mailtoken.db"}
    initialise(tmp_path)
    assert {name: digest for name, digest in hashes(tmp_path).items() if name != "mailtoken.db"} == kept
    with open_service(load_config(made.config)) as service:
        assert service.config.server.socket == "here.sock"


def test_init_that_was_interrupted_is_finished_by_another(tmp_path: Path) -> None:
    create_key_file(tmp_path / "mailtoken.key")
    store = SqliteStore(tmp_path / "mailtoken.db")
    store.create_tables()
    store.close()
    made = initialise(tmp_path)
    with open_service(load_config(made.config)) as service:
        assert service.tokens.statuses() == []


@pytest.mark.parametrize("what", ["service", "offline"])
def test_a_wrong_key_stops_the_start_and_leaves_every_file_as_it_is(tmp_path: Path, what: str) -> None:
    made = initialise(tmp_path)
    with open_service(load_config(made.config)) as service:
        service.settings.add_machine("office-mfp", "sharp-bp", "administrator")
    made.key.unlink()
    create_key_file(made.key)
    before = hashes(tmp_path)
    opened = open_service(load_config(made.config)) if what == "service" else offline(made.config)
    with pytest.raises(StoreRefused, match=WRONG_KEY), opened:
        pass
    assert hashes(tmp_path) == before


def test_two_services_dont_run_on_one_file_under_two_configurations(tmp_path: Path) -> None:
    config = load_config(initialise(tmp_path).config)
    (tmp_path / "link.db").symlink_to(tmp_path / "mailtoken.db")
    other = tmp_path / "other.toml"
    other.write_text('[store]\npath = "link.db"\nescrow = "other"\n[server]\nsocket = "other.sock"\n')
    with open_service(config), pytest.raises(StoreRefused, match="service_running"), open_service(load_config(other)):
        pass
    with open_service(load_config(other)):
        pass


def test_two_services_dont_run_on_one_escrow(tmp_path: Path) -> None:
    config = load_config(initialise(tmp_path).config)
    with open_service(config):
        with pytest.raises(StoreRefused) as refused, open_service(config):
            pass
        assert str(refused.value) == f"service_running directory='{tmp_path}'"
        with offline(tmp_path / "mailtoken.toml") as beside:
            assert list(beside.statuses()) == []
    with open_service(config):
        pass


def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    Path(made.store).write_bytes(b"this is a letter, not a database" * 64)
    before = hashes(tmp_path)
    with pytest.raises(Unreachable, match="store_unreachable reason='file is not a database'"):
        initialise(tmp_path)
    with pytest.raises(Unreachable), open_service(load_config(made.config)):
        pass
    assert hashes(tmp_path) == before


def test_a_projection_of_an_older_version_is_rebuilt_before_it_is_believed(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    with open_service(load_config(made.config)) as service:
        names = service.settings.add_machine("office-mfp", "sharp-bp", "administrator")
        change(service.events.store, "UPDATE meta SET value = '0' WHERE name = 'projection_version'")
        for statement in ("DROP TABLE profile", "CREATE TABLE profile (id TEXT PRIMARY KEY, name TEXT NOT NULL)"):
            change(service.events.store, statement)
    with open_service(load_config(made.config)) as service:
        assert [state.name for state in service.settings.profiles()] == sorted(names)
        assert service.audit.verify().findings == ()


def test_the_service_opens_a_store_in_postgresql(tmp_path: Path, postgres_url: str) -> None:
    made = initialise(tmp_path, postgres_url)
    assert made.store == postgres_url
    with open_service(load_config(made.config)) as service:
        service.settings.add_machine("office-mfp", "sharp-bp", "administrator")
    with open_service(load_config(made.config)) as service:
        assert len(service.tokens.statuses()) == 7
    with pytest.raises(Refused, match="initialised_already"):
        initialise(tmp_path, postgres_url)


def test_the_password_of_the_database_goes_into_a_file_of_its_own(tmp_path: Path, postgres_url: str) -> None:
    made = initialise(tmp_path, f"{postgres_url}&password=rather-secret")
    assert made.store == postgres_url
    assert "rather-secret" not in made.config.read_text()
    assert (tmp_path / "db-password").read_text() == "rather-secret\n"
    assert (tmp_path / "db-password").stat().st_mode & 0o777 == 0o600
    with open_service(load_config(made.config)) as service:
        assert service.tokens.statuses() == []
    (tmp_path / "db-password").chmod(0o644)
    with pytest.raises(InvalidValue, match="password_readable_by_others"):
        load_config(made.config)


def test_a_password_in_the_configuration_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.toml"
    path.write_text('[store]\nurl = "postgresql://mailtoken:rather-secret@db.contoso.com/mailtoken"\n')
    path.chmod(0o644)
    with pytest.raises(InvalidValue) as refused:
        load_config(path)
    assert (refused.value.code, "rather-secret" in str(refused.value)) == ("password_readable_by_others", False)
    path.chmod(0o640)
    load_config(path)


def test_init_with_a_database_that_is_not_there_leaves_nothing(tmp_path: Path, postgres: PostgresServer) -> None:
    with pytest.raises(Unreachable, match='database "nowhere" does not exist'):
        initialise(tmp_path, f"{postgres.url('nowhere')}&password=rather-secret")
    assert list(tmp_path.iterdir()) == []


def test_init_makes_a_configuration_for_a_store_and_key_that_are_there(tmp_path: Path) -> None:
    initialise(tmp_path).config.unlink()
    with open_service(load_config(initialise(tmp_path).config)) as service:
        assert service.tokens.statuses() == []


def test_another_programs_file_is_not_made_a_store(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mailtoken.db")) as other:
        other.execute("CREATE TABLE token (word TEXT)")
    before = hashes(tmp_path)
    with pytest.raises(StoreRefused, match="table_of_another_program table='token'"):
        initialise(tmp_path)
    assert hashes(tmp_path) == before

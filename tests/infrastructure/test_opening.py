"""A store opens with its own key and with a program that knows its version; otherwise nothing about it changes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from fakes import Services
from store_examples import change, everything

from adapters.bootstrap import initialise, offline, open_service
from domain.errors import Refused, StoreRefused, Unreachable
from infrastructure.config import load_config
from infrastructure.opening import create_store, open_store
from infrastructure.rows import SCHEMA_VERSION
from infrastructure.sealing import Sealer, create_key_file
from infrastructure.sqlite import SqliteStore
from infrastructure.store import Store

WRONG_KEY = "this key does not open this store: restore the key that mailtoken init made with it"


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
    with pytest.raises(StoreRefused, match="this key does not open this store"):
        open_store(store, sealer)


def test_a_store_of_a_newer_program_is_refused(store: Store, sealer: Sealer) -> None:
    change(store, "UPDATE meta SET value = '7' WHERE name = 'schema_version'")
    before = everything(store)
    with pytest.raises(StoreRefused) as refused:
        open_store(store, sealer)
    assert str(refused.value) == (
        f"this store has version 7 and this program knows versions up to {SCHEMA_VERSION}: "
        "use the program that wrote it, or a newer one"
    )
    assert everything(store) == before


def test_making_a_store_that_was_interrupted_is_finished_by_making_it_again(empty_store: Store, sealer: Sealer) -> None:
    empty_store.create_tables()
    with pytest.raises(StoreRefused, match=re.escape("there is no store here: run mailtoken init")):
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
    assert str(refused.value) == f"{tmp_path} is initialised already: nothing was changed"
    assert hashes(tmp_path) == before


def test_init_makes_no_new_key_for_a_store_that_has_lost_its_own(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    made.key.unlink()
    before = hashes(tmp_path)
    with pytest.raises(StoreRefused) as refused:
        initialise(tmp_path)
    assert str(refused.value) == (
        f"there is a store but no key at {made.key}: restore the key; a new one would not open it"
    )
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


def test_two_services_dont_run_on_one_escrow(tmp_path: Path) -> None:
    config = load_config(initialise(tmp_path).config)
    with open_service(config):
        with pytest.raises(StoreRefused) as refused, open_service(config):
            pass
        assert str(refused.value) == f"a service is running on {tmp_path} already"
        with offline(tmp_path / "mailtoken.toml") as beside:
            assert beside.statuses() == []
    with open_service(config):
        pass


def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    Path(made.store).write_bytes(b"this is a letter, not a database" * 64)
    before = hashes(tmp_path)
    with pytest.raises(Unreachable, match="the store does not answer: file is not a database"):
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
    with pytest.raises(Refused, match="is initialised already: nothing was changed"):
        initialise(tmp_path, postgres_url)

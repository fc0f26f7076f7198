"""Stored providers: used at once, sealed, authenticated, and second to a name in the configuration file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from fakes import START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, change, change_with_key, files_with
from waiting import wait_until

from domain.errors import InvalidValue, InvalidValues, NotFound, Outdated, Refused
from domain.ports import Provider
from domain.secret import Secret
from domain.stored_provider import StoredProvider, StoredProviderState
from infrastructure.config.tables import ProviderTable
from infrastructure.encryption.envelope import Sealer
from infrastructure.fleet.changes import FleetChanges
from infrastructure.providers.known_providers import KnownProviders
from infrastructure.providers.stored_providers import LONGEST_SECRET, StoredProviders
from infrastructure.queries.audit import Audit
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import read_meta
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.vault import Vault
from infrastructure.upkeep.backup import ConfigurationFile, restore_backup, write_backup
from infrastructure.upkeep.key_rotation import reseal

FIELDS = {"tenant": "contoso.com", "client_id": "6f1c0d5e"}
SECRET = "a-client-secret-in-clear"
TABLE = ProviderTable(kind="oidc", client_id="of the file", issuer="https://login.contoso.com")
SMTP = "press/smtp"


@dataclass
class Office:
    """Services whose providers are those of the store, beside those of a file."""

    service: Services
    log: EventLog = field(init=False)
    known: KnownProviders = field(init=False)
    stored: StoredProviders = field(init=False)
    of_file: dict[str, Provider] = field(default_factory=dict)
    built: list[tuple[str, Mapping[str, Secret]]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """What a start of the program does."""
        tables = dict.fromkeys(self.of_file, TABLE)
        self.log = EventLog(self.service.store)
        self.known = KnownProviders(self.log, self.service.vault, self.of_file, tables, self.build)
        self.stored = StoredProviders(
            self.log, self.service.vault, self.service.clock, self.known, self.build, self.ended.append
        )
        self.service.providers = self.known
        self.service = self.service.restart()

    def build(self, state: StoredProviderState, secrets: Mapping[str, Secret]) -> FakeProvider:
        if state.fields["client_id"] == "refused":
            raise InvalidValue("client_id", "not_printable_ascii")
        self.built.append((state.fields["client_id"], secrets))
        return FakeProvider(state.name)

    def add(self, name: str = "contoso", **secrets: str) -> None:
        self.stored.add(name, "microsoft", FIELDS, {one: Secret(text) for one, text in secrets.items()}, ADMIN)

    def state(self) -> dict[str, str]:
        found = StoreStateQuery(
            self.service.store,
            self.service.clock,
            timedelta(days=2),
            of_file=self.of_file,
            unusable=lambda: self.known.faults,
        ).now()
        return {one.name: one.attention.value for one in found.providers}


@pytest.fixture
def office(service: Services) -> Office:
    return Office(service)


def test_an_added_provider_gives_tokens_at_once(office: Office) -> None:
    service = office.service
    service.settings.add_machine("press", "generic", ADMIN)
    with pytest.raises(NotFound, match="provider_not_configured"):
        service.settings.set_profile(SMTP, {"provider": "contoso"}, ADMIN)
    office.add(client_secret=SECRET)
    service.settings.set_profile(SMTP, {"provider": "contoso", "account": "scan@contoso.com"}, ADMIN)
    service.get_token(SMTP)
    assert service.access_token(SMTP).account == "scan@contoso.com"
    assert office.built[-1][1]["client_secret"].reveal() == SECRET
    assert service.audit.verify().findings == ()


def test_it_is_there_after_a_restart_and_after_a_rebuild(office: Office) -> None:
    office.add(client_secret=SECRET)
    office.service.audit.rebuild(by="worker", now=office.service.clock.now())
    office.start()
    assert list(office.known) == ["contoso"]
    assert office.built[-1] == ("6f1c0d5e", {"client_secret": Secret(SECRET)})
    assert office.service.audit.verify().findings == ()


def test_an_unchanged_provider_keeps_its_object(office: Office) -> None:
    office.add()
    provider = office.known["contoso"]
    office.add("other")
    assert office.known["contoso"] is provider
    office.stored.change("contoso", {"timeout": "9"}, {}, ADMIN)
    assert office.known["contoso"] is not provider


def test_another_nodes_change_is_followed(office: Office) -> None:
    other = KnownProviders(EventLog(office.service.store), office.service.vault, {}, {}, office.build)
    office.add()
    assert list(other) == []
    other.refresh()
    assert list(other) == ["contoso"]
    office.stored.remove("contoso", ADMIN)
    other.refresh()
    assert list(other) == []


def test_no_event_and_no_file_of_the_store_has_a_secret(office: Office, tmp_path: Path) -> None:
    office.add(client_secret=SECRET, certificate="-----BEGIN PRIVATE KEY-----")
    assert SECRET not in repr(office.built)
    records = office.service.history.records()
    assert [record.name for record in records] == ["Created", "SecretUploaded", "SecretUploaded"]
    assert SECRET not in repr(records)
    assert files_with(tmp_path, SECRET) == []


def test_a_secret_that_is_replaced_or_removed_is_gone_from_the_vault(office: Office) -> None:
    office.add(client_secret=SECRET, certificate="pem")
    row = office.stored.change("contoso", {}, {"client_secret": Secret("newer"), "certificate": None}, ADMIN)
    assert row.state.secrets == {"client_secret": 3}
    assert office.built[-1][1] == {"client_secret": Secret("newer")}
    with office.service.store.reading() as query:
        kinds = [row["kind"] for row in query.rows("SELECT kind FROM vault")]
    assert kinds == ["provider_client_secret"]
    office.stored.remove("contoso", ADMIN)
    with office.service.store.reading() as query:
        assert query.rows("SELECT kind FROM vault") == []
    assert office.service.audit.verify().findings == ()


def test_a_change_keeps_the_secrets_it_does_not_name(office: Office) -> None:
    office.add(client_secret=SECRET)
    office.stored.change("contoso", {"client_id": "other"}, {}, ADMIN)
    assert office.built[-1] == ("other", {"client_secret": Secret(SECRET)})


def test_only_a_changed_registration_ends_the_sign_ins_under_way(office: Office) -> None:
    office.add()
    office.stored.change("contoso", {"timeout": "9"}, {"client_secret": Secret("new")}, ADMIN)
    assert office.ended == []
    office.stored.change("contoso", {"client_id": "other"}, {}, ADMIN)
    assert office.ended == ["contoso"]


def test_what_cant_be_used_is_refused_and_leaves_nothing_behind(office: Office) -> None:
    office.add()
    for kind, texts, secrets, error in (
        ("microsoft", {**FIELDS, "client_id": "refused"}, {}, InvalidValue),
        ("microsoft", {}, {}, InvalidValues),
        ("microsoft", FIELDS, {"client_secret": ""}, InvalidValue),
        ("microsoft", FIELDS, {"client_secret": "x" * (LONGEST_SECRET + 1)}, InvalidValue),
        ("yahoo", {}, {}, InvalidValue),
    ):
        with pytest.raises(error):
            office.stored.add("two", kind, texts, {one: Secret(text) for one, text in secrets.items()}, ADMIN)
    with pytest.raises(InvalidValue):
        office.stored.change("contoso", {"client_id": "refused"}, {}, ADMIN)
    with pytest.raises(Refused, match="provider_exists"):
        office.add()
    assert [row.state.fields["client_id"] for row in office.stored._known.stored] == ["6f1c0d5e"]
    assert len(office.service.history.records()) == 1


def test_a_change_of_an_older_edition_is_refused(office: Office) -> None:
    office.add()
    seen = office.stored.find("contoso").edition
    newer = office.stored.change("contoso", {"timeout": "9"}, {}, ADMIN, {seen}).edition
    for late in (
        lambda: office.stored.change("contoso", {"timeout": "8"}, {}, ADMIN, {seen}),
        lambda: office.stored.remove("contoso", ADMIN, {seen}),
    ):
        with pytest.raises(Outdated, match="provider_outdated"):
            late()
    office.stored.remove("contoso", ADMIN, {newer})
    with pytest.raises(NotFound, match="stored_provider_not_found"):
        office.stored.find("contoso")


def test_a_provider_is_not_removed_while_a_setting_or_a_token_has_it(office: Office) -> None:
    office.add()
    office.service.add_machine("press", "generic")
    office.service.get_token(SMTP)
    for name in ("press/pop", "press/imap"):
        office.service.settings.set_profile(name, {"provider": ""}, ADMIN)
    with pytest.raises(Refused) as refused:
        office.stored.remove("contoso", ADMIN)
    assert refused.value.fields == {"provider": "contoso", "first": SMTP, "count": 1}
    office.service.tokens.delete(SMTP, ADMIN)
    office.service.settings.set_profile(SMTP, {"provider": ""}, ADMIN)
    office.stored.remove("contoso", ADMIN)
    office.add()  # the name is free again


def test_settings_and_tokens_follow_a_renamed_provider(office: Office) -> None:
    office.add(client_secret=SECRET)
    office.service.add_machine("press", "generic")
    office.service.get_token(SMTP)
    assert office.stored.rename("contoso", "entra", ADMIN) == ["press/imap", "press/pop", SMTP]
    assert list(office.known) == ["entra"]
    assert office.built[-1][1] == {"client_secret": Secret(SECRET)}
    assert office.service.tokens.status(SMTP).token.provider == "entra"
    assert office.service.audit.verify().findings == ()


def test_a_name_in_the_file_wins_and_the_clash_needs_a_person(office: Office) -> None:
    office.add()
    assert office.state() == {}
    office.of_file["contoso"] = FakeProvider("of the file")
    office.start()
    assert office.known["contoso"] is office.of_file["contoso"]
    assert office.state() == {"contoso": "provider_clash"}
    with pytest.raises(Refused, match="provider_in_file"):
        office.stored.rename("contoso", "contoso", ADMIN)
    office.service.add_machine("press", "generic")
    assert office.stored.rename("contoso", "old", ADMIN) == []
    assert office.service.tokens.status(SMTP).profile.settings.provider == "contoso"
    assert office.state() == {}
    with pytest.raises(Refused, match="provider_in_file"):
        office.add()


def test_an_altered_row_is_never_used(office: Office) -> None:
    office.add(client_secret=SECRET)
    change(office.service.store, "UPDATE provider SET fields = replace(fields, 'contoso.com', 'attacker.example')")
    office.known.refresh()
    assert list(office.known) == []
    assert [(row.table, row.name) for row in office.service.store.row_checks.altered] == [("provider", "contoso")]
    with pytest.raises(NotFound):
        office.stored.change("contoso", {"timeout": "9"}, {}, ADMIN)


def test_an_older_row_that_is_put_back_is_not_used(office: Office) -> None:
    office.add()
    office.stored.change("contoso", {"tenant": "newer.example"}, {}, ADMIN)
    change_with_key(
        office.service.store, "provider", "UPDATE provider SET fields = ?, version = 1", '{"tenant": "contoso.com"}'
    )
    office.known.refresh()
    assert list(office.known) == []


def test_a_damaged_secret_sets_its_provider_aside_and_no_other(office: Office) -> None:
    office.add(client_secret=SECRET)
    office.add("other")
    change(office.service.store, "DELETE FROM vault")
    office.start()
    assert list(office.known) == ["other"]
    assert office.state() == {"contoso": "provider_unusable"}
    assert [finding.code for finding in office.service.audit.verify().findings] == ["vault_row_missing"]
    office.stored.change("contoso", {}, {"client_secret": Secret("again")}, ADMIN)
    assert office.state() == {}


def test_an_awaited_secret_needs_a_person_until_it_is_uploaded(office: Office) -> None:
    provider = StoredProvider.add(UUID(int=7), "contoso", "microsoft", FIELDS, by=ADMIN, now=FakeClock().now())
    provider.await_secrets(["client_secret"], by=ADMIN, now=FakeClock().now())
    office.log.save(provider)
    assert list(office.known) == ["contoso"]
    assert office.state() == {"contoso": "provider_secret_missing"}
    office.stored.change("contoso", {}, {"client_secret": Secret(SECRET)}, ADMIN)
    assert office.state() == {}


def test_the_limits_and_the_end_of_a_secret_are_those_of_its_fields(office: Office) -> None:
    texts = {**FIELDS, "inactivity_days": "7", "client_secret_expires": "2028-11-30"}
    office.stored.add("contoso", "microsoft", texts, {}, ADMIN)
    inactivity = office.known.limits["contoso"].inactivity
    assert inactivity
    assert inactivity.days == 7
    expires = office.known.client_secrets_expire_at["contoso"]
    assert expires
    assert expires.isoformat() == "2028-11-30T00:00:00+00:00"


def test_another_issuer_is_refused_while_there_are_tokens_or_secrets(office: Office) -> None:
    fields = {"issuer": "https://login.example", "client_id": "a"}
    office.stored.add("contoso", "oidc", fields, {"client_secret": Secret(SECRET)}, ADMIN)
    service, moved = office.service, {"issuer": "https://evil.example"}
    service.add_machine("press", "generic")
    service.get_token(SMTP)
    with pytest.raises(Refused, match="issuer_has_tokens"):
        office.stored.change("contoso", moved, {"client_secret": None}, ADMIN)
    with pytest.raises(Refused, match="issuer_has_tokens"):
        FleetChanges(office.log, ADMIN, service.clock.now()).set_provider("contoso", moved, ())
    service.tokens.delete(SMTP, ADMIN)
    with pytest.raises(Refused, match="issuer_has_secret"):
        office.stored.change("contoso", moved, {}, ADMIN)
    office.stored.change("contoso", moved, {"client_secret": Secret("another")}, ADMIN)
    assert office.stored.find("contoso").state.fields["issuer"] == "https://evil.example"


def test_a_backup_brings_it_back_with_its_secrets(office: Office, sealer: Sealer, tmp_path: Path) -> None:
    office.add(client_secret=SECRET)
    file = io.BytesIO()
    configuration = ConfigurationFile(b"", 0o640, "mailtoken.key")
    write_backup(office.service.store, sealer, file, configuration, program="1.2.3", now=START)
    file.seek(0)
    with closing(SqliteStore(tmp_path / "target.db")) as target:
        restore_backup(target, sealer, file, "a.backup", by=ADMIN, now=START)
        log = EventLog(target)
        with target.reading() as query:
            vault = Vault(sealer, read_meta(query).store_id)
        restored = KnownProviders(log, vault, {}, {}, office.build)
        assert list(restored) == ["contoso"]
        assert office.built[-1] == ("6f1c0d5e", {"client_secret": Secret(SECRET)})
        assert Audit(log, vault).verify().findings == ()


def test_a_store_that_nodes_share_is_followed_by_a_thread_and_another_is_not(office: Office) -> None:
    office.known.start()
    try:
        assert office.known.tickers[0]._was_started is office.service.store.shared_by_nodes
        if office.service.store.shared_by_nodes:
            other = EventLog(office.service.store)
            provider = StoredProvider.add(UUID(int=9), "elsewhere", "microsoft", FIELDS, by=ADMIN, now=START)
            other.save(provider)
            wait_until(lambda: "elsewhere" in office.known, "the other node's provider is known")
    finally:
        office.known.stop()


def test_a_new_key_seals_its_secrets_anew(office: Office) -> None:
    office.add(client_secret=SECRET)
    newer, older = bytes(range(1, 33)), office.service.sealer.keys
    sealer = Sealer(newer, *older)
    assert sum(reseal(office.service.store, sealer)) > 0
    alone = Vault(Sealer(newer), office.service.store_id)
    KnownProviders(office.log, alone, {}, {}, office.build)
    assert office.built[-1] == ("6f1c0d5e", {"client_secret": Secret(SECRET)})

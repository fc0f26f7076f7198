"""The second factor: enrolled with a code, asked for at each sign-in, and each code good once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from fakes import FakeClock, Services, session_of
from store_examples import ADMIN, LOG, change, everything, files_with

from domain.errors import NotFound, NotPermitted, Refused, TooManyRequests
from domain.secret import Secret
from infrastructure.access.administrators import CodeNeeded
from infrastructure.access.second_factors import RECOVERY_CODES, Enrolment
from infrastructure.encryption.envelope import Sealer
from infrastructure.store.sqlite import SqliteStore
from infrastructure.upkeep.backup import ConfigurationFile, restore_backup, write_backup
from infrastructure.upkeep.key_rotation import reseal, values_by_key

PASSWORD, WRONG = Secret("a-password-in-clear"), Secret("wrong-in-clear")
HERE, THERE = "192.0.2.7", "198.51.100.9"
NOBODY = Secret("no session")


class App:
    """An authenticator app."""

    def __init__(self, enrolment: Enrolment, clock: FakeClock) -> None:
        self.enrolment = enrolment
        self._clock = clock
        self._totp = pyotp.parse_uri(enrolment.uri.reveal())

    def code(self, *, ahead_seconds: float = 0) -> str:
        assert isinstance(self._totp, pyotp.TOTP)
        return self._totp.at(self._clock.now() + timedelta(seconds=ahead_seconds))


@pytest.fixture
def app(service: Services, clock: FakeClock) -> App:
    """Anna's app, whose key does not count yet."""
    service.administrators.add("anna", ["operator", "administrator"], PASSWORD, ADMIN)
    service.administrators.add("zoe", ["administrator"], PASSWORD, ADMIN)
    return App(service.administrators.second_factors.begin("anna"), clock)


@pytest.fixture
def codes(service: Services, app: App, clock: FakeClock) -> list[str]:
    """The recovery codes of Anna's second factor, which counts since a minute."""
    made = service.administrators.second_factors.enrol("anna", app.enrolment.state, app.code(), NOBODY)
    clock.step(minutes=1)
    return [code.reveal() for code in made]


def code_needed(service: Services, address: str = HERE) -> Secret:
    needed = service.administrators.sign_in("anna", PASSWORD, address)
    assert isinstance(needed, CodeNeeded)
    return needed.state


def sign_in(service: Services, code: str, address: str = HERE) -> Secret:
    return service.administrators.sign_in_with_code(code_needed(service, address), code, address)


def assert_lets_in(service: Services, code: str, address: str = HERE) -> None:
    assert service.sessions.find(sign_in(service, code, address))


def test_the_key_is_for_the_administrator_at_this_service(app: App) -> None:
    read = pyotp.parse_uri(app.enrolment.uri.reveal())
    assert (read.name, read.issuer, read.secret) == ("anna", "Mailtoken", app.enrolment.key.reveal())
    assert repr(app.enrolment) == "Enrolment(key=***, uri=***, state=***)"


def test_nothing_counts_until_a_code_of_the_key_came(service: Services, app: App, clock: FakeClock) -> None:
    before = everything(service.store)
    for wrong in ("", "000000x", "12345", "\u0661" * 6, app.code(ahead_seconds=90), app.code(ahead_seconds=-90)):
        with pytest.raises(NotPermitted, match="wrong_code"):
            service.administrators.second_factors.enrol("anna", app.enrolment.state, wrong, NOBODY)
    assert everything(service.store) == before
    assert service.sessions.find(session_of(service.administrators.sign_in("anna", PASSWORD, HERE)))
    made = service.administrators.second_factors.enrol("anna", app.enrolment.state, app.code(), NOBODY)
    assert len({code.reveal() for code in made}) == RECOVERY_CODES
    [anna, _] = service.administrators.administrators()
    assert anna.has_second_factor
    with pytest.raises(Refused, match="second_factor_exists"):
        service.administrators.second_factors.begin("anna")
    code_needed(service)


def test_an_enrolment_is_its_administrators_and_over_after_a_quarter_of_an_hour(
    service: Services, app: App, clock: FakeClock
) -> None:
    second_factors = service.administrators.second_factors
    for name, state in (("zoe", app.enrolment.state), ("anna", Secret("made up")), ("anna", Secret(""))):
        with pytest.raises(NotPermitted, match="enrolment_over"):
            second_factors.enrol(name, state, app.code(), NOBODY)
    assert second_factors.again("anna", app.enrolment.state) == app.enrolment
    clock.step(minutes=15)
    with pytest.raises(NotPermitted, match="enrolment_over"):
        second_factors.enrol("anna", app.enrolment.state, app.code(), NOBODY)


def test_with_a_second_factor_the_password_alone_begins_no_session(
    service: Services, app: App, codes: list[str], clock: FakeClock
) -> None:
    state = code_needed(service)
    assert everything(service.store)["session"] == []
    signed_in = service.sessions.find(service.administrators.sign_in_with_code(state, app.code(), HERE))
    assert signed_in
    assert (signed_in.name, signed_in.has_second_factor, signed_in.lacks_second_factor) == ("anna", True, False)


def test_a_code_typed_with_a_space_is_the_code(service: Services, app: App, codes: list[str]) -> None:
    code = app.code()
    assert_lets_in(service, f" {code[:3]} {code[3:]} ")


@pytest.mark.parametrize(("seconds", "counts"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_the_clock_of_the_app_may_be_one_step_away(
    service: Services, app: App, codes: list[str], seconds: int, counts: bool
) -> None:
    code = app.code(ahead_seconds=seconds)
    if counts:
        assert_lets_in(service, code)
        return
    with pytest.raises(NotPermitted, match="wrong_code"):
        sign_in(service, code)


def test_a_code_counts_once_also_that_of_the_enrolment_and_on_every_node(
    service: Services, app: App, clock: FakeClock
) -> None:
    used = app.code()
    service.administrators.second_factors.enrol("anna", app.enrolment.state, used, NOBODY)
    other = service.restart()
    for node in (service, other):
        with pytest.raises(NotPermitted, match="wrong_code"):
            sign_in(node, used)
    clock.step(seconds=30)
    assert_lets_in(service, app.code())
    with pytest.raises(NotPermitted, match="wrong_code"):
        sign_in(other, app.code())


def test_of_many_who_come_with_one_code_at_once_one_gets_in(service: Services, app: App, codes: list[str]) -> None:
    for code in (app.code(), codes[0]):
        nodes = [service.restart() for _ in range(4)]
        states = [code_needed(node, f"203.0.113.{number}") for number, node in enumerate(nodes)]

        def use(number: int, code: str = code, nodes: list[Services] = nodes, states: list[Secret] = states) -> bool:
            administrators = nodes[number].administrators
            try:
                administrators.sign_in_with_code(states[number], code, f"203.0.113.{number}")
            except NotPermitted:
                return False
            return True

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(use, range(4))) == 1


def test_each_recovery_code_counts_once_in_place_of_the_app(service: Services, app: App, codes: list[str]) -> None:
    for typed in (codes[0], codes[1].lower().replace("-", " "), codes[2].replace("-", "")):
        assert service.sessions.find(sign_in(service, typed))
        with pytest.raises(NotPermitted, match="wrong_code"):
            sign_in(service, typed)
    told = [record for record in service.history.records() if record.name == "RecoveryCodeUsed"]
    assert [(record.facts, record.by) for record in told] == [
        ({"code": number}, "administrator:anna") for number in (1, 2, 3)
    ]


def test_a_sign_in_goes_on_with_the_password_and_factor_that_it_began_with(
    service: Services, app: App, codes: list[str], clock: FakeClock
) -> None:
    administrators = service.administrators
    for state in (Secret(""), Secret("made up"), app.enrolment.state):
        with pytest.raises(NotPermitted, match="sign_in_over"):
            administrators.sign_in_with_code(state, app.code(), HERE)
    late = code_needed(service)
    clock.step(minutes=15)
    before_password = code_needed(service)
    administrators.set_password("anna", PASSWORD, ADMIN)
    before_reset = code_needed(service)
    administrators.second_factors.reset("anna", ADMIN, is_own=False)
    for state in (late, before_password, before_reset):
        with pytest.raises(NotPermitted, match="sign_in_over"):
            administrators.sign_in_with_code(state, codes[0], HERE)


def test_a_link_sets_the_password_and_asks_for_the_code_too(service: Services, app: App, codes: list[str]) -> None:
    link = service.administrators.link("anna", ADMIN)
    needed = service.administrators.use_link(link.secret, "anna", Secret("another-in-clear"), HERE)
    assert isinstance(needed, CodeNeeded)
    assert everything(service.store)["session"] == []
    assert service.sessions.find(service.administrators.sign_in_with_code(needed.state, app.code(), HERE))


def test_wrong_codes_count_for_the_wait_and_the_right_password_between_them_does_not_forget_them(
    service: Services, app: App, codes: list[str], clock: FakeClock
) -> None:
    for number in range(5):
        with pytest.raises(NotPermitted, match="wrong_code"):
            sign_in(service, "not a code", f"203.0.113.{number}")
    with pytest.raises(TooManyRequests):
        service.administrators.sign_in("anna", PASSWORD, THERE)
    clock.step(seconds=2)
    assert_lets_in(service, app.code(), THERE)


def test_the_owner_still_gets_in_where_they_signed_in_before(
    service: Services, app: App, codes: list[str], clock: FakeClock
) -> None:
    assert_lets_in(service, app.code())
    for number in range(5):
        with pytest.raises(NotPermitted, match="wrong_code"):
            sign_in(service, "not a code", f"203.0.113.{number}")
    clock.step(seconds=30)
    assert_lets_in(service, app.code())


def test_enrolling_ends_the_sessions_of_the_password_alone_but_for_the_one_that_enrols(
    service: Services, app: App
) -> None:
    mine, other = (session_of(service.administrators.sign_in("anna", PASSWORD, HERE)) for _ in range(2))
    service.administrators.second_factors.enrol("anna", app.enrolment.state, app.code(), mine)
    found = service.sessions.find(mine)
    assert found
    assert found.has_second_factor
    assert service.sessions.find(other) is None


def test_removing_ones_own_needs_a_code_and_wrong_ones_wait(
    service: Services, app: App, codes: list[str], clock: FakeClock
) -> None:
    second_factors = service.administrators.second_factors
    for _ in range(5):
        with pytest.raises(NotPermitted, match="wrong_code"):
            second_factors.remove("anna", "000000x", HERE)
    with pytest.raises(TooManyRequests):
        second_factors.remove("anna", app.code(), HERE)
    clock.step(seconds=2)
    second_factors.remove("anna", codes[0], HERE)
    session_of(service.administrators.sign_in("anna", PASSWORD, HERE))
    with pytest.raises(Refused, match="second_factor_missing"):
        second_factors.remove("anna", codes[1], HERE)


def test_a_reset_takes_it_away_and_ends_the_sessions(service: Services, app: App, codes: list[str]) -> None:
    second_factors = service.administrators.second_factors
    session = sign_in(service, app.code())
    with pytest.raises(Refused, match="second_factor_own"):
        second_factors.reset("anna", "administrator:anna", is_own=True)
    with pytest.raises(NotFound):
        second_factors.reset("ghost", ADMIN, is_own=False)
    second_factors.reset("anna", "administrator:root", is_own=False)
    assert service.sessions.find(session) is None
    assert everything(service.store)["vault"] == [
        row for row in everything(service.store)["vault"] if row["kind"] != "second_factor"
    ]
    session_of(service.administrators.sign_in("anna", PASSWORD, HERE))


def test_what_happened_is_in_the_record_without_a_secret(
    service: Services, app: App, codes: list[str], clock: FakeClock
) -> None:
    sign_in(service, codes[4])
    service.administrators.second_factors.remove("anna", app.code(), HERE)
    again = App(service.administrators.second_factors.begin("anna"), clock)
    clock.step(minutes=1)
    service.administrators.second_factors.enrol("anna", again.enrolment.state, again.code(), NOBODY)
    service.administrators.second_factors.reset("anna", "administrator:root", is_own=False)
    told = [record for record in service.history.records() if "econd" in record.name or "Recovery" in record.name]
    assert [(record.name, record.by, record.facts) for record in told] == [
        ("SecondFactorEnrolled", "administrator:anna", {"second_factor": 1}),
        ("RecoveryCodeUsed", "administrator:anna", {"code": 5}),
        ("SecondFactorRemoved", "administrator:anna", {}),
        ("SecondFactorEnrolled", "administrator:anna", {"second_factor": 2}),
        ("SecondFactorReset", "administrator:root", {}),
    ]
    text = json.dumps([record.as_json() for record in service.history.records()])
    assert app.enrolment.key.reveal() not in text
    assert service.audit.verify().findings == ()


@pytest.mark.parametrize("engine", ["sqlite"])
def test_no_key_and_no_recovery_code_is_in_any_file(service: Services, app: App, codes: list[str]) -> None:
    used = app.code()
    sign_in(service, used)
    assert files_with(service.directory, app.enrolment.key.reveal(), *codes, codes[0].replace("-", "")) == []


def test_rows_that_somebody_changes_take_no_second_factor_away(service: Services, app: App, codes: list[str]) -> None:
    change(service.store, "UPDATE administrator SET second_factor = 0 WHERE name = 'anna'")
    with pytest.raises(Refused, match="row_altered"):
        service.administrators.sign_in("anna", PASSWORD, HERE)
    change(service.store, "UPDATE administrator SET second_factor = 1 WHERE name = 'anna'")
    assert_lets_in(service, app.code())
    change(service.store, "DELETE FROM vault WHERE kind = 'second_factor'")
    with pytest.raises(NotPermitted, match="wrong_code"):
        sign_in(service, codes[0])
    assert [finding.code for finding in service.audit.verify().findings] == ["vault_row_missing"]


def test_a_rebuild_gives_the_same_second_factor(service: Services, app: App, codes: list[str]) -> None:
    sign_in(service, codes[0])
    before = everything(service.store, but=LOG)
    service.audit.rebuild(by="worker", now=service.clock.now())
    assert everything(service.store, but=LOG) == before
    assert_lets_in(service, app.code())
    with pytest.raises(NotPermitted, match="wrong_code"):
        sign_in(service, codes[0])


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_backup_has_the_second_factor(
    service: Services, sealer: Sealer, app: App, codes: list[str], tmp_path: Path, clock: FakeClock
) -> None:
    sign_in(service, codes[0])
    configuration = ConfigurationFile(b"", 0o640, "mailtoken.key")
    with (tmp_path / "backup").open("wb") as file:
        write_backup(service.store, sealer, file, configuration, program="1", now=clock.now())
    target = SqliteStore(tmp_path / "target.db")
    with (tmp_path / "backup").open("rb") as file:
        restore_backup(target, sealer, file, "backup", by=ADMIN, now=clock.now())
    restored = Services(target, sealer, service.store_id, tmp_path / "restored", clock, service.providers)
    assert_lets_in(restored, app.code())
    with pytest.raises(NotPermitted, match="wrong_code"):
        sign_in(restored, codes[0])
    assert restored.audit.verify().findings == ()
    target.close()


def test_a_new_key_of_the_store_seals_the_second_factor_anew(service: Services, app: App, codes: list[str]) -> None:
    newer = Sealer(bytes(range(1, 33)), bytes(range(32)))
    for _ in reseal(service.store, newer):
        pass
    with service.store.reading() as query:
        assert list(values_by_key(query)) == [newer.key_id]
    again = Services(service.store, newer, service.store_id, service.directory, service.clock, service.providers)
    assert_lets_in(again, app.code())
    assert_lets_in(again, codes[0])

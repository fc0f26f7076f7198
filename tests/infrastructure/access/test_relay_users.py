"""Who may use the relay, how clients are let in, and what a wrong sign-in changes: nothing."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2
import pytest
from effort import amount
from fakes import SCANNER, START, FakeClock, FakeProvider, Services
from spared_work import ARGON2_OF_THE_PROGRAM
from store_examples import ADMIN, LOG, change, everything, files_with, functions_running
from waiting import wait_until

from adapters.bootstrap import open_service
from adapters.installation import initialise
from domain.catalogue import Protocol
from domain.errors import Conflict, InvalidValue, NotFound, NotPermitted, Refused, Unreachable
from domain.profile import Profile
from domain.secret import Secret
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.access.relay_users import Admission, ListedUser, MailServerAddress, RelayUsers
from infrastructure.config.load import load_config
from infrastructure.store.sqlite import SqliteStore

SMTP, POP, IMAP = "press/smtp", "press/pop", "press/imap"
PASSWORD = Secret("a-password-in-clear")
OTHER = Secret("another-password-in-clear")
ANYWHERE = "192.0.2.7"
GUESSES = amount(300, of=10_000)
WRONG = "wrong_user_password_or_network"


@pytest.fixture
def press(service: Services) -> Services:
    """A machine whose settings have servers; its SMTP and POP tokens are Retrieved."""
    for name in service.add_machine("press", "generic"):
        service.settings.set_profile(name, {"server": f"{name.partition('/')[2]}.contoso.com"}, ADMIN)
    for name in (SMTP, POP):
        service.get_token(name)
    return service


@pytest.fixture
def users(press: Services) -> RelayUsers:
    """Relay users; printers has a password and is mapped to the SMTP setting."""
    press.relay_users.add("printers", [SMTP], [], PASSWORD, ADMIN)
    return press.relay_users


def sign_in(users: RelayUsers, name: str = "printers", password: Secret = PASSWORD) -> Admission:
    return users.admit(Protocol.SMTP, ANYWHERE, name, password)


def come_from(users: RelayUsers, address: str, protocol: Protocol = Protocol.SMTP) -> Admission:
    return users.admit(protocol, address, None, None)


def all_that_lasts(service: Services) -> str:
    """A hash over the token states, the vault and the log, and all else that is stored."""
    seen = [status.as_json() for status in service.tokens.statuses()]
    return hashlib.sha256(repr((everything(service.store), seen)).encode()).hexdigest()


# What an administrator does


def test_users_are_listed_by_name_with_what_lets_them_in(users: RelayUsers) -> None:
    users.add("crm@contoso.com", [POP, SMTP], ["10.20.30.0/24"], OTHER, ADMIN)
    users.add("lobby", [SMTP], ["10.20.31.0/24"], None, ADMIN)
    assert users.users() == [
        ListedUser("crm@contoso.com", {Protocol.POP: POP, Protocol.SMTP: SMTP}, ("10.20.30.0/24",), has_password=True),
        ListedUser("lobby", {Protocol.SMTP: SMTP}, ("10.20.31.0/24",), has_password=False),
        ListedUser("printers", {Protocol.SMTP: SMTP}, (), has_password=True),
    ]


def test_a_user_that_cant_be_added_leaves_nothing_behind(press: Services, users: RelayUsers) -> None:
    before = all_that_lasts(press)
    for name, profiles, networks, password, error in (
        ("printers", [SMTP], [], PASSWORD, Refused),
        ("other", ["press/fax"], [], PASSWORD, NotFound),
        ("other", [], [], PASSWORD, InvalidValue),
        ("other", [SMTP], ["10.0.0.0/1"], None, InvalidValue),
        ("other", [SMTP], [], Secret("short"), InvalidValue),
        ("other", [SMTP], [], None, Refused),
        ("other", [POP], ["10.20.30.0/24"], PASSWORD, Refused),
        ("two words", [SMTP], [], PASSWORD, InvalidValue),
    ):
        with pytest.raises(error):
            users.add(name, profiles, networks, password, ADMIN)
    assert all_that_lasts(press) == before


def test_who_is_not_there_is_not_found(users: RelayUsers) -> None:
    acts: tuple[Callable[[], object], ...] = (
        lambda: users.map("ghost", [SMTP], ADMIN),
        lambda: users.set_networks("ghost", ["10.0.0.0/8"], ADMIN),
        lambda: users.set_password("ghost", PASSWORD, ADMIN),
        lambda: users.remove("ghost", ADMIN),
        lambda: users.remove("no name at all", ADMIN),
    )
    for act in acts:
        with pytest.raises(NotFound, match=r"relay_user_not_found name='[a-z ]+'"):
            act()


def test_every_change_is_in_the_record_with_who_made_it_and_without_the_password(
    press: Services, users: RelayUsers
) -> None:
    users.map("printers", [SMTP, POP], "administrator:anna")
    users.map("printers", [SMTP], "administrator:anna")
    users.set_networks("printers", ["10.20.30.0/24"], "administrator:bob")
    users.set_password("printers", OTHER, "administrator:eve")
    users.remove("printers", "administrator:dan")
    told = [record for record in press.history.records() if record.aggregate == "RelayUser"]
    assert [(record.name, record.by) for record in told] == [
        ("Created", ADMIN),
        ("Mapped", ADMIN),
        ("PasswordChanged", ADMIN),
        ("Mapped", "administrator:anna"),
        ("Unmapped", "administrator:anna"),
        ("NetworksChanged", "administrator:bob"),
        ("PasswordChanged", "administrator:eve"),
        ("Removed", "administrator:dan"),
    ]
    assert "in-clear" not in json.dumps([record.as_json() for record in told])
    assert "argon2" not in json.dumps([record.as_json() for record in told])
    assert press.audit.verify().findings == ()


def test_the_history_of_a_setting_tells_who_was_mapped_to_it(press: Services, users: RelayUsers) -> None:
    users.map("printers", [POP], ADMIN)
    users.set_password("printers", OTHER, ADMIN)

    def told(profile: str) -> list[str]:
        return [record.name for record in press.history.records(profile) if record.aggregate == "RelayUser"]

    assert told(SMTP) == ["Mapped", "PasswordChanged", "Unmapped"]
    assert told(POP) == ["Mapped", "PasswordChanged"]


def test_a_rebuild_gives_the_same_users(press: Services, users: RelayUsers) -> None:
    users.add("crm", [SMTP, POP], ["10.20.30.0/24", "2001:db8:1::/48"], OTHER, ADMIN)
    users.add("lobby", [SMTP], ["10.20.31.0/24"], None, ADMIN)
    before = everything(press.store, but=LOG)
    change(press.store, "DELETE FROM relay_user")
    press.audit.rebuild(by="worker", now=START)
    assert everything(press.store, but=LOG) == before
    assert sign_in(users).user == "printers"


# Passwords


def test_the_right_password_brings_the_token_of_the_mapped_setting(press: Services, users: RelayUsers) -> None:
    admission = sign_in(users)
    assert (admission.user, admission.profile.name, admission.server) == ("printers", SMTP, "smtp.contoso.com")
    assert admission.token.credential.access_token == press.access_token(SMTP).credential.access_token
    assert (admission.token.mailbox, admission.token.generation) == (SCANNER, 1)


def test_a_new_password_ends_the_old_one_and_what_was_sealed_of_it(press: Services, users: RelayUsers) -> None:
    users.set_password("printers", OTHER, ADMIN)
    assert sign_in(users, password=OTHER).user == "printers"
    with pytest.raises(NotPermitted):
        sign_in(users)
    kept = [row["generation"] for row in everything(press.store)["vault"] if row["kind"] == "password"]
    assert kept == [2]


def test_a_user_that_was_removed_is_let_in_no_more_and_the_name_is_free(press: Services, users: RelayUsers) -> None:
    users.remove("printers", ADMIN)
    with pytest.raises(NotPermitted):
        sign_in(users)
    assert [row["kind"] for row in everything(press.store)["vault"]] == ["credential", "credential"]
    users.add("printers", [POP], [], OTHER, ADMIN)
    assert users.admit(Protocol.POP, ANYWHERE, "printers", OTHER).profile.name == POP
    assert press.audit.verify().findings == ()


@pytest.mark.parametrize("engine", ["sqlite"])
def test_no_password_and_no_hash_of_one_is_in_any_file(press: Services, users: RelayUsers) -> None:
    sign_in(users)
    users.set_password("printers", OTHER, ADMIN)
    assert files_with(press.directory, "password-in-clear", "$argon2id") == []


def test_what_the_relay_changes_in_messages_is_admitted_with_the_user(press: Services, users: RelayUsers) -> None:
    users.change_messages("printers", {"sender": "scan@contoso.com"}, ADMIN)
    users.change_messages("printers", {"normalize": "crlf"}, ADMIN)
    admitted = sign_in(users, "printers")
    assert (admitted.sender, admitted.normalize) == ("scan@contoso.com", "crlf")
    users.change_messages("printers", {"sender": None}, ADMIN)
    [listed] = [user for user in users.users() if user.name == "printers"]
    assert (listed.sender, listed.normalize) == (None, "crlf")
    for wrong in ({"sender": "nobody"}, {"normalize": "lf"}):
        with pytest.raises(InvalidValue):
            users.change_messages("printers", wrong, ADMIN)


def test_the_case_of_a_name_makes_no_difference(press: Services, users: RelayUsers) -> None:
    assert sign_in(users, "PRINTERS").user == "printers"
    with pytest.raises(Refused, match="relay_user_exists"):
        users.add("Printers", [SMTP], (), PASSWORD, ADMIN)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("printers", OTHER),
        ("printers", Secret("")),
        ("Printers", OTHER),
        ("ghost", PASSWORD),
        ("", PASSWORD),
        ("not a name", PASSWORD),
        ("nul\x00", PASSWORD),
        ("\udcff", Secret("\udcff")),
        ("walk-in", Secret("")),
        ("walk-in", PASSWORD),
    ],
)
def test_whatever_is_wrong_the_answer_is_one_and_costs_one_verification(
    press: Services, users: RelayUsers, name: str, password: Secret
) -> None:
    users.add("walk-in", [SMTP], ["10.20.30.0/24"], None, ADMIN)
    hasher = Counting()
    asked = RelayUsers(press.events, press.vault, press.tokens, press.clock, hasher)
    before = all_that_lasts(press)
    with pytest.raises(NotPermitted) as wrong:
        sign_in(asked, name, password)
    assert str(wrong.value) == WRONG
    assert hasher.verified == 1
    assert all_that_lasts(press) == before


class Counting(PasswordHasher):
    """The real one, which counts."""

    def __init__(self) -> None:
        super().__init__()
        self.verified = 0

    def verify(self, hashed: Secret | None, password: Secret) -> bool:
        self.verified += 1
        return super().verify(hashed, password)


def test_half_a_sign_in_is_wrong(users: RelayUsers) -> None:
    users.set_networks("printers", ["10.20.30.0/24"], ADMIN)
    for name, password in (("printers", None), (None, PASSWORD)):
        with pytest.raises(NotPermitted, match=WRONG):
            users.admit(Protocol.SMTP, "10.20.30.7", name, password)


def test_a_password_whose_row_is_damaged_lets_nobody_in_and_nobody_else_suffers(
    press: Services, users: RelayUsers
) -> None:
    users.add("crm", [POP], [], OTHER, ADMIN)
    change(press.store, "UPDATE vault SET body = ? WHERE kind = 'password' AND generation = 1 AND subject_id = ("
        "SELECT id FROM relay_user WHERE name = 'printers')", b"damaged")  # fmt: skip
    with pytest.raises(NotPermitted, match=WRONG):
        sign_in(users)
    assert users.admit(Protocol.POP, ANYWHERE, "crm", OTHER).user == "crm"


@pytest.mark.parametrize("engine", ["sqlite"])
def test_thousands_of_wrong_passwords_change_nothing(press: Services, users: RelayUsers) -> None:
    before = all_that_lasts(press)
    with ThreadPoolExecutor(8) as clients:
        outcomes = list(clients.map(lambda number: wrong(users, Secret(f"guess number {number}")), range(GUESSES)))
    assert set(outcomes) == {WRONG}
    assert all_that_lasts(press) == before
    assert sign_in(users).user == "printers"


def wrong(users: RelayUsers, password: Secret) -> str:
    with pytest.raises(NotPermitted) as refused:
        sign_in(users, password=password)
    return str(refused.value)


# Networks


def test_a_client_is_let_in_by_the_most_specific_network_it_is_in(users: RelayUsers) -> None:
    users.add("site", [SMTP, POP], ["10.0.0.0/8"], OTHER, ADMIN)
    users.add("floor", [SMTP], ["10.20.30.0/24"], None, ADMIN)
    assert come_from(users, "10.20.30.7").user == "floor"
    assert come_from(users, "::ffff:10.20.30.7").user == "floor"
    assert come_from(users, "10.20.31.7").user == "site"
    with pytest.raises(NotPermitted, match=WRONG):
        come_from(users, "11.0.0.1")
    for protocol in (Protocol.POP, Protocol.IMAP):
        with pytest.raises(NotPermitted, match=WRONG):
            come_from(users, "10.20.31.7", protocol)
    with pytest.raises(InvalidValue, match="not_an_address"):
        come_from(users, "printer-1")


def test_a_network_can_be_moved_from_one_user_to_another(users: RelayUsers) -> None:
    users.set_networks("printers", ["10.20.30.0/24"], ADMIN)
    with pytest.raises(Refused, match=r"network_taken .*user='printers'"):
        users.add("floor", [SMTP], ["10.20.30.0/24"], None, ADMIN)
    users.set_networks("printers", [], ADMIN)
    users.add("floor", [SMTP], ["10.20.30.0/24"], None, ADMIN)
    assert come_from(users, "10.20.30.7").user == "floor"


def test_of_two_that_want_the_same_network_at_once_one_gets_it(users: RelayUsers) -> None:
    together = threading.Barrier(8)

    def want(number: int) -> bool:
        together.wait()
        try:
            users.add(f"floor-{number}", [SMTP], ["10.20.30.0/24"], None, ADMIN)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as administrators:
        assert sum(administrators.map(want, range(8))) == 1
    assert come_from(users, "10.20.30.7").user in {user.name for user in users.users()}


# Tokens


def test_a_renewal_for_a_client_says_which_relay_user_it_was_for(
    press: Services, users: RelayUsers, clock: FakeClock
) -> None:
    clock.step(minutes=55)
    assert sign_in(users).token.generation == 2
    assert [record.by for record in press.history.records() if record.name == "Renewed"] == ["relay:printers"]


def test_a_token_that_cant_be_served_is_refused_with_the_reason(press: Services, users: RelayUsers) -> None:
    users.map("printers", [IMAP], ADMIN)
    with pytest.raises(Refused) as refused:
        users.admit(Protocol.IMAP, ANYWHERE, "printers", PASSWORD)
    assert str(refused.value) == f"token_not_retrieved status='Not Retrieved' profile='{IMAP}'"
    with pytest.raises(Refused) as refused:
        sign_in(users)
    assert refused.value.code == "relay_user_without_profile"
    assert refused.value.fields == {"user": "printers", "protocol": "smtp"}
    press.settings.set_profile(IMAP, {"server": ""}, ADMIN)
    with pytest.raises(Refused, match=f"server_not_set profile='{IMAP}'"):
        users.admit(Protocol.IMAP, ANYWHERE, "printers", PASSWORD)


def test_a_token_that_expired_and_cant_be_renewed_now_is_unreachable(
    users: RelayUsers, provider: FakeProvider, clock: FakeClock
) -> None:
    clock.step(hours=2)
    provider.reachable = False
    with pytest.raises(Unreachable, match="access_token_expired"):
        sign_in(users)


def test_the_servers_are_those_that_users_are_mapped_to(press: Services, users: RelayUsers) -> None:
    users.add("crm", [POP, SMTP], [], OTHER, ADMIN)
    press.settings.set_profile(POP, {"tls": "implicit"}, ADMIN)
    smtp = MailServerAddress("smtp.contoso.com", 587, "starttls", Protocol.SMTP)
    assert users.servers() == [MailServerAddress("pop.contoso.com", 995, "implicit", Protocol.POP), smtp]
    press.settings.set_profile(POP, {"server": ""}, ADMIN)
    assert users.servers() == [smtp]


# A token that the mail server rejected


def rejected(users: RelayUsers, generation: int) -> Admission:
    return users.renewed("printers", Protocol.SMTP, SMTP, generation)


def test_a_rejected_generation_is_renewed_once_however_many_say_so(users: RelayUsers, provider: FakeProvider) -> None:
    with ThreadPoolExecutor(8) as clients:
        admissions = list(clients.map(lambda _: rejected(users, 1), range(8)))
    assert {admission.token.generation for admission in admissions} == {2}
    assert provider.requests.count("refresh") == 1
    assert rejected(users, 1).token.generation == 2
    assert provider.requests.count("refresh") == 1


def test_a_client_that_looked_while_another_one_renewed_gets_the_newer_token(
    press: Services, users: RelayUsers, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, seen_before = press.tokens.status, iter([press.tokens.status(SMTP)])
    assert rejected(users, 1).token.generation == 2
    monkeypatch.setattr(press.tokens, "status", lambda name: next(seen_before, None) or status(name))
    assert rejected(users, 1).token.generation == 2
    assert provider.requests.count("refresh") == 1


def test_a_server_that_rejects_the_renewed_token_too_does_not_get_one_each_time(
    users: RelayUsers, provider: FakeProvider, clock: FakeClock
) -> None:
    assert rejected(users, 1).token.generation == 2
    with pytest.raises(Refused) as refused:
        rejected(users, 2)
    assert (refused.value.code, refused.value.fields) == ("renewed_token_rejected", {"profile": SMTP})
    assert sign_in(users).token.generation == 2
    clock.step(minutes=11)
    assert rejected(users, 2).token.generation == 3
    assert provider.requests.count("refresh") == 2


def test_a_rejected_token_that_nothing_can_renew_is_refused(
    press: Services, users: RelayUsers, provider: FakeProvider
) -> None:
    provider.renewable = False
    press.get_token(SMTP)
    with pytest.raises(Refused, match=f"rejected_token_not_renewable profile='{SMTP}'"):
        rejected(users, 2)


def test_a_rejected_token_whose_grant_is_dead_is_invalid(
    press: Services, users: RelayUsers, provider: FakeProvider
) -> None:
    provider.kill_grants()
    with pytest.raises(Refused, match=f"token_invalid .*profile='{SMTP}'"):
        rejected(users, 1)
    assert press.label(SMTP) == "Invalid"


def test_a_rejected_token_that_cant_be_renewed_now_is_tried_again_only_later(
    press: Services, users: RelayUsers, provider: FakeProvider, clock: FakeClock
) -> None:
    provider.reachable = False
    for _ in range(5):
        with pytest.raises(Unreachable):
            rejected(users, 1)
    assert provider.requests.count("refresh") == 1
    assert press.label(SMTP) == "Retrieved"
    provider.reachable = True
    clock.step(minutes=30)
    assert rejected(users, 1).token.generation == 2


def test_only_a_profile_that_is_theirs_is_renewed_for_a_user(users: RelayUsers, provider: FakeProvider) -> None:
    for name, protocol, profile in (
        ("ghost", Protocol.SMTP, SMTP),
        ("printers", Protocol.SMTP, "press/other"),
        ("printers", Protocol.SMTP, POP),
    ):
        with pytest.raises(NotPermitted, match=WRONG):
            users.renewed(name, protocol, profile, 1)
    assert "refresh" not in provider.requests


# Profiles that go


def test_a_profile_that_somebody_is_mapped_to_is_not_removed(press: Services, users: RelayUsers) -> None:
    press.tokens.delete(SMTP, ADMIN)
    press.tokens.delete(POP, ADMIN)
    before = all_that_lasts(press)
    removals: tuple[Callable[[], None], ...] = (
        lambda: press.settings.remove_profile(SMTP, ADMIN),
        lambda: press.settings.remove_machine("press", ADMIN),
    )
    for remove in removals:
        with pytest.raises(Refused) as refused:
            remove()
        assert refused.value.code == "relay_user_mapped"
        assert refused.value.fields == {"profile": SMTP, "user": "printers"}
    assert all_that_lasts(press) == before
    users.map("printers", [POP], ADMIN)
    press.settings.remove_profile(SMTP, ADMIN)
    users.remove("printers", ADMIN)
    press.settings.remove_machine("press", ADMIN)
    assert press.audit.verify().findings == ()


def test_a_profile_to_which_somebody_is_mapped_at_the_same_moment_is_not_removed(
    press: Services, users: RelayUsers
) -> None:
    going = press.events.load(Profile, press.tokens.status(IMAP).profile_id)
    users.map("printers", [IMAP], ADMIN)
    going.remove(by=ADMIN, now=press.clock.now())
    with pytest.raises(Conflict):
        press.events.save(going)
    assert IMAP in [profile.name for profile in press.settings.profiles()]


def test_nobody_is_mapped_to_a_profile_that_is_removed_at_the_same_moment(
    press: Services, users: RelayUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = press.events.profile_called

    def read_before_it_goes(name: str) -> Profile:
        profile = read(name)
        monkeypatch.undo()
        press.settings.remove_profile(name, ADMIN)
        return profile

    monkeypatch.setattr(press.events, "profile_called", read_before_it_goes)
    with pytest.raises(Conflict):
        users.map("printers", [IMAP], ADMIN)
    assert [user.profiles for user in users.users()] == [{Protocol.SMTP: SMTP}]


# The hasher and the store


def test_hashes_are_argon2id_with_the_parameters_of_the_rfc_and_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PasswordHasher, "parameters", ARGON2_OF_THE_PROGRAM)
    hasher = PasswordHasher()
    one, other = hasher.hash(PASSWORD), hasher.hash(PASSWORD)
    parameters = argon2.extract_parameters(one.reveal())
    assert parameters.type is argon2.Type.ID
    assert (parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (3, 65536, 4)
    assert one != other
    assert hasher.verify(one, PASSWORD)
    assert not hasher.verify(one, OTHER)
    assert not hasher.verify(None, Secret("nobody"))


def test_only_so_many_passwords_are_verified_at_once_and_only_so_many_wait() -> None:
    hasher = PasswordHasher()
    hashed = hasher.hash(PASSWORD)
    for _ in range(2):
        hasher._running.acquire()
    with ThreadPoolExecutor(18) as clients:
        waiting = [clients.submit(hasher.verify, hashed, PASSWORD) for _ in range(18)]
        wait_until(lambda: hasher._admitted._value == 0, "no password is being hashed")
        assert "_matches" not in functions_running()
        with pytest.raises(Unreachable, match="too_many_sign_ins"):
            hasher.verify(hashed, PASSWORD)
        for _ in range(2):
            hasher._running.release()
        assert all(one.result(60) for one in waiting)
    assert hasher.verify(hashed, PASSWORD)


def test_a_store_of_an_earlier_version_knows_relay_users_once_it_was_opened(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    store = SqliteStore(Path(made.store))
    change(store, "DROP TABLE relay_user")
    change(store, "UPDATE meta SET value = '1' WHERE name = 'projection_version'")
    store.close()
    with open_service(load_config(made.config)) as service:
        service.settings.add_machine("press", "generic", ADMIN)
        service.relay_users.add("printers", [SMTP], [], PASSWORD, ADMIN)
        assert [user.name for user in service.relay_users.users()] == ["printers"]
        assert service.audit.verify().findings == ()

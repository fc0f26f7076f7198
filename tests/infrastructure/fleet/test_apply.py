"""A whole fleet from one file, on both engines: once is enough, all or nothing, and no token goes unless it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from uuid import UUID

import pytest
from fakes import FAX, SCANNER, FakeClock, Services
from store_examples import ADMIN, everything

from domain.errors import Conflict, NotPermitted, Outdated, Refused
from domain.plan import Plan, Wanted, WantedMachine, WantedSetting
from domain.profile import Profile
from domain.secret import Secret
from infrastructure.fleet.apply import Applier, fingerprint
from infrastructure.store.open import create_store
from infrastructure.store.sqlite import SqliteStore

OPERATOR = "operator:root"
SERVICE, ALERT, FAXING = "office-mfp/smtp-service", "office-mfp/smtp-alert", "office-mfp/pop-internet-fax"
PRESS = "press/smtp"


class Installation:
    """The services, and what applies files to them."""

    def __init__(self, service: Services) -> None:
        self.service = service
        self.applier = Applier(service.events, service.tokens, service.clock, list(service.providers), lambda _: None)

    def apply(self, wanted: Wanted) -> Plan:
        return self.applier.apply(wanted, ADMIN, OPERATOR)

    def fields(self, name: str) -> tuple[object, ...]:
        settings = self.service.tokens.status(name).profile.settings
        return settings.server, settings.port, settings.account

    def groups(self) -> dict[str, list[str]]:
        return {one.name: [m.profile.name for m in one.members] for one in self.service.settings.groups()}


@pytest.fixture
def empty_installation(service: Services) -> Installation:
    """Nothing there yet."""
    return Installation(service)


@pytest.fixture
def installation(empty_installation: Installation) -> Installation:
    """The manual's machine, its settings filled in for the scanner's account."""
    empty_installation.service.add_machine()
    return empty_installation


def setting(**texts: str) -> WantedSetting:
    return WantedSetting(texts)


def machine(name: str = "office-mfp", model: str | None = None, **settings: WantedSetting) -> Wanted:
    named = {setting.replace("_", "-"): wanted for setting, wanted in settings.items()}
    return Wanted({name: WantedMachine(model, named)})


def kinds(plan: Plan) -> list[str]:
    return [change.KIND for change in plan.changes]


def refused(empty_installation: Installation, wanted: Wanted) -> list[tuple[str, str, Mapping[str, object]]]:
    """Place, code and facts of each refusal; trying to apply the file all the same changes nothing."""
    before = everything(empty_installation.service.store)
    with pytest.raises(Refused):
        empty_installation.apply(wanted)
    assert everything(empty_installation.service.store) == before
    return [(".".join(one.place), one.code, one.fields) for one in empty_installation.applier.plan(wanted).refusals]


# Machines and settings


def test_a_machine_is_added_and_filled_in_and_applying_again_changes_nothing(empty_installation: Installation) -> None:
    wanted = machine(
        model="sharp-bp",
        smtp_service=setting(server="smtp.office365.com", port="587", provider="contoso", account=SCANNER),
        pop_internet_fax=setting(server="pop.contoso.com"),
    )
    assert kinds(empty_installation.apply(wanted)) == ["add machine", "set fields", "set fields"]
    assert empty_installation.fields(SERVICE) == ("smtp.office365.com", 587, SCANNER)
    assert empty_installation.fields(FAXING) == ("pop.contoso.com", None, None)
    assert len(empty_installation.service.tokens.statuses()) == 7
    before = everything(empty_installation.service.store)
    assert empty_installation.apply(wanted) == Plan()
    assert everything(empty_installation.service.store) == before
    assert empty_installation.service.audit.verify().findings == ()


def test_what_a_file_does_not_name_stays_and_an_empty_text_clears(installation: Installation) -> None:
    installation.apply(machine(smtp_service=setting(server="smtp.contoso.com", port="25")))
    installation.apply(machine(smtp_service=setting(port="")))
    assert installation.fields(SERVICE) == ("smtp.contoso.com", None, SCANNER)


def test_a_machine_and_a_setting_go_if_they_are_to_be_absent_and_a_setting_comes_back(
    installation: Installation,
) -> None:
    gone = machine(smtp_alert=WantedSetting(absent=True), pop_internet_fax=WantedSetting(absent=True))
    assert kinds(installation.apply(gone)) == ["remove profile", "remove profile"]
    assert installation.apply(gone) == Plan()
    assert kinds(installation.apply(machine(smtp_alert=setting(port="25")))) == ["add profile", "set fields"]
    assert installation.service.tokens.status(ALERT).group is None
    installation.apply(Wanted({"office-mfp": WantedMachine(absent=True)}))
    assert installation.service.tokens.statuses() == []
    assert installation.service.audit.verify().findings == ()


def test_a_new_machine_may_lack_a_setting_from_the_start(empty_installation: Installation) -> None:
    empty_installation.apply(machine(model="sharp-bp", smtp_alert=WantedSetting(absent=True)))
    assert empty_installation.groups() == {"office-mfp": ["office-mfp/smtp-initial", "office-mfp/smtp-quick", SERVICE]}
    assert len(empty_installation.service.tokens.statuses()) == 6
    assert empty_installation.service.audit.verify().findings == ()


def test_everything_that_is_wrong_is_named_with_its_place_and_nothing_is_changed(installation: Installation) -> None:
    installation.service.settings.link("scanners", [ALERT], ADMIN)
    wanted = Wanted(
        {
            "office-mfp": WantedMachine("generic", {"smtp-service": setting(port="99999")}),
            "scanners": WantedMachine(),
            "two words": WantedMachine(),
            "press": WantedMachine("typo"),
            "desk": WantedMachine(
                None, {"pop": setting(sender_name="x"), "fax": setting(), "imap": setting(tls="none")}
            ),
            "hall": WantedMachine(
                None, {"smtp": setting(provider="fabrikam"), "pop": WantedSetting({"port": "1"}, True)}
            ),
        },
        {"desks": ["desk/smtp", "desk/pop", "desk/lamp"], "others": ["desk/smtp"]},
        {"crm": ["desk/lamp"], "two words": []},
    )
    pop_fields = ("server", "port", "tls", "timeout", "check_interval", "authentication", "provider", "account")
    assert refused(installation, wanted) == [
        ("machines.office-mfp", "other_catalogue", {"catalogue": "sharp-bp", "wanted": "generic"}),
        ("machines.scanners", "name_taken", {"name": "scanners", "kind": "group"}),
        ("machines.two words", "not_a_name", {"value": "two words", "field": "machine"}),
        ("machines.press", "catalogue_unknown", {"name": "typo", "known": ["sharp-bp", "generic"]}),
        (
            "machines.desk.settings.fax",
            "catalogue_setting_unknown",
            {"catalogue": "generic", "name": "fax", "known": ["smtp", "pop", "imap"]},
        ),
        ("machines.hall.settings.pop", "absent_setting_with_fields", {}),
        (
            "machines.office-mfp.settings.smtp-service.port",
            "number_not_in_range",
            {"value": "99999", "lowest": 1, "highest": 65535},
        ),
        (
            "machines.desk.settings.pop.sender_name",
            "not_a_field",
            {"protocol": "pop", "known": (*pop_fields, "mailbox")},
        ),
        ("machines.desk.settings.imap.tls", "tls_needed", {}),
        (
            "machines.hall.settings.smtp.provider",
            "provider_not_configured",
            {"provider": "fabrikam", "configured": ["contoso"]},
        ),
        ("groups.desks", "not_an_smtp_setting", {"field": "desk/pop"}),
        ("groups.desks", "profile_not_found", {"profile": "desk/lamp"}),
        ("groups.others", "in_two_groups", {"profile": "desk/smtp", "group": "desks"}),
        ("clients.crm", "profile_not_found", {"profile": "desk/lamp"}),
        ("clients.two words", "not_a_name", {"value": "two words", "field": "client"}),
    ]


# Tokens


def test_a_token_is_never_touched_unless_the_file_says_so(installation: Installation) -> None:
    installation.service.get_token(SERVICE)
    other = machine(smtp_service=setting(account=FAX))
    held = {"profile": SERVICE, "status": "Retrieved"}
    assert refused(installation, other) == [("machines.office-mfp.settings.smtp-service", "token_in_the_way", held)]
    gone = Wanted({"office-mfp": WantedMachine(absent=True)})
    [(place, code, facts)] = refused(installation, gone)
    assert (place, code, facts["status"]) == ("machines.office-mfp", "token_in_the_way", "Retrieved")
    assert installation.service.label(SERVICE) == "Retrieved"


def test_a_token_is_deleted_first_where_the_file_says_so_and_only_where_a_change_needs_it(
    installation: Installation,
) -> None:
    installation.service.get_token(SERVICE)
    installation.service.get_token(FAXING)
    wanted = machine(
        smtp_service=WantedSetting({"account": FAX}, delete_token=True),
        smtp_alert=setting(account=FAX),
        pop_internet_fax=WantedSetting({"server": "pop.contoso.com"}, delete_token=True),
    )
    with pytest.raises(NotPermitted):
        installation.applier.apply(wanted, ADMIN, None)
    assert installation.service.label(SERVICE) == "Retrieved"
    plan = installation.apply(wanted)
    assert kinds(plan) == ["delete token", "set fields", "set fields", "set fields"]
    assert plan.changes[0].profiles == tuple(  # type: ignore[union-attr]
        f"office-mfp/smtp-{one}" for one in ("alert", "initial", "quick", "service")
    )
    assert (installation.service.label(ALERT), installation.service.label(FAXING)) == ("Not Retrieved", "Retrieved")
    installation.service.get_token(SERVICE, FAX)
    assert installation.apply(wanted) == Plan()
    assert installation.service.label(SERVICE) == "Retrieved"
    assert installation.service.audit.verify().findings == ()


def test_a_machine_goes_with_its_tokens_if_the_file_says_so(installation: Installation) -> None:
    installation.service.get_token(SERVICE)
    installation.service.get_token(FAXING)
    gone = Wanted({"office-mfp": WantedMachine(absent=True, delete_token=True)})
    assert kinds(installation.apply(gone))[:3] == ["delete token", "delete token", "remove profile"]
    assert installation.service.tokens.statuses() == []
    assert installation.service.audit.verify().findings == ()


def test_an_account_in_other_letters_is_the_same_account(installation: Installation) -> None:
    installation.service.get_token(SERVICE)
    assert installation.apply(machine(smtp_service=setting(account=SCANNER.upper()))) == Plan()


# Groups


def test_groups_have_exactly_the_settings_the_file_names(installation: Installation) -> None:
    installation.service.add_machine("press", "generic")
    installation.apply(Wanted(groups={"office-mfp": [SERVICE, "press/smtp"], "others": [ALERT]}))
    assert installation.groups() == {"office-mfp": [SERVICE, "press/smtp"], "others": [ALERT]}
    installation.apply(Wanted(groups={"others": []}))
    assert installation.groups() == {"office-mfp": [SERVICE, "press/smtp"]}
    assert installation.service.audit.verify().findings == ()


def test_the_token_of_a_group_stays_with_it_when_all_its_settings_change(installation: Installation) -> None:
    installation.service.add_machine("press", "generic")
    installation.service.get_token(SERVICE)
    installation.apply(Wanted(groups={"office-mfp": ["press/smtp"]}))
    assert installation.groups() == {"office-mfp": ["press/smtp"]}
    assert (installation.service.label("press/smtp"), installation.service.label(SERVICE)) == (
        "Retrieved",
        "Not Retrieved",
    )
    assert installation.service.audit.verify().findings == ()


def test_a_setting_goes_to_another_group_and_the_token_stays_with_those_it_leaves(installation: Installation) -> None:
    installation.service.get_token(SERVICE)
    plan = installation.apply(Wanted(groups={"others": [SERVICE]}))
    assert kinds(plan) == ["unlink", "link"]
    assert (installation.service.label(SERVICE), installation.service.label(ALERT)) == ("Not Retrieved", "Retrieved")
    assert installation.service.audit.verify().findings == ()


def test_who_joins_a_token_for_somebody_else_is_refused(installation: Installation) -> None:
    installation.service.add_machine("press", "generic")
    installation.service.get_token(SERVICE)
    members = [f"office-mfp/smtp-{one}" for one in ("service", "alert", "quick", "initial")]
    wanted = Wanted(
        {"press": WantedMachine(None, {"smtp": setting(account=FAX)})}, {"office-mfp": [*members, "press/smtp"]}
    )
    assert refused(installation, wanted) == [
        (
            "machines.press.settings.smtp.account",
            "other_than_the_groups_token",
            {"group": "office-mfp", "held": SCANNER, "value": FAX},
        )
    ]


def test_a_setting_a_relay_user_is_mapped_to_stays(installation: Installation) -> None:
    installation.service.relay_users.add("printers", [FAXING], [], Secret("correct horse battery"), ADMIN)
    [refusal] = refused(installation, machine(pop_internet_fax=WantedSetting(absent=True)))
    mapped = {"profile": FAXING, "user": "printers"}
    assert refusal == ("machines.office-mfp.settings.pop-internet-fax", "relay_user_mapped", mapped)


# Clients


def test_clients_may_read_exactly_what_the_file_names(installation: Installation) -> None:
    key = installation.service.clients.add("crm", [], None, ADMIN)
    assert kinds(installation.apply(Wanted(clients={"crm": [SERVICE, ALERT]}))) == ["grant", "grant"]
    assert kinds(installation.apply(Wanted(clients={"crm": [ALERT, FAXING]}))) == ["revoke", "grant"]
    assert installation.apply(Wanted(clients={"crm": [ALERT, FAXING]})) == Plan()
    assert installation.applier.export().clients == {"crm": [FAXING, ALERT]}
    holder = installation.service.clients.owner_of(key)
    assert holder
    assert holder.profiles == {FAXING, ALERT}


def test_a_client_of_a_file_has_no_key_until_it_is_issued_one(installation: Installation) -> None:
    clients, wanted = installation.service.clients, Wanted(clients={"crm": [SERVICE], "backup": []})
    assert kinds(installation.apply(wanted)) == ["add client", "grant", "add client"]
    assert [(one.name, one.key_id, one.profiles) for one in clients.clients()] == [
        ("backup", None, ()),
        ("crm", None, (SERVICE,)),
    ]
    assert installation.apply(wanted) == Plan()
    assert installation.service.audit.verify().findings == ()
    holder = clients.owner_of(clients.new_key("crm", None, ADMIN))
    assert holder
    assert (holder.name, holder.profiles) == ("crm", frozenset({SERVICE}))
    clients.remove("backup", ADMIN)
    assert installation.service.audit.verify().findings == ()
    told = [(one.name, one.by) for one in installation.service.history.records() if one.aggregate == "Client"]
    assert told == [(name, ADMIN) for name in ("Created", "Granted", "Created", "KeyIssued", "Removed")]


# Plans


def test_a_plan_that_is_not_the_one_that_was_shown_is_not_carried_out(installation: Installation) -> None:
    wanted = machine(smtp_service=setting(port="25"), smtp_alert=setting(port="25"))
    shown = fingerprint(installation.applier.plan(wanted))
    installation.service.settings.set_profile(ALERT, {"port": "25"}, ADMIN)
    with pytest.raises(Outdated):
        installation.applier.apply(wanted, ADMIN, OPERATOR, shown)
    assert installation.fields(SERVICE)[1] is None
    installation.applier.apply(wanted, ADMIN, OPERATOR, fingerprint(installation.applier.plan(wanted)))
    assert installation.fields(SERVICE)[1] == 25


class _Meddling:
    """A clock at which somebody else does something between a plan and its work."""

    def __init__(self, empty_installation: Installation, act: Callable[[Services], object]) -> None:
        self._installation = empty_installation
        self._act: Callable[[Services], object] | None = act
        self._asked = 0

    def now(self) -> datetime:
        self._asked += 1
        if self._asked == 2 and self._act:
            act, self._act = self._act, None
            act(self._installation.service)
        return self._installation.service.clock.now()

    def elapsed(self) -> float:
        return self._installation.service.clock.elapsed()


@pytest.mark.parametrize(
    ("wanted", "meanwhile", "error"),
    [
        (machine(smtp_service=setting(account=FAX)), lambda one: one.get_token(SERVICE), Refused),
        (machine(smtp_service=setting(account=FAX)), lambda one: one.tokens.request(SERVICE, None, ADMIN), Refused),
        (Wanted(groups={"scanners": [PRESS]}), lambda one: one.get_token(PRESS), Refused),
        (Wanted(groups={"scanners": [ALERT]}), lambda one: one.tokens.request(SERVICE, None, ADMIN), Refused),
        (Wanted(groups={"office-mfp": [SERVICE]}), lambda one: one.tokens.request(SERVICE, None, ADMIN), Refused),
        (Wanted({"office-mfp": WantedMachine(absent=True)}), lambda one: one.get_token(SERVICE), Refused),
        (
            machine(pop_internet_fax=WantedSetting(absent=True)),
            lambda one: one.relay_users.add("printers", [FAXING], [], Secret("correct horse battery"), ADMIN),
            Refused,
        ),
        (machine(smtp_alert=setting(port="25")), lambda one: one.settings.remove_profile(ALERT, ADMIN), Conflict),
        (machine(smtp_quick=setting()), lambda one: one.settings.remove_machine("office-mfp", ADMIN), Conflict),
        (Wanted(clients={"backup": [ALERT]}), lambda one: one.clients.remove("backup", ADMIN), Conflict),
        (Wanted(clients={"backup": [ALERT]}), lambda one: one.settings.remove_profile(ALERT, ADMIN), Conflict),
        (Wanted(clients={"other": []}), lambda one: one.clients.add("other", [], None, ADMIN), Conflict),
    ],
)
def test_what_somebody_else_did_since_the_plan_is_not_run_over(
    installation: Installation, wanted: Wanted, meanwhile: Callable[[Services], object], error: type[Exception]
) -> None:
    service, done = installation.service, list[object]()
    service.add_machine("press", "generic")
    service.settings.remove_profile("office-mfp/smtp-quick", ADMIN)
    service.clients.add("backup", [], None, ADMIN)

    def act(one: Services) -> None:
        meanwhile(one)
        done.append(everything(one.store))

    applier = Applier(
        service.events, service.tokens, _Meddling(installation, act), list(service.providers), lambda _: None
    )
    with pytest.raises(error):
        applier.apply(wanted, ADMIN, OPERATOR)
    assert done == [everything(service.store)]
    assert service.audit.verify().findings == ()


def test_what_is_exported_makes_an_empty_store_the_same(installation: Installation, empty_house: Installation) -> None:
    service = installation.service
    service.add_machine("press", "generic")
    service.settings.set_profile(
        SERVICE, {"server": "smtp.contoso.com", "timeout": "40", "sender_name": "Ümläut"}, ADMIN
    )
    service.settings.remove_profile(FAXING, ADMIN)
    service.settings.link("scanners", ["press/smtp", ALERT], ADMIN)
    service.add_machine("hall", "sharp-bp")
    for one in ("service", "alert", "quick", "initial"):
        service.settings.unlink(f"hall/smtp-{one}", ADMIN)
    service.clients.add("crm", [SERVICE, "press/imap"], None, ADMIN)
    service.clients.add("backup", [], None, ADMIN)
    service.settings.tag_machine("press", ["hamburg", "floor-3"], [], ADMIN)
    exported = installation.applier.export()
    empty_house.apply(exported)
    assert empty_house.applier.export() == exported
    assert empty_house.apply(exported) == Plan()
    assert installation.apply(exported) == Plan()
    assert empty_house.service.audit.verify().findings == ()


@pytest.fixture
def empty_house(
    tmp_path_factory: pytest.TempPathFactory, installation: Installation, clock: FakeClock
) -> Iterator[Installation]:
    """Another store, with nothing in it."""
    directory, sealer = tmp_path_factory.mktemp("empty"), installation.service.sealer
    with closing(SqliteStore(directory / "mailtoken.db")) as store:
        store_id = create_store(store, sealer)
        yield Installation(Services(store, sealer, store_id, directory, clock, installation.service.providers))


def test_a_fleet_is_one_transaction(empty_installation: Installation) -> None:
    wanted = Wanted(
        {f"mfp-{number}": WantedMachine("sharp-bp", {"smtp-service": setting(port="25")}) for number in range(20)}
    )
    saves: list[int] = []
    empty_installation.service.events.listeners.append(lambda changed: saves.append(len(changed)))
    empty_installation.apply(wanted)
    assert saves == [20 * (1 + 7 + 4 + 1)]
    assert empty_installation.service.audit.verify().findings == ()


@pytest.mark.parametrize("loaded_first", [True, False])
def test_a_profile_that_goes_while_it_is_granted_is_not_granted(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, loaded_first: bool
) -> None:
    service = installation.service
    service.clients.add("backup", [], None, ADMIN)
    load, asked = service.events.load, list[type]()

    def meddle(kind: type, id: UUID) -> object:
        before = load(kind, id)
        asked.append(kind)
        if asked.count(Profile) == 1:
            service.settings.remove_profile(ALERT, ADMIN)
        return before if loaded_first else load(kind, id)

    monkeypatch.setattr(service.events, "load", meddle)
    with pytest.raises(Conflict):
        installation.apply(Wanted(clients={"backup": [ALERT]}))
    assert "Granted" not in [one.name for one in service.history.records()]
    assert service.audit.verify().findings == ()

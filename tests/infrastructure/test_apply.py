"""A whole fleet from one file, on both engines: once is enough, all or nothing, and no token goes unless it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from uuid import UUID

import pytest
from fakes import FAX, SCANNER, FakeClock, FakeProvider, Services
from store_examples import ADMIN, everything

from domain.errors import Conflict, NotPermitted, Outdated, Refused
from domain.plan import Plan, Wanted, WantedMachine, WantedSetting
from domain.profile import Profile
from domain.secret import Secret
from infrastructure.apply import Applier, fingerprint
from infrastructure.opening import create_store
from infrastructure.sqlite import SqliteStore

OPERATOR = "operator:root"
SERVICE, ALERT, FAXING = "office-mfp/smtp-service", "office-mfp/smtp-alert", "office-mfp/pop-internet-fax"
PRESS = "press/smtp"


class House:
    """The services, and what applies files to them."""

    def __init__(self, service: Services) -> None:
        self.service = service
        self.applier = Applier(service.events, service.tokens, service.clock, list(service.providers))

    def apply(self, wanted: Wanted) -> Plan:
        return self.applier.apply(wanted, ADMIN, OPERATOR)

    def fields(self, name: str) -> tuple[object, ...]:
        settings = self.service.tokens.status(name).profile.settings
        return settings.server, settings.port, settings.account

    def groups(self) -> dict[str, list[str]]:
        return {one.name: [m.profile.name for m in one.members] for one in self.service.settings.groups()}


@pytest.fixture
def house(service: Services) -> House:
    """Nothing there yet."""
    return House(service)


@pytest.fixture
def office(house: House) -> House:
    """The manual's machine, its settings filled in for the scanner's account."""
    house.service.add_machine()
    return house


def setting(**texts: str) -> WantedSetting:
    return WantedSetting(texts)


def machine(name: str = "office-mfp", model: str | None = None, **settings: WantedSetting) -> Wanted:
    named = {setting.replace("_", "-"): wanted for setting, wanted in settings.items()}
    return Wanted({name: WantedMachine(model, named)})


def kinds(plan: Plan) -> list[str]:
    return [change.KIND for change in plan.changes]


def refused(house: House, wanted: Wanted) -> list[tuple[str, str]]:
    """Why it can't be, with the places; and nothing was changed by trying it all the same."""
    before = everything(house.service.store)
    with pytest.raises(Refused):
        house.apply(wanted)
    assert everything(house.service.store) == before
    return [(".".join(one.place), one.why) for one in house.applier.plan(wanted).refusals]


# Machines and settings


def test_a_machine_is_added_and_filled_in_and_applying_again_changes_nothing(house: House) -> None:
    wanted = machine(
        model="sharp-bp",
        smtp_service=setting(server="smtp.office365.com", port="587", provider="contoso", account=SCANNER),
        pop_internet_fax=setting(server="pop.contoso.com"),
    )
    assert kinds(house.apply(wanted)) == ["add machine", "set fields", "set fields"]
    assert house.fields(SERVICE) == ("smtp.office365.com", 587, SCANNER)
    assert house.fields(FAXING) == ("pop.contoso.com", None, None)
    assert len(house.service.tokens.statuses()) == 7
    before = everything(house.service.store)
    assert house.apply(wanted) == Plan()
    assert everything(house.service.store) == before
    assert house.service.audit.verify().findings == ()


def test_what_a_file_does_not_name_stays_and_an_empty_text_clears(office: House) -> None:
    office.apply(machine(smtp_service=setting(server="smtp.contoso.com", port="25")))
    office.apply(machine(smtp_service=setting(port="")))
    assert office.fields(SERVICE) == ("smtp.contoso.com", None, SCANNER)


def test_a_machine_and_a_setting_go_if_they_are_to_be_absent_and_a_setting_comes_back(office: House) -> None:
    gone = machine(smtp_alert=WantedSetting(absent=True), pop_internet_fax=WantedSetting(absent=True))
    assert kinds(office.apply(gone)) == ["remove profile", "remove profile"]
    assert office.apply(gone) == Plan()
    assert kinds(office.apply(machine(smtp_alert=setting(port="25")))) == ["add profile", "set fields"]
    assert office.service.tokens.status(ALERT).group is None
    office.apply(Wanted({"office-mfp": WantedMachine(absent=True)}))
    assert office.service.tokens.statuses() == []
    assert office.service.audit.verify().findings == ()


def test_a_new_machine_may_lack_a_setting_from_the_start(house: House) -> None:
    house.apply(machine(model="sharp-bp", smtp_alert=WantedSetting(absent=True)))
    assert house.groups() == {"office-mfp": ["office-mfp/smtp-initial", "office-mfp/smtp-quick", SERVICE]}
    assert len(house.service.tokens.statuses()) == 6
    assert house.service.audit.verify().findings == ()


def test_everything_that_is_wrong_is_named_with_its_place_and_nothing_is_changed(office: House) -> None:
    office.service.settings.link("scanners", [ALERT], ADMIN)
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
    assert refused(office, wanted) == [
        ("machines.office-mfp", "its catalogue is sharp-bp, not generic: remove the machine first"),
        ("machines.scanners", "scanners: there is a smtp group with this name already"),
        (
            "machines.two words",
            "machine: 'two words' is not a name: 1 to 63 letters, digits, '.', '-' or '_', no sign at either end",
        ),
        ("machines.press", "no catalogue is called 'typo'; there are: sharp-bp, generic"),
        ("machines.desk.settings.fax", "catalogue generic has no setting 'fax'; it has: smtp, pop, imap"),
        ("machines.hall.settings.pop", "an absent setting has no fields"),
        ("machines.office-mfp.settings.smtp-service.port", "'99999' is not a whole number from 1 to 65535"),
        (
            "machines.desk.settings.pop.sender_name",
            "not a field of a pop setting; it has: server, port, tls, timeout, check_interval, authentication, "
            "provider, account, mailbox",
        ),
        (
            "machines.desk.settings.imap.tls",
            "'none' is accepted only towards a loopback server; use starttls or implicit",
        ),
        ("machines.hall.settings.smtp.provider", "'fabrikam' is not in the configuration; it has: contoso"),
        ("groups.desks", "desk/pop: is not an SMTP setting: POP and IMAP settings are independent"),
        ("groups.desks", "no profile is called 'desk/lamp': see mailtoken profile list"),
        ("groups.others", "desk/smtp is in the group desks already: a setting is in one group"),
        ("clients.crm", "no profile is called 'desk/lamp': see mailtoken profile list"),
        (
            "clients.two words",
            "client: 'two words' is not a name: 1 to 63 letters, digits, '.', '-' or '_', no sign at either end",
        ),
    ]


# Tokens


def test_a_token_is_never_touched_unless_the_file_says_so(office: House) -> None:
    office.service.get_token(SERVICE)
    other = machine(smtp_service=setting(account=FAX))
    delete_first = "delete the token first (mailtoken token delete), or say delete_token = true in the file"
    said = f"the token is Retrieved: {delete_first}"
    assert refused(office, other) == [("machines.office-mfp.settings.smtp-service", f"{SERVICE}: {said}")]
    gone = Wanted({"office-mfp": WantedMachine(absent=True)})
    [(place, why)] = refused(office, gone)
    assert (place, why.partition(": ")[2]) == ("machines.office-mfp", said)
    assert office.service.label(SERVICE) == "Retrieved"


def test_a_token_is_deleted_first_where_the_file_says_so_and_only_where_a_change_needs_it(
    office: House, provider: FakeProvider
) -> None:
    office.service.get_token(SERVICE)
    office.service.get_token(FAXING)
    wanted = machine(
        smtp_service=WantedSetting({"account": FAX}, delete_token=True),
        smtp_alert=setting(account=FAX),
        pop_internet_fax=WantedSetting({"server": "pop.contoso.com"}, delete_token=True),
    )
    with pytest.raises(NotPermitted):
        office.applier.apply(wanted, ADMIN, None)
    assert office.service.label(SERVICE) == "Retrieved"
    plan = office.apply(wanted)
    assert kinds(plan) == ["delete token", "set fields", "set fields", "set fields"]
    assert plan.changes[0].profiles == tuple(  # type: ignore[union-attr]
        f"office-mfp/smtp-{one}" for one in ("alert", "initial", "quick", "service")
    )
    assert (office.service.label(ALERT), office.service.label(FAXING)) == ("Not Retrieved", "Retrieved")
    office.service.get_token(SERVICE, FAX)
    assert office.apply(wanted) == Plan()
    assert office.service.label(SERVICE) == "Retrieved"
    assert office.service.audit.verify().findings == ()


def test_a_machine_goes_with_its_tokens_if_the_file_says_so(office: House) -> None:
    office.service.get_token(SERVICE)
    office.service.get_token(FAXING)
    gone = Wanted({"office-mfp": WantedMachine(absent=True, delete_token=True)})
    assert kinds(office.apply(gone))[:3] == ["delete token", "delete token", "remove profile"]
    assert office.service.tokens.statuses() == []
    assert office.service.audit.verify().findings == ()


def test_an_account_in_other_letters_is_the_same_account(office: House) -> None:
    office.service.get_token(SERVICE)
    assert office.apply(machine(smtp_service=setting(account=SCANNER.upper()))) == Plan()


# Groups


def test_groups_have_exactly_the_settings_the_file_names(office: House) -> None:
    office.service.add_machine("press", "generic")
    office.apply(Wanted(groups={"office-mfp": [SERVICE, "press/smtp"], "others": [ALERT]}))
    assert office.groups() == {"office-mfp": [SERVICE, "press/smtp"], "others": [ALERT]}
    office.apply(Wanted(groups={"others": []}))
    assert office.groups() == {"office-mfp": [SERVICE, "press/smtp"]}
    assert office.service.audit.verify().findings == ()


def test_the_token_of_a_group_stays_with_it_when_all_its_settings_change(office: House) -> None:
    office.service.add_machine("press", "generic")
    office.service.get_token(SERVICE)
    office.apply(Wanted(groups={"office-mfp": ["press/smtp"]}))
    assert office.groups() == {"office-mfp": ["press/smtp"]}
    assert (office.service.label("press/smtp"), office.service.label(SERVICE)) == ("Retrieved", "Not Retrieved")
    assert office.service.audit.verify().findings == ()


def test_a_setting_goes_to_another_group_and_the_token_stays_with_those_it_leaves(office: House) -> None:
    office.service.get_token(SERVICE)
    plan = office.apply(Wanted(groups={"others": [SERVICE]}))
    assert kinds(plan) == ["unlink", "link"]
    assert (office.service.label(SERVICE), office.service.label(ALERT)) == ("Not Retrieved", "Retrieved")
    assert office.service.audit.verify().findings == ()


def test_who_joins_a_token_for_somebody_else_is_refused(office: House) -> None:
    office.service.add_machine("press", "generic")
    office.service.get_token(SERVICE)
    members = [f"office-mfp/smtp-{one}" for one in ("service", "alert", "quick", "initial")]
    wanted = Wanted(
        {"press": WantedMachine(None, {"smtp": setting(account=FAX)})}, {"office-mfp": [*members, "press/smtp"]}
    )
    assert refused(office, wanted) == [
        ("machines.press.settings.smtp.account", f"the token of the group office-mfp is for {SCANNER}, not {FAX!r}")
    ]


def test_a_setting_a_relay_user_is_mapped_to_stays(office: House) -> None:
    office.service.relay_users.add("printers", [FAXING], [], Secret("correct horse battery"), ADMIN)
    [(place, why)] = refused(office, machine(pop_internet_fax=WantedSetting(absent=True)))
    assert place == "machines.office-mfp.settings.pop-internet-fax"
    assert why.startswith(f"{FAXING}: relay user printers is mapped to it")


# Clients


def test_clients_may_read_exactly_what_the_file_names(office: House) -> None:
    key = office.service.clients.add("crm", [], None, ADMIN)
    assert kinds(office.apply(Wanted(clients={"crm": [SERVICE, ALERT]}))) == ["grant", "grant"]
    assert kinds(office.apply(Wanted(clients={"crm": [ALERT, FAXING]}))) == ["revoke", "grant"]
    assert office.apply(Wanted(clients={"crm": [ALERT, FAXING]})) == Plan()
    assert office.applier.export().clients == {"crm": [FAXING, ALERT]}
    holder = office.service.clients.holder_of(key)
    assert holder
    assert holder.profiles == {FAXING, ALERT}


def test_a_client_of_a_file_has_no_key_until_it_is_issued_one(office: House) -> None:
    clients, wanted = office.service.clients, Wanted(clients={"crm": [SERVICE], "backup": []})
    assert kinds(office.apply(wanted)) == ["add client", "grant", "add client"]
    assert [(one.name, one.key_id, one.profiles) for one in clients.clients()] == [
        ("backup", None, ()),
        ("crm", None, (SERVICE,)),
    ]
    assert office.apply(wanted) == Plan()
    assert office.service.audit.verify().findings == ()
    holder = clients.holder_of(clients.new_key("crm", None, ADMIN))
    assert holder
    assert (holder.name, holder.profiles) == ("crm", frozenset({SERVICE}))
    clients.remove("backup", ADMIN)
    assert office.service.audit.verify().findings == ()
    told = [(one.name, one.by) for one in office.service.audit.records() if one.aggregate == "Client"]
    assert told == [(name, ADMIN) for name in ("Created", "Granted", "Created", "KeyIssued", "Removed")]


# Plans


def test_a_plan_that_is_not_the_one_that_was_shown_is_not_carried_out(office: House) -> None:
    wanted = machine(smtp_service=setting(port="25"), smtp_alert=setting(port="25"))
    shown = fingerprint(office.applier.plan(wanted))
    office.service.settings.set_profile(ALERT, {"port": "25"}, ADMIN)
    with pytest.raises(Outdated):
        office.applier.apply(wanted, ADMIN, OPERATOR, shown)
    assert office.fields(SERVICE)[1] is None
    office.applier.apply(wanted, ADMIN, OPERATOR, fingerprint(office.applier.plan(wanted)))
    assert office.fields(SERVICE)[1] == 25


class _Meddling:
    """A clock at which somebody else does something between a plan and its work."""

    def __init__(self, house: House, act: Callable[[Services], object]) -> None:
        self._house = house
        self._act: Callable[[Services], object] | None = act
        self._asked = 0

    def now(self) -> datetime:
        self._asked += 1
        if self._asked == 2 and self._act:
            act, self._act = self._act, None
            act(self._house.service)
        return self._house.service.clock.now()

    def elapsed(self) -> float:
        return self._house.service.clock.elapsed()


@pytest.mark.parametrize(
    ("wanted", "meanwhile", "error"),
    [
        (machine(smtp_service=setting(account=FAX)), lambda one: one.get_token(SERVICE), Refused),
        (machine(smtp_service=setting(account=FAX)), lambda one: one.tokens.request(SERVICE, None, ADMIN), Refused),
        (Wanted(groups={"scanners": [PRESS]}), lambda one: one.get_token(PRESS), Refused),
        (Wanted(groups={"scanners": [ALERT]}), lambda one: one.tokens.request(SERVICE, None, ADMIN), Refused),
        (Wanted(groups={"office-mfp": [SERVICE]}), lambda one: one.tokens.request(SERVICE, None, ADMIN), Refused),
        (Wanted({"office-mfp": WantedMachine(absent=True)}), lambda one: one.get_token(SERVICE), Refused),
        (machine(smtp_alert=setting(port="25")), lambda one: one.settings.remove_profile(ALERT, ADMIN), Conflict),
        (machine(smtp_quick=setting()), lambda one: one.settings.remove_machine("office-mfp", ADMIN), Conflict),
        (Wanted(clients={"backup": [ALERT]}), lambda one: one.clients.remove("backup", ADMIN), Conflict),
        (Wanted(clients={"backup": [ALERT]}), lambda one: one.settings.remove_profile(ALERT, ADMIN), Conflict),
        (Wanted(clients={"other": []}), lambda one: one.clients.add("other", [], None, ADMIN), Conflict),
    ],
)
def test_what_somebody_else_did_since_the_plan_is_not_run_over(
    office: House, wanted: Wanted, meanwhile: Callable[[Services], object], error: type[Exception]
) -> None:
    service, done = office.service, list[object]()
    service.add_machine("press", "generic")
    service.settings.remove_profile("office-mfp/smtp-quick", ADMIN)
    service.clients.add("backup", [], None, ADMIN)

    def act(one: Services) -> None:
        meanwhile(one)
        done.append(everything(one.store))

    applier = Applier(service.events, service.tokens, _Meddling(office, act), list(service.providers))
    with pytest.raises(error):
        applier.apply(wanted, ADMIN, OPERATOR)
    assert done == [everything(service.store)]
    assert service.audit.verify().findings == ()


def test_what_is_exported_makes_an_empty_store_the_same(office: House, empty_house: House) -> None:
    service = office.service
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
    exported = office.applier.export()
    empty_house.apply(exported)
    assert empty_house.applier.export() == exported
    assert empty_house.apply(exported) == Plan()
    assert office.apply(exported) == Plan()
    assert empty_house.service.audit.verify().findings == ()


@pytest.fixture
def empty_house(tmp_path_factory: pytest.TempPathFactory, office: House, clock: FakeClock) -> Iterator[House]:
    """Another store, with nothing in it."""
    directory, sealer = tmp_path_factory.mktemp("empty"), office.service.sealer
    with closing(SqliteStore(directory / "mailtoken.db")) as store:
        store_id = create_store(store, sealer)
        yield House(Services(store, sealer, store_id, directory, clock, office.service.providers))


def test_a_fleet_is_one_transaction(house: House) -> None:
    wanted = Wanted(
        {f"mfp-{number}": WantedMachine("sharp-bp", {"smtp-service": setting(port="25")}) for number in range(20)}
    )
    saves: list[int] = []
    house.service.events.listeners.append(lambda changed: saves.append(len(changed)))
    house.apply(wanted)
    assert saves == [20 * (1 + 7 + 4 + 1)]
    assert house.service.audit.verify().findings == ()


@pytest.mark.parametrize("loaded_first", [True, False])
def test_a_profile_that_goes_while_it_is_granted_is_not_granted(
    office: House, monkeypatch: pytest.MonkeyPatch, loaded_first: bool
) -> None:
    service = office.service
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
        office.apply(Wanted(clients={"backup": [ALERT]}))
    assert "Granted" not in [one.name for one in service.audit.records()]
    assert service.audit.verify().findings == ()

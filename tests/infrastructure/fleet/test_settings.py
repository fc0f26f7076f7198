"""Machines, settings and SMTP groups: what may be changed in which state of the token, and the code of each refusal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import FAX, SCANNER, FakeClock, FakeProvider, Services
from store_examples import ADMIN, everything

from domain.errors import Conflict, InvalidValue, MailtokenError, NotFound, Refused
from infrastructure.queries.setting_status import SettingStatus

SERVICE, ALERT = "office-mfp/smtp-service", "office-mfp/smtp-alert"
POP = "office-mfp/pop-internet-fax"
DELETE_FIRST = "token_held"
CANCEL_FIRST = "token_waiting"

Act = Callable[[Services], object]


def groups(service: Services) -> dict[str, list[str]]:
    return {group.name: [member.profile.setting for member in group.members] for group in service.settings.groups()}


def status(service: Services, name: str) -> SettingStatus:
    return service.tokens.status(name)


def refusal(service: Services, act: Act) -> str:
    """What is said when it is refused; nothing was changed."""
    before = everything(service.store)
    with pytest.raises(Refused) as refused:
        act(service)
    assert everything(service.store) == before
    return str(refused.value)


@pytest.fixture
def installation(service: Services) -> Services:
    """The services with the manual's machine."""
    service.add_machine()
    return service


@pytest.fixture
def press(installation: Services) -> Services:
    """A second machine besides."""
    installation.add_machine("press", "generic")
    return installation


# Machines


def test_a_machine_has_the_settings_of_its_catalogue_and_its_linked_ones_are_one_group(service: Services) -> None:
    names = service.settings.add_machine("office-mfp", "sharp-bp", ADMIN)
    assert names == [
        "office-mfp/smtp-service",
        "office-mfp/smtp-alert",
        "office-mfp/smtp-quick",
        "office-mfp/smtp-initial",
        "office-mfp/pop-internet-fax",
        "office-mfp/pop-email-print",
        "office-mfp/pop-email-status",
    ]
    assert groups(service) == {"office-mfp": ["smtp-alert", "smtp-initial", "smtp-quick", "smtp-service"]}
    tokens = {one.profile.setting: one.profile.token_id for one in service.tokens.statuses()}
    assert len({tokens[name] for name in tokens if name.startswith("smtp")}) == 1
    assert len(set(tokens.values())) == 4
    assert service.settings.machines() == [{"name": "office-mfp", "catalogue": "sharp-bp", "tags": []}]


def test_the_settings_of_a_generic_machine_are_not_linked(press: Services) -> None:
    assert {one.profile.group_id for one in press.tokens.statuses() if one.profile.machine == "press"} == {None}


def test_a_name_that_is_taken_is_refused(press: Services) -> None:
    press.settings.link("scanners", ["press/smtp"], ADMIN)
    for name, what in (("office-mfp", "machine"), ("press", "machine"), ("scanners", "group")):
        said = refusal(press, lambda service, name=name: service.settings.add_machine(name, "generic", ADMIN))  # type: ignore[misc]
        assert said == f"name_taken name={name!r} kind={what!r}"


def test_a_machine_needs_a_name_and_a_catalogue_there_is(service: Services) -> None:
    with pytest.raises(NotFound) as missing:
        service.settings.add_machine("office-mfp", "sharp", ADMIN)
    assert str(missing.value) == "catalogue_unknown name='sharp' known=['sharp-bp', 'generic']"
    with pytest.raises(InvalidValue, match="machine: not_a_name value='office/mfp'"):
        service.settings.add_machine("office/mfp", "sharp-bp", ADMIN)
    assert service.settings.machines() == []


def test_a_machine_that_was_removed_leaves_nothing_and_its_name_is_free(installation: Services) -> None:
    installation.settings.remove_machine("office-mfp", ADMIN)
    assert installation.tokens.statuses() == []
    assert groups(installation) == {}
    installation.add_machine()
    assert len(installation.tokens.statuses()) == 7
    assert installation.audit.verify().findings == ()


def test_a_machine_whose_token_is_held_or_under_way_is_not_removed(installation: Services) -> None:
    installation.get_token(POP)
    said = refusal(installation, lambda service: service.settings.remove_machine("office-mfp", ADMIN))
    assert said == f"{DELETE_FIRST} status='Retrieved' profile='{POP}'"
    installation.tokens.delete(POP, ADMIN)
    installation.tokens.request(SERVICE, None, ADMIN)
    said = refusal(installation, lambda service: service.settings.remove_machine("office-mfp", ADMIN))
    assert said.startswith(f"{CANCEL_FIRST} status='Waiting for authorisation'")
    installation.tokens.cancel(ALERT, ADMIN)
    installation.settings.remove_machine("office-mfp", ADMIN)


def test_a_machine_whose_token_others_share_can_be_removed(press: Services) -> None:
    press.settings.link("office-mfp", ["press/smtp"], ADMIN)
    press.get_token("press/smtp")
    press.settings.remove_machine("press", ADMIN)
    assert press.label(SERVICE) == "Retrieved"
    assert groups(press) == {"office-mfp": ["smtp-alert", "smtp-initial", "smtp-quick", "smtp-service"]}


def test_a_machine_that_is_not_there_cant_be_removed(service: Services) -> None:
    with pytest.raises(NotFound) as missing:
        service.settings.remove_machine("office-mfp", ADMIN)
    assert str(missing.value) == "machine_not_found machine='office-mfp'"


# Profiles


def test_fields_are_filled_in_and_cleared(installation: Services) -> None:
    texts = {"server": "smtp.office365.com", "port": "587", "sender_address": SCANNER, "timeout": "30"}
    settings = installation.settings.set_profile(SERVICE, texts, ADMIN).settings
    assert (settings.server, settings.port, settings.timeout) == ("smtp.office365.com", 587, 30)
    settings = installation.settings.set_profile(SERVICE, {"port": "", "timeout": ""}, ADMIN).settings
    assert (settings.server, settings.port, settings.timeout) == ("smtp.office365.com", None, 20)
    assert installation.settings.profiles()[-1].settings == settings


def test_of_several_fields_with_one_that_is_wrong_none_is_taken(installation: Services) -> None:
    before = everything(installation.store)
    with pytest.raises(InvalidValue, match="port: number_not_in_range value='99999' lowest=1 highest=65535"):
        installation.settings.set_profile(SERVICE, {"server": "smtp.contoso.com", "port": "99999"}, ADMIN)
    assert everything(installation.store) == before


def test_what_changes_nothing_is_no_event(installation: Services) -> None:
    before = everything(installation.store)
    installation.settings.set_profile(SERVICE, {"account": SCANNER, "provider": "contoso"}, ADMIN)
    assert everything(installation.store) == before


def test_a_provider_that_is_not_in_the_configuration_is_not_found(installation: Services) -> None:
    with pytest.raises(NotFound) as missing:
        installation.settings.set_profile(SERVICE, {"provider": "fabrikam"}, ADMIN)
    assert str(missing.value) == "provider_not_configured provider='fabrikam' configured=['contoso']"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("press/smtp", "profile_not_found"),
        ("nonsense", "profile_not_found"),
        ("office-mfp/smtp", "catalogue_setting_unknown"),
    ],
)
def test_a_setting_that_is_not_there_is_not_found(installation: Services, name: str, code: str) -> None:
    with pytest.raises(NotFound) as missing:
        installation.settings.set_profile(name, {"timeout": "30"}, ADMIN)
    assert missing.value.code == code


def test_a_setting_that_was_removed_comes_back_with_a_token_of_its_own(installation: Services) -> None:
    installation.settings.remove_profile(ALERT, ADMIN)
    assert "smtp-alert" not in groups(installation)["office-mfp"]
    installation.settings.set_profile(ALERT, {"timeout": "30"}, ADMIN)
    again = status(installation, ALERT)
    assert (again.group, again.profile.settings.account, again.profile.settings.timeout) == (None, None, 30)
    assert again.profile.token_id != status(installation, SERVICE).profile.token_id
    installation.settings.remove_profile(POP, ADMIN)
    installation.settings.set_profile(POP, {}, ADMIN)
    assert status(installation, POP).token.status == "Not Retrieved"


def test_one_of_several_linked_settings_can_always_be_removed(installation: Services) -> None:
    installation.get_token(SERVICE)
    installation.settings.remove_profile(ALERT, ADMIN)
    installation.tokens.request(SERVICE, None, ADMIN)
    installation.settings.remove_profile("office-mfp/smtp-quick", ADMIN)
    assert groups(installation) == {"office-mfp": ["smtp-initial", "smtp-service"]}
    with pytest.raises(NotFound):
        installation.settings.remove_profile(ALERT, ADMIN)


# What the state of the token permits


def waiting(service: Services, name: str) -> None:
    service.tokens.request(name, None, ADMIN)


def retrieved(service: Services, name: str) -> None:
    service.get_token(name)


def invalid(service: Services, name: str) -> None:
    service.get_token(name)
    provider = service.providers["contoso"]
    assert isinstance(provider, FakeProvider)
    provider.kill_grants()
    with pytest.raises(Exception, match="token_update_failed"):
        service.tokens.renew(name, ADMIN)


STATES: list[tuple[Callable[[Services, str], None], str, str]] = [
    (waiting, "Waiting for authorisation", CANCEL_FIRST),
    (retrieved, "Retrieved", DELETE_FIRST),
    (invalid, "Invalid", DELETE_FIRST),
]


@pytest.mark.parametrize(("become", "label", "instead"), STATES)
@pytest.mark.parametrize("field", [{"account": FAX}, {"provider": ""}])
def test_provider_and_account_cant_change_under_a_token(
    installation: Services,
    become: Callable[[Services, str], None],
    label: str,
    instead: str,
    field: dict[str, str],
) -> None:
    become(installation, SERVICE)
    said = refusal(installation, lambda service: service.settings.set_profile(ALERT, field, ADMIN))
    assert said == f"{instead} status='{label}' profile='{ALERT}'"
    installation.settings.set_profile(ALERT, {"server": "smtp.contoso.com", "mailbox": "shared@contoso.com"}, ADMIN)


@pytest.mark.parametrize(("become", "label", "instead"), STATES)
def test_a_setting_with_a_token_of_its_own_is_not_linked(
    press: Services, become: Callable[[Services, str], None], label: str, instead: str
) -> None:
    become(press, "press/smtp")
    said = refusal(press, lambda service: service.settings.link("office-mfp", ["press/smtp"], ADMIN))
    assert said == f"{instead} status='{label}' profile='press/smtp'"


@pytest.mark.parametrize(("become", "label", "instead"), STATES)
def test_the_last_setting_of_a_token_is_not_removed(
    installation: Services, become: Callable[[Services, str], None], label: str, instead: str
) -> None:
    become(installation, POP)
    said = refusal(installation, lambda service: service.settings.remove_profile(POP, ADMIN))
    assert said == f"{instead} status='{label}' profile='{POP}'"


def test_a_setting_is_not_unlinked_while_somebody_signs_in(installation: Services) -> None:
    waiting(installation, SERVICE)
    said = refusal(installation, lambda service: service.settings.unlink(ALERT, ADMIN))
    assert said == f"{CANCEL_FIRST} status='Waiting for authorisation' profile='{ALERT}'"


@pytest.mark.parametrize("become", [retrieved, invalid])
def test_a_setting_that_was_unlinked_has_its_own_token_and_the_group_keeps_the_rest(
    installation: Services, become: Callable[[Services, str], None]
) -> None:
    become(installation, SERVICE)
    label = installation.label(SERVICE)
    installation.settings.unlink(ALERT, ADMIN)
    assert (installation.label(ALERT), status(installation, ALERT).group) == ("Not Retrieved", None)
    assert (installation.label(SERVICE), status(installation, SERVICE).group) == (label, "office-mfp")
    assert status(installation, ALERT).profile.settings.account == SCANNER
    assert groups(installation) == {"office-mfp": ["smtp-initial", "smtp-quick", "smtp-service"]}
    assert installation.audit.verify().findings == ()


def test_what_ran_out_unseen_is_over_for_a_refusal_too(installation: Services, clock: FakeClock) -> None:
    waiting(installation, SERVICE)
    clock.step(minutes=15)
    installation.settings.set_profile(ALERT, {"account": FAX}, ADMIN)
    installation.settings.unlink(ALERT, ADMIN)
    installation.settings.remove_machine("office-mfp", ADMIN)
    assert installation.audit.verify().findings == ()


# Groups


def test_settings_of_several_machines_share_a_token(press: Services) -> None:
    press.settings.link("office-mfp", ["press/smtp"], ADMIN)
    assert groups(press) == {"office-mfp": ["smtp-alert", "smtp-initial", "smtp-quick", "smtp-service", "smtp"]}
    press.get_token("press/smtp")
    assert press.label(SERVICE) == "Retrieved"
    assert press.access_token(ALERT).credential == press.access_token("press/smtp").credential


def test_a_setting_that_joins_a_group_with_a_token_is_in_concert_at_once(press: Services) -> None:
    press.get_token(SERVICE)
    press.settings.set_profile("press/smtp", {"account": FAX}, ADMIN)
    press.settings.link("office-mfp", ["press/smtp"], ADMIN)
    joined = status(press, "press/smtp")
    assert (joined.token.status, joined.profile.settings.account, joined.group) == ("Retrieved", SCANNER, "office-mfp")
    assert press.access_token("press/smtp").account == SCANNER


def test_a_setting_that_joins_while_somebody_signs_in_again_is_in_concert_with_the_token_that_serves(
    press: Services,
) -> None:
    press.get_token(SERVICE)
    press.tokens.request(SERVICE, None, ADMIN)
    press.settings.set_profile("press/smtp", {"account": FAX, "provider": ""}, ADMIN)
    press.settings.link("office-mfp", ["press/smtp"], ADMIN)
    press.tokens.cancel(SERVICE, ADMIN)
    joined = status(press, "press/smtp").profile.settings
    assert (press.label("press/smtp"), joined.account, joined.provider) == ("Retrieved", SCANNER, "contoso")


def test_a_setting_that_joins_a_group_without_a_token_keeps_its_account(press: Services) -> None:
    press.settings.set_profile("press/smtp", {"account": FAX}, ADMIN)
    press.settings.link("office-mfp", ["press/smtp"], ADMIN)
    assert status(press, "press/smtp").profile.settings.account == FAX


def test_linking_what_is_linked_changes_nothing_and_all_join_or_none(press: Services) -> None:
    press.settings.link("office-mfp", [SERVICE, ALERT], ADMIN)
    before = everything(press.store)
    press.settings.link("office-mfp", [SERVICE], ADMIN)
    assert everything(press.store) == before
    with pytest.raises(InvalidValue) as pop:
        press.settings.link("office-mfp", ["press/smtp", "press/pop"], ADMIN)
    assert str(pop.value) == "press/pop: not_an_smtp_setting"
    with pytest.raises(NotFound):
        press.settings.link("office-mfp", ["press/smtp", "press/fax"], ADMIN)
    assert everything(press.store) == before


def test_a_group_that_is_not_there_is_made_and_one_whose_last_setting_leaves_dissolves(press: Services) -> None:
    press.settings.link("scanners", ["press/smtp", ALERT], ADMIN)
    assert groups(press)["scanners"] == ["smtp-alert", "smtp"]
    press.settings.unlink(ALERT, ADMIN)
    assert groups(press)["scanners"] == ["smtp"]
    press.settings.unlink("press/smtp", ADMIN)
    assert "scanners" not in groups(press)
    press.settings.link("scanners", ["press/smtp"], ADMIN)
    press.settings.link("office-mfp", ["press/smtp"], ADMIN)
    assert "scanners" not in groups(press)
    assert press.audit.verify().findings == ()


def test_a_group_of_one_with_a_token_does_not_dissolve(press: Services) -> None:
    press.settings.link("scanners", ["press/smtp"], ADMIN)
    press.get_token("press/smtp")
    said = refusal(press, lambda service: service.settings.unlink("press/smtp", ADMIN))
    assert said == f"{DELETE_FIRST} status='Retrieved' profile='press/smtp'"


def test_what_is_not_linked_cant_be_unlinked(press: Services) -> None:
    said = refusal(press, lambda service: service.settings.unlink("press/smtp", ADMIN))
    assert said == "not_linked profile='press/smtp'"


def test_a_group_needs_a_name(press: Services) -> None:
    with pytest.raises(InvalidValue, match="group: not_a_name value='two words'"):
        press.settings.link("two words", ["press/smtp"], ADMIN)


# At the same moment


def test_a_setting_that_joins_while_the_token_is_obtained_ends_in_concert(
    press: Services, provider: FakeProvider
) -> None:
    press.settings.set_profile("press/smtp", {"account": FAX}, ADMIN)
    press.tokens.request(SERVICE, None, ADMIN)
    provider.approve()
    provider.meanwhile(lambda: press.settings.link("office-mfp", ["press/smtp"], ADMIN))
    press.tokens.poll(status(press, SERVICE).profile.token_id)
    joined = status(press, "press/smtp")
    assert (joined.token.status, joined.profile.settings.account) == ("Retrieved", SCANNER)
    received = [record.name for record in press.history.records("press/smtp") if record.aggregate == "Profile"]
    assert received[-2:] == ["Linked", "TokenReceived"]
    assert press.audit.verify().findings == ()


def at_once(*acts: Callable[[], object]) -> list[Exception | None]:
    """Do these things in threads that begin together; what each failed with."""
    together = threading.Barrier(len(acts))

    def do(act: Callable[[], object]) -> Exception | None:
        together.wait()
        try:
            act()
        except MailtokenError as error:
            return error
        return None

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(do, acts))


def test_a_setting_that_joins_at_any_moment_of_an_acquisition_is_in_concert(
    press: Services, provider: FakeProvider
) -> None:
    token_id = status(press, SERVICE).profile.token_id
    joined = 0
    for _ in range(12):
        press.settings.set_profile("press/smtp", {"account": FAX, "provider": ""}, ADMIN)
        press.tokens.request(SERVICE, None, ADMIN)
        provider.approve()
        polled, linked = at_once(
            lambda: press.tokens.poll(token_id), lambda: press.settings.link("office-mfp", ["press/smtp"], ADMIN)
        )
        assert polled is None
        assert linked is None or isinstance(linked, Conflict)
        one = status(press, "press/smtp")
        if not linked:
            joined += 1
            assert (one.token.status, one.profile.settings.account) == ("Retrieved", SCANNER)
            press.settings.unlink("press/smtp", ADMIN)
        else:
            assert (one.token.status, one.profile.settings.account) == ("Not Retrieved", FAX)
        press.tokens.delete(SERVICE, ADMIN)
    assert joined
    assert press.audit.verify().findings == ()


def test_of_many_that_take_a_name_at_once_one_gets_it(installation: Services) -> None:
    failed = at_once(*[lambda: installation.settings.add_machine("press", "generic", ADMIN)] * 6)
    assert failed.count(None) == 1
    assert {type(one) for one in failed if one} <= {Conflict, Refused}
    assert len(installation.tokens.statuses()) == 10
    assert installation.audit.verify().findings == ()


def test_an_account_does_not_change_under_a_sign_in_that_begins_at_the_same_moment(installation: Services) -> None:
    for _ in range(8):
        changed, asked = at_once(
            lambda: installation.settings.set_profile(POP, {"account": FAX}, ADMIN),
            lambda: installation.tokens.request(POP, None, ADMIN),
        )
        seen = status(installation, POP)
        if asked is None:
            assert seen.token.attempt
            assert seen.token.attempt.account == seen.profile.settings.account
            installation.tokens.cancel(POP, ADMIN)
        else:
            assert isinstance(asked, Conflict)
            assert seen.token.status == "Not Retrieved"
        assert changed is None or isinstance(changed, Conflict | Refused)
        installation.settings.set_profile(POP, {"account": SCANNER}, ADMIN)

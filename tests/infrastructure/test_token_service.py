"""Get Token, hand out, renew and cancel: what the provider is asked, what is stored, and what is served meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fakes import FAX, GARBAGE, NOTHING, SCANNER, SERVER_ERROR, START, Answer, FakeClock, FakeProvider, Services, error
from store_examples import ADMIN, change, everything, functions_running, some_work, until

from domain.errors import Failed, InvalidValue, NotFound, Refused, Unreachable, VaultDamaged
from infrastructure.token_service import HandOut

SERVICE, ALERT = "office-mfp/smtp-service", "office-mfp/smtp-alert"
POP = "office-mfp/pop-internet-fax"
THREADS = 16


@pytest.fixture
def office(service: Services) -> Services:
    """The services with the manual's machine, provider and account filled in."""
    service.add_machine()
    return service


def poll(service: Services, name: str = SERVICE) -> float | None:
    return service.tokens.poll(service.tokens.status(name).profile.token_id)


def request(service: Services, name: str = SERVICE) -> None:
    service.tokens.request(name, None, ADMIN)


def shown(service: Services, name: str = SERVICE) -> tuple[str, str | None]:
    """What is displayed, and why."""
    token = service.tokens.status(name).token
    return token.status.value, token.reason and token.reason.value


def events(service: Services, name: str = SERVICE) -> list[str]:
    """What happened to the token of a setting since it was there."""
    return [record.name for record in service.audit.records(name) if record.aggregate == "Token"][1:]


def alarm(service: Services, name: str = SERVICE) -> str | None:
    return service.tokens.alarms.get(service.tokens.status(name).profile.token_id)


def escrowed(service: Services) -> list[str]:
    """The kinds of files in the escrow."""
    return sorted(path.suffix for path in (service.directory / "escrow").iterdir())


def unchanged(service: Services) -> dict[str, Any]:
    return everything(service.store, but=("claim",))


# Get Token


def test_get_token_asks_the_provider_first_and_then_it_is_waiting(office: Services, provider: FakeProvider) -> None:
    started = office.tokens.request(SERVICE, None, ADMIN)
    assert provider.requests == ["device_code"]
    assert (started.profile, started.flow, started.user_code) == (SERVICE, "device", "CODE-0001")
    assert started.verification_uri_complete == "https://login.contoso.com/device?code=CODE-0001"
    assert started.expires_at == START + timedelta(minutes=15)
    assert {shown(office, name) for name in (SERVICE, ALERT)} == {("Waiting for authorisation", None)}
    assert office.tokens.under_way(ALERT) == started.__class__(**{**vars(started), "profile": ALERT})
    assert [token for token, _ in office.tokens.waiting()] == [office.tokens.status(SERVICE).profile.token_id]


def test_a_provider_that_cant_be_reached_changes_nothing(office: Services, provider: FakeProvider) -> None:
    provider.reachable = False
    before = unchanged(office)
    with pytest.raises(Unreachable):
        request(office)
    assert unchanged(office) == before


def test_while_somebody_signs_in_no_second_code_is_asked_for(office: Services, provider: FakeProvider) -> None:
    request(office)
    before = unchanged(office)
    with pytest.raises(Refused) as refused:
        request(office, ALERT)
    assert str(refused.value) == (
        f"{ALERT}: the token is Waiting for authorisation: "
        "finish the sign-in or cancel it first (mailtoken token cancel)"
    )
    assert provider.requests == ["device_code"]
    assert unchanged(office) == before


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"provider": "", "account": ""},
            "provider and account not filled in: mailtoken profile set {0} provider=... account=...",
        ),
        ({"account": ""}, "account not filled in: mailtoken profile set {0} account=..."),
    ],
)
def test_a_setting_that_is_not_filled_in_is_refused_with_what_to_do(
    office: Services, provider: FakeProvider, texts: dict[str, str], message: str
) -> None:
    office.settings.set_profile(SERVICE, texts, ADMIN)
    with pytest.raises(Refused) as refused:
        request(office)
    assert str(refused.value) == f"{SERVICE}: {message.format(SERVICE)}"
    assert provider.requests == []


def test_while_its_group_is_waiting_a_setting_that_is_not_filled_in_says_so(
    office: Services, provider: FakeProvider
) -> None:
    office.settings.set_profile(ALERT, {"provider": "", "account": ""}, ADMIN)
    request(office)
    for advised in (
        lambda: request(office, ALERT),
        lambda: office.settings.set_profile(ALERT, {"account": FAX}, ADMIN),
    ):
        with pytest.raises(Refused) as refused:
            advised()
        assert str(refused.value) == (
            f"{ALERT}: the token is Waiting for authorisation: "
            "finish the sign-in or cancel it first (mailtoken token cancel)"
        )
    provider.approve()
    poll(office)
    assert office.tokens.status(ALERT).profile.settings.account == SCANNER


def test_a_provider_that_left_the_configuration_is_not_found(office: Services) -> None:
    office.providers = {}
    with pytest.raises(NotFound) as missing:
        request(office.restart())
    assert str(missing.value) == "provider: 'contoso' is not in the configuration; it has: none"


def test_without_an_attempt_there_is_nothing_to_show_of_it(office: Services) -> None:
    with pytest.raises(Refused) as refused:
        office.tokens.under_way(SERVICE)
    assert str(refused.value) == f"{SERVICE}: the token is Not Retrieved: no sign-in is under way"


# Waiting


def test_a_person_who_has_not_finished_is_waited_for(office: Services, provider: FakeProvider) -> None:
    request(office)
    assert poll(office) == 5
    assert shown(office) == ("Waiting for authorisation", None)
    assert provider.requests == ["device_code", "poll"]
    assert escrowed(office) == []


def test_slow_down_adds_five_seconds_for_good(office: Services, provider: FakeProvider) -> None:
    request(office)
    provider.answers(error("slow_down"), error("authorization_pending"), error("slow_down"))
    assert [poll(office) for _ in range(4)] == [10, 10, 15, 15]


def test_slow_down_is_not_forgotten_at_a_restart(office: Services, provider: FakeProvider) -> None:
    request(office)
    provider.answers(error("slow_down"), error("slow_down"))
    assert [poll(office) for _ in range(2)] == [10, 15]
    after = office.restart()
    token_id = after.tokens.status(SERVICE).profile.token_id
    assert after.tokens.seconds_between_polls(token_id) == 15
    assert poll(after) == 15
    assert after.tokens.under_way(SERVICE).user_code == "CODE-0001"
    assert after.audit.verify().findings == ()
    assert events(after) == ["AuthorizationRequested"]


def test_a_slow_down_that_comes_after_the_attempt_is_over_leaves_nothing_behind(
    office: Services, provider: FakeProvider
) -> None:
    request(office)
    provider.answers(error("slow_down"))
    provider.meanwhile(lambda: office.tokens.cancel(SERVICE, ADMIN))
    poll(office)
    assert everything(office.store)["vault"] == []
    assert office.tokens.seconds_between_polls(office.tokens.status(SERVICE).profile.token_id) == 0


def test_nothing_is_remembered_of_an_attempt_that_is_over(office: Services, clock: FakeClock) -> None:
    for _ in range(3):
        request(office)
        clock.step(minutes=15)
        poll(office)
        request(office)
        clock.step(minutes=14, seconds=59.5)
        poll(office)
        office.tokens.cancel(SERVICE, ADMIN)
    assert office.tokens.waiting() == []
    assert office.tokens._deadlines == {}


def test_one_sign_in_updates_every_linked_setting_in_concert(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.settings.set_profile(ALERT, {"account": FAX, "provider": ""}, ADMIN)
    request(office)
    clock.step(minutes=2)
    provider.approve()
    assert poll(office) is None
    linked = [status for status in office.tokens.statuses() if status.group]
    assert len(linked) == 4
    for status in linked:
        assert (status.token.status, status.token.since) == ("Retrieved", START + timedelta(minutes=2))
        assert (status.profile.settings.provider, status.profile.settings.account) == ("contoso", SCANNER)
    assert {shown(office, status.profile.name)[0] for status in office.tokens.statuses() if not status.group} == {
        "Not Retrieved"
    }
    assert events(office) == ["AuthorizationRequested", "Retrieved"]
    assert office.audit.verify().findings == ()
    assert escrowed(office) == []


@pytest.mark.parametrize("code", ["access_denied", "expired_token"])
def test_a_sign_in_that_is_denied_or_ran_out_at_the_provider_ends_the_attempt(
    office: Services, provider: FakeProvider, code: str
) -> None:
    request(office)
    provider.answers(error(code))
    assert poll(office) is None
    assert shown(office) == ("Not Retrieved", code)
    assert poll(office) is None
    assert provider.requests == ["device_code", "poll"]


def test_an_attempt_past_its_deadline_ends_without_asking(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    request(office)
    clock.step(minutes=15)
    assert poll(office) is None
    assert provider.requests == ["device_code"]
    assert events(office) == ["AuthorizationRequested", "AuthorizationEnded"]
    assert office.tokens.status(SERVICE).token.since == START + timedelta(minutes=15)


def test_the_wrong_person_is_refused_with_both_names_and_nothing_is_stored(
    office: Services, provider: FakeProvider
) -> None:
    status = office.get_token(SERVICE, FAX)
    assert (status.token.status, status.token.reason) == ("Not Retrieved", "wrong_account")
    assert (status.profile.settings.account, status.token.signed_in_as) == (SCANNER, FAX)
    assert everything(office.store)["vault"] == []
    assert escrowed(office) == []
    assert provider.revoked == ["refresh-token-in-clear-2"]
    with pytest.raises(Refused):
        office.access_token(SERVICE)


def test_the_wrong_persons_grant_is_not_revoked_if_a_token_of_theirs_could_die_with_it(
    office: Services, provider: FakeProvider
) -> None:
    office.settings.set_profile(POP, {"account": FAX}, ADMIN)
    office.get_token(POP, FAX)
    office.get_token(SERVICE, FAX.upper())
    assert shown(office) == ("Not Retrieved", "wrong_account")
    assert provider.revoked == []


def test_the_same_address_in_another_case_is_the_same_person(office: Services) -> None:
    assert office.get_token(SERVICE, SCANNER.upper()).token.status == "Retrieved"


def test_another_person_with_the_same_address_is_refused_while_the_first_is_pinned(
    office: Services, provider: FakeProvider
) -> None:
    office.get_token(SERVICE)
    before = office.access_token(SERVICE)
    request(office)
    provider.answers(provider.grant(SCANNER, subject="somebody-else"))
    poll(office)
    assert shown(office) == ("Retrieved", "wrong_account")
    assert office.access_token(SERVICE) == before


def test_a_new_sign_in_never_takes_a_working_token_away(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    first = office.access_token(SERVICE)
    request(office)
    assert shown(office) == ("Waiting for authorisation", None)
    assert office.access_token(SERVICE) == first
    clock.step(minutes=55)
    renewed = office.access_token(SERVICE)
    assert renewed.credential != first.credential
    request(office)
    provider.answers(error("access_denied"))
    poll(office)
    assert shown(office) == ("Retrieved", "access_denied")
    assert office.access_token(SERVICE) == renewed
    second = office.get_token(SERVICE)
    assert second.token.credential
    assert (second.token.status, second.token.credential.number, second.token.credential.grant) == ("Retrieved", 3, 3)
    assert [row["generation"] for row in everything(office.store)["vault"]] == [3]


def test_a_reply_that_comes_after_the_attempt_was_cancelled_is_wiped_and_said_so(
    office: Services, provider: FakeProvider
) -> None:
    request(office)
    provider.approve()
    provider.meanwhile(lambda: office.tokens.cancel(ALERT, ADMIN))
    assert poll(office) is None
    assert shown(office) == ("Not Retrieved", "cancelled")
    assert events(office) == ["AuthorizationRequested", "AuthorizationEnded", "LateReplyDiscarded"]
    assert everything(office.store)["vault"] == []
    assert escrowed(office) == []
    assert provider.revoked == ["refresh-token-in-clear-2"]


def test_a_reply_that_comes_after_another_attempt_began_does_not_end_that(
    office: Services, provider: FakeProvider
) -> None:
    request(office)
    provider.approve()

    def again() -> None:
        office.tokens.cancel(SERVICE, ADMIN)
        request(office)

    provider.meanwhile(again)
    poll(office)
    assert shown(office)[0] == "Waiting for authorisation"
    provider.approve()
    poll(office)
    assert shown(office) == ("Retrieved", None)
    assert office.audit.verify().findings == ()


def test_a_refused_client_registration_is_an_alarm_and_not_the_attempts_fault(
    office: Services, provider: FakeProvider
) -> None:
    request(office)
    provider.answers(error("invalid_client", 401))
    assert poll(office) == 10
    assert shown(office) == ("Waiting for authorisation", None)
    assert alarm(office) == "client_registration"
    provider.approve()
    poll(office)
    assert (shown(office)[0], alarm(office)) == ("Retrieved", None)


def test_a_reply_that_makes_no_sense_is_kept_aside_and_the_attempt_goes_on(
    office: Services, provider: FakeProvider
) -> None:
    request(office)
    provider.answers(GARBAGE)
    assert poll(office) == 5
    assert (shown(office)[0], alarm(office), escrowed(office)) == (
        "Waiting for authorisation",
        "reply_in_doubt",
        [".doubt"],
    )
    provider.approve()
    poll(office)
    assert (shown(office)[0], alarm(office), escrowed(office)) == ("Retrieved", None, [])


@pytest.mark.parametrize("answer", [SERVER_ERROR, NOTHING])
def test_a_provider_in_trouble_is_asked_again_later(office: Services, provider: FakeProvider, answer: Any) -> None:
    request(office)
    before = unchanged(office)
    provider.answers(answer)
    assert poll(office) == 5
    assert unchanged(office) == before
    assert escrowed(office) == []


def test_a_provider_that_left_the_configuration_while_waiting_leaves_nothing_behind(office: Services) -> None:
    request(office)
    providers, office.providers = office.providers, {}
    without = office.restart()
    assert [poll(without) for _ in range(3)] == [10, 10, 10]
    assert escrowed(office) == []
    office.providers = providers
    assert poll(office.restart()) == 5


@pytest.mark.parametrize("flow", ["device", "browser"])
def test_a_clock_that_jumps_past_the_deadline_ends_no_attempt(
    office: Services, provider: FakeProvider, clock: FakeClock, flow: str
) -> None:
    office.tokens.request(SERVICE, flow, ADMIN, "http://127.0.0.1:50000/")
    token_id = office.tokens.status(SERVICE).profile.token_id
    office.tokens.poll(token_id)
    clock.jump(hours=1)
    assert office.tokens.poll(token_id)
    clock.jump(hours=-1)
    assert office.label(SERVICE) == "Waiting for authorisation"
    clock.step(minutes=14)
    clock.jump(hours=1)
    assert office.tokens.poll(token_id)
    clock.step(minutes=1)
    assert office.tokens.poll(token_id) is None
    assert office.tokens.waiting() == []
    assert [one.name for one in office.audit.records()][-1] == "AuthorizationEnded"


def test_an_error_that_nobody_knows_keeps_the_token_and_wants_a_person(
    office: Services, provider: FakeProvider
) -> None:
    office.get_token(SERVICE)
    token_id = office.tokens.status(SERVICE).profile.token_id
    provider.answers(Answer(400, b'{"error": "unheard_of"}'))
    with pytest.raises(Unreachable, match="unheard_of"):
        office.tokens.renew(SERVICE, ADMIN)
    assert (office.label(SERVICE), office.tokens.alarms) == ("Retrieved", {token_id: "unknown_error"})
    office.tokens.renew(SERVICE, ADMIN)
    assert office.tokens.alarms == {}


def test_of_many_that_poll_at_once_one_asks(office: Services, provider: FakeProvider) -> None:
    request(office)
    others: list[float | None] = []
    provider.meanwhile(lambda: others.extend(poll(office) for _ in range(3)))
    assert poll(office) == 5
    assert others == [10, 10, 10]
    assert provider.requests == ["device_code", "poll"]


def test_cancelling_says_why_and_with_nothing_under_way_changes_nothing(office: Services) -> None:
    request(office)
    office.tokens.cancel(ALERT, ADMIN)
    assert shown(office) == ("Not Retrieved", "cancelled")
    before = unchanged(office)
    office.tokens.cancel(SERVICE, ADMIN)
    assert unchanged(office) == before


# Handing out


@pytest.mark.parametrize(
    ("become", "message"),
    [
        (lambda _: None, "the token is Not Retrieved: get a token first (mailtoken token get)"),
        (request, "the token is Waiting for authorisation: finish the sign-in first"),
    ],
)
def test_without_a_token_nothing_is_served(office: Services, become: Any, message: str) -> None:
    become(office)
    with pytest.raises(Refused) as refused:
        office.access_token(ALERT)
    assert str(refused.value) == f"{ALERT}: {message}"


def test_a_setting_with_another_mailbox_is_served_with_it(office: Services) -> None:
    office.settings.set_profile(ALERT, {"mailbox": "shared@contoso.com"}, ADMIN)
    office.get_token(SERVICE)
    one, other = office.access_token(SERVICE), office.access_token(ALERT)
    assert (one.account, one.mailbox) == (SCANNER, SCANNER)
    assert (other.account, other.mailbox) == (SCANNER, "shared@contoso.com")
    assert one.credential == other.credential


@pytest.mark.parametrize(
    ("life", "min_ttl", "age", "renewed"),
    [
        (3600, None, 0, False),
        (3600, None, 2999, False),
        (3600, None, 3001, True),
        (3600, 1800, 1799, False),
        (3600, 1800, 1801, True),
        (3600, 60, 3001, True),
        (60, None, 29, False),
        (60, None, 31, True),
    ],
)
def test_a_token_is_renewed_before_it_is_served_if_too_little_of_its_life_is_left(
    office: Services,
    provider: FakeProvider,
    clock: FakeClock,
    life: int,
    min_ttl: int | None,
    age: int,
    renewed: bool,
) -> None:
    provider.lifetime_seconds = life
    office.get_token(SERVICE)
    clock.step(seconds=age)
    served = office.access_token(SERVICE, min_ttl)
    assert provider.requests.count("refresh") == int(renewed)
    assert (served.credential.issued_at == clock.now()) is (renewed or age == 0)


def test_more_life_than_a_token_ever_has_is_a_mistake_that_names_its_life(office: Services) -> None:
    office.get_token(SERVICE)
    with pytest.raises(InvalidValue) as wrong:
        office.access_token(SERVICE, 3601)
    assert str(wrong.value) == "min_ttl: 3601 seconds is more than this token's whole life of 3600 seconds"


def test_a_renewal_without_a_new_refresh_token_keeps_the_old_one(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    before = office.access_token(SERVICE).credential
    provider.answers(provider.grant(SCANNER, refresh_token=None))
    clock.step(minutes=55)
    after = office.access_token(SERVICE).credential
    assert after.access_token != before.access_token
    assert after.refresh_token == before.refresh_token
    assert [row["generation"] for row in everything(office.store)["vault"]] == [2]


def test_a_renewal_reaches_every_linked_setting_without_an_event_of_theirs(office: Services, clock: FakeClock) -> None:
    office.get_token(SERVICE)
    clock.step(minutes=55)
    assert office.access_token(SERVICE).credential == office.access_token(ALERT).credential
    renewed = [record for record in office.audit.records() if record.at == clock.now()]
    assert [(record.aggregate, record.name, record.by) for record in renewed] == [("Token", "Renewed", "client")]


def test_with_the_provider_down_the_token_in_hand_is_served_until_it_expires(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    in_hand = office.access_token(SERVICE)
    provider.reachable = False
    clock.step(minutes=59, seconds=59)
    assert office.access_token(SERVICE) == in_hand
    with pytest.raises(Unreachable) as short:
        office.access_token(SERVICE, 60)
    assert str(short.value) == (
        f"{SERVICE}: the access token has only 1 seconds left and could not be renewed: try again"
    )
    clock.step(seconds=1)
    with pytest.raises(Unreachable) as expired:
        office.access_token(SERVICE)
    assert str(expired.value) == f"{SERVICE}: the access token has expired and could not be renewed: try again"
    assert shown(office) == ("Retrieved", None)
    provider.reachable = True
    clock.step(days=1)
    assert office.access_token(SERVICE).credential.issued_at == clock.now()


def test_a_clock_that_jumps_ahead_serves_nothing_that_has_expired(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    provider.reachable = False
    clock.step(days=365)
    with pytest.raises(Unreachable):
        office.access_token(SERVICE)
    assert shown(office) == ("Retrieved", None)
    clock.step(days=-365)
    assert office.access_token(SERVICE).account == SCANNER


@pytest.mark.parametrize("answer", [SERVER_ERROR, NOTHING, GARBAGE, error("invalid_client", 401)])
def test_what_is_not_a_definite_word_about_the_grant_never_makes_it_invalid(
    office: Services, provider: FakeProvider, clock: FakeClock, answer: Any
) -> None:
    office.get_token(SERVICE)
    clock.step(minutes=55)
    provider.answers(answer)
    in_hand = office.access_token(SERVICE)
    assert in_hand.credential.issued_at == START
    assert shown(office) == ("Retrieved", None)
    assert events(office) == ["AuthorizationRequested", "Retrieved"]
    office.tokens.renew(SERVICE, ADMIN)
    assert office.access_token(SERVICE) != in_hand
    assert (alarm(office), escrowed(office)) == (None, [])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (SERVER_ERROR, "the provider can't renew it now (HTTP 503): try again"),
        (NOTHING, "the provider can't renew it now (no answer): try again"),
        (GARBAGE, "the provider's reply makes no sense (a reply that is not JSON); it is kept, try again"),
        (
            error("invalid_client", 401),
            "the provider refuses our client registration (invalid_client): correct client_id; the token is unchanged",
        ),
    ],
)
def test_a_renewal_that_does_not_work_says_whose_fault_it_is(
    office: Services, provider: FakeProvider, answer: Any, message: str
) -> None:
    office.get_token(SERVICE)
    provider.answers(answer)
    with pytest.raises(Unreachable) as unreachable:
        office.tokens.renew(SERVICE, ADMIN)
    assert str(unreachable.value) == message


def test_a_grant_the_provider_no_longer_accepts_makes_the_token_invalid_once(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    provider.kill_grants()
    clock.step(minutes=55)
    for name in (SERVICE, ALERT, SERVICE):
        with pytest.raises(Refused) as refused:
            office.access_token(name)
        assert str(refused.value) == (f"{name}: the token is Invalid (invalid_grant): delete it and get a new one")
    assert {shown(office, name) for name in (SERVICE, ALERT)} == {("Invalid", "invalid_grant")}
    assert provider.requests.count("refresh") == 1
    assert events(office) == ["AuthorizationRequested", "Retrieved", "GrantFoundDead"]
    assert office.tokens.status(SERVICE).attention == "invalid_grant"


def test_an_administrator_may_try_an_invalid_token_again_and_a_success_reinstates_it(
    office: Services, provider: FakeProvider
) -> None:
    office.get_token(SERVICE)
    provider.kill_grants()
    for _ in range(2):
        with pytest.raises(Failed) as failed:
            office.tokens.renew(ALERT, ADMIN)
        assert str(failed.value) == (
            f"{ALERT}: Token update failed. Please delete the token and obtain it again. (invalid_grant)"
        )
    assert events(office).count("GrantFoundDead") == 1
    provider.answers(provider.grant(SCANNER))
    office.tokens.renew(ALERT, ADMIN)
    assert shown(office) == ("Retrieved", None)
    assert office.access_token(SERVICE).account == SCANNER


def test_a_grant_that_dies_while_somebody_signs_in_again_leaves_the_attempt(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    clock.step(minutes=50)
    request(office)
    provider.kill_grants()
    clock.step(minutes=5)
    with pytest.raises(Refused):
        office.access_token(SERVICE)
    assert shown(office)[0] == "Waiting for authorisation"
    office.tokens.cancel(SERVICE, ADMIN)
    assert shown(office)[0] == "Invalid"


@pytest.mark.parametrize("become", [lambda _: None, request])
def test_without_a_refresh_token_there_is_nothing_to_renew_with(office: Services, become: Any) -> None:
    become(office)
    with pytest.raises(Refused, match=r"get a token \(mailtoken token get\)"):
        office.tokens.renew(SERVICE, ADMIN)


def test_a_token_without_a_refresh_token_is_served_while_it_lives(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    provider.renewable = False
    office.get_token(SERVICE)
    clock.step(minutes=59)
    assert office.access_token(SERVICE).account == SCANNER
    with pytest.raises(Refused) as refused:
        office.tokens.renew(SERVICE, ADMIN)
    assert str(refused.value) == f"{SERVICE}: no refresh token is held: get a token (mailtoken token get)"
    clock.step(minutes=1)
    with pytest.raises(Refused, match=r"the token is Invalid \(expired\)"):
        office.access_token(SERVICE)
    assert "refresh" not in provider.requests


# Together


def test_of_many_that_need_a_renewal_one_asks_and_all_are_served(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    clock.step(hours=2)
    together = threading.Barrier(THREADS)

    def serve(number: int) -> str:
        together.wait()
        return office.access_token((SERVICE, ALERT)[number % 2]).credential.access_token.reveal()

    with ThreadPoolExecutor(THREADS) as pool:
        served = set(pool.map(serve, range(THREADS)))
    assert provider.requests.count("refresh") == 1
    assert len(served) == 1
    assert events(office) == ["AuthorizationRequested", "Retrieved", "Renewed"]


def test_whoever_waited_for_a_renewal_that_failed_does_not_ask_again_at_once(
    office: Services, provider: FakeProvider
) -> None:
    office.get_token(SERVICE)
    token_id = office.tokens.status(SERVICE).profile.token_id
    other = some_work(token_id, "renewal", 1)
    assert office.claims.take(other)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(office.tokens.renew, ALERT, ADMIN)
        until(lambda: "is_taken" in functions_running())
        office.claims.release(other)
        with pytest.raises(Unreachable, match="another renewal of this token has just failed: try again"):
            waiting.result()
    assert "refresh" not in provider.requests


def test_whoever_waited_for_a_renewal_that_worked_is_served_what_it_brought(
    office: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    office.get_token(SERVICE)
    clock.step(hours=2)
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[HandOut]] = []

        def another() -> None:
            waiting.append(pool.submit(office.access_token, ALERT))
            until(lambda: "is_taken" in functions_running())

        provider.meanwhile(another)
        served = office.access_token(SERVICE)
        assert waiting[0].result().credential == served.credential
    assert provider.requests.count("refresh") == 1


def test_several_services_on_one_store_ask_once(office: Services, provider: FakeProvider, clock: FakeClock) -> None:
    office.get_token(SERVICE)
    clock.step(hours=2)
    nodes = []
    for number in range(3):
        office.directory = office.directory / str(number)
        nodes.append(office.restart())
    together = threading.Barrier(len(nodes))

    def serve(node: Services) -> str:
        together.wait()
        return node.access_token(SERVICE).credential.access_token.reveal()

    with ThreadPoolExecutor(len(nodes)) as pool:
        served = set(pool.map(serve, nodes))
    assert (len(served), provider.requests.count("refresh")) == (1, 1)


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vault SET body = ? WHERE token_id = ?",
        "UPDATE vault SET wrapped = ? WHERE token_id = ?",
        "UPDATE vault SET generation = generation + length(?) WHERE token_id = ?",
    ],
)
def test_a_damaged_row_quarantines_its_token_and_nothing_else(office: Services, clock: FakeClock, damage: str) -> None:
    office.get_token(SERVICE)
    office.get_token(POP)
    token_id = str(office.tokens.status(SERVICE).profile.token_id)
    change(office.store, damage, b"damaged", token_id)
    for _ in range(2):
        with pytest.raises(VaultDamaged):
            office.access_token(ALERT)
        clock.step(minutes=55)
    assert (alarm(office), alarm(office, POP)) == ("vault_damaged", None)
    assert office.access_token(POP).account == SCANNER
    assert shown(office)[0] == "Retrieved"
    office.get_token(SERVICE)
    assert (alarm(office), office.access_token(SERVICE).account) == (None, SCANNER)


def test_a_damaged_device_code_is_an_alarm_and_its_attempt_runs_out(office: Services, clock: FakeClock) -> None:
    request(office)
    change(office.store, "UPDATE vault SET body = ?", b"damaged")
    assert poll(office) == 10
    assert alarm(office) == "vault_damaged"
    clock.step(minutes=15)
    assert poll(office) is None
    assert shown(office) == ("Not Retrieved", "expired_token")

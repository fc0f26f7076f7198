"""Get Token, hand out, renew and cancel: what the provider is asked, what is stored, and what is served meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fakes import FAX, GARBAGE, NOTHING, SCANNER, SERVER_ERROR, START, Answer, FakeClock, FakeProvider, Services, error
from store_examples import ADMIN, change, everything, some_claim_key

from domain.errors import Failed, InvalidValue, NotFound, Refused, Unreachable, VaultDamaged
from domain.token_state import Attempt
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens.claims import Claims
from infrastructure.tokens.renewal import ServedAccessToken

SERVICE, ALERT = "office-mfp/smtp-service", "office-mfp/smtp-alert"
POP = "office-mfp/pop-internet-fax"
THREADS = 16


@pytest.fixture
def installation(service: Services) -> Services:
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
    return [record.name for record in service.history.records(name) if record.aggregate == "Token"][1:]


def alarm(service: Services, name: str = SERVICE) -> str | None:
    return service.tokens.alarms.get(service.tokens.status(name).profile.token_id)


def escrowed(service: Services) -> list[str]:
    """The kinds of files in the escrow."""
    return sorted(path.suffix for path in (service.directory / "escrow").iterdir())


def unchanged(service: Services) -> dict[str, Any]:
    return everything(service.store, but=("claim",))


# Get Token


def test_get_token_asks_the_provider_first_and_then_it_is_waiting(
    installation: Services, provider: FakeProvider
) -> None:
    started = installation.tokens.request(SERVICE, None, ADMIN)
    assert provider.requests == ["device_code"]
    assert (started.profile, started.flow, started.user_code) == (SERVICE, "device", "CODE-0001")
    assert started.verification_uri_complete == "https://login.contoso.com/device?code=CODE-0001"
    assert started.expires_at == START + timedelta(minutes=15)
    assert {shown(installation, name) for name in (SERVICE, ALERT)} == {("Waiting for authorisation", None)}
    assert installation.tokens.under_way(ALERT) == started.__class__(**{**vars(started), "profile": ALERT})
    assert [token for token, _ in installation.tokens.waiting()] == [
        installation.tokens.status(SERVICE).profile.token_id
    ]


def test_a_provider_that_cant_be_reached_changes_nothing(installation: Services, provider: FakeProvider) -> None:
    provider.reachable = False
    before = unchanged(installation)
    with pytest.raises(Unreachable):
        request(installation)
    assert unchanged(installation) == before


def test_while_somebody_signs_in_no_second_code_is_asked_for(installation: Services, provider: FakeProvider) -> None:
    request(installation)
    before = unchanged(installation)
    with pytest.raises(Refused) as refused:
        request(installation, ALERT)
    assert str(refused.value) == f"token_waiting status='Waiting for authorisation' profile='{ALERT}'"
    assert provider.requests == ["device_code"]
    assert unchanged(installation) == before


@pytest.mark.parametrize(
    ("texts", "missing", "assignments"),
    [
        ({"provider": "", "account": ""}, "provider and account", "provider=... account=..."),
        ({"account": ""}, "account", "account=..."),
    ],
)
def test_a_setting_that_is_not_filled_in_is_refused_with_what_to_do(
    installation: Services, provider: FakeProvider, texts: dict[str, str], missing: str, assignments: str
) -> None:
    installation.settings.set_profile(SERVICE, texts, ADMIN)
    with pytest.raises(Refused) as refused:
        request(installation)
    assert refused.value.code == "not_filled_in"
    assert refused.value.fields == {"profile": SERVICE, "missing": missing, "assignments": assignments}
    assert provider.requests == []


def test_while_its_group_is_waiting_a_setting_that_is_not_filled_in_says_so(
    installation: Services, provider: FakeProvider
) -> None:
    installation.settings.set_profile(ALERT, {"provider": "", "account": ""}, ADMIN)
    request(installation)
    for advised in (
        lambda: request(installation, ALERT),
        lambda: installation.settings.set_profile(ALERT, {"account": FAX}, ADMIN),
    ):
        with pytest.raises(Refused) as refused:
            advised()
        assert str(refused.value) == f"token_waiting status='Waiting for authorisation' profile='{ALERT}'"
    provider.approve()
    poll(installation)
    assert installation.tokens.status(ALERT).profile.settings.account == SCANNER


def test_a_provider_that_left_the_configuration_is_not_found(installation: Services) -> None:
    installation.providers = {}
    with pytest.raises(NotFound) as missing:
        request(installation.restart())
    assert str(missing.value) == "provider_not_configured provider='contoso' configured=[]"


def test_without_an_attempt_there_is_nothing_to_show_of_it(installation: Services) -> None:
    with pytest.raises(Refused) as refused:
        installation.tokens.under_way(SERVICE)
    assert refused.value.code == "no_sign_in_under_way"
    assert refused.value.fields == {"profile": SERVICE, "status": "Not Retrieved"}


# Waiting


def test_a_person_who_has_not_finished_is_waited_for(installation: Services, provider: FakeProvider) -> None:
    request(installation)
    assert poll(installation) == 5
    assert shown(installation) == ("Waiting for authorisation", None)
    assert provider.requests == ["device_code", "poll"]
    assert escrowed(installation) == []


def test_slow_down_adds_five_seconds_for_good(installation: Services, provider: FakeProvider) -> None:
    request(installation)
    provider.answers(error("slow_down"), error("authorization_pending"), error("slow_down"))
    assert [poll(installation) for _ in range(4)] == [10, 10, 15, 15]


def test_slow_down_is_not_forgotten_at_a_restart(installation: Services, provider: FakeProvider) -> None:
    request(installation)
    provider.answers(error("slow_down"), error("slow_down"))
    assert [poll(installation) for _ in range(2)] == [10, 15]
    after = installation.restart()
    token_id = after.tokens.status(SERVICE).profile.token_id
    assert after.tokens.seconds_between_polls(token_id) == 15
    assert poll(after) == 15
    assert after.tokens.under_way(SERVICE).user_code == "CODE-0001"
    assert after.audit.verify().findings == ()
    assert events(after) == ["AuthorizationRequested"]


def test_a_sign_in_that_ends_while_it_is_looked_up_is_no_damage(
    installation: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    request(installation)
    exchange = installation.tokens.acquisitions._exchange
    pending = exchange.pending

    def ends_meanwhile(token_id: UUID, attempt: Attempt) -> object:
        installation.tokens.cancel(SERVICE, ADMIN)
        return pending(token_id, attempt)

    monkeypatch.setattr(exchange, "pending", ends_meanwhile)
    with pytest.raises(Refused) as refused:
        installation.tokens.under_way(SERVICE)
    assert refused.value.code == "no_sign_in_under_way"


def test_a_slow_down_that_comes_after_the_attempt_is_over_leaves_nothing_behind(
    installation: Services, provider: FakeProvider
) -> None:
    request(installation)
    provider.answers(error("slow_down"))
    provider.meanwhile(lambda: installation.tokens.cancel(SERVICE, ADMIN))
    poll(installation)
    assert everything(installation.store)["vault"] == []
    assert installation.tokens.seconds_between_polls(installation.tokens.status(SERVICE).profile.token_id) == 0


def test_nothing_is_remembered_of_an_attempt_that_is_over(installation: Services, clock: FakeClock) -> None:
    for _ in range(3):
        request(installation)
        clock.step(minutes=15)
        poll(installation)
        request(installation)
        clock.step(minutes=14, seconds=59.5)
        poll(installation)
        installation.tokens.cancel(SERVICE, ADMIN)
    assert installation.tokens.waiting() == []
    assert installation.tokens.acquisitions._deadlines == {}


def test_one_sign_in_updates_every_linked_setting_in_concert(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.settings.set_profile(ALERT, {"account": FAX, "provider": ""}, ADMIN)
    request(installation)
    clock.step(minutes=2)
    provider.approve()
    assert poll(installation) is None
    linked = [status for status in installation.tokens.statuses() if status.group]
    assert len(linked) == 4
    for status in linked:
        assert (status.token.status, status.token.since) == ("Retrieved", START + timedelta(minutes=2))
        assert (status.profile.settings.provider, status.profile.settings.account) == ("contoso", SCANNER)
    assert {
        shown(installation, status.profile.name)[0] for status in installation.tokens.statuses() if not status.group
    } == {"Not Retrieved"}
    assert events(installation) == ["AuthorizationRequested", "Retrieved"]
    assert installation.audit.verify().findings == ()
    assert escrowed(installation) == []


@pytest.mark.parametrize("code", ["access_denied", "expired_token"])
def test_a_sign_in_that_is_denied_or_ran_out_at_the_provider_ends_the_attempt(
    installation: Services, provider: FakeProvider, code: str
) -> None:
    request(installation)
    provider.answers(error(code))
    assert poll(installation) is None
    assert shown(installation) == ("Not Retrieved", code)
    assert poll(installation) is None
    assert provider.requests == ["device_code", "poll"]


def test_an_attempt_past_its_deadline_ends_without_asking(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    request(installation)
    clock.step(minutes=15)
    assert poll(installation) is None
    assert provider.requests == ["device_code"]
    assert events(installation) == ["AuthorizationRequested", "AuthorizationEnded"]
    assert installation.tokens.status(SERVICE).token.since == START + timedelta(minutes=15)


def test_the_wrong_person_is_refused_with_both_names_and_nothing_is_stored(
    installation: Services, provider: FakeProvider
) -> None:
    status = installation.get_token(SERVICE, FAX)
    assert (status.token.status, status.token.reason) == ("Not Retrieved", "wrong_account")
    assert (status.profile.settings.account, status.token.signed_in_as) == (SCANNER, FAX)
    assert everything(installation.store)["vault"] == []
    assert escrowed(installation) == []
    assert provider.revoked == ["refresh-token-in-clear-2"]
    with pytest.raises(Refused):
        installation.access_token(SERVICE)


def test_the_wrong_persons_grant_is_not_revoked_if_a_token_of_theirs_could_die_with_it(
    installation: Services, provider: FakeProvider
) -> None:
    installation.settings.set_profile(POP, {"account": FAX}, ADMIN)
    installation.get_token(POP, FAX)
    installation.get_token(SERVICE, FAX.upper())
    assert shown(installation) == ("Not Retrieved", "wrong_account")
    assert provider.revoked == []


def test_the_same_address_in_another_case_is_the_same_person(installation: Services) -> None:
    assert installation.get_token(SERVICE, SCANNER.upper()).token.status == "Retrieved"


def test_another_person_with_the_same_address_is_refused_while_the_first_is_pinned(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    before = installation.access_token(SERVICE)
    request(installation)
    provider.answers(provider.grant(SCANNER, subject="somebody-else"))
    poll(installation)
    assert shown(installation) == ("Retrieved", "account_recreated")
    assert installation.access_token(SERVICE) == before


def test_a_new_sign_in_never_takes_a_working_token_away(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    first = installation.access_token(SERVICE)
    request(installation)
    assert shown(installation) == ("Waiting for authorisation", None)
    assert installation.access_token(SERVICE) == first
    clock.step(minutes=55)
    renewed = installation.access_token(SERVICE)
    assert renewed.credential != first.credential
    request(installation)
    provider.answers(error("access_denied"))
    poll(installation)
    assert shown(installation) == ("Retrieved", "access_denied")
    assert installation.access_token(SERVICE) == renewed
    second = installation.get_token(SERVICE)
    assert second.token.credential
    assert (second.token.status, second.token.credential.number, second.token.credential.grant) == ("Retrieved", 3, 3)
    assert [row["generation"] for row in everything(installation.store)["vault"]] == [3]


def test_a_reply_that_comes_after_the_attempt_was_cancelled_is_wiped_and_said_so(
    installation: Services, provider: FakeProvider
) -> None:
    request(installation)
    provider.approve()
    provider.meanwhile(lambda: installation.tokens.cancel(ALERT, ADMIN))
    assert poll(installation) is None
    assert shown(installation) == ("Not Retrieved", "cancelled")
    assert events(installation) == ["AuthorizationRequested", "AuthorizationEnded", "LateReplyDiscarded"]
    assert everything(installation.store)["vault"] == []
    assert escrowed(installation) == []
    assert provider.revoked == ["refresh-token-in-clear-2"]


def test_a_reply_that_comes_after_another_attempt_began_does_not_end_that(
    installation: Services, provider: FakeProvider
) -> None:
    request(installation)
    provider.approve()

    def again() -> None:
        installation.tokens.cancel(SERVICE, ADMIN)
        request(installation)

    provider.meanwhile(again)
    poll(installation)
    assert shown(installation)[0] == "Waiting for authorisation"
    provider.approve()
    poll(installation)
    assert shown(installation) == ("Retrieved", None)
    assert installation.audit.verify().findings == ()


def test_a_refused_client_registration_is_an_alarm_and_not_the_attempts_fault(
    installation: Services, provider: FakeProvider
) -> None:
    request(installation)
    provider.answers(error("invalid_client", 401))
    assert poll(installation) == 10
    assert shown(installation) == ("Waiting for authorisation", None)
    assert alarm(installation) == "client_registration"
    provider.approve()
    poll(installation)
    assert (shown(installation)[0], alarm(installation)) == ("Retrieved", None)


def test_a_reply_that_makes_no_sense_is_kept_aside_and_the_attempt_goes_on(
    installation: Services, provider: FakeProvider
) -> None:
    request(installation)
    provider.answers(GARBAGE)
    assert poll(installation) == 5
    assert (shown(installation)[0], alarm(installation), escrowed(installation)) == (
        "Waiting for authorisation",
        "reply_in_doubt",
        [".doubt"],
    )
    provider.approve()
    poll(installation)
    assert (shown(installation)[0], alarm(installation), escrowed(installation)) == ("Retrieved", None, [])


@pytest.mark.parametrize("answer", [SERVER_ERROR, NOTHING])
def test_a_provider_in_trouble_is_asked_again_later(
    installation: Services, provider: FakeProvider, answer: Any
) -> None:
    request(installation)
    before = unchanged(installation)
    provider.answers(answer)
    assert poll(installation) == 5
    assert unchanged(installation) == before
    assert escrowed(installation) == []


def test_a_provider_that_left_the_configuration_while_waiting_leaves_nothing_behind(installation: Services) -> None:
    request(installation)
    providers, installation.providers = installation.providers, {}
    without = installation.restart()
    assert [poll(without) for _ in range(3)] == [10, 10, 10]
    assert escrowed(installation) == []
    installation.providers = providers
    assert poll(installation.restart()) == 5


@pytest.mark.parametrize("flow", ["device", "browser"])
def test_a_clock_that_jumps_past_the_deadline_ends_no_attempt(
    installation: Services, clock: FakeClock, flow: str
) -> None:
    installation.tokens.request(SERVICE, flow, ADMIN, "http://127.0.0.1:50000/")
    token_id = installation.tokens.status(SERVICE).profile.token_id
    installation.tokens.poll(token_id)
    clock.jump(hours=1)
    assert installation.tokens.poll(token_id)
    clock.jump(hours=-1)
    assert installation.label(SERVICE) == "Waiting for authorisation"
    clock.step(minutes=14)
    clock.jump(hours=1)
    assert installation.tokens.poll(token_id)
    clock.step(minutes=1)
    assert installation.tokens.poll(token_id) is None
    assert installation.tokens.waiting() == []
    assert [one.name for one in installation.history.records()][-1] == "AuthorizationEnded"


def test_an_error_that_nobody_knows_keeps_the_token_and_wants_a_person(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    token_id = installation.tokens.status(SERVICE).profile.token_id
    provider.answers(Answer(400, b'{"error": "unheard_of"}'))
    with pytest.raises(Unreachable, match="unheard_of"):
        installation.tokens.renew(SERVICE, ADMIN)
    assert (installation.label(SERVICE), installation.tokens.alarms) == ("Retrieved", {token_id: "unknown_error"})
    installation.tokens.renew(SERVICE, ADMIN)
    assert installation.tokens.alarms == {}


def test_of_many_that_poll_at_once_one_asks(installation: Services, provider: FakeProvider) -> None:
    request(installation)
    others: list[float | None] = []
    provider.meanwhile(lambda: others.extend(poll(installation) for _ in range(3)))
    assert poll(installation) == 5
    assert others == [10, 10, 10]
    assert provider.requests == ["device_code", "poll"]


def test_cancelling_says_why_and_with_nothing_under_way_changes_nothing(installation: Services) -> None:
    request(installation)
    installation.tokens.cancel(ALERT, ADMIN)
    assert shown(installation) == ("Not Retrieved", "cancelled")
    before = unchanged(installation)
    installation.tokens.cancel(SERVICE, ADMIN)
    assert unchanged(installation) == before


# Handing out


@pytest.mark.parametrize(
    ("become", "message"),
    [
        (lambda _: None, "token_not_retrieved status='Not Retrieved'"),
        (request, "token_waiting status='Waiting for authorisation'"),
    ],
)
def test_without_a_token_nothing_is_served(installation: Services, become: Any, message: str) -> None:
    become(installation)
    with pytest.raises(Refused) as refused:
        installation.access_token(ALERT)
    assert str(refused.value) == f"{message} profile='{ALERT}'"


def test_a_setting_with_another_mailbox_is_served_with_it(installation: Services) -> None:
    installation.settings.set_profile(ALERT, {"mailbox": "shared@contoso.com"}, ADMIN)
    installation.get_token(SERVICE)
    one, other = installation.access_token(SERVICE), installation.access_token(ALERT)
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
    installation: Services,
    provider: FakeProvider,
    clock: FakeClock,
    life: int,
    min_ttl: int | None,
    age: int,
    renewed: bool,
) -> None:
    provider.lifetime_seconds = life
    installation.get_token(SERVICE)
    clock.step(seconds=age)
    served = installation.access_token(SERVICE, min_ttl)
    assert provider.requests.count("refresh") == int(renewed)
    assert (served.credential.issued_at == clock.now()) is (renewed or age == 0)


def test_more_life_than_a_token_ever_has_is_a_mistake_that_names_its_life(installation: Services) -> None:
    installation.get_token(SERVICE)
    with pytest.raises(InvalidValue) as wrong:
        installation.access_token(SERVICE, 3601)
    assert (wrong.value.field, wrong.value.code) == ("min_ttl", "longer_than_life")
    assert wrong.value.fields == {"value": 3601, "life_seconds": 3600}


def test_a_renewal_without_a_new_refresh_token_keeps_the_old_one(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    before = installation.access_token(SERVICE).credential
    provider.answers(provider.grant(SCANNER, refresh_token=None))
    clock.step(minutes=55)
    after = installation.access_token(SERVICE).credential
    assert after.access_token != before.access_token
    assert after.refresh_token == before.refresh_token
    assert [row["generation"] for row in everything(installation.store)["vault"]] == [2]


def test_a_renewal_reaches_every_linked_setting_without_an_event_of_theirs(
    installation: Services, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=55)
    assert installation.access_token(SERVICE).credential == installation.access_token(ALERT).credential
    renewed = [record for record in installation.history.records() if record.at == clock.now()]
    assert [(record.aggregate, record.name, record.by) for record in renewed] == [("Token", "Renewed", "client")]


def test_with_the_provider_down_the_token_in_hand_is_served_until_it_expires(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    in_hand = installation.access_token(SERVICE)
    provider.reachable = False
    clock.step(minutes=59, seconds=59)
    assert installation.access_token(SERVICE) == in_hand
    with pytest.raises(Unreachable) as short:
        installation.access_token(SERVICE, 60)
    assert short.value.code == "access_token_expires_soon"
    assert short.value.fields == {"profile": SERVICE, "seconds_left": 1}
    clock.step(seconds=1)
    with pytest.raises(Unreachable) as expired:
        installation.access_token(SERVICE)
    assert expired.value.code == "access_token_expired"
    assert expired.value.fields == {"profile": SERVICE}
    assert shown(installation) == ("Retrieved", None)
    provider.reachable = True
    clock.step(days=1)
    assert installation.access_token(SERVICE).credential.issued_at == clock.now()


def test_a_clock_that_jumps_ahead_serves_nothing_that_has_expired(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    provider.reachable = False
    clock.step(days=365)
    with pytest.raises(Unreachable):
        installation.access_token(SERVICE)
    assert shown(installation) == ("Retrieved", None)
    clock.step(days=-365)
    assert installation.access_token(SERVICE).account == SCANNER


@pytest.mark.parametrize("answer", [SERVER_ERROR, NOTHING, GARBAGE, error("invalid_client", 401)])
def test_what_is_not_a_definite_word_about_the_grant_never_makes_it_invalid(
    installation: Services, provider: FakeProvider, clock: FakeClock, answer: Any
) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=55)
    provider.answers(answer)
    in_hand = installation.access_token(SERVICE)
    assert in_hand.credential.issued_at == START
    assert shown(installation) == ("Retrieved", None)
    assert events(installation) == ["AuthorizationRequested", "Retrieved"]
    installation.tokens.renew(SERVICE, ADMIN)
    assert installation.access_token(SERVICE) != in_hand
    assert (alarm(installation), escrowed(installation)) == (None, [])


@pytest.mark.parametrize(
    ("answer", "code", "fields"),
    [
        (SERVER_ERROR, "renewal_put_off", {"why": "HTTP 503"}),
        (NOTHING, "renewal_put_off", {"why": "no_answer_in_time"}),
        (GARBAGE, "reply_in_doubt", {"why": "not_json"}),
        (
            error("invalid_client", 401),
            "client_registration_refused",
            {"why": "invalid_client", "setting": "client_id"},
        ),
    ],
)
def test_a_renewal_that_does_not_work_says_whose_fault_it_is(
    installation: Services, provider: FakeProvider, answer: Any, code: str, fields: dict[str, str]
) -> None:
    installation.get_token(SERVICE)
    provider.answers(answer)
    with pytest.raises(Unreachable) as unreachable:
        installation.tokens.renew(SERVICE, ADMIN)
    assert (unreachable.value.code, unreachable.value.fields) == (code, fields)


def test_a_grant_the_provider_no_longer_accepts_makes_the_token_invalid_once(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    provider.kill_grants()
    clock.step(minutes=55)
    for name in (SERVICE, ALERT, SERVICE):
        with pytest.raises(Refused) as refused:
            installation.access_token(name)
        assert str(refused.value) == f"token_invalid status='Invalid' reason='invalid_grant' profile='{name}'"
    assert {shown(installation, name) for name in (SERVICE, ALERT)} == {("Invalid", "invalid_grant")}
    assert provider.requests.count("refresh") == 1
    assert events(installation) == ["AuthorizationRequested", "Retrieved", "GrantFoundDead"]
    assert installation.tokens.status(SERVICE).attention == "invalid_grant"


def test_an_administrator_may_try_an_invalid_token_again_and_a_success_reinstates_it(
    installation: Services, provider: FakeProvider
) -> None:
    installation.get_token(SERVICE)
    provider.kill_grants()
    for _ in range(2):
        with pytest.raises(Failed) as failed:
            installation.tokens.renew(ALERT, ADMIN)
        assert failed.value.code == "token_update_failed"
        assert failed.value.fields == {"profile": ALERT, "reason": "invalid_grant"}
    assert events(installation).count("GrantFoundDead") == 1
    provider.answers(provider.grant(SCANNER))
    installation.tokens.renew(ALERT, ADMIN)
    assert shown(installation) == ("Retrieved", None)
    assert installation.access_token(SERVICE).account == SCANNER


def test_a_grant_that_dies_while_somebody_signs_in_again_leaves_the_attempt(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    clock.step(minutes=50)
    request(installation)
    provider.kill_grants()
    clock.step(minutes=5)
    with pytest.raises(Refused):
        installation.access_token(SERVICE)
    assert shown(installation)[0] == "Waiting for authorisation"
    installation.tokens.cancel(SERVICE, ADMIN)
    assert shown(installation)[0] == "Invalid"


@pytest.mark.parametrize("become", [lambda _: None, request])
def test_without_a_refresh_token_there_is_nothing_to_renew_with(installation: Services, become: Any) -> None:
    become(installation)
    with pytest.raises(Refused, match=r"token_not_retrieved|token_waiting"):
        installation.tokens.renew(SERVICE, ADMIN)


def test_a_token_without_a_refresh_token_is_served_while_it_lives(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    provider.renewable = False
    installation.get_token(SERVICE)
    clock.step(minutes=59)
    assert installation.access_token(SERVICE).account == SCANNER
    with pytest.raises(Refused) as refused:
        installation.tokens.renew(SERVICE, ADMIN)
    assert (refused.value.code, refused.value.fields) == ("no_refresh_token", {"profile": SERVICE})
    clock.step(minutes=1)
    with pytest.raises(Refused, match="token_invalid status='Invalid' reason='expired'"):
        installation.access_token(SERVICE)
    assert "refresh" not in provider.requests


# Together


def test_of_many_that_need_a_renewal_one_asks_and_all_are_served(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    clock.step(hours=2)
    together = threading.Barrier(THREADS)

    def serve(number: int) -> str:
        together.wait()
        return installation.access_token((SERVICE, ALERT)[number % 2]).credential.access_token.reveal()

    with ThreadPoolExecutor(THREADS) as pool:
        served = set(pool.map(serve, range(THREADS)))
    assert provider.requests.count("refresh") == 1
    assert len(served) == 1
    assert events(installation) == ["AuthorizationRequested", "Retrieved", "Renewed"]


@pytest.fixture
def claim_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once somebody waits for the end of a renewal of another."""
    looked_at, is_taken = threading.Event(), Claims.is_taken

    def look(claims: Claims, claim_key: ClaimKey) -> bool:
        looked_at.set()
        return is_taken(claims, claim_key)

    monkeypatch.setattr(Claims, "is_taken", look)
    return looked_at


def test_whoever_waited_for_a_renewal_that_failed_does_not_ask_again_at_once(
    installation: Services, provider: FakeProvider, claim_is_looked_at: threading.Event
) -> None:
    installation.get_token(SERVICE)
    token_id = installation.tokens.status(SERVICE).profile.token_id
    other = some_claim_key(token_id, "renewal", 1)
    assert installation.claims.take(other)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(installation.tokens.renew, ALERT, ADMIN)
        assert claim_is_looked_at.wait(60)
        installation.claims.release(other)
        with pytest.raises(Unreachable, match="other_renewal_failed"):
            waiting.result()
    assert "refresh" not in provider.requests


def test_whoever_waited_for_a_renewal_that_worked_is_served_what_it_brought(
    installation: Services, provider: FakeProvider, clock: FakeClock, claim_is_looked_at: threading.Event
) -> None:
    installation.get_token(SERVICE)
    clock.step(hours=2)
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[ServedAccessToken]] = []

        def another() -> None:
            waiting.append(pool.submit(installation.access_token, ALERT))
            assert claim_is_looked_at.wait(60)

        provider.meanwhile(another)
        served = installation.access_token(SERVICE)
        assert waiting[0].result().credential == served.credential
    assert provider.requests.count("refresh") == 1


def test_several_services_on_one_store_ask_once(
    installation: Services, provider: FakeProvider, clock: FakeClock
) -> None:
    installation.get_token(SERVICE)
    clock.step(hours=2)
    nodes = []
    for number in range(3):
        installation.directory = installation.directory / str(number)
        nodes.append(installation.restart())
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
        "UPDATE vault SET body = ? WHERE subject_id = ?",
        "UPDATE vault SET wrapped = ? WHERE subject_id = ?",
        "UPDATE vault SET generation = generation + length(?) WHERE subject_id = ?",
    ],
)
def test_a_damaged_row_quarantines_its_token_and_nothing_else(
    installation: Services, clock: FakeClock, damage: str
) -> None:
    installation.get_token(SERVICE)
    installation.get_token(POP)
    token_id = str(installation.tokens.status(SERVICE).profile.token_id)
    change(installation.store, damage, b"damaged", token_id)
    for _ in range(2):
        with pytest.raises(VaultDamaged):
            installation.access_token(ALERT)
        clock.step(minutes=55)
    assert (alarm(installation), alarm(installation, POP)) == ("vault_damaged", None)
    assert installation.access_token(POP).account == SCANNER
    assert shown(installation)[0] == "Retrieved"
    installation.get_token(SERVICE)
    assert (alarm(installation), installation.access_token(SERVICE).account) == (None, SCANNER)


def test_a_damaged_device_code_is_an_alarm_and_its_attempt_runs_out(installation: Services, clock: FakeClock) -> None:
    request(installation)
    change(installation.store, "UPDATE vault SET body = ?", b"damaged")
    assert poll(installation) == 10
    assert alarm(installation) == "vault_damaged"
    clock.step(minutes=15)
    assert poll(installation) is None
    assert shown(installation) == ("Not Retrieved", "expired_token")

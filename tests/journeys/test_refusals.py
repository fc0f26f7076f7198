"""What each refusal of a provider does to a token, and what every surface says about it: real replies over HTTPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from contoso import FAX, SCAN, contoso_table
from fakes import FakeClock
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from structlog.testing import capture_logs

from adapters.bootstrap import open_service
from adapters.cli.service_socket import CommandError
from adapters.cli.sign_in_progress import judge
from adapters.error_kinds import ExitCode
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.texts import reasons
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import Failed, Refused, Unreachable
from infrastructure.config.load import load_config
from infrastructure.service import Service
from infrastructure.tokens.acquisition import AuthorizationStarted

pytestmark = pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")

BY = "administrator:root"
SMTP, POP = "office/smtp", "office/pop"


@dataclass
class Office:
    """A service of one test, a clock that both sides go by, and what a person, a command and a page see."""

    service: Service
    provider: FaultyProvider
    clock: FakeClock
    started: dict[str, AuthorizationStarted] = field(default_factory=dict)

    def begin(self, name: str = SMTP, flow: str = "device", account: str | None = None) -> None:
        self.started[name] = self.service.tokens.request(name, flow, BY, None, account)

    def approve(self, name: str = SMTP, account: str = SCAN) -> None:
        started = self.started[name]
        assert started.verification_uri
        assert started.user_code
        browser_user.approve(started.verification_uri, started.user_code, account, self.provider.ca_file)

    def poll(self, name: str = SMTP) -> float | None:
        """One poll, when the next one is due."""
        self.clock.step(seconds=30)
        return self.service.tokens.poll(self.service.tokens.status(name).profile.token_id)

    def get(self, name: str = SMTP, account: str = SCAN, new_account: str | None = None) -> None:
        self.begin(name, account=new_account)
        self.approve(name, account)
        self.poll(name)

    def run_out(self, name: str = SMTP) -> None:
        """Step the clock past the deadline of the sign-in, and poll once after it."""
        self.clock.step(minutes=20)
        self.poll(name)

    def renew(self, name: str = SMTP) -> None:
        self.clock.step(minutes=1)
        self.service.tokens.renew(name, BY)

    def status(self, name: str = SMTP) -> dict[str, Any]:
        return self.service.attention.of(self.service.tokens.status(name)).as_json()

    def shown(self, name: str = SMTP) -> tuple[str, str | None, str | None]:
        status = self.status(name)
        return status["token"], status["reason"], status["attention"]

    def said(self, name: str = SMTP) -> str:
        """What status says, and the page in nearly the same words."""
        said, on_page = (reasons.why(self.status(name), surface) for surface in (Surface.COMMAND, Surface.PAGE))
        assert said
        assert on_page
        assert "mailtoken" not in on_page
        return said

    def judged(self, name: str = SMTP) -> tuple[int, str]:
        """How `token get` ends."""
        with pytest.raises(CommandError) as ended:
            judge(self.status(name), self.started[name].attempt_id)
        assert "another one was begun" not in str(ended.value)
        return ended.value.exit_code, str(ended.value)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def open_office(ca: PracticeCA, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    clock = FakeClock()
    with FaultyProvider(ca, interval=5, access_token_length=64, now=clock.now) as provider:

        def open_it(more: str = "") -> Any:
            made = initialise(tmp_path / "office")
            (made.config.parent / "secret").write_text(provider.client_secret)
            with made.config.open("a") as config:
                config.write(contoso_table(provider, more))
            return open_service(load_config(made.config), clock=clock), provider, clock

        yield open_it


@pytest.fixture
def more() -> str:
    return ""


@pytest.fixture
def office(open_office: Callable[..., Any], more: str) -> Iterator[Office]:
    opened, provider, clock = open_office(more)
    with opened as service:
        for name in service.settings.add_machine("office", "generic", BY):
            service.settings.set_profile(name, {"provider": "contoso", "account": SCAN}, BY)
        yield Office(service, provider, clock)


# The application's own credentials


@pytest.mark.parametrize(
    ("number", "reason"), [(7000222, "client_refused"), (700016, "configuration"), (70011, "configuration")]
)
def test_an_application_that_is_refused_is_told_why_at_once(office: Office, number: int, reason: str) -> None:
    office.provider.inject_fault("error", error="invalid_client", status=401, error_codes=[number])
    with capture_logs() as logs:
        office.begin(flow="app")
    [words] = [one["error"] for one in logs if one["event"] == "provider_refused"]
    assert f"AADSTS{number}: " in words
    assert office.shown() == ("Not Retrieved", reason, None)
    code, said = office.judged()
    assert (code, f"AADSTS{number}" in said) == (ExitCode.FAILED, True)
    assert f"(AADSTS{number})" in office.said()


def test_a_lifetime_that_had_to_be_assumed_is_logged(office: Office) -> None:
    office.provider.inject_fault("no_expires_in")
    with capture_logs() as logs:
        office.begin(flow="app")
    assert office.shown()[0] == "Retrieved"
    assert [one["why"] for one in logs if one["event"] == "grant_corrected"] == ["expires_in_assumed"]


def test_an_application_whose_provider_fails_is_tried_again_and_then_told_so(office: Office) -> None:
    office.provider.inject_fault("temporarily_unavailable", times=None)
    office.begin(flow="app")
    assert office.shown() == ("Waiting for authorisation", None, "sign_in_failing")
    assert "(HTTP 503)" in office.said()
    assert office.judged()[0] == ExitCode.UNREACHABLE
    office.poll()
    office.run_out()
    assert office.shown() == ("Not Retrieved", "provider_failed", None)
    code, said = office.judged()
    assert (code, "HTTP 503, 2 times in a row" in said) == (ExitCode.UNREACHABLE, True)


def test_a_refused_renewal_of_an_application_leaves_its_token(office: Office) -> None:
    office.begin(flow="app")
    assert office.shown() == ("Retrieved", None, None)
    office.provider.inject_fault("error", error="invalid_client", status=401, error_codes=[7000222])
    with pytest.raises(Unreachable, match="client_registration_refused"):
        office.renew()
    assert office.shown() == ("Retrieved", None, "client_registration")
    assert "(AADSTS7000222)" in office.said()


# What a grant must hold


def test_a_sign_in_without_the_mail_scope_brings_no_token_and_its_grant_is_revoked(office: Office) -> None:
    office.provider.inject_fault(
        "edit", fields={"scope": "openid profile offline_access"}, grant_type=DEVICE_CODE_GRANT
    )
    office.get()
    assert office.shown() == ("Not Retrieved", "scope_not_granted", None)
    assert "The mail permission was not granted" in office.said()
    assert office.judged()[0] == ExitCode.FAILED
    assert office.provider.live_refresh_tokens(SCAN) == []


def test_a_renewal_without_the_mail_scope_is_attention_until_the_scope_is_back(office: Office) -> None:
    office.get()
    office.provider.inject_fault("edit", fields={"scope": "openid profile offline_access"}, grant_type="refresh_token")
    office.renew()
    assert office.shown() == ("Retrieved", None, "scope_missing")
    assert "The last renewal lacks the mail permission" in office.said()
    office.renew()
    assert office.shown() == ("Retrieved", None, None)


def test_a_token_without_a_refresh_token_needs_a_person_at_once_and_says_when_it_ends(office: Office) -> None:
    office.provider.inject_fault("no_refresh_token", grant_type=DEVICE_CODE_GRANT)
    office.get()
    assert office.shown() == ("Retrieved", None, "not_renewable")
    assert f"It ends at {office.status()['expires_at'][:16].replace('T', ' ')} UTC." in office.said()


# Who signed in


def test_an_account_that_was_made_anew_is_taken_over_on_the_administrators_word(office: Office) -> None:
    office.get()
    office.provider.revoke_account(SCAN)
    with pytest.raises(Failed):
        office.renew()
    office.provider.inject_fault("id_token", claims={"sub": "made-anew"}, grant_type=DEVICE_CODE_GRANT)
    office.get()
    assert office.shown() == ("Invalid", "account_recreated", "invalid_grant")
    assert f"--account {SCAN}" in office.said()
    office.provider.inject_fault("id_token", claims={"sub": "made-anew"}, grant_type=DEVICE_CODE_GRANT)
    office.get(new_account=SCAN)
    assert office.shown() == ("Retrieved", None, None)


def test_an_account_that_was_renamed_is_taken_over_on_the_administrators_word(office: Office) -> None:
    new = {"preferred_username": "scanner@contoso.com"}
    office.get()
    office.provider.inject_fault("id_token", claims=new, grant_type="refresh_token")
    office.renew()
    assert office.shown() == ("Retrieved", None, "account_has_new_address")
    assert "--account scanner@contoso.com" in office.said()
    office.provider.inject_fault("id_token", claims=new, grant_type=DEVICE_CODE_GRANT)
    office.get()
    assert office.shown()[:2] == ("Retrieved", "account_renamed")
    office.provider.inject_fault("id_token", claims=new, grant_type=DEVICE_CODE_GRANT)
    office.get(new_account="scanner@contoso.com")
    assert office.shown() == ("Retrieved", None, None)
    assert office.status()["account"] == "scanner@contoso.com"


def test_a_renewal_for_another_account_is_kept_sealed_and_the_token_before_it_is_served(office: Office) -> None:
    office.get()
    before = office.service.tokens.access_token(SMTP, None, "client").credential.access_token
    claims = {"sub": "somebody-else", "preferred_username": FAX}
    office.provider.inject_fault("id_token", claims=claims, grant_type="refresh_token")
    with pytest.raises(Unreachable) as refused:
        office.renew()
    assert FAX in error_text(refused.value, Surface.COMMAND)
    assert office.shown() == ("Retrieved", None, "renewed_for_another_account")
    assert FAX in office.said()
    assert SCAN in office.said()
    assert office.service.tokens.access_token(SMTP, None, "client").credential.access_token == before
    assert [path.suffix for path in (office.service.config.directory / "escrow").glob("*.*")] == [".doubt"]


@pytest.mark.parametrize(
    ("more", "code", "live"), [("", "grant_left", 2), ("revokes_one_grant = true", None, 1)], ids=["account", "grant"]
)
def test_the_wrong_persons_grant_is_revoked_where_it_does_not_end_their_other_token(
    office: Office, code: str | None, live: int
) -> None:
    office.service.settings.set_profile(POP, {"account": FAX}, BY)
    office.get(POP, FAX)
    office.get(SMTP, FAX)
    assert office.shown() == ("Not Retrieved", "wrong_account", None)
    assert office.status()["code"] == code
    assert ("still stands at the provider" in office.said()) is (code is not None)
    assert len(office.provider.live_refresh_tokens(FAX)) == live
    office.renew(POP)
    assert office.shown(POP) == ("Retrieved", None, None)


# Sign-ins whose requests fail


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"mode": "garbage", "status": 403}, "HTTP 403"),
        ({"mode": "redirect", "location": "https://portal.contoso.com/"}, "HTTP 302"),
        ({"mode": "temporarily_unavailable"}, "HTTP 503"),
        ({"mode": "hang", "seconds": 0.0}, "connection_failed"),
    ],
    ids=lambda value: value["mode"] if isinstance(value, dict) else "",
)
def test_a_sign_in_whose_polls_fail_says_so_and_not_that_nobody_signed_in(
    office: Office, fault: dict[str, Any], code: str
) -> None:
    office.begin()
    office.approve()
    office.provider.inject_fault(**fault, times=None)
    for _ in range(3):
        office.poll()
    assert office.shown() == ("Waiting for authorisation", None, "sign_in_failing")
    assert office.status()["attention_code"] == code
    office.run_out()
    assert office.shown() == ("Not Retrieved", "provider_failed", None)
    assert (office.status()["code"], office.status()["failures"]) == (code, 3)
    exit_code, said = office.judged()
    assert (exit_code, "3 times in a row" in said, "nobody" in said) == (ExitCode.UNREACHABLE, True, False)


def test_a_grant_that_was_lost_on_its_way_is_a_lost_reply(office: Office) -> None:
    office.begin()
    office.approve()
    office.provider.inject_fault("answer_lost", grant_type=DEVICE_CODE_GRANT)
    office.poll()
    office.poll()
    assert office.shown() == ("Not Retrieved", "reply_lost", None)
    assert "A reply of the provider was lost" in office.judged()[1]


def test_a_sign_in_whose_registration_is_refused_says_so_at_the_first_poll(office: Office) -> None:
    office.begin()
    office.provider.inject_fault("error", error="invalid_client", status=401, error_codes=[7000218], times=None)
    office.poll()
    assert office.shown() == ("Waiting for authorisation", None, "client_registration")
    assert "(AADSTS7000218)" in office.said()
    office.run_out()
    assert office.shown() == ("Not Retrieved", "client_refused", None)
    assert office.judged()[0] == ExitCode.FAILED


def test_a_failure_that_passes_is_forgotten(office: Office) -> None:
    office.begin()
    office.provider.inject_fault("temporarily_unavailable", times=2)
    for _ in range(2):
        office.poll()
    office.poll()
    assert office.shown() == ("Waiting for authorisation", None, None)
    office.run_out()
    assert office.shown() == ("Not Retrieved", "expired_token", None)
    assert office.judged()[0] == ExitCode.FAILED


def test_a_grant_whose_keys_cant_be_read_is_told_and_counts_when_they_can(office: Office) -> None:
    office.begin()
    office.approve()
    office.provider.inject_fault("server_error", endpoint="jwks", times=None)
    office.poll()
    assert office.shown() == ("Waiting for authorisation", None, "sign_in_failing")
    office.run_out()
    assert office.shown()[2] == "sign_in_failing"
    assert "ID token" in office.judged()[1]
    assert office.judged()[0] == ExitCode.UNREACHABLE
    office.provider.clear_faults()
    office.poll()
    assert office.shown() == ("Retrieved", None, None)


# One voice


def test_an_account_that_is_not_available_is_renewed_only_if_there_is_something_to_renew(office: Office) -> None:
    office.provider.disable_account(SCAN)
    office.get()
    assert office.shown() == ("Not Retrieved", "account_not_available", None)
    assert "then get the token again" in office.said()
    assert "renew" not in office.judged()[1]


def test_status_show_and_renew_say_the_same_about_an_invalid_token(office: Office) -> None:
    office.get()
    office.provider.disable_account(SCAN)
    with pytest.raises(Failed) as renewed:
        office.renew()
    with pytest.raises(Refused) as shown:
        office.service.tokens.access_token(SMTP, None, "client")
    said = office.said()
    assert "AADSTS50057" in said
    assert "then renew the token" in said
    for error in (renewed.value, shown.value):
        assert said in error_text(error, Surface.COMMAND)


def test_a_refresh_token_that_is_refused_after_a_cut_reply_is_a_lost_reply(office: Office) -> None:
    office.get()
    office.provider.inject_fault("answer_lost", grant_type="refresh_token")
    with pytest.raises(Unreachable):
        office.renew()
    assert office.shown() == ("Retrieved", None, None)
    with pytest.raises(Failed):
        office.renew()
    assert office.shown() == ("Invalid", "reply_lost", "reply_lost")
    assert "A reply of the provider was lost" in office.said()

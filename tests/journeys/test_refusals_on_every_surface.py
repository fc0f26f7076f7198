"""What a provider's odd replies do, at a sign-in and at a renewal, and what each surface says about them.

Each case is a real reply over HTTPS to one service that all cases share; each has a machine of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contoso import FAX, SCAN, SCOPE, contoso_table
from fakes import FakeClock
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from surfaces import Surfaces, detail_of, surfaces_of

from adapters.bootstrap import open_service
from adapters.cli.service_socket import CommandError
from adapters.cli.sign_in_progress import judge
from adapters.error_kinds import ExitCode
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from infrastructure.config.load import load_config
from infrastructure.service import Service

SIGN_IN, RENEWAL, APP, APP_RENEWAL = "sign-in", "renewal", "app", "app renewal"
GRANT_TYPES = {
    SIGN_IN: DEVICE_CODE_GRANT,
    RENEWAL: "refresh_token",
    APP: "client_credentials",
    APP_RENEWAL: "client_credentials",
}
NOT_RETRIEVED, WAITING, RETRIEVED, INVALID = "Not Retrieved", "Waiting for authorisation", "Retrieved", "Invalid"
DONE, FAILED, UNREACHABLE = ExitCode.DONE, ExitCode.FAILED, ExitCode.UNREACHABLE
WORDS = "The practice provider was told to say so."


@dataclass(frozen=True)
class Case:
    """A fault of the provider at one point, the state of the token after it, and what is said about it.

    `shown` are the label, the reason and the attention. `says` is a pattern that the sentence on each surface has, or
    the empty text if nothing is said about the state. `error` is a pattern that the error of a renewal has.
    """

    seen: str
    at: str
    fault: Mapping[str, Any]
    shown: tuple[str, str | None, str | None]
    exit: ExitCode
    says: str = ""
    error: str = ""
    polls: int = 1
    runs_out: bool = False

    @property
    def has_words(self) -> bool:
        """Whether the provider says something of its own."""
        return str(self.fault["mode"]) == "error"


def error(error: str, *numbers: int, status: int = 400) -> dict[str, Any]:
    return {"mode": "error", "error": error, "error_codes": numbers, "status": status, "times": None}


def always(mode: str, **details: Any) -> dict[str, Any]:
    return {"mode": mode, "times": None, **details}


def at_both(seen: str, fault: dict[str, Any], reason: str, says: str, at_renewal: str | None = None) -> list[Case]:
    """A refusal that ends a sign-in, and that makes a token Invalid."""
    return [
        Case(seen, SIGN_IN, fault, (NOT_RETRIEVED, reason, None), FAILED, says),
        Case(seen, RENEWAL, fault, (INVALID, at_renewal or reason, at_renewal or reason), FAILED, says, says),
    ]


def misconfigured(seen: str, number: int, setting: str, says: str) -> list[Case]:
    """A refusal that ends a sign-in as a fault of the configuration, and that leaves a token as it is."""
    fault = error("invalid_request", number)
    return [
        Case(
            seen,
            SIGN_IN,
            fault,
            (NOT_RETRIEVED, "configuration", None),
            FAILED,
            rf"{says}.*, then get the token again\. \(AADSTS{number}\)",
        ),
        Case(
            seen,
            RENEWAL,
            fault,
            (RETRIEVED, None, "client_registration"),
            UNREACHABLE,
            rf"{says}.*(?<!the token again)\. \(AADSTS{number}\)",
            rf"\(AADSTS{number}\): correct .*{setting}.*; the token is unchanged",
        ),
    ]


def unanswered(seen: str, fault: dict[str, Any], code: str) -> list[Case]:
    """An answer that says nothing about the token: a sign-in goes on, then its end says so; a token is unchanged."""
    return [
        Case(seen, SIGN_IN, fault, (WAITING, None, "sign_in_failing"), UNREACHABLE, code, polls=2),
        Case(
            seen,
            SIGN_IN,
            fault,
            (NOT_RETRIEVED, "provider_failed", None),
            UNREACHABLE,
            rf"gave no answer that could be used: .* \({code}, 2 times in a row\)",
            polls=2,
            runs_out=True,
        ),
        Case(seen, RENEWAL, fault, (RETRIEVED, None, None), UNREACHABLE, error=rf"can't renew it now \({code}\)"),
    ]


NO_MAIL = always("edit", fields={"scope": "openid profile offline_access"})
NO_ADDRESS = {"preferred_username": None, "email": None}
AN_HOUR_AHEAD = {"iat": "an hour ahead"}

CASES = [
    # 1: what no parser reads
    Case(
        "1 payload",
        SIGN_IN,
        always("id_token", payload=b"[" * 30_000),
        (NOT_RETRIEVED, "id_token_invalid", None),
        FAILED,
        "ID token, which says who signed in, can't be read",
    ),
    Case("1 payload", RENEWAL, always("id_token", payload=b"[" * 30_000), (RETRIEVED, None, None), DONE),
    Case(
        "1 body",
        SIGN_IN,
        always("garbage", body="[" * 30_000),
        (WAITING, None, "reply_in_doubt"),
        UNREACHABLE,
        r"made no sense; it is kept, and the sign-in is tried again.*\(what answers is no JSON document\)",
    ),
    Case(
        "1 body",
        RENEWAL,
        always("garbage", body="[" * 30_000),
        (RETRIEVED, None, "reply_in_doubt"),
        UNREACHABLE,
        r"made no sense.*\(what answers is no JSON document\)",
        "makes no sense",
    ),
    # 2: the application's own credentials
    *(
        Case(
            f"2 {number}",
            APP,
            error("invalid_client", number, status=401),
            (NOT_RETRIEVED, reason, None),
            FAILED,
            rf"{says}.*, then get the token again\. \(AADSTS{number}\)",
        )
        for number, reason, says in (
            (7000222, "client_refused", "The client secret has expired"),
            (700016, "configuration", "correct client_id"),
            (70011, "configuration", "correct scopes"),
        )
    ),
    Case(
        "2 7000222",
        APP_RENEWAL,
        error("invalid_client", 7000222, status=401),
        (RETRIEVED, None, "client_registration"),
        UNREACHABLE,
        r"\(AADSTS7000222\)",
        r"\(AADSTS7000222\): correct client_secret_file",
    ),
    Case(
        "2 503",
        APP,
        always("temporarily_unavailable"),
        (WAITING, None, "sign_in_failing"),
        UNREACHABLE,
        r"no answer that could be used.*\(HTTP 503\)",
    ),
    Case("2 503", APP_RENEWAL, always("temporarily_unavailable"), (RETRIEVED, None, None), UNREACHABLE, "", "HTTP 503"),
    # 3: the mail scope
    Case(
        "3 scope",
        SIGN_IN,
        NO_MAIL,
        (NOT_RETRIEVED, "scope_not_granted", None),
        FAILED,
        rf"The mail permission was not granted.*\({SCOPE}\)",
    ),
    Case("3 scope", RENEWAL, NO_MAIL, (RETRIEVED, None, "scope_missing"), DONE, "lacks the mail permission"),
    # 4: polls that fail
    *unanswered("4 HTML 403", always("garbage", status=403), "HTTP 403"),
    *unanswered("4 redirect", always("redirect", location="https://portal.contoso.com/"), "HTTP 302"),
    *unanswered("4 503", always("temporarily_unavailable"), "HTTP 503"),
    *unanswered("4 no answer", always("hang", seconds=0.0), "the connection failed"),
    Case(
        "4 lost",
        RENEWAL,
        always("answer_lost"),
        (RETRIEVED, None, None),
        UNREACHABLE,
        error="the connection failed",
    ),
    Case(
        "4 keys",
        SIGN_IN,
        always("server_error", endpoint="jwks"),
        (WAITING, None, "sign_in_failing"),
        UNREACHABLE,
        "the keys that its ID token is checked with can't be had now",
    ),
    Case(
        "4 7000218",
        SIGN_IN,
        error("invalid_client", 7000218, status=401),
        (WAITING, None, "client_registration"),
        UNREACHABLE,
        r"Allow public client flows.*\(AADSTS7000218\)",
    ),
    Case(
        "4 7000218",
        SIGN_IN,
        error("invalid_client", 7000218, status=401),
        (NOT_RETRIEVED, "client_refused", None),
        FAILED,
        r"Allow public client flows.*\(AADSTS7000218\)",
        runs_out=True,
    ),
    # 5: the address is nowhere
    Case(
        "5 claims",
        SIGN_IN,
        always("id_token", claims=NO_ADDRESS),
        (NOT_RETRIEVED, "id_token_invalid", None),
        FAILED,
        "does not say the address of the account.*account_claims",
    ),
    Case("5 claims", RENEWAL, always("id_token", claims=NO_ADDRESS), (RETRIEVED, None, None), DONE),
    # 6: who signed in
    Case(
        "6 another",
        RENEWAL,
        always("id_token", claims={"sub": "somebody-else", "preferred_username": FAX}),
        (RETRIEVED, None, "renewed_for_another_account"),
        UNREACHABLE,
        f"The last renewal was for {FAX} and not for {SCAN}",
        f"renewed the token for {FAX}, not for {SCAN}",
    ),
    Case(
        "6 renamed",
        RENEWAL,
        always("id_token", claims={"preferred_username": "scanner@contoso.com"}),
        (RETRIEVED, None, "account_has_new_address"),
        DONE,
        f"{SCAN} has the address scanner@contoso.com at the provider now: take it over",
    ),
    # 7: numbers
    *at_both(
        "7 50020", error("invalid_request", 50020), "account_not_available", r"not in the tenant.*\(AADSTS50020\)"
    ),
    *at_both("7 50126", error("invalid_request", 50126), "interaction_required", r"\(AADSTS50126\)"),
    *misconfigured("7 50128", 50128, "tenant", "correct tenant or issuer"),
    *at_both("7 53011", error("invalid_request", 53011), "policy", r"\(AADSTS53011\)"),
    *at_both("7 530003", error("invalid_request", 530003), "policy", r"\(AADSTS530003\)"),
    *at_both("7 700003", error("invalid_request", 700003), "policy", r"\(AADSTS700003\)"),
    *at_both("7 7000012", error("invalid_request", 7000012), "code_rejected", r"\(AADSTS7000012\)", "invalid_grant"),
    *at_both("7 90072", error("invalid_request", 90072), "account_not_available", r"\(AADSTS90072\)"),
    *misconfigured("7 500011", 500011, "scopes", "correct scopes"),
    *misconfigured("7 650057", 650057, "scopes", "correct scopes"),
    *misconfigured("7 900144", 900144, "", "in the configuration"),
    *misconfigured("7 9002326", 9002326, "redirect_uri", "moved from Single-page application"),
    *at_both("7 50199", error("invalid_request", 50199), "interaction_required", r"\(AADSTS50199\)"),
    Case(
        "7 7000112",
        SIGN_IN,
        error("unauthorized_client", 7000112),
        (WAITING, None, "client_registration"),
        UNREACHABLE,
        r"\(AADSTS7000112\)",
    ),
    Case(
        "7 7000112",
        RENEWAL,
        error("unauthorized_client", 7000112),
        (RETRIEVED, None, "client_registration"),
        UNREACHABLE,
        r"\(AADSTS7000112\)",
        r"\(AADSTS7000112\): correct client_id;",
    ),
    Case(
        "7 9002313",
        SIGN_IN,
        error("invalid_request", 9002313),
        (WAITING, None, "unknown_error"),
        UNREACHABLE,
        r"an error that Mailtoken does not know.*\(AADSTS9002313\)",
    ),
    Case(
        "7 9002313",
        RENEWAL,
        error("invalid_request", 9002313),
        (RETRIEVED, None, "unknown_error"),
        UNREACHABLE,
        r"an error that Mailtoken does not know.*\(AADSTS9002313\)",
        r"\(AADSTS9002313\)",
    ),
    # 8: two numbers
    *at_both("8", error("invalid_grant", 70002, 70008), "code_rejected", r"\(AADSTS70008\)", "invalid_grant"),
    # 9: keys
    Case(
        "9 signature",
        SIGN_IN,
        always("id_token", forged=True),
        (NOT_RETRIEVED, "id_token_invalid", None),
        FAILED,
        "No key of the provider has signed.*public-key algorithm",
    ),
    Case("9 signature", RENEWAL, always("id_token", forged=True), (RETRIEVED, None, None), DONE),
    Case(
        "9 no key",
        SIGN_IN,
        always("edit", endpoint="jwks", fields={"keys": []}),
        (NOT_RETRIEVED, "id_token_invalid", None),
        FAILED,
        "No key of the provider has signed.*public-key algorithm",
    ),
    # 10: no refresh token
    Case(
        "10",
        SIGN_IN,
        always("no_refresh_token"),
        (RETRIEVED, None, "not_renewable"),
        DONE,
        r"gave no refresh token.*It ends at \d{4}-\d\d-\d\d \d\d:\d\d UTC\.",
    ),
    Case("10", RENEWAL, always("no_refresh_token"), (RETRIEVED, None, None), DONE),
    # 12: sentences
    Case(
        "12 account",
        SIGN_IN,
        error("invalid_grant", 50057),
        (NOT_RETRIEVED, "account_not_available", None),
        FAILED,
        "have it enabled, then get the token again",
    ),
    Case(
        "12 account",
        RENEWAL,
        error("invalid_grant", 50057),
        (INVALID, "account_not_available", "account_not_available"),
        FAILED,
        "have it enabled, then renew the token",
        "have it enabled, then renew the token",
    ),
    *at_both("12 50055", error("invalid_grant", 50055), "account_not_available", "The password .* has expired"),
    *at_both("12 700084", error("invalid_grant", 700084), "code_rejected", "single-page application", "invalid_grant"),
    *at_both("12 53003", error("invalid_grant", 53003), "policy", "device codes only: get the token with .*browser"),
    *misconfigured("12 50011", 50011, "redirect_uri", "have the redirect URI added"),
    *misconfigured("12 700025", 700025, "client_secret_file", "take client_secret_file"),
    Case(
        "12 clock",
        SIGN_IN,
        always("id_token", claims=AN_HOUR_AHEAD),
        (NOT_RETRIEVED, "id_token_invalid", None),
        FAILED,
        r"The clock of this machine is 3[56]\d\d seconds behind the provider's",
    ),
    Case("12 lifetime", RENEWAL, always("expires_in", value=3_600_000), (RETRIEVED, None, None), DONE),
    # 14: who is taken for whom
    Case(
        "14 Kelvin sign",
        SIGN_IN,
        always("id_token", claims={"preferred_username": "mi\u212ae@contoso.com"}),
        (NOT_RETRIEVED, "wrong_account", None),
        FAILED,
        f"mi\u212ae@contoso.com signed in where {SCAN} was asked for",
    ),
    Case(
        "14 not verified",
        SIGN_IN,
        always("id_token", claims={**NO_ADDRESS, "email": SCAN, "email_verified": "false"}),
        (NOT_RETRIEVED, "id_token_invalid", None),
        FAILED,
        "does not say the address of the account",
    ),
]


@dataclass
class Office:
    """One service for all cases, the provider it uses, and the clock that both go by."""

    service: Service
    provider: FaultyProvider
    clock: FakeClock
    surfaces: Surfaces
    machines: int = 0

    def add(self) -> str:
        """A setting of a new machine."""
        self.machines += 1
        machine = f"m{self.machines}"
        self.service.settings.add_machine(machine, "generic", "administrator:root")
        name = f"{machine}/smtp"
        self.service.settings.set_profile(name, {"provider": "contoso", "account": SCAN}, "administrator:root")
        return name

    def begin(self, name: str, flow: str) -> str:
        """Begin a sign-in, approved by the person of the account; the id of the attempt."""
        answer, problem = self.surfaces.ask("POST", f"/profiles/{name}/token", {"flow": flow})
        assert problem is None, answer
        started = answer.body
        if flow == "device":
            browser_user.approve(started["verification_uri"], started["user_code"], SCAN, self.provider.ca_file)
        return str(started["attempt_id"])

    def poll(self, name: str) -> None:
        self.clock.step(seconds=30)
        self.service.tokens.poll(self.service.tokens.status(name).profile.token_id)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    directory, clock = tmp_path_factory.mktemp("office"), FakeClock()
    ca = PracticeCA.create(directory / "ca")
    with FaultyProvider(ca, interval=5, access_token_length=64, now=clock.now) as provider, ExitStack() as opened:
        config: Path = initialise(directory / "house").config
        (config.parent / "secret").write_text(provider.client_secret)
        with config.open("a") as file:
            file.write(contoso_table(provider))
        service = opened.enter_context(open_service(load_config(config), clock=clock))
        surfaces = opened.enter_context(surfaces_of(service, config))
        yield Office(service, provider, clock, surfaces)


@pytest.fixture
def office(shared: Office) -> Iterator[Office]:
    """The office, with a provider that does not remember its keys and behaves again after the test."""
    provider = shared.service.tokens._exchange.providers["contoso"]
    provider._http.documents._replies.clear()  # type: ignore[attr-defined]
    yield shared
    shared.provider.clear_faults()
    name = f"m{shared.machines}/smtp"
    if shared.surfaces.status(name)["token"] == WAITING:
        shared.service.tokens.cancel(name, "administrator:root")
    if shared.surfaces.status(name)["token"] != NOT_RETRIEVED:
        shared.service.tokens.delete(name, "administrator:root")


def carry_out(office: Office, name: str, case: Case) -> tuple[int, str, str]:
    """Let the fault happen; the exit code, the command's sentence and the API's, both empty where all went well."""
    fault = {"grant_type": GRANT_TYPES[case.at], **case.fault}
    if "endpoint" in fault:
        del fault["grant_type"]
    if fault.get("claims") == AN_HOUR_AHEAD:
        fault["claims"] = {"iat": int(office.clock.now().timestamp()) + 3600, "exp": 1}
    flow = "app" if case.at in (APP, APP_RENEWAL) else "device"
    if case.at in (RENEWAL, APP_RENEWAL):
        office.begin(name, flow)
        office.poll(name)
        office.provider.inject_fault(**fault)
        office.clock.step(minutes=1)
        answer, problem = office.surfaces.ask("POST", f"/profiles/{name}/token/renew")
        return (problem.exit_code, str(problem), detail_of(answer)) if problem else (DONE, "", "")
    if flow == "app":
        office.provider.inject_fault(**fault)
        attempt_id = office.begin(name, flow)
    else:
        attempt_id = office.begin(name, flow)
        office.provider.inject_fault(**fault)
        for _ in range(case.polls):
            office.poll(name)
    if case.runs_out:
        office.clock.step(minutes=20)
        office.poll(name)
    try:
        judge(office.surfaces.status(name), attempt_id)
    except CommandError as ended:
        return ended.exit_code, str(ended), ""
    return DONE, "", ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.seen} at {case.at}{' over' * case.runs_out}")
def test_a_refusal_has_its_state_and_every_surface_says_the_same(office: Office, case: Case) -> None:
    name = office.add()
    code, command, detail = carry_out(office, name, case)

    status = office.surfaces.status(name)
    assert (status["token"], status["reason"], status["attention"]) == case.shown
    assert code == case.exit

    if case.at in (RENEWAL, APP_RENEWAL):
        assert bool(command) is bool(case.error)
        for sentence in filter(None, (command, detail)):
            assert re.search(case.error, sentence), sentence
    elif code != DONE:
        assert re.search(case.says, command), command

    _, on_terminal = office.surfaces.command("status", name)
    on_page = office.surfaces.page(f"/settings/{name}")
    assert "mailtoken token" not in on_page
    for said in (on_terminal, on_page):
        assert re.search(case.says, said), said
    on_attention = office.surfaces.page("/attention")
    if case.shown[2]:
        assert re.search(case.says, on_attention), on_attention

    told = [status["provider_reply"]] if case.has_words else []
    assert all(WORDS in reply["words"] for reply in told)
    if case.has_words:
        places = [on_terminal, on_page, command, *([detail] if detail else []), *([on_attention] * bool(case.shown[2]))]
        assert [WORDS in place for place in places] == [True] * len(places)


@pytest.mark.parametrize(
    ("fault", "exit_code", "says"),
    [
        (
            error("invalid_client", 7000218, status=401),
            FAILED,
            r"contoso gives no device code \(AADSTS7000218\): correct its client_secret_file",
        ),
        (
            always("edit", fields={"verification_uri": "http://login.contoso.com/device"}),
            FAILED,
            r"sends people to an address without https \(http://login\.contoso\.com/device\): have the provider's",
        ),
        (always("temporarily_unavailable"), UNREACHABLE, r"contoso gave no device code \(HTTP 503\): try again"),
    ],
    ids=["7000218", "http", "503"],
)
def test_a_sign_in_that_does_not_begin_says_why_and_changes_nothing(
    office: Office, fault: dict[str, Any], exit_code: ExitCode, says: str
) -> None:
    name = office.add()
    office.provider.inject_fault(**fault, endpoint="device_authorization")
    code, command = office.surfaces.command("token", "get", name, "--yes", "--no-wait")
    assert (code, bool(re.search(says, command))) == (exit_code, True), command
    answer, _ = office.surfaces.ask("POST", f"/profiles/{name}/token", {"flow": "device"})
    assert re.search(says, detail_of(answer)), answer
    if fault["mode"] == "error":
        assert WORDS in command
        assert WORDS in answer.body["fields"]["provider_words"]
    assert office.surfaces.status(name)["token"] == NOT_RETRIEVED


def test_the_words_are_shown_by_token_show_and_forgotten_once_the_token_is_retrieved(office: Office) -> None:
    name = office.add()
    office.begin(name, "device")
    office.poll(name)
    office.provider.inject_fault(**error("invalid_grant", 50057), grant_type="refresh_token")
    code, command = office.surfaces.command("token", "renew", name)
    assert (code, WORDS in command) == (FAILED, True)
    code, command = office.surfaces.command("token", "show", name)
    assert (code, WORDS in command) == (ExitCode.REFUSED, True)
    events = office.surfaces.api.get("/api/v1/audit/log")
    assert WORDS not in str(events)
    office.provider.clear_faults()
    assert office.surfaces.command("token", "renew", name)[0] == DONE
    assert office.surfaces.status(name)["provider_reply"] is None


def test_the_words_of_a_deleted_token_are_forgotten(office: Office) -> None:
    name = office.add()
    office.begin(name, "device")
    office.poll(name)
    office.provider.inject_fault(**error("invalid_grant", 50057), grant_type="refresh_token")
    assert office.surfaces.command("token", "renew", name)[0] == FAILED
    assert office.surfaces.status(name)["provider_reply"]["code"] == "AADSTS50057"
    office.service.tokens.delete(name, "administrator:root")
    assert office.surfaces.status(name)["provider_reply"] is None

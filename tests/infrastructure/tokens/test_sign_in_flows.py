"""The browser flow and the application's own flow, through the use cases."""

from __future__ import annotations

import pytest
from fakes import FAX, SERVER_ERROR, FakeClock, FakeProvider, Services, error

from domain.errors import InvalidValue, Refused, Unreachable

SETTING = "office-mfp/smtp-service"
BACK = "http://localhost:50000/"


def redirect(started_uri: str) -> str:
    """Where the provider sends the browser back to: the parameter `state` is that of this attempt."""
    state = started_uri.rpartition("state=")[2]
    return f"{BACK}?code=spent-once&state={state}"


@pytest.fixture
def machine(service: Services) -> Services:
    service.add_machine()
    return service


def begin(service: Services) -> str:
    started = service.tokens.request(SETTING, "browser", "operator", BACK)
    assert started.user_code is None
    assert started.authorization_uri
    return started.authorization_uri


def test_a_browser_sign_in_waits_and_its_redirect_brings_the_token_to_all_linked_settings(
    machine: Services, provider: FakeProvider
) -> None:
    uri = begin(machine)
    assert machine.label("office-mfp/smtp-quick") == "Waiting for authorisation"
    provider.approve()
    machine.tokens.complete(SETTING, redirect(uri))
    assert {machine.label(f"office-mfp/smtp-{place}") for place in ("service", "alert", "quick", "initial")} == {
        "Retrieved"
    }
    assert machine.label("office-mfp/pop-email-print") == "Not Retrieved"
    assert machine.audit.verify().findings == ()


def test_a_redirect_of_another_attempt_is_refused_and_the_attempt_goes_on(
    machine: Services, provider: FakeProvider
) -> None:
    uri = begin(machine)
    provider.approve()
    with pytest.raises(InvalidValue) as refused:
        machine.tokens.complete(SETTING, f"{BACK}?code=stolen&state=another")
    assert "stolen" not in str(refused.value)
    assert machine.label(SETTING) == "Waiting for authorisation"
    machine.tokens.complete(SETTING, redirect(uri))
    assert machine.label(SETTING) == "Retrieved"


def test_a_browser_sign_in_survives_a_restart(machine: Services, provider: FakeProvider) -> None:
    uri = begin(machine)
    after = machine.restart()
    after.tokens.recover()
    assert after.tokens.under_way(SETTING).authorization_uri == uri
    provider.approve()
    after.tokens.complete(SETTING, redirect(uri))
    assert after.label(SETTING) == "Retrieved"


def test_a_code_that_could_not_be_redeemed_can_be_redeemed_again(machine: Services, provider: FakeProvider) -> None:
    uri = begin(machine)
    provider.approve()
    provider.answers(SERVER_ERROR)
    with pytest.raises(Unreachable):
        machine.tokens.complete(SETTING, redirect(uri))
    assert machine.label(SETTING) == "Waiting for authorisation"
    machine.tokens.complete(SETTING, redirect(uri))
    assert machine.label(SETTING) == "Retrieved"


def test_somebody_else_in_the_browser_is_refused_with_both_names(machine: Services, provider: FakeProvider) -> None:
    uri = begin(machine)
    provider.approve(FAX)
    machine.tokens.complete(SETTING, redirect(uri))
    status = machine.tokens.status(SETTING)
    assert (status.token.reason, status.token.signed_in_as) == ("wrong_account", FAX)
    assert machine.label(SETTING) == "Not Retrieved"


def test_a_redirect_without_a_browser_sign_in_is_refused(machine: Services) -> None:
    with pytest.raises(Refused, match="no_browser_sign_in"):
        machine.tokens.complete(SETTING, f"{BACK}?code=x&state=y")
    machine.tokens.request(SETTING, "device", "operator")
    with pytest.raises(Refused, match="no_browser_sign_in"):
        machine.tokens.complete(SETTING, f"{BACK}?code=x&state=y")


def test_a_browser_has_to_come_back_somewhere(machine: Services) -> None:
    with pytest.raises(InvalidValue, match="redirect_uri: redirect_uri_missing"):
        machine.tokens.request(SETTING, "browser", "operator")
    assert machine.label(SETTING) == "Not Retrieved"


def test_a_browser_sign_in_that_nobody_finishes_runs_out(machine: Services, clock: FakeClock) -> None:
    begin(machine)
    token_id = machine.tokens.status(SETTING).profile.token_id
    assert machine.tokens.poll(token_id) == 10.0
    clock.step(minutes=16)
    assert machine.label(SETTING) == "Not Retrieved"
    assert machine.tokens.poll(token_id) is None
    assert machine.tokens.status(SETTING).token.reason == "expired_token"
    assert machine.audit.verify().findings == ()


def test_an_application_gets_its_token_at_once_and_nobody_signs_in(machine: Services, provider: FakeProvider) -> None:
    started = machine.tokens.request(SETTING, "app", "operator")
    assert (started.user_code, started.authorization_uri) == (None, None)
    assert machine.label("office-mfp/smtp-initial") == "Retrieved"
    assert provider.requests == ["app"]
    assert machine.audit.verify().findings == ()


def test_an_application_renews_by_asking_again(machine: Services, provider: FakeProvider, clock: FakeClock) -> None:
    machine.tokens.request(SETTING, "app", "operator")
    clock.step(minutes=59)
    assert machine.label(SETTING) == "Retrieved"
    machine.access_token(SETTING)
    assert provider.requests == ["app", "app"]
    clock.step(hours=5)
    assert machine.label(SETTING) == "Retrieved"


def test_an_application_that_is_refused_is_not_retrieved_with_the_reason(
    machine: Services, provider: FakeProvider
) -> None:
    provider.answers(error("access_denied"))
    machine.tokens.request(SETTING, "app", "operator")
    status = machine.tokens.status(SETTING)
    assert (machine.label(SETTING), status.token.attempt) == ("Not Retrieved", None)
    assert status.token.reason is not None


def test_an_application_whose_provider_is_down_is_asked_for_again_by_the_worker(
    machine: Services, provider: FakeProvider
) -> None:
    provider.answers(SERVER_ERROR)
    machine.tokens.request(SETTING, "app", "operator")
    assert machine.label(SETTING) == "Waiting for authorisation"
    machine.tokens.poll(machine.tokens.status(SETTING).profile.token_id)
    assert machine.label(SETTING) == "Retrieved"


def test_a_flow_the_provider_does_not_have_names_those_it_has(machine: Services, provider: FakeProvider) -> None:
    provider.flows = ("browser",)
    with pytest.raises(InvalidValue) as refused:
        machine.tokens.request(SETTING, "device", "operator")
    assert (refused.value.field, refused.value.code) == ("flow", "unknown_flow")
    assert refused.value.fields == {"value": "device", "provider": "contoso", "known": ["browser"]}

"""SIGHUP: the service reads its configuration again, and loses no token, request or setting by it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest
from practice_faults.provider import FaultyProvider
from service_process import NOT_RETRIEVED, RETRIEVED, SMTP, ServiceProcess
from waiting import in_background, wait_until

MakeService = Callable[..., ServiceProcess]

_LONGER_THAN_REQUESTS_HAVE_AT_A_STOP_SECONDS = 12.0
_FABRIKAM = """
[providers.fabrikam]
kind = "google"
client_id = "mailtoken-at-fabrikam"
"""


@pytest.fixture
def service(make_service: MakeService) -> ServiceProcess:
    service = make_service(kind="oidc")
    service.add_printer()
    service.get_token()
    return service


def add(service: ServiceProcess, text: str) -> None:
    """Append to the configuration and send SIGHUP."""
    with service.config.open("a") as config:
        config.write(text)
    os.kill(service.pid, signal.SIGHUP)


def providers(service: ServiceProcess) -> list[str]:
    return [provider["name"] for provider in service.ask("GET", "/api/v1/providers")]


def logged(service: ServiceProcess, event: str) -> int:
    return service.log.read_text().count(event)


def test_a_new_provider_can_be_used_and_the_process_stays(service: ServiceProcess) -> None:
    pid, token = service.pid, service.access_token().body["access_token"]
    add(service, _FABRIKAM)
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")
    assert (service.pid, service.access_token().body["access_token"]) == (pid, token)
    service.ask("PATCH", "/api/v1/profiles/office-mfp/pop-internet-fax", {"provider": "fabrikam"})
    assert service.stop() == 0


def test_a_configuration_with_a_fault_changes_nothing_and_is_said(service: ServiceProcess) -> None:
    add(service, f"{_FABRIKAM}colour = 3\n")
    wait_until(lambda: logged(service, "configuration_not_reloaded"), "the fault is logged")
    assert (providers(service), service.status()["token"]) == (["contoso"], RETRIEVED)
    service.config.write_text(service.config.read_text().replace("colour = 3\n", ""))
    add(service, "")
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")


def test_another_store_waits_for_a_restart_and_the_rest_is_taken(service: ServiceProcess) -> None:
    text = service.config.read_text()
    service.config.write_text(text.replace("[store]\n", '[store]\nescrow = "other"\n'))
    add(service, _FABRIKAM)
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")
    assert logged(service, "restart_needed") == 1
    assert not (service.directory / "other").exists()


def test_a_renewal_under_way_at_a_provider_that_rotates_ends_first(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    practice.rules.refresh = "rotate"
    reply = practice.hold(grant_type="refresh_token")
    renewal = in_background(service.renew)
    reply.wait_until_held(60)
    add(service, _FABRIKAM)
    reply.release()
    assert renewal.result(60).status == 200
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")
    assert service.renew().status == 200
    assert service.status(SMTP)["token"] == RETRIEVED


def test_a_renewal_that_takes_long_is_waited_for_and_the_service_answers_meanwhile(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    practice.rules.refresh = "rotate"
    reply = practice.hold(grant_type="refresh_token")
    renewal = in_background(service.renew)
    reply.wait_until_held(60)
    add(service, _FABRIKAM)
    until = time.monotonic() + _LONGER_THAN_REQUESTS_HAVE_AT_A_STOP_SECONDS
    while time.monotonic() < until:
        assert service.status()["token"] == RETRIEVED
    assert providers(service) == ["contoso"]
    reply.release()
    assert renewal.result(60).status == 200
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")
    assert service.renew().status == 200


def test_an_address_that_is_taken_leaves_the_old_configuration_and_the_next_reload_works(
    service: ServiceProcess,
) -> None:
    text = service.config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service.config.write_text(
            text.replace("[server]\n", f'[server]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        )
        add(service, _FABRIKAM)
        wait_until(lambda: logged(service, "reload_failed"), "the reload has failed")
        assert (providers(service), service.status()["token"]) == (["contoso"], RETRIEVED)
    service.config.write_text(text)
    add(service, _FABRIKAM)
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")
    assert service.stop() == 0


def test_requests_that_come_during_reloads_are_all_answered(service: ServiceProcess) -> None:
    answers = []
    for number in range(5):
        add(service, _FABRIKAM.replace("providers.fabrikam", f"providers.fabrikam{number}"))
        answers += [service.access_token().status for _ in range(20)]
    assert set(answers) == {200}
    wait_until(lambda: len(providers(service)) == 6, "the last reload is over")


def test_a_provider_renamed_in_the_file_is_said_everywhere_until_its_tokens_follow(
    service: ServiceProcess, practice: FaultyProvider
) -> None:
    text = service.config.read_text().replace("[providers.contoso]", "[providers.entra]")
    service.config.write_text(f'{text}[send]\nprofile = "{SMTP}"\n')
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: providers(service) == ["entra"], "the provider has its new name")
    assert service.status()["attention"] == "provider_left"
    assert service.run("status", "--check").returncode == 1
    assert "contoso" in service.run("config", "check").stderr
    wait_until(lambda: logged(service, "provider_left"), "the start says it")
    refused = service.run("provider", "rename", "contoso", "nowhere")
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
    assert "entra" in service.done("provider", "rename", "contoso", "entra")
    assert service.status()["attention"] is None
    assert service.renew().status == 200
    assert service.run("config", "check").stderr == ""
    renamed = service.run("machine", "rename", "office-mfp", "lobby-mfp")
    assert (renamed.returncode, "[send] profile" in renamed.stderr) == (0, True)
    assert service.renew("lobby-mfp/smtp-service").status == 200


def test_a_changed_client_id_ends_the_sign_ins_under_way_and_no_token(service: ServiceProcess) -> None:
    pop = "office-mfp/pop-internet-fax"
    service.request(pop)
    text = service.config.read_text()
    service.config.write_text(text.replace('client_id = "', 'client_id = "new-'))
    add(service, "")
    ended = service.wait_for(NOT_RETRIEVED, pop)
    assert ended["reason"] == "client_changed"
    assert service.status(SMTP)["token"] == RETRIEVED
    add(service, _FABRIKAM)
    wait_until(lambda: providers(service) == ["contoso", "fabrikam"], "the provider is there")

"""File descriptors run out: the service says so, does not spin, and goes on when there are some again."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
from file_descriptors import few_descriptors, open_files, share_of_a_processor
from service_process import RETRIEVED, ServiceProcess
from waiting import wait_until

from adapters.cli.service_socket import connect

MakeService = Callable[..., ServiceProcess]


def serves(service: ServiceProcess) -> bool:
    """Whether the service gives an access token; a connection that it took too late for the limit is reset."""
    with suppress(OSError, http.client.HTTPException):
        return service.access_token().status == 200
    return False


@pytest.mark.needs("root")  # another process's descriptors are not for its own user, as it can't be dumped
def test_a_service_without_descriptors_does_not_spin_and_goes_on_when_clients_leave(make_service: MakeService) -> None:
    service = make_service(kind="oidc")
    service.add_printer()
    service.get_token()
    with few_descriptors(service.pid) as most:
        with ExitStack() as clients:
            for _ in range(40):
                clients.enter_context(connect(service.socket, 60))
            wait_until(lambda: open_files(service.pid) >= most - 1, "it has no descriptor left")
            wait_until(lambda: "descriptors_few" in service.log.read_text(), "the log says so")
            assert share_of_a_processor(service.pid, 3) < 0.5
        wait_until(lambda: serves(service), "it serves again")
        assert service.call("GET", "/healthz").status == 503
    wait_until(lambda: service.call("GET", "/healthz").status == 200, "it is healthy")
    wait_until(lambda: "descriptors_enough" in service.log.read_text(), "the log says so")
    assert service.renew().status == 200
    assert service.status()["token"] == RETRIEVED
    assert service.findings() == ()

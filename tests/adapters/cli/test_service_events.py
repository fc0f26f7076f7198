"""Status changes over the service's own socket, from one process to another."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_process import ServiceProcess


@contextmanager
def events_of(path: Path) -> Iterator[http.client.HTTPResponse]:
    """What the service at this socket tells."""
    connection = http.client.HTTPConnection("mailtoken")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(path))
    connection.request("GET", "/api/v1/events")
    yield connection.getresponse()
    connection.close()


def next_of(answer: http.client.HTTPResponse, kind: str) -> dict[str, object]:
    """The data of the next event, which has to be of this kind."""
    lines: list[str] = []
    while (line := answer.readline().decode().rstrip("\n")) or not any(one.startswith("event") for one in lines):
        lines.append(line)
    event = dict(one.partition(": ")[::2] for one in lines if one)
    assert event["event"] == kind
    data: dict[str, object] = json.loads(event["data"])
    return data


def test_a_change_by_another_process_is_told_and_the_end_of_the_service_ends_the_answer(
    own_service: ServiceProcess,
) -> None:
    own_service.start()
    with events_of(own_service.socket) as answer:
        next_of(answer, "ready")
        own_service.done("machine", "add", "press")
        added = next_of(answer, "status")
        assert added["event"] == "Profile.Created"
        assert [one["profile"] for one in added["statuses"]] == ["press/smtp"]  # type: ignore[attr-defined]
        own_service.stop()
        rest = answer.read().decode()
        assert rest.count("event: status") >= 2
        assert rest.endswith("\n\n"), "it is whole: an answer that is cut off raises"

"""The relay beside a queue that people use in its place: the client's wait for 250, delivery, and messages a second.

Both have the same client, which comes from their network without a password, and the same submission server behind
them. A queue says 250 before it has delivered, the relay after it: what may be no later is delivery.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from peer_service import OfficeService
from ports import answers, free_ports
from practice_faults.provider import FaultyProvider
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from bench.mail_queues import Queue, running_exim, running_postfix
from bench.material import ACCOUNT
from bench.rounds import Figure, Size, figure
from bench.submission_server import SubmissionServer, submission_server

_RELAY = """
[relay]
listen = ["smtp://127.0.0.1:{port}"]
connections_per_address = 100
"""
_SIGN_IN_SECONDS = {"sign-in at once": 0.0, "sign-in of a second": 1.0}
"""What a sign-in at the submission server takes; at Exchange Online it is 0.8 to 1.2 seconds."""
_ALONE, _CLIENTS = 5, 8
"""Messages that one client sends in a round, one after the other, and clients that send as many each at once."""
_PATIENCE_SECONDS = 60
_numbers = count(1)


@dataclass(frozen=True)
class _Sent:
    """What a round took: the median seconds to the client's 250 and to delivery, and the messages in a second."""

    to_reply: float
    to_delivery: float
    per_second: float


def postfix_queue(directory: Path, size: Size) -> Iterator[Figure]:
    """Beside Postfix as a smarthost.

    Raises:
        NoQueue: there is none here.
    """
    yield from _queue(directory, size, "Postfix", running_postfix)


def exim_queue(directory: Path, size: Size) -> Iterator[Figure]:
    """Beside Exim; raises as `postfix_queue`."""
    yield from _queue(directory, size, "Exim", running_exim)


def _queue(directory: Path, size: Size, name: str, queue: Queue) -> Iterator[Figure]:
    ca = PracticeCA.create(directory / "ca")
    for sign_in, seconds in _SIGN_IN_SECONDS.items():
        with (
            submission_server(ca, seconds) as server,
            queue(server.port, ca.ca_file) as queue_port,
            _running_relay(directory / sign_in.replace(" ", "-"), ca, server.port) as relay_port,
        ):
            ours, peer = _turns((relay_port, queue_port), server, size.mail_rounds)
        yield from _figures(f"relay beside {name}, {sign_in}", name, ours, peer)


@contextmanager
def _running_relay(directory: Path, ca: PracticeCA, server_port: int) -> Iterator[int]:
    """A service with a token for the submission server, and the relay; its port."""
    with ExitStack() as stack:
        provider = stack.enter_context(FaultyProvider(ca, interval=1))
        port = free_ports("relay")["relay"]
        service_process = OfficeService(directory, provider, _RELAY.format(port=port))
        stack.callback(service_process.end)
        service_process.start(forked=False)
        profiles = service_process.add_machine("printers", smtp={"port": server_port, "tls": "starttls"})
        service_process.get_tokens(profiles)
        body = {"name": "printers", "profiles": profiles, "networks": ["127.0.0.0/8"]}
        service_process.service.post("/api/v1/relay/users", body)
        log = directory / "relay.log"
        process = service_process.begin("relay", log=log, forked=False)
        stack.callback(process.wait)
        stack.callback(process.terminate)

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            return answers(port)

        wait_until(listens, "the relay listens")
        yield port


def _turns(ports: Sequence[int], server: SubmissionServer, rounds: int) -> tuple[list[_Sent], ...]:
    """Send through each port in turns, and once without counting it; who begins changes."""
    sent: tuple[list[_Sent], ...] = tuple([] for _ in ports)
    for number in range(-1, rounds):
        for at in range(len(ports)):
            which = (at + number) % len(ports)
            one = _round(ports[which], server)
            if number >= 0:
                sent[which].append(one)
    return sent


def _round(port: int, server: SubmissionServer) -> _Sent:
    alone = _send(port, _ALONE)
    to_delivery = [accepted - began for _, began, accepted in _delivered(alone, server)]
    began = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        sent = [one for some in clients.map(partial(_send, port), [_ALONE] * _CLIENTS) for one in some]
    ended = max(accepted for _, _, accepted in _delivered(sent, server))
    to_reply = median(replied - began for _, began, replied in alone)
    return _Sent(to_reply, median(to_delivery), len(sent) / (ended - began))


def _send(port: int, messages: int) -> list[tuple[str, float, float]]:
    """Send messages as a device does, one a session: each one's subject, its begin, and when it was accepted here."""
    sent = []
    for _ in range(messages):
        subject, began = f"Scan {next(_numbers)}", time.monotonic()
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client", timeout=_PATIENCE_SECONDS) as client:
            client.sendmail(
                ACCOUNT, ["somebody@example.org"], f"From: {ACCOUNT}\r\nSubject: {subject}\r\n\r\nPage one\r\n"
            )
            sent.append((subject, began, time.monotonic()))
    return sent


def _delivered(sent: Sequence[tuple[str, float, float]], server: SubmissionServer) -> list[tuple[str, float, float]]:
    """Wait until the server has all of them: each one's subject, its begin, and when the server accepted it."""
    accepted: dict[str, float] = {}

    def has_all() -> bool:
        accepted.update(server.accepted())
        return all(subject in accepted for subject, _, _ in sent)

    wait_until(has_all, "every message is delivered")
    return [(subject, began, accepted[subject]) for subject, began, _ in sent]


def _figures(name: str, peer_name: str, ours: Sequence[_Sent], peer: Sequence[_Sent]) -> Iterator[Figure]:
    def compared(what: str, unit: str, of: Callable[[_Sent], float], target: float | None, limited_by: str) -> Figure:
        return figure(
            f"{name}: {what}",
            [(of(one), of(other)) for one, other in zip(ours, peer, strict=True)],
            peer_name=f"{peer_name} before the same server, which has a message on disk before it says 250",
            unit=unit,
            more_is_better=unit != "ms",
            target=target,
            limited_by=limited_by,
        )

    yield compared(
        "to the client's 250", "ms", lambda sent: 1000 * sent.to_reply, None, "the server, for the relay alone"
    )
    yield compared("to delivery", "ms", lambda sent: 1000 * sent.to_delivery, 1.0, "the server and its sign-in")
    yield compared(
        f"{_CLIENTS} clients at once", "messages/s", lambda sent: sent.per_second, None, "sign-ins; then the clients"
    )

"""The listener of a browser's redirect over TLS: the certificate as it is now."""

from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path

from fakes import FakeClock, FakeProvider
from ports import answers, free_port
from served import a_service
from waiting import wait_until

from adapters.http.server.redirect_listener import listening
from adapters.practice.ca import PracticeCA
from infrastructure.config.tables import CallbackTable, ServerTable


def put(ca: PracticeCA, directory: Path) -> bytes:
    """A new certificate where the configuration says."""
    issued = ca.issue()
    shutil.copy(issued.key_file, directory / "callback.key")
    shutil.copy(issued.cert_file, directory / "callback.crt")
    return ssl.PEM_cert_to_DER_cert(issued.cert_file.read_text())


def test_a_replaced_certificate_is_used_from_the_next_connection_on(
    tmp_path: Path, clock: FakeClock, provider: FakeProvider
) -> None:
    ca = PracticeCA.create(tmp_path / "ca")
    tls, port = ssl.create_default_context(cafile=str(ca.ca_file)), free_port()

    def presented() -> tuple[bytes | None, bytes]:
        with (
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            tls.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET /?state=none HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.getpeercert(binary_form=True), connection.recv(1024).split()[1]

    first = put(ca, tmp_path)
    table = CallbackTable(
        url=f"https://localhost:{port}/",
        certificate_file=str(tmp_path / "callback.crt"),
        key_file=str(tmp_path / "callback.key"),
        host="127.0.0.1",
        port=port,
    )
    with a_service(tmp_path / "service", clock, provider) as service:
        config = service.config.model_copy(update={"server": ServerTable(callback=table)})
        with listening(config, service.tokens):
            wait_until(lambda: answers(port), "it listens")
            assert presented() == (first, b"400")
            second = put(ca, tmp_path)
            assert second != first
            assert presented() == (second, b"400")
            (tmp_path / "callback.key").write_text("half written")
            assert presented() == (second, b"400")

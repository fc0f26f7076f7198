import ssl
from collections.abc import Iterator

import pytest
from scripted_mail_server import Script, ScriptedServer, Serve

from adapters.mail.mail_server import MailServerClient
from adapters.practice.ca import PracticeCA


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server_tls(ca: PracticeCA) -> ssl.SSLContext:
    return ca.issue().ssl_context()


@pytest.fixture
def serve(server_tls: ssl.SSLContext) -> Iterator[Serve]:
    """Start a scripted server; the script's own failures come out at the end of the test."""
    servers: list[ScriptedServer] = []

    def start(script: Script, tls: ssl.SSLContext = server_tls, address: str = "127.0.0.1") -> ScriptedServer:
        servers.append(ScriptedServer(script, tls=tls, address=address))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def client(ca: PracticeCA) -> MailServerClient:
    return MailServerClient(ca.ca_file)

import pytest
from scripted_mail_server import ScriptedServer

from adapters.mail.mail_server import MailServerClient
from adapters.practice.ca import PracticeCA


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server_tls(ca):
    return ca.issue().ssl_context()


@pytest.fixture
def serve(server_tls):
    """Start a scripted server; the script's own failures come out at the end of the test."""
    servers = []

    def start(script, tls=server_tls, **where):
        servers.append(ScriptedServer(script, tls=tls, **where))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def client(ca):
    return MailServerClient(ca.ca_file)

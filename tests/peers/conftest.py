"""Real mail servers beside the practice provider, and a real service that has tokens for them."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dovecot import Dovecot
from mail_exchanger import MailExchanger
from peer_service import LISTENERS, OfficeService, Own, Renew, Settings
from ports import answers, free_ports
from practice_faults.provider import FaultyProvider
from relay_clients import Clients
from service_process import SCAN
from waiting import DEADLINE_SECONDS, wait_until

from adapters.mail.sasl_client import Mechanism
from adapters.practice.ca import PracticeCA

PROTOCOLS = ("smtp", "pop", "imap")
ACCOUNTS = tuple(
    f"{name}@contoso.com"
    for name in (
        *("scan", "shared", "revoked", "away", "reports"),
        *(f"{why}-{protocol}" for why in ("expired", "unasked", "relayed", "gone") for protocol in PROTOCOLS),
    )
)
"""Each is for one test, but for scan: what happens to the account of one would disturb another."""

RELAY = """
[relay]
listen = {listen}
certificate_file = "{certificate}"
key_file = "{key}"
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and not item.path.is_relative_to(here / "authorization_servers"):
            item.add_marker(pytest.mark.needs("dovecot", "setpriv"))


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def provider(ca: PracticeCA) -> Iterator[FaultyProvider]:
    with FaultyProvider(ca, interval=1, accounts=ACCOUNTS) as provider:
        yield provider


@pytest.fixture(scope="session")
def dovecots(ca: PracticeCA, provider: FaultyProvider) -> Iterator[dict[Mechanism, Dovecot]]:
    """A server for each mechanism, which offers no other."""
    with ExitStack() as running:
        yield {
            mechanism: running.enter_context(Dovecot(ca, provider, running.enter_context(MailExchanger()), mechanism))
            for mechanism in Mechanism
        }


@pytest.fixture(params=list(Mechanism))
def mechanism(request: pytest.FixtureRequest) -> Mechanism:
    """Each of them."""
    mechanism: Mechanism = request.param
    return mechanism


@pytest.fixture
def dovecot(mechanism: Mechanism, dovecots: dict[Mechanism, Dovecot]) -> Dovecot:
    """The server with this mechanism."""
    return dovecots[mechanism]


@pytest.fixture(scope="session")
def places() -> dict[str, int]:
    """Where the relay listens, by scheme."""
    return free_ports("smtp", "smtps", "pop3", "pop3s", "imap", "imaps")


@pytest.fixture(scope="session")
def service_process(
    ca: PracticeCA, provider: FaultyProvider, places: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OfficeService]:
    certificate = ca.issue()
    relay = RELAY.format(
        listen=[f"{scheme}://127.0.0.1:{port}" for scheme, port in places.items()],
        certificate=certificate.cert_file,
        key=certificate.key_file,
    )
    with OfficeService(tmp_path_factory.mktemp("office"), provider, relay) as service_process:
        yield service_process


@pytest.fixture(scope="session")
def settings(service_process: OfficeService, dovecots: dict[Mechanism, Dovecot]) -> Settings:
    """A setting with a token for each mechanism, protocol and way into TLS; all of the account scan."""
    found: Settings = {}
    for mechanism, dovecot in dovecots.items():
        for tls in ("starttls", "implicit"):
            ports = {protocol: dovecot.ports[name] for (protocol, way), name in LISTENERS.items() if way == tls}
            names = service_process.add_machine(
                f"{mechanism}-{tls}".lower(),
                **{protocol: {"port": port, "tls": tls} for protocol, port in ports.items()},
            )
            found |= {(mechanism, protocol, tls): name for protocol, name in zip(ports, names, strict=True)}
    service_process.get_tokens(found.values())
    return found


@pytest.fixture
def renewed(service_process: OfficeService, provider: FaultyProvider) -> Renew:
    def renew(profile: str, length: int) -> None:
        provider.rules.access_token_length = length
        service_process.renew(profile)
        assert len(provider.live_access_tokens(SCAN)[-1]) == length

    return renew


@pytest.fixture
def own(service_process: OfficeService, dovecots: dict[Mechanism, Dovecot]) -> Own:
    def make(account: str, protocol: str = "imap", mechanism: Mechanism = Mechanism.XOAUTH2) -> str:
        port = dovecots[mechanism].ports[LISTENERS[protocol, "starttls"]]
        (name,) = service_process.add_machine(
            account.partition("@")[0], **{protocol: {"port": port, "account": account}}
        )
        service_process.get_tokens([name], account)
        return name

    return make


@pytest.fixture(scope="session")
def clients(service_process: OfficeService, ca: PracticeCA, places: dict[str, int]) -> Iterator[Clients]:
    """Programs that come to the relay, which runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.ca_file)
    relay = service_process.begin("relay", log=service_process.directory / "relay.log")

    def listens() -> bool:
        assert relay.poll() is None, (service_process.directory / "relay.log").read_text()
        return all(map(answers, places.values()))

    wait_until(listens, "the relay listens")
    yield Clients(places, context)
    relay.terminate()
    assert relay.wait(DEADLINE_SECONDS) == 0

"""The relay beside a direct connection to the same Dovecot: messages, latency, memory, and mailboxes that are fetched.

Every process is a real one: the service, a relay with the pool and one without, Dovecot, and the clients. A direct
client begins TLS and signs in with the token; the relay's client is a program on the same machine, with a password.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from command_line import Command
from dovecot import Dovecot
from peer_service import OfficeService
from ports import answers, free_ports
from practice_faults.provider import FaultyProvider
from waiting import wait_until

from adapters.practice.ca import PracticeCA
from bench.mail_load import Load, Place, Sent, load
from bench.mail_upstream import running_dovecot
from bench.material import ACCOUNT
from bench.rounds import Figure, Measure, Size, compare, figure

_PROCESSES = 2
"""Of clients: one would be what limits a direct connection."""
_USER, _USER_AS_INSTALLED, _USER_FAR_AWAY = "printers", "printers-elsewhere", "printers-far-away"
_PASSWORD = "correct horse battery staple"
_DOVECOT_LISTENERS = {"smtp": "submission", "pop": "pop3", "imap": "imap"}
_SCHEMES = {"smtp": "smtp", "pop": "pop3", "imap": "imap"}
_RELAY = """
[relay]
listen = {listen}
certificate_file = "{certificate}"
key_file = "{key}"
connections_per_address = 10000
pool = {pool}
"""
_TARGET_CLIENTS, _TARGET = 32, 0.85
_ADDED_MS = 2.0
_SLOW_SIGN_IN_SECONDS, _SLOW_SIGN_IN_CLIENTS, _SLOW_SIGN_IN_TARGET = 1.0, (1, 8, 32), 3.0
"""A sign-in at Exchange Online takes 0.8 to 1.2 seconds."""
_LARGE_OCTETS, _MAIL_OCTETS = 150_000_000, 250_000
_LINE = b"A line of some scanned page in base64, as long as these are usually made..\r\n"
_MEMORY_ROUNDS = 2
_MB = 1e6


def relay(directory: Path, size: Size) -> Iterator[Figure]:
    """Messages at some numbers of clients, what a session takes longer, memory, and mailboxes.

    Raises:
        NoDovecot: it is not installed, so there is nothing to relay to.
    """
    with (
        _mail_site(directory) as mail_site,
        mail_site.relay(pool=True) as pooled,
        mail_site.relay(pool=False) as unpooled,
    ):
        yield from _sending_as_installed(mail_site, unpooled, size)
        yield from _sending(mail_site, pooled, unpooled, size)
        yield _sending_under_tls(mail_site, pooled, size)
        yield from _sending_with_slow_sign_in(mail_site, pooled, size)
        yield from _fetching(mail_site, pooled, size)
        yield from _memory(mail_site, size)


@dataclass(frozen=True)
class _Relay:
    """A relay that runs."""

    process: Command
    ports: dict[str, int]
    ca_file: Path

    def place(self, setting: str, user: str = _USER) -> Place:
        """Where clients come in that use this setting of a relay user."""
        return Place(self.ports[setting], self.ca_file, is_tls=False, user=user, password=_PASSWORD)

    def resident(self, field: str = "VmRSS") -> float:
        """The memory it has now, in MB; as `VmHWM` the most since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) * 1024 / _MB

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@dataclass(frozen=True)
class _MailSite:
    """All that runs for the relays. `direct` is where each setting's server is without one.

    `direct_as_installed` is a second one, for SMTP: Dovecot with a process for each session, as it comes. `direct_far`
    is a third one, also for SMTP, whose sign-in takes a second.
    """

    ca: PracticeCA
    service_process: OfficeService
    dovecot: Dovecot
    load: Load
    direct: dict[str, Place]
    direct_as_installed: Place
    direct_far: Place

    @contextmanager
    def relay(self, *, pool: bool) -> Iterator[_Relay]:
        """Run a relay."""
        ports = free_ports(*_SCHEMES)
        name = f"relay-{ports['smtp']}"
        log = self.service_process.directory / f"{name}.log"
        process = self.service_process.begin(
            "--config", str(self._configuration(name, ports, pool)), "relay", log=log, forked=False
        )

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            return all(map(answers, ports.values()))

        try:
            wait_until(listens, "the relay listens")
            relay = _Relay(process, ports, self.ca.ca_file)
            self.load.send(relay.place("smtp"), 1, 0.1)
            yield relay
        finally:
            process.terminate()
            process.wait()

    def _configuration(self, name: str, ports: dict[str, int], pool: bool) -> Path:
        certificate = self.ca.issue()
        relay = _RELAY.format(
            listen=[f"{_SCHEMES[setting]}://127.0.0.1:{port}" for setting, port in ports.items()],
            certificate=certificate.cert_file,
            key=certificate.key_file,
            pool=str(pool).lower(),
        )
        path = self.service_process.directory / f"{name}.toml"
        path.write_text(self.service_process.config.read_text() + relay)
        return path


@contextmanager
def _mail_site(directory: Path) -> Iterator[_MailSite]:
    ca = PracticeCA.create(directory / "ca")
    with ExitStack() as stack:
        large = stack.enter_context(running_dovecot(ca, reuses_processes=True))
        installed = stack.enter_context(running_dovecot(ca, reuses_processes=False))
        far = stack.enter_context(running_dovecot(ca, reuses_processes=True, sign_in_seconds=_SLOW_SIGN_IN_SECONDS))
        provider = stack.enter_context(FaultyProvider(ca, interval=1))
        service_process = OfficeService(directory / "service", provider)
        stack.callback(service_process.end)
        service_process.start(forked=False)
        direct = _settings_with_tokens(service_process, _USER, large, "smtp", "pop", "imap")
        direct_as_installed = _settings_with_tokens(service_process, _USER_AS_INSTALLED, installed, "smtp")["smtp"]
        direct_far = _settings_with_tokens(service_process, _USER_FAR_AWAY, far, "smtp")["smtp"]
        clients = stack.enter_context(load(_PROCESSES))
        yield _MailSite(ca, service_process, large, clients, direct, direct_as_installed, direct_far)


def _settings_with_tokens(
    service_process: OfficeService, user: str, dovecot: Dovecot, *settings: str
) -> dict[str, Place]:
    """A machine with these settings and a relay user for them, both of this name; where each setting's server is."""
    ports = {setting: dovecot.ports[_DOVECOT_LISTENERS[setting]] for setting in settings}
    profiles = service_process.add_machine(
        user, **{setting: {"port": port, "tls": "starttls"} for setting, port in ports.items()}
    )
    service_process.get_tokens(profiles)
    body = {"name": user, "profiles": profiles, "networks": [], "password": _PASSWORD}
    service_process.service.post("/api/v1/relay/users", body)
    ca_file = service_process.provider.ca_file
    return {
        setting: Place(port, ca_file, is_tls=True, access_token=_access_token(service_process, f"{user}/{setting}"))
        for setting, port in ports.items()
    }


def _access_token(service_process: OfficeService, profile: str) -> str:
    access_token: str = service_process.service.get(f"/api/v1/profiles/{profile}/access-token")["access_token"]
    return access_token


# Messages


def _sending_as_installed(mail_site: _MailSite, unpooled: _Relay, size: Size) -> Iterator[Figure]:
    places = [mail_site.direct_as_installed, unpooled.place("smtp", _USER_AS_INSTALLED)]
    # A session takes half a second then.
    longer = replace(size, mail_seconds=2 * size.mail_seconds)
    for clients in size.mail_clients_as_installed:
        direct, ours = _turns(places, mail_site.load, clients, longer)
        yield _messages(
            f"relay, {_counted(clients)}, Dovecot as it comes",
            ours,
            direct,
            target=_TARGET if clients == _TARGET_CLIENTS else None,
            limited_by=f"Dovecot, which begins two processes for each session, in both; {_cores(ours, direct)}",
        )


def _sending(mail_site: _MailSite, pooled: _Relay, unpooled: _Relay, size: Size) -> Iterator[Figure]:
    places = [mail_site.direct["smtp"], unpooled.place("smtp"), pooled.place("smtp")]
    for clients in size.mail_clients:
        direct, ours, ours_pooled = _turns(places, mail_site.load, clients, size)
        if clients == 1:
            yield _session(ours, direct)
        yield _messages(
            f"relay, {_counted(clients)}",
            ours,
            direct,
            target=_TARGET if clients == _TARGET_CLIENTS else None,
            limited_by=f"this machine's cores, which Dovecot, clients and relay share; {_cores(ours, direct)}",
        )
        yield _messages(
            f"relay with pool, {_counted(clients)}",
            ours_pooled,
            direct,
            target=1.0,
            limited_by="Python on one core, the relay's or the clients' own",
        )


def _sending_under_tls(mail_site: _MailSite, pooled: _Relay, size: Size) -> Figure:
    """As clients on other machines do."""
    place = replace(pooled.place("smtp"), is_tls=True)
    direct, ours = _turns([mail_site.direct["smtp"], place], mail_site.load, _TARGET_CLIENTS, size)
    return _messages(
        f"relay with pool and STARTTLS, {_counted(_TARGET_CLIENTS)}",
        ours,
        direct,
        target=None,
        limited_by="the clients' handshakes, on the relay's one core",
    )


def _sending_with_slow_sign_in(mail_site: _MailSite, pooled: _Relay, size: Size) -> Iterator[Figure]:
    """As at Exchange. The mailbox's sessions stay signed in between the clients' messages."""
    places = [mail_site.direct_far, pooled.place("smtp", _USER_FAR_AWAY)]
    longer = replace(size, mail_seconds=max(size.mail_seconds, 2 * _SLOW_SIGN_IN_SECONDS))
    for clients in _SLOW_SIGN_IN_CLIENTS:
        direct, ours = _turns(places, mail_site.load, clients, longer)
        yield _messages(
            f"relay with pool, {_counted(clients)}, sign-in of a second",
            ours,
            direct,
            target=_SLOW_SIGN_IN_TARGET,
            limited_by="the sign-in, which a direct session waits for; the relay's sessions were signed in before",
        )


def _messages(name: str, ours: list[Sent], direct: list[Sent], *, target: float | None, limited_by: str) -> Figure:
    return figure(
        name,
        [(one.per_second, other.per_second) for one, other in zip(ours, direct, strict=True)],
        peer_name="a direct connection: STARTTLS, XOAUTH2, one message a session",
        unit="messages/s",
        more_is_better=True,
        target=target,
        limited_by=limited_by,
    )


def _cores(ours: list[Sent], direct: list[Sent]) -> str:
    """What a message takes of the machine: where all cores are busy, that is what decides."""
    relayed, directly = (median(one.core_ms for one in turns) for turns in (ours, direct))
    return f"a message takes {relayed:.1f} ms of the cores, {directly:.1f} ms direct: {directly / relayed:.2f}"


def _counted(clients: int) -> str:
    return f"{clients} client{'s' * (clients > 1)}"


def _session(ours: list[Sent], direct: list[Sent]) -> Figure:
    """What a session takes, beside what it may."""
    return figure(
        "relay, a session of 1 client",
        [(_median_ms(one), _median_ms(other) + _ADDED_MS) for one, other in zip(ours, direct, strict=True)],
        peer_name=f"a direct session and {_ADDED_MS:g} ms",
        unit="ms",
        more_is_better=False,
        target=1.0,
        limited_by="Dovecot; then one more hop for each command",
    )


def _median_ms(sent: Sent) -> float:
    return median(sent.seconds) * 1000


def _turns(places: Sequence[Place], clients: Load, count: int, size: Size) -> list[list[Sent]]:
    """Send through each place in turns, and once without counting it; who begins changes."""
    sent: list[list[Sent]] = [[] for _ in places]
    for number in range(-1, size.mail_rounds):
        for at in range(len(places)):
            which = (at + number) % len(places)
            one = clients.send(places[which], count, size.mail_seconds)
            if number >= 0:
                sent[which].append(one)
    return sent


# Mailboxes


def _fetching(mail_site: _MailSite, relay: _Relay, size: Size) -> Iterator[Figure]:
    _fill(mail_site.dovecot, size.mailbox_messages)
    for name, setting, fetch in (
        ("IMAP", "imap", mail_site.load.fetch_by_imap),
        ("POP3", "pop", mail_site.load.fetch_by_pop),
    ):
        yield compare(
            f"relay, mailbox of {size.mailbox_messages * _MAIL_OCTETS / _MB:.0f} MB by {name}",
            ours=_megabytes(fetch, relay.place(setting)),
            peer=_megabytes(fetch, mail_site.direct[setting]),
            peer_name="a direct connection: STARTTLS, XOAUTH2",
            rounds=2 * size.mail_rounds,
            unit="MB/s",
            more_is_better=True,
            target=0.9,
            limited_by="Dovecot, which reads and encrypts on two cores; then the relay's TLS",
        )


def _megabytes(fetch: Callable[[Place], float], place: Place) -> Measure:
    return lambda: fetch(place) / _MB


def _fill(dovecot: Dovecot, messages: int) -> None:
    content = b"Subject: Scan\r\n\r\n" + _LINE * (_MAIL_OCTETS // len(_LINE))
    for _ in range(messages):
        dovecot.deliver(ACCOUNT, content)


# Memory


@dataclass(frozen=True)
class _Resident:
    """The relay's memory in MB: before something, the most of it meanwhile, and after."""

    before: float
    most: float
    after: float


def _memory(mail_site: _MailSite, size: Size) -> Iterator[Figure]:
    """Of a relay that has just begun, with a large message and with clients that have signed in and say nothing."""
    rounds = []
    for _ in range(_MEMORY_ROUNDS):
        with mail_site.relay(pool=True) as relay:
            rounds.append(
                (
                    _resident(relay, lambda place: _idle(place, size.idle_connections)),
                    _resident(relay, lambda place: _submit(place, _LARGE_OCTETS)),
                    _resident(relay, lambda place: _idle(replace(place, is_tls=True), size.idle_connections)),
                )
            )
    idle, message, idle_tls = zip(*rounds, strict=True)
    yield _memory_figure(f"a message of {_LARGE_OCTETS / _MB:.0f} MB", message, "buffers of fixed size", target=1.1)
    for name, resident, target in (("", idle, 1.2), (" under TLS", idle_tls, None)):
        each = median(one.most - one.before for one in resident) * 1000 / size.idle_connections
        yield _memory_figure(
            f"{size.idle_connections:,} idle connections{name}",
            resident,
            f"what each costs, {each:.0f} kB",
            target=target,
        )


def _resident(relay: _Relay, do: Callable[[Place], None]) -> _Resident:
    before = relay.resident()
    relay.forget_peak()
    do(relay.place("smtp"))
    return _Resident(before, relay.resident("VmHWM"), relay.resident())


def _memory_figure(name: str, rounds: Sequence[_Resident], limited_by: str, *, target: float | None) -> Figure:
    return figure(
        f"relay, {name}",
        [(one.most, one.before) for one in rounds],
        peer_name="the relay's memory before",
        unit="MB",
        more_is_better=False,
        target=target,
        limited_by=f"{limited_by}; {median(one.after for one in rounds):.0f} MB after",
    )


def _idle(place: Place, connections: int) -> None:
    """Have so many clients there at once."""
    with ExitStack() as clients:
        for _ in range(connections):
            clients.enter_context(_signed_in(place))


def _submit(place: Place, octets: int) -> None:
    """Send one message of that size, as fast as it is taken."""
    with _signed_in(place) as client:
        client.mail(ACCOUNT)
        client.rcpt("somebody@example.org")
        code, _ = client.docmd("DATA")
        assert code == 354
        assert isinstance(client.sock, socket.socket)
        lines = _LINE * 1000
        for _ in range(octets // len(lines)):
            client.sock.sendall(lines)
        client.send(b".\r\n")
        code, reply = client.getreply()
        assert code == 250, reply


@contextmanager
def _signed_in(place: Place) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", place.port, local_hostname="client") as client:
        if place.is_tls:
            client.starttls(context=ssl.create_default_context(cafile=place.ca_file))
        assert place.password
        client.login(place.user, place.password)
        yield client

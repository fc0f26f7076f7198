"""`mailtoken demo`: a practice provider, a practice mail server and the service on this machine, and their story.

Every command is the real one, run as a person would type it, and after each stage the demo looks for itself whether
what it told is so. At a terminal a person signs in and sets the pace; elsewhere the demo does both and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from textwrap import indent
from types import FrameType

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from adapters import texts
from adapters.bootstrap import initialise
from adapters.cli import acquisition
from adapters.cli.client import Client, Object
from adapters.cli.wire import CommandError, ExitCode, locate_socket, profile_path
from adapters.practice import person
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider
from domain.lifecycle import TokenStatus

_COMMAND = (sys.executable, "-P", "-c", "import sys; from adapters.cli import main; sys.exit(main())")
_PATIENCE_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.1
_LOG_COLUMNS = 100
_LOG_LINES = 30

_MACHINE = "office-mfp"
_SMTP = f"{_MACHINE}/smtp-service"
_POP = f"{_MACHINE}/pop-internet-fax"
_SENDER, _FAX = "scan@contoso.com", "fax@contoso.com"
_MESSAGE = f"""\
From: Scanner <{_SENDER}>
To: {_FAX}
Subject: Scan of page 1

Sent with a token that no printer has ever seen.
"""


class DoesNotHold(Exception):
    """A stage is not as it was told; the text says what is so instead."""


def run() -> int:
    """Tell the story; returns the exit code, 1 if a stage did not hold."""
    guided = sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(width=None if guided else _LOG_COLUMNS, markup=False, highlight=False, emoji=False)
    with _signals(), ExitStack() as stack:
        story: _Story | None = None
        try:
            story = _Story(open_house(stack), console, guided)
            story.tell()
            return ExitCode.DONE
        except DoesNotHold as wrong:
            stage = f"stage {story.stage} does not hold: " if story else ""
            console.file.flush()
            sys.stderr.write(f"mailtoken demo: {stage}{wrong}\n")
            return ExitCode.FAILED
        except KeyboardInterrupt:
            console.print("\nEverything is being stopped and removed.")
            return ExitCode.DONE if story and story.told else ExitCode.INTERRUPTED
        finally:
            # What is being stopped and removed now would stay behind if somebody were impatient.
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _signals() -> Iterator[None]:
    """Let a signal that ends the process end it in order; afterwards all is as it was."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class House:
    """All that runs for the story, and the folder it lives in."""

    directory: Path
    config: Path
    provider: PracticeProvider
    mail_server: PracticeMailServer
    service: subprocess.Popen[bytes]
    log: Path
    client: Client

    def check_alive(self) -> None:
        """See that the service runs.

        Raises:
            DoesNotHold: it ended; its log is shown.
        """
        code = self.service.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            sys.stderr.write("".join(f"  {line}\n" for line in lines))
            raise DoesNotHold(f"the service has ended with exit code {code}; its log is above")


def open_house(stack: ExitStack) -> House:
    """Start it all in a new folder; `stack` stops and removes it.

    Raises:
        DoesNotHold: the service does not start.
    """
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailtoken-demo-")))
    ca = PracticeCA.create(directory / "ca")
    provider = stack.enter_context(PracticeProvider(ca, interval=1))
    mail_server = stack.enter_context(PracticeMailServer(ca, provider))
    config = initialise(directory).config
    with config.open("a") as file:
        file.write(_tables(provider, ca))
    log = directory / "service.log"
    service = stack.enter_context(_serve(directory, config, log))
    house = House(directory, config, provider, mail_server, service, log, Client(locate_socket(config)))
    _wait_until(lambda: _answers(house), "the service does not answer")
    return house


def _tables(provider: PracticeProvider, ca: PracticeCA) -> str:
    ca_file = json.dumps(str(ca.ca_file))
    return f"""
[providers.practice]
kind = "microsoft"
issuer = "{provider.issuer}"
client_id = "{provider.client_id}"
ca_file = {ca_file}

[mail]
ca_file = {ca_file}
"""


@contextmanager
def _serve(directory: Path, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service as a process of its own, out of reach of the terminal's Ctrl-C."""
    with log.open("wb") as file:
        service = subprocess.Popen(  # noqa: S603 - our own program
            [*_COMMAND, "--config", str(config), "serve"],
            cwd=directory,
            env=_environment(config),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
        )
    try:
        yield service
    finally:
        service.terminate()
        try:
            service.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def _environment(config: Path) -> Mapping[str, str]:
    """Ours, with this configuration and no proxy between servers of one machine."""
    here = "localhost,127.0.0.1"
    return {**os.environ, "MAILTOKEN_CONFIG": str(config), "NO_PROXY": here, "no_proxy": here}


def _answers(house: House) -> bool:
    house.check_alive()
    try:
        house.client.get("/readyz")
    except CommandError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise DoesNotHold(f"{otherwise} within {_PATIENCE_SECONDS:g} seconds")
        time.sleep(_LOOK_AGAIN_SECONDS)


class _Story:
    """The stages, in their order. `stage` names the one that is being told; `told` is true after the last."""

    def __init__(self, house: House, console: Console, guided: bool) -> None:
        self.stage = ""
        self.told = False
        self._number = 0
        self._house = house
        self._console = console
        self._guided = guided
        self._stages = (
            self._a_machine,
            self._fill_in,
            self._get_token,
            self._sign_in,
            self._test_connection,
            self._send,
            self._receive,
            self._show,
            self._renew,
            self._delete,
            self._history,
            self._verify,
        )

    def tell(self) -> None:
        """Tell all of it.

        Raises:
            DoesNotHold: a stage is not as it was told.
        """
        self._say(
            "A practice provider, a practice mail server and the service run on this machine, in"
            f" {self._house.directory}. Nothing leaves it. The commands are the real ones."
        )
        if self._guided:
            self._say("Press Enter after each step; Ctrl-C ends it and removes everything.")
        for stage in self._stages:
            self._tell(stage)
            if self._guided and stage is not self._stages[-1]:
                self._pause()
        self.told = True
        if self._guided:
            self._leave_running()
        else:
            self._say(f"\nAll {len(self._stages)} stages hold. Everything is being stopped and removed.")

    def _tell(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except (CommandError, person.CouldNotSignIn) as error:
            self._house.check_alive()
            raise DoesNotHold(str(error)) from None

    # The stages

    def _a_machine(self) -> None:
        self._begin(
            "A machine with seven mail settings",
            "This printer's four SMTP settings share one authorization; each of its three POP settings needs its own.",
        )
        self._command("machine", "add", _MACHINE, "--catalogue", "sharp-bp")
        self._command("status")
        if self._count("smtp") != 4 or self._count("pop") != 3:
            raise DoesNotHold(f"there are {self._count('smtp')} SMTP and {self._count('pop')} POP settings")
        self._expect(smtp=TokenStatus.NOT_RETRIEVED, pop=TokenStatus.NOT_RETRIEVED)

    def _fill_in(self) -> None:
        self._begin(
            "One SMTP setting is filled in",
            "Where mail goes, who sends it, and whose account signs in where; the three linked with it need nothing.",
        )
        self._command(
            "profile",
            "set",
            _SMTP,
            "server=localhost",
            f"port={self._house.mail_server.smtp_port}",
            "tls=starttls",
            "sender_name=Scanner",
            f"sender_address={_SENDER}",
            "provider=practice",
            f"account={_SENDER}",
        )
        self._expect(smtp=TokenStatus.NOT_RETRIEVED, pop=TokenStatus.NOT_RETRIEVED)

    def _get_token(self) -> None:
        self._begin(
            "Get Token",
            "The provider gives a code: all four linked settings wait for one sign-in, and no POP setting does.",
        )
        self._command("token", "get", _SMTP, "--yes", "--no-wait")
        self._command("status")
        self._expect(smtp=TokenStatus.WAITING, pop=TokenStatus.NOT_RETRIEVED)

    def _sign_in(self) -> None:
        self._begin(
            "The person signs in",
            f"Whoever has the code opens the provider's page, enters it as {_SENDER} and approves: once, for all four.",
        )
        self._have_signed_in(_SMTP, _SENDER)
        self._command("status")
        self._expect(smtp=TokenStatus.RETRIEVED, pop=TokenStatus.NOT_RETRIEVED)
        if len({one["retrieved_by"] for one in self._settings("smtp")}) != 1:
            raise DoesNotHold("the four SMTP settings have different tokens")

    def _test_connection(self) -> None:
        self._begin(
            "Connection test",
            "The mail server is asked step by step: connection, TLS with a certificate that holds, sign-in with OAuth.",
        )
        self._command("test", _SMTP)

    def _send(self) -> None:
        self._begin(
            "A mail goes out",
            "Any program that can call sendmail can send; the setting is found by the sender's address.",
        )
        file = self._house.directory / "scan.eml"
        file.write_text(_MESSAGE)
        self._prompt(f"cat {file.name}")
        self._quote(_MESSAGE)
        self._command("send", "-t", standard_input=file)
        try:
            received = self._house.mail_server.wait_for_messages(_FAX)
        except TimeoutError as missing:
            raise DoesNotHold(str(missing)) from None
        message = message_from_bytes(received[0], policy=policy.default)
        self._say(f"\nAnd this is in the mailbox of {_FAX}:")
        self._quote("".join(f"{name}: {value}\n" for name, value in message.items()) + "\n" + message.get_content())
        if len(received) != 1 or message["Subject"] != "Scan of page 1":
            raise DoesNotHold(f"{len(received)} messages are in the mailbox, not the one that was sent")

    def _receive(self) -> None:
        self._begin(
            "A POP setting gets a token of its own",
            f"It reads {_FAX}, so that is who signs in; then the connection test finds the mail over POP3.",
        )
        self._command(
            "profile",
            "set",
            _POP,
            "server=localhost",
            f"port={self._house.mail_server.pops_port}",
            "tls=implicit",
            "check_interval=5",
            "provider=practice",
            f"account={_FAX}",
        )
        self._command("token", "get", _POP, "--yes", "--no-wait")
        self._have_signed_in(_POP, _FAX)
        self._command("status")
        self._expect(smtp=TokenStatus.RETRIEVED, pop=TokenStatus.NOT_RETRIEVED, but={_POP: TokenStatus.RETRIEVED})
        if self._status(_POP)["retrieved_by"] == self._status(_SMTP)["retrieved_by"]:
            raise DoesNotHold("the POP setting has the token of the SMTP settings")
        self._command("test", _POP)

    def _show(self) -> None:
        self._begin(
            "A mail program asks for the token",
            "This is what goes into passwordeval of msmtp, PassCmd of isync and the like; here only its length is"
            " shown, and any linked setting gives the same.",
        )
        name = f"{_MACHINE}/smtp-quick"
        self._prompt(f"mailtoken token show {name} | wc -c")
        shown = self._run(("token", "show", name), output=subprocess.PIPE).stdout
        self._say(str(len(shown)))
        if shown.decode().rstrip("\n") not in self._house.provider.live_access_tokens(_SENDER):
            raise DoesNotHold("what was shown is no access token that the provider takes")

    def _renew(self) -> None:
        before = self._status(_SMTP)["expires_at"]
        self._begin(
            "The token is renewed",
            "The service does so by itself in good time; an administrator can say so at any time.",
        )
        self._command("token", "renew", _SMTP)
        self._expect(smtp=TokenStatus.RETRIEVED, pop=TokenStatus.NOT_RETRIEVED, but={_POP: TokenStatus.RETRIEVED})
        if before in {one["expires_at"] for one in self._settings("smtp")}:
            raise DoesNotHold("an SMTP setting still has the token from before the renewal")

    def _delete(self) -> None:
        self._begin(
            "The token is deleted",
            "Under any of the four names: all four are Not Retrieved again, and the POP setting keeps its own.",
        )
        self._command("token", "delete", f"{_MACHINE}/smtp-alert", "--yes")
        self._command("status")
        self._expect(smtp=TokenStatus.NOT_RETRIEVED, pop=TokenStatus.NOT_RETRIEVED, but={_POP: TokenStatus.RETRIEVED})
        if self._house.provider.live_refresh_tokens(_SENDER):
            raise DoesNotHold("the provider still takes a refresh token of the deleted authorization")

    def _history(self) -> None:
        self._begin("What happened", "Every change is an event, and says who did it; none holds a secret.")
        self._command("audit", "log", _SMTP)
        log = self._run(("audit", "log", _SMTP, "--json"), output=subprocess.PIPE).stdout
        events = [record["event"] for record in json.loads(log) if record["aggregate"] == "Token"]
        if events != ["Created", "AuthorizationRequested", "Retrieved", "Renewed", "Deleted"]:
            raise DoesNotHold(f"the token's events are {', '.join(events)}")

    def _verify(self) -> None:
        self._begin(
            "Nobody changed the record",
            "The hash chain, every stored row and the vault are compared with what the events say they must be.",
        )
        self._command("audit", "verify")

    # How it is told

    def _begin(self, heading: str, saying: str) -> None:
        self._number += 1
        self.stage = f"{self._number} ({heading})"
        self._head(f"{self._number}. {heading}")
        self._say(saying)

    def _head(self, heading: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(heading, "bold"), align="left", style="blue"))

    def _say(self, sentence: str) -> None:
        self._console.print(Text(sentence), soft_wrap=not self._guided)

    def _quote(self, text: str) -> None:
        self._console.print(Text(indent(text.rstrip("\n"), "    "), "dim"), soft_wrap=True)

    def _prompt(self, line: str) -> None:
        self._console.print()
        self._console.print(Text.assemble(("$ ", "green"), (line, "bold")), soft_wrap=True)
        self._console.file.flush()

    def _command(self, *words: str, standard_input: Path | None = None) -> None:
        redirected = f" < {standard_input.name}" if standard_input else ""
        self._prompt(f"mailtoken {shlex.join(words)}{redirected}")
        self._run(words, standard_input)

    def _run(
        self, words: Sequence[str], standard_input: Path | None = None, output: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        with (standard_input or Path(os.devnull)).open("rb") as given:
            ended = subprocess.run(  # noqa: S603 - our own program
                [*_COMMAND, *words],
                cwd=self._house.directory,
                env=_environment(self._house.config),
                stdin=given,
                stdout=output,
                check=False,
            )
        if ended.returncode != 0:
            self._house.check_alive()
            raise DoesNotHold(f"mailtoken {shlex.join(words)} ended with exit code {ended.returncode}")
        return ended

    def _pause(self) -> None:
        self._console.print()
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        with contextlib.suppress(EOFError):
            self._console.input(Text("Enter goes on ", "dim"))

    # Signing in

    def _have_signed_in(self, name: str, account: str) -> None:
        if self._guided:
            self._wait_for_person(name, account)
            self._say(f"{account} has signed in.")
        else:
            self._approve(self._attempt(name), account)
            self._say(f"\n{account} has signed in: the demo played that part, over HTTPS as a browser does.")
            _wait_until(
                lambda: self._status(name)["token"] == TokenStatus.RETRIEVED, f"the token of {name} is not Retrieved"
            )

    def _wait_for_person(self, name: str, account: str) -> None:
        """Watch as `mailtoken token get` does, with Enter as the way out for those without a browser at hand."""
        self._say(
            "\nOpen the link in a browser; it warns, since the certificate is of a private authority that lives as"
            " long as this demo. Or press Enter, and the demo signs in. (A phone can scan the code of a real provider,"
            " but can't reach this one.)"
        )
        while True:
            started = self._attempt(name)
            with self._on_enter(partial(self._approve, started, account)):
                status = self._watch(started, account)
            if status["token"] == TokenStatus.RETRIEVED:
                return
            self._say(texts.why(status) or status["token"])
            self._command("token", "get", name, "--yes", "--no-wait")

    def _watch(self, started: Object, account: str) -> Object:
        try:
            return acquisition.wait(self._house.client, started, account, self._console)
        except CommandError as error:
            if error.exit_code is ExitCode.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise

    @contextmanager
    def _on_enter(self, sign_in: Callable[[], None]) -> Iterator[None]:
        """Sign in if Enter is pressed meanwhile."""
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                if select.select([sys.stdin], [], [], _LOOK_AGAIN_SECONDS)[0]:
                    sys.stdin.readline()
                    # The person's browser may have been faster.
                    with contextlib.suppress(person.CouldNotSignIn):
                        sign_in()
                    return

        termios.tcflush(sys.stdin, termios.TCIFLUSH)

        listener = threading.Thread(target=listen, name="enter", daemon=True)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()

    def _approve(self, attempt: Object, account: str) -> None:
        person.approve(attempt["verification_uri"], attempt["user_code"], account, self._house.provider.ca_file)

    # What is so

    def _attempt(self, name: str) -> Object:
        attempt: Object = self._house.client.get(f"{profile_path(name)}/token/attempt")
        return attempt

    def _status(self, name: str) -> Object:
        status: Object = self._house.client.get(f"{profile_path(name)}/status")
        return status

    def _settings(self, protocol: str) -> list[Object]:
        statuses: list[Object] = self._house.client.get("/api/v1/status")
        return [one for one in statuses if one["protocol"] == protocol]

    def _count(self, protocol: str) -> int:
        return len(self._settings(protocol))

    def _expect(self, *, smtp: TokenStatus, pop: TokenStatus, but: Mapping[str, TokenStatus] | None = None) -> None:
        """See that every setting displays this under "Token"."""
        for protocol, usual in (("smtp", smtp), ("pop", pop)):
            for one in self._settings(protocol):
                expected = (but or {}).get(one["profile"], usual)
                if one["token"] != expected:
                    raise DoesNotHold(f"{one['profile']} is {one['token']}, not {expected}")

    # The end

    def _leave_running(self) -> None:
        program = "mailtoken" if shutil.which("mailtoken") else sys.argv[0]
        command = f"{shlex.quote(program)} --config {shlex.quote(str(self._house.config))}"
        mail, accounts = self._house.mail_server, ", ".join(self._house.provider.accounts)
        self._head("It is yours")
        self._say("Everything goes on running until you press Ctrl-C. In another terminal:")
        self._quote(f"{command} status --watch\n{command} token get {_SMTP}\n{command} --help")
        self._say("Where codes are entered, and what else listens, on this machine only:")
        self._quote(
            f"{self._house.provider.issuer.rsplit('/', 1)[0]}/device, for {accounts}\n"
            f"SMTP localhost:{mail.smtp_port} (STARTTLS) or {mail.smtps_port} (TLS)\n"
            f"POP3 localhost:{mail.pop_port} (STARTTLS) or {mail.pops_port} (TLS)"
        )
        self._house.service.wait()
        self._house.check_alive()

"""`mailtoken demo`: a practice provider, a practice mail server and the service on this machine, in a guided tour.

The demo runs the real commands, as a person would type them, and checks the result of each stage. At a terminal a
person signs in and sets the pace; elsewhere the demo signs in itself and runs without a pause.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes, policy
from pathlib import Path
from types import FrameType

from rich.console import Console

from adapters.cli import demo_console, demo_fleet
from adapters.cli.demo_runner import StageRunner
from adapters.cli.demo_site import DemoSite, StageFailed, open_site
from adapters.error_kinds import ExitCode
from domain.lifecycle import TokenStatus

_LOG_COLUMNS = 100

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


def run() -> int:
    """Run all stages; returns the exit code, 1 if a stage failed."""
    guided = sys.stdin.isatty() and sys.stdout.isatty()
    console = Console(width=None if guided else _LOG_COLUMNS, markup=False, highlight=False, emoji=False)
    with _signals(), ExitStack() as stack:
        story: _Story | None = None
        try:
            console.print("A practice provider, a practice mail server and the service are being started ...")
            console.file.flush()
            site = open_site(stack)
            link = stack.enter_context(demo_console.open_console(site))
            story = _Story(site, console, link, guided=guided)
            story.run()
            return ExitCode.DONE
        except StageFailed as wrong:
            stage = f"stage {story.stage} does not hold: " if story else ""
            console.file.flush()
            sys.stderr.write(f"mailtoken demo: {stage}{wrong}\n")
            return ExitCode.FAILED
        except KeyboardInterrupt:
            console.print("\nEverything is being stopped and removed.")
            return ExitCode.DONE if story and story.finished else ExitCode.INTERRUPTED
        finally:
            # A second Ctrl-C would leave processes and files of the demo behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _signals() -> Iterator[None]:
    """Turn signals that end the process into an orderly end; restores the signal handlers afterwards."""

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


class _Story(StageRunner):
    """The stages, in their order. `finished` is true after the last."""

    def __init__(self, site: DemoSite, console: Console, link: demo_console.Console, *, guided: bool) -> None:
        super().__init__(site, console, guided=guided)
        self._console_link = link
        self.finished = False
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
            self._fleet,
            self._open_console,
        )

    def run(self) -> None:
        """Run all stages.

        Raises:
            StageFailed: a stage did not have the announced result.
        """
        self._say(
            f"They run on this machine, in {self._site.directory}. Nothing leaves it. The commands are the real ones."
        )
        self._say("In another terminal they work in any folder after this line:")
        self._quote(f"alias mailtoken={shlex.quote(_command_line(self._site))}")
        if self._guided:
            self._say("Press Enter after each step; Ctrl-C ends it and removes everything.")
        for stage in self._stages:
            self._perform(stage)
            if self._guided and stage is not self._stages[-1]:
                self._pause()
        self.finished = True
        if self._guided:
            self._leave_running()
        else:
            self._say(f"\nAll {len(self._stages)} stages hold. Everything is being stopped and removed.")

    # The stages

    def _a_machine(self) -> None:
        self._begin(
            "A machine with seven mail settings",
            "This printer's four SMTP settings share one authorization; each of its three POP settings needs its own.",
        )
        self._command("machine", "add", _MACHINE, "--catalogue", "sharp-bp")
        self._command("status")
        if self._count("smtp") != 4 or self._count("pop") != 3:
            raise StageFailed(f"there are {self._count('smtp')} SMTP and {self._count('pop')} POP settings")
        self._expect(smtp=TokenStatus.NOT_RETRIEVED, pop=TokenStatus.NOT_RETRIEVED)

    def _fill_in(self) -> None:
        self._begin(
            "One SMTP setting is filled in",
            "Where mail goes, who sends it, and whose account signs in; the three linked with it share its token.",
        )
        self._command(
            "profile",
            "set",
            _SMTP,
            "server=localhost",
            f"port={self._site.mail_server.smtp_port}",
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
        # At a terminal a person may have signed in, or declined, as soon as the code was there.
        if not self._guided:
            self._expect(smtp=TokenStatus.WAITING, pop=TokenStatus.NOT_RETRIEVED)

    def _sign_in(self) -> None:
        self._begin(
            "The person signs in",
            f"Whoever has the code opens the provider's page, enters it as {_SENDER} and approves: once, for all four."
            " Three of them still need a mail server, and the list says so.",
        )
        self._have_signed_in(_SMTP, _SENDER)
        self._command("status")
        self._expect(smtp=TokenStatus.RETRIEVED, pop=TokenStatus.NOT_RETRIEVED)
        if len({one["retrieved_by"] for one in self._settings("smtp")}) != 1:
            raise StageFailed("the four SMTP settings have different tokens")

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
        file = self._site.directory / "scan.eml"
        file.write_text(_MESSAGE)
        self._prompt(f"cat {shlex.quote(str(file))}")
        self._quote(_MESSAGE)
        self._command("send", "-t", standard_input=file)
        try:
            received = self._site.mail_server.wait_for_messages(_FAX)
        except TimeoutError as missing:
            raise StageFailed(str(missing)) from None
        message = message_from_bytes(received[0], policy=policy.default)
        self._say(f"\nAnd this is in the mailbox of {_FAX}:")
        self._quote("".join(f"{name}: {value}\n" for name, value in message.items()) + "\n" + message.get_content())
        if message["Subject"] != "Scan of page 1":
            raise StageFailed("the message in the mailbox is not the one that was sent")

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
            f"port={self._site.mail_server.pops_port}",
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
            raise StageFailed("the POP setting has the token of the SMTP settings")
        self._command("test", _POP)

    def _show(self) -> None:
        self._begin(
            "A mail program asks for the token",
            "This is what goes into passwordeval of msmtp, PassCmd of isync and the like; here only its length is"
            " shown, and any linked setting gives the same.",
        )
        name = f"{_MACHINE}/smtp-quick"
        self._prompt(f"mailtoken token show {name} | wc -c")
        printed = self._run(("token", "show", name), output=subprocess.PIPE).stdout
        self._say(str(len(printed)))
        if printed.decode().rstrip("\n") not in self._site.provider.live_access_tokens(_SENDER):
            raise StageFailed("what was printed is no access token that the provider takes")

    def _renew(self) -> None:
        before = self._status(_SMTP)["expires_at"]
        self._begin(
            "The token is renewed",
            "The service does so by itself in good time; an administrator can say so at any time.",
        )
        self._command("token", "renew", _SMTP)
        self._expect(smtp=TokenStatus.RETRIEVED, pop=TokenStatus.NOT_RETRIEVED, but={_POP: TokenStatus.RETRIEVED})
        if before in {one["expires_at"] for one in self._settings("smtp")}:
            raise StageFailed("an SMTP setting still has the token from before the renewal")

    def _delete(self) -> None:
        self._begin(
            "The token is deleted",
            "Under any of the four names: all four are Not Retrieved again, and the POP setting keeps its own.",
        )
        before = set(self._site.provider.live_refresh_tokens(_SENDER))
        self._command("token", "delete", f"{_MACHINE}/smtp-alert", "--yes")
        self._command("status")
        self._expect(smtp=TokenStatus.NOT_RETRIEVED, pop=TokenStatus.NOT_RETRIEVED, but={_POP: TokenStatus.RETRIEVED})
        # A sign-in as this account for another setting has a refresh token of its own.
        if not set(self._site.provider.live_refresh_tokens(_SENDER)) < before:
            raise StageFailed("the provider still takes a refresh token of the deleted authorization")

    def _history(self) -> None:
        self._begin("What happened", "Every change is an event, and says who did it; none holds a secret.")
        self._command("audit", "log", _SMTP)
        log = self._run(("audit", "log", _SMTP, "--json"), output=subprocess.PIPE).stdout
        events = [record["event"] for record in json.loads(log) if record["aggregate"] == "Token"]
        # Sign-ins that were declined or too late may be among them.
        others = iter(events)
        if not all(one in others for one in ("Created", "AuthorizationRequested", "Retrieved", "Renewed", "Deleted")):
            raise StageFailed(f"the token's events are {', '.join(events)}")

    def _verify(self) -> None:
        self._begin(
            "Nobody changed the record",
            "The hash chain, every stored row and the vault are compared with what the events say they must be.",
        )
        self._command("audit", "verify")

    def _fleet(self) -> None:
        self._begin(
            "A small fleet",
            "Six machines in three places: three work, one is Invalid since its account's password was changed, one"
            " waits for a sign-in, and one works with a client secret that ends in three weeks.",
        )
        demo_fleet.make_fleet(self._site)
        self._command("status")
        labels = demo_fleet.labels(self._site)
        expected = {
            **dict.fromkeys((*demo_fleet.WORKING, demo_fleet.ENDING), TokenStatus.RETRIEVED),
            demo_fleet.INVALID: TokenStatus.INVALID,
            demo_fleet.WAITING: TokenStatus.WAITING,
        }
        if labels != expected:
            raise StageFailed(f"the fleet is {labels}")

    def _open_console(self) -> None:
        self._begin("The console", "The same in a browser: this link opens the pages signed in. It works once.")
        self._quote(self._console_link.link)
        self._say("Otherwise sign in:")
        self._quote(
            f"{self._console_link.origin}, as {demo_console.NAME} with the password {self._console_link.password}"
        )
        if not self._guided:
            demo_console.check_console(self._console_link, demo_fleet.WORKING[0].partition("/")[0])

    # The end

    def _leave_running(self) -> None:
        command = _command_line(self._site)
        mail, accounts = self._site.mail_server, ", ".join(self._site.provider.accounts)
        self._head("It is yours")
        self._say("Everything goes on running until you press Ctrl-C. In another terminal:")
        self._quote(f"{command} status --watch\n{command} token get {_SMTP}\n{command} --help")
        self._say("Where codes are entered, and what else listens, on this machine only:")
        self._quote(
            f"{self._site.provider.issuer.rsplit('/', 1)[0]}/device, for {accounts}\n"
            f"SMTP localhost:{mail.smtp_port} (STARTTLS) or {mail.smtps_port} (TLS)\n"
            f"POP3 localhost:{mail.pop_port} (STARTTLS) or {mail.pops_port} (TLS)"
        )
        with demo_fleet.mail_flows(self._site):
            self._site.service.wait()
        self._site.check_alive()


def _command_line(site: DemoSite) -> str:
    """The command that works in any folder: where the program is, and which configuration it uses."""
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    return shlex.join((str(Path(program).absolute()), "--config", str(site.config)))

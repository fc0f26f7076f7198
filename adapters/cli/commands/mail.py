"""`mailtoken test` and `mailtoken send`: the mail servers at the other end."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from adapters.cli import output
from adapters.cli.commands.profiles import Name
from adapters.cli.context import client
from adapters.cli.http_client import Object
from adapters.cli.service_socket import CommandError, one_line, print_error
from adapters.error_kinds import ExitCode
from adapters.texts import verdicts
from adapters.texts.wording import Surface

_DELIVER = "m"
"""sendmail's mode to read a message and deliver it: -bm."""


def try_connection(
    context: typer.Context,
    profile: Name,
    to: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Also deliver a test message there.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Test a setting's connection with its token, step by step."""
    report = client(context).test(profile, to)
    if json:
        output.write_json(report)
    else:
        for step in report["steps"]:
            mark = Text("✓ ", "green") if step["ok"] else Text("✗ ", "bold red")
            name, seconds = f"{output.clean(step['name']):<13}", f"{step['seconds']:6.2f} s  "
            output.show(Text.assemble(mark, name, (seconds, "dim"), output.clean(step["detail"])))
    _judge(report)
    if not json:
        output.print_message(_verdict(report))


def _judge(report: Object) -> None:
    if not report["ok"]:
        exit_code = ExitCode.UNREACHABLE if report["fault"] == "network" else ExitCode.FAILED
        at_fault = verdicts.FAULTS.get(report["fault"], report["fault"])
        # With the token at fault the verdict is on its renewal, to which the mail server said nothing.
        has_reply = report["reply"] and report["fault"] != "token"
        reply = f" The server said: {output.clean(report['reply'])}" if has_reply else ""
        raise CommandError(exit_code, f"{report['profile']}: {_verdict(report)} (At fault: {at_fault}.){reply}")


def _verdict(report: Object) -> str:
    """The verdict in the command line's own words; the API's sentence if only a newer service knows the code."""
    if report["code"] not in verdicts.VERDICTS:
        return str(report["verdict"])
    return verdicts.verdict_sentence(report["code"], report["fields"], Surface.COMMAND)


def send(
    context: typer.Context,
    *,
    recipients: Annotated[list[str] | None, typer.Argument(metavar="TO", help="Who gets it.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Send through this setting; by default the one of FROM.")
    ] = None,
    sender: Annotated[str | None, typer.Option("-f", "-r", metavar="FROM", help="Who sends it.")] = None,
    from_message: Annotated[bool, typer.Option("-t", help="Also send it to those in To, Cc and Bcc.")] = False,
    sender_name: Annotated[
        str | None, typer.Option("-F", metavar="NAME", help="FROM's name, if the message has no From.")
    ] = None,
    ignore_dots: Annotated[
        bool, typer.Option("-i", help="Accepted: a line with a single dot never ends the message.")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            *("-o", "-B", "-N", "-R", "-V", "-L", "-O", "-e", "-p", "-A", "-C", "-d", "-h", "-X"),
            metavar="OPTION",
            help="Accepted and ignored, as in -oi, -oem and -B8BITMIME.",
        ),
    ] = None,
    flag: Annotated[bool, typer.Option("-m", "-n", "-v", "-G", "-U", hidden=True)] = False,
    mode: Annotated[str, typer.Option("-b", hidden=True)] = _DELIVER,
) -> None:
    """Send the message on standard input, as sendmail does; also when called by that name."""
    from adapters.cli.sendmail_message import Message, addresses_of

    if mode != _DELIVER:
        raise CommandError(ExitCode.USAGE, f"-b{mode} is not for this: only a message on standard input is sent (-bm)")
    if sys.stdin.isatty():
        print_error("type the message, header first; Ctrl-D ends it")
    message = Message.read(sys.stdin.buffer.read())
    named = (address for argument in recipients or [] for address in addresses_of(argument))
    to = [*named, *(message.recipients() if from_message else [])]
    if not to:
        raise CommandError(
            ExitCode.USAGE, "there are no recipients: name them, or use -t with To, Cc or Bcc in the message"
        )
    service = client(context)
    given = _known(sender) or message.sender()
    setting = service.get("/api/v1/send", {"profile": profile, "sender": given})
    author = given or setting["sender_address"]
    if not author:
        raise CommandError(ExitCode.USAGE, f"{setting['profile']} has no sender_address and no account: use -f FROM")
    name = sender_name or message.sender_name() or (None if given else setting["sender_name"])
    content = message.completed(author, one_line(name) if name else None, output.now())
    _judge(service.send(content, setting["profile"], author, _deliverable(to, setting["local_mail_to"])))


def _known(sender: str | None) -> str | None:
    """The sender, unless it is a user of this machine or `<>`, which no mail server knows."""
    from adapters.cli.sendmail_message import is_local

    address = (sender or "").strip("<>")
    return address if address and not is_local(address) else None


def _deliverable(recipients: list[str], local_mail_to: list[str]) -> list[str]:
    """The recipients, each once, and for users of this machine those who get their mail."""
    from adapters.cli.sendmail_message import is_local

    local = [address for address in recipients if is_local(address)]
    if local and not local_mail_to:
        raise CommandError(
            ExitCode.USAGE,
            f"{local[0]} is a user of this machine, not an e-mail address: set local_mail_to under [send] in the"
            " service's configuration, or MAILTO in a crontab",
        )
    known = [address for address in recipients if address not in local]
    return list(dict.fromkeys([*known, *(local_mail_to if local else [])]))

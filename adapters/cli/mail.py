"""`mailtoken test` and `mailtoken send`: the mail servers at the other end."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from adapters.cli import screen
from adapters.cli.client import Client, Object
from adapters.cli.invocation import client
from adapters.cli.profiles import Name
from adapters.cli.wire import CommandError, ExitCode, one_line, profile_path, say


def try_connection(
    context: typer.Context,
    profile: Name,
    to: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Also deliver a test message there.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Test a setting's connection with its token, step by step."""
    report = client(context).test(profile, to)
    if json:
        screen.write_json(report)
    else:
        for step in report["steps"]:
            mark = Text("✓ ", "green") if step["ok"] else Text("✗ ", "bold red")
            name, seconds = f"{screen.clean(step['name']):<13}", f"{step['seconds']:6.2f} s  "
            screen.show(Text.assemble(mark, name, (seconds, "dim"), screen.clean(step["detail"])))
    _judge(report)
    if not json:
        screen.tell(report["verdict"])


def _judge(report: Object) -> None:
    if not report["ok"]:
        exit_code = ExitCode.UNREACHABLE if report["fault"] == "network" else ExitCode.FAILED
        raise CommandError(exit_code, f"{report['profile']}: {report['verdict']}")


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
        list[str] | None, typer.Option("-o", metavar="OPTION", help="Accepted and ignored, as in -oi and -oem.")
    ] = None,
    body_type: Annotated[str | None, typer.Option("-B", hidden=True)] = None,
) -> None:
    """Send the message on standard input, as sendmail does."""
    from adapters.cli.message import Message

    service = client(context)
    if sys.stdin.isatty():
        say("type the message, header first; Ctrl-D ends it")
    message = Message.read(sys.stdin.buffer.read())
    to = list(dict.fromkeys([*(recipients or []), *(message.recipients() if from_message else [])]))
    if not to:
        raise CommandError(
            ExitCode.USAGE, "there are no recipients: name them, or use -t with To, Cc or Bcc in the message"
        )
    envelope_from = (sender or "").strip("<>") or message.sender()
    author, name = envelope_from, sender_name
    if not author:
        author, name = _sender_of(service, profile, sender_name)
    content = message.completed(author, one_line(name) if name else None, screen.now())
    _judge(service.send(content, profile, envelope_from, to))


def _sender_of(service: Client, profile: str | None, name: str | None) -> tuple[str, str | None]:
    """Who sends through a profile, when neither the message nor the command says."""
    if profile is None:
        raise CommandError(ExitCode.USAGE, "nothing says who sends this: use -f FROM, or put From in the message")
    setting = service.get(profile_path(profile))
    author = setting["sender_address"] or setting["mailbox"]
    if not author:
        raise CommandError(ExitCode.USAGE, f"{profile} has no sender_address and no account: use -f FROM")
    return author, name or setting["sender_name"]

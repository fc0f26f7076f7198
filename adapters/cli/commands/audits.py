"""`mailtoken audit`: what happened, and whether anybody changed the record. It needs no running service."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from adapters.cli import output
from adapters.cli.context import CommandContext
from adapters.cli.service_socket import CommandError, print_error
from adapters.error_kinds import ExitCode
from adapters.texts import events
from adapters.texts.wording import Surface
from infrastructure.new_file import new_file

if TYPE_CHECKING:
    from infrastructure.queries.audit import Finding

app = typer.Typer(help="Read the log, verify it, rebuild from it, export it.", no_args_is_help=True)


Object = dict[str, Any]


class _Line(NamedTuple):
    when: str
    who: str
    subject: str
    what: str


@app.command()
def log(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Argument(
            help="One setting, or a machine with all of its settings, also one that is gone; all without it."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """Show what happened, when, and who did it."""
    records, created = _history(context, profile)
    if profile is not None and not records:
        raise CommandError(ExitCode.NOT_FOUND, f"no event is about {profile!r}: see mailtoken profile list")
    if json:
        output.write_json(records)
        return
    names = events.names_in(created)
    lines = [_line(record, names) for record in records]
    output.show(_wide(lines) if output.out().width >= output.WIDE else _narrow(lines))


def _line(record: Object, names: Mapping[str, str]) -> _Line:
    instant = datetime.fromisoformat(record["at"]).astimezone()
    return _Line(
        f"{instant:%Y-%m-%d %H:%M:%S}",
        output.clean(", ".join(filter(None, reversed(events.author_of(record["by"]))))),
        output.clean(events.subject_of(record, names)),
        output.clean(events.event_text(record, names, Surface.COMMAND)),
    )


def _wide(lines: Iterable[_Line]) -> Table:
    table = output.table("When", "Who", "What about", "What happened")
    for column in table.columns[:3]:
        column.no_wrap = True
    for line in lines:
        table.add_row(line.when, Text(line.who), Text(line.subject), Text(line.what))
    return table


def _narrow(lines: Iterable[_Line]) -> Text:
    paragraphs = (
        Text.assemble((f"{line.when}  {line.who}\n", "dim"), (f"{line.subject}: ", "bold"), line.what) for line in lines
    )
    return Text("\n").join(paragraphs)


@app.command()
def export(context: typer.Context) -> None:
    """Print the log as JSON, one event a line."""
    from adapters import installation

    with installation.offline(CommandContext.of(context).config) as store:
        for record in store.history.every_record():
            sys.stdout.write(jsonlib.dumps(record.as_json()) + "\n")


OutFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it into this new file.")]


@app.command()
def checkpoint(context: typer.Context, out: OutFile = None) -> None:
    """Print a signed checkpoint of the log, to be kept elsewhere: a changed log does not agree with it."""
    from adapters import installation
    from infrastructure.evidence.log_evidence import GrowingLog

    with (
        installation.offline(CommandContext.of(context).config) as store,
        output.progress("reading the log") as progress,
    ):
        made = store.evidence.extend(GrowingLog(), progress)
    _write(made.text.encode(), out)


@app.command()
def prove(
    context: typer.Context,
    event: Annotated[int, typer.Argument(help="The number of its line in mailtoken audit export.", show_default=False)],
    out: OutFile = None,
) -> None:
    """Print what is stored of an event, and with --out write the proof that the log has it.

    A verifier takes what is printed, octet by octet, the proof, and the public key of mailtoken audit key.
    """
    from adapters import installation

    with (
        installation.offline(CommandContext.of(context).config) as store,
        output.progress("reading the log") as progress,
    ):
        proof = store.evidence.prove(event, progress)
    if out:
        _write(proof.text.encode(), out)
    output.write_octets(proof.octets)
    if out is None:
        print_error("--out FILE writes the proof")


@app.command()
def key(context: typer.Context) -> None:
    """Print the public key with which checkpoints and proofs are verified."""
    from adapters import installation

    with installation.offline(CommandContext.of(context).config) as store:
        output.print_message(store.evidence.key.text)


def _write(octets: bytes, out: Path | None) -> None:
    if out is None:
        output.write_octets(octets)
        return
    with new_file(out) as file:
        file.write(octets)


@app.command()
def verify(
    context: typer.Context,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check that the log extends the checkpoint in this file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Check the stored rows, the hash chain and the vault's references against the log."""
    if against:
        _verify_against(context, against, json=json)
        return
    from adapters import installation

    config = CommandContext.of(context).config
    with installation.offline(config, needs_key=False) as store, output.progress("verifying") as progress:
        verification = store.audit.verify(progress)
    findings = verification.findings
    if json:
        found = _as_json(findings)
        output.write_json({"events": verification.events, "has_key": verification.has_key, "findings": found})
    else:
        _print_findings(findings)
    if not verification.has_key:
        print_error("there is no key, so the links of the hash chain and its head were not checked")
    if findings:
        count = len(findings)
        raise CommandError(
            ExitCode.FAILED,
            f"{count} finding{'s' if count > 1 else ''} in {verification.events} events: "
            "mailtoken audit rebuild makes rows from the log again; a log that was changed needs a backup",
        )
    if not json:
        chain = "the hash chain" if verification.has_key else "the numbers of the hash chain"
        output.print_message(
            f"{verification.events} events verified: the rows, {chain} and the vault agree with the log."
        )


def _as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    from adapters.texts.audit_findings import finding_text

    return [{"index": one.index, "kind": one.code, "text": finding_text(one)} for one in findings]


def _print_findings(findings: Sequence[Finding]) -> None:
    from adapters.texts.audit_findings import finding_line

    for finding in findings:
        output.print_message(finding_line(finding))


def _verify_against(context: typer.Context, file: Path, *, json: bool) -> None:
    from adapters import installation
    from infrastructure.queries.audit import Finding

    octets = file.read_bytes()
    with (
        installation.offline(CommandContext.of(context).config) as store,
        output.progress("verifying") as progress,
    ):
        compared = store.evidence.compare(octets, str(file), progress)
        # Who has changed an event without the key has left a chain that names it.
        of_chain = [] if compared.extends else store.audit.verify_chain()
    size, events = compared.checkpoint.size, compared.events
    findings = [] if compared.extends else [Finding("checkpoint_differs", {"size": size}), *of_chain]
    if json:
        output.write_json({"events": events, "checkpoint": size, "findings": _as_json(findings)})
    else:
        _print_findings(findings)
    if findings:
        raise CommandError(ExitCode.FAILED, f"the log, of {events} events, does not extend {file}")
    if not json:
        output.print_message(f"The log, of {events} events, extends the checkpoint of {size}.")


@app.command()
def rebuild(context: typer.Context) -> None:
    """Make the stored rows from the log again."""
    from adapters import installation

    with (
        installation.offline(CommandContext.of(context).config) as store,
        output.progress("rebuilding") as progress,
    ):
        events = store.rebuild(progress)
    output.print_message(f"The rows are made again, from {events} events.")


def _history(context: typer.Context, profile: str | None) -> tuple[list[Object], list[Object]]:
    """The records of a setting, a machine or all, and the records of the creation of what they name."""
    from adapters import installation

    with installation.offline(CommandContext.of(context).config) as store:
        if profile is None:
            every = [record.as_json() for record in store.history.every_record()]
            return every, every
        records = store.history.records(profile)
        created = store.history.created(records)
    return [record.as_json() for record in records], [record.as_json() for record in created]

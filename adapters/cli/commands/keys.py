"""`mailtoken key`: the keys of the store, what needs each, and their rotation. It needs no running service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.cli import output
from adapters.cli.context import CommandContext

if TYPE_CHECKING:
    from adapters.keys import KeyUse, RotatedIntegrity

app = typer.Typer(help="The key of the store: what needs it, and a new one in its place.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """Show each key, and how much in the store and in this node's escrow needs it."""
    from adapters import keys

    uses = keys.key_uses(CommandContext.of(context).config)
    if json:
        output.write_json([asdict(use) for use in uses])
        return
    records = [(use.key_id, _state(uses, use), use.values, use.replies) for use in uses]
    output.show(output.rows(("Key", "State", "Sealed values", "Replies in escrow"), records))
    for use in uses:
        if use.used_by:
            output.print_message(f"The key {use.key_id} is used by {', '.join(use.used_by)}.")
        if use.here and use.missing_on:
            output.print_message(f"The key {use.key_id} is missing on {', '.join(use.missing_on)}.")


def _state(uses: Sequence[KeyUse], use: KeyUse) -> str:
    if use.in_use:
        return "in use"
    if not use.here:
        return "missing"
    return "older" if any(one.in_use for one in uses[: uses.index(use)]) else "newer"


@app.command()
def rotate(
    context: typer.Context,
    alone: Annotated[
        bool, typer.Option("--alone", help="Forget the other nodes; one that comes back needs a copy of the key file.")
    ] = False,
    integrity: Annotated[
        bool, typer.Option("--integrity", help="Renew the keys of the rows, the log and the checkpoints too.")
    ] = False,
) -> None:
    """Make a new key and seal everything anew with it, while the service runs; run it again to retire the older key."""
    from adapters import keys

    config = CommandContext.of(context).config
    with output.progress("sealing anew", "values and rows") as progress:
        rotated = keys.rotate(config, alone=alone, integrity=integrity, progress=progress)
    if rotated.missing_on:
        output.print_message(
            f"The key file has the new key {rotated.key_id}, which is not used yet. Copy the file to"
            f" {', '.join(rotated.missing_on)}. Next: run mailtoken key rotate again in a minute."
        )
        return
    output.print_message(f"{rotated.values} values are sealed anew with the key {rotated.key_id}.")
    if rotated.retired:
        output.print_message(
            f"The older key is in {rotated.retired}: keep it with the backups made before, which need it."
        )
    else:
        output.print_message(
            "The key file has both keys: copy it to where the key is kept. Next: run mailtoken key rotate again in an"
            " hour, which retires the older key if nothing needs it."
        )
    if rotated.integrity:
        _say_integrity(rotated.integrity)


def _say_integrity(rotated: RotatedIntegrity) -> None:
    output.print_message(f"{rotated.rows} rows are authenticated anew with the integrity key {rotated.number}.")
    if rotated.ended:
        output.print_message("The rows' older integrity key is deleted.")
    else:
        output.print_message(
            "The rows' older integrity key is believed until mailtoken key rotate runs again in an hour. Give the new"
            " public key to whoever verifies checkpoints: mailtoken audit key."
        )

"""`mailtoken completion` and `man-pages`: what a shell and man(1) know of the command line, made from itself."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli import output

VARIABLE = "_MAILTOKEN_COMPLETE"
"""The environment variable with which a shell asks for completions; Typer answers before any command runs."""


class Shell(StrEnum):
    """The shells that completion is made for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def prepare_completion() -> None:
    """Have Typer know the shells; it does so by itself only where each program has options to install completion."""
    from typer.completion import get_completion_inspect_parameters

    get_completion_inspect_parameters()


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.", metavar="SHELL", show_default=False)],
) -> None:
    """Print what makes a shell complete the commands and options of mailtoken."""
    prepare_completion()
    os.environ[VARIABLE] = f"source_{shell}"
    context.find_root().command.main([], prog_name="mailtoken")


def man_pages(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Where to, such as /usr/local/share/man/man1.", show_default=False)],
) -> None:
    """Write the manual page of each command; pages that are there are replaced."""
    from adapters.cli.manual_pages import manual_pages

    directory.mkdir(parents=True, exist_ok=True)
    pages = list(manual_pages(context.find_root().command))
    for page in pages:
        (directory / page.file_name).write_text(page.text)
    output.print_message(f"{len(pages)} pages in {directory}")

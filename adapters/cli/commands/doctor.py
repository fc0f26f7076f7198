"""`mailtoken doctor`: what an operator looks at first."""

from __future__ import annotations

import io
import json as json_format
import os
import re
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from adapters.cli import output
from adapters.cli.context import CommandContext, client
from adapters.cli.service_socket import print_error
from adapters.error_kinds import ExitCode
from infrastructure.config.store_url import split_password
from infrastructure.new_file import new_file

if TYPE_CHECKING:
    from adapters.doctor import Diagnosis

_STYLES = {"good": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "bold red")}
_USER_INFO = re.compile(r"(?<=://)[^/\s\"'@]*:[^/\s\"'@]*@")
_SECRET_VALUE = re.compile(r"^(\s*#?\s*(?:webhook|command)\s*=\s*)\S.*$", re.MULTILINE)
"""The address of a webhook is a secret as a whole, and a command may have one among its arguments."""
_STRING = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")


def doctor(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write what support needs into a new file, without secrets."),
    ] = None,
) -> None:
    """Look at configuration, key, store, disk, clock, certificates, service, providers, ports and the last backup."""
    from adapters.doctor import Verdict, examine

    config = CommandContext.of(context).config

    def ask(method: str, target: str) -> Any:
        service = client(context)
        return service.get(target) if method == "GET" else service.post(target)

    found = list(examine(config, ask))
    if json:
        output.write_json([asdict(one) for one in found])
    else:
        for one in found:
            sign, style = _STYLES[one.verdict]
            output.show(Text.assemble((f"{sign} ", style), f"{one.subject}: {one.text}"))
    if bundle:
        _write_bundle(bundle, config, found)
        print_error(f"the bundle is {bundle}")
    if any(one.verdict is Verdict.BAD for one in found):
        raise typer.Exit(ExitCode.FAILED)


def _write_bundle(path: Path, config: Path, found: list[Diagnosis]) -> None:
    """Write the diagnoses, the configuration without passwords, and the versions of all packages.

    Raises:
        Refused: there is a file already.
        OSError: the file can't be written.
    """
    versions = sorted(f"{one.name} {one.version}" for one in metadata.distributions())
    about = [f"Python {sys.version}", " ".join(os.uname()), *versions]
    content = {
        "doctor.json": json_format.dumps([asdict(one) for one in found], indent=2),
        "mailtoken.toml": without_passwords(config.read_text(errors="replace")),
        "versions.txt": "\n".join(about),
    }
    with new_file(path) as file:
        _write_archive(file, content)


def _write_archive(file: IO[bytes], content: Mapping[str, str]) -> None:
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in content.items():
            octets = text.encode(errors="replace")
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(octets), 0o600
            archive.addfile(member, io.BytesIO(octets))


def without_passwords(text: str) -> str:
    """A configuration without the passwords in its addresses, also in its comments."""

    def cleaned(match: re.Match[str]) -> str:
        quote, value = match[0][0], match[0][1:-1]
        return f"{quote}{split_password(_USER_INFO.sub('***@', value))[0]}{quote}"

    return _STRING.sub(cleaned, _SECRET_VALUE.sub(r'\1"***"', text))

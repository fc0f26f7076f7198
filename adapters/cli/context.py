"""The options of `mailtoken` itself, which may be given before or among a command's own options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from adapters.cli.service_socket import config_file, socket_file

if TYPE_CHECKING:
    from adapters.cli.http_client import ServiceConnection


@dataclass(frozen=True)
class CommandContext:
    """The options of `mailtoken` itself, and the configuration they name."""

    config_option: str | None = None
    searches_here: bool = True
    """Whether a configuration in the current directory counts."""

    @classmethod
    def of(cls, context: typer.Context) -> CommandContext:
        """The options of this run, from Typer's context."""
        command_context = context.obj
        assert isinstance(command_context, cls)
        return command_context

    @property
    def config(self) -> Path:
        """The configuration file.

        Raises:
            CommandError: no configuration was found.
        """
        return config_file(self.config_option, searches_here=self.searches_here)


def client(context: typer.Context) -> ServiceConnection:
    """A client of the service that the configuration names."""
    from adapters.cli.http_client import ServiceConnection

    return ServiceConnection(socket_file(CommandContext.of(context).config))

"""What a command was called with, before its own arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from adapters.cli.wire import locate_config, locate_socket

if TYPE_CHECKING:
    from adapters.cli.client import Client


@dataclass(frozen=True)
class Invocation:
    """The options of `mailtoken` itself, and what they lead to."""

    config_option: str | None

    @classmethod
    def of(cls, context: typer.Context) -> Invocation:
        """The one this command runs in."""
        invocation = context.obj
        assert isinstance(invocation, cls)
        return invocation

    @property
    def config(self) -> Path:
        """The configuration file."""
        return locate_config(self.config_option)


def client(context: typer.Context) -> Client:
    """The service that the configuration names."""
    from adapters.cli.client import Client

    return Client(locate_socket(Invocation.of(context).config))

"""Where the configuration and the service's socket are. Standard library only: `token show` starts with this."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE_NAME = "mailtoken.toml"
SOCKET_NAME = "mailtoken.sock"
_LONGEST_PATH = 100
"""sun_path has 108 bytes (unix(7))."""


def find_config(option: str | None, environment: Mapping[str, str]) -> Path:
    """The configuration file: the option, MAILTOKEN_CONFIG, else here, the user's directory, the system's.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for.
    """
    named = option or environment.get("MAILTOKEN_CONFIG")
    if named:
        if not os.path.isfile(named):
            raise FileNotFoundError(f"there is no configuration at {named}: run mailtoken init, or correct the path")
        return Path(named).absolute()
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    places = (Path.cwd(), Path(home, "mailtoken"), Path("/etc/mailtoken"))
    for place in places:
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    looked = ", ".join(str(place) for place in places)
    raise FileNotFoundError(f"there is no {FILE_NAME} in {looked}: run mailtoken init, or name it with --config")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a configuration file.

    Raises:
        OSError: it can't be read.
        tomllib.TOMLDecodeError: it is not TOML; says where.
    """
    with path.open("rb") as file:
        try:
            return tomllib.load(file)
        except UnicodeDecodeError as error:
            raise tomllib.TOMLDecodeError(f"not UTF-8 (at byte {error.start})") from None


def socket_path(config: Path, tables: Mapping[str, Any]) -> Path:
    """Where the service listens: `[server] socket`, beside the configuration by default."""
    server = tables.get("server")
    name = server.get("socket", SOCKET_NAME) if isinstance(server, dict) else SOCKET_NAME
    return config.parent / str(name)


@contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A name for the socket that fits into sun_path, however long its directory's is."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)

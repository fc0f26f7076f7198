"""The paths of the configuration file and of the service's socket. Few imports, since they slow each `token show`."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE_NAME = "mailtoken.toml"
SOCKET_NAME = "mailtoken.sock"
_LONGEST_PATH = 100
"""In bytes; sun_path has 108 (unix(7))."""


class ConfigurationMissing(Exception):
    """There is no configuration file: `places` is the path that was named, or the directories that were searched.

    `unsafe` is a file in the current directory that is not used, as somebody else could have written it. The class is
    no error of the domain, since `token show` starts without the domain.
    """

    def __init__(self, *places: Path, is_named: bool = True, unsafe: Path | None = None) -> None:
        super().__init__(", ".join(map(str, places)))
        self.is_named = is_named
        self.unsafe = unsafe


def find_config(option: str | None, environment: Mapping[str, str], *, searches_here: bool = True) -> Path:
    """The configuration file: `option`, MAILTOKEN_CONFIG, or in the current, the user's or the system's directory.

    In the current directory it is used only if nobody but root and this user could have written it; not at all unless
    `searches_here`, as a program that calls sendmail may run anywhere.

    Raises:
        ConfigurationMissing: the named file is missing, or no directory has a configuration file.
    """
    named = option or environment.get("MAILTOKEN_CONFIG")
    if named:
        if not os.path.isfile(named):
            raise ConfigurationMissing(Path(named))
        return Path(named).absolute()
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    here = Path.cwd()
    unsafe: Path | None = None
    places: tuple[Path, ...] = (*((here,) if searches_here else ()), Path(home, "mailtoken"), Path("/etc/mailtoken"))
    for place in places:
        path = place / FILE_NAME
        if path.is_file():
            if place != here or (_is_ours_alone(path) and _is_ours_alone(here)):
                return path
            unsafe = path
    raise ConfigurationMissing(*places, is_named=False, unsafe=unsafe)


def _is_ours_alone(path: Path) -> bool:
    """Whether this path belongs to root or this user, and nobody else may write to it.

    The group may, if this user is alone in it, as many systems give each user a group and a umask of 002.
    """
    about = path.stat()
    if about.st_uid not in (0, os.geteuid()) or about.st_mode & stat.S_IWOTH:
        return False
    return not about.st_mode & stat.S_IWGRP or _is_own_group(about.st_gid)


def _is_own_group(gid: int) -> bool:
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and user.pw_name == group.gr_name and set(group.gr_mem) <= {user.pw_name}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a configuration file.

    Raises:
        OSError: the file can't be read.
        tomllib.TOMLDecodeError: the file is not TOML; the message says where.
    """
    with path.open("rb") as file:
        try:
            # Some editors write a byte order mark first.
            return tomllib.loads(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise tomllib.TOMLDecodeError(f"not UTF-8 (at byte {error.start})") from None


def socket_path(config: Path, tables: Mapping[str, Any]) -> Path:
    """The path of the service's Unix socket: `[server] socket`, by default beside the configuration."""
    server = tables.get("server")
    name = server.get("socket", SOCKET_NAME) if isinstance(server, dict) else SOCKET_NAME
    return config.parent / str(name)


@contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A path of the socket that fits into sun_path, even if the path of its directory is too long for it."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)

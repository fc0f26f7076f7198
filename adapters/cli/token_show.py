"""`mailtoken token show` without the imports of the other commands: mail programs run it for every message.

The module parses only the usual arguments, and speaks HTTP by hand on a raw socket: the import of an HTTP client would
take longer than the rest of the command. Unusual arguments are left to the full program, whose `token show` also calls
`show`.
"""

from __future__ import annotations

import json
import sys
from binascii import b2a_base64
from pathlib import Path
from typing import Any, NamedTuple

from adapters.cli.service_socket import (
    TIMEOUT_SECONDS,
    CommandError,
    config_file,
    connect,
    connection_lost,
    error_of_problem,
    output_closed,
    print_error,
    profile_path,
    socket_file,
    unexpected,
)
from adapters.error_kinds import ExitCode

MECHANISMS = ("xoauth2", "oauthbearer")


class Wanted(NamedTuple):
    """The profile whose token is shown, and the form of the output. `min_ttl` is in seconds."""

    profile: str
    config: str | None = None
    min_ttl: str | None = None
    sasl: str | None = None
    json: bool = False


def read_arguments(arguments: list[str]) -> Wanted | None:
    """The request that these arguments make; None if only the full program can parse them."""
    words: list[str] = []
    options: dict[str, Any] = {}
    left = iter(arguments)
    for argument in left:
        name, has_value, value = argument.partition("=")
        if argument == "--json":
            options["json"] = True
        elif name in ("--config", "--min-ttl", "--sasl"):
            options[name[2:].replace("-", "_")] = value if has_value else next(left, "")
        elif argument.startswith("-"):
            return None
        else:
            words.append(argument)
    wanted = Wanted(words[2], **options) if words[:2] == ["token", "show"] and len(words) == 3 else None
    return wanted if wanted and _is_usual(wanted) else None


def _is_usual(wanted: Wanted) -> bool:
    seconds = wanted.min_ttl
    return (
        wanted.config != ""
        and (seconds is None or (seconds.isascii() and seconds.isdigit()))
        and wanted.sasl in (None, *MECHANISMS)
        and not (wanted.sasl and wanted.json)
    )


def run(wanted: Wanted) -> int:
    """Print the token to standard output; returns the exit code."""
    try:
        sys.stdout.write(show(wanted) + "\n")
        sys.stdout.flush()
    except CommandError as error:
        print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return output_closed()
    except Exception as error:
        print_error(str(unexpected(error)))
        return ExitCode.FAILED
    return ExitCode.DONE


def show(wanted: Wanted) -> str:
    """The access token alone, or the JSON or SASL response that was asked for.

    Raises:
        CommandError: the service gave no token, or can't be reached.
    """
    served = _ask(socket_file(config_file(wanted.config)), _target(wanted))
    if wanted.json:
        return json.dumps(served, indent=2)
    token = str(served["access_token"])
    return initial_response(wanted.sasl, str(served["mailbox"]), token) if wanted.sasl else token


def initial_response(mechanism: str, mailbox: str, token: str) -> str:
    """The SASL initial response in base64, without host and port, which are optional (RFC 7628)."""
    if mechanism == "xoauth2":
        response = f"user={mailbox}\x01auth=Bearer {token}\x01\x01"
    else:
        name = mailbox.replace("=", "=3D").replace(",", "=2C")
        response = f"n,a={name},\x01auth=Bearer {token}\x01\x01"
    return b2a_base64(response.encode(), newline=False).decode()


def _target(wanted: Wanted) -> str:
    query = f"?min_ttl={wanted.min_ttl}" if wanted.min_ttl is not None else ""
    return f"{profile_path(wanted.profile)}/access-token{query}"


def _ask(path: Path, target: str) -> Any:
    request = f"GET {target} HTTP/1.1\r\nHost: mailtoken\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    with connect(path, TIMEOUT_SECONDS) as connection:
        try:
            connection.sendall(request.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as error:
            raise connection_lost(str(error)) from None
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        status = int(head.split(None, 2)[1])
        if status == 200:
            return json.loads(body)
    except (ValueError, IndexError):
        raise connection_lost(f"{len(answer)} bytes that are no answer") from None
    raise error_of_problem(status, body)

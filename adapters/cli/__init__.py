"""The command line: `mailtoken`, a client of the service over its Unix socket; a few commands need no service.

`token_show` is the fast path of `token show`; `app` has every command, one module of `commands` for each noun. `main`
imports `app` only if the fast path can't serve the arguments, so that `token show` does not pay for its imports.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command that the arguments name; returns its exit code."""
    arguments = sys.argv[1:]
    if os.path.basename(sys.argv[0]) == "sendmail":
        return _run_in_full(["send", *arguments], is_sendmail=True)
    try:
        from adapters.cli import token_show

        wanted = token_show.read_arguments(arguments)
        if wanted:
            # Everything is flushed. An orderly exit of the interpreter would take as long as the command itself.
            os._exit(token_show.run(wanted))
    except (ImportError, AttributeError) as error:
        return _explain(error)
    return _run_in_full(arguments)


def _run_in_full(arguments: list[str], *, is_sendmail: bool = False) -> int:
    from adapters.cli import package_check

    if trouble := package_check.problem():
        return _end(trouble)
    from adapters.cli.app import run

    return run(arguments, searches_here=not is_sendmail)


def _explain(error: Exception) -> int:
    from adapters.cli import package_check

    return _end(package_check.problem() or f"its installation is not complete ({error}): install mailtoken again")


def _end(trouble: str) -> int:
    sys.stderr.write(f"mailtoken: {trouble}\n")
    return 1

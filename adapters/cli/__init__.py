"""The command line: `mailtoken`. A client of the service over its Unix socket, but for what needs no service.

`show` is the fast path of `token show`; `app` is everything else, with one module for each noun. Nothing here may be
imported before `main` has looked at the arguments: what an import costs, each `token show` would pay.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command that the arguments name; returns its exit code."""
    arguments = sys.argv[1:]
    if os.path.basename(sys.argv[0]) == "sendmail":
        return _run_in_full(["send", *arguments])
    try:
        from adapters.cli import show

        wanted = show.read_arguments(arguments)
        if wanted:
            # All is flushed; taking the interpreter apart in order would cost as much as the work itself.
            os._exit(show.run(wanted))
    except (ImportError, AttributeError) as error:
        return _explain(error)
    return _run_in_full(arguments)


def _run_in_full(arguments: list[str]) -> int:
    from adapters.cli import guard

    if trouble := guard.shadow():
        return _end(trouble)
    from adapters.cli.app import run

    return run(arguments)


def _explain(error: Exception) -> int:
    from adapters.cli import guard

    return _end(guard.shadow() or f"it is not whole ({error}): install mailtoken again")


def _end(trouble: str) -> int:
    sys.stderr.write(f"mailtoken: {trouble}\n")
    return 1

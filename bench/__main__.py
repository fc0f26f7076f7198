"""`python -m bench`: measure everything and show it, as a table or with `--json`."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog
from dovecot import NoDovecot
from postgres import NoPostgres
from rich.console import Console
from rich.text import Text

from adapters.cli import output
from bench.access_tokens import access_tokens
from bench.acquisitions import acquisitions
from bench.commands import token_show
from bench.growth import growth
from bench.log_growth import log_growth
from bench.mail_queues import NoQueue
from bench.pages import pages
from bench.queues import exim_queue, postfix_queue
from bench.reading import rebuild, status_read
from bench.relay import relay
from bench.renewals import renewals, reply_to_escrow
from bench.rotation import rotation
from bench.rounds import FULL, QUICK, Figure, Size
from bench.saves import postgres_saves, sqlite_saves


def main() -> int:
    """Measure and show; never fails because of a number."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--json", action="store_true", help="print an object")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"all by default: {', '.join(SECTIONS)}")
    wanted = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    unknown = set(wanted.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section is called {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    size = QUICK if wanted.quick else FULL
    if not wanted.sections:
        # A store of 100,000 settings is made only for who asks for it.
        size = replace(size, growth_settings=QUICK.growth_settings)
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mailtoken-bench-") as folder:
        figures = list(_with_progress(_figures(wanted.sections or list(SECTIONS), Path(folder), size, left_out)))
    if wanted.json:
        _write_json(figures, left_out, quick=wanted.quick)
    else:
        _show(figures, left_out)
    return 0


def _figures(sections: Sequence[str], folder: Path, size: Size, left_out: list[str]) -> Iterator[Figure]:
    for name in sections:
        try:
            yield from SECTIONS[name](folder / name, size)
        except (NoPostgres, NoDovecot, NoQueue) as none:
            left_out.append(f"{name}: {none}")


def _in_postgres(_: Path, size: Size) -> Iterator[Figure]:
    yield postgres_saves(size)


def _alone(measure: Callable[[Path, Size], Figure]) -> Section:
    def section(folder: Path, size: Size) -> Iterator[Figure]:
        folder.mkdir()
        yield measure(folder, size)

    return section


def _renewals(folder: Path, size: Size) -> Iterator[Figure]:
    yield from renewals(folder, size)
    yield reply_to_escrow(folder, size)


Section = Callable[[Path, Size], Iterator[Figure]]
SECTIONS: Mapping[str, Section] = {
    "saves": _alone(sqlite_saves),
    "postgresql": _in_postgres,
    "rotation": _alone(rotation),
    "status": _alone(status_read),
    "rebuild": _alone(rebuild),
    "token-show": lambda _, size: iter([token_show(size)]),
    "access-tokens": access_tokens,
    "acquisitions": acquisitions,
    "renewals": _renewals,
    "relay": relay,
    "postfix": postfix_queue,
    "exim": exim_queue,
    "log-growth": log_growth,
    "growth": growth,
    "pages": pages,
}


def _with_progress(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Say what is done already, to a person who waits."""
    with Console(stderr=True).status("measuring ...") as progress:
        for figure in figures:
            progress.update(f"measuring ... {figure.name}: done")
            yield figure


def _write_json(figures: list[Figure], left_out: list[str], *, quick: bool) -> None:
    report = {
        "quick": quick,
        "python": platform.python_version(),
        "figures": [figure.as_json() for figure in figures],
        "left_out": left_out,
    }
    print(json.dumps(report, indent=2))


def _show(figures: list[Figure], left_out: list[str]) -> None:
    table = output.table("Figure", "Ours", "Beside it", "Ratio", "Middle half", "Target", "What it is")
    for column in table.columns[:6]:
        column.no_wrap = True
    for figure in figures:
        table.add_row(
            Text(figure.name, "bold"),
            f"{_number(figure.ours)} {figure.unit}",
            f"{_number(figure.peer)} {figure.unit}",
            f"{figure.ratio:.2f}",
            f"{figure.lower_quartile:.2f} to {figure.upper_quartile:.2f}",
            _target(figure),
            Text(f"beside {figure.peer_name}; limited by {figure.limited_by}"),
        )
    output.show(table)
    for line in left_out:
        output.print_message(f"left out: {line}")
    output.print_message("Medians of rounds in turns; a ratio is ours to what stands beside it in the same round.")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _target(figure: Figure) -> Text:
    if figure.target is None:
        return Text("none", "dim")
    target = Text(f"{'≥' if figure.more_is_better else '≤'} {figure.target:g} ")
    return target.append("reached", "green") if figure.reached else target.append("missed", "bold red")


if __name__ == "__main__":
    sys.exit(main())

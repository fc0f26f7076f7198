"""`python -m mutation`: put faults into the code, and show the share that the tests notice and each that they don't.

Every mutant of `domain/` is tried with the tests of `tests/domain`; a sample of the others with `tests/infrastructure`,
or with the folder of their adapter (`tests/adapters/http`). What was tried is kept in `.mutation/results.jsonl`, and a
further run goes on from there; a function that changed is tried again. The report is `.mutation/report.txt`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from mutation.children import in_parallel
from mutation.mutants import Mutant, mutants_of
from mutation.report import equivalents, is_known, report, sentence
from mutation.sessions import Baseline, Outcome, import_libraries, measured, try_at_import, try_live

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".mutation"
RESULTS = FOLDER / "results.jsonl"
REPORT = FOLDER / "report.txt"
TARGET = 0.90
SEED = 11
SAMPLE = 500
NOT_SAMPLED = "adapters/texts"  # sentences for people, which hold no decision


def main() -> int:
    """Try what was not tried yet, and write the report. The exit status is 1 if a score is below the target."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description=main.__doc__)
    parser.add_argument("--again", action="store_true", help="try again those that no test noticed or that timed out")
    parser.add_argument("--only", metavar="PATH", default="", help="only the files whose path begins like this")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="the number of mutants outside domain/")
    chosen = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    groups = {"domain": _in("domain"), "a sample of the others": _sample(chosen.sample)}
    mutants = [mutant for group in groups.values() for mutant in group]
    if chosen.again:
        _keep_only_the_killed()
    tried = _tried(mutants)
    known = equivalents()
    left = [mutant for mutant in mutants if mutant not in tried and not is_known(mutant, known)]
    left = [mutant for mutant in left if mutant.path.startswith(chosen.only)]
    for folder, group in _by_test_folder(left).items():
        in_parallel([partial(_try_group, folder, group)])
    text, score = report(groups, _tried(mutants), known)
    REPORT.write_text(text)
    sys.stdout.write(text)
    return 0 if score >= TARGET else 1


def _in(room: str) -> list[Mutant]:
    files = sorted((ROOT / room).rglob("*.py"))
    return [mutant for file in files for mutant in mutants_of(str(file.relative_to(ROOT)), file.read_text())]


def _sample(size: int) -> list[Mutant]:
    """Mutants in the order of a hash: the same each time, and nearly the same after a change of the code."""
    elsewhere = [*_in("infrastructure"), *_in("adapters")]
    eligible = [mutant for mutant in elsewhere if not mutant.path.startswith(NOT_SAMPLED)]
    return sorted(eligible, key=_drawn)[:size]


def _drawn(mutant: Mutant) -> str:
    fault = (SEED, mutant.path, mutant.function, mutant.before, mutant.after)
    return hashlib.sha256(repr(fault).encode()).hexdigest()


def _by_test_folder(mutants: Sequence[Mutant]) -> dict[str, list[Mutant]]:
    groups: defaultdict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        room, *inner = Path(mutant.path).parent.parts
        folder = Path("tests", room, *(inner[:1] if room == "adapters" else ()))
        groups[str(folder)].append(mutant)
    return dict(groups)


def _try_group(folder: str, mutants: Sequence[Mutant]) -> None:
    """Try mutants with the tests of one folder, a share of them on each core."""
    baseline = measured(folder, sorted({mutant.path for mutant in mutants}), ROOT)
    if not isinstance(baseline, Baseline) or not baseline.tests:
        sys.exit(f"{folder}: its tests can't be run")
    for test in baseline.failed:
        _say(f"left out, it fails without a fault: {test}")
    _say(f"{folder}: {len(baseline.tests)} tests, {len(mutants)} mutants")
    import_libraries(baseline)
    cores = len(os.sched_getaffinity(0))
    in_parallel([partial(_try_share, mutants[start::cores], baseline) for start in range(cores)])


def _try_share(mutants: Sequence[Mutant], baseline: Baseline) -> None:
    in_parallel([partial(try_live, mutants, baseline, ROOT, _keep)])
    tried = _tried(mutants)
    for mutant in mutants:
        if mutant not in tried:
            _keep(mutant, try_at_import(mutant, baseline, ROOT))


def _keep(mutant: Mutant, outcome: Outcome) -> None:
    with RESULTS.open("a") as results:
        results.write(json.dumps(asdict(mutant) | {"outcome": outcome.name}) + "\n")
    if outcome is not Outcome.KILLED:
        _say(f"{outcome.name.lower()}: {sentence(mutant)}")


def _keep_only_the_killed() -> None:
    if RESULTS.exists():
        killed = [
            line for line in RESULTS.read_text().splitlines() if json.loads(line)["outcome"] == Outcome.KILLED.name
        ]
        RESULTS.write_text("".join(f"{line}\n" for line in killed))


def _tried(mutants: Sequence[Mutant]) -> dict[Mutant, Outcome]:
    """What became of those that were tried."""
    if not RESULTS.exists():
        return {}
    rows = map(json.loads, RESULTS.read_text().splitlines())
    outcomes = {(row["path"], row["function"], row["digest"], row["number"]): Outcome[row["outcome"]] for row in rows}
    return {mutant: outcomes[mutant.key] for mutant in mutants if mutant.key in outcomes}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

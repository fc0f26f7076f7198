"""The report: the score of each room, each mutant that no test noticed, and those that do the same as the program."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation.mutants import Mutant
from mutation.sessions import Outcome

_EQUIVALENTS = Path(__file__).with_name("equivalents.toml")


@dataclass(frozen=True)
class Equivalent:
    """A fault that changes nothing, wherever its function has it, and the reason."""

    path: str
    function: str
    before: str
    after: str
    because: str

    def is_of(self, mutant: Mutant) -> bool:
        """Whether it is this mutant."""
        there = (mutant.path, mutant.function or "", mutant.before, mutant.after)
        return there == (self.path, self.function, self.before, self.after)


def equivalents() -> list[Equivalent]:
    """Those of `equivalents.toml`."""
    return [Equivalent(**entry) for entry in tomllib.loads(_EQUIVALENTS.read_text()).get("equivalent", [])]


def is_known(mutant: Mutant, known: Sequence[Equivalent]) -> bool:
    """Whether it is one of these."""
    return any(one.is_of(mutant) for one in known)


Fates = Mapping[Mutant, str]
"""What became of each mutant, as the heads of the report's columns say it."""

_KILLED, _TIMED_OUT, _SURVIVED, _EQUIVALENT, _NOT_TRIED = _FATES = (
    "killed",
    "timed out",
    "survived",
    "equivalent",
    "not tried",
)
_FATE_OF = {Outcome.KILLED: _KILLED, Outcome.TIMED_OUT: _TIMED_OUT, Outcome.SURVIVED: _SURVIVED}


def report(
    groups: Mapping[str, Sequence[Mutant]], tried: Mapping[Mutant, Outcome], known: Sequence[Equivalent]
) -> tuple[str, float]:
    """The report on groups of mutants, and the lowest score of a group.

    A score is the share of killed mutants among those that were tried and are not equivalent. A mutant that timed out
    was not killed.
    """
    everything = [mutant for mutants in groups.values() for mutant in mutants]
    fates = {mutant: _fate(mutant, tried, known) for mutant in everything}
    lines = [_line("", "score", *_FATES)]
    for name, mutants in groups.items():
        lines.append(_row(name, mutants, fates))
        rooms = sorted({_room(mutant) for mutant in mutants})
        for room in rooms if len(rooms) > 1 else ():
            lines.append(_row(f"  {room}", [mutant for mutant in mutants if _room(mutant) == room], fates))
    for fate in (_SURVIVED, _TIMED_OUT):
        lines += ["", f"{fate}:", *(f"  {sentence(mutant)}" for mutant in everything if fates[mutant] == fate)]
    lines += ["", "equivalent, which do the same as the program:"]
    for mutant in everything:
        if fates[mutant] == _EQUIVALENT:
            lines += [f"  {sentence(mutant)}", *(f"    {one.because}" for one in known if one.is_of(mutant))]
    return "\n".join([*lines, ""]), min(_score(mutants, fates) or 0.0 for mutants in groups.values())


def sentence(mutant: Mutant) -> str:
    """The mutant as a line of text."""
    return f"{mutant.path}:{mutant.line}: {mutant.before}  ->  {mutant.after}"


def _fate(mutant: Mutant, tried: Mapping[Mutant, Outcome], known: Sequence[Equivalent]) -> str:
    killed = tried.get(mutant) is Outcome.KILLED
    if is_known(mutant, known) and not killed:
        return _EQUIVALENT
    return _FATE_OF[tried[mutant]] if mutant in tried else _NOT_TRIED


def _row(name: str, mutants: Sequence[Mutant], fates: Fates) -> str:
    counts = Counter(fates[mutant] for mutant in mutants)
    score = _score(mutants, fates)
    return _line(name, "-" if score is None else f"{score:.3f}", *(counts[fate] for fate in _FATES))


def _line(name: str, *columns: object) -> str:
    return f"{name:<32}" + "".join(f"{column!s:>11}" for column in columns)


def _score(mutants: Sequence[Mutant], fates: Fates) -> float | None:
    counts = Counter(fates[mutant] for mutant in mutants)
    counted = counts[_KILLED] + counts[_TIMED_OUT] + counts[_SURVIVED]
    return counts[_KILLED] / counted if counted else None


def _room(mutant: Mutant) -> str:
    """The folder, and in `domain/` the file."""
    return mutant.path if mutant.path.startswith("domain/") else str(Path(mutant.path).parent)

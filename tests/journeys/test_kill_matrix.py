"""`kill -9` at every point of a renewal and of an acquisition, whatever the provider does with spent refresh tokens.

What had reached the escrow is in force after the restart; what can be asked for again is, once; what is lost is said.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import point_driver
import pytest
from invariants import assert_whole
from point_driver import PROFILE, Job, Point, Seen
from postgres import PostgresServer
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from service_process import INVALID, NOT_RETRIEVED, POP, PRINTER, RETRIEVED, SCAN, ServiceProcess

from adapters import bootstrap, installation
from adapters.practice.ca import PracticeCA
from adapters.practice.registry import RefreshBehaviour
from infrastructure.config.load import load_config

BEHAVIOURS: tuple[RefreshBehaviour, ...] = ("rotate", "grace", "static")
WORKS = ("renewal", "acquisition")
ENGINES = ("sqlite", "postgresql")

_NOT_ASKED = (Point.BEFORE_CLAIM, Point.CLAIMED, Point.ROOM_TAKEN)
_LOST = (Point.IN_FLIGHT, Point.RECEIVED, Point.HALF_WRITTEN)
_FROM_ESCROW = (Point.ESCROW_WRITTEN, Point.IN_TRANSACTION, Point.BEFORE_COMMIT)
_STORED = (Point.COMMITTED, Point.BEFORE_WIPE)
_WHEN_RECOVERING = (Point.IN_TRANSACTION, Point.BEFORE_COMMIT, Point.COMMITTED, Point.BEFORE_WIPE)
_GRANTS = {"renewal": "refresh_token", "acquisition": DEVICE_CODE_GRANT}

KEPT_ASKED = "kept: asked once"
KEPT_AGAIN = "kept: asked again"
KEPT_ESCROW = "kept: from the escrow"
KEPT_STORED = "kept: was stored"
LOST_INVALID = "lost: Invalid, says why"
LOST_ENDED = "lost: ended, says why"


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix; killed once more while it recovers at `again`, if that is given."""

    work: str
    point: Point
    behaviour: RefreshBehaviour
    engine: str
    again: Point | None = None

    @property
    def outcome(self) -> str:
        """What has to come of it."""
        if self.point in _NOT_ASKED:
            return KEPT_ASKED
        if self.point in _LOST:
            if self.work == "acquisition":
                # A device code is spent at first use, whatever becomes of refresh tokens.
                return LOST_ENDED
            return LOST_INVALID if self.behaviour == "rotate" else KEPT_AGAIN
        return KEPT_ESCROW if self.point in _FROM_ESCROW else KEPT_STORED

    def __str__(self) -> str:
        return "-".join((self.work, self.point.value.replace(" ", "_"), self.behaviour, self.engine))


# The point before or after it has the same outcome.
_SELDOM = (Point.ROOM_TAKEN, Point.HALF_WRITTEN, Point.BEFORE_COMMIT)
ALL = [Cell(*cell) for cell in itertools.product(WORKS, Point, BEHAVIOURS, ENGINES)]


def _differs(cell: Cell) -> bool:
    """Whether another cell of the same work, point and engine can't have this one's outcome in its place.

    What the provider does with a spent refresh token matters only to a renewal whose reply was lost.
    """
    asks_again = cell.work == "renewal" and cell.point in _LOST
    return cell.point not in _SELDOM and (asks_again or cell.behaviour == "rotate")


def _is_thorough(cell: Cell) -> bool:
    """Whether the store has no part in it, and the cell of the other engine shows the same."""
    return cell.engine == "postgresql" and cell.point not in _WHEN_RECOVERING


MATRIX = [
    pytest.param(cell, marks=pytest.mark.thorough if _is_thorough(cell) else ()) for cell in ALL if _differs(cell)
]


class Story:
    """One token, from Get Token to what is left of it after a kill and a restart."""

    def __init__(self, cell: Cell, directory: Path, practice: FaultyProvider, url: str | None) -> None:
        self.cell = cell
        self.practice = practice
        practice.rules.refresh = cell.behaviour
        self.service = ServiceProcess(
            directory, practice, url=url, kind="microsoft" if cell.engine == "sqlite" else "oidc"
        )
        self._prepare()

    def play(self) -> str:
        """All of it; what came of it."""
        cell = self.cell
        self.kill(cell.work, cell.point)
        assert_whole(self.service)
        if cell.again:
            self.kill("recovery", cell.again)
            assert_whole(self.service)
        self.settle()
        return cell.outcome

    def settle(self) -> None:
        """Start again, do what anybody does who finds it so, and look."""
        cell = self.cell
        with self._process("after a renewal" if cell.work == "renewal" else "after an acquisition", None) as process:
            seen = process.hear()
            assert process.ended() == 0
        self._check(seen)

    def _prepare(self) -> None:
        """The instant before: somebody has signed in and nobody has asked, or there is a token to renew."""
        with bootstrap.open_service(load_config(self.service.config)) as service:
            service.settings.add_machine(PRINTER, "sharp-bp", "administrator")
            service.settings.set_profile(PROFILE, {"provider": "contoso", "account": SCAN}, "administrator")
            service.settings.set_profile(POP, {"provider": "contoso", "account": SCAN}, "administrator")
            started = service.tokens.request(PROFILE, "device", "administrator")
            self.service.sign_in({"verification_uri": started.verification_uri, "user_code": started.user_code})
            if self.cell.work == "renewal":
                assert service.tokens.poll(service.tokens.status(PROFILE).profile.token_id) is None

    def _process(self, work: str, point: Point | None) -> point_driver.Process:
        return point_driver.start(point_driver.drive, self.service.log, Job(self.service.config, work, point))

    def kill(self, work: str, point: Point) -> None:
        """Have it do this work in a process that dies at this point."""
        if point is Point.IN_FLIGHT:
            with (
                self.practice.hold(grant_type=_GRANTS[work]) as reply,
                self._process(work, point) as process,
            ):
                reply.wait_until_held(point_driver.DEADLINE_SECONDS)
                process.kill()
                assert process.ended() == -9
            return
        with self._process(work, point) as process:
            assert process.hear() is point
            assert process.ended() == -9

    def _check(self, seen: Seen) -> None:
        cell, practice = self.cell, self.practice
        outcome = cell.outcome
        asked = practice.grant_counts[_GRANTS[cell.work]]
        assert asked == (2 if cell.point in _LOST else 1), "one request, and one more where its reply was lost"
        live = practice.live_refresh_tokens(SCAN)
        if outcome.startswith("kept"):
            assert (seen.label, seen.reason) == (RETRIEVED, None)
            assert seen.access_token in practice.live_access_tokens(SCAN)
            assert seen.refresh_token in live
            if cell.behaviour == "rotate":
                assert live == [seen.refresh_token], "the vault has the only one"
        elif outcome == LOST_INVALID:
            assert (seen.label, seen.reason) == (INVALID, "reply_lost")
            assert seen.said
            assert "token_update_failed" in seen.said
            assert (live, practice.live_access_tokens(SCAN)) == ([], []), "the provider has ended all of it"
        else:
            assert (seen.label, seen.reason) == (NOT_RETRIEVED, "reply_lost")
        if outcome in {KEPT_ESCROW, KEPT_STORED}:
            assert seen.recovered == seen.generation, "it was there before anybody asked"
            assert seen.said is None
        self._check_log()
        assert_whole(self.service)
        assert self.service.rows("SELECT * FROM claim") == []
        assert not list(self.service.escrow.glob("*.reply")), "the escrow is empty"

    def _check_log(self) -> None:
        """Each thing that happened is told once, and a reply that was recovered by whom."""
        with installation.offline(self.service.config) as store:
            token = [one for one in store.history.records(PROFILE) if one.aggregate == "Token"]
        kept = self.cell.outcome.startswith("kept")
        if self.cell.work == "renewal":
            ends = ["Retrieved", "Renewed" if kept else "GrantFoundDead"]
        else:
            ends = ["Retrieved" if kept else "AuthorizationEnded"]
        assert [one.name for one in token] == ["Created", "AuthorizationRequested", *ends]
        if self.cell.outcome == KEPT_ESCROW:
            assert token[-1].by == "worker"


@pytest.fixture(scope="module")
def table() -> Iterator[dict[Cell, str]]:
    """What came of each cell; printed for those who look."""
    outcomes: dict[Cell, str] = {}
    yield outcomes
    _print(Counter(outcomes.items()))


@pytest.mark.parametrize("cell", MATRIX, ids=str)
def test_killed_at_every_point_nothing_is_lost_that_can_be_kept(
    cell: Cell, tmp_path: Path, practice: FaultyProvider, request: pytest.FixtureRequest, table: dict[Cell, str]
) -> None:
    url = request.getfixturevalue("postgres_url") if cell.engine == "postgresql" else None
    table[cell] = Story(cell, tmp_path / "service", practice, url).play()


def test_what_a_dead_node_has_in_its_escrow_is_not_asked_for_by_another_one(
    tmp_path: Path, practice: FaultyProvider, postgres_url: str
) -> None:
    story = Story(
        Cell("renewal", Point.ESCROW_WRITTEN, "rotate", "postgresql"), tmp_path / "one", practice, postgres_url
    )
    one = story.service
    story.kill("renewal", Point.ESCROW_WRITTEN)
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(one.config, tmp_path / "other"))
    shutil.copy(one.directory / "mailtoken.key", tmp_path / "other")
    renewal = Job(other, "renewal", Point.CLAIMED, killed=False)
    with point_driver.start(point_driver.drive, tmp_path / "other.log", renewal) as process:
        assert process.hear() is Point.CLAIMED, "it was there before the first one was back"
        story.settle()
        assert process.ended() == 0


@pytest.mark.torture
def test_the_whole_matrix_again_and_again_and_killed_in_its_recovery_too(
    tmp_path: Path, ca: PracticeCA, postgres: PostgresServer
) -> None:
    again = [
        Cell(one.work, one.point, one.behaviour, one.engine, point)
        for one in ALL
        if one.point in _FROM_ESCROW
        for point in _WHEN_RECOVERING
    ]
    cells = ALL * 3 + again

    def play(number: int, cell: Cell) -> tuple[Cell, str]:
        with ExitStack() as opened:
            practice = opened.enter_context(FaultyProvider(ca, interval=1))
            url = opened.enter_context(postgres.new_database()) if cell.engine == "postgresql" else None
            try:
                return cell, Story(cell, tmp_path / str(number), practice, url).play()
            except Exception as error:
                return cell, f"NOT AS IT SHOULD BE: {error}"

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        outcomes = Counter(threads.map(play, range(len(cells)), cells))
    _print(outcomes)
    wrong = {cell: outcome for cell, outcome in outcomes if outcome != cell.outcome}
    assert not wrong, "\n".join(f"{cell}, {cell.again}: {outcome}" for cell, outcome in wrong.items())


def _print(outcomes: Counter[tuple[Cell, str]]) -> None:
    """A line for each point and what came of it, and how often with each behaviour and store."""
    columns = [f"{behaviour} {engine}" for behaviour in BEHAVIOURS for engine in ENGINES]
    lines: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for (cell, outcome), times in outcomes.items():
        where = cell.point.value + (", and in its recovery" if cell.again else "")
        lines[cell.work, where, outcome][f"{cell.behaviour} {cell.engine}"] += times
    write = sys.stdout.write
    write(f"\n{'killed':52} {'then':24} " + " ".join(f"{column:>17}" for column in columns) + "\n")
    for (work, where, outcome), times_by_column in lines.items():
        counts = " ".join(f"{times_by_column[column] or '':>17}" for column in columns)
        write(f"{work + ': ' + where:52} {outcome:24} {counts}\n")
    kills = sum(times * (2 if cell.again else 1) for (cell, _), times in outcomes.items())
    write(f"{sum(outcomes.values())} cells, {kills} kills\n")

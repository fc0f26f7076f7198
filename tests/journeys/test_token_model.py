"""Whatever people, providers, clocks, crashes and a second node do, in any order: nothing is lost that could be kept.

A model of it all: two nodes over one store, each with an escrow of its own, a provider that knows which refresh tokens
it still accepts, and a process that can end, or lose the store, or be overtaken, at every seam of an exchange.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, overload
from uuid import UUID

import pytest
from effort import amount
from eventsourcing.persistence import OperationalError, PersistenceError
from eventsourcing.sqlite import SQLiteConnection
from fakes import FAX, GARBAGE, SCANNER, SERVER_ERROR, Answer, FakeClock, FakeProvider, Services, error
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from domain.errors import Conflict, Failed, InvalidValue, Refused, Unreachable
from domain.lifecycle import TokenStatus
from domain.outcomes import AcquisitionOutcome, Credential, DeviceAuthorization
from domain.ports import Exchange, Reply
from domain.token import Token
from infrastructure.encryption.envelope import Sealer
from infrastructure.fleet.settings import SettingsService
from infrastructure.queries.audit import Audit
from infrastructure.store import eventsourcing_internals
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import create_store, open_store
from infrastructure.store.query import Query
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import UnitOfWork
from infrastructure.tokens import claims as claims_module
from infrastructure.tokens import escrow as escrow_module
from infrastructure.tokens import renewal
from infrastructure.tokens.claims import STALE_AFTER_SECONDS, ClaimOwner, ClaimResult, Claims
from infrastructure.tokens.escrow import Escrow, EscrowEntry
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.token_service import TokenService

ADMIN = "administrator"
SERVICE, QUICK, FAXES = "office-mfp/smtp-service", "office-mfp/smtp-quick", "office-mfp/pop-internet-fax"
SETTINGS = (SERVICE, QUICK, FAXES)
KEY = Sealer(bytes(range(32)))
HOSTS = ("north", "south")
EXPECTED = (Conflict, Failed, InvalidValue, Refused, Unreachable)
"""What an answer may be, at any time. Not among them: damage, an illegal history, anything nobody thought of."""

Key = tuple[str, UUID, int]
"""What a request is for: the kind of work, the token, and the attempt's ordinal or the parent generation."""


class Crash(BaseException):
    """The process is gone. What would clean up behind it must not run either: whatever it touches raises this again."""


class Seam(StrEnum):
    """Where a process can be interrupted."""

    CLAIMED = "after the claim"
    RESERVED = "after room was taken in the escrow"
    ANSWERED = "after the provider answered, before the reply was kept"
    KEPT = "after the reply was kept"
    STORING = "inside the transaction"
    STORED = "after the transaction, before the escrow was cleared"


class Mode(StrEnum):
    """What a provider does with refresh tokens."""

    STRICT = "each is good for once; a second use ends the grant"
    GRACE = "each renewal gives a new one, and the old ones stay good"
    STATIC = "there is one, for ever"


# The world


class World:
    """What no process decides: who is alive, how long machines have been up, and what really left for the provider."""

    def __init__(self) -> None:
        self.here = HOSTS[0]
        self.alive: set[int] = set()
        self.seconds = 1000.0
        self.plan: tuple[str, Seam, Callable[[Process], None]] | None = None
        self.running: dict[str, Node | None] = dict.fromkeys(HOSTS)
        self.wrong: list[str] = []
        self.under_way: dict[Key, Process] = {}
        self.brought: dict[Key, tuple[str, float]] = {}
        self.kept: set[str] = set()
        self.definite: set[Key] = set()
        self.helpless: set[Key] = set()
        self.late: set[str] = set()
        self._processes = itertools.count(100)

    def begin(self, host: str) -> Process:
        """A process starts on `host`."""
        process = Process(self, host, next(self._processes))
        self.alive.add(process.number)
        return process

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """What is done here is done on `host`."""
        before, self.here = self.here, host
        try:
            yield
        finally:
            self.here = before

    def leaves(self, claim_key: ClaimKey) -> None:
        """A request leaves for the provider: one at a time, and none for what was brought already."""
        key = (claim_key.kind, claim_key.subject_id, claim_key.generation)
        process = self.node(self.here).process
        other = self.under_way.get(key)
        if other and not other.is_dead:
            self.wrong.append(f"two requests at once for {claim_key.kind} {claim_key.generation}")
        if key in self.brought:
            host, at = self.brought[key]
            if self.running[host] or self.seconds - at <= STALE_AFTER_SECONDS:
                self.wrong.append(
                    f"{claim_key.kind} {claim_key.generation} was asked for again: its reply was kept on {host}"
                )
            # The node that has the reply has been away for longer than anybody waits.
            self.helpless.add(key)
        self.under_way[key] = process

    def came_back(self, claim_key: ClaimKey) -> None:
        """The request is over for whoever sent it."""
        self.under_way.pop((claim_key.kind, claim_key.subject_id, claim_key.generation), None)

    def keep(self, claim_key: ClaimKey, reply: Reply, host: str) -> None:
        """A reply is in the escrow of `host`."""
        key = (claim_key.kind, claim_key.subject_id, claim_key.generation)
        document = _document(reply)
        if "access_token" in document:
            self.brought[key] = (host, self.seconds)
            self.kept.add(document.get("refresh_token", ""))
        elif document.get("error") == "invalid_grant":
            self.definite.add(key)

    def node(self, host: str) -> Node:
        """The services that run on `host`."""
        node = self.running[host]
        assert node
        return node


def _document(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


@dataclass
class Process:
    """One run of the program on a host, until it crashes."""

    world: World
    host: str
    number: int

    @property
    def is_dead(self) -> bool:
        return self.number not in self.world.alive

    def goes_on(self) -> None:
        """Nothing is done by the dead."""
        if self.is_dead:
            raise Crash

    def passes(self, seam: Seam) -> None:
        """Here it may be interrupted, once, if that is the plan."""
        self.goes_on()
        plan = self.world.plan
        if plan and plan[:2] == (self.host, seam):
            self.world.plan = None
            plan[2](self)

    def crash(self) -> None:
        self.world.alive.discard(self.number)
        self.world.running[self.host] = None
        raise Crash


class MortalEntry(EscrowEntry):
    """A slot whose owner may end before or after the reply is kept."""

    process: Process

    def keep(self, reply: Reply) -> None:
        self.process.passes(Seam.ANSWERED)
        super().keep(reply)
        self.process.world.keep(self.claim_key, reply, self.process.host)
        self.process.passes(Seam.KEPT)


class MortalEscrow(Escrow):
    """The escrow as a process has it that may end."""

    process: Process

    def reserve(self, claim_key: ClaimKey) -> EscrowEntry:
        self.process.goes_on()
        entry = super().reserve(claim_key)
        mortal = MortalEntry(entry.path, claim_key, self._sealer, self._store_id)
        mortal.process = self.process
        self.process.passes(Seam.RESERVED)
        return mortal

    def clear(self, entry: EscrowEntry) -> None:
        self.process.goes_on()
        super().clear(entry)

    def leave(self, entry: EscrowEntry) -> None:
        self.process.goes_on()
        super().leave(entry)

    def set_aside(self, entry: EscrowEntry) -> None:
        self.process.goes_on()
        super().set_aside(entry)


class MortalClaims(Claims):
    """Claims in the name of a process that may end."""

    process: Process

    def take(self, claim_key: ClaimKey) -> ClaimResult:
        self.process.goes_on()
        taken = super().take(claim_key)
        if taken:
            self.process.passes(Seam.CLAIMED)
        return taken

    def release(self, claim_key: ClaimKey) -> None:
        self.process.goes_on()
        super().release(claim_key)


class Interruptible(Sequence[ClaimKey]):
    """What a transaction looks at last: an interruption there finds everything else written and nothing committed."""

    def __init__(self, claim_keys: Sequence[ClaimKey], process: Process) -> None:
        self._claim_keys = claim_keys
        self._process = process

    @overload
    def __getitem__(self, index: int) -> ClaimKey: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ClaimKey]: ...
    def __getitem__(self, index: int | slice) -> ClaimKey | Sequence[ClaimKey]:
        return self._claim_keys[index]

    def __len__(self) -> int:
        return len(self._claim_keys)

    def __iter__(self) -> Iterator[ClaimKey]:
        self._process.passes(Seam.STORING)
        return iter(self._claim_keys)


class MortalLog(EventLog):
    """The event log as a process has it that may end."""

    process: Process

    def save(self, *aggregates: Any, unit_of_work: UnitOfWork | None = None) -> None:
        self.process.goes_on()
        unit_of_work = unit_of_work or UnitOfWork()
        super().save(
            *aggregates, unit_of_work=replace(unit_of_work, release=Interruptible(unit_of_work.release, self.process))
        )
        self.process.passes(Seam.STORED)


class HastyPool(eventsourcing_internals._Pool):
    """Connections that don't wait for the disk: processes end here, and no machine loses its power."""

    def _create_connection(self) -> SQLiteConnection:
        connection = super()._create_connection()
        connection._sqlite_conn.execute("PRAGMA synchronous = OFF")
        return connection


class HastySystem:
    """The operating system, but for waiting for the disk."""

    def fsync(self, descriptor: int) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class WorldStore(SqliteStore):
    """A store whose machine has been up for as long as the world says."""

    world: World

    def now_seconds(self, query: Query) -> float:
        return self.world.seconds


@dataclass
class Node(Services):
    """The services of one process on one host: mortal, but for that as `adapters.bootstrap` makes them."""

    world: World
    host: str
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = self.world.begin(self.host)
        super().__post_init__()
        events, escrow, claims = (
            MortalLog(self.store),
            MortalEscrow(self.directory / "escrow", self.sealer, self.store_id),
            MortalClaims(self.store),
        )
        claims._owner = ClaimOwner(self.host, claims._owner.boot, f"{self.process.number}:1")
        events.process = escrow.process = claims.process = self.process
        self.events, self.escrow, self.claims = events, escrow, claims
        self.tokens = TokenService(TokenExchange(events, self.vault, escrow, claims, self.providers, self.clock))
        self.settings = SettingsService(events, self.clock, list(self.providers))
        self.audit = Audit(events)


# The provider


@dataclass
class Grant:
    """What came of one sign-in: every refresh token in order, those that are still accepted, and what followed each."""

    account: str
    live: set[str]
    followed_by: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    is_over: bool = False


class ModelProvider(FakeProvider):
    """Knows what it gave and what of it still works; changes its mind about rotation when told."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.mode = Mode.STRICT
        self.loses_next = False
        self.codes: dict[str, str | None] = {}
        self.in_use: Callable[[str], list[str]] = lambda account: []
        self._world = world
        self._grants: dict[str, Grant] = {}
        self._asked: tuple[DeviceAuthorization, ClaimKey] | None = None
        self._asking: ClaimKey | None = None

    def decide(self, code: str, decision: str) -> None:
        """What the person at the sign-in page does: an account signs in, or "denied"."""
        self.codes[code] = decision

    def works(self, refresh_token: str) -> bool:
        """Whether this refresh token would be accepted."""
        grant = self._grants.get(refresh_token)
        return bool(grant and refresh_token in grant.live)

    def working_siblings(self, refresh_token: str) -> set[str]:
        """What of the same sign-in would be accepted and has come to an escrow."""
        grant = self._grants.get(refresh_token)
        return grant.live & self._world.kept if grant else set()

    def kill_grants(self) -> None:
        for grant in self._grants.values():
            grant.live.clear()
            grant.is_over = True

    def request_device_code(self, scopes: Sequence[str], now: Any) -> DeviceAuthorization:
        pending = super().request_device_code(scopes, now)
        self.codes[pending.state.reveal()] = None
        return pending

    def redeem_device_code(self, pending: DeviceAuthorization, exchange: Exchange, now: Any) -> AcquisitionOutcome:
        self._signed_in = pending.state.reveal()
        return super().redeem_device_code(pending, exchange, now)

    def revoke(self, credential: Credential) -> bool:
        if credential.refresh_token is None:
            # What is left of it is an access token, which ends by itself.
            return False
        grant = self._grants[credential.refresh_token.reveal()]
        if in_use := self.in_use(grant.account):
            self._world.wrong.append(f"a grant of {grant.account} was revoked while {in_use} have one")
        grant.live.clear()
        grant.is_over = True
        return True

    def _exchange(self, request: str, exchange: Exchange, now: Any, answer: Any) -> Reply | None:
        if exchange.reply:
            return exchange.reply
        assert isinstance(exchange, EscrowEntry)
        self._world.leaves(exchange.claim_key)
        self._asking = exchange.claim_key
        try:
            return super()._exchange(request, exchange, now, answer)
        finally:
            self._world.came_back(exchange.claim_key)

    def _sign_in(self, otherwise: str = "authorization_pending") -> Any:
        code = self._signed_in or ""
        decision = self.codes.get(code, "spent")
        if decision is None:
            return error(otherwise)
        if decision == "denied":
            return error("access_denied")
        if decision == "spent":
            return error("invalid_grant")
        self.codes[code] = "spent"
        answer = self._grant(decision)
        self._grants[answer["refresh_token"]] = Grant(decision, {answer["refresh_token"]})
        return self._delivered(answer)

    def _refresh(self, credential: Credential) -> Any:
        assert credential.refresh_token
        presented = credential.refresh_token.reveal()
        grant = self._grants[presented]
        if presented not in grant.live:
            self._second_use(presented, grant)
            return error("invalid_grant")
        answer = self._grant(None)
        given = answer["refresh_token"]
        if self.mode is Mode.STATIC:
            del answer["refresh_token"]
            return self._delivered(answer)
        if self.mode is Mode.STRICT:
            grant.live.clear()
        grant.live.add(given)
        grant.followed_by[presented].append(given)
        self._grants[given] = grant
        return self._delivered(answer)

    def _second_use(self, presented: str, grant: Grant) -> None:
        """A spent token is presented: excusable if nobody could know what followed it."""
        claim_key = self._asking
        assert claim_key
        lost = not self._world.kept & set(grant.followed_by[presented])
        if not (
            grant.is_over
            or lost
            or (claim_key.kind, claim_key.subject_id, claim_key.generation) in self._world.helpless
        ):
            self._world.wrong.append(f"a spent refresh token of generation {claim_key.generation} was presented")
        grant.live.clear()
        grant.is_over = True

    def _delivered(self, answer: dict[str, Any]) -> Any:
        """The answer, or none if it is lost on its way: then what it did is done all the same."""
        loses, self.loses_next = self.loses_next, False
        return None if loses else answer


# The model


@dataclass(frozen=True)
class Interruption:
    """What happens to whoever comes to `seam`: it crashes, or the store fails, or the other node acts."""

    seam: Seam
    what: str


def interruptions() -> st.SearchStrategy[Interruption | None]:
    crashes = [Interruption(seam, "crash") for seam in Seam]
    overtaken = [
        Interruption(seam, act)
        for seam in (Seam.CLAIMED, Seam.RESERVED, Seam.ANSWERED, Seam.KEPT, Seam.STORED)
        for act in ("renew", "poll", "cancel", "delete", "get", "sign_in", "recover")
    ]
    # An error from the store may come before or after it has stored.
    troubles = [Interruption(seam, "store fails") for seam in (Seam.STORING, Seam.STORED)]
    return st.one_of(st.none(), st.sampled_from(crashes), st.sampled_from(overtaken), st.sampled_from(troubles))


NODES = st.sampled_from(HOSTS)
NAMES = st.sampled_from(SETTINGS)


class TokenModel(RuleBasedStateMachine):
    """Rules are what can happen; invariants are what must hold after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.world = World()
        self.clock = FakeClock()
        self.provider = ModelProvider(self.world)
        self.provider.in_use = self._accounts_in_use
        # Which processes live, as each host sees it; and nobody waits for somebody who can't go on.
        self.patch.setattr(claims_module, "socket", SimpleNamespace(gethostname=lambda: self.world.here))
        self.patch.setattr(claims_module, "_process", self._process)
        self.patch.setattr(renewal, "_WAIT_FOR_OTHER_SECONDS", 0.0)
        self.patch.setattr(renewal, "_LOOK_AGAIN_SECONDS", 0.0)
        self.patch.setattr(eventsourcing_internals, "_Pool", HastyPool)
        self.patch.setattr(escrow_module, "os", HastySystem())
        self.deleting: set[UUID] = set()
        self.held: dict[UUID, int] = {}
        self.stores: list[SqliteStore] = []
        self.store_id = create_store(self._store(), KEY)
        self.watcher = Services(
            self._opened_store(),
            KEY,
            self.store_id,
            self.folder / "watcher",
            self.clock,
            {self.provider.name: self.provider},
        )

    @initialize(mode=st.sampled_from(Mode), begins=st.booleans())
    def furnish(self, mode: Mode, begins: bool) -> None:
        """A machine, and in half of the stories a token."""
        self.provider.mode = mode
        self.watcher.add_machine()
        if begins:
            self._get(HOSTS[0], SERVICE)
            self.provider.decide(list(self.provider.codes)[-1], SCANNER)
            self._poll(HOSTS[0], SERVICE)

    def teardown(self) -> None:
        try:
            self._everything_comes_back()
        finally:
            self.patch.undo()
            for store in self.stores:
                store.close()
            shutil.rmtree(self.folder)

    # What can happen

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def get(self, host: str, name: str, interruption: Interruption | None) -> None:
        self._interrupted(host, name, interruption, self._get)

    @rule(data=st.data(), decision=st.sampled_from([SCANNER, SCANNER, SCANNER, FAX, "denied"]))
    def person_decides(self, data: st.DataObject, decision: str) -> None:
        if waiting := [code for code, decided in self.provider.codes.items() if decided is None]:
            self.provider.decide(data.draw(st.sampled_from(waiting)), decision)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def poll(self, host: str, name: str, interruption: Interruption | None) -> None:
        self._interrupted(host, name, interruption, self._poll)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def sign_in(self, host: str, name: str, interruption: Interruption | None) -> None:
        """The whole of it at once: a story has more than one."""
        self._interrupted(host, name, interruption, self._sign_in)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def renew(self, host: str, name: str, interruption: Interruption | None) -> None:
        self._interrupted(host, name, interruption, self._renew)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def serve(self, host: str, name: str, interruption: Interruption | None) -> None:
        self._interrupted(host, name, interruption, self._serve)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def cancel(self, host: str, name: str, interruption: Interruption | None) -> None:
        self._interrupted(host, name, interruption, self._cancel)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def delete(self, host: str, name: str, interruption: Interruption | None) -> None:
        self._interrupted(host, name, interruption, self._delete)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def recover(self, host: str, name: str, interruption: Interruption | None) -> None:
        """What the worker does every ten seconds."""
        self._interrupted(host, name, interruption, self._recover)

    @rule(host=NODES, name=NAMES, interruption=interruptions())
    def restart(self, host: str, name: str, interruption: Interruption | None) -> None:
        """Killed while it had nothing to do, and started again: that may be interrupted too."""
        self._end(host)
        self._interrupted(host, name, interruption, lambda host, _: self._tried(host, lambda: self._up(host)))

    @rule(host=NODES)
    def crash(self, host: str) -> None:
        self._end(host)

    @rule(host=NODES, linked=st.booleans())
    def link_or_unlink(self, host: str, linked: bool) -> None:
        settings = self._up(host).settings
        act = (lambda: settings.link("office-mfp", [QUICK], ADMIN)) if linked else lambda: settings.unlink(QUICK, ADMIN)
        self._tried(host, act)

    @rule(mode=st.sampled_from(Mode))
    def provider_changes(self, mode: Mode) -> None:
        self.provider.mode = mode

    @rule()
    def provider_goes_away_or_comes_back(self) -> None:
        self.provider.reachable = not self.provider.reachable

    @rule(answer=st.sampled_from([GARBAGE, SERVER_ERROR, error("invalid_client"), None]))
    def provider_stumbles(self, answer: Answer | None) -> None:
        self.provider.answers(answer)

    @rule()
    def the_next_grant_is_lost_on_its_way(self) -> None:
        self.provider.loses_next = True

    @rule()
    def provider_forgets_everybody(self) -> None:
        self.provider.kill_grants()

    @rule(minutes=st.sampled_from([1, 11, 16, 55, 61]))
    def time_passes(self, minutes: int) -> None:
        if minutes * 60 >= STALE_AFTER_SECONDS:
            # Nobody runs for so long without its worker having looked what is left to do.
            for host in HOSTS:
                if self.world.running[host]:
                    self._recover(host, SERVICE)
        self.clock.step(minutes=minutes)
        self.world.seconds += minutes * 60

    @rule(seconds=st.sampled_from([-3600, -90, -1, 1, 90, 3600]))
    def wall_clock_steps(self, seconds: int) -> None:
        self.clock.jump(seconds=seconds)

    # How it happens

    def _up(self, host: str) -> Node:
        """The services of `host`, started and recovered if they were down."""
        if node := self.world.running[host]:
            return node
        providers = {self.provider.name: self.provider}
        with self.world.on(host):
            node = Node(
                self._opened_store(), KEY, self.store_id, self.folder / host, self.clock, providers, self.world, host
            )
            self.world.running[host] = node
            node.tokens.recover()
        return node

    def _end(self, host: str) -> None:
        if node := self.world.running[host]:
            with pytest.raises(Crash):
                node.process.crash()

    def _interrupted(
        self, host: str, name: str, interruption: Interruption | None, act: Callable[[str, str], None]
    ) -> None:
        if interruption:
            self.world.plan = (host, interruption.seam, lambda process: self._strike(process, name, interruption.what))
        try:
            act(host, name)
        finally:
            self.world.plan = None

    def _strike(self, process: Process, name: str, what: str) -> None:
        if what == "crash":
            process.crash()
        if what == "store fails":
            raise OperationalError("the store fails")
        other = next(host for host in HOSTS if host != process.host)
        getattr(self, f"_{what}")(other, name)

    def _tried(self, host: str, act: Callable[[], object]) -> None:
        try:
            with self.world.on(host):
                act()
        except (*EXPECTED, PersistenceError, Crash):
            return

    def _tokens(self, host: str, act: Callable[[TokenService], object]) -> None:
        self._tried(host, lambda: act(self._up(host).tokens))

    def _get(self, host: str, name: str) -> None:
        self._tokens(host, lambda tokens: tokens.request(name, None, ADMIN))

    def _poll(self, host: str, name: str) -> None:
        self._tokens(host, lambda tokens: tokens.poll(tokens.status(name).profile.token_id))

    def _sign_in(self, host: str, name: str) -> None:
        self._get(host, name)
        self.provider.codes = {code: decided or SCANNER for code, decided in self.provider.codes.items()}
        self._poll(host, name)

    def _renew(self, host: str, name: str) -> None:
        self._tokens(host, lambda tokens: tokens.renew(name, ADMIN))

    def _serve(self, host: str, name: str) -> None:
        self._tokens(host, lambda tokens: tokens.access_token(name, None, "client"))

    def _cancel(self, host: str, name: str) -> None:
        self._tokens(host, lambda tokens: tokens.cancel(name, ADMIN))

    def _delete(self, host: str, name: str) -> None:
        self.deleting.add(self._token_of(name))
        self._tokens(host, lambda tokens: tokens.delete(name, ADMIN))

    def _recover(self, host: str, name: str) -> None:
        self._tokens(host, lambda tokens: tokens.recover())

    def _process(self, number: int) -> str:
        return f"{number}:{'1' if number in self.world.alive else 'gone'}"

    def _store(self) -> SqliteStore:
        store = WorldStore(self.folder / "mailtoken.db")
        store.world = self.world
        self.stores.append(store)
        return store

    def _opened_store(self) -> SqliteStore:
        store = self._store()
        open_store(store, KEY)
        return store

    # What must hold

    @invariant()
    def nothing_went_wrong_at_the_provider(self) -> None:
        """One attempt for each generation, no spent refresh token, no revocation of what is in use."""
        assert self.world.wrong == []

    @invariant()
    def the_record_is_whole(self) -> None:
        assert self.watcher.audit.verify().findings == ()

    @invariant()
    def linked_settings_agree(self) -> None:
        linked = [status for status in self.watcher.tokens.statuses() if status.group == "office-mfp"]
        assert len({(status.profile.token_id, status.token) for status in linked}) <= 1
        for status in linked:
            if status.token.status is TokenStatus.RETRIEVED:
                settings = status.profile.settings
                assert (settings.provider, settings.account) == (status.token.provider, status.token.account)

    @invariant()
    def invalid_is_the_providers_definite_word(self) -> None:
        for token in self._all_tokens():
            credential = token.state.credential
            if credential and token.state.dead:
                assert ("renewal", token.id, credential.number) in self.world.definite
            if credential and not token.state.dead:
                assert token.state.status in (TokenStatus.RETRIEVED, TokenStatus.WAITING)

    @invariant()
    def a_token_goes_only_when_it_is_deleted(self) -> None:
        """No attempt, no failure and no crash takes away what was held."""
        tokens = self._all_tokens()
        now = {token.id: token.state.credential.number for token in tokens if token.state.credential}
        assert self.held.keys() - now.keys() <= self.deleting
        self.held, self.deleting = now, set()

    @invariant()
    def what_the_provider_would_accept_is_held(self) -> None:
        """In the vault, or in an escrow until it is stored."""
        in_escrow, attempts = self._in_escrow(), set[UUID]()
        for token in self._all_tokens():
            if token.state.credential:
                in_vault = self._in_vault(token)
                mine = {in_vault} | {
                    refresh_token for claim_key, refresh_token in in_escrow if claim_key.subject_id == token.id
                }
                if working := self.provider.working_siblings(in_vault):
                    assert mine & working, "the provider would accept a refresh token that nobody has any more"
            attempts.add(token.id)
            attempt = token.state.attempt
            if attempt and ("acquisition", token.id, attempt.ordinal) in self.world.brought:
                assert attempt.id in {claim_key.attempt_id for claim_key, _ in in_escrow}, "a sign-in is in no escrow"

    # The end of every story

    def _everything_comes_back(self) -> None:
        """Both nodes run, the provider is there: nothing is left to do, and what can still be renewed is renewed."""
        self.provider.reachable = True
        self.provider.loses_next = False
        self.provider._answers.clear()
        for host in HOSTS:
            self._up(host)
        self.world.seconds += STALE_AFTER_SECONDS + 1
        for host in HOSTS:
            self._recover(host, SERVICE)
        assert [claim_key for claim_key, _ in self._in_escrow(".reply")] == []
        with self.watcher.store.reading() as query:
            assert query.rows("SELECT * FROM claim") == []
        for name in SETTINGS:
            self._check_renewable(name)
        self.nothing_went_wrong_at_the_provider()
        self.the_record_is_whole()
        self.linked_settings_agree()
        self.what_the_provider_would_accept_is_held()

    def _check_renewable(self, name: str) -> None:
        token = self.watcher.events.token(self._token_of(name))
        if not token.state.credential or not self.provider.working_siblings(self._in_vault(token)):
            return
        node = self._up(HOSTS[1])
        with self.world.on(HOSTS[1]):
            after = node.tokens.renew(name, ADMIN)
            assert node.tokens.access_token(name, None, "client").account == SCANNER
        assert after.token.credential
        assert not after.token.dead

    # Looking

    def _token_of(self, name: str) -> UUID:
        return self.watcher.tokens.status(name).profile.token_id

    def _all_tokens(self) -> list[Token]:
        with self.watcher.store.reading() as query:
            ids = [UUID(row["id"]) for row in query.rows("SELECT id FROM token")]
        return [self.watcher.events.token(id) for id in ids]

    def _in_vault(self, token: Token) -> str:
        assert token.state.credential
        with self.watcher.store.reading() as query:
            credential = self.watcher.vault.credential(query, token.id, token.state.credential.number)
        assert credential.refresh_token
        return credential.refresh_token.reveal()

    def _in_escrow(self, suffix: str = "") -> list[tuple[ClaimKey, str]]:
        """Every grant that is in an escrow, and its refresh token if it has one."""
        found = []
        for host in HOSTS:
            folder = self.folder / host / "escrow"
            if any(folder.glob(f"*{suffix}")):
                for entry in Escrow(folder, KEY, self.store_id).left_over():
                    document = _document(entry.reply) if entry.reply else {}
                    if "access_token" in document:
                        found.append((entry.claim_key, document.get("refresh_token", "")))
        return found

    def _accounts_in_use(self, account: str) -> list[str]:
        with self.watcher.store.reading() as query:
            rows = query.rows(
                "SELECT id FROM token WHERE generation IS NOT NULL AND dead IS NULL AND account = ?", (account,)
            )
        return [row["id"] for row in rows]


USUAL = settings(
    max_examples=amount(12, of=60),
    stateful_step_count=30,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # making a story shorter takes minutes: the torture test does it
)


def test_whatever_happens_nothing_is_lost_that_could_be_kept() -> None:
    run_state_machine_as_test(TokenModel, settings=USUAL)


@pytest.mark.torture
def test_whatever_happens_for_long_nothing_is_lost_that_could_be_kept() -> None:
    bigger = settings(USUAL, max_examples=1500, stateful_step_count=60, derandomize=False, phases=list(Phase))
    run_state_machine_as_test(TokenModel, settings=bigger)

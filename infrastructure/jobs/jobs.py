"""Runs jobs, each in a thread of its own, and keeps the last ones.

A step goes through the use case that a single request goes through, with the person who began the job as its author.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import structlog
from eventsourcing.persistence import PersistenceError

from domain.catalogue import Protocol
from domain.errors import InvalidValue, MailtokenError, NotFound, NotPermitted, Refused, facts
from domain.lifecycle import Held, TokenStatus
from domain.machine import valid_name, valid_tags
from domain.ports import Clock
from domain.profile_fields import accepted_fields
from domain.scope import EVERY_MACHINE, Scope
from infrastructure.fleet.settings import SettingsService
from infrastructure.jobs.job import Action, Job, Outcome, Result, Work
from infrastructure.mail import MailService
from infrastructure.queries.machine_filter import MachineFilter
from infrastructure.queries.machines import MachinesQuery
from infrastructure.queries.setting_status import SettingStatus, read_statuses_of
from infrastructure.store.store import Store
from infrastructure.tokens.token_service import TokenService

log = structlog.get_logger("mailtoken")

MOST_MACHINES = 10_000
"""The most machines of one job."""
MOST_RUNNING = 4
MOST_KEPT = 20
_SIGN_IN_LOOKS_SECONDS = 1.0


@dataclass(frozen=True)
class UseCases:
    """What the steps of jobs go through."""

    settings: SettingsService
    tokens: TokenService
    mail: MailService


class Jobs:
    """The jobs of this process: those that run, and the last ones that have ended."""

    def __init__(self, store: Store, clock: Clock, machines: MachinesQuery, use_cases: UseCases) -> None:
        self._store = store
        self._clock = clock
        self._machines = machines
        self._use_cases = use_cases
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def begin(self, work: Work, wanted: MachineFilter, by: str, scope: Scope = EVERY_MACHINE) -> Job:
        """Begin a job over the machines of the filter that are in the scope of the person who begins it.

        Raises:
            InvalidValue: the action lacks a particular, or one is not acceptable.
            Refused: too many jobs run already, or too many machines are selected.
        """
        _check(work)
        names = self._machines.names(self.within(wanted, scope), MOST_MACHINES + 1)
        if len(names) > MOST_MACHINES:
            raise Refused("too_many_machines", most=MOST_MACHINES)
        targets, now = self.targets(work, names), self._clock.now()
        job = Job(uuid4().hex, work, targets, by=by, begun_at=now, scope=scope)
        with self._lock:
            if sum(not one.ended.is_set() for one in self._jobs.values()) >= MOST_RUNNING:
                raise Refused("too_many_jobs", most=MOST_RUNNING)
            over = [id for id, one in self._jobs.items() if one.ended.is_set()]
            for id in over[: max(0, len(self._jobs) + 1 - MOST_KEPT)]:
                del self._jobs[id]
            self._jobs[job.id] = job
        threading.Thread(target=self._run, args=(job,), name=f"job-{job.id[:8]}", daemon=True).start()
        return job

    def within(self, wanted: MachineFilter, scope: Scope) -> MachineFilter:
        """The filter over the machines of this scope."""
        return wanted.within(scope, self._use_cases.settings.machine_names)

    def all(self, scope: Scope = EVERY_MACHINE) -> list[Job]:
        """The jobs whose targets are all in `scope`, the newest first."""
        with self._lock:
            return [job for job in self._jobs.values() if job.is_within(scope)][::-1]

    def job(self, id: str, scope: Scope = EVERY_MACHINE) -> Job:
        """The job of this id.

        Raises:
            NotFound: there is none with all targets in `scope`, or it ended so long ago that it was forgotten.
        """
        with self._lock:
            found = self._jobs.get(id)
        if found is None or not found.is_within(scope):
            raise NotFound("job_not_found", id=id)
        return found

    def stop_all(self) -> None:
        """Stop every job and wait for the steps under way."""
        for job in self.all():
            job.stopped.set()
        for job in self.all():
            job.ended.wait()

    def targets(self, work: Work, machines: Sequence[str]) -> list[str]:
        """The targets of an action at these machines: those where it makes sense, and of a shared token one setting."""
        if work.action.is_of_machines:
            return list(machines)
        with self._store.reading() as query:
            statuses = read_statuses_of(query, machines, self._clock.now())
        return list(_targets(work, statuses))

    def _run(self, job: Job) -> None:
        log.info("job_begun", job=job.id, action=job.work.action.value, targets=len(job.targets), by=job.by)
        try:
            for target in job.targets:
                job.results.append(Result(target, Outcome.LEFT) if job.stopped.is_set() else self._step(job, target))
        finally:
            job.waiting_for = None
            job.ended.set()
            log.info("job_ended", job=job.id, **{outcome.value: number for outcome, number in job.counts().items()})

    def _step(self, job: Job, target: str) -> Result:
        try:
            self._check_scope(job, target)
            return self._act(job, target)
        except MailtokenError as error:
            return Result(target, Outcome.REFUSED, error.code, facts(error))
        except PersistenceError:
            return Result(target, Outcome.REFUSED, "store_unreachable")
        except Exception as error:
            log.error("job_step_failed", job=job.id, target=target, error=type(error).__name__)
            return Result(target, Outcome.REFUSED, "step_failed")

    def _check_scope(self, job: Job, target: str) -> None:
        """Check that every machine that shares the target's token is in the scope of who began the job."""
        if job.scope.is_all:
            return
        sharing = self._use_cases.settings.profiles_sharing(target)
        if not all(map(job.scope.has_profile, [target, *sharing])):
            raise NotPermitted("token_shared_outside", name=job.by.partition(":")[2], profile=target)

    def _act(self, job: Job, target: str) -> Result:
        work, by, tokens, settings = job.work, job.by, self._use_cases.tokens, self._use_cases.settings
        acts: dict[Action, Callable[[], object]] = {
            Action.RENEW: lambda: tokens.renew(target, by),
            Action.DELETE: lambda: tokens.delete(target, by),
            Action.SET: lambda: settings.set_profile(target, work.fields, by),
            Action.LINK: lambda: settings.link(work.group, [target], by),
            Action.TAG: lambda: settings.tag_machine(target, work.add, work.remove, by),
            Action.REMOVE_MACHINE: lambda: settings.remove_machine(target, by),
        }
        if work.action is Action.TEST:
            report = self._use_cases.mail.test(target, None, by)
            if report.ok:
                return Result(target, Outcome.DONE)
            return Result(target, Outcome.REFUSED, report.verdict.code, report.verdict.fields)
        if work.action is Action.GET_TOKEN:
            return self._get_token(job, target)
        acts[work.action]()
        return Result(target, Outcome.DONE)

    def _get_token(self, job: Job, target: str) -> Result:
        """Begin a sign-in, and wait until the person has signed in, it has run out, or the job is stopped."""
        tokens = self._use_cases.tokens
        started = tokens.request(target, None, job.by)
        job.waiting_for = target
        try:
            while (status := tokens.status(target)).token.attempt is not None:
                if status.token.attempt.id != started.attempt_id:
                    break
                if job.stopped.wait(_SIGN_IN_LOOKS_SECONDS):
                    tokens.cancel(target, job.by)
        finally:
            job.waiting_for = None
        if status.token.status is TokenStatus.RETRIEVED and status.token.reason is None:
            return Result(target, Outcome.DONE)
        reason = status.token.reason
        return Result(target, Outcome.REFUSED, reason.value if reason else "another_sign_in")


def _check(work: Work) -> None:
    match work.action:
        case Action.SET:
            if not work.fields:
                raise InvalidValue("fields", "no_fields")
            known = set().union(*(accepted_fields(protocol) for protocol in _protocols(work)))
            for name in work.fields:
                if name not in known:
                    raise InvalidValue(name, "not_a_field", protocol=work.protocol or "mail", known=sorted(known))
        case Action.LINK:
            valid_name("group", work.group)
        case Action.TAG:
            if not valid_tags(work.add) and not valid_tags(work.remove):
                raise InvalidValue("tags", "no_tags")
        case _:
            pass


def _protocols(work: Work) -> Sequence[Protocol]:
    if work.protocol is None:
        return list(Protocol)
    if work.protocol not in list(Protocol):
        raise InvalidValue("protocol", "not_a_choice", value=work.protocol, choices=", ".join(Protocol))
    return [Protocol(work.protocol)]


def _targets(work: Work, statuses: Iterable[SettingStatus]) -> Iterator[str]:
    tokens, protocols = set(), _protocols(work)
    for status in statuses:
        profile, token = status.profile, status.token
        match work.action:
            case Action.SET:
                fits = profile.protocol in protocols
            case Action.LINK:
                fits = profile.protocol is Protocol.SMTP
            case Action.TEST:
                fits = token.held is Held.LIVE and bool(profile.settings.server)
            case _:
                fits = profile.token_id not in tokens and _wants(work.action, status)
                if fits:
                    tokens.add(profile.token_id)
        if fits:
            yield profile.name


def _wants(action: Action, status: SettingStatus) -> bool:
    settings, token = status.profile.settings, status.token
    match action:
        case Action.GET_TOKEN:
            gone = token.status in (TokenStatus.NOT_RETRIEVED, TokenStatus.INVALID)
            return gone and bool(settings.provider and settings.account)
        case Action.RENEW:
            return token.credential is not None and token.credential.renewable
        case _:
            return token.status is not TokenStatus.NOT_RETRIEVED

"""Jobs: one action over many machines, with the outcome of every step, through the use cases of a single setting."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest
from fakes import FakeProvider, Services
from waiting import wait_until

from domain.catalogue import catalogue
from domain.errors import InvalidValue, NotFound, Refused
from domain.lifecycle import TokenStatus
from domain.ports import MailServer
from infrastructure.jobs import jobs as module
from infrastructure.jobs.job import Action, Job, Outcome, Result, Work
from infrastructure.jobs.jobs import Jobs, UseCases
from infrastructure.mail import MailService
from infrastructure.queries.attention import Attention
from infrastructure.queries.machine_filter import MachineFilter
from infrastructure.queries.machines import MachinesQuery

BY, ADMIN = "operator:otto", "administrator:anna"
ALL = MachineFilter()


class NoServer:
    """A mail server that no test here asks."""


@pytest.fixture
def jobs(service: Services) -> Iterator[Jobs]:
    attention = Attention(service.store, service.tokens.alarms, service.clock, {}, {})
    machines = MachinesQuery(service.store, service.clock, attention)
    server: MailServer = NoServer()  # type: ignore[assignment]
    mail = MailService(service.tokens, server, service.clock)
    made = Jobs(service.store, service.clock, machines, UseCases(service.settings, service.tokens, mail))
    yield made
    made.stop_all()


def ended(job: Job) -> Job:
    assert job.ended.wait(60)
    return job


def outcomes(job: Job) -> list[tuple[str, Outcome, str | None]]:
    return [(one.target, one.outcome, one.code) for one in ended(job).results]


def test_a_refused_step_is_a_row_and_not_the_end(service: Services, jobs: Jobs) -> None:
    for name in ("a", "b", "c"):
        service.add_machine(name, "generic")
    service.get_token("b/smtp")
    change = Work(Action.SET, {"account": "new@contoso.com"}, "smtp")
    job = ended(jobs.begin(change, ALL, ADMIN))
    assert outcomes(job) == [
        ("a/smtp", Outcome.DONE, None),
        ("b/smtp", Outcome.REFUSED, "token_held"),
        ("c/smtp", Outcome.DONE, None),
    ]
    assert job.state == "ended"
    assert service.tokens.status("a/smtp").profile.settings.account == "new@contoso.com"


def test_settings_that_share_a_token_are_one_step(service: Services, jobs: Jobs, provider: FakeProvider) -> None:
    service.add_machine("a")
    service.add_machine("b", "generic")
    service.get_token("a/smtp-service")
    service.get_token("b/pop")
    assert jobs.targets(Work(Action.RENEW), ["a", "b"]) == ["a/smtp-alert", "b/pop"]
    assert jobs.targets(Work(Action.LINK, group="x"), ["b"]) == ["b/smtp"]
    assert jobs.targets(Work(Action.TEST), ["a", "b"]) == []
    renewed = jobs.begin(Work(Action.RENEW), ALL, BY)
    assert outcomes(renewed) == [("a/smtp-alert", Outcome.DONE, None), ("b/pop", Outcome.DONE, None)]
    deleted = jobs.begin(Work(Action.DELETE), MachineFilter(names=("a",)), BY)
    assert outcomes(deleted) == [("a/smtp-alert", Outcome.DONE, None)]
    assert service.tokens.status("a/smtp-service").token.status is TokenStatus.NOT_RETRIEVED


def test_machines_are_tagged_and_linked(service: Services, jobs: Jobs) -> None:
    for name in ("a", "b"):
        service.add_machine(name, "generic")
    assert ended(jobs.begin(Work(Action.TAG, add=["Hamburg"]), ALL, ADMIN)).counts()[Outcome.DONE] == 2
    assert service.settings.tags_of("b") == ["hamburg"]
    ended(jobs.begin(Work(Action.LINK, group="scanners"), MachineFilter(tag="hamburg"), ADMIN))
    assert [group.name for group in service.settings.groups()] == ["scanners"]


def test_machines_are_removed_but_for_those_that_have_a_token(service: Services, jobs: Jobs) -> None:
    for name in ("a", "b", "c"):
        service.add_machine(name, "generic")
    service.get_token("b/smtp")
    assert jobs.targets(Work(Action.REMOVE_MACHINE), ["a", "b"]) == ["a", "b"]
    job = jobs.begin(Work(Action.REMOVE_MACHINE), MachineFilter(names=("a", "b")), ADMIN)
    assert outcomes(job) == [("a", Outcome.DONE, None), ("b", Outcome.REFUSED, "token_held")]
    assert service.settings.machine_names() == ["b", "c"]


@pytest.mark.thorough
@pytest.mark.parametrize("work", [Work(Action.TAG, add=["x"]), Work(Action.REMOVE_MACHINE)])
def test_a_job_over_more_than_a_thousand_machines_comes_to_its_end_and_says_how_far_it_is(
    service: Services, jobs: Jobs, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"mfp-{number:04}" for number in range(1200)]
    changes, model = service.settings._changes(ADMIN), catalogue("generic")
    for name in names:
        changes.add_machine(name, model)
    changes.save()
    half, seen, step = Event(), Event(), jobs._step

    def stepping(job: Job, target: str) -> Result:
        if target == names[600]:
            half.set()
            assert seen.wait(60)
        return step(job, target)

    monkeypatch.setattr(jobs, "_step", stepping)
    job = jobs.begin(work, ALL, ADMIN)
    assert half.wait(300)
    told = job.summary()
    assert (told["state"], told["done"], told["total"]) == ("running", 600, 1200)
    seen.set()
    assert job.ended.wait(300)
    assert (job.state, job.counts()) == ("ended", {Outcome.DONE: 1200})
    left = service.settings.machine_names()
    assert left == ([] if work.action is Action.REMOVE_MACHINE else names)


def test_tokens_are_obtained_one_after_another_and_a_stopped_queue_says_what_is_left(
    service: Services, jobs: Jobs, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SIGN_IN_LOOKS_SECONDS", 0.01)
    for name in ("a", "b"):
        service.add_machine(name, "generic")
    job = jobs.begin(Work(Action.GET_TOKEN), ALL, BY)
    wait_until(lambda: job.waiting_for == "a/imap", "the first sign-in")
    assert job.state == "waiting"
    assert service.tokens.under_way("a/imap").user_code
    service.tokens.cancel("a/imap", BY)
    wait_until(lambda: job.waiting_for == "a/pop", "the second sign-in")
    job.stopped.set()
    assert [outcome for _, outcome, _ in outcomes(job)] == [Outcome.REFUSED] * 2 + [Outcome.LEFT] * 4
    assert job.results[0].code == "cancelled"
    assert job.state == "stopped"
    assert service.tokens.status("a/pop").token.attempt is None


def test_a_thousand_machines_are_one_job(service: Services, jobs: Jobs) -> None:
    changes = service.settings._changes(ADMIN)
    model = catalogue("generic")
    for number in range(1000):
        changes.add_machine(f"mfp-{number:04}", model)
    changes.save()
    job = jobs.begin(Work(Action.RENEW), ALL, BY)
    assert ended(job).summary()["total"] == 0
    assert len(jobs.targets(Work(Action.TAG), [f"mfp-{number:04}" for number in range(1000)])) == 1000
    assert len(jobs.targets(Work(Action.SET, {"port": "587"}), [f"mfp-{n:04}" for n in range(1000)])) == 3000


@pytest.mark.parametrize(
    ("work", "field", "code"),
    [
        (Work(Action.SET), "fields", "no_fields"),
        (Work(Action.SET, {"colour": "red"}), "colour", "not_a_field"),
        (Work(Action.SET, {"port": "587"}, "fax"), "protocol", "not_a_choice"),
        (Work(Action.LINK), "group", "not_a_name"),
        (Work(Action.TAG), "tags", "no_tags"),
        (Work(Action.TAG, add=["a/b"]), "tags", "not_a_tag"),
    ],
)
def test_a_job_that_lacks_a_particular_is_refused(jobs: Jobs, work: Work, field: str, code: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        jobs.begin(work, ALL, ADMIN)
    assert (refused.value.field, refused.value.code) == (field, code)
    assert jobs.all() == []


def test_few_jobs_run_at_once_and_few_are_kept(service: Services, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    service.add_machine("a", "generic")
    first = jobs.begin(Work(Action.TAG, add=["x"]), ALL, ADMIN)
    for _ in range(module.MOST_KEPT):
        ended(jobs.begin(Work(Action.TAG, add=["x"]), ALL, ADMIN))
    assert len(jobs.all()) == module.MOST_KEPT
    with pytest.raises(NotFound):
        jobs.job(first.id)
    monkeypatch.setattr(module, "MOST_RUNNING", 0)
    with pytest.raises(Refused) as refused:
        jobs.begin(Work(Action.TAG, add=["x"]), ALL, ADMIN)
    assert refused.value.code == "too_many_jobs"

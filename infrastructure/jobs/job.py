"""A job: one action over many targets, a step for each, and the outcome of every step.

A refused step is an outcome and not the end of the job. A job is a working object in memory: each of its steps that
changed something is in the log, and a job that the service's end has cut off is begun anew over what is left.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.scope import Scope
from infrastructure.clock import instant_text


class Action(StrEnum):
    """What a job does at each of its targets."""

    GET_TOKEN = "get-token"  # noqa: S105 - an action, not a password
    RENEW = "renew"
    TEST = "test"
    DELETE = "delete"
    SET = "set"
    LINK = "link"
    TAG = "tag"
    REMOVE_MACHINE = "remove-machine"

    @property
    def is_of_machines(self) -> bool:
        """Whether a step is about a machine, and not about a setting."""
        return self in (Action.TAG, Action.REMOVE_MACHINE)


class Outcome(StrEnum):
    """What became of a step. A step that was not reached when somebody stopped the job is `left`."""

    DONE = "done"
    REFUSED = "refused"
    LEFT = "left"


@dataclass(frozen=True)
class Work:
    """An action and its particulars.

    `fields` are texts by the name of a setting's field; `protocol` limits a change of fields to the settings of one.
    `group` is the group to link into; `add` and `remove` are tags.
    """

    action: Action
    fields: Mapping[str, str] = field(default_factory=dict)
    protocol: str | None = None
    group: str = ""
    add: Sequence[str] = ()
    remove: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """The outcome of the step at `target`, a machine or a setting; of a refused step the error's code and facts."""

    target: str
    outcome: Outcome
    code: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Job:
    """A job that runs, has ended, or was stopped; its thread adds the results, any thread reads them."""

    def __init__(
        self, id: str, work: Work, targets: Sequence[str], *, by: str, begun_at: datetime, scope: Scope
    ) -> None:
        self.id = id
        self.scope = scope
        """The machines that the person who began the job is limited to."""
        self.work = work
        self.targets = tuple(targets)
        self.by = by
        self.begun_at = begun_at
        self.results: list[Result] = []
        self.waiting_for: str | None = None
        """The setting whose sign-in the job waits for."""
        self.stopped = threading.Event()
        self.ended = threading.Event()

    @property
    def state(self) -> str:
        """Whether it is running or waiting for a person, or has ended or been stopped."""
        if self.ended.is_set():
            return "stopped" if any(one.outcome is Outcome.LEFT for one in self.results) else "ended"
        return "waiting" if self.waiting_for else "running"

    def is_within(self, scope: Scope) -> bool:
        """Whether all of its targets are on machines of this scope."""
        return all(map(scope.has_profile, self.targets))

    def counts(self) -> Counter[Outcome]:
        """The number of results of each outcome."""
        return Counter(one.outcome for one in self.results.copy())

    def summary(self) -> dict[str, Any]:
        """The job without its results."""
        counts = self.counts()
        return {
            "id": self.id,
            "action": self.work.action.value,
            "by": self.by,
            "begun_at": instant_text(self.begun_at),
            "state": self.state,
            "total": len(self.targets),
            **{outcome.value: counts[outcome] for outcome in Outcome},
            "waiting_for": self.waiting_for,
        }

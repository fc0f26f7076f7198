"""Models of jobs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from adapters.http.api.models.common import PROFILE, Text, with_example
from domain.machine import MOST_TAGS
from infrastructure.jobs.job import Action


class Selected(BaseModel):
    """The machines of a job: `machines` by name, or those that a list with the same parameters has."""

    model_config = with_example(q="hamburg", state="Invalid")
    machines: Annotated[list[Text], Field(max_length=10_000)] | None = None
    q: Text = ""
    state: Text = ""
    provider: Text = ""
    account: Text = ""
    tag: Text = ""
    cause: Text = ""
    group: Text = ""


class NewJob(BaseModel):
    """An action over the selected machines.

    `set` takes `fields`, and `protocol` for the settings of one protocol alone; `link` takes `group`; `tag` takes `add`
    and `remove`. `remove-machine` removes each machine with its settings.
    """

    model_config = with_example(action="renew", select={"q": "hamburg"})
    action: Action
    select: Selected
    fields: dict[Text, Text] = Field(default_factory=dict)
    protocol: Text | None = None
    group: Text = ""
    add: Annotated[list[Text], Field(max_length=MOST_TAGS)] = []
    remove: Annotated[list[Text], Field(max_length=MOST_TAGS)] = []


class JobSummary(BaseModel):
    """A job. `state` is running, waiting (for the sign-in at `waiting_for`), ended or stopped."""

    model_config = with_example(
        id="0f8f",
        action="renew",
        by="operator:root",
        begun_at="2026-11-30T08:00:00+00:00",
        state="ended",
        total=300,
        done=299,
        refused=1,
        left=0,
        waiting_for=None,
    )
    id: str
    action: str
    by: str
    begun_at: str
    state: str
    total: int
    done: int
    refused: int
    left: int
    waiting_for: str | None


class StepResult(BaseModel):
    """The outcome of one step; a refused one has the code, the facts and the sentence of its error."""

    model_config = with_example(
        target=PROFILE, outcome="refused", code="token_waiting", why="the token is waiting", facts={}
    )
    target: str
    outcome: str
    code: str | None
    why: str | None
    facts: dict[str, Any]


class JobState(JobSummary):
    """A job with the results of its steps so far."""

    model_config = with_example(
        id="0f8f",
        action="renew",
        by="operator:root",
        begun_at="2026-11-30T08:00:00+00:00",
        state="running",
        total=300,
        done=1,
        refused=0,
        left=0,
        waiting_for=None,
        results=[{"target": PROFILE, "outcome": "done", "code": None, "why": None, "facts": {}}],
    )
    results: list[StepResult]

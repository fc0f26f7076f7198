"""Jobs over the API: begun, followed, stopped, each action with its own role."""

from __future__ import annotations

import pytest
from served_api import Api, principal_with
from waiting import wait_until

from adapters.http.principal import ADMINISTRATOR, OPERATOR
from infrastructure.service import Service


def test_a_job_is_begun_followed_and_stopped(http: Api, installation: Service) -> None:
    body = {"action": "tag", "select": {"q": "press"}, "add": ["hamburg"]}
    begun = http.ask("POST", "/api/v1/jobs", body)
    assert (begun.status, begun.body["total"]) == (202, 1)
    path = f"/api/v1/jobs/{begun.body['id']}"
    wait_until(lambda: http.get(path)["state"] == "ended", "the end of the job")
    assert http.get(path)["results"] == [{"target": "press", "outcome": "done", "code": None, "why": None, "facts": {}}]
    assert installation.settings.tags_of("press") == ["hamburg"]
    assert [one["id"] for one in http.get("/api/v1/jobs")] == [begun.body["id"]]
    assert http.ask("DELETE", path).status == 204
    assert http.ask("GET", "/api/v1/jobs/nowhere").status == 404


def test_a_refused_step_says_why(http: Api) -> None:
    body = {"action": "set", "select": {"machines": ["press", "gone"]}, "fields": {"port": "99999"}}
    begun = http.ask("POST", "/api/v1/jobs", body).body
    wait_until(lambda: http.get(f"/api/v1/jobs/{begun['id']}")["state"] == "ended", "the end of the job")
    job = http.get(f"/api/v1/jobs/{begun['id']}")
    assert (job["refused"], job["results"][0]["code"]) == (3, "number_not_in_range")
    assert "99999" in job["results"][0]["why"]


@pytest.mark.parametrize(
    ("action", "role"), [("renew", OPERATOR), ("set", ADMINISTRATOR), ("remove-machine", ADMINISTRATOR)]
)
def test_each_action_needs_its_own_role(http: Api, action: str, role: str) -> None:
    body = {"action": action, "select": {"q": "nowhere"}, "fields": {"port": "25"}}
    answers = {
        one: http.ask("POST", "/api/v1/jobs", body, principal_with(one)).status for one in (OPERATOR, ADMINISTRATOR)
    }
    assert answers == {one: 202 if one == role else 403 for one in answers}

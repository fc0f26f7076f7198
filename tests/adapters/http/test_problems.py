"""Each error is a problem document with a sentence for a person, a code and facts for a program."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError
from served_api import Api
from starlette.exceptions import HTTPException

from adapters.http.problems import MEDIA_TYPE, problem
from domain.errors import InvalidValue, NotFound, TooManyRequests, Unreachable


def read(error: Exception) -> tuple[int, str | None, dict[str, Any]]:
    response = problem(error)
    assert response.media_type == MEDIA_TYPE
    return response.status_code, response.headers.get("retry-after"), json.loads(bytes(response.body))


def test_an_error_has_its_sentence_its_code_and_its_facts() -> None:
    status, retry_after, body = read(NotFound("client_not_found", name="backup"))
    assert (status, retry_after) == (404, None)
    assert body["title"] == "Not Found"
    assert (body["code"], body["fields"]) == ("client_not_found", {"name": "backup"})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TooManyRequests("too_many_wrong_passwords", 8), (429, "8")),
        (Unreachable("too_many_sign_ins", retry_after_seconds=120), (503, "120")),
        (Unreachable("too_many_sign_ins"), (503, "5")),
        (OperationalError("disk I/O error"), (503, "5")),
        (HTTPException(404), (404, None)),
        (ValueError("a secret"), (500, None)),
    ],
)
def test_an_answer_that_asks_to_wait_says_for_how_long(error: Exception, expected: tuple[int, str | None]) -> None:
    status, retry_after, _ = read(error)
    assert (status, retry_after) == expected


def test_an_error_that_nobody_foresaw_shows_its_kind_alone() -> None:
    _, _, body = read(ValueError("a secret"))
    assert (body["code"], body["fields"]) == ("unexpected_error", {"type": "ValueError"})
    assert "a secret" not in json.dumps(body)


def test_what_was_asked_is_repeated_also_if_it_is_no_text() -> None:
    _, _, body = read(InvalidValue("name", "no_name", value="\ud800", values=["\udfff"]))
    assert body["fields"] == {"field": "name", "value": "\\ud800", "values": ["\\udfff"]}


def test_the_frameworks_own_refusals_have_a_code_too(http: Api) -> None:
    missing, method = http.ask("GET", "/api/v1/nothing"), http.ask("PUT", "/api/v1/machines")
    assert [(answer.status, answer.body["code"]) for answer in (missing, method)] == [
        (404, "not_found"),
        (405, "method_not_allowed"),
    ]
    unknown = http.ask("POST", "/api/v1/machines", {"name": "press", "colour": "red"})
    assert (unknown.status, unknown.body["code"]) == (422, "unknown_field")
    assert unknown.body["fields"] == {"field": "colour"}
    assert unknown.body["detail"] == "colour: nothing is called so here"

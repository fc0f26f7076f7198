"""`/healthz` and `/readyz` say whether the process does its work, and whether a token could be stored now."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from served import all_that_lasts
from served_api import Api, serve_api
from waiting import wait_until

from infrastructure.service import Service
from infrastructure.store.sqlite import SqliteStore
from infrastructure.ticker import Ticker


def health_of(http: Api, path: str) -> tuple[int, str]:
    answer = http.ask("GET", path, None)
    return answer.status, answer.body.get("code", answer.body["status"])


def test_a_service_that_works_is_healthy_and_ready_and_nothing_changes(http: Api, installation: Service) -> None:
    before = all_that_lasts(installation)
    assert health_of(http, "/healthz") == (200, "ok")
    assert health_of(http, "/readyz") == (200, "ready")
    assert all_that_lasts(installation) == before


def lock(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(SqliteStore, "check_writes", refuse)


def fill(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteStore, "has_room", lambda _: False)


def remove_the_escrow(service: Service, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(service.config.path(service.config.store.escrow))


def drop_a_table(service: Service, _: pytest.MonkeyPatch) -> None:
    with service.events.store.writing() as query:
        query.run("ALTER TABLE meta RENAME TO elsewhere")


@pytest.mark.parametrize("cause", [lock, fill, remove_the_escrow, drop_a_table])
def test_a_service_that_could_store_no_token_is_not_ready_and_says_no_details(
    http: Api,
    installation: Service,
    monkeypatch: pytest.MonkeyPatch,
    cause: Callable[[Service, pytest.MonkeyPatch], None],
) -> None:
    cause(installation, monkeypatch)
    answer = http.ask("GET", "/readyz", None)
    assert (answer.status, answer.body["code"], answer.body["fields"]) == (503, "not_ready", {})
    assert health_of(http, "/healthz") == (200, "ok")


def test_a_worker_that_has_ended_by_itself_is_told(installation: Service) -> None:
    ended = Ticker("renewals", lambda: None, lambda: 0.0)
    ended._thread = threading.Thread(target=lambda: None)
    assert not ended.is_dead, "it was not started"
    ended.start()
    wait_until(lambda: ended.is_dead, "the thread has ended")
    installation.polling_worker.tickers = (ended,)
    with serve_api(installation) as http:
        answer = http.ask("GET", "/healthz", None)
        assert (answer.status, answer.body["fields"]) == (503, {"workers": ["renewals"]})
        assert 'mailtoken_worker_alive{worker="renewals"} 0.0' in http.ask("GET", "/metrics", None).text
    ended.stop()
    assert not ended.is_dead, "it was stopped"


def test_a_process_without_file_descriptors_is_not_healthy(http: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (in_use + 1, in_use + 1))
    assert health_of(http, "/healthz") == (503, "descriptors_few")

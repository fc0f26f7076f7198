"""A log line holds the fields that are listed and nothing else, whatever somebody passes to it."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from fakes import SCANNER, START, FakeClock, Services
from store_examples import ADMIN, as_text, change, everything

from domain.errors import MailtokenError
from domain.ports import Reply
from domain.secret import Secret
from infrastructure.logging import ALLOWED_FIELDS, FAULT_COUNTS, logging_to_standard_error, only_allowed_fields


class Written:
    """What the log has written into a file. `read` closes the log, so that all of its lines are there."""

    def __init__(self, path: Path, close: Callable[[], None]) -> None:
        self._path = path
        self._close = close

    def read(self) -> str:
        self._close()
        return self._path.read_text()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Written]:
    """What the service's log writes, configured as when it runs elsewhere than at a terminal."""
    before, path = structlog.get_config(), tmp_path / "log"
    with path.open("w") as file, ExitStack() as stack:
        monkeypatch.setattr(sys, "stderr", file)
        stack.enter_context(logging_to_standard_error())
        yield Written(path, stack.close)
    structlog.configure(**before)


def lines(written: Written) -> list[dict[str, str]]:
    return [json.loads(line) for line in written.read().splitlines()]


log = structlog.get_logger("test")


def test_a_field_nobody_listed_is_left_out() -> None:
    fields = {"event": "renewed", "token": "id", "access_token": "in-clear", "reply": b"in-clear", "Authorization": "x"}
    assert only_allowed_fields(None, "info", fields) == {"event": "renewed", "token": "id"}


def test_no_listed_field_is_one_that_holds_a_secret() -> None:
    suspicious = ("secret", "password", "access", "refresh", "code", "body", "header", "key", "cookie")
    assert [name for name in ALLOWED_FIELDS if any(word in name for word in suspicious)] == []


def test_a_line_elsewhere_than_at_a_terminal_is_one_json_object(written: Written) -> None:
    log.warning("renewal_failed", token="id", access_token="in-clear")
    log.debug("not shown")
    (line,) = lines(written)
    assert line.keys() == {"event", "level", "timestamp", "token"}
    assert (line["event"], line["level"]) == ("renewal_failed", "warning")
    assert line["timestamp"].endswith("Z")


def test_a_traceback_shows_no_values(written: Written) -> None:
    def fail(access_token: str) -> None:
        raise ValueError(f"{len(access_token)} characters")

    try:
        fail("-".join(("access", "token", "clear")))
    except ValueError:
        log.exception("worker_failed", refresh_token="refresh-token-in-clear")
    (line,) = lines(written)
    assert "ValueError: 18 characters" in line["exception"]
    assert "in fail" in line["exception"]
    assert "access-token-clear" not in str(line)
    assert "refresh-token" not in str(line)


@pytest.mark.usefixtures("written")
def test_a_process_without_standard_error_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with logging_to_standard_error():
        structlog.get_logger("mailtoken").bind().error("signed_in", exc_info=ValueError())


def test_a_warning_of_a_library_is_written_too(written: Written) -> None:
    library = logging.Logger("library")
    library.warning("a connection was kept")
    assert written.read() == "a connection was kept\n"


def test_whatever_happens_to_tokens_no_secret_is_shown_anywhere(
    service: Services,
    clock: FakeClock,
    written: Written,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    scanner, *_ = service.add_machine()
    shown: list[object] = [service.get_token(scanner), service.tokens.status(scanner).as_json()]
    served = service.access_token(scanner)
    shown += [served, str(served), f"{served.credential.access_token}"]
    shown.append(service.tokens.request(scanner, None, ADMIN))
    clock.step(minutes=55)
    change(service.store, "UPDATE vault SET body = ? WHERE kind = 'credential'", b"damaged")
    for act in (
        lambda: service.access_token(scanner),
        lambda: service.tokens.renew(scanner, ADMIN),
        lambda: service.tokens.poll(service.tokens.status(scanner).profile.token_id),
    ):
        try:
            shown.append(act())
        except MailtokenError as error:
            shown += [str(error), repr(error), error.args]
    shown += [service.tokens.alarms, vars(service.tokens), service.vault, service.events, service.escrow]
    shown += [record.as_json() for record in service.history.records()]
    shown += [everything(service.store), Reply(200, (), b"in-clear", START)]
    shown += [written.read(), [record.__dict__ for record in caplog.records]]
    assert "vault_damaged" in written.read()
    assert "in-clear" not in as_text(shown)
    assert SCANNER in as_text(shown)


def test_a_secret_in_a_listed_field_prints_as_stars(written: Written) -> None:
    log.error("vault_damaged", why=Secret("in-clear"), error=f"{Secret('in-clear')}")
    (line,) = lines(written)
    assert (line["why"], line["error"]) == ("***", "***")


def test_every_event_of_the_log_is_in_snake_case() -> None:
    rooms = Path(__file__).parents[2]
    sources = [path for room in ("adapters", "infrastructure") for path in (rooms / room).rglob("*.py")]
    names = [
        name
        for source in sources
        for name in re.findall(r'\blog\.(?:debug|info|warning|error|exception)\(\s*"([^"]*)"', source.read_text())
    ]
    assert names
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*( %s)?", name)] == []


def test_warnings_and_errors_are_counted_by_event_also_where_no_line_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, configured = FAULT_COUNTS.by_event(), structlog.get_config()
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with logging_to_standard_error():
            log.info("counted_not")
            for _ in range(3):
                log.warning("counted", why="in-clear")
            log.error("counted")
            try:
                raise ValueError("in-clear")
            except ValueError:
                log.exception("counted_with_its_traceback")
    structlog.configure(**configured)
    counted = {event: number - before.get(event, 0) for event, number in FAULT_COUNTS.by_event().items()}
    assert (counted["counted"], counted["counted_with_its_traceback"]) == (4, 1)
    assert "counted_not" not in counted

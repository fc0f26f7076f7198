"""A log line holds the fields that are listed and nothing else, whatever somebody passes to it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from fakes import SCANNER, START, FakeClock, FakeProvider, Services
from store_examples import ADMIN, as_text, change, everything

from domain.errors import MailtokenError
from domain.ports import Reply
from domain.secret import Secret
from infrastructure.redaction import ALLOWED_FIELDS, configure_logging, only_allowed_fields


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[structlog.BoundLogger]:
    """The service's log, as it is configured when it runs."""
    before = structlog.get_config()
    configure_logging()
    yield structlog.get_logger("test")
    structlog.configure(**before)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_field_nobody_listed_is_left_out() -> None:
    fields = {"event": "renewed", "token": "id", "access_token": "in-clear", "reply": b"in-clear", "Authorization": "x"}
    assert only_allowed_fields(None, "info", fields) == {"event": "renewed", "token": "id"}


def test_no_listed_field_is_one_that_holds_a_secret() -> None:
    suspicious = ("secret", "password", "access", "refresh", "code", "body", "header", "key", "cookie")
    assert [name for name in ALLOWED_FIELDS if any(word in name for word in suspicious)] == []


def test_a_line_elsewhere_than_at_a_terminal_is_one_json_object(
    log: structlog.BoundLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    log.warning("renewal_failed", token="id", access_token="in-clear")
    log.debug("not shown")
    (line,) = lines(capsys)
    assert line.keys() == {"event", "level", "timestamp", "token"}
    assert (line["event"], line["level"]) == ("renewal_failed", "warning")
    assert line["timestamp"].endswith("Z")


def test_a_traceback_shows_no_values(log: structlog.BoundLogger, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(access_token: str) -> None:
        raise ValueError(f"{len(access_token)} characters")

    try:
        fail("access-token-in-clear")
    except ValueError:
        log.exception("worker_failed", refresh_token="refresh-token-in-clear")
    (line,) = lines(capsys)
    assert "ValueError: 21 characters" in line["exception"]
    assert 'fail("access-token-in-clear")' in line["exception"]
    assert "refresh-token" not in str(line)


def test_whatever_happens_to_tokens_no_secret_is_shown_anywhere(
    service: Services,
    provider: FakeProvider,
    clock: FakeClock,
    log: structlog.BoundLogger,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    scanner, *_ = service.add_machine()
    shown: list[object] = [service.get_token(scanner), service.tokens.status(scanner).as_json()]
    served = service.access_token(scanner)
    shown += [served, str(served), f"{served.credential.access_token}", provider.revoked and ""]
    shown.append(service.tokens.request(scanner, None, ADMIN).__class__)
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
    shown += [record.as_json() for record in service.audit.records()]
    shown += [everything(service.store), Reply(200, (), b"in-clear", START)]
    shown += [capsys.readouterr(), [record.__dict__ for record in caplog.records]]
    assert "in-clear" not in as_text(shown)
    assert SCANNER in as_text(shown)


def test_a_secret_in_a_listed_field_prints_as_stars(
    log: structlog.BoundLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    log.error("vault_damaged", why=Secret("in-clear"), error=f"{Secret('in-clear')}")
    (line,) = lines(capsys)
    assert (line["why"], line["error"]) == ("***", "***")

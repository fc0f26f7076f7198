"""Log lines as the journal reads them: each with its priority, and only when standard error is the journal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

_PROGRAM = """
import structlog
from infrastructure.logging import logging_to_standard_error
log = structlog.get_logger("mailtoken")
with logging_to_standard_error():
    log.debug("too_much")
    log.info("projection_rebuilt", events=3)
    log.warning("renewal_failed", provider="contoso", refresh_token="secret")
    log.error("vault_damaged", why="one\\ntwo")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("renewals_failed")
"""


def lines_of(stream: str) -> list[str]:
    """What a service logs whose standard error is a pipe; `stream` is JOURNAL_STREAM, {0} the pipe's own."""
    read, write = os.pipe()
    about = os.fstat(write)
    environment: Mapping[str, str] = {
        **os.environ,
        "JOURNAL_STREAM": stream.format(f"{about.st_dev}:{about.st_ino}"),
    }
    subprocess.run([sys.executable, "-c", _PROGRAM], stderr=write, env=environment, check=True)
    os.close(write)
    with os.fdopen(read) as file:
        return file.read().splitlines()


def test_each_line_to_the_journal_begins_with_its_priority() -> None:
    lines = lines_of("{0}")
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<3>", "<3>"]
    info, warning, error, exception = (json.loads(line[3:]) for line in lines)
    assert (info["event"], info["events"], info["level"]) == ("projection_rebuilt", 3, "info")
    assert (warning["provider"], "refresh_token" in warning) == ("contoso", False)
    assert error["why"] == "one\ntwo", "one line whatever it holds"
    assert "ZeroDivisionError" in exception["exception"]


@pytest.mark.parametrize("stream", ["", "0:0", "{0}0"])
def test_lines_to_anything_else_are_plain_json(stream: str) -> None:
    assert [json.loads(line)["level"] for line in lines_of(stream)] == ["info", "warning", "error", "error"]

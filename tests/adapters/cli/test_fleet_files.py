"""A file of settings is written in the formats that there are, and in no other."""

from __future__ import annotations

import pytest

from adapters.cli.fleet_files import write
from adapters.cli.service_socket import CommandError
from adapters.error_kinds import ExitCode


def test_a_file_is_not_written_in_a_format_that_there_is_not() -> None:
    with pytest.raises(CommandError, match=r"^--format: 'xml' is not toml, yaml, csv$") as refused:
        write({}, "xml")
    assert refused.value.exit_code is ExitCode.USAGE

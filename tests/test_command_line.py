"""A command that is forked from a process with its imports is the command that people run."""

import os
import signal
from pathlib import Path

import command_line
import pytest
from waiting import wait_until


@pytest.mark.parametrize("line", ["--help", "status --nonsense", "token show a/b"])
def test_a_forked_command_says_what_the_installed_one_says_and_ends_like_it(tmp_path: Path, line: str) -> None:
    forked, installed = (
        command_line.run(*line.split(), cwd=tmp_path, forked=is_forked, XDG_CONFIG_HOME=str(tmp_path))
        for is_forked in (True, False)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        installed.returncode,
        installed.stdout,
        installed.stderr,
    )


def test_ctrl_c_ends_a_command_even_if_it_is_ignored_where_the_tests_were_started(tmp_path: Path) -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert command_line.run("init", cwd=tmp_path).returncode == 0
        for forked in (True, False):
            command = command_line.begin("serve", cwd=tmp_path, forked=forked)
            wait_until((tmp_path / "mailtoken.sock").exists, "the service listens")
            os.kill(command.pid, signal.SIGINT)
            command.communicate(timeout=60)
            assert command.returncode == 130
    finally:
        signal.signal(signal.SIGINT, usual)

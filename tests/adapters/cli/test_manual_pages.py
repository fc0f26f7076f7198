"""Manual pages and shell completion are made from the command line itself, so none of its commands lacks them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import pytest
from typer.main import get_command

from adapters.cli.app import app
from adapters.error_kinds import ExitCode


def commands(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, *words, name)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `mailtoken man-pages` has written."""
    directory = tmp_path_factory.mktemp("share") / "man" / "man1"
    done = command_line.run("man-pages", str(directory), cwd=directory.parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    return directory


def test_each_command_has_a_page_with_all_its_options(pages: Path) -> None:
    known = dict(commands(get_command(app), "mailtoken"))
    assert {path.name for path in pages.iterdir()} == {f"{'-'.join(words)}.1" for words in known}
    for words, command in known.items():
        text = (pages / f"{'-'.join(words)}.1").read_text().replace("\\-", "-")
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert all(name in text for name in parameter.opts), (words, parameter.opts)


def test_a_page_tells_each_exit_status(pages: Path) -> None:
    _, _, told = (pages / "mailtoken.1").read_text().partition(".SH EXIT STATUS\n")
    assert [line for line in told.splitlines() if line.startswith(".B ")] == [f".B {int(code)}" for code in ExitCode]


@pytest.mark.needs("groff")
def test_groff_finds_no_fault_in_a_page(pages: Path) -> None:
    paths = sorted(str(path) for path in pages.iterdir())
    checked = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", *paths], check=False, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.needs("mandoc")
def test_mandoc_finds_no_fault_in_a_page(pages: Path) -> None:
    paths = sorted(str(path) for path in pages.iterdir())
    checked = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *paths], check=False, capture_output=True, text=True)
    # A page has no date: it changes with the program's version, not by the day.
    faults = [line for line in checked.stdout.splitlines() if "missing date" not in line]
    assert faults == []


@pytest.mark.needs("bash")
@pytest.mark.parametrize(
    ("line", "completed"),
    [("mailtoken tok", "token"), ("mailtoken token re", "renew"), ("mailtoken status --che", "--check")],
)
def test_bash_completes_commands_and_options(line: str, completed: str, tmp_path: Path) -> None:
    script = command_line.run("completion", "bash", cwd=tmp_path).stdout
    # What bash does at the tab key: it calls the function that the script names, with the words in COMP_WORDS.
    asked = (
        f"{script}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        f'_mailtoken_completion {command_line.MAILTOKEN}; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
    )
    done = subprocess.run(["bash", "-c", asked], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert completed in done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_the_program(shell: str, tmp_path: Path) -> None:
    done = command_line.run("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_MAILTOKEN_COMPLETE=complete_{shell}" in done.stdout


def test_another_shell_is_a_usage_error(tmp_path: Path) -> None:
    done = command_line.run("completion", "tcsh", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)

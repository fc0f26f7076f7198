"""The pictures show what the program does."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import diagrams
from domain.lifecycle import COMMANDS, PERMISSIONS, Held, TokenStatus, target
from domain.profile import Profile
from domain.token import Token

PICTURES = Path(diagrams.__file__).parent


def picture(name: str) -> str:
    return (PICTURES / name).read_text(encoding="utf-8")


def test_the_picture_of_the_life_of_a_token_is_current() -> None:
    assert picture("lifecycle.md") == diagrams.lifecycle(), "run: make diagrams"


def test_regenerating_writes_the_picture_of_the_life_of_a_token(tmp_path: Path) -> None:
    diagrams.regenerate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lifecycle.md"]
    assert (tmp_path / "lifecycle.md").read_text(encoding="utf-8") == diagrams.lifecycle()


def test_the_package_run_as_a_program_regenerates_what_stands_beside_it(tmp_path: Path) -> None:
    copy = tmp_path / "diagrams"
    copy.mkdir()
    for source in PICTURES.glob("*.py"):
        shutil.copy(source, copy)
    ran = subprocess.run([sys.executable, "-m", "diagrams"], capture_output=True, check=True, cwd=tmp_path)
    assert (ran.stdout, ran.stderr) == (b"", b"")
    assert (copy / "lifecycle.md").read_text(encoding="utf-8") == diagrams.lifecycle()


def test_the_life_of_a_token_shows_every_state_and_command_in_words() -> None:
    text = diagrams.lifecycle()
    for status in TokenStatus:
        assert f'state "{status}" as ' in text
    for command in COMMANDS:
        assert f" : {command.replace('_', ' ').capitalize()}" in text
    assert "held_" not in text


def test_the_columns_of_the_table_are_in_line() -> None:
    rows = [line for line in diagrams.lifecycle().splitlines() if line.startswith("|")]
    assert len(rows) > 2
    assert len({tuple(match.start() for match in re.finditer(r"\|", row)) for row in rows}) == 2, "two tables"


def test_the_table_of_permissions_says_yes_where_the_lifecycle_permits_it() -> None:
    _, text = diagrams.lifecycle().split("## What may be done with a setting")
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    said = {
        cells[1].strip(): [cell.strip() == "yes" for cell in cells[2:-1]] for cells in (row.split("|") for row in rows)
    }
    permitted = {
        status.value: [target(status, act, Held.NOTHING) is not None for act in PERMISSIONS] for status in TokenStatus
    }
    assert said == permitted


def drawn_and_told() -> tuple[str, str]:
    _, drawing, told = re.split(r"^```(?:mermaid)?$", picture("acquisition.md"), flags=re.MULTILINE)
    return drawing, told


def test_each_point_of_a_crash_in_the_picture_is_told_beneath_in_the_same_order() -> None:
    drawing, told = drawn_and_told()
    letters = re.findall(r"Note over [\w,]+: ([A-Z])$", drawing, flags=re.MULTILINE)
    assert letters == list("ABCDEFGHI")
    assert re.findall(r"^- \*\*([A-Z])\*\*,", told, flags=re.MULTILINE) == letters


def test_the_acquisition_names_only_events_there_are_and_only_who_is_introduced() -> None:
    drawing, _ = drawn_and_told()
    known = {
        name
        for aggregate in (Token, Profile)
        for name, event in inspect.getmembers(aggregate, inspect.isclass)
        if "TOPIC" in vars(event)
    }
    assert set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", drawing)) == {"AuthorizationRequested", "TokenReceived"}
    assert {"AuthorizationRequested", "Retrieved", "TokenReceived"} <= known
    introduced = set(re.findall(r"^ +(?:participant|actor) (\w+)", drawing, flags=re.MULTILINE))
    speakers = re.findall(r"^ +(\w+)--?>>(\w+):", drawing, flags=re.MULTILINE)
    assert {name for pair in speakers for name in pair} == introduced

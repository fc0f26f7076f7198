"""The container file, read without an engine: what it copies is there, and what it runs is a command of ours."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from typer.main import get_command

from adapters.cli.app import app
from adapters.cli.manual_pages import manual_pages

ROOT = Path(__file__).parents[2]
FILE = ROOT / "packaging" / "container" / "Containerfile"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as name and arguments."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.partition(" ")[::2] for line in text.splitlines() if line.strip()]
    starts = [at for at, (name, _) in enumerate(lines) if name == "FROM"]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def last(stage: list[tuple[str, str]], name: str) -> str:
    """The arguments of the last such instruction."""
    return [arguments for one, arguments in stage if one == name][-1]


def test_the_image_has_what_the_build_made_and_nothing_else_of_it() -> None:
    build, image = stages()
    assert last(build, "FROM").endswith(" AS build")
    copies = [arguments for name, arguments in image if name == "COPY"]
    assert copies == ["--from=build /opt/mailtoken /opt/mailtoken"]
    assert "python -m venv /opt/mailtoken" in last(build, "RUN")


def test_the_program_runs_as_a_user_of_its_own_with_one_writable_place() -> None:
    _, image = stages()
    user, place = last(image, "USER"), last(image, "VOLUME")
    made = last(image, "RUN")
    assert user == "mailtoken"
    assert f" {user} " in f"{made} "
    assert f"--owner={user} --mode=0700 {place}" in made
    assert f"MAILTOKEN_CONFIG={place}/mailtoken.toml" in last(image, "ENV")


def test_what_runs_in_the_container_is_a_command_of_the_program() -> None:
    _, image = stages()
    commands = {page.command for page in manual_pages(get_command(app))}
    health = json.loads(last(image, "HEALTHCHECK").partition(" CMD ")[2])
    started = json.loads(last(image, "ENTRYPOINT")) + json.loads(last(image, "CMD"))
    assert {tuple(started), tuple(health[:2])} <= commands


def test_the_versions_are_those_of_the_lock(tmp_path: Path) -> None:
    build, _ = stages()
    [command] = re.findall(r"sed .* > /tmp/constraints.txt", last(build, "RUN"))
    target = tmp_path / "constraints.txt"
    subprocess.run(["/bin/sh", "-c", command.replace("/tmp/constraints.txt", str(target))], cwd=ROOT, check=True)
    lines = [line for line in target.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+( ;.*)?", line) for line in lines), lines
    assert "--constraint /tmp/constraints.txt" in last(build, "RUN")

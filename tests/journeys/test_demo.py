"""`mailtoken demo`, run as a person runs it: in a log, at a terminal, and when something goes wrong."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import command_line
import pytest
from pseudo_terminal import CTRL_C, PseudoTerminal
from waiting import DEADLINE_SECONDS

# In this order; what stands between them does not matter here.
STORY = (
    r"1\. A machine with seven mail settings",
    r"\$ mailtoken machine add office-mfp --catalogue sharp-bp",
    r"office-mfp/pop-email-status +○ Not Retrieved",
    r"office-mfp/smtp-service +○ Not Retrieved",
    r"\$ mailtoken profile set office-mfp/smtp-service server=localhost .*account=scan@contoso.com",
    r"\$ mailtoken token get office-mfp/smtp-service --yes --no-wait",
    r"Open https://localhost:\d+/device and enter the code [A-Z]{4}-[A-Z]{4}",
    r"office-mfp/pop-internet-fax +○ Not Retrieved",
    r"office-mfp/smtp-alert +◐ Waiting for authorisation",
    r"office-mfp/smtp-initial +◐ Waiting for authorisation",
    r"office-mfp/smtp-quick +◐ Waiting for authorisation",
    r"office-mfp/smtp-service +◐ Waiting for authorisation",
    r"scan@contoso.com has signed in",
    r"office-mfp/pop-internet-fax +○ Not Retrieved",
    r"office-mfp/smtp-alert +● Retrieved +scan@contoso.com",
    r"office-mfp/smtp-initial +● Retrieved +scan@contoso.com",
    r"office-mfp/smtp-quick +● Retrieved +scan@contoso.com",
    r"office-mfp/smtp-service +● Retrieved +scan@contoso.com",
    r"\$ mailtoken test office-mfp/smtp-service",
    r"235 ",
    r"\$ mailtoken send -t < scan.eml",
    r"And this is in the mailbox of fax@contoso.com:",
    r"Subject: Scan of page 1",
    r"\$ mailtoken token get office-mfp/pop-internet-fax --yes --no-wait",
    r"fax@contoso.com has signed in",
    r"office-mfp/pop-internet-fax +● Retrieved +fax@contoso.com",
    r"\$ mailtoken test office-mfp/pop-internet-fax",
    r"\+OK 1 ",
    r"\$ mailtoken token show office-mfp/smtp-quick \| wc -c",
    r"1501",
    r"\$ mailtoken token renew office-mfp/smtp-service",
    r"office-mfp/smtp-service: Retrieved",
    r"\$ mailtoken token delete office-mfp/smtp-alert --yes",
    r"office-mfp/pop-internet-fax +● Retrieved +fax@contoso.com",
    r"office-mfp/smtp-alert +○ Not Retrieved",
    r"office-mfp/smtp-service +○ Not Retrieved",
    r"\$ mailtoken audit log office-mfp/smtp-service",
    r"Retrieved for scan@contoso.com at practice",
    r"token deleted: Not Retrieved",
    r"\$ mailtoken audit verify",
    r"events verified",
    r"All 12 stages hold",
)


def processes_of(folder: Path) -> list[int]:
    """The processes that were started with a path in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.append(int(process.name))
    return found


def assert_nothing_is_left(folder: Path) -> None:
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.thorough
def test_without_a_terminal_the_demo_tells_its_story_to_the_end(tmp_path: Path) -> None:
    told = command_line.run("demo", cwd=tmp_path, forked=False, TMPDIR=str(tmp_path))
    assert (told.returncode, told.stderr) == (0, "")
    at = 0
    for line in STORY:
        found = re.compile(line).search(told.stdout, at)
        assert found, f"{line} is missing, or not in its place:\n{told.stdout}"
        at = found.end()
    assert "\x1b" not in told.stdout
    assert_nothing_is_left(tmp_path)


@contextmanager
def demo_at_terminal(folder: Path) -> Iterator[PseudoTerminal]:
    with PseudoTerminal(folder, ["demo"], forked=False, TMPDIR=str(folder)) as terminal:
        yield terminal
    assert_nothing_is_left(folder)


@pytest.mark.thorough
def test_at_a_terminal_a_person_sets_the_pace_and_ctrl_c_removes_everything(tmp_path: Path) -> None:
    with demo_at_terminal(tmp_path) as terminal:
        at = 0
        for stage in range(1, 12):
            at = terminal.wait_for(f"{stage}. ", at)
            if stage in (4, 7):
                at = terminal.wait_for("Waiting for authorisation", at)
                terminal.press("\n")
                at = terminal.wait_for("has signed in", at)
            at = terminal.wait_for("Enter goes on", at)
            terminal.press("\n")
        for text in ("events verified", "until you press Ctrl-C", "POP3 localhost"):
            at = terminal.wait_for(text, at)
        assert processes_of(tmp_path) != []
        terminal.press(CTRL_C)
        assert terminal.end() == 0


def test_ctrl_c_in_the_middle_of_the_story_removes_everything(tmp_path: Path) -> None:
    with demo_at_terminal(tmp_path) as terminal:
        terminal.wait_for("Enter goes on")
        terminal.press(CTRL_C)
        assert terminal.end() == 130


def test_a_service_that_dies_is_said_with_its_stage_and_its_log(tmp_path: Path) -> None:
    demo = command_line.begin("demo", cwd=tmp_path, forked=False, TMPDIR=str(tmp_path))
    assert demo.stdout
    for line in demo.stdout:
        if line.startswith("1. "):
            break
    [service] = processes_of(tmp_path)
    os.kill(service, signal.SIGKILL)
    _, errors = demo.communicate(timeout=DEADLINE_SECONDS)
    assert demo.returncode == 1
    assert '"serving"' in errors
    last = errors.splitlines()[-1]
    assert re.fullmatch(r"mailtoken demo: stage \d+ \(.+\) does not hold: the service has ended .*-9.*", last)
    assert_nothing_is_left(tmp_path)

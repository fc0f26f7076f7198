"""`mailtoken demo`, run as a person runs it: in a log, at a terminal, and when something goes wrong."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import command_line
import pytest
from playwright.sync_api import sync_playwright
from pseudo_terminal import CTRL_C, CTRL_D, PseudoTerminal
from waiting import DEADLINE_SECONDS, wait_until

from adapters.practice import browser_user

_CODE = re.compile(r"Open (https://localhost:\d+/device) and enter the code ([A-Z]{4}-[A-Z]{4})")

# In this order; what stands between them does not matter here.
STORY = (
    r"^A practice provider, .* are being started",
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
    r"office-mfp/smtp-alert +● Retrieved, server missing +scan@contoso.com",
    r"office-mfp/smtp-initial +● Retrieved, server missing +scan@contoso.com",
    r"office-mfp/smtp-quick +● Retrieved, server missing +scan@contoso.com",
    r"office-mfp/smtp-service +● Retrieved +scan@contoso.com",
    r"\$ mailtoken test office-mfp/smtp-service",
    r"235 ",
    r"\$ mailtoken send -t < .*/scan\.eml",
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
    r"13\. A small fleet",
    r"hamburg-001/smtp +● Retrieved .*renews itself",
    r"lisbon-002/smtp +✗ Invalid",
    r"oslo-001/smtp +◐ Waiting for authorisation",
    r"oslo-002/smtp +● Retrieved .*client secret is about to expire",
    r"14\. The console",
    r"http://localhost:\d+/[\w-]{20,}",
    r"All 14 stages hold",
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
def demo_at_terminal(folder: Path, columns: int) -> Iterator[PseudoTerminal]:
    with PseudoTerminal(folder, ["demo"], columns, forked=False, TMPDIR=str(folder)) as terminal:
        yield terminal
    assert_nothing_is_left(folder)


@pytest.mark.thorough
@pytest.mark.needs("chromium")
def test_at_a_terminal_no_choice_of_a_person_ends_the_story_before_the_console_and_ctrl_c_removes_everything(
    tmp_path: Path,
) -> None:
    """A sign-in before its stage, the wrong account, a sign-in that is declined, Enter, Ctrl-D; a browser; Ctrl-C."""
    with demo_at_terminal(tmp_path, columns=120) as terminal:
        at = 0
        for stage in range(1, 14):
            at = terminal.wait_for(f"{stage}. ", at)
            if stage == 3:
                answer(terminal, browser_user.approve, "scan@contoso.com", at)
            if stage == 7:
                at = answer(terminal, browser_user.approve, "scan@contoso.com", at)
                at = terminal.wait_for("signed in where", at)
                at = answer(terminal, browser_user.deny, "fax@contoso.com", at)
                at = terminal.wait_for("The sign-in was declined", at)
                at = terminal.wait_for("Ctrl-C ends the demo and removes everything", at)
                terminal.press("\n")
                at = terminal.wait_for("has signed in.", at)
            at = terminal.wait_for("Enter goes on", at)
            terminal.press(CTRL_D if stage == 9 else "\n")
        for text in ("The console", "until you press Ctrl-C", "POP3 localhost"):
            at = terminal.wait_for(text, at)
        assert_commands_work_in_any_folder(terminal.text)
        assert_link_opens_the_console_signed_in_once(terminal.text)
        assert "…" not in terminal.text, "a column is cut"
        terminal.press(CTRL_C)
        assert terminal.end() == 0


def answer(terminal: PseudoTerminal, choose: Callable[[str, str, str, Path], None], account: str, since: int) -> int:
    """Answer at the provider's page with the next code that is drawn; where the code ends."""
    found = wait_until(lambda: _CODE.search(terminal.text, since), "the whole code is drawn")
    [folder] = {Path(path) for path in re.findall(r"\S+/mailtoken-demo-\w+", terminal.text)}
    choose(found[1], found[2], account, folder / "ca" / "ca.pem")
    return found.end()


def only(pattern: str, told: str) -> str:
    """What the group of the pattern matches, the same wherever it is found."""
    [found] = set(re.findall(pattern, told))
    return str(found)


def assert_commands_work_in_any_folder(told: str) -> None:
    command = only(r"alias mailtoken='(.+)'", told)
    assert f"{command} status --watch" in told
    shown = subprocess.run(["/bin/sh", "-c", f"{command} status"], cwd="/", capture_output=True, text=True, check=True)
    assert "hamburg-001/smtp" in shown.stdout


def assert_link_opens_the_console_signed_in_once(told: str) -> None:
    link, console = only(r"(http://localhost:\d+/[\w-]{20,})", told), only(r"(http://localhost:\d+), as demo", told)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page()
        page.goto(link)
        assert page.url == f"{console}/home"
        assert "lisbon-002" in page.inner_text("main")
        stranger = browser.new_context().new_page()
        stranger.goto(link)
        assert stranger.url.startswith(f"{console}/sign-in")
        browser.close()


def test_ctrl_c_in_the_middle_of_the_story_removes_everything(tmp_path: Path) -> None:
    with demo_at_terminal(tmp_path, columns=100) as terminal:
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

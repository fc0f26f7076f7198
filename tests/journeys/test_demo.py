"""`mailtoken demo`, run as a person runs it: in a log, at a terminal, and when something goes wrong."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = (str(Path(sys.executable).with_name("mailtoken")), "demo")
PATIENCE_SECONDS = 90

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


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "TERM": "xterm-256color"}


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


def test_without_a_terminal_the_demo_tells_its_story_to_the_end(tmp_path: Path) -> None:
    told = subprocess.run(
        COMMAND,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (told.returncode, told.stderr) == (0, "")
    at = 0
    for line in STORY:
        found = re.compile(line).search(told.stdout, at)
        assert found, f"{line} is missing, or not in its place:\n{told.stdout}"
        at = found.end()
    assert "\x1b" not in told.stdout
    assert_nothing_is_left(tmp_path)


class Terminal:
    """The demo at a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._shown = b""

    def wait_for(self, text: str) -> None:
        """Read until `text` is shown; what was shown before it is not looked at again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text.encode() not in self._shown:
            assert time.monotonic() < deadline, self._shown.decode(errors="replace")
            if select.select([self._master], [], [], 0.1)[0]:
                self._shown += os.read(self._master, 65536)
        self._shown = self._shown.partition(text.encode())[2]

    def press_enter(self) -> None:
        os.write(self._master, b"\n")

    def press_ctrl_c(self) -> int:
        """As the terminal does; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([self._master], [], [], 0.1)[0]:
                os.read(self._master, 65536)
        return self.process.returncode


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        COMMAND, env=environment(folder), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        os.close(slave)
        os.close(master)


def test_at_a_terminal_a_person_sets_the_pace_and_ctrl_c_removes_everything(tmp_path: Path) -> None:
    with terminal(tmp_path) as demo:
        for stage in range(1, 12):
            demo.wait_for(f"{stage}. ")
            if stage in (4, 7):
                demo.wait_for("Waiting for authorisation")
                demo.press_enter()
                demo.wait_for("has signed in")
            demo.wait_for("Enter goes on")
            demo.press_enter()
        demo.wait_for("events verified")
        demo.wait_for("until you press Ctrl-C")
        demo.wait_for("POP3 localhost")
        assert processes_of(tmp_path) != []
        assert demo.press_ctrl_c() == 0
    assert_nothing_is_left(tmp_path)


def test_ctrl_c_in_the_middle_of_the_story_removes_everything(tmp_path: Path) -> None:
    with terminal(tmp_path) as demo:
        demo.wait_for("Enter goes on")
        assert demo.press_ctrl_c() == 130
    assert_nothing_is_left(tmp_path)


def test_a_service_that_dies_is_said_with_its_stage_and_its_log(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        COMMAND,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout
    for line in demo.stdout:
        if line.startswith("1. "):
            break
    [service] = processes_of(tmp_path)
    os.kill(service, signal.SIGKILL)
    _, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 1
    assert '"serving"' in errors
    last = errors.splitlines()[-1]
    assert re.fullmatch(r"mailtoken demo: stage \d+ \(.+\) does not hold: the service has ended .*-9.*", last)
    assert_nothing_is_left(tmp_path)

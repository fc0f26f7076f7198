"""Services without the second that importing the program takes: a process that has imported it forks one when asked.

A service so started is a process of its own, on its own store, with its own log; it ends with the process that asked.
Run as a program, this is that process: a line of JSON on standard input is a service to start, and lines of JSON on
standard output say which process it is, and how each ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

_DEADLINE_SECONDS = 60
_PR_SET_PDEATHSIG = 1


class Nursling:
    """A service that the nursery started, as `subprocess.Popen` would show it."""

    def __init__(self, pid: int, ended: Future[int]) -> None:
        self.pid = pid
        self._ended = ended

    def send_signal(self, number: int) -> None:
        if not self._ended.done():
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        return self._ended.result(timeout)


class Nursery:
    """The process that forks, as its parent knows it. Safe to share between threads."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._begun: Future[int] = Future()
        self._ended: dict[int, Future[int]] = {}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, config: Path, log: Path) -> Nursling:
        """Start the service of this configuration; what it says goes to `log`."""
        with self._lock:
            self._begun = Future()
            assert self._process.stdin
            self._process.stdin.write(json.dumps([str(config), str(log)]).encode() + b"\n")
            self._process.stdin.flush()
            pid = self._begun.result(_DEADLINE_SECONDS)
            return Nursling(pid, self._ended[pid])

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            said = json.loads(line)
            if "begun" in said:
                self._ended[said["begun"]] = Future()
                self._begun.set_result(said["begun"])
            else:
                self._ended[said["ended"]].set_result(said["status"])


def _main() -> None:
    import adapters.bootstrap
    import adapters.http.server
    import infrastructure.postgres

    assert adapters.http.server
    assert infrastructure.postgres
    assert threading.active_count() == 1, "only a process with one thread can be forked"
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asked = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 1024)
            _say_who_ended()
        if 0 in ready:
            more = os.read(0, 65536)
            if not more:
                sys.exit()
            *lines, asked = (asked + more).split(b"\n")
            for line in lines:
                _fork(*json.loads(line), serve=adapters.bootstrap.serve)


def _fork(config: str, log: str, *, serve: Any) -> None:
    pid = os.fork()
    if pid:
        _say(begun=pid)
        return
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.chdir(Path(config).parent)
        serve(Path(config))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def _say_who_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def _say(**fields: int) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    _main()

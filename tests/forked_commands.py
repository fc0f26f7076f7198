"""Commands without the imports that each of them would begin with: a process that has done them forks one when asked.

A command so started is a process of its own, as `mailtoken` is: it has its own arguments, folder, environment, standard
streams, terminal and signals, and ends with an exit code. It also ends with the process that asked for it. What is said
of a command's start (its imports, `PYTHONPATH`, `ulimit`) is not true of it, nor what is said of the system's
certificate authorities and of the cost of a password (`spared_work`): those tests start the real program.

Run as a program, this is the process that forks. Each message on the socket of its standard input is a command to
start, with the three standard streams as file descriptors; its answers say which process that is, and how each ended.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import IO, Any

from waiting import DEADLINE_SECONDS, in_background

_MESSAGE_BYTES = 128 * 1024
_PR_SET_PDEATHSIG = 1
_ENDS_A_COMMAND = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)


class ForkedCommand:
    """A command that the forking process started. It is used as a `subprocess.Popen` is, with text in its pipes."""

    def __init__(self, pid: int, ended: Future[int]) -> None:
        self.pid = pid
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if not self._ended.done():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = DEADLINE_SECONDS) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return self._ended.result(timeout)

    def communicate(self, timeout: float | None = DEADLINE_SECONDS) -> tuple[str, str]:
        """Read what it says until it ends."""
        said = [in_background(stream.read) if stream else None for stream in (self.stdout, self.stderr)]
        self.wait(timeout)
        out, err = (one.result(timeout) if one else "" for one in said)
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        return out, err


class ForkingProcess:
    """The process that forks, as its parent knows it. Safe to share between threads."""

    def __init__(self, begin: Callable[[socket.socket], Callable[[], object]]) -> None:
        """`begin` starts the process, its standard input being a socket, and returns how to wait for its end."""
        self._lock = threading.Lock()
        self._begun: Future[ForkedCommand] = Future()
        self._ended: dict[int, Future[int]] = {}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._wait = begin(theirs)
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self._end)

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        streams: tuple[int, int, int],
        terminal: bool = False,
        clock: Path | None = None,
    ) -> ForkedCommand:
        """Start a command, the first argument being its name.

        `terminal`: its standard input becomes its terminal. `clock`: the file of its `SteppedClock`.
        """
        message = {
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": dict(environment),
            "terminal": terminal,
            "clock": clock and str(clock),
        }
        with self._lock:
            self._begun = Future()
            socket.send_fds(self._socket, [json.dumps(message).encode()], streams)
            return self._begun.result(DEADLINE_SECONDS)

    def _end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._wait()

    def _listen(self) -> None:
        while message := self._socket.recv(_MESSAGE_BYTES):
            said = json.loads(message)
            if "begun" in said:
                ended = self._ended[said["begun"]] = Future()
                self._begun.set_result(ForkedCommand(said["begun"], ended))
            else:
                self._ended.pop(said["ended"]).set_result(said["status"])
        with contextlib.suppress(InvalidStateError):
            self._begun.set_exception(RuntimeError("the process that forks has ended: its standard error says why"))


_processes: list[ForkingProcess] = []


def forking_process() -> ForkingProcess:
    """The one of this process."""
    if not _processes:
        _processes.append(ForkingProcess(_begin_interpreter))
    return _processes[0]


def fork_commands_from_here() -> None:
    """Let the commands have the code of this process, changes included. To be called before it has a second thread."""
    import_everything()
    _processes[:] = [ForkingProcess(_begin_copy)]


def _begin_interpreter(theirs: socket.socket) -> Callable[[], object]:
    process = subprocess.Popen([sys.executable, __file__], stdin=theirs.fileno())
    return functools.partial(process.wait, DEADLINE_SECONDS)


def _begin_copy(theirs: socket.socket) -> Callable[[], object]:
    pid = os.fork()
    if pid:
        return functools.partial(os.waitpid, pid, 0)
    try:
        os.dup2(theirs.fileno(), 0)
        _main()
    finally:
        os._exit(0)


# The process that forks


def _main() -> None:
    from spared_work import spare_work

    spare_work()
    import_everything()
    _analyse_routes()
    assert threading.active_count() == 1, "only a process with one thread can be forked"
    gc.collect()
    gc.freeze()
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asking = socket.socket(fileno=os.dup(0))
    sources: list[socket.socket | int] = [asking, wake]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if wake in ready:
            os.read(wake, 1024)
            _say_who_ended(asking)
        if asking in ready:
            message, streams, _, _ = socket.recv_fds(asking, _MESSAGE_BYTES, 3)
            if not message:
                sys.exit()
            _fork(json.loads(message), streams, asking)


def import_everything() -> None:
    """What a command, the service or the relay imports, at its start or later, and what the commands are."""
    import importlib

    for name in (
        "adapters.bootstrap",
        "adapters.cli.app",
        "adapters.fleet_files",
        "adapters.cli.package_check",
        "adapters.cli.token_show",
        "adapters.http.server.unix_socket",
        "adapters.providers.factory",
        "adapters.relay.main",
        "adapters.serving",
        "infrastructure.store.postgres",
        "pydantic.v1",
        "stepped_clock",
        "uvicorn.lifespan.off",
        "uvicorn.loops.uvloop",
        "uvicorn.protocols.websockets.auto",
    ):
        importlib.import_module(name)
    from adapters.cli.app import commands

    commands()


def _analyse_routes() -> None:
    """Make the application of some service, so that those of the services to come find its routes analysed."""
    import tempfile

    from fakes import FakeClock, FakeProvider
    from served import a_service

    from adapters.http.app import create_app

    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.redirect_stdout(io.StringIO()),
        a_service(Path(directory), FakeClock(), FakeProvider()) as service,
    ):
        create_app(service)


def _fork(asked: Mapping[str, Any], streams: Sequence[int], asking: socket.socket) -> None:
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        _say(asking, begun=pid)
        return
    status = 1
    try:
        asking.close()
        _become(asked, streams)
        from adapters.cli import main

        status = _exit_code(main)
    finally:
        os._exit(status)


def _become(asked: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Change into what a new interpreter that was started with this would be."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _ENDS_A_COMMAND:
        signal.signal(number, signal.SIG_DFL)
    for stream, target in zip(streams, range(3), strict=True):
        os.dup2(stream, target)
        os.close(stream)
    if asked["terminal"]:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if asked["clock"]:
        from stepped_clock import SteppedClock

        import adapters.bootstrap

        setattr(adapters.bootstrap, "SystemClock", functools.partial(SteppedClock, Path(asked["clock"])))  # noqa: B010
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    time.tzset()
    sys.argv = list(asked["arguments"])
    for name, stream in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        usual: io.TextIOWrapper = getattr(sys, name)
        buffer = open(stream, "rb" if stream == 0 else "wb", closefd=False)  # noqa: SIM115
        line_buffering = stream == 2 or os.isatty(stream)
        opened = io.TextIOWrapper(buffer, usual.encoding, usual.errors, line_buffering=line_buffering)
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _exit_code(main: Callable[[], int]) -> int:
    try:
        code: object = main()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(bool(code))


def _say_who_ended(asking: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(asking, ended=pid, status=os.waitstatus_to_exitcode(status))


def _say(asking: socket.socket, **fields: int) -> None:
    asking.send(json.dumps(fields).encode())


if __name__ == "__main__":
    _main()

"""The pages of a service at an address of this machine, as `mailtoken serve` puts them there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.bootstrap import Service
from adapters.http.app import create_app
from adapters.http.guard import Guard
from adapters.http.listener import listen


def listen_at(config: Path, port: int) -> None:
    """Let this configuration say so."""
    text = config.read_text()
    assert "[server]\n" in text
    config.write_text(text.replace("[server]\n", f'[server]\nlisten = "127.0.0.1:{port}"\n', 1))


@contextmanager
def served(service: Service) -> Iterator[int]:
    """The service at the address its configuration has; gives the port."""
    listening = listen(service.config, Guard(create_app(service), service))
    assert listening
    server, listener = listening
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()

"""Where the submission server hands its mail out to: an SMTP server that remembers envelopes and delivers by LMTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

SIZE_LIMIT_OCTETS = 200 * 1024 * 1024


class MailExchanger:
    """Takes in what anybody on this machine sends, from `start` to `close`.

    `deliver` gets each recipient and message; a message is accepted once it is delivered to all of them.
    `most_per_second` is how many messages it takes in a second, before it answers as Exchange does.
    """

    def __init__(self) -> None:
        self.port = 0
        self.envelopes: list[Envelope] = []
        self.most_per_second: int | None = None
        self._began_at: deque[float] = deque()
        self.deliver: Callable[[str, bytes], None] = lambda address, message: None
        self._thread: threading.Thread
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event

    def __enter__(self) -> Self:
        listening: Future[int] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(listening),), daemon=True)
        self._thread.start()
        self.port = listening.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        """Deliver to each recipient."""
        assert isinstance(envelope.content, bytes)
        for address in envelope.rcpt_tos:
            await asyncio.to_thread(self.deliver, address, envelope.content)
        self.envelopes.append(envelope)
        return "250 2.0.0 Delivered"

    async def handle_MAIL(  # noqa: N802 - its name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse what comes too fast."""
        now = time.monotonic()
        while self._began_at and self._began_at[0] <= now - 1:
            self._began_at.popleft()
        if self.most_per_second is not None and len(self._began_at) >= self.most_per_second:
            return "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"
        self._began_at.append(now)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - its name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse whoever is called nobody."""
        if address.startswith("nobody@"):
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def _serve(self, listening: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        server = await self._loop.create_server(
            lambda: SMTP(self, data_size_limit=SIZE_LIMIT_OCTETS, enable_SMTPUTF8=True, hostname="mx.contoso.com"),
            "127.0.0.1",
            0,
        )
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._closing.wait()
        server.close()

"""Reports the relay's counts of mail to the service: a few times a minute, and at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from domain.errors import MailtokenError
from infrastructure.mail_counters import STORE_SECONDS, MailCount, MailCounters

log = structlog.get_logger("mailtoken")

Put = Callable[[str, Sequence[MailCount]], Awaitable[None]]

_LAST_REPORT_SECONDS = 5.0


@asynccontextmanager
async def reported(counters: MailCounters, put: Put, seconds: float = STORE_SECONDS) -> AsyncIterator[None]:
    """A context in which the counts are reported every `seconds`; they are reported once more when it ends."""
    reporting = asyncio.create_task(_keep_reporting(counters, put, seconds))
    try:
        yield
    finally:
        reporting.cancel()
        try:
            async with asyncio.timeout(_LAST_REPORT_SECONDS):
                await _report(counters, put)
        except TimeoutError:
            log.warning("mail_counts_not_reported", error="timeout")


async def _keep_reporting(counters: MailCounters, put: Put, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await _report(counters, put)


async def _report(counters: MailCounters, put: Put) -> None:
    """Report what has changed; counts that the service does not take are part of the next report."""
    counts = counters.unstored()
    if not counts:
        return
    try:
        await put(counters.source, counts)
    except MailtokenError as error:
        log.warning("mail_counts_not_reported", error=str(error))
    else:
        counters.mark_stored(counts)

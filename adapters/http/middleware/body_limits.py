"""Limits on the size of a request's body and on the time to receive it, whatever size the client announces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import Message, Receive

from adapters.http.problems import HTTPError

# The rest of the body is not read, so the connection can't be used again.
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True)
class BodyLimit:
    """The most octets of a body, the seconds to receive it, and the code of the error for a larger body."""

    octets: int
    seconds: float
    code: str = "body_too_large"

    def applied(self, headers: Mapping[str, str], receive: Receive) -> Receive:
        """`receive` within these limits.

        It raises HTTPError for a body that is too large (413), takes too long (408) or breaks off (400).

        Raises:
            HTTPError: the client announces a body that is too large (413).
        """
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > self.octets:
            raise self._too_large()
        deadline = asyncio.get_running_loop().time() + self.seconds
        got, is_whole = 0, announced == "0" and "transfer-encoding" not in headers

        async def limited() -> Message:
            nonlocal got, is_whole
            if is_whole:
                # After the body there is no limit: the client may wait for the answer.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPError(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", headers=_CLOSE) from None
            if message["type"] == "http.disconnect":
                raise HTTPError(HTTPStatus.BAD_REQUEST, "body_incomplete", headers=_CLOSE)
            got += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if got > self.octets:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> HTTPError:
        return HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self.code, headers=_CLOSE, limit_kib=self.octets // 1024)


ANONYMOUS_BODY = BodyLimit(octets=16 * 1024, seconds=30.0, code="body_too_large_before_sign_in")
"""For a caller that has not signed in: a name and a password."""
ORDINARY_BODY = BodyLimit(octets=1024 * 1024, seconds=30.0)
MAIL_BODY = BodyLimit(octets=151 * 1024 * 1024, seconds=600.0)
"""A mail message, as `POST /api/v1/send` takes it."""


async def read_body(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, received within a limit, and a `receive` from which the application gets it once more."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    pending: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return bytes(body), again

"""How large a body may be and how long it may take, whatever the client says about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


@dataclass(frozen=True)
class BodyLimit:
    """The most octets, and the seconds for all of them; `advice` is for who has more."""

    octets: int
    seconds: float
    advice: str = ""

    def on(self, headers: Mapping[str, str], receive: Receive) -> Receive:
        """The same messages until the body is too large (413), takes too long (408) or breaks off (400).

        Raises:
            HTTPException: the client announces more (413).
        """
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > self.octets:
            raise self._too_large()
        deadline = asyncio.get_running_loop().time() + self.seconds
        got, is_whole = 0, announced == "0" and "transfer-encoding" not in headers

        async def limited() -> Message:
            nonlocal got, is_whole
            if is_whole:
                # The client may stay as long as it likes to hear the answer.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time") from None
            if message["type"] == "http.disconnect":
                raise HTTPException(HTTPStatus.BAD_REQUEST, "the body broke off")
            got += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if got > self.octets:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> HTTPException:
        why = f"the body is larger than {self.octets // 1024} KiB{self.advice}"
        return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)


ANYBODYS = BodyLimit(octets=16 * 1024, seconds=30.0, advice=": sign in first")
"""Of who has not signed in yet: a name and a password."""
ORDINARY = BodyLimit(octets=1024 * 1024, seconds=30.0)
MESSAGE = BodyLimit(octets=151 * 1024 * 1024, seconds=600.0)
"""A mail message, as `POST /api/v1/send` takes it."""


async def whole(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, received within a limit, and a way for the application to receive it once more."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    pending: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return bytes(body), again

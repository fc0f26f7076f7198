"""The bare framework answering a constant as large as an access token. Arguments: SOCKET CERTIFICATE KEY PORT."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

_CONSTANT = {
    "access_token": "x" * 1500,
    "expires_at": "2026-11-22T10:30:00.000000+00:00",
    "account": "scan@contoso.com",
    "mailbox": "scan@contoso.com",
    "sasl": ["XOAUTH2", "OAUTHBEARER"],
}


def create_app() -> FastAPI:
    """One route."""
    app = FastAPI()

    @app.get("/constant")
    async def constant() -> dict[str, Any]:
        return _CONSTANT

    return app


async def serve(path: str, certificate: str, key: str, port: int) -> None:
    """Answer on the Unix socket and over TLS until the process is ended."""
    app = create_app()
    common: dict[str, Any] = {"lifespan": "off", "access_log": False, "log_level": "error", "http": "httptools"}
    unix = uvicorn.Config(app, uds=path, **common)
    tls = uvicorn.Config(app, host="127.0.0.1", port=port, ssl_certfile=certificate, ssl_keyfile=key, **common)
    await asyncio.gather(*(uvicorn.Server(config)._serve() for config in (unix, tls)))


def main() -> None:
    """Serve as the arguments say."""
    path, certificate, key, port = sys.argv[1:]
    loop_factory = uvicorn.Config(create_app()).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(path, certificate, key, int(port)))


if __name__ == "__main__":
    main()

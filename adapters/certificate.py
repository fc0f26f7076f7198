"""The certificate that clients see, and TLS for them: 1.2 or newer, with the operator's files as they are now."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import structlog

from domain.errors import InvalidValue

log = structlog.get_logger("mailtoken")


class Certificate:
    """The operator's certificate and key, read again when one of the files has changed."""

    def __init__(self, certificate_file: Path, key_file: Path, table: str) -> None:
        """Read them. `table` is the part of the configuration that names them, such as "[relay]".

        Raises:
            InvalidValue: they can't be used.
        """
        self._files = (certificate_file, key_file)
        self._field = f"{table} certificate_file"
        self._version = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """What the next handshake uses. A pair that is half renewed is left for later."""
        version = self._look()
        if version != self._version:
            self._version = version
            try:
                self._context = self._load()
                log.info("certificate renewed")
            except InvalidValue as error:
                log.warning("certificate not renewed; the one before stays in use", why=str(error))
        return self._context

    def _look(self) -> tuple[object, ...]:
        try:
            return tuple((about.st_mtime_ns, about.st_ino, about.st_size) for about in map(os.stat, self._files))
        except OSError:
            return ()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate_file, key_file = self._files
        try:
            context.load_cert_chain(certificate_file, key_file)
        except OSError as error:
            problem = error.strerror or "certificate and key are not PEM, or don't belong together"
            raise InvalidValue(self._field, f"{certificate_file} with {key_file} can't be used: {problem}") from None
        return context

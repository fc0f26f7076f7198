"""The server's TLS (1.2 or newer), with the operator's certificate files in their current version.

The modern ciphers all have forward secrecy and authenticated encryption or SHA-2. The legacy ones are for old devices.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import structlog

from domain.errors import InvalidValue
from infrastructure.config.tables import Ciphers

log = structlog.get_logger("mailtoken")

# The suites of TLS 1.2 with AES, in GCM and in CBC with SHA-1 or SHA-2; the keys by ECDHE, DHE or RSA (RFC 5246, 5288).
_LEGACY_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHE+AES:DHE+AES:kRSA+AESGCM:kRSA+AES:!aNULL:!AESCCM"
# The group ffdhe2048 of RFC 7919.
_DHE_GROUP_FILE = Path(__file__).with_name("ffdhe2048.pem")


class TLSCertificate:
    """The operator's certificate and key, read again when one of the files has changed."""

    def __init__(self, certificate_file: Path, key_file: Path, table: str) -> None:
        """Read both files. `table` is the part of the configuration that names them, such as "[relay]".

        Raises:
            InvalidValue: a file can't be read, or the key is not the certificate's.
        """
        self._files = (certificate_file, key_file)
        self._field = f"{table} certificate_file"
        self._version = self._look()
        self._contexts = self._load()

    def context(self, ciphers: Ciphers = "modern") -> ssl.SSLContext:
        """TLS for the next handshake. While only one of the two files is new, the earlier pair stays in use."""
        version = self._look()
        if version != self._version:
            self._version = version
            try:
                self._contexts = self._load()
                log.info("certificate_renewed")
            except InvalidValue as error:
                # The earlier certificate stays in use.
                log.warning("certificate_renewal_failed", why=str(error))
        return self._contexts[ciphers]

    def _look(self) -> tuple[object, ...]:
        try:
            return tuple((about.st_mtime_ns, about.st_ino, about.st_size) for about in map(os.stat, self._files))
        except OSError:
            return ()

    def _load(self) -> dict[Ciphers, ssl.SSLContext]:
        legacy = self._with_certificate()
        legacy.set_ciphers(_LEGACY_CIPHERS)
        legacy.load_dh_params(str(_DHE_GROUP_FILE))
        return {"modern": self._with_certificate(), "legacy": legacy}

    def _with_certificate(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate_file, key_file = self._files
        try:
            context.load_cert_chain(certificate_file, key_file)
        except OSError as error:
            code = "certificate_not_of_key" if isinstance(error, ssl.SSLError) else "certificate_not_read"
            files = {"certificate_file": str(certificate_file), "key_file": str(key_file)}
            raise InvalidValue(self._field, code, **files, reason=error.strerror) from None
        return context

"""The format of a backup: one gzip file (RFC 1952) of JSON lines, the same for both engines.

The first line is the header, the last one the end, which seals the SHA-256 of all lines before it. A line in between is
an array: the name of a table, then the values of a row. Bytes are in base64. A file that was cut or changed has no
end that fits.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO, Any

from domain.errors import InvalidValue, Refused, VaultDamaged
from infrastructure.clock import instant_text, read_instant
from infrastructure.encryption.envelope import Place, Sealed, Sealer

FORMAT = 1
_MARK = "mailtoken_backup"
_END = "end"
_SQLITE = b"SQLite format 3\0"
_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class BackupHeader:
    """The facts about a backup. `key_file` is the path of the key in the configuration, whose file had this mode.

    `canary` and `configuration` are sealed with the store's key, as one line of JSON each.
    """

    made_at: datetime
    program: str
    schema_version: int
    store_id: str
    key_file: str
    configuration_mode: int
    canary: str
    configuration: str

    def as_json(self) -> dict[str, Any]:
        """The first line of the file."""
        return {_MARK: FORMAT, **asdict(self), "made_at": instant_text(self.made_at)}


class BackupWriter:
    """Writes a backup into `file`, line by line."""

    def __init__(self, file: IO[bytes], sealer: Sealer, header: BackupHeader) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=6)
        self._sealer = sealer
        self._store_id = header.store_id
        self._digest = hashlib.sha256()
        self._rows = 0
        self._line(header.as_json())

    def row(self, table: str, values: Sequence[Any]) -> None:
        """Write a row; bytes are allowed as values."""
        self._line([table, *(_packed(value) for value in values)])
        self._rows += 1

    def end(self) -> None:
        """Write the last line. A backup without it is not complete."""
        seal = self._sealer.seal(self._digest.digest(), _digest_place(self._store_id))
        self._line({_END: self._rows, "seal": seal.as_text()})
        self._gzip.close()

    def _line(self, value: Any) -> None:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._gzip.write(line)
        self._digest.update(line)


class BackupReader:
    """Reads a backup from `file`, which must be at its beginning. Errors name it `name`.

    Raises:
        InvalidValue: the file is no backup.
        Refused: a newer program made it.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._digest = hashlib.sha256()
        try:
            first = self._line()
            document = json.loads(first)
            format_version = document.pop(_MARK)
        except (InvalidValue, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise InvalidValue(name, "backup_is_a_store" if _is_sqlite(file) else "not_a_backup") from None
        if not isinstance(format_version, int) or format_version > FORMAT:
            raise Refused("backup_newer", path=name, version=str(format_version), known=FORMAT)
        try:
            self.header = BackupHeader(**{**document, "made_at": read_instant(document["made_at"])})
        except (ValueError, LookupError, TypeError):
            raise InvalidValue(name, "not_a_backup") from None
        self._digest.update(first)

    def rows(self, sealer: Sealer) -> Iterator[tuple[str, list[Any]]]:
        """Each row, as the name of its table and its values; the end of the backup is checked after the last one.

        Raises:
            InvalidValue: the backup is not complete, or was changed.
        """
        count = 0
        while True:
            line = self._line()
            try:
                value = json.loads(line)
                if isinstance(value, dict):
                    self._check_end(value, count, sealer)
                    return
                table, *values = value
                row = [_unpacked(packed) for packed in values]
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError, VaultDamaged):
                raise InvalidValue(self.name, "backup_damaged") from None
            yield str(table), row
            self._digest.update(line)
            count += 1

    def _check_end(self, end: dict[str, Any], count: int, sealer: Sealer) -> None:
        digest = sealer.open(Sealed.of_text(end["seal"]), _digest_place(self.header.store_id))
        if end[_END] != count or digest != self._digest.digest() or self._has_more():
            raise InvalidValue(self.name, "backup_damaged")

    def _line(self) -> bytes:
        line = self._read_line()
        if not line.endswith(b"\n"):
            raise InvalidValue(self.name, "backup_damaged")
        return line

    def _has_more(self) -> bool:
        return bool(self._read_line())

    def _read_line(self) -> bytes:
        try:
            return self._gzip.readline(_LONGEST_LINE)
        except (EOFError, OSError, zlib.error):
            raise InvalidValue(self.name, "backup_damaged") from None


def _is_sqlite(file: IO[bytes]) -> bool:
    """Whether the file is a SQLite database; a stream, which can't be read again, is none."""
    try:
        file.seek(0)
        return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _packed(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"b": base64.b64encode(bytes(value)).decode()}
    return value


def _unpacked(value: Any) -> Any:
    return base64.b64decode(value["b"], validate=True) if isinstance(value, dict) else value


def _digest_place(store_id: str) -> Place:
    return Place(store_id, "backup", "digest", 0)

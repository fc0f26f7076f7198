"""The files that `apply` reads and `export` writes: TOML, YAML, and CSV with a line for each setting.

What is read is a document as the service takes it, and where in the file each part of it is said.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.cli.wire import CommandError, ExitCode
from domain.plan import Place
from domain.profile import Settings

if TYPE_CHECKING:
    import yaml

FIELDS = tuple(one.name for one in fields(Settings))
_COLUMNS = ("machine", "catalogue", "setting", *FIELDS)
_NUMBERS = {"port", "timeout", "check_interval"}


@dataclass(frozen=True)
class FleetFile:
    """A document, and the line of the file where the value at a place begins; TOML has none."""

    document: dict[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)

    def where(self, place: Iterable[str]) -> str:
        """How to find a place in the file."""
        keys = tuple(place)
        name = ".".join(keys)
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return f"line {self.lines[keys[:length]]}: {name}"
        return name


def read(path: Path) -> FleetFile:
    """Read a file by its name's ending.

    Raises:
        CommandError: it can't be read, or is no such file; says the line.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CommandError(ExitCode.USAGE, f"{path}: not a .toml, .yaml, .yml or .csv file")
    try:
        fleet = reader(path.read_text(encoding="utf-8-sig"))
        _check_plain(fleet, fleet.document, ())
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CommandError(ExitCode.USAGE, f"{path}: not UTF-8") from None
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, f"{path}: {error}") from None
    return fleet


def write(document: Mapping[str, Any], ending: str) -> str:
    """The text of a file that says this.

    Raises:
        CommandError: there are no files that end so.
    """
    writer = _WRITERS.get(ending)
    if writer is None:
        raise CommandError(ExitCode.USAGE, f"--format: {ending!r} is not {', '.join(_WRITERS)}")
    return writer(document)


def _check_plain(fleet: FleetFile, value: Any, place: Place) -> None:
    """Find what JSON has no word for, such as a date."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_plain(fleet, inner, (*place, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            _check_plain(fleet, inner, (*place, str(at)))
    elif not isinstance(value, str | int | None):
        raise ValueError(f"{fleet.where(place)}: {value} is not a text or a whole number: write it in quotes")


def _read_toml(text: str) -> FleetFile:
    try:
        return FleetFile(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None


def _read_yaml(text: str) -> FleetFile:
    import yaml

    loader = yaml.SafeLoader(text)
    lines: dict[Place, int] = {}
    try:
        root = loader.get_single_node()
        document = _yaml_value(loader, root, (), lines) if root else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1 if mark else 1}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ValueError("it has no machines:, groups: or clients:")
    return FleetFile(document, lines)


def _yaml_value(loader: yaml.SafeLoader, node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    import yaml

    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(loader, one, (*place, str(at)), lines) for at, one in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    # PyYAML itself takes the last of several keys that are the same, silently.
    said = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise ValueError(f"line {key.start_mark.line + 1}: {key.value} is not a text: write it in quotes")
        if said.count(key.value) > 1:
            raise ValueError(f"line {key.start_mark.line + 1}: {key.value} is said twice")
    loader.flatten_mapping(node)
    return {key.value: _yaml_value(loader, value, (*place, key.value), lines) for key, value in node.value}


def _read_csv(text: str) -> FleetFile:
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    header = [column.strip() for column in rows.fieldnames or ()]
    for column in header:
        if column not in _COLUMNS or header.count(column) > 1:
            raise ValueError(f"line 1: no column {column!r} or twice; there are: {', '.join(_COLUMNS)}")
    if "machine" not in header:
        raise ValueError("line 1: there is no column machine")
    rows.fieldnames = header
    machines: dict[str, Any] = {}
    lines: dict[Place, int] = {}
    try:
        for row in rows:
            _take_row(row, rows.line_num, machines, lines)
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: not CSV: {error}") from None
    return FleetFile({"machines": machines}, lines)


def _take_row(row: Mapping[str | None, Any], line: int, machines: dict[str, Any], lines: dict[Place, int]) -> None:
    if None in row:
        raise ValueError(f"line {line}: it has more columns than the first line")
    said = {str(column): text.strip() for column, text in row.items() if text and text.strip()}
    name, model, setting = (said.pop(column, "") for column in ("machine", "catalogue", "setting"))
    if not name:
        if said or model or setting:
            raise ValueError(f"line {line}: it names no machine")
        return
    lines.setdefault(("machines", name), line)
    machine = machines.setdefault(name, {"settings": {}})
    if model and machine.setdefault("catalogue", model) != model:
        raise ValueError(f"line {line}: {name} has the catalogue {machine['catalogue']} in a line before")
    if not setting:
        if said:
            raise ValueError(f"line {line}: it fills in {', '.join(said)} but names no setting")
        return
    if setting in machine["settings"]:
        raise ValueError(f"line {line}: {name}/{setting} is in a line before")
    machine["settings"][setting] = said
    lines["machines", name, "settings", setting] = line


def _write_toml(document: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(_for_people(document))


def _write_yaml(document: Mapping[str, Any]) -> str:
    import yaml

    written: str = yaml.safe_dump(_for_people(document), sort_keys=False, allow_unicode=True)
    return written


def _write_csv(document: Mapping[str, Any]) -> str:
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    rows.writeheader()
    for name, machine in document["machines"].items():
        rows.writerow({"machine": name, "catalogue": machine["catalogue"]})
        for setting, said in machine["settings"].items():
            if not said.get("absent"):
                rows.writerow({"machine": name, "setting": setting, **said})
    return text.getvalue()


def _for_people(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same with numbers as numbers, and without the settings of a machine where nothing is set."""
    machines = {}
    for name, machine in document["machines"].items():
        settings = {setting: _numbers_in(said) for setting, said in machine["settings"].items()}
        machines[name] = {"catalogue": machine["catalogue"], **({"settings": settings} if settings else {})}
    return {**document, "machines": machines}


def _numbers_in(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: int(value) if name in _NUMBERS else value for name, value in said.items()}


_READERS: Mapping[str, Callable[[str], FleetFile]] = {
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".csv": _read_csv,
}
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "toml": _write_toml,
    "yaml": _write_yaml,
    "csv": _write_csv,
}

"""The files that `apply` reads and `export` writes: TOML, YAML, and CSV with a line for each setting.

Reading a file gives the document that the service takes, and the line of each of its parts.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain.plan import Place
from domain.profile_fields import FIELDS, Field
from domain.provider_fields import PROVIDER_FIELDS, ProviderField

if TYPE_CHECKING:
    import yaml

_COLUMNS = ("machine", "catalogue", "tags", "setting", *FIELDS)


@dataclass(frozen=True)
class FleetFile:
    """The document of a file, and the line on which the value at each place begins; a TOML file has no `lines`."""

    document: dict[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)

    def where(self, place: Iterable[str]) -> str:
        """A place as a person finds it in the file: its keys, after the line of the nearest known place."""
        keys = tuple(place)
        name = ".".join(keys)
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return f"line {self.lines[keys[:length]]}: {name}"
        return name


FORMATS = ("toml", "yaml", "csv")


class NotAFleetFile(Exception):
    """The reason why a file can't be read: a sentence for people, which names the line."""


def read(path: Path) -> FleetFile:
    """Read a file in the format that the suffix of its name says.

    Raises:
        NotAFleetFile: the file can't be read, or does not have this format.
    """
    file_format = path.suffix.lower().removeprefix(".").replace("yml", "yaml")
    if file_format not in FORMATS:
        raise NotAFleetFile("not a .toml, .yaml, .yml or .csv file")
    try:
        return parse(path.read_text(encoding="utf-8-sig"), file_format)
    except OSError as error:
        raise NotAFleetFile(f"can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise NotAFleetFile("not UTF-8") from None


def parse(text: str, file_format: str) -> FleetFile:
    """Read the text of a file in one of `FORMATS`.

    Raises:
        NotAFleetFile: the text does not have this format.
    """
    try:
        fleet = _READERS[file_format](text)
        _check_plain(fleet, fleet.document, ())
    except ValueError as error:
        raise NotAFleetFile(str(error)) from None
    return fleet


def write(document: Mapping[str, Any], file_format: str) -> str:
    """The text of a file with this document, in one of `FORMATS`."""
    return _WRITERS[file_format](document)


def _check_plain(fleet: FleetFile, value: Any, place: Place) -> None:
    """Check that all values are texts, whole numbers or empty: TOML and YAML also have dates, for example.

    Raises:
        ValueError: names the first other value.
    """
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
        raise ValueError("it has no machines:, groups:, clients: or providers:")
    return FleetFile(document, lines)


def _yaml_value(loader: yaml.SafeLoader, node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    import yaml

    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(loader, one, (*place, str(at)), lines) for at, one in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    # PyYAML itself takes the last of several equal keys without an error.
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise ValueError(f"line {key.start_mark.line + 1}: {key.value} is not a text: write it in quotes")
        if keys.count(key.value) > 1:
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
    values = {str(column): text.strip() for column, text in row.items() if text and text.strip()}
    name, model, tags, setting = (values.pop(column, "") for column in ("machine", "catalogue", "tags", "setting"))
    if not name:
        if values or model or tags or setting:
            raise ValueError(f"line {line}: it names no machine")
        return
    lines.setdefault(("machines", name), line)
    machine = machines.setdefault(name, {"settings": {}})
    if model and machine.setdefault("catalogue", model) != model:
        raise ValueError(f"line {line}: {name} has the catalogue {machine['catalogue']} in a line before")
    if tags and machine.setdefault("tags", tags.split()) != tags.split():
        raise ValueError(f"line {line}: {name} has the tags {' '.join(machine['tags'])} in a line before")
    if not setting:
        if values:
            raise ValueError(f"line {line}: it fills in {', '.join(values)} but names no setting")
        return
    if setting in machine["settings"]:
        raise ValueError(f"line {line}: {name}/{setting} is in a line before")
    machine["settings"][setting] = values
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
        tags = " ".join(machine.get("tags", ()))
        rows.writerow({"machine": name, "catalogue": machine["catalogue"], "tags": tags})
        for setting, values in machine["settings"].items():
            if not values.get("absent"):
                rows.writerow({"machine": name, "setting": setting, **values})
    return text.getvalue()


def _for_people(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with numbers instead of their texts, and without empty tables of settings."""
    machines = {}
    for name, machine in document["machines"].items():
        settings = {setting: _numbers_in(values, FIELDS) for setting, values in machine["settings"].items()}
        tags = {"tags": machine["tags"]} if machine.get("tags") else {}
        machines[name] = {"catalogue": machine["catalogue"], **tags, **({"settings": settings} if settings else {})}
    providers = {name: _numbers_in(values, PROVIDER_FIELDS) for name, values in document.get("providers", {}).items()}
    return {**document, "machines": machines, **({"providers": providers} if providers else {})}


def _numbers_in(values: Mapping[str, Any], fields: Mapping[str, Field | ProviderField]) -> dict[str, Any]:
    return {name: fields[name].type.python_type(value) if name in fields else value for name, value in values.items()}


_READERS: Mapping[str, Callable[[str], FleetFile]] = {
    "toml": _read_toml,
    "yaml": _read_yaml,
    "csv": _read_csv,
}
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "toml": _write_toml,
    "yaml": _write_yaml,
    "csv": _write_csv,
}

"""The alert rules and the dashboard name metrics that the service has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from fakes import FakeClock, FakeProvider
from operation_pages import PAGES
from prometheus_client.parser import text_string_to_metric_families
from served import a_service
from typer.main import get_command

from adapters.cli.app import app
from adapters.cli.manual_pages import manual_pages
from adapters.http.api.metrics import metrics_of

MONITORING = Path(__file__).parents[2] / "packaging" / "monitoring"
ALERTS_PAGE = PAGES / "alerts.md"
_NAME = re.compile(r"\b(?:mailtoken|process)_[a-z_]+\b")


def known(directory: Path) -> set[str]:
    """The names of all metrics, and the names of the samples of counters, which have none at first."""
    with a_service(directory, FakeClock(), FakeProvider()) as service:
        families = list(text_string_to_metric_families(metrics_of(service).text().decode()))
    return {family.name for family in families} | {f"{one.name}_total" for one in families if one.type == "counter"}


def command_names() -> set[tuple[str, ...]]:
    """Each command of the command line, as its words."""
    return {page.command[1:] for page in manual_pages(get_command(app)) if len(page.command) > 1}


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    return [
        rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]


def test_every_metric_of_the_rules_and_of_the_dashboard_is_there(tmp_path: Path) -> None:
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    expressions = [rule["expr"] for rule in rules()]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for expression in expressions for name in _NAME.findall(expression)}
    assert named <= known(tmp_path / "service")
    assert all(rule["annotations"]["summary"] for rule in rules())


def test_each_alert_has_its_section_in_the_manual_with_what_to_look_at_and_what_to_do() -> None:
    _, *sections = re.split(r"^## ", ALERTS_PAGE.read_text(), flags=re.MULTILINE)
    assert [section.partition("\n")[0] for section in sections] == [rule["alert"] for rule in rules()]
    for section in sections:
        assert re.findall(r"^\*\*(It says|Look at|Do)\*\*", section, re.MULTILINE) == ["It says", "Look at", "Do"], (
            section
        )


def test_the_commands_that_alerts_and_their_sections_name_exist() -> None:
    texts = [ALERTS_PAGE.read_text(), *(rule["annotations"]["summary"] for rule in rules())]
    named = {match[1] for text in texts for match in re.finditer(r"\bmailtoken((?: [a-z]+)+)", " ".join(text.split()))}
    words = {tuple(name.split()) for name in named}
    assert words
    for command in words:
        assert any(command[: len(known)] == known for known in command_names()), command

"""The alert rules and the dashboard name metrics that the service has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from fakes import FakeClock, FakeProvider
from prometheus_client.parser import text_string_to_metric_families
from served import a_service

from infrastructure.queries.metrics import Metrics

MONITORING = Path(__file__).parents[2] / "packaging" / "monitoring"
_NAME = re.compile(r"\b(?:mailtoken|process)_[a-z_]+\b")


def known(directory: Path) -> set[str]:
    """The names of all metrics, and the names of the samples of counters, which have none at first."""
    with a_service(directory, FakeClock(), FakeProvider()) as service:
        numbers = Metrics(service.events, service.attention, service.tokens.counters, service.clock, service.tickers)
        families = list(text_string_to_metric_families(numbers.text().decode()))
    return {family.name for family in families} | {f"{one.name}_total" for one in families if one.type == "counter"}


def test_every_metric_of_the_rules_and_of_the_dashboard_is_there(tmp_path: Path) -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    expressions = [rule["expr"] for rule in rules]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for expression in expressions for name in _NAME.findall(expression)}
    assert named <= known(tmp_path / "service")
    assert all(rule["annotations"]["summary"] for rule in rules)

"""`python -m bench` measures and says what it measured; how fast this machine is today is no matter for a test."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = (
    "saves on SQLite",
    "saves on PostgreSQL",
    "status of 1,000 settings",
    "rebuild from 4,000 events",
    "mailtoken token show",
    "reply to Retrieved, 1 linked",
    "reply to Retrieved, 10 linked",
    "reply to Retrieved, 100 linked",
    "renewals through msal",
    "renewals through Authlib",
    "reply to escrow",
    "token in office hours, Microsoft-like",
    "token in office hours, Google-like",
    "token read once a night, Microsoft-like",
    "token read once a night, Google-like",
    "token never read, Microsoft-like",
    "token never read, Google-like",
)
TEXTS = {"name", "unit", "peer_name", "limited_by"}
NUMBERS = {"ours", "peer", "ratio", "lower_quartile", "upper_quartile"}


def test_every_figure_stands_beside_its_peer_with_a_ratio_and_what_limits_it() -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    assert measured.returncode == 0, measured.stderr
    report = json.loads(measured.stdout)
    assert report["quick"] is True
    left_out = [line.partition(":")[0] for line in report["left_out"]]
    assert [figure["name"] for figure in report["figures"]] == [name for name in FIGURES if name not in left_out]
    for figure in report["figures"]:
        assert figure.keys() == TEXTS | NUMBERS | {"more_is_better", "target", "reached"}
        assert all(figure[name] for name in TEXTS)
        assert all(figure[name] > 0 for name in NUMBERS)
        assert figure["lower_quartile"] <= figure["ratio"] <= figure["upper_quartile"]
        assert (figure["reached"] is None) == (figure["target"] is None)

"""`python -m bench` measures and says what it measured; how fast this machine is today is no matter for a test."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = (sys.executable, "-m", "bench")
FIGURES = {
    "saves": ("saves on SQLite",),
    "postgresql": ("saves on PostgreSQL",),
    "rotation": ("saves while the key is rotated",),
    "status": ("status of 1,000 settings",),
    "rebuild": ("rebuild from 4,000 events",),
    "token-show": ("mailtoken token show",),
    "access-tokens": (
        "access tokens over the Unix socket",
        "access token over the Unix socket, p99",
        "access tokens over TLS",
        "access token over TLS, p99",
    ),
    "acquisitions": ("reply to Retrieved, 1 linked", "reply to Retrieved, 10 linked", "reply to Retrieved, 100 linked"),
    "renewals": ("renewals through msal", "renewals through Authlib", "reply to escrow"),
    "relay": (
        "relay, a session of 1 client",
        "relay, 1 client",
        "relay with pool, 1 client",
        "relay, 32 clients",
        "relay with pool, 32 clients",
        "relay with pool and STARTTLS, 32 clients",
        "relay with pool, 1 client, sign-in of a second",
        "relay with pool, 8 clients, sign-in of a second",
        "relay with pool, 32 clients, sign-in of a second",
        "relay, mailbox of 16 MB by IMAP",
        "relay, mailbox of 16 MB by POP3",
        "relay, a message of 150 MB",
        "relay, 200 idle connections",
        "relay, 200 idle connections under TLS",
    ),
    **{
        name.lower(): tuple(
            f"relay beside {name}, {sign_in}: {what}"
            for sign_in in ("sign-in at once", "sign-in of a second")
            for what in ("to the client's 250", "to delivery", "8 clients at once")
        )
        for name in ("Postfix", "Exim")
    },
    "log-growth": (
        "token in office hours, Microsoft-like",
        "token in office hours, Google-like",
        "token read once a night, Microsoft-like",
        "token read once a night, Google-like",
        "token never read, Microsoft-like",
        "token never read, Google-like",
    ),
    "growth": tuple(
        f"{name}, 1,400 settings"
        for name in (
            "start to first answer",
            "resident after the start",
            "status of one",
            "status of one as of an instant",
            "token show",
            "audit log of one",
            "status --check",
            "status --check --offline",
            "status --json",
            "audit verify",
        )
    ),
    "pages": (
        "Settings, of 10,000 settings",
        "Settings, searched, of 10,000 settings",
        "a setting, of 10,000 settings",
        "Attention, of 10,000 settings",
        "History, of 10,000 settings",
        "Providers, of 10,000 settings",
        "Clients, of 10,000 settings",
        "Administrators, of 10,000 settings",
        "Attention, all wanted, of 10,000 settings",
    ),
}
SHORT = ("saves",)
LONG = ("relay", "postfix", "exim", "pages")
"""Sections that take minutes where cores are few."""
TEXTS = {"name", "unit", "peer_name", "limited_by"}
NUMBERS = {"ours", "peer", "ratio", "lower_quartile", "upper_quartile"}


def test_a_figure_stands_beside_its_peer_with_a_ratio_and_what_limits_it() -> None:
    check(SHORT)


@pytest.mark.thorough
def test_so_does_every_other_figure() -> None:
    check([section for section in FIGURES if section not in SHORT + LONG])


@pytest.mark.torture
@pytest.mark.parametrize("section", LONG)
def test_so_does_every_figure_that_takes_long(section: str) -> None:
    check([section])


def test_a_section_that_is_none_is_refused_by_name() -> None:
    refused = subprocess.run([*BENCH, "savings"], cwd=ROOT, capture_output=True, check=False, text=True)
    assert refused.returncode == 2
    assert "no section is called savings; there are: saves, postgresql" in refused.stderr


def check(sections: Sequence[str]) -> None:
    measured = subprocess.run(
        [*BENCH, "--quick", "--json", *sections], cwd=ROOT, capture_output=True, check=False, text=True
    )
    assert measured.returncode == 0, measured.stderr
    report = json.loads(measured.stdout)
    assert report["quick"] is True
    left_out = {line.partition(":")[0] for line in report["left_out"]}
    names = [name for section in sections if section not in left_out for name in FIGURES[section]]
    assert [figure["name"] for figure in report["figures"]] == names
    for figure in report["figures"]:
        assert figure.keys() == TEXTS | NUMBERS | {"more_is_better", "target", "reached"}
        assert all(figure[name] for name in TEXTS)
        assert all(figure[name] > 0 for name in NUMBERS)
        assert figure["lower_quartile"] <= figure["ratio"] <= figure["upper_quartile"]
        assert (figure["reached"] is None) == (figure["target"] is None)

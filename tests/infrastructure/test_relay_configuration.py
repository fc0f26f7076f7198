"""`[relay]` in the configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import InvalidValue
from infrastructure.config import Config, load_config


def read(folder: Path, text: str) -> Config:
    path = folder / "mailtoken.toml"
    path.write_text(text)
    return load_config(path)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(InvalidValue) as invalid:
        read(folder, text)
    return str(invalid.value).removeprefix(f"{folder / 'mailtoken.toml'}: ")


def test_without_a_word_the_relay_has_sensible_limits(tmp_path: Path) -> None:
    relay = read(tmp_path, "").relay
    assert (relay.listen, relay.pool, relay.plain_networks) == (None, True, ())
    assert (relay.connections, relay.connections_per_address, relay.idle_timeout) == (10_000, 250, 300)
    assert relay.message_size > 150 * 1024 * 1024


def test_everything_can_be_said(tmp_path: Path) -> None:
    relay = read(
        tmp_path,
        """
        [relay]
        listen = ["smtp://127.0.0.1:2587", "smtps://[::]:465", "pop3s://relay.contoso.com:995", "imap://0.0.0.0:143"]
        certificate_file = "relay.crt"
        key_file = "relay.key"
        plain_networks = ["192.168.7.0/24", "fd00::/8"]
        connections = 5
        connections_per_address = 2
        idle_timeout = 60
        message_size = 1000000
        pool = false
        [relay.budgets."mx.contoso.com"]
        connections = 7
        messages_per_minute = 100
        wait = 5
        pause = 2
        """,
    ).relay
    assert relay.listen is not None
    assert len(relay.listen) == 4
    assert relay.budget("mx.contoso.com").connections == 7
    assert (relay.budget("mx.contoso.com").wait, relay.budget("mx.contoso.com").pause) == (5, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('listen = ["http://127.0.0.1:80"]', "smtp://127.0.0.1:2587"),
        ('listen = ["smtp://127.0.0.1"]', "smtp://127.0.0.1:2587"),
        ('listen = ["smtp://127.0.0.1:70000"]', "smtp://127.0.0.1:2587"),
        ('certificate_file = "relay.crt"', "certificate_file and key_file"),
        ('plain_networks = ["192.168.7.1/24"]', "192.168.7.1/24"),
        ("connections = 0", "greater than or equal to 1"),
        ("idle_timeout = 0", "greater than or equal to 1"),
        ("pools = false", "did you mean pool?"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(tmp_path: Path, line: str, said: str) -> None:
    found = problem(tmp_path, f"[relay]\n{line}\n")
    assert "relay" in found
    assert said in found


def test_a_wrong_key_of_a_budget_is_named(tmp_path: Path) -> None:
    found = problem(tmp_path, '[relay.budgets."mx.contoso.com"]\nmessages_per_hour = 5\n')
    assert "messages_per_minute" in found


def test_exchange_has_its_budget_without_a_word_and_with_one_it_has_that(tmp_path: Path) -> None:
    relay = read(tmp_path, "").relay
    for host in ("smtp.office365.com", "smtp-mail.outlook.com"):
        assert (relay.budget(host).connections, relay.budget(host).messages_per_minute) == (3, 30)
    assert relay.budget("smtp.gmail.com").connections is None
    raised = read(tmp_path, '[relay.budgets."smtp.office365.com"]\nmessages_per_minute = 60\n').relay
    assert raised.budget("smtp.office365.com").messages_per_minute == 60
    assert raised.budget("smtp.office365.com").connections is None

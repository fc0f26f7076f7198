"""`[relay]` in the configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue
from infrastructure.config.load import load_config
from infrastructure.config.tables import Config


def read(folder: Path, text: str) -> Config:
    path = folder / "mailtoken.toml"
    path.write_text(text)
    return load_config(path)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(InvalidValue) as invalid:
        read(folder, text)
    return error_text(invalid.value, Surface.COMMAND).removeprefix(f"{folder / 'mailtoken.toml'}: ")


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
    assert relay.mailbox_limits("mx.contoso.com").connections == 7
    assert (relay.mailbox_limits("mx.contoso.com").wait, relay.mailbox_limits("mx.contoso.com").pause) == (5, 2)


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
        ('[[relay.listeners]]\nlisten = "smtps://127.0.0.1:2466"\nciphers = "old"', "'modern' or 'legacy'"),
        ('[[relay.listeners]]\nlisten = "127.0.0.1:2466"', "smtp://127.0.0.1:2587"),
        ('[[relay.listeners]]\nlisten = "smtps://127.0.0.1:2466"\ncipher = "legacy"', "did you mean ciphers?"),
        ('[[relay.listeners]]\nlisten = "smtp://127.0.0.1:2466"\nciphers = "legacy"', "certificate_file"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(tmp_path: Path, line: str, said: str) -> None:
    found = problem(tmp_path, f"[relay]\n{line}\n")
    assert "relay" in found
    assert said in found


def test_a_wrong_key_of_a_mailbox_s_limits_is_named(tmp_path: Path) -> None:
    found = problem(tmp_path, '[relay.budgets."mx.contoso.com"]\nmessages_per_hour = 5\n')
    assert "messages_per_minute" in found


def test_exchange_has_its_limits_by_default_and_a_table_for_it_replaces_them(tmp_path: Path) -> None:
    relay = read(tmp_path, "").relay
    for host in ("smtp.office365.com", "smtp-mail.outlook.com"):
        assert (relay.mailbox_limits(host).connections, relay.mailbox_limits(host).messages_per_minute) == (3, 30)
    assert relay.mailbox_limits("smtp.gmail.com").connections is None
    raised = read(tmp_path, '[relay.budgets."smtp.office365.com"]\nmessages_per_minute = 60\n').relay
    assert raised.mailbox_limits("smtp.office365.com").messages_per_minute == 60
    assert raised.mailbox_limits("smtp.office365.com").connections is None

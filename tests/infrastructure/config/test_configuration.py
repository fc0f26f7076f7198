"""The configuration file: found in one order, checked key by key before anything starts."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import InvalidValue
from domain.scope import Scope
from infrastructure.config.load import load_config, write_config
from infrastructure.config.paths import ConfigurationMissing, find_config, read_toml, socket_path
from infrastructure.config.tables import Config

PROVIDER = '[providers.contoso]\nkind = "microsoft"\ntenant = "contoso.com"\nclient_id = "mailtoken"\n'


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mailtoken.toml"
    path.write_text(text)
    return path


def problem(folder: Path, text: str) -> str:
    """What is wrong with a configuration, after the name of its file."""
    path = written(folder, text)
    with pytest.raises(InvalidValue) as invalid:
        load_config(path)
    sentence = error_text(invalid.value, Surface.COMMAND)
    assert sentence.startswith(f"{path}: ")
    return sentence.removeprefix(f"{path}: ")


# What is in it


def test_an_empty_configuration_is_a_whole_one(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, ""))
    assert (config.store.path, config.store.key_file, config.store.escrow) == (
        "mailtoken.db",
        "mailtoken.key",
        "escrow",
    )
    assert (config.server.socket, config.providers) == ("mailtoken.sock", {})


def test_a_provider_is_read_as_it_is_written(tmp_path: Path) -> None:
    provider = load_config(written(tmp_path, PROVIDER)).providers["contoso"]
    assert (provider.kind, provider.tenant, provider.client_id) == ("microsoft", "contoso.com", "mailtoken")
    assert provider.account_claims == ("preferred_username", "email", "upn")
    assert (provider.scopes, provider.timeout) == ((), 30)


def test_paths_are_relative_to_the_configuration_file_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "etc", f'[store]\nkey_file = "keys/one"\npath = "{tmp_path}/elsewhere.db"\n')
    monkeypatch.chdir(tmp_path)
    config = load_config(path)
    assert config.path(config.store.key_file) == tmp_path / "etc" / "keys" / "one"
    assert config.path(config.store.path) == tmp_path / "elsewhere.db"
    assert socket_path(path, read_toml(path)) == tmp_path / "etc" / "mailtoken.sock"


def test_the_socket_is_where_the_configuration_says(tmp_path: Path) -> None:
    path = written(tmp_path, '[server]\nsocket = "run/here.sock"\n')
    assert socket_path(path, read_toml(path)) == tmp_path / "run" / "here.sock"
    path = written(tmp_path, "server = 3\n")
    assert socket_path(path, read_toml(path)) == tmp_path / "mailtoken.sock"


def test_a_secret_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, ""))
    (tmp_path / "contoso-secret").write_text("s3cret\n")
    assert config.secret("[providers.contoso] client_secret_file", "contoso-secret") == "s3cret"
    with pytest.raises(InvalidValue) as invalid:
        config.secret("[providers.contoso] client_secret_file", "missing")
    assert error_text(invalid.value, Surface.COMMAND) == (
        f"[providers.contoso] client_secret_file: {tmp_path}/missing can't be read (No such file or directory)"
    )


# What is wrong with it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[store]\nkeyfile = "k"\n', "[store] keyfile: unknown key; did you mean key_file?"),
        ("[server]\nsokcet = 1\n", "[server] sokcet: unknown key; did you mean socket?"),
        ("[mial]\n", "[mial]: unknown key; did you mean mail?"),
        (f"{PROVIDER}clientid = 1\n", "[providers.contoso] clientid: unknown key; did you mean client_id?"),
        (f"{PROVIDER}scope = []\n", "[providers.contoso] scope: unknown key; did you mean scopes?"),
        (
            "[store]\nzzz = 1\n",
            "[store] zzz: unknown key; there are: path, url, password_file, key_file, escrow, backup_age_days",
        ),
        (
            '[[socket.grants]]\nuid = 1\nroles = ["client"]\nprofile = []\n',
            "[socket.grants.0] profile: unknown key; did you mean profiles?",
        ),
    ],
)
def test_an_unknown_key_is_refused_by_name_with_what_may_have_been_meant(
    tmp_path: Path, text: str, message: str
) -> None:
    assert problem(tmp_path, text) == message


@pytest.mark.parametrize(("hours", "accepted"), [("0", False), ("1", True), ("12", True), ("13", False), ("-1", False)])
def test_members_of_the_organisation_stay_signed_in_for_as_long_as_is_said(
    tmp_path: Path, hours: str, accepted: bool
) -> None:
    path = written(tmp_path, f'[server.sign_in]\nprovider = "contoso"\ngroups = {{}}\nsession_hours = {hours}\n')
    if accepted:
        assert load_config(path).server.members_for == timedelta(hours=int(hours))
    else:
        with pytest.raises(InvalidValue, match=r"\[server.sign_in\] session_hours: value_not_accepted"):
            load_config(path)


_SIGN_IN = """[server.sign_in]
provider = "contoso"
groups = {{ all = ["auditor"], hamburg = ["operator"], root = ["administrator"] }}
machines = {}
"""
_GRANT = '[[socket.grants]]\nuid = 1000\nroles = ["{}"]\nmachines = {}\n'


@pytest.mark.parametrize(
    "text",
    [
        _SIGN_IN.format('{ root = ["lobby"] }'),
        _SIGN_IN.format('{ ghosts = ["lobby"] }'),
        _SIGN_IN.format("{ hamburg = [] }"),
        _SIGN_IN.format('{ hamburg = ["two words"] }'),
        _GRANT.format("administrator", '["lobby"]'),
        _GRANT.format("operator", "[]"),
        _GRANT.format("operator", '["a/b"]'),
    ],
)
def test_a_limit_is_of_operators_and_auditors_and_has_patterns(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidValue):
        load_config(written(tmp_path, text))


def test_a_member_of_several_groups_has_each_role_on_the_machines_of_the_groups_that_give_it(tmp_path: Path) -> None:
    table = load_config(written(tmp_path, _SIGN_IN.format('{ hamburg = ["hamburg-*"] }'))).server.sign_in
    assert table
    assert table.limits(["all", "hamburg", "unknown"]) == {"operator": Scope(("hamburg-*",))}
    assert load_config(written(tmp_path, _GRANT.format("operator", '["lobby"]'))).socket.grants[0].machines == (
        "lobby",
    )


def test_without_a_sign_in_of_the_organisation_nobody_stays_signed_in_by_it(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "")).server.members_for == timedelta(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[providers.contoso]\nkind = "oidc"\nclient_id = "mailtoken"\n',
            "[providers] contoso: kind oidc needs issuer",
        ),
        (
            '[providers.contoso]\nkind = "microsoft"\nclient_id = "mailtoken"\n',
            "[providers] contoso: kind microsoft needs tenant, or issuer for a private authority",
        ),
        (
            f'{PROVIDER}issuer = "https://login.contoso.com/v2"\n',
            "[providers] contoso: kind microsoft needs tenant, or issuer for a private authority",
        ),
        (
            '[providers.contoso]\nkind = "oidc"\nclient_id = "mailtoken"\nissuer = "http://login.contoso.com"\n',
            "[providers.contoso] issuer: an issuer is an https:// address",
        ),
        ('[providers.contoso]\nkind = "oidc"\nissuer = "https://x"\n', "[providers.contoso] client_id: Field required"),
    ],
)
def test_a_provider_that_can_t_work_is_refused_with_what_it_needs(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text) == message


def test_a_kind_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    said = problem(tmp_path, PROVIDER.replace('"microsoft"', '"outlook"'))
    assert said == "[providers.contoso] kind: Input should be 'microsoft', 'google' or 'oidc'"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[store]\npath = 3\n", "[store] path: "),
        (f"{PROVIDER}timeout = 0\n", "[providers.contoso] timeout: "),
        (f"{PROVIDER}timeout = 121\n", "[providers.contoso] timeout: "),
        ('[[socket.grants]]\nuid = -1\nroles = ["client"]\n', "[socket.grants.0] uid: "),
        ('[[socket.grants]]\nuid = 1\nroles = ["root"]\n', "[socket.grants.0.roles] 0: "),
        ("providers = 3\n", "[providers]: "),
        ("store = 'x'\n", "[store]: "),
    ],
)
def test_a_value_that_is_not_accepted_is_refused_by_the_name_of_its_key(tmp_path: Path, text: str, key: str) -> None:
    assert problem(tmp_path, text).startswith(key)


def test_the_file_the_table_and_the_key_are_facts(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nsokcet = 1\n")
    with pytest.raises(InvalidValue) as invalid:
        load_config(path)
    assert (invalid.value.field, invalid.value.code) == ("[server] sokcet", "key_misspelt")
    expected = {"configuration_file": str(path), "table": "server", "key": "sokcet", "close": "socket"}
    assert invalid.value.fields == expected


def test_what_is_no_configuration_at_all_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert problem(tmp_path, "[store\n").startswith("not TOML: ")
    path = written(tmp_path, "")
    path.write_bytes(b"[store]\npath = '\xff'\n")
    with pytest.raises(InvalidValue, match=r"mailtoken\.toml: not_toml reason='not UTF-8 \(at byte 16\)'"):
        load_config(path)
    with pytest.raises(InvalidValue, match="configuration_unreadable reason='Is a directory'"):
        load_config(tmp_path)


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes(b'\xef\xbb\xbf[store]\r\npath = "other.db"\r\n')
    assert load_config(path).store.path == "other.db"


def test_a_value_that_was_refused_is_not_shown(tmp_path: Path) -> None:
    text = f'{PROVIDER}client_secret = "s3cret"\n'
    assert "s3cret" not in problem(tmp_path, text)
    assert "s3cret" not in problem(tmp_path, '[store]\nurl = ["postgresql://mailtoken:s3cret@db/x"]\n')


# The file that `mailtoken init` writes


def test_the_file_that_init_writes_is_read_back_and_its_comments_are_examples_that_work(tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.toml"
    write_config(path)
    assert load_config(path) == Config(directory=tmp_path)
    path.write_text("\n".join(_uncommented(line) for line in path.read_text().splitlines()))
    config = load_config(path)
    assert (config.providers["contoso"].kind, config.socket.grants[0].uid) == ("microsoft", 1000)
    assert config.notify.mail_profile == "office-mfp/smtp-service"


def _uncommented(line: str) -> str:
    """A commented key or table without its comment sign; prose stays a comment."""
    bare = line.removeprefix("# ")
    return bare if line.startswith("# [") or " = " in line.partition("  ")[0] else line


def test_tables_can_be_appended_to_the_file_that_init_writes(tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.toml"
    write_config(path)
    with path.open("a") as file:
        file.write(PROVIDER)
    assert list(load_config(path).providers) == ["contoso"]


def test_a_store_in_postgresql_is_named_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.toml"
    url = 'postgresql://mailtoken@/mailtoken?host=%2Frun&application_name="x"\\'
    write_config(path, url)
    assert load_config(path).store.url == url
    assert "path" not in read_toml(path)["store"]


def test_a_configuration_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path, "# mine\n")
    with pytest.raises(FileExistsError):
        write_config(path)
    assert path.read_text() == "# mine\n"


# Where it is


def test_the_first_place_that_has_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    option, variable = written(tmp_path / "option", ""), written(tmp_path / "variable", "")
    by_place = {"here": written(here, ""), "user": written(home / "mailtoken", "")}
    monkeypatch.chdir(here)
    environment = {"MAILTOKEN_CONFIG": str(variable), "XDG_CONFIG_HOME": str(home)}
    assert find_config(str(option), environment) == option
    assert find_config(None, environment) == variable
    del environment["MAILTOKEN_CONFIG"]
    assert find_config(None, environment) == by_place["here"]
    by_place["here"].unlink()
    assert find_config(None, environment) == by_place["user"]
    by_place["user"].unlink()


def test_where_it_was_looked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("infrastructure.config.paths.FILE_NAME", "nobody-calls-it-so.toml")
    with pytest.raises(ConfigurationMissing) as missing:
        find_config(None, {"XDG_CONFIG_HOME": str(tmp_path / "home")})
    assert str(missing.value) == f"{tmp_path}, {tmp_path}/home/mailtoken, /etc/mailtoken"
    assert not missing.value.is_named


def test_without_xdg_the_users_directory_is_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    path = written(tmp_path / ".config" / "mailtoken", "")
    assert find_config(None, {}) == path


def test_a_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written(tmp_path, "").parent)
    for option, environment in (("nowhere.toml", {}), (None, {"MAILTOKEN_CONFIG": "nowhere.toml"})):
        with pytest.raises(ConfigurationMissing) as missing:
            find_config(option, environment)
        assert (str(missing.value), missing.value.is_named) == ("nowhere.toml", True)


def test_a_relative_name_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    assert find_config("mailtoken.toml", dict(os.environ)) == tmp_path / "mailtoken.toml"


def test_only_the_file_names_the_private_hosts_of_stored_providers(tmp_path: Path) -> None:
    text = '[stored_providers]\nprivate_hosts = ["login.contoso.internal", "[fd00::9]"]\nca_file = "ca.pem"\n'
    table = load_config(written(tmp_path, text)).stored_providers
    assert (table.private_hosts, table.ca_file) == (("login.contoso.internal", "[fd00::9]"), "ca.pem")
    assert load_config(written(tmp_path, "")).stored_providers.private_hosts == ()
    faulty = '[stored_providers]\nprivate_hosts = ["https://login"]\n'
    assert problem(tmp_path, faulty).startswith("[stored_providers] private_hosts: 'https://login' is not")
    assert "did you mean ca_file" in problem(tmp_path, "[stored_providers]\nca_fil = 1\n")

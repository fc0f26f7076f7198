"""Machines, settings, groups and providers, through the service."""

import json

import pytest
from service_process import SCAN, ServiceProcess


def test_a_machine_has_the_settings_of_its_catalogue(service: ServiceProcess, machine: str) -> None:
    added = service.done("machine", "add", machine)
    assert [line for line in added.splitlines() if "/" in line] == [f"{machine}/{s}" for s in ("smtp", "pop", "imap")]
    [listed] = json.loads(service.done("machine", "list", machine, "--state", "Not Retrieved", "--json"))
    assert (listed["name"], listed["catalogue"], listed["tags"]) == (machine, "generic", [])
    assert service.done("machine", "list", machine, "nowhere", "--json") == "[]\n"
    assert service.run("machine", "list", "--state", "green").returncode == 2
    assert service.done("machine", "tag", machine, "Hamburg", "floor-3") == f"{machine}: floor-3 hamburg\n"
    assert service.done("machine", "tag", machine, "--remove", "floor-3") == f"{machine}: hamburg\n"
    assert service.run("machine", "tag", machine, "a/b").returncode == 2
    assert "hamburg" in service.done("export", "--format", "csv")
    assert machine in service.done("machine", "list")
    unasked = service.run("machine", "remove", machine)
    assert (unasked.returncode, unasked.stderr) == (
        2,
        "mailtoken: this has to be confirmed and there is no terminal: say --yes\n",
    )
    assert machine in service.done("machine", "list")
    service.done("machine", "remove", machine, "--yes")
    assert machine not in service.done("machine", "list")


@pytest.mark.parametrize(
    ("line", "exit_code", "said"),
    [
        ("machine add -- -x", 2, "is not a name"),
        ("machine add new --catalogue nonsense", 4, "no catalogue is called 'nonsense'"),
        ("machine remove nobody --yes", 4, "no machine is called 'nobody'"),
        ("machine remove no/body --yes", 4, "no machine is called 'no/body'"),
        ("profile show nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("profile show nobody", 4, "no profile is called 'nobody'"),
        ("profile remove nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("profile set nobody/smtp port=587", 4, "no profile is called 'nobody/smtp'"),
        ("group link office nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("group link of/fice nobody/smtp", 2, "can't be the name of a group"),
        ("group unlink nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("status nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("token renew nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("token cancel nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("token delete nobody/smtp --yes", 4, "no profile is called 'nobody/smtp'"),
        ("token get nobody/smtp --yes", 4, "no profile is called 'nobody/smtp'"),
        ("test nobody/smtp", 4, "no profile is called 'nobody/smtp'"),
        ("audit log nobody/smtp", 4, "no event is about 'nobody/smtp'"),
    ],
)
def test_what_is_not_there_or_not_acceptable_is_said_in_one_line(
    service: ServiceProcess, line: str, exit_code: int, said: str
) -> None:
    done = service.run(*line.split())
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.startswith("mailtoken: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_that_is_taken_is_refused(service: ServiceProcess, smtp: str) -> None:
    done = service.run("machine", "add", smtp.partition("/")[0])
    assert done.returncode == 5
    assert "already" in done.stderr


def test_fields_are_filled_in_shown_and_cleared(service: ServiceProcess, smtp: str) -> None:
    said = service.done("profile", "set", smtp, "sender_name=Scanner=2nd floor", "timeout=30", "tls=implicit")
    assert said.splitlines() == [
        f"{smtp}: sender_name = Scanner=2nd floor",
        f"{smtp}: timeout = 30",
        f"{smtp}: tls = implicit",
    ]
    held = json.loads(service.done("profile", "show", smtp, "--json"))
    assert (held["sender_name"], held["timeout"], held["tls"]) == ("Scanner=2nd floor", 30, "implicit")
    shown = service.done("profile", "show", smtp)
    assert "timeout         30 seconds\n" in shown
    assert "System Settings > Network Settings > Service Settings > SMTP" in shown
    service.done("profile", "set", smtp, "sender_name=")
    assert json.loads(service.done("profile", "show", smtp, "--json"))["sender_name"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("port=70000", "port: '70000' is not a whole number from 1 to 65535"),
        ("account=nobody", "account: 'nobody' is not an e-mail address"),
        ("tls=none", "tls: '"),
        ("colour=red", "colour: not a field of a smtp setting"),
    ],
)
def test_a_value_that_is_not_acceptable_names_its_field(
    service: ServiceProcess, machine: str, change: str, said: str
) -> None:
    service.done("machine", "add", machine)
    done = service.run("profile", "set", f"{machine}/smtp", change)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"mailtoken: {said.partition(':')[0]}: ")


def test_a_setting_is_removed_and_comes_back(service: ServiceProcess, smtp: str) -> None:
    service.done("profile", "remove", smtp)
    assert service.run("profile", "show", smtp).returncode == 4
    service.done("profile", "set", smtp, f"account={SCAN}")
    assert SCAN in service.done("profile", "list")
    assert smtp in {one["profile"] for one in json.loads(service.done("profile", "list", "--json"))}


def test_smtp_settings_are_linked_across_machines_and_unlinked(
    service: ServiceProcess, smtp: str, machine: str
) -> None:
    other = f"{machine}-b"
    service.done("machine", "add", other)
    service.done("group", "link", machine, f"{other}/smtp")
    groups = {one["name"]: one for one in json.loads(service.done("group", "list", "--json"))}
    assert {smtp, f"{other}/smtp"} <= set(groups[machine]["profiles"])
    assert f"{other}/smtp" in service.done("group", "list")
    assert service.status(f"{other}/smtp")["group"] == machine
    service.done("group", "unlink", f"{other}/smtp")
    assert service.status(f"{other}/smtp")["group"] is None
    again = service.run("group", "unlink", f"{other}/smtp")
    assert again.returncode == 5
    independent = service.run("group", "link", machine, f"{other}/pop")
    assert independent.returncode == 2
    assert "POP and IMAP settings are independent" in independent.stderr


def test_the_providers_of_the_configuration_are_listed(service: ServiceProcess) -> None:
    (provider,) = json.loads(service.done("provider", "list", "--json"))
    assert provider == {
        "name": "contoso",
        "kind": "oidc",
        "authority": service.provider.issuer,
        "client_id": service.provider.client_id,
        "flows": ["device", "browser"],
        "refused": {},
        "callback": None,
        "stored": False,
    }
    assert service.provider.issuer in service.done("provider", "list")


def test_nobody_is_asked_for_a_token_before_account_and_provider_are_there(
    service: ServiceProcess, machine: str
) -> None:
    service.done("machine", "add", machine)
    done = service.run("token", "get", f"{machine}/smtp", "--yes")
    assert (done.returncode, done.stdout) == (5, "")
    assert "provider and account not filled in: mailtoken profile set" in done.stderr


def test_a_rename_to_a_name_in_use_is_refused_in_one_line_and_changes_nothing(own_service: ServiceProcess) -> None:
    entra = '[providers.entra]\nkind = "google"\nclient_id = "mailtoken"\n'
    own_service.configure(entra)
    own_service.start()
    smtp, other = own_service.add_printer(), own_service.add_printer("lobby-mfp")
    own_service.get_token(smtp)
    own_service.done("profile", "set", other, "provider=entra")
    before = own_service.rows("SELECT count(*) FROM stored_events"), own_service.statuses()
    for words, said in (
        (("machine", "rename", "office-mfp", "lobby-mfp"), "lobby-mfp"),
        (("machine", "rename", "office-mfp", "office-mfp"), "office-mfp"),
        (("provider", "rename", "contoso", "entra"), "entra"),
        (("provider", "rename", "contoso", "contoso"), "contoso"),
    ):
        refused = own_service.run(*words)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (5, "", 1), refused.stderr
        assert said in refused.stderr
    assert (own_service.rows("SELECT count(*) FROM stored_events"), own_service.statuses()) == before

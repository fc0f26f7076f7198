"""`mailtoken apply` and `export`, as people run them: the files, the diff, the questions and the exit codes."""

import json
from pathlib import Path

import pytest
from pseudo_terminal import PseudoTerminal
from service_process import ServiceProcess

from adapters.cli.app import run
from adapters.fleet_files import NotAFleetFile, read, write

CHANGED, REFUSED, USAGE = 7, 5, 2


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory for files to apply."""
    return tmp_path


def written(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def toml(machine: str, port: int = 587) -> str:
    return f"""
[machines.{machine}]
catalogue = "sharp-bp"

[machines.{machine}.settings.smtp-service]
server = "smtp.contoso.com"
port = {port}
provider = "contoso"
account = "scan@contoso.com"
"""


def held(service: ServiceProcess, profile: str) -> dict[str, object]:
    shown: dict[str, object] = json.loads(service.done("profile", "show", profile, "--json"))
    return shown


def test_a_file_is_shown_applied_and_then_there_is_nothing_to_do(
    service: ServiceProcess, machine: str, files: Path
) -> None:
    file = written(files, "fleet.toml", toml(machine))
    dry = service.run("apply", file, "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.splitlines() == [
        f"+ machine {machine}, catalogue sharp-bp",
        f"~ {machine}/smtp-service: server (empty) -> smtp.contoso.com, port (empty) -> 587,"
        " provider (empty) -> contoso, account (empty) -> scan@contoso.com",
        "2 changes: add machine 1, set fields 1.",
    ]
    assert machine not in service.done("machine", "list")
    assert service.done("apply", file, "--yes").splitlines() == [*dry.stdout.splitlines(), "Done."]
    assert held(service, f"{machine}/smtp-service")["server"] == "smtp.contoso.com"
    assert service.done("apply", file) == "Everything is so already: nothing to change.\n"


def test_the_exit_code_says_on_request_whether_anything_changed(
    service: ServiceProcess, machine: str, files: Path
) -> None:
    file = written(files, "fleet.toml", toml(machine))
    codes = [
        service.run("apply", file, "--detailed-exit-code", *more).returncode
        for more in (["--dry-run"], ["--yes"], ["--yes"], ["--dry-run"])
    ]
    assert codes == [CHANGED, CHANGED, 0, 0]


def test_without_a_terminal_it_wants_yes(service: ServiceProcess, machine: str, files: Path) -> None:
    asked = service.run("apply", written(files, "fleet.toml", toml(machine)))
    assert (asked.returncode, asked.stderr) == (
        USAGE,
        "mailtoken: this has to be confirmed and there is no terminal: say --yes\n",
    )
    assert machine not in service.done("machine", "list")


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_a_person_is_asked(service: ServiceProcess, machine: str, files: Path, answer: str, code: int) -> None:
    file = written(files, "fleet.toml", toml(machine))
    with PseudoTerminal(service.directory, ["apply", file]) as terminal:
        terminal.wait_for("Change this? [y/N]")
        terminal.press(f"{answer}\n")
        assert terminal.end() == code
    assert (machine in service.done("machine", "list")) is (code == 0)


def test_each_refusal_has_its_line_and_nothing_is_changed(service: ServiceProcess, machine: str, files: Path) -> None:
    text = f"machines:\n  {machine}:\n    settings:\n      smtp:\n        port: 99999\n      fax: {{}}\n"
    file = written(files, "fleet.yaml", text)
    refused = service.run("apply", file, "--yes")
    assert refused.returncode == REFUSED
    assert refused.stderr.splitlines() == [
        f"mailtoken: {file}: line 6: machines.{machine}.settings.fax:"
        " catalogue generic has no setting 'fax'; it has: smtp, pop, imap",
        f"mailtoken: {file}: line 5: machines.{machine}.settings.smtp.port:"
        " '99999' is not a whole number from 1 to 65535",
        f"mailtoken: {file}: can't be applied as it is, see above: nothing was changed",
    ]
    assert machine not in service.done("machine", "list")


def test_what_is_no_part_of_such_a_file_is_named(service: ServiceProcess, machine: str, files: Path) -> None:
    file = written(files, "fleet.yaml", f"machines:\n  {machine}:\n    settings:\n      smtp: {{prot: 25}}\n")
    refused = service.run("apply", file, "--yes")
    assert refused.returncode == USAGE
    assert refused.stderr == f"mailtoken: machines.{machine}.settings.smtp.prot: nothing is called so here\n"


def test_a_token_goes_only_if_the_file_says_so(service: ServiceProcess, smtp: str, files: Path) -> None:
    service.get_token(smtp)
    machine = smtp.partition("/")[0]
    text = toml(machine).replace("scan@", "fax@")
    refused = service.run("apply", written(files, "fleet.toml", text), "--yes")
    assert refused.returncode == REFUSED
    assert "the token is Retrieved: delete the token first" in refused.stderr
    done = service.done("apply", written(files, "fleet.toml", f"{text}delete_token = true\n"), "--yes")
    assert done.startswith(f"- delete the token of {smtp}, which {machine}/smtp-alert, ")
    assert service.status(smtp)["token"] == "Not Retrieved"


@pytest.mark.parametrize("ending", ["toml", "yaml"])
def test_what_is_exported_changes_nothing_when_it_is_applied(
    service: ServiceProcess, smtp: str, files: Path, ending: str
) -> None:
    exported = service.done("export", "--format", ending)
    assert smtp.partition("/")[0] in exported
    file = written(files, f"fleet.{ending}", exported)
    assert service.done("apply", file) == "Everything is so already: nothing to change.\n"


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("toml", '[machines.desk]\ncatalogue = "generic"\n\n[groups]\n\n[clients]\n'),
        ("yaml", "machines:\n  desk:\n    catalogue: generic\ngroups: {}\nclients: {}\n"),
    ],
)
def test_a_machine_where_nothing_is_set_is_written_without_settings(ending: str, text: str) -> None:
    document = {"machines": {"desk": {"catalogue": "generic", "settings": {}}}, "groups": {}, "clients": {}}
    assert write(document, ending) == text


def test_a_spreadsheet_of_machines_is_applied_and_exported(service: ServiceProcess, machine: str, files: Path) -> None:
    text = (
        "\ufeffmachine;catalogue;setting;server;port;account\n"
        f"{machine};sharp-bp;smtp-service;smtp.contoso.com;587;scan@contoso.com\n"
        f"{machine};;pop-internet-fax;pop.contoso.com;;\n"
    )
    service.done("apply", written(files, "fleet.csv", text), "--yes")
    assert held(service, f"{machine}/pop-internet-fax")["server"] == "pop.contoso.com"
    exported = service.done("export", "--format", "csv")
    assert f"{machine},,,smtp-service,smtp.contoso.com,587,,," in exported
    assert (
        service.done("apply", written(files, "again.csv", exported)) == "Everything is so already: nothing to change.\n"
    )
    bad = written(files, "fleet.csv", text.replace("587", "port"))
    assert service.run("apply", bad, "--yes").stderr.startswith(
        f"mailtoken: {bad}: line 2: machines.{machine}.settings."
    )


def test_three_hundred_machines_are_one_change_of_the_store(own_service: ServiceProcess, files: Path) -> None:
    lines = ["machine,catalogue,setting,server,provider,account"]
    for number in range(300):
        lines += [
            f"mfp-{number},sharp-bp,{setting},mail.contoso.com,contoso,scan{number}@contoso.com"
            for setting in ("smtp-service", "smtp-alert", "pop-internet-fax")
        ]
    own_service.start()
    file = written(files, "fleet.csv", "\n".join(lines))
    assert own_service.done("apply", file, "--yes").splitlines()[-2:] == [
        "1200 changes: add machine 300, set fields 900.",
        "Done.",
    ]
    assert len(own_service.statuses()) == 2100
    assert own_service.done("apply", file) == "Everything is so already: nothing to change.\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("fleet.txt", "", "not a .toml, .yaml, .yml or .csv file"),
        ("fleet.toml", "[machines", "not TOML: "),
        ("fleet.yaml", "machines:\n  a: 1\n  a: 2\n", "line 2: a is said twice"),
        ("fleet.yaml", "machines:\n  no: {}\n", "line 2: no is not a text: write it in quotes"),
        ("fleet.yaml", "machines:\n  12: {}\n", "line 2: 12 is not a text: write it in quotes"),
        ("fleet.yaml", "machines: [\n", "line 2: not YAML: "),
        ("fleet.yaml", "- a\n", "it has no machines:, groups:, clients: or providers:"),
        ("fleet.yaml", "a: !!python/name:os.system ''\n", "line 1: not YAML: "),
        ("fleet.yaml", "a:\n  b: 2026-11-22\n", "line 2: a.b: 2026-11-22 is not a text or a whole number: write it"),
        ("fleet.toml", "a.b = 1.5", "a.b: 1.5 is not a text or a whole number: write it in quotes"),
        ("fleet.csv", "machine,prot\n", "line 1: no column 'prot' or twice; there are: machine, catalogue, tags, "),
        ("fleet.csv", "setting\n", "line 1: there is no column machine"),
        ("fleet.csv", "machine,setting\nx,smtp\nx,smtp\n", "line 3: x/smtp is in a line before"),
        ("fleet.csv", "machine,port\nx,25\n", "line 2: it fills in port but names no setting"),
        ("fleet.csv", "machine,port\n,25\n", "line 2: it names no machine"),
        ("fleet.csv", "machine\nx,25\n", "line 2: it has more columns than the first line"),
        ("fleet.csv", "machine,tags\nx,a b\nx,b a\n", "line 3: x has the tags a b in a line before"),
        ("fleet.csv", "machine,catalogue\nx,generic\nx,sharp-bp\n", "line 3: x has the catalogue generic in a line"),
    ],
)
def test_a_file_that_cant_be_read_says_the_line(files: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(NotAFleetFile) as refused:
        read(Path(written(files, name, text)))
    assert str(refused.value).startswith(said)


def test_a_wrong_file_and_a_wrong_format_are_usage_errors(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = written(files, "fleet.txt", "")
    assert run(["apply", file]) == USAGE
    assert capfd.readouterr().err == f"mailtoken: {file}: not a .toml, .yaml, .yml or .csv file\n"
    assert run(["export", "--format", "xml"]) == USAGE
    assert capfd.readouterr().err == "mailtoken: --format: 'xml' is not toml, yaml, csv\n"


def test_yaml_may_say_once_what_many_share(files: Path) -> None:
    text = "machines:\n  a: &base\n    catalogue: generic\n  b:\n    <<: *base\n    absent: true\n"
    assert read(Path(written(files, "fleet.yaml", text))).document == {
        "machines": {"a": {"catalogue": "generic"}, "b": {"catalogue": "generic", "absent": True}}
    }

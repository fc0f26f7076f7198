"""`mailtoken provider add`, `set`, `show` and `remove`: a provider without a file and without a restart."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_process import SCAN, ServiceProcess

from adapters.practice import browser_user

FIELDS = ("kind=microsoft", "tenant=fabrikam.com", "client_id=6f1c0d5e")
SECRET = "a-client-secret-in-clear"


@pytest.fixture(scope="module")
def stored(
    world: Callable[[Path], ServiceProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A running service whose operator permits providers at localhost, with the practice CA."""
    service = world(tmp_path_factory.mktemp("stored"))
    service.configure(
        f'[stored_providers]\nprivate_hosts = ["localhost"]\nca_file = {json.dumps(str(service.provider.ca_file))}\n'
    )
    with service:
        yield service


def shown(service: ServiceProcess, name: str) -> dict[str, object]:
    held: dict[str, object] = json.loads(service.done("provider", "show", name, "--json"))
    return held


def test_a_provider_is_added_and_gives_a_token_at_once(stored: ServiceProcess, tmp_path: Path) -> None:
    provider = stored.provider
    file = tmp_path / "secret"
    file.write_text(f"{provider.client_secret}\n")
    registration = (f"issuer={provider.issuer}", f"client_id={provider.confidential_client_id}", "scopes=mail")
    added = stored.done("provider", "add", "own", "kind=oidc", *registration, "--client-secret-file", str(file))
    assert added == "own is added. Next: mailtoken provider check own\n"
    assert stored.run("provider", "check", "own", "--json").returncode == 0
    smtp = stored.add_printer("own-mfp")
    pop = smtp.replace("smtp-service", "pop-internet-fax")
    stored.done("profile", "set", pop, "provider=own", f"account={SCAN}")
    started = json.loads(stored.done("token", "get", pop, "--flow", "browser", "--no-wait", "--json", "--yes"))
    back = browser_user.sign_in(started["authorization_uri"], SCAN, provider.ca_file)
    assert stored.call("POST", f"/api/v1/profiles/{pop}/token/redirect", {"redirected_to": back}).status == 200
    assert stored.done("token", "show", pop).strip() in provider.live_access_tokens(SCAN)
    refused = stored.run("provider", "remove", "own")
    assert (refused.returncode, refused.stderr) == (
        5,
        f"mailtoken: 1 settings have the provider own, {pop} among them: delete their tokens and give them another"
        " provider first\n",
    )


def test_a_secret_comes_from_standard_input_and_never_back(stored: ServiceProcess) -> None:
    added = stored.run("provider", "add", "piped", *FIELDS, "--client-secret", message=f"{SECRET}\n")
    assert added.returncode == 0, added.stderr
    assert shown(stored, "piped")["secrets"] == [{"name": "client_secret", "uploaded": True}]
    assert SECRET not in stored.log.read_text() + stored.done("audit", "log") + stored.done("provider", "show", "piped")
    removed = stored.done("provider", "set", "piped", "timeout=9", "--remove-secret", "client_secret")
    assert removed.splitlines() == ["piped: timeout = 9", "piped: client_secret removed"]
    assert shown(stored, "piped")["fields"] == {"tenant": "fabrikam.com", "client_id": "6f1c0d5e", "timeout": "9"}
    assert stored.done("provider", "remove", "piped") == "piped is removed.\n"


def test_the_list_says_where_a_provider_is_and_a_rename_needs_no_file(stored: ServiceProcess) -> None:
    stored.done("provider", "add", "fabrikam", *FIELDS)
    assert stored.done("provider", "rename", "fabrikam", "entra").startswith("0 settings have the provider entra now")
    places = {one["name"]: one["stored"] for one in json.loads(stored.done("provider", "list", "--json"))}
    assert (places["contoso"], places["entra"]) == (False, True)
    lines = {line.split()[0]: line.split()[-1] for line in stored.done("provider", "list").splitlines()}
    assert (lines["contoso"], lines["entra"]) == ("file", "store")
    stored.done("provider", "remove", "entra")


def test_an_awaited_secret_fails_the_check_until_it_is_uploaded(stored: ServiceProcess, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(
        '[providers.waiting]\nkind = "microsoft"\ntenant = "fabrikam.com"\nclient_id = "6f1c0d5e"\ntimeout = 9\n'
        'secrets = ["client_secret"]\n'
    )
    applied = stored.done("apply", str(file), "--yes")
    assert applied.startswith(
        "+ provider waiting, microsoft, whose client_secret is to be uploaded: mailtoken provider"
    )
    checked = stored.run("status", "--check")
    assert checked.returncode == 1
    assert "The provider waiting waits for its client_secret: mailtoken provider set waiting uploads it" in (
        checked.stdout + checked.stderr
    )
    again = tmp_path / "again.toml"
    again.write_text(stored.done("export"))
    assert 'secrets = [\n    "client_secret",\n]' in again.read_text()
    assert stored.done("apply", str(again), "--yes") == "Everything is so already: nothing to change.\n"
    assert stored.run("provider", "set", "waiting", "--client-secret", message="new\n").returncode == 0
    assert "waiting waits" not in stored.run("status", "--check").stderr
    stored.done("provider", "remove", "waiting")


@pytest.mark.parametrize(
    ("line", "exit_code", "said"),
    [
        ("add new tenant=a", 2, "kind= is missing: microsoft, google, oidc"),
        ("add new kind=yahoo", 2, "kind: 'yahoo' is not one of: microsoft, google, oidc"),
        ("add new kind=microsoft tenant=a", 2, "client_id: not filled in: a microsoft provider needs it"),
        ("add new kind=google client_id=a proxy=b", 2, "proxy: not a field of a google provider"),
        ("add contoso kind=google client_id=a", 5, "the configuration file has a provider contoso: take another name"),
        ("add new kind=oidc client_id=a issuer=https://10.0.0.1", 2, "issuer: 10.0.0.1 is this machine or a private"),
        ("add new kind=google client_id=a --certificate-file nowhere", 2, "nowhere: can't be read"),
        ("add new kind=google client_id=a --client-secret", 2, "is not one line with the client secret"),
        ("set contoso timeout=9", 4, "no provider in the store is called 'contoso'"),
        ("set contoso", 2, "nothing to change"),
        ("show nobody", 4, "no provider in the store is called 'nobody'"),
        ("remove nobody", 4, "no provider in the store is called 'nobody'"),
    ],
)
def test_what_cant_be_done_is_one_line(stored: ServiceProcess, line: str, exit_code: int, said: str) -> None:
    ended = stored.run("provider", *line.split())
    assert ended.returncode == exit_code, ended.stderr
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1

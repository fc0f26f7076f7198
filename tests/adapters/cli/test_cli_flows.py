"""Browser and app-only sign-in from the command line, and the check of a client registration."""

import json
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from ports import free_port
from service_process import SCAN, ServiceProcess
from waiting import DEADLINE_SECONDS

from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA

_CONFIDENTIAL = """
[providers.robot]
kind = "oidc"
issuer = "{issuer}"
client_id = "{client_id}"
client_secret_file = ["old-secret", "new-secret"]
scopes = ["openid", "email", "offline_access"]
ca_file = "{ca_file}"
"""


@pytest.fixture(scope="module")
def shared_service(
    world: Callable[[Path], ServiceProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service whose configuration also has a confidential client, with one secret that is no longer good."""
    service = world(tmp_path_factory.mktemp("flows") / "office")
    provider = service.provider
    (service.directory / "old-secret").write_text("expired-last-year")
    (service.directory / "new-secret").write_text(provider.client_secret + "\n")
    service.configure(
        _CONFIDENTIAL.format(
            issuer=provider.issuer, client_id=provider.confidential_client_id, ca_file=provider.ca_file
        )
    )
    with service:
        yield service


def test_a_browser_comes_back_to_the_command_and_the_linked_settings_are_retrieved(
    shared_service: ServiceProcess,
) -> None:
    smtp = shared_service.add_printer("mfp-browser")
    getting = shared_service.begin("token", "get", smtp, "--yes", "--flow", "browser")
    assert getting.stdout is not None
    opened = re.fullmatch(r"Open (https://\S+)\n", getting.stdout.readline())
    assert opened
    back = browser_user.sign_in(opened[1], SCAN, shared_service.provider.ca_file)
    assert re.match(r"http://localhost:\d+/\?", back)
    assert requests.get(back, timeout=DEADLINE_SECONDS).ok
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "mfp-browser/smtp-quick, in concert" in out
    assert shared_service.status("mfp-browser/smtp-quick")["token"] == "Retrieved"


def test_where_a_browser_ended_elsewhere_can_be_pasted(shared_service: ServiceProcess) -> None:
    smtp = shared_service.add_printer("mfp-paste")
    started = json.loads(shared_service.done("token", "get", smtp, "--yes", "--flow", "browser", "--no-wait", "--json"))
    assert (started["flow"], started["user_code"]) == ("browser", None)
    back = browser_user.sign_in(started["authorization_uri"], SCAN, shared_service.provider.ca_file)
    another = shared_service.run("token", "redirect", smtp, message=back.replace("state=", "state=x") + "\n")
    assert another.returncode == 2
    assert shared_service.status(smtp)["token"] == "Waiting for authorisation"
    assert shared_service.run("token", "redirect", smtp, message=back + "\n").stdout == f"{smtp}: Retrieved.\n"
    late = shared_service.run("token", "redirect", smtp, message=back + "\n")
    assert (late.returncode, late.stderr) == (
        5,
        f"mailtoken: {smtp}: no browser sign-in is under way: get a token first (mailtoken token get)\n",
    )


def test_an_application_signs_in_itself_with_the_secret_that_is_good(shared_service: ServiceProcess) -> None:
    pop = shared_service.add_printer("mfp-robot").replace("smtp-service", "pop-internet-fax")
    shared_service.done("profile", "set", pop, "provider=robot", f"account={SCAN}")
    assert f"{pop}, {SCAN}" in shared_service.done("token", "get", pop, "--yes", "--flow", "app")
    assert shared_service.status(pop)["token"] == "Retrieved"
    assert shared_service.done("token", "renew", pop).startswith(f"{pop}: Retrieved, access token until")
    assert "robot refuses client secret 1 (invalid_client)" in shared_service.done("provider", "list")


def test_a_flow_the_provider_does_not_have_is_refused_by_name(shared_service: ServiceProcess) -> None:
    smtp = shared_service.add_printer("mfp-flow")
    refused = shared_service.run("token", "get", smtp, "--yes", "--flow", "telepathy")
    assert (refused.returncode, refused.stderr) == (
        2,
        "mailtoken: flow: 'telepathy' is not a flow of provider contoso; it has: device, browser\n",
    )


def test_deleting_says_which_settings_keep_the_provider_from_being_told(shared_service: ServiceProcess) -> None:
    smtp = shared_service.add_printer("mfp-delete")
    pop = smtp.replace("smtp-service", "pop-internet-fax")
    shared_service.get_token(smtp)
    shared_service.get_token(pop)
    assert "forgotten" not in shared_service.done("token", "delete", smtp, "--yes")
    assert shared_service.status(pop)["token"] == "Retrieved"
    shown = shared_service.run("token", "show", pop)
    assert shown.stdout.strip() in shared_service.provider.live_access_tokens(SCAN)


def test_a_registration_is_checked_with_a_remedy_for_what_is_wrong(shared_service: ServiceProcess) -> None:
    good = shared_service.run("provider", "check", "contoso", "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["ok"] is True
    bad = shared_service.run("provider", "check", "robot")
    assert bad.returncode == 1
    assert "client secret 1: the provider refuses: invalid_client" in bad.stdout
    assert "A firewall must let through:" in bad.stdout
    assert Path(shared_service.directory / "new-secret").read_text().strip() not in bad.stdout


def test_checking_an_unknown_provider_names_those_there_are(shared_service: ServiceProcess) -> None:
    unknown = shared_service.run("provider", "check", "fabrikam")
    assert (unknown.returncode, unknown.stderr) == (
        4,
        "mailtoken: there is no provider 'fabrikam'; there are: contoso, robot\n",
    )


def test_a_browser_on_another_machine_comes_back_to_the_service_itself(
    own_service: ServiceProcess, ca: PracticeCA
) -> None:
    certificate = ca.issue()
    port = free_port()
    url = f"https://localhost:{port}/callback"
    own_service.configure(
        f'[server.callback]\nurl = "{url}"\nhost = "127.0.0.1"\nport = {port}\n'
        f'certificate_file = "{certificate.cert_file}"\nkey_file = "{certificate.key_file}"\n'
    )
    own_service.start()
    smtp = own_service.add_printer()
    started = json.loads(own_service.done("token", "get", smtp, "--yes", "--flow", "browser", "--no-wait", "--json"))
    back = browser_user.sign_in(started["authorization_uri"], SCAN, ca.ca_file)
    assert back.startswith(url)
    browser = requests.Session()
    browser.trust_env, browser.verify = False, str(ca.ca_file)
    foreign = browser.get(back.replace("state=", "state=x"), timeout=DEADLINE_SECONDS)
    assert foreign.status_code == 400
    assert "code=" not in foreign.text
    assert browser.get(f"{url}/../api/v1/status", timeout=DEADLINE_SECONDS).status_code == 400
    assert own_service.status(smtp)["token"] == "Waiting for authorisation"
    assert browser.get(back, timeout=DEADLINE_SECONDS).status_code == 200
    assert own_service.status(smtp)["token"] == "Retrieved"
    assert browser.get(back, timeout=DEADLINE_SECONDS).status_code == 400
    renewed = ca.issue()
    for old, new in ((certificate.cert_file, renewed.cert_file), (certificate.key_file, renewed.key_file)):
        Path(new).replace(old)
    presented = ssl.get_server_certificate(("localhost", port), ca_certs=str(ca.ca_file))
    assert presented.strip() in Path(certificate.cert_file).read_text()

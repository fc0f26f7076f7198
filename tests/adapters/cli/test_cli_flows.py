"""Browser and app-only sign-in from the command line, and the check of a client registration."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mailtoken_house import DEADLINE_SECONDS, SCAN, House
from ports import free_port

from adapters.practice import person
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider

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
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose configuration also has a confidential client, with one secret that is no longer good."""
    folder = tmp_path_factory.mktemp("flows")
    ca = PracticeCA.create(folder / "ca")
    with PracticeProvider(ca, interval=1) as provider, PracticeMailServer(ca, provider) as mail:
        (folder / "office").mkdir()
        house = House(folder / "office", ca, provider, mail)
        (house.directory / "old-secret").write_text("expired-last-year")
        (house.directory / "new-secret").write_text(provider.client_secret + "\n")
        with (house.directory / "mailtoken.toml").open("a") as config:
            config.write(
                _CONFIDENTIAL.format(
                    issuer=provider.issuer, client_id=provider.confidential_client_id, ca_file=provider.ca_file
                )
            )
        house.start()
        try:
            yield house
        finally:
            house.stop()


def test_a_browser_comes_back_to_the_command_and_the_linked_settings_are_retrieved(office: House) -> None:
    smtp = office.add_printer("mfp-browser")
    getting = office.begin("token", "get", smtp, "--yes", "--flow", "browser")
    assert getting.stdout is not None
    opened = re.fullmatch(r"Open (https://\S+)\n", getting.stdout.readline())
    assert opened
    back = person.sign_in(opened[1], SCAN, office.ca.ca_file)
    assert re.match(r"http://localhost:\d+/\?", back)
    assert requests.get(back, timeout=DEADLINE_SECONDS).ok
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "mfp-browser/smtp-quick, in concert" in out
    assert office.statuses()["mfp-browser/smtp-quick"]["token"] == "Retrieved"


def test_where_a_browser_ended_elsewhere_can_be_pasted(office: House) -> None:
    smtp = office.add_printer("mfp-paste")
    started = json.loads(office.done("token", "get", smtp, "--yes", "--flow", "browser", "--no-wait", "--json"))
    assert (started["flow"], started["user_code"]) == ("browser", None)
    back = person.sign_in(started["authorization_uri"], SCAN, office.ca.ca_file)
    another = office.run("token", "redirect", smtp, message=back.replace("state=", "state=x") + "\n")
    assert another.returncode == 2
    assert office.statuses()[smtp]["token"] == "Waiting for authorisation"
    assert office.run("token", "redirect", smtp, message=back + "\n").stdout == f"{smtp}: Retrieved.\n"
    late = office.run("token", "redirect", smtp, message=back + "\n")
    assert (late.returncode, late.stderr) == (
        5,
        f"mailtoken: {smtp}: no browser sign-in is under way: get a token first (mailtoken token get)\n",
    )


def test_an_application_signs_in_itself_with_the_secret_that_is_good(office: House) -> None:
    pop = office.add_printer("mfp-robot").replace("smtp-service", "pop-internet-fax")
    office.done("profile", "set", pop, "provider=robot", f"account={SCAN}")
    assert f"{pop}, {SCAN}" in office.done("token", "get", pop, "--yes", "--flow", "app")
    assert office.statuses()[pop]["token"] == "Retrieved"
    assert office.done("token", "renew", pop).startswith(f"{pop}: Retrieved, access token until")
    assert "robot refuses client secret 1 (invalid_client)" in office.done("provider", "list")


def test_a_flow_the_provider_does_not_have_is_refused_by_name(office: House) -> None:
    smtp = office.add_printer("mfp-flow")
    refused = office.run("token", "get", smtp, "--yes", "--flow", "telepathy")
    assert (refused.returncode, refused.stderr) == (
        2,
        "mailtoken: flow: 'telepathy' is not a flow of provider contoso; it has: device, browser\n",
    )


def test_deleting_says_which_settings_keep_the_provider_from_being_told(office: House) -> None:
    smtp = office.add_printer("mfp-delete")
    pop = smtp.replace("smtp-service", "pop-internet-fax")
    office.get_token(smtp)
    office.get_token(pop)
    assert "forgotten" not in office.done("token", "delete", smtp, "--yes")
    assert office.statuses()[pop]["token"] == "Retrieved"
    shown = office.run("token", "show", pop)
    assert shown.stdout.strip() in office.provider.live_access_tokens(SCAN)


def test_a_registration_is_checked_with_a_remedy_for_what_is_wrong(office: House) -> None:
    good = office.run("provider", "check", "contoso", "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["ok"] is True
    bad = office.run("provider", "check", "robot")
    assert bad.returncode == 1
    assert "client secret 1: the provider refuses: invalid_client" in bad.stdout
    assert "A firewall must let through:" in bad.stdout
    assert Path(office.directory / "new-secret").read_text().strip() not in bad.stdout


def test_checking_an_unknown_provider_names_those_there_are(office: House) -> None:
    unknown = office.run("provider", "check", "fabrikam")
    assert (unknown.returncode, unknown.stderr) == (
        4,
        "mailtoken: no provider is called 'fabrikam'; the configuration has: contoso, robot\n",
    )


def test_a_browser_on_another_machine_comes_back_to_the_service_itself(office: House, tmp_path: Path) -> None:
    house = House(tmp_path / "headless", office.ca, office.provider, office.mail)
    certificate = office.ca.issue()
    port = free_port()
    url = f"https://localhost:{port}/callback"
    with (house.directory / "mailtoken.toml").open("a") as config:
        config.write(
            f'[server.callback]\nurl = "{url}"\nhost = "127.0.0.1"\nport = {port}\n'
            f'certificate_file = "{certificate.cert_file}"\nkey_file = "{certificate.key_file}"\n'
        )
    house.start()
    try:
        smtp = house.add_printer()
        started = json.loads(house.done("token", "get", smtp, "--yes", "--flow", "browser", "--no-wait", "--json"))
        back = person.sign_in(started["authorization_uri"], SCAN, office.ca.ca_file)
        assert back.startswith(url)
        browser = requests.Session()
        browser.trust_env, browser.verify = False, str(office.ca.ca_file)
        foreign = browser.get(back.replace("state=", "state=x"), timeout=DEADLINE_SECONDS)
        assert foreign.status_code == 400
        assert "code=" not in foreign.text
        assert browser.get(f"{url}/../api/v1/status", timeout=DEADLINE_SECONDS).status_code == 400
        assert house.statuses()[smtp]["token"] == "Waiting for authorisation"
        assert browser.get(back, timeout=DEADLINE_SECONDS).status_code == 200
        assert house.statuses()[smtp]["token"] == "Retrieved"
        assert browser.get(back, timeout=DEADLINE_SECONDS).status_code == 400
    finally:
        house.stop()

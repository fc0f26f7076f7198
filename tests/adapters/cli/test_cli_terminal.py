"""What a person sees and answers, in a pseudo-terminal."""

import re

import pytest
from pseudo_terminal import CTRL_C, CTRL_D, PseudoTerminal
from service_process import SCAN, ServiceProcess
from waiting import wait_until


def test_getting_a_token_is_confirmed_shown_and_watched(service: ServiceProcess, smtp: str) -> None:
    with PseudoTerminal(service.directory, ["token", "get", smtp]) as terminal:
        terminal.wait_for("Get the token? [y/N]")
        assert f"{smtp} will use the account {SCAN} at contoso." in terminal.text
        for linked in ("smtp-alert", "smtp-quick", "smtp-initial"):
            assert f"  {smtp.replace('smtp-service', linked)}\n" in terminal.text
        terminal.press("y\n")
        terminal.wait_for("Waiting for authorisation")
        code = service.provider.issued_user_codes[-1]
        assert code in terminal.text
        assert "/device" in terminal.text
        assert "▀▀▀▀▀▀▀" in terminal.text
        wait_until(lambda: len(set(re.findall(r"\d+:\d\d left", terminal.text))) > 1, "the time runs down")
        service.sign_in()
        terminal.wait_for("● Retrieved")
        assert terminal.end() == 0
        assert terminal.text.count("in concert") == 4


@pytest.mark.parametrize("answer", ["n\n", "\n", CTRL_D, CTRL_C])
def test_anything_but_yes_changes_nothing(service: ServiceProcess, smtp: str, answer: str) -> None:
    asked = len(service.provider.issued_user_codes)
    with PseudoTerminal(service.directory, ["token", "get", smtp]) as terminal:
        terminal.wait_for("[y/N]")
        terminal.press(answer)
        assert terminal.end() == 1
        assert "mailtoken: not confirmed: nothing was changed" in terminal.text
    assert len(service.provider.issued_user_codes) == asked


def test_deleting_is_confirmed_and_names_what_changes_in_concert(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    with PseudoTerminal(service.directory, ["token", "delete", smtp]) as terminal:
        terminal.wait_for("Delete the token? [y/N]")
        assert smtp.replace("smtp-service", "smtp-initial") in terminal.text
        terminal.press("y\n")
        assert terminal.end() == 0
    assert service.status(smtp)["token"] == "Not Retrieved"


def test_ctrl_c_stops_watching_and_not_the_sign_in(service: ServiceProcess, smtp: str) -> None:
    with PseudoTerminal(service.directory, ["token", "get", smtp, "--yes"], forked=False) as terminal:
        terminal.wait_for("Waiting for authorisation")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert "the sign-in goes on without this command" in " ".join(terminal.text.split())
        assert "Traceback" not in terminal.text
    assert service.status(smtp)["token"] == "Waiting for authorisation"
    service.done("token", "cancel", smtp)


def test_a_small_terminal_shows_the_code_without_the_picture(service: ServiceProcess, smtp: str) -> None:
    with PseudoTerminal(service.directory, ["token", "get", smtp, "--yes"], columns=40, lines=20) as terminal:
        terminal.wait_for("Waiting for authorisation")
        assert service.provider.issued_user_codes[-1] in terminal.text
        assert "▀▀▀▀▀▀▀" not in terminal.text
        service.done("token", "cancel", smtp)
        assert terminal.end() == 1


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_status_fits_the_terminal(service: ServiceProcess, smtp: str, columns: int) -> None:
    service.get_token(smtp)
    with PseudoTerminal(service.directory, ["status"], columns=columns) as terminal:
        assert terminal.end() == 0
        assert max(map(len, terminal.text.splitlines())) <= columns
        assert "● Retrieved" in terminal.text
        assert "settings: " in terminal.text
        assert "\x1b[32m" in terminal.raw


def test_watching_shows_what_changes_until_ctrl_c(own_service: ServiceProcess) -> None:
    own_service.start()
    smtp = own_service.add_printer()
    with PseudoTerminal(own_service.directory, ["status", "--watch"], columns=130) as terminal:
        seen = terminal.wait_for("7 Not Retrieved")
        own_service.done("token", "get", smtp, "--yes", "--no-wait")
        seen = terminal.wait_for("4 Waiting for authorisation", seen)
        own_service.sign_in()
        seen = terminal.wait_for("4 Retrieved", seen)
        own_service.stop()
        seen = terminal.wait_for("the service is not running", seen)
        own_service.start()
        terminal.wait_for("4 Retrieved", seen)
        terminal.press(CTRL_C)
        assert terminal.end() == 0


def test_a_machine_is_removed_only_when_that_is_confirmed(service: ServiceProcess, smtp: str) -> None:
    machine = smtp.partition("/")[0]
    for answer, code in (("n\n", 1), ("y\n", 0)):
        with PseudoTerminal(service.directory, ["machine", "remove", machine]) as terminal:
            terminal.wait_for("Remove the machine? [y/N]")
            assert f"  {machine}/pop-email-print\n" in terminal.text
            terminal.press(answer)
            assert terminal.end() == code
        is_listed = machine in service.done("machine", "list")
        assert is_listed is (code == 1)

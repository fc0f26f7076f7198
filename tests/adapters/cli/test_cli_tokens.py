"""A token's life as an administrator sees it: get, wait, renew, cancel, delete, status and the record of it all."""

import json
import signal

import pytest
from mailtoken_house import DEADLINE_SECONDS, FAX, SCAN, House, wait_until

CODE_FIELDS = {
    "profile",
    "flow",
    "user_code",
    "verification_uri",
    "verification_uri_complete",
    "authorization_uri",
    "expires_at",
}


def linked_with(smtp: str) -> list[str]:
    return [smtp.replace("smtp-service", name) for name in ("smtp-alert", "smtp-quick", "smtp-initial")]


def test_get_shows_the_code_waits_and_tells_which_settings_it_updated(house: House, smtp: str) -> None:
    getting = house.begin("token", "get", smtp, "--yes")
    said = house.wait_for_code(getting)
    assert house.provider.issued_user_codes[-1] in said
    assert f"user_code={house.provider.issued_user_codes[-1]}" in said
    assert house.statuses()[smtp]["token"] == "Waiting for authorisation"
    house.sign_in()
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "\x1b" not in said + out
    for name in (smtp, *linked_with(smtp)):
        assert name in out
        assert house.statuses()[name]["token"] == "Retrieved"
        assert house.statuses()[name]["account"] == SCAN


def test_no_wait_prints_the_code_and_returns(house: House, pop: str) -> None:
    printed = json.loads(house.done("token", "get", pop, "--yes", "--no-wait", "--json"))
    assert set(printed) == CODE_FIELDS
    assert (printed["profile"], printed["flow"], printed["authorization_uri"]) == (pop, "device", None)
    assert printed["user_code"] == house.provider.issued_user_codes[-1]
    house.sign_in()
    wait_until(lambda: house.statuses()[pop]["token"] == "Retrieved", "the token is there")
    plain = house.done("token", "get", pop, "--yes", "--no-wait")
    assert house.provider.issued_user_codes[-1] in plain
    house.done("token", "cancel", pop)


def test_get_with_json_prints_the_code_for_the_person_and_the_status_for_the_program(house: House, pop: str) -> None:
    getting = house.begin("token", "get", pop, "--yes", "--json")
    assert getting.stderr is not None
    said = [getting.stderr.readline() for _ in range(4)]
    assert house.provider.issued_user_codes[-1] in said[0]
    assert said[-1].startswith("Waiting")
    house.sign_in()
    out, _ = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 0
    assert (json.loads(out)["profile"], json.loads(out)["token"]) == (pop, "Retrieved")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("decline", "The sign-in was declined"),
        ("cancel", "The sign-in was cancelled"),
        ("somebody else", f"{FAX} signed in where {SCAN} was asked for"),
        ("delete", "the token is Not Retrieved"),
    ],
)
def test_an_attempt_that_ends_without_a_token_says_why(house: House, smtp: str, what: str, said: str) -> None:
    getting = house.begin("token", "get", smtp, "--yes")
    house.wait_for_code(getting)
    match what:
        case "decline":
            house.decline()
        case "cancel":
            house.done("token", "cancel", linked_with(smtp)[0])
        case "delete":
            house.done("token", "delete", smtp, "--yes")
        case _:
            house.sign_in(FAX)
    _, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 1
    assert err.startswith(f"mailtoken: {smtp}: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_code_that_runs_out_says_so(house: House, smtp: str) -> None:
    usual = house.provider.rules.device_code_seconds
    house.provider.rules.device_code_seconds = 2
    try:
        done = house.run("token", "get", smtp, "--yes")
    finally:
        house.provider.rules.device_code_seconds = usual
    assert done.returncode == 1
    assert done.stderr == f"mailtoken: {smtp}: The code ran out before anybody signed in: get the token again.\n"


def test_a_token_that_was_renewed_before_anybody_looked_was_still_brought_by_this_sign_in(
    house: House, smtp: str
) -> None:
    getting = house.begin("token", "get", smtp, "--yes")
    house.wait_for_code(getting)
    getting.send_signal(signal.SIGSTOP)
    house.sign_in()
    wait_until(lambda: house.statuses()[smtp]["token"] == "Retrieved", "the token is there")
    house.done("token", "renew", smtp)
    getting.send_signal(signal.SIGCONT)
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "Retrieved" in out


def test_a_working_token_survives_an_attempt_that_fails(house: House, smtp: str) -> None:
    house.get_token(smtp)
    getting = house.begin("token", "get", smtp, "--yes")
    house.wait_for_code(getting)
    house.decline()
    _, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 1
    assert err.endswith("The token that was there goes on working.\n")
    assert house.run("token", "show", smtp).returncode == 0


def test_interrupting_the_wait_leaves_the_sign_in_under_way(house: House, smtp: str) -> None:
    getting = house.begin("token", "get", smtp, "--yes")
    house.wait_for_code(getting)
    getting.send_signal(signal.SIGINT)
    _, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 130
    assert f"mailtoken token cancel {smtp} ends it" in err
    house.sign_in()
    wait_until(lambda: house.statuses()[smtp]["token"] == "Retrieved", "the token is there")


def test_waiting_survives_a_restart_of_the_service(own_house: House) -> None:
    own_house.start()
    smtp = own_house.add_printer()
    getting = own_house.begin("token", "get", smtp, "--yes")
    own_house.wait_for_code(getting)
    own_house.stop()
    own_house.sign_in()
    own_house.start()
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "Retrieved" in out


def test_a_second_attempt_is_refused_while_one_is_under_way(house: House, smtp: str) -> None:
    house.done("token", "get", smtp, "--yes", "--no-wait")
    refused = house.run("token", "get", linked_with(smtp)[0], "--yes")
    assert refused.returncode == 5
    house.done("token", "cancel", smtp)


def test_a_provider_that_cannot_be_reached_changes_nothing(own_house: House) -> None:
    own_house.start()
    smtp = own_house.add_printer()
    own_house.provider.misbehave("server_error", endpoint="device_authorization", times=None)
    try:
        done = own_house.run("token", "get", smtp, "--yes")
    finally:
        own_house.provider.behave()
    assert (done.returncode, done.stdout) == (6, "")
    assert own_house.statuses()[smtp]["token"] == "Not Retrieved"


def test_a_flow_that_is_not_there_is_a_usage_error(house: House, smtp: str) -> None:
    done = house.run("token", "get", smtp, "--yes", "--flow", "carrier-pigeon")
    assert done.returncode == 2
    assert "'carrier-pigeon'" in done.stderr


def test_renewing_says_how_long_the_token_is_good(house: House, smtp: str) -> None:
    assert house.run("token", "renew", smtp).returncode == 5
    house.get_token(smtp)
    before = house.done("token", "show", smtp)
    assert house.done("token", "renew", linked_with(smtp)[0]).startswith(f"{linked_with(smtp)[0]}: Retrieved, ")
    assert house.done("token", "show", smtp) != before


def test_deleting_names_every_setting_that_changed(house: House, smtp: str) -> None:
    house.get_token(smtp)
    said = house.done("token", "delete", linked_with(smtp)[1], "--yes")
    for name in (smtp, *linked_with(smtp)):
        assert f"{name}: Not Retrieved.\n" in said
    again = house.run("token", "delete", smtp, "--yes")
    assert (again.returncode, again.stdout) == (5, "")
    assert "there is nothing to delete" in again.stderr


# Status


def test_status_is_a_plain_line_for_each_setting_where_there_is_no_terminal(house: House, smtp: str) -> None:
    house.get_token(smtp)
    lines = house.done("status").splitlines()
    assert "\x1b" not in "".join(lines)
    assert not any(line.endswith(" ") for line in lines)
    (line,) = (line for line in lines if line.startswith(smtp))
    assert "Retrieved" in line
    assert SCAN in line


def test_status_of_one_setting_is_a_list_of_one(house: House, smtp: str) -> None:
    (one,) = json.loads(house.done("status", smtp, "--json"))
    assert one["profile"] == smtp
    wanted = {"profile", "machine", "protocol", "token", "group", "provider", "account", "mailbox"}
    assert wanted | {"since", "expires_at", "reason", "attention"} <= set(one)


def test_status_as_of_an_instant_is_what_was_so_then(house: House, smtp: str) -> None:
    created = house.statuses()[smtp]["since"]
    house.get_token(smtp)
    then = house.statuses("--as-of", created)
    assert then[smtp]["token"] == "Not Retrieved"
    assert house.statuses()[smtp]["token"] == "Retrieved"
    before = house.run("status", smtp, "--as-of", "2020-01-01T00:00:00Z")
    assert before.returncode == 4


def test_check_is_for_monitoring(own_house: House) -> None:
    own_house.start()
    smtp = own_house.add_printer()
    own_house.get_token(smtp)
    assert own_house.run("status", "--check").returncode == 0
    own_house.provider.disable_account(SCAN)
    try:
        assert own_house.run("token", "renew", smtp).returncode == 1
        checked = own_house.run("status", "--check", "--json")
        assert checked.returncode == 1
        assert json.loads(checked.stdout)
        assert checked.stderr.startswith("mailtoken: a person is needed for 4 of 7 settings: ")
        shown = own_house.run("status")
        assert shown.returncode == 0
        assert "The account is disabled, locked or not allowed to use this application" in shown.stdout
    finally:
        own_house.provider.enable_account(SCAN)
    own_house.done("token", "renew", smtp)
    assert own_house.run("status", "--check").returncode == 0


def test_watching_needs_a_terminal(house: House) -> None:
    done = house.run("status", "--watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr


# The record


def test_the_log_says_when_what_happened_and_who_did_it(house: House, smtp: str) -> None:
    house.get_token(smtp)
    house.done("token", "delete", smtp, "--yes")
    lines = house.done("audit", "log", smtp).splitlines()
    assert any("sign-in begun for scan@contoso.com at contoso" in line and "operator:" in line for line in lines)
    assert any("Retrieved for scan@contoso.com" in line and "worker" in line for line in lines)
    assert "token deleted: Not Retrieved" in house.done("audit", "log", smtp)
    assert "{" not in house.done("audit", "log")
    records = json.loads(house.done("audit", "log", smtp, "--json"))
    assert {record["profile"] for record in records} == {smtp}
    assert records[-1]["event"] == "TokenDeleted"


def test_the_log_of_a_removed_setting_is_still_there(house: House, smtp: str) -> None:
    house.done("machine", "remove", smtp.partition("/")[0])
    assert "setting removed" in house.done("audit", "log", smtp)


def test_export_is_one_json_object_a_line_in_the_order_of_the_log(house: House, smtp: str) -> None:
    exported = [json.loads(line) for line in house.done("audit", "export").splitlines()]
    positions = [record["position"] for record in exported]
    assert positions == sorted(positions)
    assert exported == json.loads(house.done("audit", "log", "--json"))[: len(exported)]


def test_the_record_can_be_verified_beside_a_service_that_runs(house: House, smtp: str) -> None:
    house.get_token(smtp)
    assert "events verified" in house.done("audit", "verify")
    house.done("audit", "rebuild")
    assert json.loads(house.done("audit", "verify", "--json"))["findings"] == []
    assert house.run("token", "show", smtp).returncode == 0


def test_no_secret_is_ever_shown_but_by_token_show(house: House, smtp: str) -> None:
    house.get_token(smtp)
    for line in (("status",), ("status", "--json"), ("profile", "show", smtp), ("audit", "export"), ("test", smtp)):
        said = house.done(*line)
        assert not [secret for secret in house.provider.issued_secrets if secret in said]

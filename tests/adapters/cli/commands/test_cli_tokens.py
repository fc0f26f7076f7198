"""A token's life as an administrator sees it: get, wait, renew, cancel, delete, status and the record of it all."""

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest
from client_certificates import BEGINS_AT, certificate_pem, private_pem, rsa_key
from command_line import Command
from ports import free_port
from service_process import FAX, SCAN, ServiceProcess
from waiting import DEADLINE_SECONDS, wait_until

CODE_FIELDS = {
    "profile",
    "flow",
    "user_code",
    "verification_uri",
    "verification_uri_complete",
    "authorization_uri",
    "expires_at",
}


def wait_for_code(getting: Command) -> str:
    """Read until the command waits; what it has said so far."""
    assert getting.stdout is not None
    said = ""
    for line in getting.stdout:
        said += line
        if line.startswith("Waiting"):
            return said
    raise AssertionError(f"it never waited: {said} {getting.communicate()}")


def linked_with(smtp: str) -> list[str]:
    return [smtp.replace("smtp-service", name) for name in ("smtp-alert", "smtp-quick", "smtp-initial")]


def test_get_shows_the_code_waits_and_tells_which_settings_it_updated(service: ServiceProcess, smtp: str) -> None:
    getting = service.begin("token", "get", smtp, "--yes")
    said = wait_for_code(getting)
    assert service.provider.issued_user_codes[-1] in said
    assert f"user_code={service.provider.issued_user_codes[-1]}" in said
    assert service.status(smtp)["token"] == "Waiting for authorisation"
    service.sign_in()
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "\x1b" not in said + out
    for name in (smtp, *linked_with(smtp)):
        assert name in out
        assert service.status(name)["token"] == "Retrieved"
        assert service.status(name)["account"] == SCAN


def test_no_wait_prints_the_code_and_returns(service: ServiceProcess, pop: str) -> None:
    printed = json.loads(service.done("token", "get", pop, "--yes", "--no-wait", "--json"))
    assert set(printed) == CODE_FIELDS
    assert (printed["profile"], printed["flow"], printed["authorization_uri"]) == (pop, "device", None)
    assert printed["user_code"] == service.provider.issued_user_codes[-1]
    service.sign_in()
    wait_until(lambda: service.status(pop)["token"] == "Retrieved", "the token is there")
    plain = service.done("token", "get", pop, "--yes", "--no-wait")
    assert service.provider.issued_user_codes[-1] in plain
    service.done("token", "cancel", pop)


def test_the_code_of_a_sign_in_under_way_is_shown_again(service: ServiceProcess, pop: str) -> None:
    none = service.run("token", "code", pop)
    assert (none.returncode, "no sign-in is under way" in none.stderr) == (5, True)
    printed = json.loads(service.done("token", "get", pop, "--yes", "--no-wait", "--json"))
    assert json.loads(service.done("token", "code", pop, "--json")) == printed
    assert printed["user_code"] in service.done("token", "code", pop)
    again = service.run("token", "get", pop, "--yes")
    assert (again.returncode, "mailtoken token code" in again.stderr) == (5, True)
    service.done("token", "cancel", pop)


def test_a_registration_that_is_refused_is_told_while_the_command_waits(service: ServiceProcess, pop: str) -> None:
    getting = service.begin("token", "get", pop, "--yes")
    wait_for_code(getting)
    service.provider.inject_fault("error", error="invalid_client", status=401, error_codes=[7000218], times=None)
    try:
        assert getting.stdout is not None
        said = next(line for line in getting.stdout if "AADSTS" in line)
        assert "does not allow public client flows" in said
        assert "(AADSTS7000218)" in said
    finally:
        service.provider.clear_faults()
        service.done("token", "cancel", pop)
        getting.communicate(timeout=DEADLINE_SECONDS)


def test_get_with_json_prints_the_code_for_the_person_and_the_status_for_the_program(
    service: ServiceProcess, pop: str
) -> None:
    getting = service.begin("token", "get", pop, "--yes", "--json")
    assert getting.stderr is not None
    said = [getting.stderr.readline() for _ in range(4)]
    assert service.provider.issued_user_codes[-1] in said[0]
    assert said[-1].startswith("Waiting")
    service.sign_in()
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
def test_an_attempt_that_ends_without_a_token_says_why(
    service: ServiceProcess, smtp: str, what: str, said: str
) -> None:
    getting = service.begin("token", "get", smtp, "--yes")
    wait_for_code(getting)
    match what:
        case "decline":
            service.decline()
        case "cancel":
            service.done("token", "cancel", linked_with(smtp)[0])
        case "delete":
            service.done("token", "delete", smtp, "--yes")
        case _:
            service.sign_in(account=FAX)
    _, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 1
    assert err.startswith(f"mailtoken: {smtp}: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_code_that_runs_out_says_so(service: ServiceProcess, smtp: str) -> None:
    usual = service.provider.rules.device_code_seconds
    service.provider.rules.device_code_seconds = 2
    try:
        done = service.run("token", "get", smtp, "--yes")
    finally:
        service.provider.rules.device_code_seconds = usual
    assert done.returncode == 1
    assert done.stderr == f"mailtoken: {smtp}: The code ran out before anybody signed in: get the token again.\n"


def test_a_token_that_was_renewed_before_anybody_looked_was_still_brought_by_this_sign_in(
    service: ServiceProcess, smtp: str
) -> None:
    getting = service.begin("token", "get", smtp, "--yes")
    wait_for_code(getting)
    getting.send_signal(signal.SIGSTOP)
    service.sign_in()
    wait_until(lambda: service.status(smtp)["token"] == "Retrieved", "the token is there")
    service.done("token", "renew", smtp)
    getting.send_signal(signal.SIGCONT)
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "Retrieved" in out


def test_a_working_token_survives_an_attempt_that_fails(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    getting = service.begin("token", "get", smtp, "--yes")
    wait_for_code(getting)
    service.decline()
    _, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 1
    assert err.endswith("The token that was there goes on working.\n")
    assert service.run("token", "show", smtp).returncode == 0


def test_interrupting_the_wait_leaves_the_sign_in_under_way(service: ServiceProcess, smtp: str) -> None:
    getting = service.begin("token", "get", smtp, "--yes", forked=False)
    wait_for_code(getting)
    getting.send_signal(signal.SIGINT)
    _, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert getting.returncode == 130
    assert f"mailtoken token cancel {smtp} ends it" in err
    service.sign_in()
    wait_until(lambda: service.status(smtp)["token"] == "Retrieved", "the token is there")


def test_waiting_survives_a_restart_of_the_service(own_service: ServiceProcess) -> None:
    own_service.start()
    smtp = own_service.add_printer()
    getting = own_service.begin("token", "get", smtp, "--yes")
    wait_for_code(getting)
    assert own_service.stop() == 0
    own_service.sign_in()
    own_service.start(forked=False)
    out, err = getting.communicate(timeout=DEADLINE_SECONDS)
    assert (getting.returncode, err) == (0, "")
    assert "Retrieved" in out


def test_a_second_attempt_is_refused_while_one_is_under_way(service: ServiceProcess, smtp: str) -> None:
    service.done("token", "get", smtp, "--yes", "--no-wait")
    refused = service.run("token", "get", linked_with(smtp)[0], "--yes")
    assert refused.returncode == 5
    service.done("token", "cancel", smtp)


def test_a_provider_that_cannot_be_reached_changes_nothing(own_service: ServiceProcess) -> None:
    own_service.start()
    smtp = own_service.add_printer()
    own_service.provider.inject_fault("server_error", endpoint="device_authorization", times=None)
    try:
        done = own_service.run("token", "get", smtp, "--yes")
    finally:
        own_service.provider.clear_faults()
    assert (done.returncode, done.stdout) == (6, "")
    assert own_service.status(smtp)["token"] == "Not Retrieved"


def test_a_flow_that_is_not_there_is_a_usage_error(service: ServiceProcess, smtp: str) -> None:
    done = service.run("token", "get", smtp, "--yes", "--flow", "carrier-pigeon")
    assert done.returncode == 2
    assert "'carrier-pigeon'" in done.stderr


def test_renewing_says_how_long_the_token_is_good(service: ServiceProcess, smtp: str) -> None:
    assert service.run("token", "renew", smtp).returncode == 5
    service.get_token(smtp)
    before = service.done("token", "show", smtp)
    assert service.done("token", "renew", linked_with(smtp)[0]).startswith(f"{linked_with(smtp)[0]}: Retrieved, ")
    assert service.done("token", "show", smtp) != before


def test_deleting_names_every_setting_that_changed(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    said = service.done("token", "delete", linked_with(smtp)[1], "--yes")
    for name in (smtp, *linked_with(smtp)):
        assert f"{name}: Not Retrieved.\n" in said
    again = service.run("token", "delete", smtp, "--yes")
    assert (again.returncode, again.stdout) == (5, "")
    assert "there is nothing to delete" in again.stderr


# Status


def test_status_is_a_plain_line_for_each_setting_where_there_is_no_terminal(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    lines = service.run("status", forked=False).stdout.splitlines()
    assert "\x1b" not in "".join(lines)
    assert not any(line.endswith(" ") for line in lines)
    (line,) = (line for line in lines if line.startswith(smtp))
    assert "Retrieved" in line
    assert SCAN in line


def test_status_of_one_setting_is_a_list_of_one(service: ServiceProcess, smtp: str) -> None:
    (one,) = json.loads(service.done("status", smtp, "--json"))
    assert one["profile"] == smtp
    wanted = {"profile", "machine", "protocol", "token", "group", "provider", "account", "mailbox"}
    assert wanted | {"since", "expires_at", "reason", "attention"} <= set(one)


def test_status_as_of_an_instant_is_what_was_so_then(service: ServiceProcess, smtp: str) -> None:
    created = service.status(smtp)["since"]
    service.get_token(smtp)
    wait_until(lambda: datetime.now(UTC) >= datetime.fromisoformat(created) + timedelta(seconds=1), "a second to pass")
    then = json.loads(service.done("status", smtp, "--json", "--as-of", created))
    assert [one["token"] for one in then] == ["Not Retrieved"]
    assert service.status(smtp)["token"] == "Retrieved"
    before = service.run("status", smtp, "--as-of", "2020-01-01T00:00:00Z")
    assert before.returncode == 4


def test_as_of_is_in_the_readers_time_zone_says_what_it_leaves_out_and_refuses_the_future(
    service: ServiceProcess,
) -> None:
    for offline in ((), ("--offline",)):
        then = service.run("status", "--as-of", "2020-01-01T10:00", *offline, TZ="Asia/Kolkata")
        assert then.returncode == 0
        assert "as of 2020-01-01 10:00:00+05:30: alarms of the running service are of now" in then.stderr
        future = service.run("status", "--as-of", "2040-01-01T10:00", *offline, TZ="Asia/Kolkata")
        assert future.returncode == 2
        assert future.stderr == (
            "mailtoken: --as-of: 2040-01-01 10:00:00+05:30 has not come yet: choose an instant that is past\n"
        )


def test_check_is_for_monitoring(own_service: ServiceProcess) -> None:
    own_service.start()
    smtp = own_service.add_printer()
    own_service.get_token(smtp)
    assert own_service.run("status", "--check").returncode == 0
    own_service.provider.disable_account(SCAN)
    try:
        assert own_service.run("token", "renew", smtp).returncode == 1
        checked = own_service.run("status", "--check", "--json")
        assert checked.returncode == 1
        assert json.loads(checked.stdout)
        assert checked.stderr.startswith("mailtoken: a person is needed for 4 settings, from 1 cause: ")
        told = own_service.run("status", "--check")
        assert (told.returncode, told.stdout, told.stderr) == (1, "", checked.stderr)
        shown = own_service.run("status")
        assert shown.returncode == 0
        assert "The account is disabled, locked or not allowed to use this application" in shown.stdout
    finally:
        own_service.provider.enable_account(SCAN)
    own_service.done("token", "renew", smtp)
    assert own_service.run("status", "--check").returncode == 0


def test_check_tells_of_a_certificate_that_ends_within_a_month_until_it_is_replaced(
    own_service: ServiceProcess,
) -> None:
    key, table = rsa_key(), "[server.callback]"
    port, directory = free_port(), own_service.directory

    def put(days: int) -> None:
        certificate = certificate_pem(key, datetime.now(UTC) + timedelta(days=days, hours=1) - BEGINS_AT)
        (directory / "callback.crt").write_text(certificate)

    (directory / "callback.key").write_text(private_pem(key))
    (directory / "callback.key").chmod(0o600)
    put(29)
    own_service.configure(
        f'{table}\nurl = "https://localhost:{port}/"\nhost = "127.0.0.1"\nport = {port}\n'
        'certificate_file = "callback.crt"\nkey_file = "callback.key"\n'
    )
    own_service.start()
    own_service.add_printer()
    for offline in ([], ["--offline"]):
        checked = own_service.run("status", "--check", *offline)
        assert checked.returncode == 1
        assert f"The certificate of {table} ends at " in checked.stderr
        assert checked.stderr.endswith("mailtoken: a person is needed for a certificate\n")
    state = own_service.ask("GET", "/api/v1/store")
    assert state["attention"] == ["certificate_ends"]
    assert [(one["table"], one["attention"]) for one in state["certificates"]] == [(table, "certificate_ends")]
    put(90)
    for offline in ([], ["--offline"]):
        assert own_service.run("status", "--check", *offline).returncode == 0
    assert own_service.ask("GET", "/api/v1/store")["attention"] == []


def test_watching_needs_a_terminal(service: ServiceProcess) -> None:
    done = service.run("status", "--watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr


# The record


def test_the_log_says_when_what_happened_and_who_did_it(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    service.done("token", "delete", smtp, "--yes")
    lines = service.done("audit", "log", smtp).splitlines()
    assert any("sign-in begun for scan@contoso.com at contoso" in line and ", operator" in line for line in lines)
    assert any("Retrieved for scan@contoso.com" in line and "worker" in line for line in lines)
    assert "token deleted: Not Retrieved" in service.done("audit", "log", smtp)
    assert "{" not in service.done("audit", "log")
    records = json.loads(service.done("audit", "log", smtp, "--json"))
    assert {record["profile"] for record in records} == {smtp}
    assert records[-1]["event"] == "TokenDeleted"


def test_the_log_of_a_machine_has_its_own_events_and_those_of_all_its_settings(
    service: ServiceProcess, smtp: str
) -> None:
    machine = smtp.partition("/")[0]
    of_one = json.loads(service.done("audit", "log", smtp, "--json"))
    of_all = json.loads(service.done("audit", "log", machine, "--json"))
    assert {one["position"] for one in of_one} < {one["position"] for one in of_all}
    service.done("machine", "tag", machine, "lobby")
    own = [one for one in json.loads(service.done("audit", "log", machine, "--json")) if one["aggregate"] == "Machine"]
    assert [(one["event"], one["machine"]) for one in own] == [("Created", machine), ("Tagged", machine)]
    assert all(one["profile"] is None or one["profile"].startswith(f"{machine}/") for one in of_all)


def test_the_log_of_a_removed_setting_is_still_there(service: ServiceProcess, smtp: str) -> None:
    service.done("machine", "remove", smtp.partition("/")[0], "--yes")
    assert "setting removed" in service.done("audit", "log", smtp)


def test_export_is_one_json_object_a_line_in_the_order_of_the_log(service: ServiceProcess, smtp: str) -> None:
    exported = [json.loads(line) for line in service.done("audit", "export").splitlines()]
    positions = [record["position"] for record in exported]
    assert positions == sorted(positions)
    assert exported == json.loads(service.done("audit", "log", "--json"))[: len(exported)]


def test_the_record_can_be_verified_beside_a_service_that_runs(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    assert "events verified" in service.done("audit", "verify")
    service.done("audit", "rebuild")
    assert json.loads(service.done("audit", "verify", "--json"))["findings"] == []
    assert service.run("token", "show", smtp).returncode == 0


def test_no_secret_is_ever_shown_but_by_token_show(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    for line in (("status",), ("status", "--json"), ("profile", "show", smtp), ("audit", "export"), ("test", smtp)):
        said = service.done(*line)
        assert not [secret for secret in service.provider.issued_secrets if secret in said]

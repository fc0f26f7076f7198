"""`mailtoken test` against a real Dovecot: each protocol, way into TLS, mechanism and length of token."""

from __future__ import annotations

import re

import pytest
from dovecot import Dovecot
from peer_service import LENGTHS, LISTENERS, OfficeService, Own, Renew, Settings
from practice_faults.provider import FaultyProvider
from service_process import SCAN

from adapters.mail.sasl_client import Mechanism

LAST_COMMAND = {"smtp": "mail", "pop": "stat", "imap": "examine"}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize(("protocol", "tls"), LISTENERS)
def test_a_connection_is_tested_to_the_end(
    service_process: OfficeService,
    settings: Settings,
    renewed: Renew,
    protocol: str,
    tls: str,
    mechanism: Mechanism,
    length: int,
) -> None:
    profile = settings[mechanism, protocol, tls]
    renewed(profile, length)
    report = service_process.service.test(profile, None)
    assert (report["ok"], report["verdict"]) == (True, f"The server accepted the token for {SCAN}."), report
    steps = ["resolve", "connect", "greeting", "tls", "capabilities", "auth", LAST_COMMAND[protocol], "quit"]
    assert sorted(step["name"] for step in report["steps"]) == sorted(steps)
    assert all(step["ok"] for step in report["steps"])
    assert next(s["detail"] for s in report["steps"] if s["name"] == "auth").startswith(f"{mechanism} as {SCAN}: ")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_test_message_arrives(
    service_process: OfficeService,
    settings: Settings,
    renewed: Renew,
    dovecot: Dovecot,
    mechanism: Mechanism,
    tls: str,
    length: int,
) -> None:
    profile, to = settings[mechanism, "smtp", tls], f"{mechanism}.{tls}.{length}@example.org".lower()
    renewed(profile, length)
    report = service_process.service.test(profile, to)
    assert (report["ok"], report["verdict"]) == (True, f"The server accepted the message for {to}.")
    assert dovecot.exchanger.envelopes[-1].mail_from == SCAN
    (message,) = dovecot.messages(to)
    assert f"Subject: Mailtoken connection test of {profile}".encode() in message


def test_the_command_shows_each_step_with_its_time_and_a_verdict(
    service_process: OfficeService, settings: Settings
) -> None:
    done = service_process.run("test", settings[Mechanism.XOAUTH2, "smtp", "starttls"])
    *steps, verdict = done.stdout.splitlines()
    assert (done.returncode, verdict) == (0, f"The server accepted the token for {SCAN}.")
    assert all(re.fullmatch(r"✓ \w+ +\d+\.\d\d s  .+", step) for step in steps), done.stdout
    assert "certificate of localhost, issued by Mailtoken practice CA, valid until" in done.stdout


@pytest.mark.parametrize("protocol", ["smtp", "pop", "imap"])
def test_a_token_that_the_server_rejects_is_renewed_once(
    service_process: OfficeService, provider: FaultyProvider, own: Own, protocol: str
) -> None:
    account = f"expired-{protocol}@contoso.com"
    profile = own(account, protocol)
    provider.expire_access_tokens(account)
    before = provider.grant_counts["refresh_token"]
    report = service_process.service.test(profile, None)
    assert (report["ok"], report["verdict"]) == (True, f"The server accepted the token for {account}.")
    assert [(step["name"], step["ok"]) for step in report["steps"] if step["name"] in ("auth", "renew")] == [
        *(("auth", False), ("renew", True), ("auth", True)),
    ]
    assert provider.grant_counts["refresh_token"] == before + 1


def test_a_renewed_token_that_is_rejected_too_is_not_renewed_again(
    service_process: OfficeService, provider: FaultyProvider, own: Own
) -> None:
    profile = own("shared@contoso.com")
    service_process.service.patch(f"/api/v1/profiles/{profile}", {"mailbox": "somebody.else@contoso.com"})
    before = provider.grant_counts["refresh_token"]
    report = service_process.service.test(profile, None)
    assert (report["ok"], report["fault"]) == (False, "permission")
    assert "and the renewed one as well: check that the account may use this mailbox" in report["verdict"]
    assert provider.grant_counts["refresh_token"] == before + 1
    assert service_process.status(profile)["token"] == "Retrieved"


def test_a_shared_mailbox_that_is_refused_by_smtp_says_who_signs_in_and_who_sends(
    service_process: OfficeService, own: Own
) -> None:
    profile = own("reports@contoso.com", "smtp")
    service_process.service.patch(f"/api/v1/profiles/{profile}", {"mailbox": "scanner@contoso.com"})
    done = service_process.run("test", profile)
    assert done.returncode == 1
    assert "set Mailbox to reports@contoso.com and Sender Address to scanner@contoso.com" in done.stderr
    assert (
        "Add-RecipientPermission scanner@contoso.com -Trustee reports@contoso.com -AccessRights SendAs" in done.stderr
    )
    assert "The server said: 535" in done.stderr


def test_a_renewal_that_fails_is_told_in_the_words_of_the_manual(
    service_process: OfficeService, provider: FaultyProvider, own: Own
) -> None:
    profile = own("revoked@contoso.com", "smtp")
    provider.revoke_account("revoked@contoso.com")
    done = service_process.run("test", profile)
    assert done.returncode == 1
    assert "✗ renew" in done.stdout
    said = "Token update failed. Please delete the token and obtain it again. (At fault: the token.)"
    assert done.stderr == f"mailtoken: {profile}: {said}\n"
    assert service_process.status(profile)["token"] == "Invalid"


def test_a_provider_that_is_away_leaves_the_token_as_it_is(
    service_process: OfficeService, provider: FaultyProvider, own: Own
) -> None:
    profile = own("away@contoso.com", "pop")
    provider.expire_access_tokens("away@contoso.com")
    with provider.inject_fault("temporarily_unavailable", grant_type="refresh_token", times=None):
        report = service_process.service.test(profile, None)
    assert report["fault"] == "token"
    assert "Renewing it did not work either: " in report["verdict"]
    assert service_process.status(profile)["token"] == "Retrieved"
    assert service_process.service.test(profile, None)["ok"]


@pytest.mark.parametrize("protocol", ["smtp", "pop", "imap"])
def test_a_server_that_cannot_ask_the_provider_says_nothing_about_the_token(
    service_process: OfficeService, provider: FaultyProvider, own: Own, protocol: str
) -> None:
    profile = own(f"unasked-{protocol}@contoso.com", protocol)
    before = provider.grant_counts["refresh_token"]
    with provider.inject_fault("server_error", endpoint="introspection", times=None):
        report = service_process.service.test(profile, None)
    assert (report["ok"], report["fault"]) == (False, "server")
    assert "says nothing about the token: try again later" in report["verdict"]
    assert provider.grant_counts["refresh_token"] == before


def test_a_recipient_that_is_refused_is_said(service_process: OfficeService, settings: Settings) -> None:
    report = service_process.service.test(settings[Mechanism.XOAUTH2, "smtp", "starttls"], "nobody@example.org")
    assert (report["ok"], report["fault"]) == (False, "mailbox")
    assert "check the address" in report["verdict"]
    assert "5.1.1" in report["reply"]

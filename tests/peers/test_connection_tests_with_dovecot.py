"""`mailtoken test` against a real Dovecot: each protocol, way into TLS, mechanism and length of token."""

from __future__ import annotations

import re

import pytest
from dovecot import Dovecot
from office import LENGTHS, LISTENERS, SCAN, Office, Own, Renew, Settings

from adapters.mail.sasl import Mechanism
from adapters.practice.provider import PracticeProvider

LAST_COMMAND = {"smtp": "mail", "pop": "stat", "imap": "examine"}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize(("protocol", "tls"), LISTENERS)
def test_a_connection_is_tested_to_the_end(
    office: Office, settings: Settings, renewed: Renew, protocol: str, tls: str, mechanism: Mechanism, length: int
) -> None:
    profile = settings[mechanism, protocol, tls]
    renewed(profile, length)
    report = office.service.test(profile, None)
    assert (report["ok"], report["verdict"]) == (True, f"The server accepted the token for {SCAN}."), report
    steps = ["resolve", "connect", "greeting", "tls", "capabilities", "auth", LAST_COMMAND[protocol], "quit"]
    assert sorted(step["name"] for step in report["steps"]) == sorted(steps)
    assert all(step["ok"] for step in report["steps"])
    assert next(s["detail"] for s in report["steps"] if s["name"] == "auth").startswith(f"{mechanism} as {SCAN}: ")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_test_message_arrives(
    office: Office, settings: Settings, renewed: Renew, dovecot: Dovecot, mechanism: Mechanism, tls: str, length: int
) -> None:
    profile, to = settings[mechanism, "smtp", tls], f"{mechanism}.{tls}.{length}@example.org".lower()
    renewed(profile, length)
    report = office.service.test(profile, to)
    assert (report["ok"], report["verdict"]) == (True, f"The server accepted the message for {to}.")
    assert dovecot.exchanger.envelopes[-1].mail_from == SCAN
    (message,) = dovecot.messages(to)
    assert f"Subject: Mailtoken connection test of {profile}".encode() in message


def test_the_command_shows_each_step_with_its_time_and_a_verdict(office: Office, settings: Settings) -> None:
    done = office.run("test", settings[Mechanism.XOAUTH2, "smtp", "starttls"])
    *steps, verdict = done.stdout.splitlines()
    assert (done.returncode, verdict) == (0, f"The server accepted the token for {SCAN}.")
    assert all(re.fullmatch(r"✓ \w+ +\d+\.\d\d s  .+", step) for step in steps), done.stdout
    assert "certificate of localhost, issued by Mailtoken practice CA, valid until" in done.stdout


@pytest.mark.parametrize("protocol", ["smtp", "pop", "imap"])
def test_a_token_that_the_server_rejects_is_renewed_once(
    office: Office, provider: PracticeProvider, own: Own, protocol: str
) -> None:
    account = f"expired-{protocol}@contoso.com"
    profile = own(account, protocol)
    provider.expire_access_tokens(account)
    before = provider.grant_counts["refresh_token"]
    report = office.service.test(profile, None)
    assert (report["ok"], report["verdict"]) == (True, f"The server accepted the token for {account}.")
    assert [(step["name"], step["ok"]) for step in report["steps"] if step["name"] in ("auth", "renew")] == [
        *(("auth", False), ("renew", True), ("auth", True)),
    ]
    assert provider.grant_counts["refresh_token"] == before + 1


def test_a_renewed_token_that_is_rejected_too_is_not_renewed_again(
    office: Office, provider: PracticeProvider, own: Own
) -> None:
    profile = own("shared@contoso.com")
    office.service.patch(f"/api/v1/profiles/{profile}", {"mailbox": "somebody.else@contoso.com"})
    before = provider.grant_counts["refresh_token"]
    report = office.service.test(profile, None)
    assert (report["ok"], report["fault"]) == (False, "permission")
    assert "and the renewed one as well: check that the account may use this mailbox" in report["verdict"]
    assert provider.grant_counts["refresh_token"] == before + 1
    assert office.status(profile)["token"] == "Retrieved"


def test_a_renewal_that_fails_is_told_in_the_words_of_the_manual(
    office: Office, provider: PracticeProvider, own: Own
) -> None:
    profile = own("revoked@contoso.com", "smtp")
    provider.revoke_account("revoked@contoso.com")
    done = office.run("test", profile)
    assert done.returncode == 1
    assert "✗ renew" in done.stdout
    said = "Token update failed. Please delete the token and obtain it again. (At fault: the token.)"
    assert done.stderr == f"mailtoken: {profile}: {said}\n"
    assert office.status(profile)["token"] == "Invalid"


def test_a_provider_that_is_away_leaves_the_token_as_it_is(
    office: Office, provider: PracticeProvider, own: Own
) -> None:
    profile = own("away@contoso.com", "pop")
    provider.expire_access_tokens("away@contoso.com")
    with provider.misbehave("temporarily_unavailable", grant_type="refresh_token", times=None):
        report = office.service.test(profile, None)
    assert report["fault"] == "token"
    assert "Renewing it did not work either: " in report["verdict"]
    assert office.status(profile)["token"] == "Retrieved"
    assert office.service.test(profile, None)["ok"]


@pytest.mark.parametrize("protocol", ["smtp", "pop", "imap"])
def test_a_server_that_cannot_ask_the_provider_says_nothing_about_the_token(
    office: Office, provider: PracticeProvider, own: Own, protocol: str
) -> None:
    profile = own(f"unasked-{protocol}@contoso.com", protocol)
    before = provider.grant_counts["refresh_token"]
    with provider.misbehave("server_error", endpoint="introspection", times=None):
        report = office.service.test(profile, None)
    assert (report["ok"], report["fault"]) == (False, "server")
    assert "says nothing about the token: try again later" in report["verdict"]
    assert provider.grant_counts["refresh_token"] == before


def test_a_recipient_that_is_refused_is_said(office: Office, settings: Settings) -> None:
    report = office.service.test(settings[Mechanism.XOAUTH2, "smtp", "starttls"], "nobody@example.org")
    assert (report["ok"], report["fault"]) == (False, "mailbox")
    assert "check the address" in report["verdict"]
    assert "5.1.1" in report["reply"]

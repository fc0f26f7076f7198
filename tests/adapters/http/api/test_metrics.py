"""The numbers for monitoring: right, of everything that matters, and naming nobody."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes import START, FakeClock, FakeProvider
from prometheus_client.parser import text_string_to_metric_families
from served import ADMIN, POP, SMTP
from served_api import Answer, Api, principal_with, serve_api

from adapters.http.middleware.authentication import AuthenticationMiddleware
from adapters.http.principal import ANONYMOUS, AUDITOR, OPERATOR
from domain.errors import Unreachable
from infrastructure.mail_counters import MailCount
from infrastructure.queries.settings_page import SettingsFilter
from infrastructure.service import Service


def read(http: Api) -> dict[tuple[str, ...], float]:
    """Every sample of Mailtoken's own, by its name and labels."""
    answer = http.ask("GET", "/metrics", None, principal_with(AUDITOR))
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return {
        (sample.name.removeprefix("mailtoken_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("mailtoken_")
    }


def test_tokens_and_settings_are_counted_by_state(http: Api, installation: Service) -> None:
    installation.settings.add_machine("office-mfp", "sharp-bp", ADMIN)
    seen = read(http)
    assert (seen["tokens", "Retrieved"], seen["tokens", "Not Retrieved"]) == (2, 5)
    assert (seen["settings", "Retrieved"], seen["settings", "Not Retrieved"]) == (2, 8)
    assert seen["tokens", "Invalid"] == 0
    overview = http.get("/api/v1/overview")
    assert overview["tokens"] == {state: seen["tokens", state] for state in overview["tokens"]}
    assert overview["causes"] == http.get("/api/v1/attention")["causes"]


def test_renewals_failures_and_hand_outs_are_counted(http: Api, installation: Service, provider: FakeProvider) -> None:
    before = read(http)
    installation.tokens.renew(SMTP, ADMIN)
    installation.tokens.renew(POP, ADMIN)
    for _ in range(3):
        http.get(f"/api/v1/profiles/{SMTP}/access-token")
    provider.reachable = False
    with pytest.raises(Unreachable):
        installation.tokens.renew(SMTP, ADMIN)
    after = read(http)
    assert after["token_events_total", "Renewed", "contoso"] == 2
    assert after["unreachable_total", "contoso"] == 1
    assert after["hand_outs_total",] - before["hand_outs_total",] == 3
    assert ("token_events_total", "Retrieved", "contoso") not in after, "that was before this run's start"
    assert read(http) == after, "asking changes nothing"


def test_mail_is_counted_for_all_settings_together(http: Api, installation: Service) -> None:
    for setting, messages in ((SMTP, 2), (POP, 1)):
        installation.mail_counts.put("run-1", [MailCount(setting, START.date(), messages, 500, 3)])
    seen = read(http)
    assert [seen[f"mail_{name}_total",] for name in ("messages", "octets", "refusals")] == [3, 1000, 6]


def test_what_ends_next_and_what_wants_a_person(
    http: Api, installation: Service, provider: FakeProvider, clock: FakeClock
) -> None:
    clock.step(minutes=10)
    assert read(http)["access_token_expiry_seconds",] == 3000
    assert read(http)["grant_end_seconds",] == 30 * 86400 - 600
    provider.kill_grants()
    clock.step(hours=2)
    http.ask("POST", f"/api/v1/profiles/{SMTP}/token/renew")
    seen = read(http)
    assert (seen["attention", "invalid_grant"], seen["tokens", "Invalid"]) == (1, 1)
    assert seen["token_events_total", "GrantFoundDead", "contoso"] == 1


def test_what_waits_and_what_is_claimed_is_counted(
    http: Api, installation: Service, provider: FakeProvider, clock: FakeClock
) -> None:
    assert [read(http)["waiting", what] for what in ("renewals", "providers", "sign_ins")] == [0, 0, 0]
    provider.reachable = False
    for setting in (SMTP, POP, SMTP, SMTP, SMTP):
        with pytest.raises(Unreachable):
            installation.tokens.renew(setting, ADMIN)
    seen = read(http)
    assert [seen["claims", kind] for kind in ("acquisition", "renewal", "notice")] == [0, 0, 0]
    assert [seen["waiting", what] for what in ("renewals", "providers")] == [2, 1]
    clock.step(hours=1)
    assert [read(http)["waiting", what] for what in ("renewals", "providers")] == [0, 1]
    provider.reachable, claimed = True, list[float]()
    provider.meanwhile(lambda: claimed.append(read(http)["claims", "renewal"]))
    installation.tokens.renew(SMTP, ADMIN)
    assert claimed == [1]
    assert [read(http)["waiting", what] for what in ("renewals", "providers")] == [0, 0]


def test_a_sign_in_whose_last_request_failed_waits(http: Api, installation: Service, provider: FakeProvider) -> None:
    installation.tokens.request("press/imap", None, ADMIN)
    token_id = installation.tokens.status("press/imap").profile.token_id
    provider.answers(None)
    installation.tokens.poll(token_id)
    assert read(http)["waiting", "sign_ins"] == 1
    provider.approve("scan@contoso.com")
    installation.tokens.poll(token_id)
    assert read(http)["waiting", "sign_ins"] == 0


def test_nobody_is_named(http: Api, installation: Service) -> None:
    http.get(f"/api/v1/profiles/{SMTP}/access-token")
    text = http.ask("GET", "/metrics").text
    for secret_or_person in ("scan@", "press", "root", "somebody", "access-token-in-clear"):
        assert secret_or_person not in text


def test_auditors_may_read_them_and_others_may_not(http: Api) -> None:
    assert http.ask("GET", "/metrics", None, principal_with(OPERATOR)).status == 403
    assert http.ask("GET", "/metrics", None, ANONYMOUS).status == 403


@pytest.mark.parametrize(
    ("allowed", "forwarded", "status"),
    [
        ('["127.0.0.1"]', None, 200),
        ('["127.0.0.0/8", "::1"]', "203.0.113.9", 200),
        ('["10.0.0.0/8"]', None, 403),
        ("[]", None, 403),
    ],
)
def test_addresses_of_the_configuration_need_not_say_who_they_are(
    installation: Service, allowed: str, forwarded: str | None, status: int
) -> None:
    answer = scraped(installation, allowed, forwarded)
    assert answer.status == status


def scraped(installation: Service, allowed: str, forwarded: str | None) -> Answer:
    """What a scraper on this machine gets, through everything a request over TCP goes through."""
    server = installation.config.server.model_copy(update={"metrics_from": tuple(json.loads(allowed))})
    service = replace(installation, config=installation.config.model_copy(update={"server": server}))
    with serve_api(service, lambda app: AuthenticationMiddleware(app, service)) as api:
        headers = {"X_Forwarded_For": forwarded} if forwarded else {}
        return api.ask("GET", "/metrics", None, None, **headers)


def test_what_needs_a_person_is_counted_alike_on_every_surface(http: Api, installation: Service) -> None:
    installation.tokens.alarms[installation.tokens.status(POP).profile.token_id] = "reply_in_doubt"
    counted = http.get("/api/v1/attention")
    seen = read(http)
    listed = http.get("/api/v1/status?attention=true")
    page = installation.settings_page.page(SettingsFilter())
    assert counted == {"causes": {"now": 1, "soon": 0}, "settings": {"now": 1, "soon": 0}}
    for urgency in ("now", "soon"):
        assert seen["attention_causes", urgency] == counted["causes"][urgency]
        assert seen["attention_settings", urgency] == counted["settings"][urgency]
        assert len([one for one in listed if one["urgency"] == urgency]) == counted["settings"][urgency]
    assert page.counts["attention"] == len(listed)

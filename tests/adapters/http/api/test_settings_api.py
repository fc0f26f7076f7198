"""Machines and settings over HTTP: what is changed only if it is as it was seen, and lists a page at a time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes import FakeClock, FakeProvider
from served import ADMIN, IMAP, SMTP
from served_api import Api

from infrastructure.queries import history
from infrastructure.service import Service

PROFILE = f"/api/v1/profiles/{SMTP}"


def etag(http: Api, target: str = PROFILE) -> str:
    return http.ask("GET", target).headers["etag"]


# Entity tags


def test_a_profile_is_changed_only_if_it_is_as_it_was_seen(http: Api) -> None:
    seen = etag(http)
    changed = http.ask("PATCH", PROFILE, {"port": "25"}, if_match=seen)
    assert (changed.status, changed.body["port"]) == (200, 25)
    assert changed.headers["etag"] == etag(http) != seen
    late = http.ask("PATCH", PROFILE, {"port": "26"}, if_match=seen)
    assert late.status == 412
    assert late.body["detail"] == f"{SMTP} has changed since it was looked at: look again and repeat it"
    assert http.get(PROFILE)["port"] == 25
    assert http.ask("PATCH", PROFILE, {"port": "26"}).status == 200


@pytest.mark.parametrize("many", ['{}, "other"', '"other" , {}', "*"])
def test_one_tag_of_several_is_enough_and_a_star_is_any(http: Api, many: str) -> None:
    assert http.ask("PATCH", PROFILE, {"port": "25"}, if_match=many.format(etag(http))).status == 200


@pytest.mark.parametrize("other", ['"other"', "W/{}"])
def test_another_tag_and_a_weak_one_are_not_it(http: Api, other: str) -> None:
    assert http.ask("PATCH", PROFILE, {"port": "25"}, if_match=other.format(etag(http))).status == 412


def test_what_is_no_tag_is_refused(http: Api) -> None:
    refused = http.ask("PATCH", PROFILE, {"port": "25"}, if_match="7")
    assert (refused.status, refused.body["detail"].partition(":")[0]) == (422, "If-Match")


def test_a_profile_is_removed_only_if_it_is_as_it_was_seen(http: Api) -> None:
    target = f"/api/v1/profiles/{IMAP}"
    seen = etag(http, target)
    http.ask("PATCH", target, {"port": "143"})
    assert http.ask("DELETE", target, if_match=seen).status == 412
    assert http.ask("DELETE", target, if_match=etag(http, target)).status == 204


def test_a_profile_that_came_back_is_another_one(http: Api) -> None:
    target = f"/api/v1/profiles/{IMAP}"
    seen = etag(http, target)
    http.ask("DELETE", target)
    assert http.ask("PATCH", target, {"port": "143"}, if_match=seen).status == 412
    assert http.ask("PATCH", target, {"server": "imap.contoso.com"}).status == 200
    assert etag(http, target).partition(".")[0] != seen.partition(".")[0]


def test_a_renewal_is_no_change_of_the_setting(http: Api) -> None:
    seen = etag(http)
    assert http.ask("POST", f"{PROFILE}/token/renew").status == 200
    assert etag(http) == seen


# Pages


def pages(http: Api, target: str) -> list[list[Any]]:
    """Every page, by following the links."""
    found: list[list[Any]] = []
    next_page: str | None = target
    while next_page:
        answer = http.ask("GET", next_page)
        assert answer.status == 200, answer
        found.append(answer.body)
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
        next_page = link[1] if link else None
    return found


@pytest.mark.parametrize(("path", "key"), [("status", "profile"), ("profiles", "profile"), ("machines", "name")])
def test_the_pages_of_a_list_are_the_list(http: Api, installation: Service, path: str, key: str) -> None:
    for name in ("a.b", "desk", "Zoo", "x"):
        installation.settings.add_machine(name, "generic", ADMIN)
    whole = http.get(f"/api/v1/{path}")
    assert [one[key] for one in whole] == sorted(one[key] for one in whole)
    for limit in (1, 3, 4, 1000):
        found = pages(http, f"/api/v1/{path}?limit={limit}")
        assert [one for page in found for one in page] == whole, limit
        assert {len(page) for page in found[:-1]} <= {limit}
        assert 1 <= len(found[-1]) <= limit


def test_the_machines_are_searched_filtered_and_sorted(http: Api, installation: Service) -> None:
    for name, tag in (("hamburg-7", "north"), ("hamburg-8", "south"), ("berlin-7", "south")):
        installation.settings.add_machine(name, "generic", ADMIN)
        installation.settings.tag_machine(name, [tag], [], ADMIN)

    def found(query: str) -> list[str]:
        return [one["name"] for page in pages(http, f"/api/v1/machines?limit=1&{query}") for one in page]

    assert found("q=hamburg+7") == ["hamburg-7"]
    assert found("tag=south&sort=state") == ["berlin-7", "hamburg-8"]
    assert found("q=press&sort=account") == ["press"]
    assert found("cause=any") == found("q=nowhere") == []
    assert http.ask("GET", "/api/v1/machines?state=green").status == 422
    [press] = http.get("/api/v1/machines?q=press")
    assert press["settings"] == [IMAP, "press/pop", SMTP]


def test_a_page_goes_on_behind_a_name_that_is_gone(http: Api, installation: Service) -> None:
    installation.settings.add_machine("desk", "generic", ADMIN)
    target = "/api/v1/status?limit=1"
    assert [one["profile"] for one in http.get(target)] == ["desk/imap"]
    installation.settings.remove_machine("desk", ADMIN)
    assert [one["profile"] for one in http.get(f"{target}&after=desk/imap")] == ["press/imap"]


def test_status_as_of_an_instant_has_pages_too(http: Api, installation: Service) -> None:
    now = installation.clock.now().isoformat().replace("+", "%2B")
    found = pages(http, f"/api/v1/status?limit=2&as_of={now}")
    assert [[one["profile"] for one in page] for page in found] == [[IMAP, "press/pop"], [SMTP]]


def test_the_settings_that_need_a_person_have_pages_now_and_as_of_an_instant(
    http: Api, installation: Service, provider: FakeProvider
) -> None:
    assert http.get("/api/v1/status?attention=true") == []
    provider.kill_grants()
    for name in (SMTP, "press/pop"):
        http.ask("POST", f"/api/v1/profiles/{name}/token/renew")
    in_need = [one for one in http.get("/api/v1/status") if one["attention"]]
    assert [one["profile"] for one in in_need] == ["press/pop", SMTP]
    assert pages(http, "/api/v1/status?attention=true&limit=1") == [[one] for one in in_need]
    now = installation.clock.now().isoformat().replace("+", "%2B")
    then = pages(http, f"/api/v1/status?attention=true&limit=1&as_of={now}")
    assert [[one["profile"] for one in page] for page in then] == [["press/pop"], [SMTP]]


def test_as_of_now_is_the_live_read_an_earlier_instant_has_no_alarms_and_the_future_is_refused(
    http: Api, installation: Service, clock: FakeClock
) -> None:
    def attention(instant: datetime) -> list[str | None]:
        as_of = instant.isoformat().replace("+", "%2B")
        listed = {one["attention"] for one in http.get(f"/api/v1/status?as_of={as_of}") if one["profile"] == SMTP}
        assert listed == {http.get(f"/api/v1/profiles/{SMTP}/status?as_of={as_of}")["attention"]}
        return list(listed)

    [id] = [one.profile.token_id for one in installation.tokens.statuses() if one.profile.name == SMTP]
    installation.tokens.alarms[id] = "reply_in_doubt"
    now = clock.step(seconds=2)
    assert attention(now) == attention(now.replace(microsecond=0)) == ["reply_in_doubt"]
    assert attention(now - timedelta(seconds=1)) == [None]
    later = (now + timedelta(seconds=1)).isoformat().replace("+", "%2B")
    for target in ("/api/v1/status", f"/api/v1/profiles/{SMTP}/status"):
        answer = http.ask("GET", f"{target}?as_of={later}")
        assert answer.status == 422
        assert "has not come yet" in answer.body["detail"]


def test_the_log_has_pages_by_position(http: Api) -> None:
    whole = http.get("/api/v1/audit/log")
    found = pages(http, "/api/v1/audit/log?limit=3")
    assert [one for page in found for one in page] == whole
    assert http.get(f"/api/v1/audit/log?after={whole[-2]['position']}") == [whole[-1]]
    of_smtp = http.get(f"/api/v1/audit/log?profile={SMTP}")
    assert [one for page in pages(http, f"/api/v1/audit/log?profile={SMTP}&limit=2") for one in page] == of_smtp
    assert len(of_smtp) < len(whole)


def test_the_log_is_filtered_and_exported_by_the_same_words(http: Api, installation: Service) -> None:
    machine = SMTP.partition("/")[0]
    installation.settings.set_tags(machine, ["lobby"], "administrator:lena")
    [tagged] = http.get(f"/api/v1/audit/log?q={machine}&kind=machine&who=lena&limit=100")
    assert (tagged["event"], tagged["machine"], tagged["profile"]) == ("Tagged", machine, None)
    assert tagged in http.get(f"/api/v1/audit/log?profile={machine}")
    for query in ("", "?kind=setting", f"?profile={machine}&who=lena", "?from=2100-01-01T00:00:00Z", "?q=nowhere"):
        assert http.get(f"/api/v1/audit/export{query}") == http.get(f"/api/v1/audit/log{query}"), query
    sheet = http.ask("GET", f"/api/v1/audit/export?format=csv&profile={machine}&who=lena")
    assert sheet.headers["content-type"].startswith("text/csv")
    assert "lena,administrator" in sheet.text.splitlines()[1]
    for query in ("kind=Token.Renewed", "from=yesterday", "format=xml"):
        assert http.ask("GET", f"/api/v1/audit/export?{query}").status == 422, query


def test_a_page_of_the_log_may_be_short_although_there_is_more(
    http: Api, installation: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "LOOKED_AT", 4)
    found = pages(http, "/api/v1/audit/log?kind=machine&limit=100")
    assert len(found) > 1
    expected = [one for one in http.get("/api/v1/audit/log") if one["aggregate"] == "Machine"]
    assert [one for page in found for one in page] == expected


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=1&after=%00", "as_of=0001-01-01T00:00%2B23:59"]
)
def test_a_page_that_makes_no_sense_is_refused(shared_http: Api, query: str) -> None:
    assert shared_http.ask("GET", f"/api/v1/status?{query}").status == 422


# A fleet in one file


def test_a_fleet_is_planned_applied_as_planned_and_exported(http: Api) -> None:
    fleet = {"machines": {"desk": {"settings": {"smtp": {"port": 25}}}}}
    planned = http.ask("POST", "/api/v1/apply?dry_run=true", fleet)
    assert planned.body["changes"] == [
        {"change": "add machine", "machine": "desk", "catalogue": "generic"},
        {"change": "set fields", "profile": "desk/smtp", "before": {"port": ""}, "after": {"port": "25"}},
    ]
    assert planned.headers["etag"] == f'"{planned.body["fingerprint"]}"'
    assert http.ask("POST", "/api/v1/apply", fleet, if_match='"another"').status == 412
    assert http.ask("POST", "/api/v1/apply", fleet, if_match=planned.headers["etag"]).body == planned.body
    assert http.get("/api/v1/export")["machines"]["desk"] == {
        "catalogue": "generic",
        "settings": {"smtp": {"port": "25"}},
    }
    assert http.ask("POST", "/api/v1/apply", http.get("/api/v1/export")).body["changes"] == []


def test_the_tags_of_a_machine_are_changed_listed_and_exported(http: Api) -> None:
    body = {"add": ["Hamburg", "floor-3"], "remove": ["new"]}
    assert http.ask("POST", "/api/v1/machines/press/tags", body).body == {"tags": ["floor-3", "hamburg"]}
    assert [one["tags"] for one in http.get("/api/v1/machines")] == [["floor-3", "hamburg"]]
    assert http.get("/api/v1/export")["machines"]["press"]["tags"] == ["floor-3", "hamburg"]
    refused = http.ask("POST", "/api/v1/machines/press/tags", {"add": ["two words"]})
    assert (refused.status, refused.body["code"]) == (422, "not_a_tag")
    fleet = {"machines": {"press": {"tags": ["lobby"]}}}
    assert http.ask("POST", "/api/v1/apply", fleet).body["changes"] == [
        {"change": "tag machine", "machine": "press", "tags_before": ["floor-3", "hamburg"], "tags": ["lobby"]}
    ]


def test_a_client_of_a_fleet_is_added_without_a_key_and_is_given_one(http: Api) -> None:
    fleet = {"clients": {"backup": [SMTP]}}
    assert http.ask("POST", "/api/v1/apply", fleet).body["changes"] == [
        {"change": "add client", "client": "backup"},
        {"change": "grant", "client": "backup", "profile": SMTP},
    ]
    listed = {"name": "backup", "key_id": None, "profiles": [SMTP], "expires_at": None, "used_at": None}
    assert http.get("/api/v1/clients") == [listed]
    assert http.ask("POST", "/api/v1/apply", fleet).body["changes"] == []
    issued = http.ask("POST", "/api/v1/clients/backup/key", {})
    assert issued.status == 201
    assert http.get("/api/v1/clients") == [{**listed, "key_id": issued.body["key"].partition(".")[0]}]
    told = [(one["event"], one["by"]) for one in http.get("/api/v1/audit/log") if one["aggregate"] == "Client"]
    assert told == [(event, "administrator:root") for event in ("Created", "Granted", "KeyIssued")]


def test_a_fleet_that_cant_be_is_refused_whole(http: Api) -> None:
    fleet = {"machines": {"desk": {}, "two words": {}}, "groups": {"x": ["desk/pop"]}}
    refused = http.ask("POST", "/api/v1/apply", fleet)
    assert refused.status == 409
    assert refused.body["detail"].startswith("machines.two words: machine: 'two words' is not a name")
    assert refused.body["detail"].endswith("(and 1 more): nothing was changed")
    assert [one["name"] for one in http.get("/api/v1/machines")] == ["press"]
    dry = http.ask("POST", "/api/v1/apply?dry_run=true", fleet).body["refusals"]
    assert [one["place"] for one in dry] == [["machines", "two words"], ["groups", "x"]]

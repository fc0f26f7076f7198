"""The time line says what the audit's records say, newest first, whatever has been added since the last look."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import START, FakeClock, Services

from domain.scope import Scope
from infrastructure.queries.history import History


@pytest.fixture
def timeline(service: Services) -> History:
    return service.history


def agrees(timeline: History, service: Services, profile: str | None) -> None:
    """All pages together are all records."""
    expected = [record.as_json() for record in reversed(service.history.records(profile))]
    told: list[dict[str, object]] = []
    while page := timeline.page(profile, None, len(told), 7).records:
        told += [record.as_json() for record in page]
    assert told == expected
    assert timeline.page(profile, None, 0, 1).total == len(expected)


def test_pages_are_the_records_of_the_audit_also_of_what_was_added_since(
    service: Services, timeline: History, clock: FakeClock
) -> None:
    service.add_machine("mfp-1")
    agrees(timeline, service, None)
    service.get_token("mfp-1/smtp-service")
    service.add_machine("mfp-2", "generic")
    service.settings.unlink("mfp-1/smtp-quick", "administrator")
    clock.step(hours=1)
    service.tokens.renew("mfp-1/smtp-service", "operator")
    service.relay_users.add("press", ["mfp-1/smtp-alert"], ["192.0.2.0/24"], None, "administrator")
    service.settings.remove_machine("mfp-2", "administrator")
    for profile in (
        None,
        "mfp-1/smtp-service",
        "mfp-1/smtp-quick",
        "mfp-1/smtp-alert",
        "mfp-2/pop",
        "nowhere/smtp",
        "mfp-1",
        "nowhere",
    ):
        agrees(timeline, service, profile)


def test_what_a_page_names_comes_with_the_records_in_which_it_began(service: Services, timeline: History) -> None:
    service.add_machine("mfp-1")
    service.get_token("mfp-1/smtp-service")
    (retrieved,) = [one for one in timeline.page(None, None, 0, 6).records if one.name == "Retrieved"]
    created = timeline.page(None, None, 0, 6).created
    (group,) = [one for one in created if one.aggregate == "SmtpGroup"]
    assert (group.facts["name"], group.facts["token_id"]) == ("mfp-1", str(retrieved.id))
    assert all(one.version == 1 for one in created)


def test_as_of_an_instant_it_ends_with_the_last_event_stamped_by_then(
    service: Services, timeline: History, clock: FakeClock
) -> None:
    service.settings.add_machine("mfp-1", "generic", "administrator")
    before = timeline.page(None, START, 0, 100)
    clock.step(minutes=2)
    service.settings.add_machine("mfp-2", "generic", "administrator")
    assert timeline.page(None, START + timedelta(minutes=1), 0, 100) == before
    assert timeline.page(None, START - timedelta(minutes=1), 0, 100).total == 0
    # The clock steps back: what was logged before the last event of an instant had happened by then.
    clock.jump(minutes=-2)
    service.settings.add_machine("mfp-3", "generic", "administrator")
    assert timeline.page(None, START, 0, 100) == timeline.page(None, None, 0, 100)
    assert timeline.page("mfp-2/smtp", START, 0, 100).total > 0


def test_a_machine_has_the_events_of_all_its_settings_and_of_no_other_machine(
    service: Services, timeline: History
) -> None:
    service.add_machine("mfp-1")
    # Neighbours in the order of the index: "-", "." and "/" stand in this order, and digits follow.
    for other in ("mfp-1-b", "mfp-1.b", "mfp-10", "mfp"):
        service.add_machine(other, "generic")
    service.get_token("mfp-1/smtp-service")
    service.settings.rename_machine("mfp-1", "lobby", "administrator")
    for name in ("mfp-1", "lobby"):
        settings = [one for one in service.history.records() if one.profile and one.profile.startswith(f"{name}/")]
        told = timeline.page(name, None, 0, 1000).records
        assert {one.position for one in settings} <= {one.position for one in told}
        assert "Retrieved" in {one.name for one in timeline.page("mfp-1", None, 0, 1000).records}
        assert all(one.profile is None or one.profile.startswith(f"{name}/") for one in told)
    assert timeline.page("nowhere", None, 0, 1).total == 0


def test_a_machine_outside_the_scope_has_no_events(service: Services, timeline: History) -> None:
    service.add_machine("mfp-1", "generic")
    assert timeline.page("mfp-1", None, 0, 1, Scope(("mfp-*",))).total > 0
    assert timeline.page("mfp-1", None, 0, 1, Scope(("press-*",))).total == 0

"""An API client: a key by number, and granted profiles. A disclosure: the newest generation a client was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.api_client import ApiClient, ApiClientState
from domain.catalogue import Protocol
from domain.disclosure import Disclosure, DisclosureState
from domain.errors import InvalidValue
from domain.profile import Profile

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ANNA = "administrator:anna"
TOKEN = UUID(int=7)


def profile(number: int) -> Profile:
    return Profile.create(
        UUID(int=number),
        machine_id=UUID(int=100),
        machine="press",
        setting=f"smtp-{number}",
        protocol=Protocol.SMTP,
        token_id=TOKEN,
        group_id=None,
        by=ANNA,
        now=NOW,
    )


ONE, OTHER = profile(10), profile(11)


def backup(expires_at: datetime | None = None) -> ApiClient:
    client = ApiClient.add(UUID(int=1), "backup", by=ANNA, now=NOW)
    client.issue_key("abc", expires_at, by=ANNA, now=NOW)
    client.grant([ONE], by=ANNA, now=NOW)
    return client


def test_a_new_client_has_no_key_and_may_read_nothing() -> None:
    assert ApiClient.add(UUID(int=1), "backup", by=ANNA, now=NOW).state == ApiClientState("backup", 0, None, None, ())
    with pytest.raises(InvalidValue, match=r"^client: not_a_name value='two words'"):
        ApiClient.add(UUID(int=1), "two words", by=ANNA, now=NOW)


def test_a_client_has_the_key_it_was_issued_and_what_it_was_granted() -> None:
    state = backup(NOW + timedelta(days=1)).state
    assert (state.key, state.key_id, state.profiles) == (1, "abc", (ONE.id,))
    assert not state.is_expired(NOW)
    assert not state.removed
    assert state.is_expired(NOW + timedelta(days=1))


def test_a_key_without_an_end_never_expires() -> None:
    assert not backup().state.is_expired(NOW + timedelta(days=36500))


def test_a_key_that_has_ended_already_is_not_issued() -> None:
    with pytest.raises(InvalidValue, match=r"^expires: expiry_in_the_past at='2026-03-02 08:00 UTC'"):
        backup(NOW)


def test_a_client_that_was_removed_knows_it() -> None:
    client = backup()
    client.collect_events()
    client.remove(by="bob", now=NOW + timedelta(days=1))
    (event,) = client.collect_events()
    assert (type(event), event.by, event.timestamp) == (ApiClient.Removed, "bob", NOW + timedelta(days=1))
    assert (client.state.removed, client.state.name) == (True, "backup")


def test_a_new_key_takes_the_place_of_the_old_one() -> None:
    client = backup()
    client.issue_key("xyz", None, by=ANNA, now=NOW)
    assert (client.state.key, client.state.key_id) == (2, "xyz")


def test_what_is_granted_or_revoked_twice_is_one_event() -> None:
    client = backup()
    client.collect_events()
    client.grant([ONE, OTHER, OTHER], by=ANNA, now=NOW)
    assert [*client.state.profiles] == [ONE.id, OTHER.id]
    client.revoke([ONE, ONE], by=ANNA, now=NOW)
    assert [*client.state.profiles] == [OTHER.id]
    assert [type(event).__name__ for event in client.pending_events] == ["Granted", "Revoked"]


def test_a_disclosure_records_each_generation_once_and_no_older_one() -> None:
    disclosure = Disclosure.first(Disclosure.id_of(TOKEN, "1"), TOKEN, 3, "press/smtp", by="client:backup", now=NOW)
    for generation in (3, 2, 4, 4, 3, 6):
        disclosure.disclose(generation, "press/smtp", by="client:backup", now=NOW)
    assert [getattr(event, "generation", None) for event in disclosure.pending_events] == [3, 4, 6]
    assert disclosure.state == DisclosureState("client:backup", TOKEN, 6)


def test_a_disclosure_is_of_one_token_to_one_client() -> None:
    ids = {Disclosure.id_of(token, client) for token in (TOKEN, UUID(int=8)) for client in ("1", "2")}
    assert len(ids) == 4
    assert Disclosure.id_of(TOKEN, "1") in ids

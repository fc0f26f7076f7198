"""Linked SMTP settings: one acquisition updates them in concert, and nothing else touches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from event_examples import EVENTS
from token_examples import TOKEN_ID, at, deleted, given, requested, retrieved

from domain.aggregate import Event
from domain.catalogue import Protocol
from domain.errors import InvalidValue, Refused
from domain.profile import Profile
from domain.smtp_group import SmtpGroup, SmtpGroupState, join, leave, update_in_concert
from domain.token import Token

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
GROUP, MACHINE, OTHER_MACHINE = UUID(int=100), UUID(int=101), UUID(int=102)
ADMIN = "administrator"


def member(number: int, machine: UUID = MACHINE, protocol: Protocol = Protocol.SMTP) -> Profile:
    """A setting that uses the token of the examples, with a provider and account of its own."""
    profile = Profile.create(
        UUID(int=number),
        machine_id=machine,
        machine="office-mfp",
        setting=f"{protocol}-{number}",
        protocol=protocol,
        token_id=TOKEN_ID,
        group_id=GROUP if protocol is Protocol.SMTP else None,
        by=ADMIN,
        now=NOW,
    )
    texts = {"server": f"mail{number}.contoso.com", "provider": "fabrikam", "account": f"old{number}@contoso.com"}
    profile.configure(profile.changes(texts), by=ADMIN, now=NOW)
    profile.collect_events()
    return profile


def new_events(profiles: Sequence[Profile]) -> list[list[object]]:
    return [list(profile.collect_events()) for profile in profiles]


@pytest.mark.parametrize("size", [1, 2, 4, 40])
def test_one_acquisition_updates_every_linked_setting_in_concert(size: int) -> None:
    linked = [member(number) for number in range(1, size + 1)]
    before = [profile.state for profile in linked]

    changed = update_in_concert(retrieved(generation=7, when=at(5))(3), linked)

    assert list(changed) == linked
    assert new_events(linked) == [
        [
            Profile.TokenReceived(
                originator_id=profile.id,
                originator_version=3,
                timestamp=at(5),
                token_id=TOKEN_ID,
                generation=7,
                provider="contoso",
                account="scan@contoso.com",
                by="worker",
            )
        ]
        for profile in linked
    ]
    for profile, state in zip(linked, before, strict=True):
        settings = replace(state.settings, provider="contoso", account="scan@contoso.com")
        assert profile.state == replace(state, settings=settings)


def test_the_settings_of_several_machines_that_share_a_mailbox_are_in_concert_too() -> None:
    linked = [member(1), member(2, OTHER_MACHINE)]
    update_in_concert(retrieved()(3), linked)
    assert {(profile.state.settings.provider, profile.state.settings.account) for profile in linked} == {
        ("contoso", "scan@contoso.com")
    }


def test_one_deletion_reaches_every_linked_setting_and_says_who_did_it_when() -> None:
    linked = [member(1), member(2), member(3)]
    before = [profile.state for profile in linked]

    changed = update_in_concert(deleted(when=at(9))(4), linked)

    assert list(changed) == linked
    assert new_events(linked) == [
        [
            Profile.TokenDeleted(
                originator_id=profile.id, originator_version=3, timestamp=at(9), token_id=TOKEN_ID, by=ADMIN
            )
        ]
        for profile in linked
    ]
    assert [profile.state for profile in linked] == before


TOKEN_EVENTS = [event for event in EVENTS if isinstance(event, Token.Event)]
SHOWN_BY_THE_TOKEN_ITSELF = [event for event in TOKEN_EVENTS if not isinstance(event, Token.Retrieved | Token.Deleted)]


def test_these_are_all_the_other_token_events() -> None:
    assert {type(event).__name__ for event in SHOWN_BY_THE_TOKEN_ITSELF} == {
        "Created",
        "AuthorizationRequested",
        "AuthorizationEnded",
        "ProviderRenamed",
        "Renewed",
        "RenewalWithheld",
        "GrantFoundDead",
        "LateReplyDiscarded",
        "Retired",
    }


@pytest.mark.parametrize("event", SHOWN_BY_THE_TOKEN_ITSELF, ids=lambda event: type(event).__name__)
def test_no_other_token_event_changes_a_setting(event: Token.Event) -> None:
    linked = [member(1), member(2)]
    assert list(update_in_concert(event, linked)) == []
    assert new_events(linked) == [[], []]


@pytest.mark.parametrize("event", TOKEN_EVENTS, ids=lambda event: type(event).__name__)
def test_a_token_without_settings_changes_none(event: Token.Event) -> None:
    assert list(update_in_concert(event, [])) == []


@pytest.mark.parametrize("protocol", [Protocol.POP, Protocol.IMAP])
def test_a_receiving_setting_is_a_group_of_one(protocol: Protocol) -> None:
    one, another = member(1, protocol=protocol), member(2, protocol=protocol)

    assert list(update_in_concert(retrieved()(3), [one])) == [one]

    assert (one.state.settings.account, another.state.settings.account) == ("scan@contoso.com", "old2@contoso.com")
    assert new_events([another]) == [[]]


# -------------------------------------------------------------------------------------------------- the group itself


def new_group() -> SmtpGroup:
    group = SmtpGroup.create(GROUP, "office-mfp", TOKEN_ID, by=ADMIN, now=NOW)
    group.collect_events()
    return group


def test_a_new_group_has_a_token_and_nobody_linked() -> None:
    group = SmtpGroup.create(GROUP, "office-mfp", TOKEN_ID, by=ADMIN, now=NOW)
    assert group.collect_events() == [
        SmtpGroup.Created(
            originator_id=GROUP,
            originator_version=1,
            timestamp=NOW,
            originator_topic=SmtpGroup.TOPIC,
            name="office-mfp",
            token_id=TOKEN_ID,
            by=ADMIN,
        )
    ]
    assert group.state == SmtpGroupState("office-mfp", TOKEN_ID)


def test_a_group_follows_the_new_name_of_its_machine() -> None:
    group = new_group()
    group.rename("lobby-mfp", by="bob", now=NOW)
    assert group.collect_events() == [
        SmtpGroup.Renamed(originator_id=GROUP, originator_version=2, timestamp=NOW, name="lobby-mfp", by="bob")
    ]
    assert group.state == SmtpGroupState("lobby-mfp", TOKEN_ID)


def test_settings_are_linked_in_the_order_they_joined() -> None:
    group = new_group()
    for number in (3, 1, 2):
        group.link(UUID(int=number), by=ADMIN, now=NOW)
    assert group.state.members == (UUID(int=3), UUID(int=1), UUID(int=2))
    assert [type(event) for event in group.collect_events()] == [SmtpGroup.ProfileLinked] * 3


def test_a_setting_that_leaves_leaves_the_rest_linked() -> None:
    group = new_group()
    for number in (1, 2, 3):
        group.link(UUID(int=number), by=ADMIN, now=NOW)
    group.collect_events()

    group.unlink(UUID(int=2), by=ADMIN, now=NOW)

    assert group.collect_events() == [
        SmtpGroup.ProfileUnlinked(
            originator_id=GROUP, originator_version=5, timestamp=NOW, profile_id=UUID(int=2), by=ADMIN
        )
    ]
    assert group.state == SmtpGroupState("office-mfp", TOKEN_ID, (UUID(int=1), UUID(int=3)))


def test_a_group_dissolves_when_the_last_setting_leaves() -> None:
    group = new_group()
    group.link(UUID(int=1), by=ADMIN, now=NOW)
    group.collect_events()

    group.unlink(UUID(int=1), by=ADMIN, now=NOW)

    assert [type(event) for event in group.collect_events()] == [SmtpGroup.ProfileUnlinked, SmtpGroup.Dissolved]
    assert group.state == SmtpGroupState("office-mfp", TOKEN_ID, (), dissolved=True)


def test_a_setting_that_left_can_join_again_at_the_end() -> None:
    group = new_group()
    for number in (1, 2):
        group.link(UUID(int=number), by=ADMIN, now=NOW)
    group.unlink(UUID(int=1), by=ADMIN, now=NOW)
    group.link(UUID(int=1), by=ADMIN, now=NOW)
    assert group.state.members == (UUID(int=2), UUID(int=1))


def test_each_change_of_the_membership_is_a_new_version() -> None:
    group = new_group()
    group.link(UUID(int=1), by=ADMIN, now=NOW)
    group.link(UUID(int=2), by=ADMIN, now=NOW)
    group.unlink(UUID(int=1), by=ADMIN, now=NOW)
    assert group.version == 4


def test_a_group_has_a_name() -> None:
    with pytest.raises(InvalidValue) as refused:
        SmtpGroup.create(GROUP, "shared scanners", TOKEN_ID, by=ADMIN, now=NOW)
    error = refused.value
    assert (error.field, error.code, error.fields) == ("group", "not_a_name", {"value": "shared scanners"})


# Joining and leaving


def group_of(*profiles: Profile) -> SmtpGroup:
    group = SmtpGroup.create(GROUP, "office-mfp", TOKEN_ID, by=ADMIN, now=NOW)
    for profile in profiles:
        group.link(profile.id, by=ADMIN, now=NOW)
    group.collect_events()
    return group


def test_a_setting_that_joins_a_group_has_its_token_with_provider_and_account() -> None:
    group, profile, token = group_of(), member(1), given(requested(), retrieved())
    join(profile, group, token, by="bob", now=at(9))
    assert (profile.state.group_id, profile.state.token_id) == (GROUP, TOKEN_ID)
    assert (profile.state.settings.provider, profile.state.settings.account) == ("contoso", "scan@contoso.com")
    assert group.state.members == (profile.id,)
    events: list[Event[Any]] = [*profile.collect_events(), *group.collect_events()]
    assert [(type(event), event.by, event.timestamp) for event in events] == [
        (Profile.Linked, "bob", at(9)),
        (SmtpGroup.ProfileLinked, "bob", at(9)),
    ]


def test_a_setting_that_leaves_others_behind_leaves_them_their_token() -> None:
    one, other = member(1), member(2)
    group, token = group_of(one, other), given(requested(), retrieved())
    leave(one, group, token, by="bob", now=at(9))
    assert (group.state.members, token.pending_events) == ((other.id,), [])
    assert [(event.by, event.timestamp) for event in group.collect_events()] == [("bob", at(9))]


@pytest.mark.parametrize("grouped", [True, False])
def test_the_last_setting_that_leaves_a_token_retires_it_unless_it_is_held(grouped: bool) -> None:
    profile = member(1)
    token = given()
    leave(profile, group_of(profile) if grouped else None, token, by="bob", now=at(9))
    assert [(type(event), event.by, event.timestamp) for event in token.collect_events()] == [
        (Token.Retired, "bob", at(9))
    ]
    held = given(requested(), retrieved())
    with pytest.raises(Refused) as refused:
        leave(profile, group_of(profile) if grouped else None, held, by="bob", now=at(9))
    assert refused.value.fields["profile"] == profile.state.name

"""A relay user: a name, at most one profile for each protocol, and a password, networks, or both to be let in by."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.catalogue import Protocol
from domain.errors import InvalidValue, Refused
from domain.networks import read_networks
from domain.password_policy import check_password, comparable
from domain.profile import Profile
from domain.relay_user import RelayUser, RelayUserState, admitted_by_network, valid_name
from domain.secret import Secret

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
USER = UUID(int=1)
ADMIN = "administrator"


def profile(number: int, protocol: Protocol = Protocol.SMTP) -> Profile:
    return Profile.create(
        UUID(int=number),
        machine_id=UUID(int=100),
        machine="press",
        setting=f"{protocol}-{number}",
        protocol=protocol,
        token_id=UUID(int=200 + number),
        group_id=None,
        by=ADMIN,
        now=NOW,
    )


SMTP, OTHER_SMTP, POP = profile(10), profile(11), profile(12, Protocol.POP)


def add(
    name: str = "printers",
    profiles: Sequence[Profile] = (SMTP,),
    networks: Sequence[str] = (),
    password: bool = True,
    others: Sequence[RelayUserState] = (),
) -> RelayUser:
    return RelayUser.add(
        USER, name, profiles=profiles, networks=networks, password=password, others=others, by=ADMIN, now=NOW
    )


def decided(user: RelayUser) -> list[tuple[str, dict[str, Any]]]:
    """The new events, by name and facts."""
    common = ("originator_id", "originator_version", "originator_topic", "timestamp", "by")
    return [
        (type(event).__name__, {name: value for name, value in vars(event).items() if name not in common})
        for event in user.collect_events()
    ]


def test_a_user_with_a_password_is_mapped_and_has_no_secret_in_its_events() -> None:
    user = add(profiles=[SMTP, POP])
    assert decided(user) == [
        ("Created", {"name": "printers"}),
        ("Mapped", {"protocol": "smtp", "profile_id": SMTP.id}),
        ("Mapped", {"protocol": "pop", "profile_id": POP.id}),
        ("PasswordChanged", {"password": 1}),
    ]
    assert user.state == RelayUserState("printers", {Protocol.SMTP: SMTP.id, Protocol.POP: POP.id}, (), 1)


def test_a_user_may_need_no_sign_in_from_a_network() -> None:
    user = add(networks=["10.20.30.0/24", "2001:db8:1::/48"], password=False)
    assert decided(user)[-1] == ("NetworksChanged", {"networks": ["10.20.30.0/24", "2001:db8:1::/48"]})
    assert user.state.password == 0


def test_a_user_needs_a_password_or_a_network() -> None:
    with pytest.raises(Refused, match=r"^password_or_network_missing user='printers'"):
        add(password=False)
    user = add(networks=["10.20.30.0/24"], password=False)
    with pytest.raises(Refused, match=r"^password_or_network_missing"):
        user.set_networks([], others=(), by=ADMIN, now=NOW)
    user.change_password(by=ADMIN, now=NOW)
    user.set_networks([], others=(), by=ADMIN, now=NOW)
    assert (user.state.networks, user.state.password) == ((), 1)


def test_a_network_is_of_use_to_who_sends_alone() -> None:
    for password in (True, False):
        with pytest.raises(Refused, match=r"^network_without_smtp user='printers'"):
            add(profiles=[POP], networks=["10.20.30.0/24"], password=password)
    user = add(profiles=[POP])
    with pytest.raises(Refused, match=r"^network_without_smtp"):
        user.set_networks(["10.20.30.0/24"], others=(), by=ADMIN, now=NOW)
    user.map([SMTP, POP], by=ADMIN, now=NOW)
    user.set_networks(["10.20.30.0/24"], others=(), by=ADMIN, now=NOW)
    user.collect_events()
    with pytest.raises(Refused, match=r"^network_without_smtp"):
        user.map([POP], by=ADMIN, now=NOW)
    assert decided(user) == []


def test_who_receives_needs_a_password() -> None:
    with pytest.raises(Refused, match=r"^password_missing user='printers'"):
        add(profiles=[SMTP, POP], networks=["10.20.30.0/24"], password=False)
    user = add(networks=["10.20.30.0/24"], password=False)
    with pytest.raises(Refused, match=r"^password_missing"):
        user.map([SMTP, POP], by=ADMIN, now=NOW)
    user.change_password(by=ADMIN, now=NOW)
    user.map([SMTP, POP], by=ADMIN, now=NOW)
    assert user.state.profiles == {Protocol.SMTP: SMTP.id, Protocol.POP: POP.id}


@pytest.mark.parametrize("name", ["p", "XX", "crm@contoso.com", "Büro-2", "a" * 64, "o'neill", "-x", "50%"])
def test_a_name_is_what_a_client_can_sign_in_with(name: str) -> None:
    assert add(name).state.name == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 65, "two words", "a:b", "a/b", "a\tb", "a\r\nb", "a\x00b", "a\x01b", "a\u00a0b", "a\u2028b", "a\udcffb"],
)
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        add(name)
    assert (refused.value.field, refused.value.code) == ("user", "not_a_user_name")
    assert refused.value.fields == {"value": name, "longest": 64}


def test_a_name_is_the_same_however_its_letters_are_composed() -> None:
    assert valid_name(unicodedata.normalize("NFD", "Büro")) == "Büro"


def test_a_user_has_one_profile_for_each_protocol() -> None:
    with pytest.raises(InvalidValue) as refused:
        add(profiles=[SMTP, POP, OTHER_SMTP])
    assert (refused.value.field, refused.value.code) == ("profiles", "two_of_a_protocol")
    assert refused.value.fields == {"first": "press/smtp-10", "second": "press/smtp-11", "protocol": "smtp"}
    with pytest.raises(InvalidValue, match=r"^profiles: relay_profiles_missing"):
        add(profiles=[])
    assert add(profiles=[SMTP, SMTP]).state.profiles == {Protocol.SMTP: SMTP.id}


def test_a_mapping_takes_the_place_of_the_one_before_and_says_what_changed() -> None:
    user = add(profiles=[SMTP, POP])
    user.collect_events()
    user.map([OTHER_SMTP], by="bob", now=NOW)
    assert decided(user) == [
        ("Unmapped", {"protocol": "pop"}),
        ("Mapped", {"protocol": "smtp", "profile_id": OTHER_SMTP.id}),
    ]
    assert user.state.profiles == {Protocol.SMTP: OTHER_SMTP.id}
    user.map([OTHER_SMTP], by="bob", now=NOW)
    assert decided(user) == []


def test_each_password_has_a_number_of_its_own() -> None:
    user = add()
    for number in (2, 3):
        user.change_password(by=ADMIN, now=NOW)
        assert user.state.password == number


def test_a_user_that_was_removed_knows_it() -> None:
    user = add()
    assert not user.state.removed
    user.remove(by="bob", now=NOW)
    assert user.state.removed
    assert user.pending_events[-1].by == "bob"


def test_the_relay_changes_what_a_user_s_messages_are_to_have() -> None:
    user = add()
    user.collect_events()
    user.change_messages(sender="scan@contoso.com", normalize="crlf", by=ADMIN, now=NOW)
    user.change_messages(sender="scan@contoso.com", normalize="crlf", by=ADMIN, now=NOW)
    assert decided(user) == [("MessagesChanged", {"sender": "scan@contoso.com", "normalize": "crlf"})]
    assert (user.state.sender, user.state.normalize) == ("scan@contoso.com", "crlf")
    user.change_messages(sender=None, normalize="crlf", by=ADMIN, now=NOW)
    user.change_messages(sender=None, normalize=None, by=ADMIN, now=NOW)
    assert len(decided(user)) == 2
    assert user.state == add().state


@pytest.mark.parametrize(
    ("sender", "normalize", "error"),
    [
        ("scan", None, r"^sender: not_an_email_address value='scan'"),
        (None, "lf", r"^normalize: unknown_normalization value='lf' known=\['crlf'\]"),
    ],
)
def test_what_the_relay_can_not_change_in_messages_is_refused(
    sender: str | None, normalize: str | None, error: str
) -> None:
    user = add()
    user.collect_events()
    with pytest.raises(InvalidValue, match=error):
        user.change_messages(sender=sender, normalize=normalize, by=ADMIN, now=NOW)
    assert decided(user) == []


# Passwords


@pytest.mark.parametrize("text", ["twelve chars", "x" * 255, "Straße-und-Bäume", "pass word with spaces"])
def test_a_password_may_be_anything_that_can_be_typed(text: str) -> None:
    check_password(Secret(text))


@pytest.mark.parametrize(
    "text", ["", "eleven char", "x" * 256, "with\rcontrol-characters", "nul\x00" * 4, "a\udcff" * 9]
)
def test_what_can_be_guessed_or_cant_be_sent_is_no_password_and_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_password(Secret(text))
    assert (refused.value.field, refused.value.code) == ("password", "password_unsuitable")
    assert refused.value.fields == {"shortest": 12, "longest": 255}


def test_a_password_is_compared_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "Büro-im-zweiten-Stock")
    assert comparable(Secret(decomposed)) == Secret("Büro-im-zweiten-Stock")


# Networks


def test_networks_are_kept_in_one_form_and_once() -> None:
    texts = ["10.20.30.0/24", "10.20.30.0/255.255.255.0", "10.1.2.3", "2001:DB8:0001::/48"]
    assert read_networks(texts) == ("10.20.30.0/24", "10.1.2.3/32", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        ("0.0.0.0/0", "network_too_wide", {"widest": 8}),
        ("128.0.0.0/1", "network_too_wide", {"widest": 8}),
        ("::/0", "network_too_wide", {"widest": 32}),
        ("2000::/3", "network_too_wide", {"widest": 32}),
        ("::ffff:0.0.0.0/96", "network_is_ipv4", {}),
        ("fe80::%eth0/64", "network_has_zone", {}),
        ("10.1.2.3/24", "network_has_host_bits", {"meant": "10.1.2.0/24"}),
        ("office", "not_a_network", {}),
        ("", "not_a_network", {}),
        ("10.0.0.0/33", "not_a_network", {}),
    ],
)
def test_what_names_nobody_is_no_network(text: str, code: str, facts: dict[str, object]) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_networks([text])
    assert (refused.value.field, refused.value.code) == ("network", code)
    assert refused.value.fields == {"value": text, **facts}


def test_a_network_belongs_to_one_user() -> None:
    others = [RelayUserState("crm", {}, ("10.20.30.0/24",)), RelayUserState("erp", {}, ("10.9.0.0/16",))]
    with pytest.raises(Refused) as refused:
        add(networks=["10.1.0.0/16", "10.20.30.0/24"], others=others)
    assert refused.value.code == "network_taken"
    assert refused.value.fields == {"network": "10.20.30.0/24", "user": "crm"}
    assert add(networks=["10.20.30.0/25", "10.20.0.0/16"], others=others).state.networks == (
        "10.20.30.0/25",
        "10.20.0.0/16",
    )


USERS = [
    RelayUserState("site", {}, ("10.0.0.0/8",)),
    RelayUserState("floor", {}, ("10.20.30.0/24", "2001:db8:1::/48")),
    RelayUserState("printer", {}, ("10.20.30.7/32",)),
    RelayUserState("nowhere"),
]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.20.30.7", "printer"),
        ("10.20.30.8", "floor"),
        ("10.20.31.7", "site"),
        ("11.0.0.1", None),
        ("::ffff:10.20.30.7", "printer"),
        ("2001:db8:1::7", "floor"),
        ("2001:db8:2::7", None),
        ("::a14:1e07", None),
    ],
)
def test_the_most_specific_network_says_who_a_client_is(address: str, name: str | None) -> None:
    for users in (USERS, USERS[::-1]):
        user = admitted_by_network(users, address)
        assert (user.name if user else None) == name


def test_a_network_that_two_users_have_names_nobody() -> None:
    twins = [RelayUserState("one", {}, ("10.0.0.0/8",)), RelayUserState("two", {}, ("10.0.0.0/8",))]
    assert admitted_by_network(twins, "10.1.2.3") is None
    assert admitted_by_network([*twins, *USERS], "10.20.30.8") == USERS[1]


def test_what_is_no_address_is_nobody() -> None:
    with pytest.raises(InvalidValue, match=r"^address: not_an_address value='printer-1'"):
        admitted_by_network(USERS, "printer-1")

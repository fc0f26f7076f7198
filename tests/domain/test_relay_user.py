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
from domain.profile import Profile
from domain.relay_user import (
    RelayUser,
    RelayUserState,
    admitted_by_network,
    check_password,
    comparable,
    read_networks,
    valid_name,
)
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
    with pytest.raises(Refused, match="relay user printers needs a password or a network to be let in by"):
        add(password=False)
    user = add(networks=["10.20.30.0/24"], password=False)
    with pytest.raises(Refused, match="needs a password or a network"):
        user.set_networks([], others=(), by=ADMIN, now=NOW)
    user.change_password(by=ADMIN, now=NOW)
    user.set_networks([], others=(), by=ADMIN, now=NOW)
    assert (user.state.networks, user.state.password) == ((), 1)


def test_a_network_is_of_use_to_who_sends_alone() -> None:
    networks = (
        "relay user printers: a network lets in by SMTP alone, for POP3 and IMAP clients always sign in: give them a"
        " password and no networks, or an SMTP setting too"
    )
    for password in (True, False):
        with pytest.raises(Refused) as refused:
            add(profiles=[POP], networks=["10.20.30.0/24"], password=password)
        assert str(refused.value) == networks
    user = add(profiles=[POP])
    with pytest.raises(Refused, match="by SMTP alone"):
        user.set_networks(["10.20.30.0/24"], others=(), by=ADMIN, now=NOW)
    user.map([SMTP, POP], by=ADMIN, now=NOW)
    user.set_networks(["10.20.30.0/24"], others=(), by=ADMIN, now=NOW)
    user.collect_events()
    with pytest.raises(Refused, match="by SMTP alone"):
        user.map([POP], by=ADMIN, now=NOW)
    assert decided(user) == []


def test_who_receives_needs_a_password() -> None:
    password = (
        "relay user printers: POP3 and IMAP clients always sign in, from every network: give them a password too, or an"
        " SMTP setting alone"
    )
    with pytest.raises(Refused) as refused:
        add(profiles=[SMTP, POP], networks=["10.20.30.0/24"], password=False)
    assert str(refused.value) == password
    user = add(networks=["10.20.30.0/24"], password=False)
    with pytest.raises(Refused, match="always sign in, from every network"):
        user.map([SMTP, POP], by=ADMIN, now=NOW)
    user.change_password(by=ADMIN, now=NOW)
    user.map([SMTP, POP], by=ADMIN, now=NOW)
    assert user.state.profiles == {Protocol.SMTP: SMTP.id, Protocol.POP: POP.id}


@pytest.mark.parametrize("name", ["p", "crm@contoso.com", "Büro-2", "a" * 64, "o'neill", "-x", "50%"])
def test_a_name_is_what_a_client_can_sign_in_with(name: str) -> None:
    assert add(name).state.name == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 65, "two words", "a:b", "a/b", "a\tb", "a\r\nb", "a\x00b", "a\x01b", "a\u00a0b", "a\u2028b", "a\udcffb"],
)
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        add(name)
    assert str(refused.value) == (f"user: {name!r} is not 1 to 64 printable characters without spaces, ':' and '/'")


def test_a_name_is_the_same_however_its_letters_are_composed() -> None:
    assert valid_name(unicodedata.normalize("NFD", "Büro")) == "Büro"


def test_a_user_has_one_profile_for_each_protocol() -> None:
    with pytest.raises(InvalidValue) as refused:
        add(profiles=[SMTP, POP, OTHER_SMTP])
    assert str(refused.value) == (
        "profiles: press/smtp-10 and press/smtp-11 are both smtp settings: a relay user has one for each protocol"
    )
    with pytest.raises(InvalidValue, match="there is none: name the settings to send and receive as"):
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
    user.remove(by="bob", now=NOW)
    assert user.state.removed
    assert user.pending_events[-1].by == "bob"


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
    assert str(refused.value) == "password: it is not 12 to 255 characters without control characters"


def test_a_password_is_compared_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "Büro-im-zweiten-Stock")
    assert comparable(Secret(decomposed)) == Secret("Büro-im-zweiten-Stock")


# Networks


def test_networks_are_kept_in_one_form_and_once() -> None:
    texts = ["10.20.30.0/24", "10.20.30.0/255.255.255.0", "10.1.2.3", "2001:DB8:0001::/48"]
    assert read_networks(texts) == ("10.20.30.0/24", "10.1.2.3/32", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0.0.0.0/0", "0.0.0.0/0 is too wide: name the clients' own networks, /8 or narrower"),
        ("128.0.0.0/1", "128.0.0.0/1 is too wide: name the clients' own networks, /8 or narrower"),
        ("::/0", "::/0 is too wide: name the clients' own networks, /32 or narrower"),
        ("2000::/3", "2000::/3 is too wide: name the clients' own networks, /32 or narrower"),
        ("::ffff:0.0.0.0/96", "::ffff:0.0.0.0/96 is an IPv4 network in disguise: write it as one"),
        ("fe80::%eth0/64", "fe80::%eth0/64 has a zone: name the network alone"),
        ("10.1.2.3/24", "10.1.2.3/24 has host bits set: is 10.1.2.0/24 meant?"),
        ("office", "'office' is not a network like 10.20.30.0/24 or 2001:db8:1::/48"),
        ("", "'' is not a network like 10.20.30.0/24 or 2001:db8:1::/48"),
        ("10.0.0.0/33", "'10.0.0.0/33' is not a network like 10.20.30.0/24 or 2001:db8:1::/48"),
    ],
)
def test_what_names_nobody_is_no_network(text: str, problem: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_networks([text])
    assert str(refused.value) == f"network: {problem}"


def test_a_network_belongs_to_one_user() -> None:
    others = [RelayUserState("crm", {}, ("10.20.30.0/24",)), RelayUserState("erp", {}, ("10.9.0.0/16",))]
    with pytest.raises(Refused) as refused:
        add(networks=["10.1.0.0/16", "10.20.30.0/24"], others=others)
    assert str(refused.value) == "10.20.30.0/24 is a network of relay user crm already: take it from them first"
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
    with pytest.raises(InvalidValue, match="'printer-1' is not an IP address"):
        admitted_by_network(USERS, "printer-1")

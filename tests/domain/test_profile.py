"""A setting's fields: what each accepts, what it says when it doesn't, and how the setting's events change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from event_examples import mapper
from hypothesis import example, settings
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.catalogue import Protocol
from domain.errors import InvalidValue, NotFound, Refused
from domain.profile import Profile, check_provider, check_unmapped, in_concert, server_to_copy
from domain.profile_fields import AUTHORIZATION_FIELDS, Settings, accepted_fields, is_loopback, read_settings

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PROFILE, MACHINE, TOKEN, GROUP, OTHER = (UUID(int=n) for n in range(1, 6))
ADMIN = "administrator"


def new_profile(protocol: Protocol = Protocol.SMTP) -> Profile:
    profile = Profile.create(
        PROFILE,
        machine_id=MACHINE,
        machine="office-mfp",
        setting="smtp-service",
        protocol=protocol,
        token_id=TOKEN,
        group_id=None,
        by=ADMIN,
        now=NOW,
    )
    profile.collect_events()
    return profile


def configured(protocol: Protocol = Protocol.SMTP, **texts: str) -> Profile:
    profile = new_profile(protocol)
    profile.configure(profile.changes(texts), by=ADMIN, now=NOW)
    profile.collect_events()
    return profile


def then(profile: Profile, event_class: type[Profile.Event], **expected: Any) -> None:
    """Exactly this event was triggered."""
    assert profile.collect_events() == [
        event_class(originator_id=PROFILE, originator_version=profile.version, timestamp=NOW, **expected)
    ]


# ------------------------------------------------------------------------------------------------- field by field

LONGEST_LABEL, LONGEST_HOST = "a" * 63, ".".join(["a" * 49] * 5) + ".abc"


@pytest.mark.parametrize(
    ("protocol", "field", "text", "value"),
    [
        ("smtp", "server", "smtp.office365.com", "smtp.office365.com"),
        ("smtp", "server", "SMTP.Office365.COM", "smtp.office365.com"),
        ("smtp", "server", "mail", "mail"),
        ("smtp", "server", "3com.example", "3com.example"),
        ("smtp", "server", "relay.5X", "relay.5x"),
        ("smtp", "server", "xn--mller-kva.example", "xn--mller-kva.example"),
        ("smtp", "server", f"{LONGEST_LABEL}.example", f"{LONGEST_LABEL}.example"),
        ("smtp", "server", LONGEST_HOST, LONGEST_HOST),
        ("smtp", "server", "192.0.2.25", "192.0.2.25"),
        ("smtp", "server", "2001:DB8:0::25", "2001:db8::25"),
        ("smtp", "server", "::1", "::1"),
        ("smtp", "server", "fe80::1%eth0", "fe80::1%eth0"),
        ("smtp", "port", "1", 1),
        ("smtp", "port", "65535", 65535),
        ("smtp", "port", "0587", 587),
        ("smtp", "tls", "starttls", "starttls"),
        ("smtp", "tls", "Implicit", "implicit"),
        ("smtp", "tls", "NONE", "none"),
        ("smtp", "timeout", "1", 1),
        ("smtp", "timeout", "300", 300),
        ("smtp", "sender_name", 'Büro 2. Stock, "Scanner" <3>', 'Büro 2. Stock, "Scanner" <3>'),
        ("smtp", "sender_name", "複合機", "複合機"),
        ("smtp", "sender_name", "n" * 64, "n" * 64),
        ("smtp", "sender_address", "scan@contoso.com", "scan@contoso.com"),
        ("smtp", "sender_address", "Scan.2+office@mail.contoso.com", "Scan.2+office@mail.contoso.com"),
        ("smtp", "sender_address", "o'brien@contoso.com", "o'brien@contoso.com"),
        ("smtp", "sender_address", "jürgen@bücher.example", "jürgen@bücher.example"),
        ("smtp", "sender_address", "scan@xn--bcher-kva.example", "scan@xn--bcher-kva.example"),
        ("smtp", "sender_address", "root@localhost", "root@localhost"),
        ("smtp", "sender_address", "l" * 64 + "@contoso.com", "l" * 64 + "@contoso.com"),
        ("smtp", "authentication", "OAuth2", "oauth2"),
        ("smtp", "provider", "contoso", "contoso"),
        ("smtp", "provider", "Contoso_2.test-tenant", "Contoso_2.test-tenant"),
        ("smtp", "account", "Scan@Contoso.com", "Scan@Contoso.com"),
        ("smtp", "mailbox", "shared@contoso.com", "shared@contoso.com"),
        ("pop", "check_interval", "1", 1),
        ("imap", "check_interval", "1440", 1440),
    ],
)
def test_a_field_accepts(protocol: str, field: str, text: str, value: object) -> None:
    assert read_settings(Protocol(protocol), {field: text}) == {field: value}


Refusal = tuple[str, str, Mapping[str, object]]
NOT_A_HOST: Refusal = ("server", "not_a_host", {})
NOT_AN_ADDRESS: Refusal = ("sender_address", "not_an_email_address", {})
NOT_A_LINE = ("sender_name", "not_a_line", {"longest": 64})
NOT_A_PORT = ("port", "number_not_in_range", {"lowest": 1, "highest": 65535})
NOT_SECONDS = ("timeout", "duration_not_in_range", {"lowest": 1, "highest": 300, "unit": "seconds"})
NOT_MINUTES = ("check_interval", "duration_not_in_range", {"lowest": 1, "highest": 1440, "unit": "minutes"})
NOT_TLS = ("tls", "not_a_choice", {"choices": ("starttls", "implicit", "none")})
NOT_OAUTH = ("authentication", "not_a_choice", {"choices": ("oauth2",)})
NOT_A_PROVIDER: Refusal = ("provider", "not_a_provider_name", {})


def assert_refused(refusal: Refusal, text: str, protocol: Protocol = Protocol.SMTP) -> None:
    """The field refuses `text` with this code, and its facts say what it accepts."""
    field, code, accepted = refusal
    with pytest.raises(InvalidValue) as refused:
        read_settings(protocol, {field: text})
    error = refused.value
    assert (error.field, error.code, error.fields) == (field, code, {"value": text, **accepted})


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        *((NOT_A_HOST, text) for text in (
            "smtp.office365.com:587", "smtp://office365.com", "smtp office365.com", "smtp.office365.com\r\nQUIT",
            "smtp.office365.com\n", "smtp_1.contoso.com", "-smtp.contoso.com", "smtp-.contoso.com", ".contoso.com",
            "smtp..contoso.com", "müller.example", "[::1]", "::1/128", "1::2::3", " ", "\x00", "a" * 64 + ".example",
            "a" + LONGEST_HOST, "smtp.office365.com\u2028",
        )),
        *((NOT_A_PORT, text) for text in (
            "70000", "65536", "0", "-1", "+587", "587.0", "5 87", " 587", "587\n", "0x24b", "٥٨٧", "smtp", "9" * 5000,
        )),
        *((NOT_SECONDS, text) for text in ("0", "301", "20s", "-20", "1e2", "")[:5]),
        *((NOT_MINUTES, text) for text in ("0", "1441", "five")),
        *((NOT_TLS, text) for text in ("ssl", "tls", "start tls", "starttls\n", "yes")),
        *((NOT_A_LINE, text) for text in (
            "Scanner\nBcc: all@contoso.com", "Scanner\r\n", "\r", "Scan\tner", "\x00", "\x1b[2J", "\x7f", "n" * 65,
        )),
        *((NOT_AN_ADDRESS, text) for text in (
            "scan", "scan@", "@contoso.com", "scan@contoso@com", "scan@con toso.com", "scan @contoso.com",
            "scan@contoso.com\r\nRCPT TO:<all@contoso.com>", "scan@contoso.com\n", "scan\n@contoso.com",
            "scan\x00@contoso.com", "scan@contoso.com\x00", "<scan@contoso.com>", "Scanner <scan@contoso.com>",
            "scan@contoso.com>", "scan@contoso.com, bob@contoso.com", "scan@contoso.com;bob@contoso.com",
            '"scan office"@contoso.com', "scan@[192.0.2.25]", "scan@-contoso.com", "scan@contoso..com",
            "scan@" + "ü" * 63 + ".example", "l" * 65 + "@contoso.com", "scan\u2028@contoso.com",
        )),
        *((NOT_A_PROVIDER, text) for text in ("con toso", "-contoso", "contoso/2", "contoso\n", "contösö", "c" * 64)),
        (NOT_OAUTH, "plain"),
    ],
)  # fmt: skip
def test_a_field_refuses_and_says_what_it_accepts(refusal: Refusal, text: str) -> None:
    assert_refused(refusal, text, Protocol.POP if refusal is NOT_MINUTES else Protocol.SMTP)


@pytest.mark.parametrize("field", ["sender_address", "account", "mailbox"])
def test_every_address_is_checked_alike(field: str) -> None:
    assert_refused((field, "not_an_email_address", {}), "scan@contoso.com\r\nDATA")


@pytest.mark.parametrize("text", ["::1%\r\nQUIT", "fe80::1%eth0 x", "fe80::1%eth0\n", "::1%\x00"])
def test_the_zone_of_an_ipv6_server_can_not_smuggle_a_line_break_or_space_in(text: str) -> None:
    assert_refused(NOT_A_HOST, text)


@pytest.mark.parametrize("text", ["192.168.1.300", "010.0.0.1", "192.168.1", "1.2.3.4.5"])
def test_numbers_with_dots_that_are_no_ip_address_are_no_host_name_either(text: str) -> None:
    """RFC 1123 section 2.1: the last label of a host name is alphabetic, so it never looks like an address."""
    assert_refused(NOT_A_HOST, text)


@pytest.mark.parametrize(
    "text", ["Scan\u2028ner", "Scan\u2029ner", "Scan\x85ner", "Scan\x9b2Jner"], ids=["LS", "PS", "NEL", "CSI"]
)
def test_a_sender_name_has_no_line_break_or_control_character_of_unicode_either(text: str) -> None:
    assert_refused(NOT_A_LINE, text)


@pytest.mark.parametrize(
    ("field", "text"),
    [("sender_name", "B\udcfcro"), ("sender_address", "b\udcfcro@contoso.com"), ("account", "b\udcfcro@contoso.com")],
)
def test_bytes_that_were_no_utf8_on_the_command_line_are_refused(field: str, text: str) -> None:
    """Python hands such bytes on as lone surrogates, which no event could be stored with."""
    with pytest.raises(InvalidValue):
        read_settings(Protocol.SMTP, {field: text})


def test_an_address_has_no_control_character_of_unicode_either() -> None:
    assert_refused(NOT_AN_ADDRESS, "sc\x9ban@contoso.com")


@pytest.mark.parametrize("text", ["scan@contoso.com.", "scan@192.0.2.25"])
def test_an_address_ends_in_a_domain_name_without_a_last_dot(text: str) -> None:
    assert_refused(NOT_AN_ADDRESS, text)


ANY_TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Z", "C")), max_size=40)


@settings(max_examples=200)
@for_all(text=ANY_TEXT)
@example(text="Scan\u2028ner")
@example(text="B\udcfcro")
def test_a_sender_name_that_is_accepted_can_be_stored_and_stands_on_one_line_of_a_header(text: str) -> None:
    profile = new_profile()
    try:
        changes = profile.changes({"sender_name": text})
    except InvalidValue:
        return
    profile.configure(changes, by=ADMIN, now=NOW)
    (event,) = profile.collect_events()
    assert mapper().to_domain_event(mapper().to_stored_event(event)) == event
    message = EmailMessage()
    message["Subject"] = text
    assert str(message["Subject"]) == text


@settings(max_examples=200)
@for_all(text=st.one_of(ANY_TEXT, ANY_TEXT.map("::1%".__add__), ANY_TEXT.map("smtp.{}.example".format)))
@example(text="::1%\r\nQUIT")
def test_a_server_that_is_accepted_is_ascii_without_spaces_and_control_characters(text: str) -> None:
    try:
        server = read_settings(Protocol.SMTP, {"server": text}).get("server")
    except InvalidValue:
        return
    assert server is None or (server.isascii() and server.isprintable() and " " not in server)


@settings(max_examples=200)
@for_all(text=st.one_of(ANY_TEXT, ANY_TEXT.map("{}@contoso.com".format), ANY_TEXT.map("scan@{}.example".format)))
@example(text="b\udcfcro@contoso.com")
def test_an_address_that_is_accepted_has_nothing_a_mail_command_or_header_could_trip_over(text: str) -> None:
    try:
        address = read_settings(Protocol.SMTP, {"account": text}).get("account")
    except InvalidValue:
        return
    if address is not None:
        assert address.encode().decode() == text
        assert len(address.split()) == 1
        assert not set(address) & set('<>,;:()[]"\\')
        assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in address)


# --------------------------------------------------------------------------------------- which fields a setting has


def test_an_smtp_setting_has_the_manuals_smtp_fields() -> None:
    assert accepted_fields(Protocol.SMTP) == (
        "server",
        "port",
        "tls",
        "timeout",
        "sender_name",
        "sender_address",
        "authentication",
        "provider",
        "account",
        "mailbox",
    )


@pytest.mark.parametrize("protocol", [Protocol.POP, Protocol.IMAP])
def test_a_receiving_setting_has_a_check_interval_and_no_sender(protocol: Protocol) -> None:
    assert accepted_fields(protocol) == (
        "server",
        "port",
        "tls",
        "timeout",
        "check_interval",
        "authentication",
        "provider",
        "account",
        "mailbox",
    )


@pytest.mark.parametrize(
    ("protocol", "field"),
    [(Protocol.SMTP, "check_interval"), (Protocol.POP, "sender_name"), (Protocol.IMAP, "password")],
)
@pytest.mark.parametrize("text", ["5", ""], ids=["set", "cleared"])
def test_a_field_the_setting_does_not_have_is_refused_with_those_it_has(
    protocol: Protocol, field: str, text: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_settings(protocol, {field: text})
    assert (refused.value.field, refused.value.code) == (field, "not_a_field")
    assert refused.value.fields == {"protocol": protocol, "known": accepted_fields(protocol)}


def test_one_wrong_field_among_good_ones_changes_nothing() -> None:
    profile = configured(server="smtp.office365.com")
    with pytest.raises(InvalidValue, match=r"^port: "):
        profile.changes({"server": "smtp.gmail.com", "port": "70000"})
    assert profile.state.settings.server == "smtp.office365.com"
    assert not profile.pending_events


def test_provider_and_account_belong_to_the_authorization_and_the_mailbox_does_not() -> None:
    assert set(AUTHORIZATION_FIELDS) == {"provider", "account"}
    assert {field.name for field in fields(Settings)} > AUTHORIZATION_FIELDS


# ---------------------------------------------------------------------------------------------- clearing, defaults


def test_a_new_setting_has_nothing_filled_in_but_the_defaults() -> None:
    state = new_profile().state
    assert state.settings == Settings()
    assert (state.settings.tls, state.settings.timeout, state.settings.authentication) == ("starttls", 20, "oauth2")
    assert (state.name, state.token_id, state.group_id, state.removed) == (
        "office-mfp/smtp-service",
        TOKEN,
        None,
        False,
    )


FILLED_IN = {
    "server": "smtp.office365.com",
    "port": "2525",
    "tls": "implicit",
    "timeout": "60",
    "sender_name": "Scanner",
    "sender_address": "scan@contoso.com",
    "provider": "contoso",
    "account": "scan@contoso.com",
    "mailbox": "shared@contoso.com",
}


@pytest.mark.parametrize("field", FILLED_IN)
def test_an_empty_text_clears_a_field(field: str) -> None:
    profile = configured(Protocol.SMTP, **FILLED_IN)
    blank = getattr(Settings(), field)

    changes = profile.changes({field: ""})
    profile.configure(changes, by=ADMIN, now=NOW)

    then(profile, Profile.Configured, changes={field: blank}, by=ADMIN)
    assert getattr(profile.state.settings, field) == blank


def test_clearing_what_is_not_filled_in_changes_nothing() -> None:
    assert new_profile().changes({"server": "", "port": "", "tls": "", "account": ""}) == {}


def test_only_what_differs_is_a_change() -> None:
    profile = configured(server="smtp.office365.com", port="587")
    assert profile.changes({"server": "SMTP.office365.com", "port": "465"}) == {"port": 465}


@pytest.mark.parametrize(
    ("protocol", "tls", "port"),
    [
        (Protocol.SMTP, "starttls", 587),
        (Protocol.SMTP, "implicit", 465),
        (Protocol.POP, "starttls", 110),
        (Protocol.POP, "implicit", 995),
        (Protocol.IMAP, "starttls", 143),
        (Protocol.IMAP, "implicit", 993),
    ],
)
def test_the_port_is_the_protocols_own_for_this_kind_of_tls(protocol: Protocol, tls: str, port: int) -> None:
    assert configured(protocol, tls=tls).state.port == port


@pytest.mark.parametrize(("protocol", "port"), [(Protocol.SMTP, 587), (Protocol.POP, 110), (Protocol.IMAP, 143)])
def test_the_port_without_tls_is_that_of_starttls(protocol: Protocol, port: int) -> None:
    assert configured(protocol, server="localhost", tls="none").state.port == port


def test_a_port_that_is_set_stays_when_the_kind_of_tls_changes() -> None:
    assert configured(port="2525", tls="implicit").state.port == 2525


def test_a_port_that_is_cleared_is_the_default_again() -> None:
    profile = configured(port="2525")
    profile.configure(profile.changes({"port": ""}), by=ADMIN, now=NOW)
    assert profile.state.port == 587


def test_the_mailbox_is_the_account_unless_another_is_set() -> None:
    assert new_profile().state.mailbox is None
    assert configured(account="scan@contoso.com").state.mailbox == "scan@contoso.com"
    assert configured(account="scan@contoso.com", mailbox="shared@contoso.com").state.mailbox == "shared@contoso.com"


def test_the_settings_in_use_have_the_port_and_the_mailbox_that_are_not_set() -> None:
    state = configured(account="scan@contoso.com").state
    in_use = state.settings_in_use
    assert (in_use.port, in_use.mailbox) == (587, "scan@contoso.com")
    assert replace(in_use, port=None, mailbox=None) == state.settings


def test_a_provider_that_is_not_configured_is_refused_with_those_that_are() -> None:
    check_provider("contoso", ["contoso", "fabrikam"])
    with pytest.raises(NotFound) as refused:
        check_provider("acme", ["contoso", "fabrikam"])
    facts = {"provider": "acme", "configured": ["contoso", "fabrikam"]}
    assert (refused.value.code, refused.value.fields) == ("provider_not_configured", facts)


def test_a_setting_that_a_relay_user_is_mapped_to_is_not_removed() -> None:
    check_unmapped("press/smtp", [])
    with pytest.raises(Refused) as refused:
        check_unmapped("press/smtp", ["crm", "erp"])
    facts = {"profile": "press/smtp", "user": "crm"}
    assert (refused.value.code, refused.value.fields) == ("relay_user_mapped", facts)


# --------------------------------------------------------------------------------------------- no TLS: only loopback


@pytest.mark.parametrize("server", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.1.2.3", "::1"])
def test_no_tls_is_accepted_towards_loopback(server: str) -> None:
    assert is_loopback(server)
    assert configured(server=server, tls="none").state.settings.tls == "none"


@pytest.mark.parametrize(
    "server",
    [
        "smtp.office365.com",
        "192.0.2.25",
        "2001:db8::25",
        "10.0.0.1",
        "0.0.0.0",
        "::",
        "localhost.contoso.com",
        "localhostX",
        "127.1x",
        "",
    ],
)
def test_no_tls_is_refused_towards_anything_else(server: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        new_profile().changes({"server": server, "tls": "none"})
    assert (refused.value.field, refused.value.code) == ("tls", "tls_needed")


@pytest.mark.parametrize("server", ["smtp.office365.com", ""])
def test_a_setting_without_tls_can_not_be_turned_away_from_loopback(server: str) -> None:
    profile = configured(server="localhost", tls="none")
    with pytest.raises(InvalidValue) as refused:
        profile.changes({"server": server})
    assert (refused.value.field, refused.value.code) == ("tls", "tls_needed")


def test_server_and_tls_may_change_together() -> None:
    profile = configured(server="localhost", tls="none")
    assert profile.changes({"server": "smtp.office365.com", "tls": ""}) == {
        "server": "smtp.office365.com",
        "tls": "starttls",
    }


# ------------------------------------------------------------------------------------------------------ its events


def test_a_token_that_was_received_sets_provider_and_account_in_concert() -> None:
    profile = configured(provider="fabrikam", account="old@contoso.com", mailbox="shared@contoso.com")

    profile.receive_token(3, provider="contoso", account="scan@contoso.com", by="worker", now=NOW)

    then(
        profile,
        Profile.TokenReceived,
        token_id=TOKEN,
        generation=3,
        provider="contoso",
        account="scan@contoso.com",
        by="worker",
    )
    after = profile.state.settings
    assert (after.provider, after.account, after.mailbox) == ("contoso", "scan@contoso.com", "shared@contoso.com")


def test_a_token_that_was_deleted_leaves_provider_and_account_filled_in() -> None:
    profile = configured(provider="contoso", account="scan@contoso.com")
    before = profile.state
    profile.lose_token(by=ADMIN, now=NOW)
    then(profile, Profile.TokenDeleted, token_id=TOKEN, by=ADMIN)
    assert profile.state == before


def test_a_setting_follows_the_new_name_of_its_machine() -> None:
    profile = configured(server="smtp.contoso.com")
    before = profile.state
    profile.rename_machine("lobby-mfp", by="bob", now=NOW)
    then(profile, Profile.MachineRenamed, machine="lobby-mfp", previous="office-mfp", by="bob")
    assert profile.state == replace(before, machine="lobby-mfp")


def test_a_setting_that_joins_a_group_with_an_authorization_is_in_concert_at_once() -> None:
    profile = configured(provider="fabrikam", account="old@contoso.com")

    profile.link(group_id=GROUP, token_id=OTHER, provider="contoso", account="scan@contoso.com", by=ADMIN, now=NOW)

    then(
        profile,
        Profile.Linked,
        group_id=GROUP,
        token_id=OTHER,
        provider="contoso",
        account="scan@contoso.com",
        by=ADMIN,
    )
    state = profile.state
    assert (state.group_id, state.token_id) == (GROUP, OTHER)
    assert (state.settings.provider, state.settings.account) == ("contoso", "scan@contoso.com")


def test_a_setting_that_joins_a_group_without_an_authorization_keeps_its_own_provider_and_account() -> None:
    profile = configured(provider="fabrikam", account="old@contoso.com")
    profile.link(group_id=GROUP, token_id=OTHER, provider=None, account=None, by=ADMIN, now=NOW)
    assert (profile.state.settings.provider, profile.state.settings.account) == ("fabrikam", "old@contoso.com")


@pytest.mark.parametrize(("provider", "account"), [("contoso", None), (None, "scan@contoso.com")])
def test_half_an_authorization_replaces_nothing(provider: str | None, account: str | None) -> None:
    own = Settings(provider="fabrikam", account="old@contoso.com")
    assert in_concert(own, provider, account) == own


def test_a_setting_that_leaves_its_group_has_a_token_of_its_own_and_keeps_its_fields() -> None:
    profile = configured(Protocol.SMTP, **FILLED_IN)
    profile.link(group_id=GROUP, token_id=TOKEN, provider=None, account=None, by=ADMIN, now=NOW)
    profile.collect_events()
    before = profile.state.settings

    profile.unlink(OTHER, by=ADMIN, now=NOW)

    then(profile, Profile.Unlinked, token_id=OTHER, by=ADMIN)
    assert (profile.state.group_id, profile.state.token_id, profile.state.settings) == (None, OTHER, before)


def test_a_setting_that_was_removed_knows_it() -> None:
    profile = new_profile()
    profile.remove(by=ADMIN, now=NOW)
    then(profile, Profile.Removed, by=ADMIN)
    assert profile.state.removed


def test_a_server_is_copied_from_a_setting_that_shares_the_token_and_has_one() -> None:
    lacking, having = new_profile().state, configured(server="smtp.contoso.com").state
    assert (lacking.missing, having.missing) == (("server", "provider", "account"), ("provider", "account"))
    assert server_to_copy(lacking, [lacking, having]) is having
    assert server_to_copy(having, [having]) is None
    assert server_to_copy(lacking, [replace(having, token_id=OTHER), replace(having, protocol=Protocol.POP)]) is None

"""The catalogues say what the manual says."""

from __future__ import annotations

import pytest

from domain.catalogue import CATALOGUES, Protocol, catalogue
from domain.errors import NotFound
from domain.machine import valid_name


def test_the_sharp_bp_series_has_four_linked_smtp_settings_and_three_independent_pop_settings() -> None:
    assert [(s.name, s.protocol, s.linked, s.menu_path) for s in catalogue("sharp-bp").settings] == [
        ("smtp-service", Protocol.SMTP, True, "System Settings > Network Settings > Service Settings > SMTP"),
        (
            "smtp-alert",
            Protocol.SMTP,
            True,
            "System Settings > System Control > E-mail Alert and Status > SMTP Settings",
        ),
        ("smtp-quick", Protocol.SMTP, True, "System Settings > Network Settings > Quick Settings"),
        (
            "smtp-initial",
            Protocol.SMTP,
            True,
            "System Settings > Initial Installation Settings > Network Quick Settings",
        ),
        (
            "pop-internet-fax",
            Protocol.POP,
            False,
            "Image Send Settings > Internet Fax Settings > Server Settings",
        ),
        ("pop-email-print", Protocol.POP, False, "Printer Settings > E-mail Print Settings"),
        (
            "pop-email-status",
            Protocol.POP,
            False,
            "System Settings > System Control > E-mail Alert and Status > E-mail Status",
        ),
    ]


def test_a_generic_machine_has_one_setting_for_each_protocol_and_none_linked() -> None:
    assert [(s.name, s.protocol, s.linked) for s in catalogue("generic").settings] == [
        ("smtp", Protocol.SMTP, False),
        ("pop", Protocol.POP, False),
        ("imap", Protocol.IMAP, False),
    ]


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_catalogue_is_found_by_its_name_and_each_setting_by_its_own(name: str) -> None:
    found = catalogue(name)
    assert found.name == name
    assert [found.setting(setting.name) for setting in found.settings] == list(found.settings)


@pytest.mark.parametrize("name", CATALOGUES)
def test_only_smtp_settings_are_linked_and_no_name_is_there_twice(name: str) -> None:
    settings = catalogue(name).settings
    assert all(setting.protocol is Protocol.SMTP for setting in settings if setting.linked)
    assert len({setting.name for setting in settings}) == len(settings)
    for setting in settings:
        valid_name("setting", setting.name)


def test_only_a_machine_with_linked_settings_gets_a_group() -> None:
    assert {name: model.has_linked_settings for name, model in CATALOGUES.items()} == {
        "sharp-bp": True,
        "generic": False,
    }


def test_an_unknown_catalogue_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound) as not_found:
        catalogue("canon")
    assert not_found.value.code == "catalogue_unknown"
    assert not_found.value.fields == {"name": "canon", "known": ["sharp-bp", "generic"]}


def test_an_unknown_setting_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound) as not_found:
        catalogue("generic").setting("smtp-service")
    assert not_found.value.code == "catalogue_setting_unknown"
    assert not_found.value.fields == {"catalogue": "generic", "name": "smtp-service", "known": ["smtp", "pop", "imap"]}

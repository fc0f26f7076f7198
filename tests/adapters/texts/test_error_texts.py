"""Each error has a sentence, which every surface ends in its own words."""

from __future__ import annotations

from adapters.error_kinds import ERROR_KINDS, exit_code_for, exit_code_of, status_of
from adapters.texts.errors import error_text, sentence
from adapters.texts.wording import Surface
from domain import errors
from domain.errors import InvalidValue, MailtokenError, NotFound, Outdated, Refused, StorageFull


def test_the_table_of_kinds_names_classes_that_there_are() -> None:
    assert all(issubclass(getattr(errors, name), MailtokenError) for name in ERROR_KINDS)


def test_an_error_without_a_row_of_its_own_has_that_of_its_base() -> None:
    full = StorageFull("store_full")
    assert (status_of(full), exit_code_of(full)) == (503, 6)
    assert (status_of(Outdated("x")), exit_code_for(412)) == (412, 5)


def test_a_status_and_an_error_end_a_command_alike() -> None:
    assert all(exit_code_for(status) is exit_code for status, exit_code in ERROR_KINDS.values())


def test_a_code_of_a_newer_service_is_shown_as_it_is() -> None:
    assert sentence("eaten_by_a_whale", {"profile": "a/b"}, Surface.PAGE) == "a/b: eaten_by_a_whale"
    assert error_text(InvalidValue("port", "eaten"), Surface.API) == "port: eaten"
    assert error_text(Refused("eaten"), Surface.COMMAND) == "eaten"


def test_an_error_with_the_fields_of_another_service_is_shown_by_its_code() -> None:
    assert error_text(InvalidValue("server", "not_a_host"), Surface.PAGE) == "server: not_a_host"


def test_an_empty_list_says_none() -> None:
    error = NotFound("provider_not_configured", provider="contoso", configured=[])
    assert error_text(error, Surface.PAGE) == "there is no provider 'contoso'; there are: none"


def test_what_is_not_there_is_looked_for_with_the_surfaces_own_means() -> None:
    error = NotFound("machine_not_found", machine="office-mfp")
    assert error_text(error, Surface.COMMAND) == "no machine is called 'office-mfp': see mailtoken machine list"
    assert error_text(error, Surface.PAGE) == "no machine is called 'office-mfp'"

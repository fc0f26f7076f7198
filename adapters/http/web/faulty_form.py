"""A form that was not accepted: what was typed into it, and every fault at its field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import TypeVar

from adapters.error_kinds import status_of
from adapters.texts.errors import text_at_field
from adapters.texts.wording import Surface
from domain.errors import Conflict, InvalidValue, MailtokenError, NotFound, Refused

T = TypeVar("T")

WHOLE = ""
"""Stands for the form as a whole, where a fault is of none of its fields."""
_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "user": "name",
        "client": "name",
        "administrator": "name",
        "network": "networks",
        "relay_user_exists": "name",
        "client_exists": "name",
        "administrator_exists": "name",
        "profile_not_found": "profiles",
        "network_without_smtp": "profiles",
        "password_missing": "profiles",
        "provider_exists": "name",
        "provider_in_file": "name",
        "provider_in_use": "name",
        "network_taken": "networks",
        "password_or_network_missing": "networks",
    }
)
"""The field of a form by the value that an error names, or by the error's code."""


class NotAccepted(Exception):
    """The faults of a form, by field."""

    def __init__(self, faults: Mapping[str, MailtokenError]) -> None:
        super().__init__(", ".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class FaultyForm:
    """The form that posts to `action`, as it was typed, with the sentence of each fault by field. Else: no form."""

    action: str | None = None
    typed: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    status: int = HTTPStatus.OK

    @classmethod
    def of(cls, action: str, typed: Mapping[str, str], refused: NotAccepted) -> FaultyForm:
        """The form that was refused."""
        problems = {name: text_at_field(error, Surface.PAGE) for name, error in refused.faults.items()}
        whole = refused.faults.get(WHOLE)
        return cls(action, typed, problems, status_of(whole) if whole else HTTPStatus.UNPROCESSABLE_ENTITY)

    def is_at(self, action: str) -> bool:
        """Whether it is the form that posts to `action`."""
        return action == self.action

    def value(self, action: str, name: str, stored: str = "") -> str:
        """What was typed into the field of the form that posts to `action`; else what is stored."""
        return self.typed.get(name, "") if action == self.action else stored

    def problem(self, action: str, name: str = WHOLE) -> str | None:
        """What is wrong with the field."""
        return self.problems.get(name) if action == self.action else None


NO_FORM = FaultyForm()


def accept(checks: Mapping[str, Callable[[], object]], do: Callable[[], T]) -> T:
    """Do it if every check passes, each of the field by whose name it is.

    Raises:
        NotAccepted: a check has failed, or it was refused.
        NotFound: what is to be changed is there no more.
    """
    found = {name: _fault_of(check) for name, check in checks.items()}
    faults = {name: error for name, error in found.items() if error}
    if not faults:
        try:
            return do()
        except (InvalidValue, NotFound, Refused, Conflict) as error:
            if isinstance(error, NotFound) and error.code not in _FIELDS:
                raise
            faults = {_field_of(error): error}
    raise NotAccepted(faults)


def faulty(action: str, typed: Mapping[str, str], do: Callable[[], object]) -> FaultyForm | None:
    """Do it; the form as it was typed if it was refused.

    Raises:
        NotFound: what is to be changed is there no more.
    """
    try:
        accept({}, do)
    except NotAccepted as refused:
        return FaultyForm.of(action, typed, refused)
    return None


def _fault_of(check: Callable[[], object]) -> MailtokenError | None:
    try:
        check()
    except (InvalidValue, NotFound, Refused) as error:
        return error
    return None


def _field_of(error: MailtokenError) -> str:
    if isinstance(error, InvalidValue):
        return _FIELDS.get(error.field, error.field)
    return _FIELDS.get(error.code, WHOLE)

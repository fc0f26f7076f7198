"""The secrets and certificates of the client registration, tried in turn, with a client library for each.

Invariant: a provider that refuses a request for its client credential has not served the request. The codes and tokens
in the request are not spent, so the request can be repeated with the next credential.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from adapters.providers.error_table import Overrides
from adapters.providers.token_responses import read_client_fault
from domain.outcomes import ClientFault
from domain.ports import Reply

L = TypeVar("L")


class CredentialRotation(Generic[L]):
    """The client libraries by the name of their credential, in the order in which they are tried."""

    def __init__(self, libraries: Mapping[str, L], overrides: Overrides) -> None:
        self._libraries = libraries
        self._overrides = overrides
        self._works = next(iter(libraries))
        self.faults: Mapping[str, ClientFault] = MappingProxyType({})
        """The credentials that the provider refuses while another works."""

    @property
    def library(self) -> L:
        """The library of the credential that worked last."""
        return self._libraries[self._works]

    def ask(self, post: Callable[[L], Reply]) -> Reply:
        """Post with each credential in turn until the provider accepts a credential; returns the last reply."""
        refused: dict[str, ClientFault] = {}
        for name in self._in_order():
            reply = post(self._libraries[name])
            fault = read_client_fault(reply, self._overrides)
            if fault is None:
                self._note(name, refused)
                return reply
            refused[name] = fault
        return reply

    def _in_order(self) -> Iterator[str]:
        works = self._works
        yield works
        yield from (name for name in self._libraries if name != works)

    def _note(self, works: str, refused: Mapping[str, ClientFault]) -> None:
        self._works = works
        if refused or works in self.faults:
            kept = {name: fault for name, fault in self.faults.items() if name != works}
            self.faults = MappingProxyType({**kept, **refused})

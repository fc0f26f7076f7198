"""Our client registration: one client library for each secret or certificate, and which of them the provider takes.

Invariant: a request that was refused for what it authenticated with was not served, so its codes and tokens are not
spent, and it can be made again with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from adapters.providers.errors import Overrides
from adapters.providers.replies import read_client_fault
from domain.outcomes import ClientFault
from domain.ports import Reply

L = TypeVar("L")


class Registration(Generic[L]):
    """The libraries by the name of what each authenticates with, in the order they are tried."""

    def __init__(self, libraries: Mapping[str, L], overrides: Overrides) -> None:
        self._libraries = libraries
        self._overrides = overrides
        self._works = next(iter(libraries))
        self.faults: Mapping[str, ClientFault] = MappingProxyType({})
        """What the provider refuses while another one works."""

    @property
    def library(self) -> L:
        """The one that worked last."""
        return self._libraries[self._works]

    def ask(self, post: Callable[[L], Reply]) -> Reply:
        """Post with one after the other until one is not refused; the reply is the last one's."""
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

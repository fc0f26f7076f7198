"""Work that takes a process of the tests much of its time, and shows nothing."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable
from types import CodeType
from typing import Any

import argon2.profiles
import fastapi.routing
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant

from infrastructure.access.password_hashing import PasswordHasher

ARGON2_OF_THE_PROGRAM = PasswordHasher.parameters


def spare_work() -> None:
    """Let this process have cheap hashes of passwords, and none of the system's certificate authorities.

    A hash takes 0.3 s of CPU. Reading the authorities, which vouch for no server of the tests, takes 30 ms for each
    service and relay that starts. The framework's look at what each route needs takes 60 ms for each service.
    """
    PasswordHasher.parameters = argon2.profiles.CHEAPEST
    none = ssl.get_default_verify_paths()._replace(openssl_cafile="/nowhere", openssl_capath="/nowhere")
    setattr(ssl, "get_default_verify_paths", lambda: none)  # noqa: B010
    setattr(fastapi.routing, "get_dependant", _remembering(get_dependant))  # noqa: B010


def _remembering(analyse: Callable[..., Dependant]) -> Callable[..., Dependant]:
    """FastAPI's analysis of the function of a route, which is the same for the route of every service."""
    known: dict[tuple[str, CodeType], Dependant] = {}

    def analysed(*, path: str, call: Callable[..., Any], **more: Any) -> Dependant:
        place = path, call.__code__
        if place not in known:
            known[place] = analyse(path=path, call=call, **more)
        found = known[place]
        # The route adds to the list.
        return dataclasses.replace(found, call=call, dependencies=[*found.dependencies])

    return analysed

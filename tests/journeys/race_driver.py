"""A process of its own, with a service on a store that it shares with others, that asks for every token at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from adapters import bootstrap
from infrastructure.clock import SystemClock
from infrastructure.config.load import load_config
from infrastructure.tokens.token_service import TokenService


class AheadClock(SystemClock):
    """The machine's clock, so far ahead: what a wait would bring."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def elapsed(self) -> float:
        return super().elapsed() + self.ahead.total_seconds()


@dataclass(frozen=True)
class Wave:
    """Ask for each of these tokens once, in an order of one's own, with the clock so far ahead."""

    ahead: timedelta
    profiles: Sequence[str]


@dataclass
class Handed:
    """What a process got: the access token by profile, those that had expired by then, and whatever went wrong."""

    tokens: dict[str, str] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def race(config: Path, threads: int, pipe: Connection) -> None:
    """Say "ready", then play each wave that comes and tell what was handed out, until one comes that is None."""
    clock = AheadClock()
    with (
        bootstrap.open_service(load_config(config), clock=clock) as service,
        ThreadPoolExecutor(threads) as pool,
    ):
        pipe.send("ready")
        wave: Wave | None
        while wave := pipe.recv():
            clock.ahead = wave.ahead
            handed = Handed()
            profiles = random.sample(wave.profiles, len(wave.profiles))
            list(pool.map(_ask, profiles, *([one] * len(profiles) for one in (service.tokens, clock, handed))))
            pipe.send(handed)


def _ask(profile: str, tokens: TokenService, clock: AheadClock, handed: Handed) -> None:
    try:
        credential = tokens.access_token(profile, None, "client").credential
    except Exception as error:
        handed.errors.append(f"{profile}: {type(error).__name__}: {error}")
        return
    if credential.expires_at <= clock.now():
        handed.expired.append(profile)
    handed.tokens[profile] = credential.access_token.reveal()

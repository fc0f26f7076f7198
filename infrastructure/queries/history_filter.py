"""What a reader selects of the history: by subject, words, kind, author and time.

The pages and the API both read their texts here, so that the same words select the same events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from domain.errors import InvalidValue
from infrastructure.clock import instant_text, read_instant

_MOST_WORDS = 10


class EventKind(StrEnum):
    """What kind of thing happened."""

    GET_TOKEN = "get-token"  # noqa: S105 - a name
    RENEWAL = "renewal"
    INVALID = "invalid"
    DELETION = "deletion"
    SERVED = "served"
    SETTING = "setting"
    LINK = "link"
    MACHINE = "machine"
    RELAY_USER = "relay-user"
    CLIENT = "client"
    PROVIDER = "provider"
    SIGN_IN = "sign-in"
    PERSON = "person"
    STORE = "store"


_NAMES: Mapping[EventKind, tuple[str, ...]] = MappingProxyType(
    {
        EventKind.GET_TOKEN: (
            "Token.AuthorizationRequested",
            "Token.AuthorizationEnded",
            "Token.Retrieved",
            "Token.LateReplyDiscarded",
            "Profile.TokenReceived",
        ),
        EventKind.RENEWAL: ("Token.Renewed", "Token.RenewalWithheld"),
        EventKind.INVALID: ("Token.GrantFoundDead",),
        EventKind.DELETION: ("Token.Deleted", "Profile.TokenDeleted"),
        EventKind.SERVED: ("Reader.",),
        EventKind.SETTING: (
            "Profile.Created",
            "Profile.Configured",
            "Profile.MachineRenamed",
            "Profile.Removed",
            "Token.Created",
            "Token.Retired",
        ),
        EventKind.LINK: ("SmtpGroup.", "Profile.Linked", "Profile.Unlinked"),
        EventKind.MACHINE: ("Machine.",),
        EventKind.RELAY_USER: ("RelayUser.",),
        EventKind.CLIENT: ("Client.",),
        EventKind.PROVIDER: ("Provider.", "Token.ProviderRenamed"),
        EventKind.SIGN_IN: ("Session.",),
        EventKind.PERSON: ("Administrator.", "Link."),
        EventKind.STORE: ("ReadModel.", "Log."),
    }
)


def is_of_kind(name: str, kind: EventKind) -> bool:
    """Whether an event is of this kind; `name` is that of its aggregate and its own: `Token.Renewed`."""
    return any(name.startswith(one) if one.endswith(".") else name == one for one in _NAMES[kind])


@dataclass(frozen=True)
class HistoryFilter:
    """Selects events by all of its parts that are not None.

    `profile` is the name of a setting, or of a machine for the machine itself and all of its settings. `q` has words
    that all must be in one name that the event concerns: of a setting, machine, group, relay user, client,
    administrator or provider. `who` has words that all must be in the author with their role. What is wanted is the
    log as it was at `until`, without the log as it was just before `since`.
    """

    profile: str | None = None
    q: str | None = None
    kind: EventKind | None = None
    who: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> HistoryFilter:
        """The filter that the texts `profile`, `q`, `kind`, `who`, `from` and `to` ask for.

        An empty text asks for nothing; an instant without an offset is in UTC.

        Raises:
            InvalidValue: a text is no kind or no instant, or has a NUL character.
        """
        given = {name: text.strip() for name, text in texts.items()}
        for name, text in given.items():
            if "\0" in text:
                raise InvalidValue(name, "nul_character")
        kind = given.get("kind") or None
        if kind is not None and kind not in set(EventKind):
            raise InvalidValue("kind", "not_a_choice", value=kind, choices=", ".join(EventKind))
        return cls(
            given.get("profile") or None,
            given.get("q") or None,
            EventKind(kind) if kind else None,
            given.get("who") or None,
            _instant("from", given.get("from", "")),
            _instant("to", given.get("to", "")),
        )

    def as_texts(self) -> dict[str, str]:
        """The texts that `of` reads, without those that are empty."""
        texts = {
            "profile": self.profile,
            "q": self.q,
            "kind": self.kind,
            "who": self.who,
            "from": self.since and instant_text(self.since),
            "to": self.until and instant_text(self.until),
        }
        return {name: str(text) for name, text in texts.items() if text}

    @property
    def words(self) -> tuple[str, ...]:
        """The words of `q`."""
        return _words(self.q)

    @property
    def authors(self) -> tuple[str, ...]:
        """The words of `who`."""
        return _words(self.who)


EVERYTHING = HistoryFilter()


def _words(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").casefold().split()[:_MOST_WORDS])


def _instant(field: str, text: str) -> datetime | None:
    try:
        return read_instant(text) if text else None
    except (ValueError, OverflowError):
        raise InvalidValue(field, "not_an_instant", value=text) from None

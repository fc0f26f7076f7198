"""Each event of the log has a sentence, made of its own facts."""

import json
import string
from pathlib import Path

import pytest

from adapters.texts import events
from domain.administrator import Administrator
from domain.api_client import ApiClient
from domain.disclosure import Disclosure
from domain.log_hold import LogHold
from domain.machine import Machine
from domain.one_time_link import LinkEnd, OneTimeLink
from domain.profile import Profile
from domain.rebuild import Rebuild
from domain.relay_user import RelayUser
from domain.session import Session, SessionEnd
from domain.smtp_group import SmtpGroup
from domain.stored_provider import StoredProvider
from domain.token import Token

GOLDEN = Path(__file__).parents[2] / "domain" / "golden"


def test_every_event_has_a_sentence() -> None:
    named = {
        ".".join(event.names())
        for kind in (
            Administrator,
            ApiClient,
            Disclosure,
            LogHold,
            Machine,
            OneTimeLink,
            Profile,
            Rebuild,
            RelayUser,
            Session,
            SmtpGroup,
            StoredProvider,
            Token,
        )
        for event in vars(kind).values()
        if isinstance(event, type) and issubclass(event, kind.Event) and event is not kind.Event
    }
    assert set(events.EVENTS) == named


def test_every_end_of_a_session_and_of_a_link_has_words() -> None:
    assert set(events._ENDS) == {*SessionEnd, *LinkEnd}


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_sentence_asks_only_for_facts_that_its_event_has(golden: Path) -> None:
    _, aggregate, event, _ = golden.stem.split(".")
    made = {"changed", "filled", "why", "member", "group", "end", "given_up"}
    wanted = {field for _, field, _, _ in string.Formatter().parse(events.EVENTS[f"{aggregate}.{event}"]) if field}
    assert wanted - made <= set(json.loads(golden.read_text()))

"""Each refusal of the corpus has its class and the party that can mend it, and the documentation shows it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from provider_fakes import NOON, reply_of
from refusal_corpus import PAGE, meaning_of, page, refusals

from adapters.providers.token_responses import read_renewal
from domain.outcomes import ClientFault, Credential, GrantDead, Identity, InDoubt, Transient
from domain.secret import Secret

REFUSALS = refusals()
OUTCOMES = {
    "grant_dead": GrantDead,
    "client_fault": ClientFault,
    "configuration": ClientFault,
    "pending": Transient,
    "slow_down": Transient,
    "transient": Transient,
    "attempt_over": Transient,
    "unknown": Transient,
}


def nobody(*_: object) -> Identity:
    raise AssertionError("a refusal has no ID token")


def name_of(refusal: dict[str, Any]) -> str:
    return f"{refusal['from']}-{meaning_of(refusal).code}"


@pytest.mark.parametrize("refusal", REFUSALS, ids=map(name_of, REFUSALS))
def test_a_refusal_has_its_class_who_can_mend_it_and_a_sentence(refusal: dict[str, Any]) -> None:
    meaning = meaning_of(refusal)
    assert (meaning.kind, meaning.who) == (refusal["class"], refusal["who"])
    assert len(meaning.sentence) > 20
    if isinstance(refusal["reply"], dict) and refusal["status"] not in {429, 500, 503}:
        old = Credential(Secret("access"), Secret("refresh"), "mail", NOON, NOON + timedelta(hours=1))
        outcome = read_renewal(reply_of(json.dumps(refusal["reply"]), refusal["status"]), old, nobody)
        expected = OUTCOMES[meaning.kind.split()[0]]
        assert type(outcome) is (InDoubt if expected is Transient and refusal["status"] == 200 else expected)


def test_the_corpus_has_150_refusals_or_more_and_the_page_shows_them() -> None:
    assert len(REFUSALS) >= 150
    assert PAGE.read_text() == page(), "run: python tests/refusal_corpus.py"

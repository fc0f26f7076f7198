"""Each cause of a refusal at the relay has a sentence, and each sentence a cause."""

from __future__ import annotations

from adapters.relay.refusals import Cause
from adapters.texts.relay_refusals import REFUSALS


def test_each_cause_has_a_sentence_and_each_sentence_a_cause() -> None:
    assert set(REFUSALS) == set(Cause)

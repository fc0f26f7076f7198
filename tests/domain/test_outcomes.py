"""The parts of a provider's reply that an error shows."""

from __future__ import annotations

from domain.outcomes import ProviderReply


def test_an_error_shows_the_words_and_ids_that_a_reply_has() -> None:
    assert ProviderReply("invalid_grant").facts == {}
    reply = ProviderReply("invalid_grant", words="expired", trace_id="", correlation_id="c-1")
    assert reply.facts == {"provider_words": "expired", "correlation_id": "c-1"}

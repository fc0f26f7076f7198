"""Counters for `/metrics` of occurrences in this process that are not in the event log."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Counters:
    """The counters of a process since its start. Safe to use from every thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._tokens_served = Counter("mailtoken_hand_outs", "Access tokens served.", registry=self.registry)
        self._unreachable = Counter(
            "mailtoken_unreachable", "Renewals a provider gave no answer to.", ["provider"], registry=self.registry
        )

    def token_served(self) -> None:
        """Count an access token that was served to a client or the relay."""
        self._tokens_served.inc()

    def provider_unreachable(self, provider: str) -> None:
        """Count a renewal that a provider did not answer, or answered with a server error."""
        self._unreachable.labels(provider).inc()

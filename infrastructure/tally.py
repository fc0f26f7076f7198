"""What this run does that is no event, counted for `metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Tally:
    """What this process does that is no event. Safe to use from every thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._hand_outs = Counter("mailtoken_hand_outs", "Access tokens handed out.", registry=self.registry)
        self._unreachable = Counter(
            "mailtoken_unreachable", "Renewals a provider gave no answer to.", ["provider"], registry=self.registry
        )

    def handed_out(self) -> None:
        """An access token was handed out."""
        self._hand_outs.inc()

    def unreachable(self, provider: str) -> None:
        """A provider gave no answer, or none that says anything."""
        self._unreachable.labels(provider).inc()

"""The use cases around tokens, in a single class for other packages. Acquisition, renewal and deletion do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from infrastructure.counters import Counters
from infrastructure.tokens.acquisition import Acquisitions
from infrastructure.tokens.backoff import Backoff
from infrastructure.tokens.deletion import Deletions
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.renewal import Renewals
from infrastructure.tokens.status_reader import StatusReader

log = structlog.get_logger("mailtoken")


class TokenService:
    """The operations on tokens for other packages. A method that is assigned here is documented in its own class."""

    def __init__(self, exchange: TokenExchange) -> None:
        self._exchange = exchange
        self._reported_faults: dict[str, dict[str, str]] = {}
        self.backoff = Backoff()
        self.counters = Counters()
        self.alarms = exchange.alarms.codes
        self.alarm_causes = exchange.alarms.causes
        self.alarm_settings = exchange.alarms.settings
        self.unproven = exchange.unproven
        self.last_refusal = exchange.refusals.of
        self.recover = exchange.recover
        self.holds = exchange.holds
        self.exchanges = exchange.exchanges
        self.check_storage = exchange.check_storage

        statuses = StatusReader(exchange.events.store, exchange.clock)
        self.status = statuses.of
        self.believed_status = statuses.believed
        self.statuses = statuses.all

        self.acquisitions = Acquisitions(exchange, statuses)
        self.request = self.acquisitions.request
        self.under_way = self.acquisitions.under_way
        self.cancel = self.acquisitions.cancel
        self.complete = self.acquisitions.complete
        self.complete_by_state = self.acquisitions.complete_by_state
        self.waiting = self.acquisitions.waiting
        self.end_for_changed_client = self.acquisitions.end_for_changed_client
        self.seconds_between_polls = self.acquisitions.seconds_between_polls
        self.poll = self.acquisitions.poll

        self.renewals = Renewals(exchange, statuses, self.backoff, self.counters)
        self.served_at = self.renewals.served_at
        self.access_token = self.renewals.access_token
        self.renew = self.renewals.renew
        self.renew_generation = self.renewals.renew_generation

        self.deletions = Deletions(exchange, statuses)
        self.delete = self.deletions.delete
        self.preview_deletion = self.deletions.preview_deletion
        self.forget = self.deletions.forget

    def flows(self, provider: str) -> Sequence[str]:
        """The flows by which this provider gives a token, the default first.

        Raises:
            NotFound: the configuration has no such provider.
        """
        return self._exchange.provider(provider).flows

    def waits(self) -> Mapping[str, int]:
        """What waits before it is tried again: renewals, providers with an open circuit, and sign-ins, by number."""
        renewals, providers = self.backoff.waiting(self._exchange.clock.now())
        return {"renewals": renewals, "providers": providers, "sign_ins": self._exchange.failures.count()}

    def client_faults(self) -> dict[str, dict[str, str]]:
        """By provider: each client secret or certificate that is refused while another works, and the error code.

        A new fault is logged.
        """
        faults = {
            name: {credential: fault.code for credential, fault in provider.client_faults.items()}
            for name, provider in self._exchange.providers.items()
        }
        for name, refused in faults.items():
            for credential in refused.keys() - self._reported_faults.get(name, {}).keys():
                log.error("client_credential_refused", provider=name, why=f"{credential}: {refused[credential]}")
        self._reported_faults = faults
        return faults

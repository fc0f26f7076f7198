"""The use cases of a running service, bundled for the routers and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.ports import Clock
from infrastructure.access.administrators import Administrators
from infrastructure.access.api_clients import ApiClients
from infrastructure.access.one_time_links import PendingSignIns
from infrastructure.access.relay_refusals import RelayRefusals
from infrastructure.access.relay_users import RelayUsers
from infrastructure.access.sessions import Sessions
from infrastructure.config.tables import Config
from infrastructure.evidence.checkpoint_worker import CheckpointWorker
from infrastructure.fleet.apply import Applier
from infrastructure.fleet.settings import SettingsService
from infrastructure.jobs.jobs import Jobs
from infrastructure.mail import MailService
from infrastructure.mail_counts import MailCounts
from infrastructure.node_reports import NodeReports
from infrastructure.notifications import Notifier
from infrastructure.providers.known_providers import KnownProviders
from infrastructure.providers.stored_providers import StoredProviders
from infrastructure.queries.attention import Attention
from infrastructure.queries.attention_page import AttentionQuery
from infrastructure.queries.audit import Audit
from infrastructure.queries.history import History
from infrastructure.queries.home import HomeQuery
from infrastructure.queries.machines import MachinesQuery
from infrastructure.queries.settings_page import SettingsPageQuery
from infrastructure.queries.store_state import StoreStateQuery
from infrastructure.queries.verifier import Verifier
from infrastructure.store.event_log import EventLog
from infrastructure.ticker import Ticker
from infrastructure.tokens.access_token_cache import AccessTokenCache
from infrastructure.tokens.polling_worker import PollingWorker
from infrastructure.tokens.renewal_worker import RenewalWorker
from infrastructure.tokens.token_service import TokenService
from infrastructure.upkeep.row_scan import RowWatch


@dataclass(frozen=True)
class Service:
    """The use cases of a running service; `adapters.bootstrap` makes the object."""

    config: Config
    clock: Clock
    settings: SettingsService
    tokens: TokenService
    attention: Attention
    mail: MailService
    mail_counts: MailCounts
    audit: Audit
    polling_worker: PollingWorker
    renewal_worker: RenewalWorker
    notifier: Notifier
    relay_users: RelayUsers
    settings_page: SettingsPageQuery
    attention_query: AttentionQuery
    machines: MachinesQuery
    history: History
    verifier: Verifier
    applier: Applier
    administrators: Administrators
    sessions: Sessions
    pending_sign_ins: PendingSignIns
    clients: ApiClients
    access_token_cache: AccessTokenCache
    events: EventLog
    checkpoint_worker: CheckpointWorker
    store_state: StoreStateQuery
    row_watch: RowWatch
    node_reports: NodeReports
    providers: KnownProviders
    stored_providers: StoredProviders
    jobs: Jobs
    home: HomeQuery
    relay_refusals: RelayRefusals = field(default_factory=RelayRefusals)

    @property
    def tickers(self) -> tuple[Ticker, ...]:
        """The loop of every worker."""
        workers = (
            self.polling_worker,
            self.renewal_worker,
            self.notifier,
            self.mail_counts,
            self.row_watch,
            self.node_reports,
            self.checkpoint_worker,
            self.providers,
        )
        return tuple(ticker for worker in workers for ticker in worker.tickers)

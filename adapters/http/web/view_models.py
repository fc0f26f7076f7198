"""View models of settings. Settings that share a token form one block: their menu paths, and the token once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from adapters.http.web.page_route import setting_path
from adapters.texts.profile_fields import missing_text
from adapters.texts.reasons import provider_said, why
from adapters.texts.wording import Surface
from domain.attention import Urgency, urgency_of
from domain.catalogue import CATALOGUES, CatalogueSetting, Protocol
from domain.lifecycle import TokenStatus
from domain.profile import ProfileState, server_to_copy
from infrastructure.queries.attention import OF_PROVIDERS, OF_STORE, StatusWithAttention
from infrastructure.queries.setting_status import SettingStatus
from infrastructure.queries.settings_page import MachineOnPage, SettingsPage

STATES = (TokenStatus.RETRIEVED, TokenStatus.WAITING, TokenStatus.INVALID, TokenStatus.NOT_RETRIEVED)
"""The states in the order in which the pages count them."""


@dataclass(frozen=True)
class SettingView:
    """A setting with its path in the machine's menus.

    `lacks` says what it lacks to be of use beside a token that works; `copy_from` is a setting that has it.
    """

    profile: ProfileState
    menu_path: tuple[str, ...]
    lacks: str | None = None
    copy_from: ProfileState | None = None

    @property
    def path(self) -> str:
        """The path of its page."""
        return setting_path(self.profile.name)


@dataclass(frozen=True)
class TokenView:
    """A token as its settings display it. `sentence` says why a person is needed, or why the last attempt ended.

    `provider_said` has the provider's own words about it.
    """

    status_with_attention: StatusWithAttention
    sentence: str | None
    provider_said: str | None
    ends_at: datetime | None

    @property
    def status(self) -> SettingStatus:
        """The status of the setting that shows the token."""
        return self.status_with_attention.status

    @property
    def label(self) -> TokenStatus:
        """The label of the token."""
        return self.status.token.status

    @property
    def urgency(self) -> Urgency | None:
        """How urgently a person is needed; None if nobody is."""
        code = self.status_with_attention.attention
        return urgency_of(code) if code else None

    @property
    def is_shared_cause(self) -> bool:
        """Whether a person is needed for a cause that other tokens have too."""
        return self.status_with_attention.attention in (OF_PROVIDERS | OF_STORE)

    @property
    def path(self) -> str:
        """The path of the page of the setting that shows the token."""
        return setting_path(self.status.profile.name)

    @property
    def key(self) -> str:
        """A key that differs whenever the token would be displayed differently."""
        token = self.status.token
        number = token.credential.number if token.credential else 0
        return f"{token.attempts}.{number}.{token.status.name}.{self.status_with_attention.attention or ''}"


@dataclass(frozen=True)
class Block:
    """Settings of one machine that share a token. `elsewhere` counts its settings that are not in this block."""

    settings: tuple[SettingView, ...]
    token: TokenView
    elsewhere: int

    @property
    def group(self) -> str | None:
        """The SMTP group of the settings, if they are linked."""
        return self.token.status.group

    @property
    def wants_token(self) -> bool:
        """Whether no token works, and the settings have the provider and account to get one."""
        settings = self.token.status.profile.settings
        gone = self.token.label in (TokenStatus.NOT_RETRIEVED, TokenStatus.INVALID)
        return gone and bool(settings.provider and settings.account)

    @property
    def protocol(self) -> Protocol:
        """The protocol of the settings."""
        return self.settings[0].profile.protocol


@dataclass(frozen=True)
class MachineView:
    """A machine with its settings, in the order of its menus."""

    name: str
    catalogue: str | None
    blocks: tuple[Block, ...]


def machine_view(machine: MachineOnPage, uses: Mapping[UUID, int]) -> MachineView:
    """The view model of one machine; `uses` has the number of settings that use each token."""
    return MachineView(machine.name, machine.catalogue, tuple(_blocks(machine, uses)))


def machine_views(page: SettingsPage) -> list[MachineView]:
    """The view models of a page's machines."""
    return [
        MachineView(machine.name, machine.catalogue, tuple(_blocks(machine, page.uses))) for machine in page.machines
    ]


def _blocks(machine: MachineOnPage, uses: Mapping[UUID, int]) -> Iterable[Block]:
    by_token: dict[UUID, list[StatusWithAttention]] = {}
    for one in sorted(machine.settings, key=lambda one: _place(one.status.profile, machine.catalogue)):
        by_token.setdefault(one.status.profile.token_id, []).append(one)
    for token_id, ones in by_token.items():
        sharing = [one.status for one in ones]
        settings = tuple(view_beside_token(one, machine.catalogue, sharing) for one in sharing)
        yield Block(settings, token_view(ones[0]), uses[token_id] - len(ones))


def token_view(status_with_attention: StatusWithAttention) -> TokenView:
    """The view model of a token."""
    json = status_with_attention.as_json()
    # While an attempt is under way, the reason is that of the attempt before.
    sentence = why(json, Surface.PAGE) if status_with_attention.attention or not json["attempt_id"] else None
    near = (
        status_with_attention.expiry.at
        if status_with_attention.expiry and status_with_attention.attention == status_with_attention.expiry.cause
        else None
    )
    return TokenView(status_with_attention, sentence, provider_said(json) if sentence else None, near)


def setting_view(profile: ProfileState, catalogue: str | None) -> SettingView:
    """The view model of a setting. A removed machine's menu path is that of any catalogue with the setting."""
    found = _in_catalogue(profile, catalogue)
    return SettingView(profile, tuple(found.menu_path.split(" > ")) if found else ())


def view_beside_token(status: SettingStatus, catalogue: str | None, sharing: Iterable[SettingStatus]) -> SettingView:
    """The view model of a setting with what it lacks, which one of the settings `sharing` its token may have."""
    others = sorted(
        (one.profile for one in sharing),
        key=lambda one: (one.machine != status.profile.machine, _place(one, catalogue)),
    )
    source = server_to_copy(status.profile, others) if status.missing else None
    view = setting_view(status.profile, catalogue)
    return replace(view, lacks=missing_text(status.missing), copy_from=source)


def _in_catalogue(profile: ProfileState, catalogue: str | None) -> CatalogueSetting | None:
    several = [CATALOGUES[catalogue]] if catalogue else CATALOGUES.values()
    return next((one for models in several for one in models.settings if one.name == profile.setting), None)


def _place(profile: ProfileState, catalogue: str | None) -> int:
    settings: Sequence[CatalogueSetting] = CATALOGUES[catalogue].settings if catalogue else ()
    return next((place for place, one in enumerate(settings) if one.name == profile.setting), len(settings))

"""What a page shows of settings: those that share a token together, each with its menu path, and the token once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from adapters import texts
from adapters.web.visits import setting_path
from domain.catalogue import CATALOGUES, CatalogueSetting, Protocol
from domain.lifecycle import TokenStatus
from domain.profile import ProfileState
from infrastructure.attention import Attended
from infrastructure.fleet import FleetPage, MachineOnPage
from infrastructure.status import SettingStatus


@dataclass(frozen=True)
class ShownSetting:
    """A setting, where it is in the machine's menus, and where its page is."""

    profile: ProfileState
    menu_path: tuple[str, ...]

    @property
    def path(self) -> str:
        """Its page."""
        return setting_path(self.profile.name)


@dataclass(frozen=True)
class ShownToken:
    """A token as each of its settings displays it. `sentence` says why a person is needed, or how it ended."""

    attended: Attended
    sentence: str | None
    ends_at: datetime | None

    @property
    def status(self) -> SettingStatus:
        """The status of the setting it is shown for."""
        return self.attended.status

    @property
    def label(self) -> TokenStatus:
        """One of the manual's labels."""
        return self.status.token.status

    @property
    def path(self) -> str:
        """The page of the setting it is shown for."""
        return setting_path(self.status.profile.name)

    @property
    def key(self) -> str:
        """What changes when something else is to be shown."""
        token = self.status.token
        number = token.credential.number if token.credential else 0
        return f"{token.attempts}.{number}.{token.status.name}.{self.attended.attention or ''}"


@dataclass(frozen=True)
class Block:
    """Settings of one machine that share a token. `elsewhere` counts those of other machines, or not shown."""

    settings: tuple[ShownSetting, ...]
    token: ShownToken
    elsewhere: int

    @property
    def group(self) -> str | None:
        """The SMTP group they are linked in."""
        return self.token.status.group

    @property
    def wants_token(self) -> bool:
        """Whether there is none that works, and all is filled in to get one."""
        settings = self.token.status.profile.settings
        gone = self.token.label in (TokenStatus.NOT_RETRIEVED, TokenStatus.INVALID)
        return gone and bool(settings.provider and settings.account)

    @property
    def protocol(self) -> Protocol:
        """What they speak."""
        return self.settings[0].profile.protocol


@dataclass(frozen=True)
class ShownMachine:
    """A machine with its settings, in the order of its menus."""

    name: str
    catalogue: str | None
    blocks: tuple[Block, ...]


def shown_machines(page: FleetPage) -> list[ShownMachine]:
    """The machines of a page."""
    return [
        ShownMachine(machine.name, machine.catalogue, tuple(_blocks(machine, page.users))) for machine in page.machines
    ]


def _blocks(machine: MachineOnPage, users: Mapping[UUID, int]) -> Iterable[Block]:
    by_token: dict[UUID, list[Attended]] = {}
    for one in sorted(machine.settings, key=lambda one: _place(one.status.profile, machine.catalogue)):
        by_token.setdefault(one.status.profile.token_id, []).append(one)
    for token_id, ones in by_token.items():
        settings = tuple(shown_setting(one.status.profile, machine.catalogue) for one in ones)
        yield Block(settings, shown_token(ones[0]), users[token_id] - len(ones))


def shown_token(attended: Attended) -> ShownToken:
    """How a token is displayed."""
    json = attended.as_json()
    # Not how an earlier attempt ended, while another one is under way.
    sentence = texts.why(json) if attended.attention or not json["attempt_id"] else None
    near = attended.ending.at if attended.ending and attended.attention == attended.ending.cause else None
    return ShownToken(attended, sentence, near)


def shown_setting(profile: ProfileState, catalogue: str | None) -> ShownSetting:
    """A setting with its menu path; of a machine that is gone, the one of any catalogue that has such a setting."""
    found = _in_catalogue(profile, catalogue)
    return ShownSetting(profile, tuple(found.menu_path.split(" > ")) if found else ())


def _in_catalogue(profile: ProfileState, catalogue: str | None) -> CatalogueSetting | None:
    several = [CATALOGUES[catalogue]] if catalogue else CATALOGUES.values()
    return next((one for models in several for one in models.settings if one.name == profile.setting), None)


def _place(profile: ProfileState, catalogue: str | None) -> int:
    settings: Sequence[CatalogueSetting] = CATALOGUES[catalogue].settings if catalogue else ()
    return next((place for place, one in enumerate(settings) if one.name == profile.setting), len(settings))

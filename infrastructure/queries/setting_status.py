"""Setting status: the label of each setting's token, and why, since when and until when it shows that label.

One SQL statement reads all statuses, so they are one consistent snapshot. Expiry is judged by the reader's clock, so a
status is right even if no worker has run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.attention import urgency_of
from domain.errors import NotFound
from domain.expiry_forecast import forecast
from domain.lifecycle import Held
from domain.outcomes import GrantWarning, Reason
from domain.profile import ProfileState
from domain.renewal import GrantLimits
from domain.smtp_group import SmtpGroupState
from domain.token_state import TokenState
from infrastructure.clock import instant_text
from infrastructure.store.fold import Fold
from infrastructure.store.query import Query, as_dict, rows_in
from infrastructure.store.row_macs import RowChecks, columns_with_mac, readable
from infrastructure.store.rows import profile_state, token_state

_COLUMNS = """
SELECT token.*, profile.id AS profile_id, profile.version AS profile_version, profile.name, profile.machine_id,
       profile.machine, profile.setting, profile.protocol, profile.token_id, profile.group_id, profile.settings,
       smtp_group.name AS group_name
"""
_TABLES = """
FROM profile JOIN token ON token.id = profile.token_id LEFT JOIN smtp_group ON smtp_group.id = profile.group_id
"""
_JOINED = _COLUMNS + _TABLES
_PAGE = 500
_NO_LIMITS = GrantLimits()


@dataclass(frozen=True)
class SettingStatus:
    """One setting and its token as of one instant. `version` is the profile's."""

    profile_id: UUID
    profile: ProfileState
    group: str | None
    token: TokenState
    version: int

    @property
    def edition(self) -> str:
        """The entity tag of the setting's fields (RFC 9110 section 8.8.3); renewals of its token don't change it."""
        return edition(self.profile_id, self.version)

    @property
    def until(self) -> datetime | None:
        """The attempt's deadline, or else the access token's expiry, if the label has an end."""
        if self.token.attempt:
            return self.token.attempt.expires_at
        if self.token.credential and not self.token.dead:
            return self.token.credential.expires_at
        return None

    @property
    def ends_at(self) -> datetime | None:
        """The attempt's deadline, or else the end of the grant; None if the token has none or renews itself."""
        if self.token.attempt:
            return self.token.attempt.expires_at
        end = forecast(self.token, _NO_LIMITS, None)
        return end.at if end else None

    @property
    def renews_itself(self) -> bool:
        """Whether the service renews the token again and again, and no end of its grant is known."""
        return self.token.held is Held.LIVE and self.ends_at is None

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields without which a live token is of no use; none while there is no live token."""
        return self.profile.missing if self.token.held is Held.LIVE else ()

    @property
    def attention(self) -> Reason | GrantWarning | None:
        """The reason why a person is needed, or None."""
        return self.token.attention

    @property
    def _retrieved_by(self) -> str | None:
        """The id of the attempt that obtained the current grant."""
        return self.token.credential.granted_by if self.token.credential else None

    def as_json(self) -> dict[str, Any]:
        """The fields of `status --json`, which are stable, and some more."""
        token, profile = self.token, self.profile
        return {
            "profile": profile.name,
            "machine": profile.machine,
            "setting": profile.setting,
            "protocol": profile.protocol.value,
            "token": token.status.value,
            "group": self.group,
            "provider": profile.settings.provider,
            "account": profile.settings.account,
            "mailbox": profile.mailbox,
            "since": instant_text(token.since),
            "expires_at": self.until and instant_text(self.until),
            "ends_at": self.ends_at and instant_text(self.ends_at),
            "renews_itself": self.renews_itself,
            "missing": list(self.profile.missing),
            "reason": token.reason and token.reason.value,
            "code": token.code,
            "signed_in_as": token.signed_in_as,
            "failures": token.failures,
            "attention": self.attention and self.attention.value,
            "attention_code": None,
            "attention_setting": None,
            "provider_stored": False,
            "urgency": urgency_of(self.attention) if self.attention else None,
            "cause": self.attention and f"{self.attention} {self.profile.token_id}",
            "provider_reply": None,
            "attempt_id": token.attempt and token.attempt.id,
            "retrieved_by": self._retrieved_by,
            "forecast": None,
        }


def edition(profile_id: UUID, version: int) -> str:
    """The entity tag of one version of a profile."""
    return f"{profile_id.hex}.{version}"


def read_statuses(query: Query, now: datetime, after: str = "", limit: int | None = None) -> list[SettingStatus]:
    """Every setting in the order of names, or the next `limit` after the name `after`, as of `now`."""
    if after or limit is not None:
        # Python sorts the names: the database's order depends on its collation.
        names = sorted(row["name"] for row in query.rows("SELECT name FROM profile") if row["name"] > after)[:limit]
        return read_statuses_called(query, names, now)
    return _in_order(_readable(query.rows(_JOINED), now))


def read_status_pages(query: Query, now: datetime) -> Iterator[list[SettingStatus]]:
    """Every setting in the order of names, as of `now`, some hundreds at a time."""
    # Python sorts the names: the database's order depends on its collation.
    names = sorted(row["name"] for row in query.rows("SELECT name FROM profile"))
    for begin in range(0, len(names), _PAGE):
        yield read_statuses_called(query, names[begin : begin + _PAGE], now)


def read_statuses_in_need(query: Query, now: datetime) -> list[SettingStatus]:
    """The settings whose token needs a person, in the order of names, as of `now`; few of the others are read."""
    # A sign-in under way may be over by now, and then a dead credential counts.
    may_need = "token.dead IS NOT NULL OR token.warning IS NOT NULL OR token.renewable = 0"
    statuses = _readable(query.rows(f"{_JOINED} WHERE {may_need}"), now)
    return _in_order(one for one in statuses if one.attention)


def read_status(query: Query, name: str, now: datetime) -> SettingStatus:
    """One setting as of `now`.

    Raises:
        NotFound: no profile has this name.
    """
    rows = query.rows(f"{_JOINED} WHERE profile.name = ?", (name,))
    if not rows:
        raise NotFound("profile_not_found", profile=name)
    return _from_row(rows[0], now)


def read_believed_status(query: Query, checks: RowChecks, name: str, now: datetime) -> SettingStatus:
    """One setting as of `now`, for the use of its token: its rows are believed only if they are this program's.

    Raises:
        NotFound: no profile has this name.
        Refused: the row of the profile or of its token was altered.
    """
    proofs = columns_with_mac("profile", "of_profile_")
    events = f"{query.last_version('token.id')} AS events, {query.last_version('profile.id')} AS of_profile_events"
    rows = query.rows(f"{_COLUMNS}, {proofs}, {events} {_TABLES} WHERE profile.name = ?", (name,))
    if not rows:
        raise NotFound("profile_not_found", profile=name)
    row = as_dict(rows[0])
    checks.check("profile", row, row["of_profile_events"], "of_profile_")
    checks.check("token", row, row["events"])
    return _from_row(row, now)


def read_statuses_of(query: Query, machines: Sequence[str], now: datetime) -> list[SettingStatus]:
    """Every setting of these machines in the order of names, as of `now`."""
    return _in_order(_readable(rows_in(query, f"{_JOINED} WHERE profile.machine IN", machines), now))


def read_statuses_called(query: Query, names: Sequence[str], now: datetime) -> list[SettingStatus]:
    """The settings of these names in the order of names, as of `now`; a name that does not exist is left out."""
    return _in_order(_readable(rows_in(query, f"{_JOINED} WHERE profile.name IN", names), now))


def read_statuses_with(query: Query, name: str, now: datetime) -> list[SettingStatus]:
    """Every setting that uses the token of the setting `name`, as of `now`; none if `name` does not exist."""
    sharing = f"{_JOINED} WHERE profile.token_id = (SELECT token_id FROM profile WHERE name = ?)"  # noqa: S608
    return _in_order(_readable(query.rows(sharing, (name,)), now))


def read_statuses_about(query: Query, id: UUID, now: datetime) -> list[SettingStatus]:
    """Every setting that uses the token of this id, or the setting of this id, as of `now`."""
    about = "WHERE profile.token_id = ? OR profile.id = ?"
    return _in_order(_readable(query.rows(f"{_JOINED} {about}", (str(id), str(id))), now))


def fold_statuses(fold: Fold, now: datetime) -> list[SettingStatus]:
    """Every setting after the events that `fold` has applied, as of `now`."""
    tokens, groups = fold.of(TokenState), fold.of(SmtpGroupState)
    profiles = ((id, state) for id, state in fold.of(ProfileState).items() if not state.removed)
    statuses = (
        SettingStatus(
            id,
            state,
            groups[state.group_id].name if state.group_id else None,
            tokens[state.token_id].at(now),
            fold.versions[id],
        )
        for id, state in profiles
    )
    return _in_order(statuses)


def _in_order(statuses: Iterable[SettingStatus]) -> list[SettingStatus]:
    # Python sorts: the database's order depends on its collation.
    return sorted(statuses, key=lambda status: status.profile.name)


def named(statuses: Iterable[SettingStatus], name: str) -> SettingStatus:
    """The status of the setting `name`.

    Raises:
        NotFound: no status is of a setting with this name.
    """
    for status in statuses:
        if status.profile.name == name:
            return status
    raise NotFound("profile_not_found", profile=name)


def _readable(rows: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[SettingStatus]:
    return readable(lambda row: _from_row(row, now), rows)


def _from_row(row: Mapping[str, Any], now: datetime) -> SettingStatus:
    id, token = UUID(row["profile_id"]), token_state(row).at(now)
    return SettingStatus(id, profile_state(row), row["group_name"], token, row["profile_version"])

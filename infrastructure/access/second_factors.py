"""The second factor of an administrator: codes of an authenticator app (TOTP, RFC 6238) and ten recovery codes.

A code of the app counts once over all nodes: its time step becomes a row with a unique key. A recovery code counts once
because its use is an event of the administrator. The key of the app is sealed in the vault, with the digests of the
recovery codes. Clients' keys and members of the organisation have no second factor here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pyotp
import structlog
from pyotp.exceptions import OTPVerificationError

from domain.administrator import Administrator, AdministratorState
from domain.errors import Conflict, NotPermitted, VaultDamaged
from domain.ports import Clock
from domain.secret import Secret
from domain.session import SessionEnd
from infrastructure.access.accounts import Account, Accounts
from infrastructure.access.browser_state import BrowserState
from infrastructure.access.login_throttle import LoginThrottle
from infrastructure.access.sessions import Sessions
from infrastructure.clock import instant_text
from infrastructure.store.event_log import CONFLICTS, EventLog
from infrastructure.store.row_macs import insert_with_mac
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault

log = structlog.get_logger("mailtoken")

RECOVERY_CODES = 10
_ISSUER = "Mailtoken"
_ENROLMENT_LIFE = timedelta(minutes=15)
_SKEW_STEPS = 1
"""How many time steps of 30 seconds the clock of the app may be away from ours (RFC 6238 section 5.2)."""
_STEP_KEPT = timedelta(hours=1)
"""How long a used step is remembered: longer than its code is valid, also on a node with another clock."""
_STEP = "second-factor step"
_APP_CODE = re.compile(r"[0-9]{6}")
# No 0, 1, 8 and 9, which look like letters: the alphabet of base 32 (RFC 4648). 80 bits.
_ALPHABET, _RECOVERY_LENGTH, _RECOVERY_PART = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, 4
_LONGEST_CODE = 100


@dataclass(frozen=True)
class Enrolment:
    """A second factor that does not count yet: the key for the app, its URI, and the state that the browser keeps."""

    key: Secret
    uri: Secret
    state: Secret


class SecondFactors:
    """Enrols, checks and removes second factors."""

    def __init__(
        self,
        events: EventLog,
        vault: Vault,
        clock: Clock,
        accounts: Accounts[Administrator, AdministratorState],
        throttle: LoginThrottle,
        sessions: Sessions,
    ) -> None:
        self._events = events
        self._vault = vault
        self._clock = clock
        self._accounts = accounts
        self._throttle = throttle
        self._sessions = sessions
        self._enrolments = BrowserState("second-factor enrolment", vault, clock)

    def begin(self, name: str) -> Enrolment:
        """A new key for the administrator's app; it counts when `enrol` gets a code of it.

        Raises:
            NotFound: no such administrator.
            Refused: the administrator has a second factor.
        """
        administrator = self._accounts.load(name)
        administrator.check_no_second_factor()
        key = Secret(pyotp.random_base32())
        state = self._enrolments.seal([str(administrator.id), key.reveal()], _ENROLMENT_LIFE)
        return _enrolment(name, key, state)

    def again(self, name: str, state: Secret) -> Enrolment:
        """The enrolment of this state once more, after a wrong code.

        Raises:
            NotPermitted: the enrolment is over, or another administrator's.
        """
        return _enrolment(name, self._key_in(state, self._accounts.load(name).id), state)

    def enrol(self, name: str, state: Secret, code: str, session: Secret) -> Sequence[Secret]:
        """Make the second factor count; returns its recovery codes. Every session but this one ends.

        Raises:
            NotFound: no such administrator.
            NotPermitted: the enrolment is over, or the code is not one of its key.
            Refused: the administrator has a second factor.
        """
        administrator = self._accounts.load(name)
        by, key = _author(administrator.state), self._key_in(state, administrator.id)
        administrator.enrol_second_factor(by=by, now=self._clock.now())
        number = administrator.state.second_factor
        if not self._is_code_of_app(administrator.id, number, key, _tidy(code)):
            raise NotPermitted("wrong_code")
        codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
        sealed = self._vault.seal_second_factor(administrator.id, number, key, [_digest(one.reveal()) for one in codes])
        self._events.save(administrator, unit_of_work=UnitOfWork(put=[sealed]))
        self._sessions.end_all(administrator.id, SessionEnd.SECOND_FACTOR_CHANGED, by, but=session)
        return codes

    def remove(self, name: str, code: str, address: str) -> None:
        """Remove one's own second factor, with a code of it.

        Raises:
            NotFound: no such administrator.
            NotPermitted: the code is wrong.
            TooManyRequests: too many wrong codes or passwords came before; this code was not verified.
            Refused: there is no second factor.
        """
        administrator = self._accounts.load(name)
        administrator.check_second_factor()
        self._throttle.begin(name, address)
        self.check(Account(administrator.id, administrator.version, administrator.state), code)
        self._throttle.succeeded(name, address)
        # A recovery code has changed the administrator.
        administrator = self._accounts.load(name)
        administrator.remove_second_factor(by=_author(administrator.state), now=self._clock.now())
        self._events.save(administrator)
        self._events.store.forget()

    def reset(self, name: str, by: str, *, is_own: bool) -> None:
        """Remove the second factor of an administrator who has lost it, which ends their sessions.

        Raises:
            NotFound: no such administrator.
            Refused: there is no second factor, or it is the caller's own (`is_own`).
        """
        administrator = self._accounts.load(name)
        administrator.reset_second_factor(is_own=is_own, by=by, now=self._clock.now())
        self._events.save(administrator)
        self._sessions.end_all(administrator.id, SessionEnd.SECOND_FACTOR_CHANGED, by)
        self._events.store.forget()

    def check(self, account: Account[AdministratorState], code: str) -> None:
        """Check a code of the account's second factor, and use it up.

        Raises:
            NotPermitted: the code is wrong, or was used before.
            Refused: the account's row was altered.
        """
        if account.altered:
            raise account.altered.refusal()
        number, tidy = account.state.second_factor, _tidy(code)
        try:
            with self._events.store.reading() as query:
                key, digests = self._vault.second_factor(query, account.id, number)
        except VaultDamaged as damaged:
            log.error("vault_row_damaged", error=str(damaged))
            raise NotPermitted("wrong_code") from None
        if _APP_CODE.fullmatch(tidy):
            if not self._is_code_of_app(account.id, number, key, tidy):
                raise NotPermitted("wrong_code")
        else:
            self._use_recovery_code(account, number, digests, tidy)

    def _key_in(self, state: Secret, administrator_id: UUID) -> Secret:
        kept = self._enrolments.open(state)
        if kept is None or kept.values[0] != str(administrator_id):
            raise NotPermitted("enrolment_over")
        return Secret(kept.values[1])

    def _is_code_of_app(self, id: UUID, number: int, key: Secret, code: str) -> bool:
        """Whether it is the code of a time step that no code was used of yet; the step is used then."""
        if not _APP_CODE.fullmatch(code):
            return False
        now = self._clock.now()
        try:
            step = pyotp.TOTP(key.reveal()).verify_and_get_timecode(code, for_time=now, valid_window=_SKEW_STEPS)
        except OTPVerificationError:
            return False
        row = {
            "hash": hashlib.sha256(f"{_STEP} {id} {number} {step}".encode()).hexdigest(),
            "kind": _STEP,
            "about": "",
            "made_by": "service",
            "expires_at": instant_text(now + _STEP_KEPT),
        }
        store = self._events.store
        with store.writing() as query:
            query.run("DELETE FROM one_time WHERE kind = ? AND expires_at <= ?", (_STEP, instant_text(now)))
            otherwise = "ON CONFLICT (hash) DO NOTHING"
            return insert_with_mac(query, store.integrity.rows, "one_time", row, otherwise=otherwise) == 1

    def _use_recovery_code(
        self, account: Account[AdministratorState], number: int, digests: Sequence[str], code: str
    ) -> None:
        digest = _digest(code)
        if digest not in digests:
            raise NotPermitted("wrong_code")
        for _ in range(CONFLICTS):
            administrator = self._events.load(Administrator, account.id)
            if administrator.state.second_factor != number:
                raise NotPermitted("wrong_code")
            by = _author(administrator.state)
            administrator.use_recovery_code(digests.index(digest) + 1, by=by, now=self._clock.now())
            try:
                self._events.save(administrator)
            except Conflict:
                continue
            return
        raise Conflict("changed_meanwhile")


def _author(state: AdministratorState) -> str:
    return f"{state.roles[0]}:{state.name}"


def _enrolment(name: str, key: Secret, state: Secret) -> Enrolment:
    uri = pyotp.TOTP(key.reveal()).provisioning_uri(name=name, issuer_name=_ISSUER)
    return Enrolment(key, Secret(uri), state)


def _tidy(code: str) -> str:
    """A code as it is compared: people type spaces, hyphens and small letters."""
    return re.sub(r"[\s-]", "", code[:_LONGEST_CODE]).upper()


def _new_recovery_code() -> Secret:
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_LENGTH))
    parts = range(0, _RECOVERY_LENGTH, _RECOVERY_PART)
    return Secret("-".join(code[begin : begin + _RECOVERY_PART] for begin in parts))


def _digest(code: str) -> str:
    # Nobody can try 2^80 values, so a fast hash is enough.
    return hashlib.sha256(_tidy(code).encode("utf-8", "surrogatepass")).hexdigest()

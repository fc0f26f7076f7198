"""What a token's state asks of a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.lifecycle import TokenStatus
from domain.outcomes import GrantWarning, Identity, Reason
from domain.token_state import Generation, TokenState, is_same_subject, why_invalid

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reason", "warning", "address"),
    [
        (Reason.ACCOUNT_RECREATED, None, "scan@contoso.com"),
        (Reason.ACCOUNT_RENAMED, None, "new@contoso.com"),
        (None, GrantWarning.NEW_ADDRESS, "new@contoso.com"),
        (Reason.WRONG_ACCOUNT, None, None),
        (None, GrantWarning.ANOTHER_ACCOUNT, None),
        (None, None, None),
    ],
)
def test_an_address_that_changed_is_taken_over_only_from_the_same_account(
    reason: Reason | None, warning: GrantWarning | None, address: str | None
) -> None:
    state = TokenState(
        TokenStatus.RETRIEVED,
        since=NOW,
        reason=reason,
        account="scan@contoso.com",
        signed_in_as="new@contoso.com",
        warning=warning,
    )
    assert state.address_to_take_over == address


def test_an_invalid_token_needs_a_person_for_the_reason_of_its_end() -> None:
    state = TokenState(TokenStatus.INVALID, since=NOW, dead=Reason.INVALID_GRANT)
    assert state.attention is Reason.INVALID_GRANT
    assert TokenState(TokenStatus.NOT_RETRIEVED, since=NOW).attention is None


def test_a_token_without_a_credential_gives_no_setting_its_provider_and_account() -> None:
    state = TokenState(TokenStatus.NOT_RETRIEVED, since=NOW, provider="contoso", account="scan@contoso.com")
    assert state.authorization == (None, None)


@pytest.mark.parametrize(("warning", "kept"), [(GrantWarning.NEW_ADDRESS, "new@contoso.com"), (None, None)])
def test_an_attempt_that_ends_leaves_the_address_that_a_warning_is_about(
    warning: GrantWarning | None, kept: str | None
) -> None:
    state = TokenState(TokenStatus.WAITING, since=NOW, signed_in_as="new@contoso.com", warning=warning)
    assert state.attempt_over(Reason.CANCELLED, None, None, NOW).signed_in_as == kept
    assert state.attempt_over(Reason.WRONG_ACCOUNT, None, "eve@contoso.com", NOW).signed_in_as == "eve@contoso.com"


def test_a_dead_grant_has_no_failed_requests_of_an_attempt_before() -> None:
    later = NOW + timedelta(hours=1)
    credential = Generation(1, 1, "a1", "SMTP.Send", NOW, later, True, "device", "a1", NOW, None, NOW)
    state = TokenState(TokenStatus.RETRIEVED, since=NOW, credential=credential, failures=7)
    assert state.grant_dead(Reason.INVALID_GRANT, None, later).failures == 0


INVALID = TokenState(TokenStatus.INVALID, since=NOW)


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        (INVALID, {"reason": ""}),
        (replace(INVALID, dead=Reason.EXPIRED), {"reason": "expired"}),
        (replace(INVALID, reason=Reason.EXPIRED, dead=Reason.EXPIRED), {"reason": "expired"}),
        (
            replace(INVALID, reason=Reason.ACCESS_DENIED, dead=Reason.INVALID_GRANT, code="AADSTS65004"),
            {"reason": "access_denied", "dead": "invalid_grant", "provider_code": "AADSTS65004"},
        ),
        (replace(INVALID, reason=Reason.ACCESS_DENIED, code="access_denied"), {"reason": "access_denied"}),
        (replace(INVALID, reason=Reason.WRONG_ACCOUNT, account="scan@contoso.com"), {"reason": "wrong_account"}),
        (replace(INVALID, reason=Reason.WRONG_ACCOUNT, signed_in_as="eve@contoso.com"), {"reason": "wrong_account"}),
        (
            replace(INVALID, reason=Reason.WRONG_ACCOUNT, signed_in_as="eve@contoso.com", account="scan@contoso.com"),
            {"reason": "wrong_account", "signed_in_as": "eve@contoso.com", "account": "scan@contoso.com"},
        ),
    ],
)
def test_an_invalid_token_says_why(state: TokenState, facts: dict[str, str]) -> None:
    assert why_invalid(state) == facts


@pytest.mark.parametrize(
    ("subject", "tenant", "pinned", "same"),
    [
        ("s", "t", "t", True),
        ("s", None, "t", True),
        ("s", "t", None, True),
        ("s", None, None, True),
        ("s", "other", "t", False),
        ("other", "t", "t", False),
        ("other", None, None, False),
    ],
)
def test_a_renewal_is_of_the_same_subject_where_neither_id_differs(
    subject: str, tenant: str | None, pinned: str | None, same: bool
) -> None:
    state = TokenState(TokenStatus.RETRIEVED, since=NOW, subject="s", tenant=pinned)
    assert is_same_subject(Identity("scan@contoso.com", subject, tenant), state) is same


def test_the_attempts_of_the_last_32_replies_are_remembered() -> None:
    state = TokenState(TokenStatus.RETRIEVED, since=NOW, replies=tuple(f"a{number}" for number in range(32)))
    assert state.replies_and("new") == (*(f"a{number}" for number in range(1, 32)), "new")


def test_a_grant_that_outlives_the_known_sign_in_age_shows_another_policy() -> None:
    def after(seconds: int) -> int | None:
        issued = NOW + timedelta(seconds=seconds)
        until = issued + timedelta(hours=1)
        credential = Generation(2, 1, "r1", "SMTP.Send", issued, until, True, "device", "a1", NOW, None, NOW)
        state = TokenState(TokenStatus.RETRIEVED, since=NOW, sign_in_seconds=3600, failures=3)
        renewed = state.with_credential(credential)
        assert renewed.failures == 0
        return renewed.sign_in_seconds

    assert (after(3600), after(3601)) == (3600, None)

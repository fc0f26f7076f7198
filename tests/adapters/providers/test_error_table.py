"""The error table of the reference, row by row."""

from __future__ import annotations

import pytest

from adapters.providers import error_table
from adapters.providers.error_table import AADSTS, OAuthError, Verdict, poll_outcome, read_error, renewal_outcome
from domain.outcomes import AttemptOver, ClientFault, GrantDead, Pending, Reason, Transient


def error_of(error: str, *numbers: int, **fields: object) -> OAuthError:
    found = read_error({"error": error, "error_codes": list(numbers), **fields})
    assert found is not None
    return found


DEAD = [
    ("invalid_grant", (), {}, Reason.INVALID_GRANT, "invalid_grant"),
    *[
        ("invalid_grant", (number,), {}, reason, f"AADSTS{number}")
        for reason, numbers in {
            Reason.INVALID_GRANT: (70000, 70008, 700082, 700084, 50173, 50089, 50132, 50133),
            Reason.SIGN_IN_FREQUENCY: (70043,),
            Reason.INTERACTION_REQUIRED: (50074, 50076, 50078, 50079, 50158),
            Reason.POLICY: (53000, 53001, 53002, 53003, 530032, 530035),
            Reason.CONSENT_REQUIRED: (65001, 90094, 90095, 650052),
            Reason.ACCOUNT_NOT_AVAILABLE: (50105, 50034, 50057, 50053, 50055, 50144),
        }.items()
        for number in numbers
    ],
    ("interaction_required", (), {}, Reason.INTERACTION_REQUIRED, "interaction_required"),
    ("interaction_required", (50076,), {}, Reason.INTERACTION_REQUIRED, "AADSTS50076"),
    ("invalid_rapt", (), {}, Reason.INTERACTION_REQUIRED, "invalid_rapt"),
    ("invalid_grant", (), {"error_subtype": "invalid_rapt"}, Reason.INTERACTION_REQUIRED, "invalid_rapt"),
    ("invalid_grant", (), {"suberror": "consent_required"}, Reason.CONSENT_REQUIRED, "consent_required"),
    ("admin_policy_enforced", (), {}, Reason.CONSENT_REQUIRED, "admin_policy_enforced"),
    ("org_internal", (), {}, Reason.CONSENT_REQUIRED, "org_internal"),
]


@pytest.mark.parametrize(("error", "numbers", "fields", "reason", "code"), DEAD)
def test_a_definite_refusal_kills_the_grant_with_its_reason(
    error: str, numbers: tuple[int, ...], fields: dict[str, object], reason: Reason, code: str
) -> None:
    assert renewal_outcome(error_of(error, *numbers, **fields), None) == GrantDead(reason, code)


@pytest.mark.parametrize(("error", "numbers", "fields", "reason", "code"), DEAD)
def test_a_definite_refusal_ends_an_attempt_and_a_bad_code_is_not_a_bad_grant(
    error: str, numbers: tuple[int, ...], fields: dict[str, object], reason: Reason, code: str
) -> None:
    expected = Reason.CODE_REJECTED if reason is Reason.INVALID_GRANT else reason
    assert poll_outcome(error_of(error, *numbers, **fields), 5, None) == AttemptOver(expected, code)


ENDED = [
    ("expired_token", (), Reason.EXPIRED_TOKEN, "expired_token"),
    ("expired_token", (70019,), Reason.EXPIRED_TOKEN, "AADSTS70019"),
    ("invalid_grant", (70019,), Reason.EXPIRED_TOKEN, "AADSTS70019"),
    ("authorization_declined", (), Reason.ACCESS_DENIED, "authorization_declined"),
    ("access_denied", (), Reason.ACCESS_DENIED, "access_denied"),
    ("bad_verification_code", (), Reason.CODE_REJECTED, "bad_verification_code"),
    ("invalid_grant", (70018,), Reason.CODE_REJECTED, "AADSTS70018"),
]


@pytest.mark.parametrize(("error", "numbers", "reason", "code"), ENDED)
def test_an_attempt_ends_with_the_reason_the_provider_gave(
    error: str, numbers: tuple[int, ...], reason: Reason, code: str
) -> None:
    assert poll_outcome(error_of(error, *numbers), 5, None) == AttemptOver(reason, code)


@pytest.mark.parametrize(("error", "numbers", "reason", "code"), ENDED)
def test_an_error_of_an_attempt_says_nothing_about_a_grant(
    error: str, numbers: tuple[int, ...], reason: Reason, code: str
) -> None:
    assert renewal_outcome(error_of(error, *numbers), None) == Transient(code)


@pytest.mark.parametrize("numbers", [(), (70016,)])
def test_a_pending_authorization_is_polled_at_the_same_interval(numbers: tuple[int, ...]) -> None:
    assert poll_outcome(error_of("authorization_pending", *numbers), 7, None) == Pending(7)


def test_slow_down_adds_five_seconds_to_the_interval() -> None:
    assert poll_outcome(error_of("slow_down"), 7, None) == Pending(12)


TRANSIENT = [
    ("temporarily_unavailable", ()),
    ("server_error", ()),
    *[("invalid_grant", (number,)) for number in (50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090, 54005)],
]


@pytest.mark.parametrize(("error", "numbers"), TRANSIENT)
def test_trouble_of_the_moment_keeps_the_token(error: str, numbers: tuple[int, ...]) -> None:
    found = error_of(error, *numbers)
    assert poll_outcome(found, 5, 40) == Transient(found.code, 40)
    assert renewal_outcome(found, 40) == Transient(found.code, 40)


@pytest.mark.parametrize("numbers", [(), (12345,)])
def test_an_unknown_code_keeps_the_token_and_is_not_passed_over(numbers: tuple[int, ...]) -> None:
    found = error_of("something_new", *numbers)
    assert poll_outcome(found, 5, 40) == Transient(found.code, 40, is_known=False)
    assert renewal_outcome(found, 40) == Transient(found.code, 40, is_known=False)


def test_an_unknown_number_leaves_the_decision_to_the_error_and_is_its_code() -> None:
    assert renewal_outcome(error_of("invalid_grant", 12345), None) == GrantDead(Reason.INVALID_GRANT, "AADSTS12345")


def test_a_known_number_is_found_behind_an_unknown_one() -> None:
    assert renewal_outcome(error_of("invalid_grant", 1, 50057), None) == GrantDead(
        Reason.ACCOUNT_NOT_AVAILABLE, "AADSTS50057"
    )


def test_a_number_refines_more_than_a_suberror() -> None:
    found = error_of("invalid_grant", 53003, suberror="basic_action")
    assert renewal_outcome(found, None) == GrantDead(Reason.POLICY, "AADSTS53003")


def test_a_loop_that_entra_detects_is_left_alone_for_minutes_even_without_retry_after() -> None:
    outcome = renewal_outcome(error_of("invalid_grant", 50196), None)
    assert outcome == Transient("AADSTS50196", error_table.LOOP_SECONDS)


CLIENT = [
    ("invalid_client", (), "client_id, client_secret_file or certificate_file"),
    ("unauthorized_client", (), "client_id"),
    *[("invalid_client", (number,), "client_secret_file") for number in (7000215, 7000222, 70002, 700027, 7000218)],
]


@pytest.mark.parametrize(("error", "numbers", "setting"), CLIENT)
def test_our_own_registrations_fault_is_never_the_tokens(error: str, numbers: tuple[int, ...], setting: str) -> None:
    found = error_of(error, *numbers)
    assert poll_outcome(found, 5, None) == renewal_outcome(found, None) == ClientFault(found.code, setting)


CONFIGURATION = [
    ("invalid_client", 700025, "client_secret_file"),
    ("unauthorized_client", 700016, "client_id"),
    ("invalid_request", 90002, "tenant"),
    ("invalid_request", 50194, "tenant"),
    ("invalid_request", 9002332, "tenant"),
    ("invalid_request", 90038, "tenant"),
    ("invalid_scope", 70011, "scopes"),
    ("invalid_scope", 28002, "scopes"),
    ("invalid_scope", 700022, "scopes"),
    ("invalid_client", 50011, "redirect_uri"),
    ("invalid_grant", 501481, None),
]


@pytest.mark.parametrize(("error", "number", "setting"), CONFIGURATION)
def test_a_wrong_configuration_ends_an_attempt_and_spares_a_grant(error: str, number: int, setting: str | None) -> None:
    found = error_of(error, number)
    assert poll_outcome(found, 5, None) == AttemptOver(Reason.CONFIGURATION, f"AADSTS{number}")
    assert renewal_outcome(found, None) == ClientFault(f"AADSTS{number}", setting, Reason.CONFIGURATION)


def test_the_description_never_decides() -> None:
    found = error_of("something_new", error_description="AADSTS50173: invalid_grant: the grant was revoked")
    assert renewal_outcome(found, None) == Transient("something_new", is_known=False)


@pytest.mark.parametrize(
    "document", [{}, {"error": None}, {"error": ""}, {"error": {"code": "invalid_grant"}}, {"error_codes": [50173]}]
)
def test_what_has_no_oauth_error_is_no_error_reply(document: dict[str, object]) -> None:
    assert read_error(document) is None


@pytest.mark.parametrize("numbers", [50173, "50173", ["50173"], [None], {"50173": 1}])
def test_numbers_of_another_shape_refine_nothing(numbers: object) -> None:
    assert read_error({"error": "interaction_required", "error_codes": numbers}) == error_of("interaction_required")


@pytest.mark.parametrize("error", ["two words", "a\r\nb", "x" * 65, "<script>"])
def test_a_code_that_is_a_text_of_the_providers_choice_is_not_passed_on(error: str) -> None:
    assert error_of(error).code == "unknown_error"


def test_every_number_has_one_row() -> None:
    numbers = [number for _, row in error_table._AADSTS for number in row]
    assert len(numbers) == len(set(numbers)) == len(AADSTS)


def test_every_code_in_the_tables_leads_to_an_outcome_of_both_kinds() -> None:
    assert {rule.verdict for rule in (*error_table.OAUTH_ERRORS.values(), *AADSTS.values())} == set(Verdict) - {
        Verdict.UNKNOWN
    }

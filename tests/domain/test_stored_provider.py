"""A stored provider: the fields that its kind has, its numbered secrets, and who keeps it from being removed."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.errors import InvalidValue, InvalidValues, NotFound, Refused
from domain.provider_fields import KINDS, PROVIDER_FIELDS, PROVIDER_SECRETS, fields_of_kind, secrets_of_kind
from domain.stored_provider import AWAITED, StoredProvider

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
ANNA = "administrator:anna"
MICROSOFT = {"tenant": "contoso.com", "client_id": "6f1c0d5e"}


def contoso(kind: str = "microsoft", **texts: str) -> StoredProvider:
    return StoredProvider.add(UUID(int=1), "contoso", kind, texts or MICROSOFT, by=ANNA, now=NOW)


def problems(kind: str, **texts: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidValues) as invalid:
        contoso(kind, **texts)
    return [(problem.field, problem.code) for problem in invalid.value.problems]


def test_all_wrong_fields_are_told_at_once() -> None:
    wrong = {"issuer": "http://a.example", "client_id": "", "timeout": "0", "proxy": "http://proxy"}
    assert problems("oidc", **wrong) == [
        ("issuer", "not_an_issuer"),
        ("timeout", "duration_not_in_range"),
        ("proxy", "not_a_provider_field"),
        ("client_id", "provider_field_missing"),
    ]


@pytest.mark.parametrize(
    ("kind", "texts", "problem"),
    [
        ("microsoft", {"client_id": "a"}, ("tenant", "provider_field_missing")),
        ("microsoft", {**MICROSOFT, "tenant": "a/b"}, ("tenant", "not_a_tenant")),
        ("microsoft", {**MICROSOFT, "issuer": "https://a.example"}, ("issuer", "not_a_provider_field")),
        ("google", {"client_id": "a\nb"}, ("client_id", "not_printable_ascii")),
        ("google", {"client_id": "a", "client_secret_expires": "soon"}, ("client_secret_expires", "not_a_day")),
        ("google", {"client_id": "a", "scopes": "ü"}, ("scopes", "not_words")),
        ("google", {"client_id": "a", "ca_file": "/etc/passwd"}, ("ca_file", "not_a_provider_field")),
        ("oidc", {"client_id": "a", "issuer": "https://a.example?x"}, ("issuer", "not_an_issuer")),
        ("oidc", {"client_id": "a", "issuer": "https://user@a.example"}, ("issuer", "not_an_issuer")),
    ],
)
def test_a_field_that_the_kind_does_not_accept_is_refused(
    kind: str, texts: dict[str, str], problem: tuple[str, str]
) -> None:
    assert problems(kind, **texts) == [problem]


def test_no_kind_has_a_field_for_a_file_a_command_a_proxy_or_a_private_host() -> None:
    assert {"ca_file", "proxy", "allow_private", "client_assertion_file"}.isdisjoint(PROVIDER_FIELDS)
    assert all(fields_of_kind(kind) and "client_secret" in secrets_of_kind(kind) for kind in KINDS)
    assert not any("file" in name for name in (*PROVIDER_FIELDS, *PROVIDER_SECRETS))


def test_a_wrong_name_is_told_together_with_the_wrong_fields() -> None:
    with pytest.raises(InvalidValues) as invalid:
        StoredProvider.add(UUID(int=1), "", "google", {}, by=ANNA, now=NOW)
    assert [problem.field for problem in invalid.value.problems] == ["name", "client_id"]


def test_an_unknown_kind_and_a_name_that_is_none_are_refused() -> None:
    with pytest.raises(InvalidValue, match="not_a_choice"):
        contoso("yahoo")
    with pytest.raises(InvalidValue, match="not_a_name"):
        StoredProvider.add(UUID(int=1), "a b", "microsoft", MICROSOFT, by=ANNA, now=NOW)


def test_only_what_differs_is_recorded_and_an_empty_text_clears_a_field() -> None:
    provider = contoso()
    provider.change({"tenant": "contoso.com", "scopes": "a   b"}, by=ANNA, now=NOW)
    assert provider.state.fields == {**MICROSOFT, "scopes": "a b"}
    provider.change({"scopes": ""}, by=ANNA, now=NOW)
    assert provider.state.fields == MICROSOFT
    provider.collect_events()
    provider.change({"scopes": "", "tenant": "contoso.com"}, by=ANNA, now=NOW)
    assert provider.pending_events == []


def test_a_needed_field_cant_be_cleared() -> None:
    with pytest.raises(InvalidValues, match="provider_field_missing"):
        contoso().change({"client_id": ""}, by=ANNA, now=NOW)


def test_the_registration_is_what_codes_were_issued_to() -> None:
    provider = contoso()
    before = provider.state.registration
    provider.change({"timeout": "5"}, by=ANNA, now=NOW)
    assert provider.state.registration == before
    provider.change({"client_id": "other"}, by=ANNA, now=NOW)
    assert provider.state.registration != before


def test_a_secret_is_awaited_until_it_is_uploaded_and_each_upload_has_a_number_of_its_own() -> None:
    provider = contoso()
    provider.await_secrets(["client_secret"], by=ANNA, now=NOW)
    assert provider.state.secrets == {"client_secret": AWAITED}
    assert provider.state.awaited == ("client_secret",)
    assert provider.upload_secret("client_secret", by=ANNA, now=NOW) == 1
    assert not provider.state.awaited
    provider.await_secrets(["client_secret"], by=ANNA, now=NOW)
    assert provider.state.secrets == {"client_secret": 1}
    provider.remove_secret("client_secret", by=ANNA, now=NOW)
    assert provider.state.secrets == {}
    assert provider.upload_secret("certificate", by=ANNA, now=NOW) == 2


def test_a_secret_that_the_kind_lacks_is_refused() -> None:
    with pytest.raises(InvalidValue, match="not_a_provider_secret"):
        contoso().upload_secret("service_account", by=ANNA, now=NOW)
    with pytest.raises(NotFound, match="provider_secret_not_found"):
        contoso().remove_secret("certificate", by=ANNA, now=NOW)


def test_a_provider_with_settings_is_not_removed() -> None:
    provider = contoso()
    with pytest.raises(Refused) as refused:
        provider.remove(["b/smtp", "a/smtp"], by=ANNA, now=NOW)
    assert refused.value.fields == {"provider": "contoso", "first": "a/smtp", "count": 2}
    provider.remove([], by=ANNA, now=NOW)
    assert provider.state.removed


def test_another_issuer_gets_neither_tokens_nor_secrets_of_the_one_before() -> None:
    provider = contoso("oidc", issuer="https://a.example", client_id="a")
    moved = {"issuer": "https://b.example"}
    with pytest.raises(Refused, match="issuer_has_tokens") as refused:
        provider.change(moved, holders=["b/smtp", "a/smtp"], by=ANNA, now=NOW)
    assert refused.value.fields == {"provider": "contoso", "first": "a/smtp", "count": 2}
    provider.change({"client_id": "b"}, holders=["a/smtp"], by=ANNA, now=NOW)
    provider.await_secrets(["certificate"], by=ANNA, now=NOW)
    provider.upload_secret("client_secret", by=ANNA, now=NOW)
    with pytest.raises(Refused, match="issuer_has_secret"):
        provider.change(moved, by=ANNA, now=NOW)
    assert provider.state.fields["issuer"] == "https://a.example"
    provider.change(moved, given=["client_secret"], by=ANNA, now=NOW)
    assert provider.state.fields["issuer"] == "https://b.example"
